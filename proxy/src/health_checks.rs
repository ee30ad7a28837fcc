//! `healthCheckNodePort` servers: each tells a load balancer whether this node has endpoints of one Service. Owns the
//! listeners; which Services have one, and how many endpoints, is told from outside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderValue, StatusCode};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::health::Health;
use crate::http_server::{self, Answer, Handler, json};

/// Servers at once; further ones are refused, which is said.
const SERVERS_MAX: usize = 1_000;

/// One Service's health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
    /// Ready endpoints on this node.
    pub local_endpoints: usize,
}

/// The servers that run.
pub struct HealthChecks {
    health: Arc<Health>,
    addrs: Vec<std::net::IpAddr>,
    servers: Mutex<BTreeMap<u16, Server>>,
}

struct Server {
    namespace: String,
    name: String,
    local_endpoints: Arc<AtomicUsize>,
    _stop: DropGuard,
}

/// A server that could not be started.
#[derive(Debug)]
pub struct Refused {
    /// Whose it would have been.
    pub check: HealthCheck,
    /// On which port.
    pub port: u16,
    /// Why.
    pub source: std::io::Error,
}

impl HealthChecks {
    /// No servers yet; they will listen on these addresses.
    pub fn new(health: Arc<Health>, addrs: Vec<std::net::IpAddr>) -> Self {
        Self { health, addrs, servers: Mutex::default() }
    }

    /// Makes the servers those that are wanted, by port. Needs a tokio runtime.
    pub async fn sync(&self, wanted: &BTreeMap<u16, HealthCheck>) -> Vec<Refused> {
        let missing: Vec<(u16, HealthCheck)> = {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            servers.retain(|port, s| wanted.get(port).is_some_and(|w| w.namespace == s.namespace && w.name == s.name));
            for (port, server) in servers.iter() {
                let count = wanted.get(port).map_or(0, |w| w.local_endpoints);
                server.local_endpoints.store(count, Ordering::Relaxed);
            }
            wanted.iter().filter(|(port, _)| !servers.contains_key(port)).map(|(p, w)| (*p, w.clone())).collect()
        };
        let mut refused = Vec::new();
        for (port, check) in missing {
            if let Err(source) = self.start(port, &check).await {
                refused.push(Refused { check, port, source });
            }
        }
        refused
    }

    async fn start(&self, port: u16, check: &HealthCheck) -> std::io::Result<()> {
        if self.servers.lock().unwrap_or_else(PoisonError::into_inner).len() >= SERVERS_MAX {
            return Err(std::io::Error::other(format!("{SERVERS_MAX} health check servers run already")));
        }
        let mut listeners = Vec::new();
        for addr in &self.addrs {
            listeners.push(bind(SocketAddr::new(*addr, port)).await?);
        }
        let (cancel, local_endpoints) = (CancellationToken::new(), Arc::new(AtomicUsize::new(check.local_endpoints)));
        for listener in listeners {
            http_server::serve(listener, self.handler(check, local_endpoints.clone()), cancel.clone());
        }
        let server = Server {
            namespace: check.namespace.clone(),
            name: check.name.clone(),
            local_endpoints,
            _stop: cancel.drop_guard(),
        };
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).insert(port, server);
        Ok(())
    }

    fn handler(&self, check: &HealthCheck, local_endpoints: Arc<AtomicUsize>) -> Handler {
        let (check, health) = (check.clone(), self.health.clone());
        Arc::new(move |_path| respond(&check, local_endpoints.load(Ordering::Relaxed), health.is_healthy()))
    }
}

/// The port of a server that is just stopping is free a moment later.
async fn bind(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let mut tries = 20;
    loop {
        match TcpListener::bind(addr).await {
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse && tries > 0 => {
                tries -= 1;
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            bound => return bound,
        }
    }
}

fn respond(check: &HealthCheck, local_endpoints: usize, proxy_is_healthy: bool) -> Answer {
    let healthy = local_endpoints > 0 && proxy_is_healthy;
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({
        "service": {"namespace": check.namespace, "name": check.name},
        "localEndpoints": local_endpoints,
        "serviceProxyHealthy": proxy_is_healthy,
    });
    let mut answer = json(status, &body);
    if let Ok(weight) = HeaderValue::from_str(&local_endpoints.to_string()) {
        answer.headers_mut().insert("x-load-balancing-endpoint-weight", weight);
    }
    answer
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn ask(port: u16) -> String {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_server_follows_its_service_and_goes_with_it() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let health = Arc::new(Health::new("nftables"));
        let checks = HealthChecks::new(health.clone(), vec![std::net::Ipv4Addr::LOCALHOST.into()]);
        let check = |local_endpoints| HealthCheck { namespace: "d".into(), name: "web".into(), local_endpoints };
        for (count, line) in [(2, "HTTP/1.0 200 OK"), (0, "HTTP/1.0 503 Service Unavailable"), (1, "HTTP/1.0 200 OK")] {
            assert!(checks.sync(&BTreeMap::from([(free, check(count))])).await.is_empty());
            let answer = ask(free).await;
            assert!(answer.starts_with(line), "{answer}");
            assert!(answer.contains(&format!("\"localEndpoints\":{count}")), "{answer}");
            assert!(answer.contains(r#""service":{"name":"web","namespace":"d"}"#), "{answer}");
            assert!(answer.contains(&format!("x-load-balancing-endpoint-weight: {count}")), "{answer}");
        }
        health.queued(std::time::Instant::now() - std::time::Duration::from_secs(600));
        assert!(ask(free).await.contains(r#""serviceProxyHealthy":false"#));
        // Another Service takes the port over; then nobody has it.
        let other = HealthCheck { namespace: "d".into(), name: "other".into(), local_endpoints: 1 };
        assert!(checks.sync(&BTreeMap::from([(free, other)])).await.is_empty());
        assert!(ask(free).await.contains("other"));
        assert!(checks.sync(&BTreeMap::new()).await.is_empty());
        bind((std::net::Ipv4Addr::LOCALHOST, free).into()).await.unwrap();
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_told() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let checks = HealthChecks::new(Arc::new(Health::new("nftables")), vec![std::net::Ipv4Addr::LOCALHOST.into()]);
        let check = HealthCheck { namespace: "d".into(), name: "web".into(), local_endpoints: 1 };
        let refused = checks.sync(&BTreeMap::from([(port, check)])).await;
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].source.kind(), std::io::ErrorKind::AddrInUse);
    }
}
