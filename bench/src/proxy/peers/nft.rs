//! kube-proxy's nftables layouts: what they have in common, and the one up to 1.35, with a chain for each Service and
//! each endpoint and an anonymous verdict map in each Service's.

use std::fmt::Write as _;

use pintle_proxy_cases::synthetic::RANGES;

use super::{Layout, Serving};

/// What one of the layouts does in its own way.
pub trait Chains {
    /// What no Service changes.
    fn frame(&self) -> String;

    /// Writes a Service.
    fn service(&self, out: &mut String, service: &Serving);

    /// One endpoint instead of another.
    fn changed(&self, service: &Serving, gone: &str) -> String;
}

/// A layout, as text for `nft`.
pub struct Table<C>(pub C);

impl<C: Chains> Layout for Table<C> {
    fn program(&self) -> &'static [&'static str] {
        &["nft", "-f", "-"]
    }

    fn all(&self, all: &[Serving]) -> String {
        let mut out = self.0.frame();
        all.iter().for_each(|s| self.0.service(&mut out, s));
        out
    }

    fn again(&self, all: &[Serving]) -> String {
        format!("delete table ip kube-proxy\n{}", self.all(all))
    }

    fn add(&self, all: &[Serving]) -> String {
        let mut out = String::new();
        all.last().into_iter().for_each(|s| self.0.service(&mut out, s));
        out
    }

    fn change(&self, all: &[Serving], at: usize, gone: &str) -> String {
        self.0.changed(&all[at], gone)
    }
}

/// The layout up to 1.35.
pub struct PerEndpoint;

impl Chains for PerEndpoint {
    fn frame(&self) -> String {
        frame()
    }

    fn service(&self, out: &mut String, service: &Serving) {
        write_service(out, service);
    }

    fn changed(&self, service: &Serving, gone: &str) -> String {
        changed(service, gone)
    }
}

pub fn frame() -> String {
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

fn endpoint(out: &mut String, service: &Serving, ip: &str) -> String {
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

fn rules(out: &mut String, service: &Serving, chains: &[String]) {
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

fn write_service(out: &mut String, service: &Serving) {
    let chain = format!("service-{}-bench/tcp/http", service.name);
    let chains: Vec<String> = service.endpoints.iter().map(|ip| endpoint(out, service, ip)).collect();
    writeln!(out, "add chain ip kube-proxy {chain}").unwrap_or_default();
    rules(out, service, &chains);
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
fn changed(service: &Serving, gone: &str) -> String {
    let mut out = String::new();
    let come = service.endpoints.last().cloned().unwrap_or_default();
    endpoint(&mut out, service, &come);
    let chains: Vec<String> =
        service.endpoints.iter().map(|ip| format!("endpoint-{}-bench/tcp/http__{ip}/8080", service.name)).collect();
    writeln!(out, "flush chain ip kube-proxy service-{}-bench/tcp/http", service.name).unwrap_or_default();
    rules(&mut out, service, &chains);
    let old = format!("endpoint-{}-bench/tcp/http__{gone}/8080", service.name);
    writeln!(out, "flush chain ip kube-proxy {old}\ndelete chain ip kube-proxy {old}").unwrap_or_default();
    out
}
