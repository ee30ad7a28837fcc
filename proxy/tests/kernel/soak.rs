//! Changes under load. No connection may fail that should work, and none may reach a pod that is no endpoint.
//!
//! `PINTLE_SOAK_SECONDS` (20 by default; `make soak-proxy` sets 600) says how long the soak lasts, `PINTLE_SOAK_SEED`
//! repeats one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pintle_proxy_plan::config::FRESH_FROM;
use pintle_testkit::eventually;
use serde_json::{Value, json};

use crate::api::{Api, SERVICES, SLICES};
use crate::load::{Allowed, Truth};
use crate::objects::{service, slice, web};
use crate::running::{Running, SOON, serving_table, start, start_with};
use crate::sctp;
use crate::star::{Transport, is_known};
use crate::world::{NODE, World, ask, nft, nft_list, serve, serve_sctp, world};

const PODS: [&str; 6] = ["10.42.0.2", "10.42.0.3", "10.42.0.4", "10.42.0.5", "10.42.0.6", "10.42.0.7"];

fn set(addrs: &[&str]) -> BTreeSet<String> {
    addrs.iter().map(|a| (*a).to_owned()).collect()
}

/// The slice of a Service whose ready endpoints these are, all on this node.
fn endpoints(name: &str, servers: &BTreeSet<String>) -> k8s_openapi::api::discovery::v1::EndpointSlice {
    let texts: Vec<String> = servers.iter().map(|s| format!("{s}@here")).collect();
    web(name, &texts.iter().map(String::as_str).collect::<Vec<_>>())
}

fn pods(world: &World) {
    for addr in PODS {
        serve(&world.pod(addr), addr, 8080);
    }
}

/// Pod after pod is replaced: the new one is ready, the old one terminates and still answers, then it is gone.
fn rolling_update(transport: Transport, fresh_from: usize) {
    let Some(world) = world("the proxy") else { return };
    let (proto, serve) = match transport {
        Transport::Sctp => ("SCTP", serve_sctp as fn(&Path, &str, u16)),
        Transport::Tcp | Transport::Udp => ("TCP", serve as fn(&Path, &str, u16)),
    };
    for addr in PODS {
        serve(&world.pod(addr), addr, 8080);
    }
    let slice_of = |endpoints: &[String]| {
        slice("web", ("http", proto, 8080), &endpoints.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let ready = |pods: &[&str]| slice_of(&pods.iter().map(|p| format!("{p}@here")).collect::<Vec<_>>());
    let (api, truth) = (Api::new(), Truth::over(transport, 1, Duration::from_millis(1)));
    let ports = json!({"ports": [{"name": "http", "port": 80, "protocol": proto}]});
    api.put(SERVICES, service("web", "10.43.0.10", ports));
    api.put(SLICES, ready(&PODS[..2]));
    let proxy = start_with(&api, |config| config.fresh_from = fresh_from);
    eventually("everything is installed", SOON, || proxy.is_ready().then_some(()));
    truth.set(0, Allowed { servers: set(&PODS[..2]), may_fail: false });
    let client = world.pod("10.42.0.100");
    let to: SocketAddr = "10.43.0.10:80".parse().unwrap();
    let clients = vec![truth.client(None, 0, to), truth.client(Some(client), 0, to)];
    let asked = || truth.asked.load(Ordering::Relaxed);
    for n in 0..PODS.len() - 2 {
        let (old, kept, new) = (PODS[n], PODS[n + 1], PODS[n + 2]);
        let leaving = slice_of(&[format!("{old}@here!leaving"), format!("{kept}@here"), format!("{new}@here")]);
        for (with, after) in [(ready(&[old, kept, new]), vec![old, kept, new]), (leaving, vec![kept, new])] {
            truth.change(0, set(&after), || proxy.committed(|| api.put(SLICES, with)));
            let so_far = asked();
            eventually("ten more connections", SOON, || (asked() >= so_far + 10).then_some(()));
        }
        // Beside ready endpoints a terminating one serves nobody: this changes no rule.
        proxy.committed(|| api.put(SLICES, ready(&[kept, new])));
    }
    let wrong = truth.finish(clients);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    proxy.stop();
}

#[test]
fn a_rolling_update_under_load_fails_no_connection() {
    rolling_update(Transport::Tcp, FRESH_FROM);
}

#[test]
fn a_rolling_update_of_a_fresh_service_fails_no_connection() {
    rolling_update(Transport::Tcp, 0);
}

#[test]
fn a_rolling_update_under_load_fails_no_sctp_association_where_the_kernel_has_it() {
    if is_known(Transport::Sctp) {
        return rolling_update(Transport::Sctp, FRESH_FROM);
    }
    assert!(std::env::var_os(sctp::MUST).is_none(), "the VM's kernel has SCTP");
    eprintln!("SKIPPED: this kernel has no SCTP; sctp.rs does this in a VM");
}

#[test]
fn a_restart_of_the_proxy_under_load_fails_no_connection() {
    let Some(world) = world("the proxy") else { return };
    pods(&world);
    let (api, truth) = (Api::new(), Truth::new(1));
    api.put(SERVICES, service("web", "10.43.0.10", json!({})));
    api.put(SLICES, endpoints("web", &set(&PODS)));
    let mut proxy = start(&api);
    eventually("the Service answers", SOON, || ask("10.43.0.10:80").ok());
    truth.set(0, Allowed { servers: set(&PODS), may_fail: false });
    let clients = vec![truth.client(None, 0, "10.43.0.10:80".parse().unwrap())];
    for _ in 0..3 {
        let before = serving_table();
        proxy.stop();
        proxy = start(&api);
        eventually("the other table serves", SOON, || serving_table().filter(|now| Some(*now) != before));
    }
    let wrong = truth.finish(clients);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    proxy.stop();
}

/// Marsaglia's xorshift: the same changes for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }
}

struct Soak {
    api: Api,
    truth: Arc<Truth>,
    dice: Dice,
}

const VIPS: [&str; 3] = ["10.43.0.10", "10.43.0.11", "10.43.0.12"];

impl Soak {
    fn object(at: usize) -> k8s_openapi::api::core::v1::Service {
        let spec: Value = match at {
            1 => json!({"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}),
            2 => json!({"sessionAffinity": "ClientIP"}),
            _ => json!({}),
        };
        service(&format!("s{at}"), VIPS[at], spec)
    }

    /// Other endpoints than now, sometimes none.
    fn other_servers(&mut self, at: usize) -> BTreeSet<String> {
        let now = self.truth.current(at).servers;
        loop {
            let count = self.dice.below(PODS.len());
            let picked: BTreeSet<String> = (0..count).map(|_| PODS[self.dice.below(PODS.len())].to_owned()).collect();
            if picked != now {
                return picked;
            }
        }
    }

    fn step(&mut self, proxy: &Running) {
        let at = self.dice.below(VIPS.len());
        let (api, name) = (self.api.clone(), format!("s{at}"));
        match self.dice.below(300) {
            // The Service goes and comes back.
            0 => {
                let servers = self.truth.current(at).servers;
                let truth = self.truth.clone();
                truth.change(at, BTreeSet::new(), || proxy.committed(|| api.delete(SERVICES, Self::object(at))));
                truth.change(at, servers, || proxy.committed(|| api.put(SERVICES, Self::object(at))));
            }
            // Somebody deletes all rules.
            1 => {
                let before: Vec<Allowed> = (0..VIPS.len()).map(|n| self.truth.current(n)).collect();
                for (n, allowed) in before.iter().enumerate() {
                    self.truth.set(n, Allowed { may_fail: true, ..allowed.clone() });
                }
                nft(&["flush", "ruleset"]);
                eventually("the rules are back", SOON, || (serves("ip") && serves("ip6")).then_some(()));
                for (n, allowed) in before.into_iter().enumerate() {
                    self.truth.set(n, allowed);
                }
            }
            _ => {
                let servers = self.other_servers(at);
                let truth = self.truth.clone();
                truth.change(at, servers.clone(), || {
                    proxy.committed(|| api.put(SLICES, endpoints(&name, &servers)));
                });
            }
        }
    }
}

/// Whether one of a family's two large tables serves, and the other is not there.
fn serves(family: &str) -> bool {
    let listed = nft_list();
    let is_large = |table: &&str| table.starts_with(&format!("{family} pintle")) && !table.contains("-small {");
    let tables: Vec<&str> = listed.split("table ").filter(is_large).collect();
    matches!(tables[..], [table] if table.contains("hook prerouting"))
}

#[test]
fn random_changes_under_load_give_no_wrong_answer_and_refuse_nobody() {
    let Some(world) = world("the proxy") else { return };
    let from_env = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = from_env("PINTLE_SOAK_SECONDS").unwrap_or(20);
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let seed = from_env("PINTLE_SOAK_SEED").unwrap_or(u64::try_from(clock & 0xffff_ffff).unwrap()).max(1);
    eprintln!("PINTLE_SOAK_SEED={seed}");
    pods(&world);
    let mut soak = Soak { api: Api::new(), truth: Truth::new(VIPS.len()), dice: Dice(seed) };
    let all = set(&PODS);
    for at in 0..VIPS.len() {
        soak.api.put(SERVICES, Soak::object(at));
        soak.api.put(SLICES, endpoints(&format!("s{at}"), &all));
    }
    // In turns as where there are many Services, where fresh ones are kept apart, and few.
    let mut fresh_from = [0, FRESH_FROM].into_iter().cycle();
    let mut start = |api: &Api| start_with(api, |config| config.fresh_from = fresh_from.next().unwrap());
    let mut proxy = start(&soak.api);
    eventually("everything is installed", SOON, || proxy.is_ready().then_some(()));
    let mut clients = Vec::new();
    for (at, vip) in VIPS.iter().enumerate() {
        soak.truth.set(at, Allowed { servers: all.clone(), may_fail: false });
        let to: SocketAddr = format!("{vip}:80").parse().unwrap();
        clients.push(soak.truth.client(Some(world.pod(&format!("10.42.0.10{at}"))), at, to));
    }
    let node_port: SocketAddr = format!("{NODE}:30080").parse().unwrap();
    clients.push(soak.truth.client(Some(world.outside()), 1, node_port));
    clients.push(soak.truth.client(None, 0, "10.43.0.10:80".parse().unwrap()));
    let (begun, mut steps) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(seconds) {
        soak.step(&proxy);
        steps += 1;
        if steps % 200 == 0 {
            proxy.stop();
            proxy = start(&soak.api);
            eventually("everything is installed anew", SOON, || proxy.is_ready().then_some(()));
        }
    }
    let wrong = soak.truth.finish(clients);
    let asked = soak.truth.asked.load(Ordering::Relaxed);
    eprintln!("{steps} changes, {asked} connections in {seconds} s, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "seed {seed}, {} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    proxy.stop();
}
