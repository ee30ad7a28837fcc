//! kube-proxy's nftables layout from 1.36 on, as its own tests list it: a chain for each Service with one rule, which
//! draws a server from an anonymous map; a set tells pods that reach themselves.

use std::fmt::Write as _;

use pintle_proxy_cases::synthetic::RANGES;

use super::{Serving, nft};

pub struct PerService;

impl nft::Chains for PerService {
    fn frame(&self) -> String {
        let pods = RANGES[0];
        let mut out = nft::frame();
        write!(
            out,
            "add set ip kube-proxy hairpin-connections {{ type ipv4_addr . ipv4_addr; }}
add rule ip kube-proxy nat-postrouting ip saddr . ip daddr @hairpin-connections masquerade fully-random
insert rule ip kube-proxy services ip daddr @cluster-ips ip saddr != {pods} jump mark-for-masquerade
"
        )
        .unwrap_or_default();
        out
    }

    fn service(&self, out: &mut String, service: &Serving) {
        write_service(out, service);
    }

    fn changed(&self, service: &Serving, _gone: &str) -> String {
        let mut out = format!("flush chain ip kube-proxy {}\n", chain(service));
        rule(&mut out, service);
        out
    }
}

fn chain(service: &Serving) -> String {
    format!("service-{}-bench/tcp/http", service.name)
}

fn rule(out: &mut String, service: &Serving) {
    let servers: Vec<String> =
        service.endpoints.iter().enumerate().map(|(n, ip)| format!("{n} : {ip} . 8080")).collect();
    writeln!(
        out,
        "add rule ip kube-proxy {} meta l4proto tcp dnat ip addr . port to numgen random mod {} map {{ {} }}",
        chain(service),
        servers.len(),
        servers.join(", ")
    )
    .unwrap_or_default();
}

fn write_service(out: &mut String, service: &Serving) {
    let chain = chain(service);
    writeln!(out, "add chain ip kube-proxy {chain}").unwrap_or_default();
    rule(out, service);
    // Every tenth endpoint is on this node.
    for ip in service.endpoints.iter().step_by(10) {
        writeln!(out, "add element ip kube-proxy hairpin-connections {{ {ip} . {ip} }}").unwrap_or_default();
    }
    write!(
        out,
        "add element ip kube-proxy cluster-ips {{ {ip} }}
add element ip kube-proxy service-ips {{ {ip} . tcp . 80 : goto {chain} }}
",
        ip = service.ip
    )
    .unwrap_or_default();
}
