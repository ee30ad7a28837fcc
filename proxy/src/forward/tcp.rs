//! Connections: accepted, led to a server, relayed. A client whose server cannot be reached is reset.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;

use super::counters::Held;
use super::target::{Drawn, Target};
use super::{Shared, relay, sockets};

/// How long a server may take to answer before another is tried.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// When descriptors or memory are short: until something has ended.
const BREATH: Duration = Duration::from_millis(50);

/// Accepts for as long as it is not cancelled.
pub async fn serve(listener: Arc<TcpListener>, target: Arc<Target>, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((client, peer)) => {
                let place = place(&shared).await;
                tokio::spawn(forward(client, peer, place, target.clone(), shared.clone()));
            }
            Err(error) if is_ours(&error) => {
                shared.say_full("connections", shared.limits.connections);
                tokio::time::sleep(BREATH).await;
            }
            // A client that was gone before it was accepted.
            Err(_) => {}
        }
    }
}

/// Whether it is our own lack that an operation failed by (EMFILE, ENFILE, ENOBUFS, ENOMEM).
fn is_ours(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Waits for a place where there is none; meanwhile the kernel holds further connections.
async fn place(shared: &Shared) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = shared.places.clone().try_acquire_owned() {
        return Some(place);
    }
    shared.say_full("connections", shared.limits.connections);
    // It is never closed.
    shared.places.clone().acquire_owned().await.ok()
}

async fn forward(
    client: TcpStream,
    peer: SocketAddr,
    _place: Option<OwnedSemaphorePermit>,
    target: Arc<Target>,
    shared: Arc<Shared>,
) {
    let counters = &shared.counters;
    let drawn = target.draw(peer.ip(), Instant::now());
    let Some(server) = connect(&drawn, &shared).await else {
        counters.unserved.add(1);
        return sockets::reset(client);
    };
    counters.served.add(1);
    let _open = Held::one(&counters.connections_open);
    let ready = sockets::prepare(&client).and_then(|()| sockets::prepare(&server));
    let done = match ready {
        Ok(()) => relay::both_ways(&client, &server, &shared.pipes, counters).await,
        Err(error) => Err(error),
    };
    // What one end did to the other is done to the next.
    if done.is_err() {
        counters.served.sub(1);
        counters.broken.add(1);
        sockets::reset(client);
        sockets::reset(server);
    }
}

async fn connect(drawn: &Drawn, shared: &Shared) -> Option<TcpStream> {
    for (n, server) in drawn.servers.iter().enumerate() {
        let addr = SocketAddr::new(server.addr, server.port);
        match tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(addr)).await {
            Ok(Ok(stream)) => {
                if n > 0 {
                    drawn.served_by(*server, Instant::now());
                }
                return Some(stream);
            }
            Ok(Err(error)) if is_ours(&error) => {
                shared.say_full("connections", shared.limits.connections);
                return None;
            }
            // It may be gone, and we not told yet: another serves too.
            Ok(Err(_)) | Err(_) => {}
        }
    }
    None
}
