//! What goes through arrives whole, however slowly it is read and whichever end stops first; and pipes come back.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use super::*;

/// Only what hangs takes as long.
const HANGS: Duration = Duration::from_secs(120);
/// More than all buffers on the way hold together.
const MUCH: usize = 8 << 20;
/// Buffers of sockets that fill soon.
const SMALL: u32 = 8 << 10;
/// A writer that may not write for so long stands, as good as surely. Taken for standing too early it tests less.
const STANDS: Duration = Duration::from_millis(300);

/// Two ends of a connection, with buffers of this size if one is given.
async fn pair(buffers: Option<u32>) -> (TcpStream, TcpStream) {
    let socket = || {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = buffers {
            socket.set_send_buffer_size(bytes).unwrap();
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        socket
    };
    let listening = socket();
    listening.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener: TcpListener = listening.listen(1).unwrap();
    let (a, b) = tokio::join!(socket().connect(listener.local_addr().unwrap()), listener.accept());
    (a.unwrap(), b.unwrap().0)
}

/// A client and a server with a relay between them.
struct Relayed {
    client: TcpStream,
    server: TcpStream,
    relay: JoinHandle<io::Result<()>>,
    pipes: Arc<Pipes>,
    counters: Arc<Counters>,
}

impl Relayed {
    async fn new(pipes: usize, buffers: Option<u32>) -> Self {
        let ((client, near), (far, server)) = (pair(buffers).await, pair(buffers).await);
        let (pipes, counters) = (Arc::new(Pipes::new(pipes)), Arc::new(Counters::default()));
        let (lent, counted) = (pipes.clone(), counters.clone());
        let relay = tokio::spawn(async move { both_ways(&near, &far, &lent, &counted).await });
        Self { client, server, relay, pipes, counters }
    }
}

/// Pipes that nobody has, and all there are.
fn counted(pipes: &Pipes) -> (usize, usize) {
    let state = pipes.state();
    (state.idle.len(), state.made)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

/// Reads to the end, so many bytes at a time and not at once.
async fn read_slowly(mut from: impl tokio::io::AsyncRead + Unpin, at_once: usize) -> Vec<u8> {
    let (mut got, mut buffer) = (Vec::new(), vec![0; at_once]);
    loop {
        let read = from.read(&mut buffer).await.unwrap();
        if read == 0 {
            return got;
        }
        got.extend_from_slice(&buffer[..read]);
        tokio::task::yield_now().await;
    }
}

/// Writes until nothing more is taken; how much was.
async fn fill(to: &TcpStream) -> usize {
    let chunk = pattern(251 * 16);
    let mut sent = 0;
    while tokio::time::timeout(STANDS, to.writable()).await.is_ok() {
        match to.try_write(&chunk[sent % chunk.len()..]) {
            Ok(n) => sent += n,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn much_data_both_ways_at_once_arrives_whole_at_slow_readers() {
    for (pipes, buffers) in [(4, None), (0, None), (1, Some(SMALL)), (4, Some(SMALL)), (0, Some(SMALL))] {
        let Relayed { client, server, relay, pipes, counters } = Relayed::new(pipes, buffers).await;
        let ((from_client, mut to_server), (from_server, mut to_client)) = (client.into_split(), server.into_split());
        let (up, down) = (pattern(MUCH), pattern(MUCH / 2));
        let send_up = async {
            to_server.write_all(&up).await.unwrap();
            to_server.shutdown().await.unwrap();
        };
        let send_down = async {
            to_client.write_all(&down).await.unwrap();
            to_client.shutdown().await.unwrap();
        };
        let all =
            async { tokio::join!(send_up, send_down, read_slowly(from_server, 5000), read_slowly(from_client, 999)) };
        let (_, _, got_up, got_down) = tokio::time::timeout(HANGS, all).await.expect("it hangs");
        assert!(
            got_up == up && got_down == down,
            "{} of {} up, {} of {} down",
            got_up.len(),
            up.len(),
            got_down.len(),
            down.len()
        );
        relay.await.unwrap().unwrap();
        let (idle, made) = counted(&pipes);
        assert_eq!(idle, made, "every pipe is back");
        let bytes = |sent: &[u8]| i64::try_from(sent.len()).unwrap();
        assert_eq!((counters.to_server.get(), counters.to_client.get()), (bytes(&up), bytes(&down)));
    }
}

#[tokio::test]
async fn an_end_is_half_of_it_whichever_side_ends_first() {
    for client_first in [true, false] {
        let Relayed { client, server, relay, .. } = Relayed::new(2, None).await;
        let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
        first.write_all(b"a question").await.unwrap();
        first.shutdown().await.unwrap();
        let mut question = String::new();
        second.read_to_string(&mut question).await.unwrap();
        // The other direction is still there, for as much as one likes.
        let answer = pattern(MUCH);
        let (got, ()) = tokio::time::timeout(HANGS, async {
            tokio::join!(read_slowly(&mut first, 3000), async {
                second.write_all(&answer).await.unwrap();
                second.shutdown().await.unwrap();
            })
        })
        .await
        .expect("it hangs");
        assert!(question == "a question" && got == answer);
        relay.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_because_nobody_reads_goes_on_when_somebody_does() {
    for (pipes, client_writes) in [(2, true), (2, false), (0, true)] {
        let Relayed { client, server, relay, pipes, .. } = Relayed::new(pipes, Some(SMALL)).await;
        let (mut writer, mut reader) = if client_writes { (client, server) } else { (server, client) };
        let sent = fill(&writer).await;
        assert!(sent > 0);
        // The other direction does not stand, ...
        reader.write_all(b"still here").await.unwrap();
        let mut heard = [0; 10];
        tokio::time::timeout(HANGS, writer.read_exact(&mut heard)).await.expect("it hangs").unwrap();
        assert_eq!(&heard, b"still here");
        // ... and an end that comes while all is full comes after what is before it.
        writer.shutdown().await.unwrap();
        let got = tokio::time::timeout(HANGS, read_slowly(&mut reader, 700)).await.expect("it hangs");
        assert!(got == pattern(sent), "{} of {sent}", got.len());
        reader.shutdown().await.unwrap();
        relay.await.unwrap().unwrap();
        let (idle, made) = counted(&pipes);
        assert_eq!(idle, made, "every pipe is back");
    }
}

#[tokio::test]
async fn a_reader_that_is_reset_while_all_is_full_ends_both_and_its_pipe_with_it() {
    let Relayed { client, server, relay, pipes, .. } = Relayed::new(2, Some(SMALL)).await;
    let stands = async {
        // The full pipe is lent.
        while counted(&pipes) != (0, 1) {
            fill(&client).await;
        }
    };
    tokio::time::timeout(HANGS, stands).await.expect("it never stands");
    socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    tokio::time::timeout(HANGS, relay).await.expect("it hangs").unwrap().unwrap_err();
    // The full one is closed; the other direction, which heard of the reset, may have had one, and gave it back.
    let (idle, made) = counted(&pipes);
    assert!(idle == made && made <= 1, "{idle} of {made} are back");
}

#[tokio::test]
async fn a_reset_ends_both_directions() {
    let Relayed { mut client, server, relay, pipes, .. } = Relayed::new(2, None).await;
    socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    assert_eq!(relay.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let (idle, made) = counted(&pipes);
    assert_eq!(idle, made);
    drop(client.write_all(b"?").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_with_few_pipes_all_arrive() {
    let pipes = Arc::new(Pipes::new(3));
    let sent = Arc::new(pattern(1 << 20));
    let one = |pipes: Arc<Pipes>, sent: Arc<Vec<u8>>| async move {
        let ((mut client, near), (far, server)) = (pair(Some(SMALL)).await, pair(Some(SMALL)).await);
        let relay = tokio::spawn(async move { both_ways(&near, &far, &pipes, &Counters::default()).await });
        let (got, ()) = tokio::join!(read_slowly(server, 2000), async {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
        });
        assert!(got == *sent);
        relay.await.unwrap().unwrap();
    };
    let all: Vec<_> = (0..16).map(|_| tokio::spawn(one(pipes.clone(), sent.clone()))).collect();
    for connection in all {
        tokio::time::timeout(HANGS, connection).await.expect("it hangs").unwrap();
    }
    let (idle, made) = counted(&pipes);
    assert!(idle == made && made <= 3);
}
