//! The whole proxy as a process, against an API server of ours on a socket: start to ready, memory, and the time from a
//! watch event to the transaction that it causes, as the kernel announces it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Service;
use pintle_client::{Client, Identity, Io, Wire};
use pintle_net::nfnetlink::monitor::Monitor;
use pintle_nft::{Family, TableId};
use pintle_proxy::ProxyConfig;
use pintle_proxy_cases::synthetic::{RANGES, balanced, service, slice};
use pintle_testkit::Netns;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::api::{Api, Event, NODES, SERVICES, SLICES};
use super::{memory_mb, percentile};

/// Changes of each kind.
const CHANGES: u32 = 150;
/// A Service has another endpoint instead of one it had.
const CHANGED: &str = "changed";
/// It has one more.
const SCALED: &str = "scaled";
type Maker = fn(u32) -> Service;
/// Services that are new.
const ADDED: [(&str, Maker); 2] = [("service", service), ("balanced", balanced)];
/// All of these.
pub const READINGS: [&str; 4] = [CHANGED, SCALED, ADDED[0].0, ADDED[1].0];
const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10256);
/// Where the daemon finds its API server.
const SOCKET: &str = "PINTLE_BENCH_API";

/// The process that is measured. It ends when its standard input does.
pub fn daemon() -> Result<()> {
    pintle_sys::process::limit_heap_arenas();
    let socket = std::env::var_os(SOCKET).unwrap_or_default();
    let dial = move || {
        let socket = socket.clone();
        Box::pin(async move {
            let io: Box<dyn Io> = Box::new(tokio::net::UnixStream::connect(socket).await?);
            Ok(Wire { io, http2: false })
        }) as std::pin::Pin<Box<_>>
    };
    let [pods, services] = RANGES.map(|range| range.parse().map(|r| vec![r]));
    let mut config = ProxyConfig::new("node-0", pods?, services?);
    (config.health, config.metrics) = (Some(HEALTH), None);
    let client = Client::over(Box::new(dial), Identity::None, "pintle-bench")?;
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    std::thread::spawn(move || {
        // Nothing ever comes: this returns when the measuring process is gone.
        drop(std::io::stdin().read(&mut [0]));
        stop.cancel();
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // A task among others, as in `pintle proxy`.
    runtime.block_on(async { tokio::spawn(pintle_proxy::run(config, client, cancel)).await })??;
    Ok(())
}

/// A daemon that ends with this.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing more to do then.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Takes the reading.
pub fn measure(services: u32, endpoints: u32) -> Result<Value> {
    let _netns = Netns::fresh();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measured(services, endpoints))
}

async fn measured(services: u32, endpoints: u32) -> Result<Value> {
    let (dir, api) = (tempfile::tempdir()?, Api::new());
    let socket = dir.path().join("api");
    for n in 0..services {
        api.put(SERVICES, &service(n))?;
        api.put(SLICES, &slice(n, endpoints, 0))?;
    }
    api.put(NODES, &json!({"metadata": {"name": "node-0"}}))?;
    api.serve(tokio::net::UnixListener::bind(&socket)?);
    ensure!(UnixStream::connect(&socket).is_ok(), "the socket answers");
    let (daemon, ready) = start(&socket).await?;
    let pid = daemon.0.id().to_string();
    let peak_mb = memory_mb(&pid, "VmHWM")?;
    let mut readings = readings(&api, services, endpoints).await?;
    let resident_mb = memory_mb(&pid, "VmRSS")?;
    // Its rules stay, and packets go by them until the new ones take over.
    drop(daemon);
    let (_daemon, again) = start(&socket).await?;
    let committed = readings.iter_mut().map(|(name, took)| {
        let reading = json!({"p50_us": percentile(took, 0.5), "p99_us": percentile(took, 0.99)});
        ((*name).to_owned(), reading)
    });
    Ok(json!({
        "ready_ms": ready.as_secs_f64() * 1e3,
        "restart_ms": again.as_secs_f64() * 1e3,
        "committed": committed.collect::<serde_json::Map<_, _>>(),
        "resident_mb": resident_mb,
        "peak_mb": peak_mb,
    }))
}

/// Starts a daemon; how long it took until everything was installed.
async fn start(socket: &Path) -> Result<(Daemon, Duration)> {
    let begin = Instant::now();
    let daemon = Command::new(std::env::current_exe()?)
        .args(["proxy", "daemon"])
        .env(SOCKET, socket)
        .stdin(Stdio::piped())
        .spawn()?;
    let daemon = Daemon(daemon);
    while !tokio::task::spawn_blocking(is_ready).await? {
        ensure!(begin.elapsed() < Duration::from_secs(120), "the proxy did not become ready");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok((daemon, begin.elapsed()))
}

/// The tables of the daemon, as the kernel tells of them.
fn monitor() -> Result<Monitor> {
    let names = ["pintle", "pintle-b", "pintle-small", "pintle-b-small"];
    Ok(Monitor::open(names.map(|name| TableId { family: Family::V4, name: name.into() }).to_vec())?)
}

/// What is measured one by one, microseconds each from the event to the kernel's announcement.
async fn readings(api: &Api, services: u32, endpoints: u32) -> Result<Vec<(&'static str, Vec<f64>)>> {
    let mut monitor = monitor()?;
    let mut changed = Vec::new();
    for n in 0..CHANGES {
        let event = api.event(SLICES, &slice(n % services, endpoints, 1 + n / services))?;
        changed.push(committed(api, &mut monitor, event).await?);
    }
    let mut scaled = Vec::new();
    for n in 0..CHANGES.min(services) {
        let event = api.event(SLICES, &slice(n, endpoints + 1, 1))?;
        scaled.push(committed(api, &mut monitor, event).await?);
    }
    let mut readings = vec![(CHANGED, changed), (SCALED, scaled)];
    let mut next = services;
    for (name, make) in ADDED {
        let mut added = Vec::new();
        for n in next..next + CHANGES {
            // Its endpoints are known already.
            api.send(api.event(SLICES, &slice(n, endpoints, 0))?);
            tokio::time::sleep(Duration::from_millis(10)).await;
            added.push(committed(api, &mut monitor, api.event(SERVICES, &make(n))?).await?);
        }
        readings.push((name, added));
        next += CHANGES;
    }
    Ok(readings)
}

async fn committed(api: &Api, monitor: &mut Monitor, event: Event) -> Result<f64> {
    let begin = Instant::now();
    api.send(event);
    tokio::time::timeout(Duration::from_secs(10), monitor.wait(0)).await??;
    let took = begin.elapsed().as_secs_f64() * 1e6;
    // The proxy removes what is not needed any more, once packets under way have left; the next event comes when it rests.
    tokio::time::sleep(Duration::from_millis(80)).await;
    monitor.forget().await;
    Ok(took)
}

fn is_ready() -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(HEALTH)?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.0 200"))
}
