//! `/portForward`: connections to ports of a pod's own loopback, carried in SPDY frames inside a WebSocket.
//!
//! ```text
//!   kubectl: opens an `error` stream and a `data` stream with one request id for every connection it accepts
//!   here:    dials inside the pod's network namespace; bytes both ways; a failure is a sentence on the error stream
//! ```
//! Owns: pairing the streams, dialling, carrying. Does not own: the frames (`spdy`), the handshake (`stream`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use pintle_kubelet_plan::containers::{host_network, name, uid};
use pintle_net::pod::netns_path;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::spdy::{Codec, Frame};
use super::stream::{self, Sink, Source};
use super::{Body, text};
use crate::context::Context;
use crate::error::chain;
use crate::worker::{PodView, blocking};

const PROTOCOLS: [&str; 1] = ["SPDY/3.1+portforward.k8s.io"];
const DIAL: Duration = Duration::from_secs(10);
/// Pieces of a connection that may wait for their reader.
const PIECES: usize = 16;

pub(super) fn answer(request: Request<Incoming>, ctx: Arc<Context>, view: PodView) -> Response<Body> {
    let running = view.containers.values().any(|c| c.running);
    if !running {
        return text(StatusCode::BAD_REQUEST, format!("pod {} is not running\n", name(&view.pod)));
    }
    let netns = (!host_network(&view.pod)).then(|| netns_path(&ctx.config.dirs.run, uid(&view.pod)));
    let pod = name(&view.pod).to_owned();
    stream::upgrade(request, &PROTOCOLS, move |sink, source| carry(Place { pod, netns }, sink, source))
}

/// Where to dial.
#[derive(Clone)]
struct Place {
    pod: String,
    /// `None`: the node's own.
    netns: Option<PathBuf>,
}

/// The client's end of one connection.
struct Streams {
    data: u32,
    error: u32,
    port: u16,
}

async fn carry(place: Place, mut sink: Sink, mut source: Source) {
    let (out, mut outgoing) = mpsc::channel::<Frame>(PIECES);
    let mut session = Session { place, out, errors: HashMap::new(), open: HashMap::new(), tasks: JoinSet::new() };
    let mut codec = Codec::new();
    // Frames go out in the order in which their headers were compressed, so one task does both.
    let mut encoder = Codec::new();
    let writer = tokio::spawn(async move {
        while let Some(frame) = outgoing.recv().await {
            if sink.send(Message::Binary(encoder.send(&frame))).await.is_err() {
                return;
            }
        }
    });
    'client: while let Some(Ok(message)) = source.next().await {
        match message {
            Message::Binary(bytes) => codec.receive(&bytes),
            Message::Close(_) => break,
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        }
        loop {
            match codec.next() {
                Ok(Some(Frame::GoAway)) => break 'client,
                Ok(Some(frame)) => session.take(frame).await,
                Ok(None) => break,
                Err(e) => {
                    tracing::debug!(error = chain(&e), "a port-forward ends");
                    break 'client;
                }
            }
        }
    }
    // The client is gone: so are its connections, when their tasks are dropped.
    drop(session);
    writer.abort();
}

struct Session {
    place: Place,
    out: mpsc::Sender<Frame>,
    /// Error streams that wait for their data stream, by request id.
    errors: HashMap<String, u32>,
    /// What the client sends on a data stream; dropping it says that no more comes.
    open: HashMap<u32, mpsc::Sender<Bytes>>,
    tasks: JoinSet<()>,
}

impl Session {
    async fn take(&mut self, frame: Frame) {
        // Finished connections leave no task behind.
        while self.tasks.try_join_next().is_some() {}
        match frame {
            Frame::Open { stream, fin: _, headers } => self.opened(stream, &headers).await,
            Frame::Data { stream, fin, bytes } => {
                if let Some(to) = self.open.get(&stream)
                    && !bytes.is_empty()
                {
                    // The connection may just have ended; then nobody needs it.
                    let _ = to.send(bytes).await;
                }
                if fin {
                    self.open.remove(&stream);
                }
            }
            Frame::Reset { stream } => drop(self.open.remove(&stream)),
            Frame::Ping { id } => self.tell(Frame::Ping { id }).await,
            Frame::Reply { .. } | Frame::GoAway | Frame::Other => {}
        }
    }

    async fn opened(&mut self, stream: u32, headers: &[(String, String)]) {
        let get = |wanted: &str| headers.iter().find(|(k, _)| k == wanted).map_or("", |(_, v)| v.as_str());
        let request = get("requestid").to_owned();
        match (get("streamtype"), get("port").parse::<u16>()) {
            ("error", Ok(_)) => drop(self.errors.insert(request, stream)),
            ("data", Ok(port)) if self.errors.contains_key(&request) => {
                let error = self.errors.remove(&request).unwrap_or_default();
                let (to, from) = mpsc::channel(PIECES);
                self.open.insert(stream, to);
                let streams = Streams { data: stream, error, port };
                self.tasks.spawn(connection(self.place.clone(), streams, from, self.out.clone()));
            }
            _ => return self.tell(Frame::Reset { stream }).await,
        }
        self.tell(Frame::Reply { stream }).await;
    }

    async fn tell(&self, frame: Frame) {
        // The writer ends with the client, which the reader then notices.
        let _ = self.out.send(frame).await;
    }
}

/// One connection from its dialling to its end.
async fn connection(place: Place, streams: Streams, mut from: mpsc::Receiver<Bytes>, out: mpsc::Sender<Frame>) {
    let words = match dial(&place, streams.port).await {
        Ok(mut tcp) => {
            let (mut read, mut write) = tcp.split();
            let up = async {
                while let Some(bytes) = from.recv().await {
                    if write.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                // A server that has ended takes no goodbye.
                let _ = write.shutdown().await;
                std::future::pending::<()>().await;
            };
            let down = async {
                let mut chunk = vec![0; 32 << 10];
                while let Ok(count @ 1..) = read.read(&mut chunk).await {
                    let bytes = Bytes::copy_from_slice(&chunk[..count]);
                    if out.send(Frame::Data { stream: streams.data, fin: false, bytes }).await.is_err() {
                        return;
                    }
                }
            };
            // The pod's last byte is the end; the client's is only the end of its half.
            tokio::select! { () = up => {}, () = down => {} }
            Bytes::new()
        }
        Err(e) => Bytes::from(format!("error forwarding port {} to pod {}: {e}", streams.port, place.pod)),
    };
    for (stream, bytes) in [(streams.data, Bytes::new()), (streams.error, words)] {
        // The client may have left.
        let _ = out.send(Frame::Data { stream, fin: true, bytes }).await;
    }
}

/// Connects to the loopback the pod sees. A socket stays in the namespace of the thread that made it.
async fn dial(place: &Place, port: u16) -> Result<TcpStream, String> {
    let connect = move || {
        let to = |ip: IpAddr| std::net::TcpStream::connect_timeout(&SocketAddr::new(ip, port), DIAL);
        to(Ipv4Addr::LOCALHOST.into()).or_else(|e| to(Ipv6Addr::LOCALHOST.into()).map_err(|_| e))
    };
    let dialled = match &place.netns {
        Some(netns) => pintle_net::netns::run(netns, connect).await.map_err(|e| chain(&e))?,
        None => blocking(connect).await,
    };
    let socket = dialled.map_err(|e| format!("connect to 127.0.0.1:{port}: {e}"))?;
    socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket)).map_err(|e| e.to_string())
}
