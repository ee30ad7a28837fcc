//! Rules as kube-proxy lays them out, made as text and given to the programs it gives them to. Ours in wording: what is
//! reproduced is which tables, chains, sets and rules there are, and in which order a packet meets them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use nix::sys::resource::{UsageWho, getrusage};
use pintle_proxy_cases::synthetic::{RANGES, service, slice};
use pintle_testkit::Netns;
use serde_json::{Value, json};

/// A peer.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Peer {
    /// A chain for each Service and each endpoint, an anonymous map in each Service's
    Nft,
    /// Chains of rules, walked one by one
    Iptables,
}

impl Peer {
    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Iptables => "iptables",
        }
    }

    /// Its name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nft => "kube-proxy's nftables layout, nft",
            Self::Iptables => "kube-proxy's iptables layout, iptables-legacy-restore",
        }
    }

    fn command(self) -> Command {
        match self {
            Self::Nft => {
                let mut command = Command::new("nft");
                command.args(["-f", "-"]);
                command
            }
            Self::Iptables => {
                let mut command = Command::new("iptables-legacy-restore");
                command.args(["--noflush", "--wait"]);
                command
            }
        }
    }
}

/// What of a Service the rules need.
struct Serving {
    name: String,
    ip: String,
    endpoints: Vec<String>,
}

fn serving(n: u32, endpoints: u32, from: u32) -> Serving {
    let ip = service(n).spec.and_then(|s| s.cluster_ip).unwrap_or_default();
    let endpoints = slice(n, endpoints, from).endpoints.into_iter().flatten().flat_map(|e| e.addresses).collect();
    Serving { name: format!("{n:08X}"), ip, endpoints }
}

/// Installs so many Services in the calling thread's namespace; milliseconds.
pub fn load(peer: Peer, services: u32, endpoints: u32) -> Result<f64> {
    let all: Vec<Serving> = (0..services).map(|n| serving(n, endpoints, 0)).collect();
    give(peer, &text(peer, &all))
}

fn text(peer: Peer, all: &[Serving]) -> String {
    match peer {
        Peer::Nft => {
            let mut out = nft_frame();
            all.iter().for_each(|s| nft_service(&mut out, s));
            out
        }
        Peer::Iptables => iptables_all(all),
    }
}

/// Takes the reading.
pub fn measure(peer: Peer, services: u32, endpoints: u32) -> Result<Value> {
    let _netns = Netns::fresh();
    let mut all: Vec<Serving> = (0..services).map(|n| serving(n, endpoints, 0)).collect();
    let load_ms = give(peer, &text(peer, &all))?;
    // ru_maxrss is in KiB on Linux.
    let peak_mb = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss() as f64 * 1024.0 / 1e6;
    let again = match peer {
        Peer::Nft => format!("delete table ip kube-proxy\n{}", text(peer, &all)),
        Peer::Iptables => text(peer, &all),
    };
    let again_ms = give(peer, &again)?;
    all.push(serving(services, endpoints, 0));
    let add = match peer {
        Peer::Nft => {
            let mut out = String::new();
            nft_service(&mut out, &all[all.len() - 1]);
            out
        }
        Peer::Iptables => iptables_some(&all, all.len() - 1),
    };
    let add_ms = give(peer, &add)?;
    let at = all.len() / 2;
    let gone = all[at].endpoints[0].clone();
    all[at] = serving(u32::try_from(at)?, endpoints, 1);
    let change = match peer {
        Peer::Nft => nft_change(&all[at], &gone),
        Peer::Iptables => iptables_some(&all, at),
    };
    let change_ms = give(peer, &change)?;
    Ok(json!({
        "load_ms": load_ms, "again_ms": again_ms, "add_ms": add_ms, "change_ms": change_ms, "peak_mb": peak_mb,
    }))
}

fn give(peer: Peer, text: &str) -> Result<f64> {
    let begin = Instant::now();
    let mut child = peer
        .command()
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {}", peer.word()))?;
    child.stdin.take().context("piped above")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}: {}", peer.word(), String::from_utf8_lossy(&output.stderr));
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

fn nft_frame() -> String {
    let services = RANGES[1];
    format!(
        "add table ip kube-proxy
add set ip kube-proxy cluster-ips {{ type ipv4_addr; }}
add map ip kube-proxy service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
add map ip kube-proxy no-endpoint-services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
add chain ip kube-proxy mark-for-masquerade
add rule ip kube-proxy mark-for-masquerade meta mark set meta mark or 0x4000
add chain ip kube-proxy cluster-ips-check
add rule ip kube-proxy cluster-ips-check ip daddr @cluster-ips reject
add rule ip kube-proxy cluster-ips-check ip daddr {services} drop
add chain ip kube-proxy endpoints-check
add rule ip kube-proxy endpoints-check ip daddr . meta l4proto . th dport vmap @no-endpoint-services
add chain ip kube-proxy filter-forward {{ type filter hook forward priority 0; }}
add rule ip kube-proxy filter-forward ct state new jump endpoints-check
add rule ip kube-proxy filter-forward ct state new jump cluster-ips-check
add chain ip kube-proxy services
add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
add chain ip kube-proxy nat-prerouting {{ type nat hook prerouting priority -100; }}
add rule ip kube-proxy nat-prerouting jump services
add chain ip kube-proxy nat-output {{ type nat hook output priority -100; }}
add rule ip kube-proxy nat-output jump services
add chain ip kube-proxy masquerading
add rule ip kube-proxy masquerading meta mark & 0x4000 == 0 return
add rule ip kube-proxy masquerading meta mark set meta mark ^ 0x4000
add rule ip kube-proxy masquerading masquerade fully-random
add chain ip kube-proxy nat-postrouting {{ type nat hook postrouting priority 100; }}
add rule ip kube-proxy nat-postrouting jump masquerading
"
    )
}

fn nft_endpoint(out: &mut String, service: &Serving, ip: &str) -> String {
    let chain = format!("endpoint-{}-bench/tcp/http__{ip}/8080", service.name);
    write!(
        out,
        "add chain ip kube-proxy {chain}
add rule ip kube-proxy {chain} ip saddr {ip} jump mark-for-masquerade
add rule ip kube-proxy {chain} meta l4proto tcp dnat to {ip}:8080
"
    )
    .unwrap_or_default();
    chain
}

fn nft_rules(out: &mut String, service: &Serving, chains: &[String]) {
    let (pods, chain) = (RANGES[0], format!("service-{}-bench/tcp/http", service.name));
    let draws: Vec<String> = chains.iter().enumerate().map(|(n, c)| format!("{n} : goto {c}")).collect();
    write!(
        out,
        "add rule ip kube-proxy {chain} ip daddr {} ip saddr != {pods} jump mark-for-masquerade
add rule ip kube-proxy {chain} numgen random mod {} vmap {{ {} }}
",
        service.ip,
        chains.len(),
        draws.join(", ")
    )
    .unwrap_or_default();
}

fn nft_service(out: &mut String, service: &Serving) {
    let chain = format!("service-{}-bench/tcp/http", service.name);
    let chains: Vec<String> = service.endpoints.iter().map(|ip| nft_endpoint(out, service, ip)).collect();
    writeln!(out, "add chain ip kube-proxy {chain}").unwrap_or_default();
    nft_rules(out, service, &chains);
    write!(
        out,
        "add element ip kube-proxy cluster-ips {{ {ip} }}
add element ip kube-proxy service-ips {{ {ip} . tcp . 80 : goto {chain} }}
",
        ip = service.ip
    )
    .unwrap_or_default();
}

/// One endpoint instead of another: a new chain, the Service's rules anew, the old chain gone.
fn nft_change(service: &Serving, gone: &str) -> String {
    let mut out = String::new();
    let come = service.endpoints.last().cloned().unwrap_or_default();
    nft_endpoint(&mut out, service, &come);
    let chains: Vec<String> =
        service.endpoints.iter().map(|ip| format!("endpoint-{}-bench/tcp/http__{ip}/8080", service.name)).collect();
    writeln!(out, "flush chain ip kube-proxy service-{}-bench/tcp/http", service.name).unwrap_or_default();
    nft_rules(&mut out, service, &chains);
    let old = format!("endpoint-{}-bench/tcp/http__{gone}/8080", service.name);
    writeln!(out, "flush chain ip kube-proxy {old}\ndelete chain ip kube-proxy {old}").unwrap_or_default();
    out
}

fn iptables_frame() -> String {
    "*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
"
    .to_owned()
}

fn iptables_all(all: &[Serving]) -> String {
    let mut out = iptables_frame();
    for service in all {
        writeln!(out, ":KUBE-SVC-{} - [0:0]", service.name).unwrap_or_default();
        for n in 0..service.endpoints.len() {
            writeln!(out, ":KUBE-SEP-{}{n:X} - [0:0]", service.name).unwrap_or_default();
        }
    }
    all.iter().for_each(|s| iptables_jump(&mut out, s));
    all.iter().for_each(|s| iptables_service(&mut out, s));
    out.push_str("COMMIT\n");
    out
}

fn iptables_jump(out: &mut String, service: &Serving) {
    let (name, ip) = (&service.name, &service.ip);
    writeln!(
        out,
        "-A KUBE-SERVICES -m comment --comment \"bench/service-{name}:http cluster IP\" -m tcp -p tcp -d {ip} --dport 80 -j KUBE-SVC-{name}"
    )
    .unwrap_or_default();
}

fn iptables_service(out: &mut String, service: &Serving) {
    let (name, ip, pods) = (&service.name, &service.ip, RANGES[0]);
    let comment = format!("-m comment --comment \"bench/service-{name}:http\"");
    writeln!(out, "-A KUBE-SVC-{name} {comment} -m tcp -p tcp -d {ip} --dport 80 ! -s {pods} -j KUBE-MARK-MASQ")
        .unwrap_or_default();
    let count = service.endpoints.len();
    for (n, endpoint) in service.endpoints.iter().enumerate() {
        let random = match count - n {
            1 => String::new(),
            left => format!(" -m statistic --mode random --probability {:.10}", 1.0 / left as f64),
        };
        write!(
            out,
            "-A KUBE-SVC-{name} {comment}{random} -j KUBE-SEP-{name}{n:X}
-A KUBE-SEP-{name}{n:X} {comment} -s {endpoint} -j KUBE-MARK-MASQ
-A KUBE-SEP-{name}{n:X} {comment} -m tcp -p tcp -j DNAT --to-destination {endpoint}:8080
"
        )
        .unwrap_or_default();
    }
}

/// As kube-proxy's partial synchronisation: the common chains whole, and the changed Service's own.
fn iptables_some(all: &[Serving], changed: usize) -> String {
    let service = &all[changed];
    let mut out = iptables_frame();
    writeln!(out, ":KUBE-SVC-{} - [0:0]", service.name).unwrap_or_default();
    for n in 0..service.endpoints.len() {
        writeln!(out, ":KUBE-SEP-{}{n:X} - [0:0]", service.name).unwrap_or_default();
    }
    all.iter().for_each(|s| iptables_jump(&mut out, s));
    iptables_service(&mut out, service);
    out.push_str("COMMIT\n");
    out
}
