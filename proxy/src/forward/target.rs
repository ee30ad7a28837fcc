//! Whom a listener leads to now, and who is drawn of them.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use pintle_proxy_plan::endpoints::Backend as Server;
use pintle_proxy_plan::userspace::{Listener, Origin};

/// Servers tried for one connection; a client waits meanwhile.
const TRIES_MAX: usize = 4;
/// Clients of one port that are remembered; of more some lose their server.
const CLIENTS_MAX: usize = 1 << 16;

/// Tells where a client is.
pub trait Origins: Send + Sync {
    /// By its address.
    fn of(&self, client: IpAddr) -> Origin;
}

/// See the module's description.
pub struct Target {
    now: RwLock<Now>,
    turn: AtomicUsize,
}

#[derive(Clone)]
struct Now {
    listener: Arc<Listener>,
    clients: Arc<Clients>,
    origins: Arc<dyn Origins>,
}

impl Target {
    /// Leads where the listener says.
    pub fn new(listener: Arc<Listener>, clients: Arc<Clients>, origins: Arc<dyn Origins>) -> Self {
        // Not every node begins with the first server.
        let begin = RandomState::new().hash_one(0) as usize >> 1;
        Self { now: RwLock::new(Now { listener, clients, origins }), turn: AtomicUsize::new(begin) }
    }

    /// Leads there from now on.
    pub fn set(&self, listener: &Arc<Listener>, clients: Arc<Clients>, origins: Arc<dyn Origins>) {
        let now = Now { listener: listener.clone(), clients, origins };
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Draws for a client: the servers in the order in which they are to be tried, none where nobody serves it. With
    /// affinity the first is its server from now on.
    pub fn draw(&self, client: IpAddr, at: Instant) -> Drawn {
        let Now { listener, clients, origins } = self.now.read().unwrap_or_else(PoisonError::into_inner).clone();
        let origin = if listener.asks_origin() { origins.of(client) } else { Origin::Inside };
        let all = listener.servers(origin);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut servers: Vec<Server> = (0..all.len().min(TRIES_MAX)).map(|n| all[(turn + n) % all.len()]).collect();
        let sticky = listener.sticky.map(|s| (client, clients, Duration::from_millis(s.timeout_ms)));
        if let (Some((_, clients, timeout)), Some(first)) = (&sticky, servers.first().copied()) {
            let server = clients.stay(client, first, all, at, *timeout);
            servers.retain(|s| *s != server);
            servers.insert(0, server);
        }
        Drawn { servers, sticky }
    }
}

/// Who may serve a client.
pub struct Drawn {
    /// In the order in which they are to be tried.
    pub servers: Vec<Server>,
    sticky: Option<(IpAddr, Arc<Clients>, Duration)>,
}

impl Drawn {
    /// The first could not be reached, and this one serves.
    pub fn served_by(&self, server: Server, at: Instant) {
        if let Some((client, clients, timeout)) = &self.sticky {
            clients.put(*client, server, at + *timeout);
        }
    }
}

/// Which server each client has, and until when.
#[derive(Default)]
pub struct Clients(Mutex<HashMap<IpAddr, (Server, Instant)>>);

impl Clients {
    fn known(&self) -> MutexGuard<'_, HashMap<IpAddr, (Server, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server a client has, if it is still one of `all`, else `drawn`, which it has from now on.
    fn stay(&self, client: IpAddr, drawn: Server, all: &[Server], at: Instant, timeout: Duration) -> Server {
        let has = self.known().get(&client).filter(|(server, until)| *until > at && all.contains(server)).map(|k| k.0);
        let server = has.unwrap_or(drawn);
        self.put(client, server, at + timeout);
        server
    }

    fn put(&self, client: IpAddr, server: Server, until: Instant) {
        let mut known = self.known();
        if known.len() >= CLIENTS_MAX && !known.contains_key(&client) {
            let now = Instant::now();
            known.retain(|_, (_, until)| *until > now);
            if let Some(another) = known.keys().next().copied().filter(|_| known.len() >= CLIENTS_MAX) {
                known.remove(&another);
            }
        }
        known.insert(client, (server, until));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use pintle_nft::Proto;
    use pintle_proxy_plan::ServiceName;
    use pintle_proxy_plan::userspace::{Guard, PortName, Sticky};

    /// Pods have addresses in 10.
    struct Tens;
    impl Origins for Tens {
        fn of(&self, client: IpAddr) -> Origin {
            if client.to_string().starts_with("10.") { Origin::Inside } else { Origin::Outside }
        }
    }

    fn server(n: u8) -> Server {
        Server { addr: IpAddr::from([10, 42, 0, n]), port: 80 }
    }

    fn listener(insiders: &[u8], outsiders: &[u8], timeout_ms: Option<u64>) -> Arc<Listener> {
        let service = Arc::new(ServiceName { namespace: "d".into(), name: "web".into() });
        Arc::new(Listener {
            port: PortName { service, port: "".into(), proto: Proto::Tcp },
            insiders: insiders.iter().map(|n| server(*n)).collect(),
            outsiders: outsiders.iter().map(|n| server(*n)).collect(),
            guard: Guard::default(),
            sticky: timeout_ms.map(|timeout_ms| Sticky { timeout_ms }),
        })
    }

    fn target(listener: Arc<Listener>) -> Target {
        Target::new(listener, Arc::default(), Arc::new(Tens))
    }

    const POD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 42, 0, 9));
    const OUTSIDE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 5));

    #[test]
    fn every_server_has_its_turn_and_the_others_follow() {
        let target = target(listener(&[1, 2, 3], &[1, 2, 3], None));
        let firsts: std::collections::BTreeSet<Server> =
            (0..3).map(|_| target.draw(POD, Instant::now()).servers[0]).collect();
        assert_eq!(firsts.len(), 3);
        let drawn = target.draw(POD, Instant::now()).servers;
        assert_eq!(drawn.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    }

    #[test]
    fn insiders_and_outsiders_have_their_own_servers() {
        let target = target(listener(&[1], &[2], None));
        assert_eq!(target.draw(POD, Instant::now()).servers, [server(1)]);
        assert_eq!(target.draw(OUTSIDE, Instant::now()).servers, [server(2)]);
    }

    #[test]
    fn a_client_stays_until_it_is_silent_or_its_server_gone() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let target = target(listener(&[1, 2, 3], &[1, 2, 3], Some(100)));
        let first = target.draw(POD, at(0)).servers[0];
        // Each connection begins its time anew.
        for ms in [90, 180, 270] {
            assert_eq!(target.draw(POD, at(ms)).servers[0], first);
        }
        let later: Vec<Server> = (0..3).map(|n| target.draw(POD, at(1000 * (n + 1))).servers[0]).collect();
        assert!(later.iter().any(|s| *s != first), "{later:?}");
        let now = Now { listener: listener(&[3], &[3], Some(100)), ..target.now.read().unwrap().clone() };
        target.set(&now.listener, now.clients, now.origins);
        assert_eq!(target.draw(POD, at(4001)).servers[0], server(3));
    }

    #[test]
    fn who_answers_instead_of_an_unreachable_one_is_remembered() {
        let target = target(listener(&[1, 2], &[1, 2], Some(1000)));
        let drawn = target.draw(POD, Instant::now());
        let second = drawn.servers[1];
        drawn.served_by(second, Instant::now());
        assert_eq!(target.draw(POD, Instant::now()).servers[0], second);
    }

    #[test]
    fn no_more_clients_are_remembered_than_there_is_place_for() {
        let clients = Clients::default();
        let until = Instant::now() + Duration::from_secs(60);
        for n in 0..u32::try_from(CLIENTS_MAX).unwrap() + 10 {
            clients.put(IpAddr::from(n.to_be_bytes()), server(1), until);
        }
        assert_eq!(clients.known().len(), CLIENTS_MAX);
    }
}
