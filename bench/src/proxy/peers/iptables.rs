//! kube-proxy's iptables layout: chains of rules, walked one by one.

use std::fmt::Write as _;

use pintle_proxy_cases::synthetic::RANGES;

use super::{Layout, Serving};

pub struct Iptables;

impl Layout for Iptables {
    fn program(&self) -> &'static [&'static str] {
        &["iptables-legacy-restore", "--noflush", "--wait"]
    }

    fn all(&self, all: &[Serving]) -> String {
        everything(all)
    }

    fn again(&self, all: &[Serving]) -> String {
        everything(all)
    }

    fn add(&self, all: &[Serving]) -> String {
        some(all, all.len() - 1)
    }

    fn change(&self, all: &[Serving], at: usize, _gone: &str) -> String {
        some(all, at)
    }
}

fn frame() -> String {
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

fn everything(all: &[Serving]) -> String {
    let mut out = frame();
    for service in all {
        writeln!(out, ":KUBE-SVC-{} - [0:0]", service.name).unwrap_or_default();
        for n in 0..service.endpoints.len() {
            writeln!(out, ":KUBE-SEP-{}{n:X} - [0:0]", service.name).unwrap_or_default();
        }
    }
    all.iter().for_each(|s| jump(&mut out, s));
    all.iter().for_each(|s| rules(&mut out, s));
    out.push_str("COMMIT\n");
    out
}

fn jump(out: &mut String, service: &Serving) {
    let (name, ip) = (&service.name, &service.ip);
    writeln!(
        out,
        "-A KUBE-SERVICES -m comment --comment \"bench/service-{name}:http cluster IP\" -m tcp -p tcp -d {ip} --dport 80 -j KUBE-SVC-{name}"
    )
    .unwrap_or_default();
}

fn rules(out: &mut String, service: &Serving) {
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
fn some(all: &[Serving], changed: usize) -> String {
    let service = &all[changed];
    let mut out = frame();
    writeln!(out, ":KUBE-SVC-{} - [0:0]", service.name).unwrap_or_default();
    for n in 0..service.endpoints.len() {
        writeln!(out, ":KUBE-SEP-{}{n:X} - [0:0]", service.name).unwrap_or_default();
    }
    all.iter().for_each(|s| jump(&mut out, s));
    rules(&mut out, service);
    out.push_str("COMMIT\n");
    out
}
