//! Network: what the kernel can, and whether somebody is in the way. Looks into a throw-away namespace, so that
//! nothing of the machine's own is touched.

use super::{Context, Finding};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use pintle_proxy::connect_time::Options;
use std::net::{Ipv4Addr, TcpListener};

/// API server, kubelet, kubelet health, proxy health.
const PORTS: &[u16] = &[6443, 10250, 10248, 10256];

pub(super) fn nf_tables(_: &Context) -> Finding {
    match socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter) {
        Ok(_) => Finding::Good("netlink socket opens".into()),
        Err(e) => Finding::Missing {
            what: format!("socket(AF_NETLINK, NETLINK_NETFILTER): {e}"),
            hint: "use a kernel with CONFIG_NF_TABLES; Services are rules in it",
        },
    }
}

/// Nothing needs it: without, whoever asks for `--connect-time=on` is told.
pub(super) fn connect_time(_: &Context) -> Finding {
    match pintle_proxy::connect_time::ConnectTime::open(&Options::default(), false) {
        Ok(_) => Finding::Good("eBPF on cgroup v2 works, for --connect-time".into()),
        Err(e) => Finding::Good(format!("not for --connect-time, which is optional: {e}")),
    }
}

pub(super) fn veth(_: &Context) -> Finding {
    if !nix::unistd::geteuid().is_root() {
        return Finding::Costs { what: "not looked at".into(), cost: "unknown", hint: "run the check as root" };
    }
    match pintle_sys::netns::fresh() {
        Ok(_) => Finding::Good("a network namespace can be made".into()),
        Err(e) => Finding::Missing {
            what: format!("unshare(CLONE_NEWNET): {e}"),
            hint: "run as root on a kernel with CONFIG_NET_NS and CONFIG_VETH",
        },
    }
}

pub(super) fn ports(context: &Context) -> Finding {
    if !context.host_network {
        return Finding::Good("the node has a network namespace of its own".into());
    }
    let busy: Vec<String> = PORTS
        .iter()
        .filter_map(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).err().map(|e| format!("{port} ({e})")))
        .collect();
    if busy.is_empty() {
        Finding::Good("6443, 10250, 10248, 10256 are free".into())
    } else {
        let hint = "`ss -ltnp` names who listens there; stop it (or pintle itself: `pintle down`)";
        Finding::Missing { what: format!("in use: {}", busy.join(", ")), hint }
    }
}
