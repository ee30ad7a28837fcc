//! The table of what users expect, replayed with real connections in namespaces: what `pintle-proxy-plan` walks with
//! imaginary packets. Every client asks; who answers, and whose address it saw, must be what the table says.

use std::net::SocketAddr;
use std::time::Duration;

use pintle_net::nfnetlink::conntrack::Conntrack;
use pintle_nft::{Family, Proto};
use pintle_proxy::backend::Backend;
use pintle_proxy::forward::Limits;
use pintle_proxy::iptables_backend::IptablesBackend;
use pintle_proxy::kernel::Netlink;
use pintle_proxy::nft_backend::NftBackend;
use pintle_proxy::userspace_backend::UserspaceBackend;
use pintle_proxy::xtables::{Tools, Variant};
use pintle_proxy_cases::{Case, Client, Destination, Row, Sees, Setting, Want, World, cases};
use pintle_proxy_plan::{Change, Config, DetectLocal, Masquerade, NodePortAddresses};

use crate::sctp;
use crate::star::{BRIDGE, Got, Links, NodePort, Star, Transport, is_known};

/// How long an answer may take on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long silence is listened to.
const SILENCE: Duration = Duration::from_millis(120);
/// Each packet draws its server anew.
const TRIES: usize = 3;

fn config(world: &World, links: Links, case: &Case) -> Config {
    let range = |text: &str| vec![text.parse().unwrap()];
    let mut config = Config {
        node_addrs: vec![world.node],
        zone: Some(World::ZONE.into()),
        ..Config::new(World::NODE, range(world.pods), range(world.services))
    };
    for setting in &case.config {
        match setting {
            Setting::MasqueradeAll => config.masquerade = Masquerade::All,
            Setting::NodePortsElsewhere => {
                config.node_port_addresses = NodePortAddresses::In(range(world.around_outside));
            }
            Setting::PodsByInterface => {
                config.detect_local = DetectLocal::InterfaceNamePrefix(World::POD_INTERFACES.into());
            }
            Setting::NoPodRanges => config.cluster_ranges = Vec::new(),
        }
    }
    // By their bridge pods can be told in every case but that in which they cannot.
    if links == Links::Bridged && !case.config.contains(&Setting::NoPodRanges) {
        config.detect_local = DetectLocal::BridgeInterface(BRIDGE.into());
    }
    config
}

/// Whether what happened is what the row wants.
fn is_right(star: &Star, case: &Case, row: &Row, got: &Got) -> bool {
    let source = star.world.source(row.from, |name| case.is_here(name));
    if star.transport() == Transport::Sctp {
        match (&row.want, got) {
            // Linux' SCTP takes an unreachable port for something that may pass, and asks again.
            (Want::Reject, Got::Silence) => return true,
            // And it does not speak from a real address to the loopback one.
            (Want::Untouched, Got::Silence) if row.to == Destination::NodePortLoopback => return true,
            _ => {}
        }
    }
    match (&row.want, got) {
        (Want::Reject, Got::Refused) | (Want::Drop, Got::Silence) => true,
        (Want::Untouched, Got::Answer(name, _)) => *name == star.owner(row.to),
        (Want::Servers(servers), Got::Answer(name, saw)) => servers.iter().any(|server| {
            let sees = match server.sees {
                Sees::Sender => source,
                Sees::Machine => star.world.node,
            };
            *name == server.name.to_string() && *saw == sees
        }),
        _ => false,
    }
}

/// Asks as the row says; everything that went otherwise.
fn ask(star: &Star, case: &Case, row: &Row) -> Vec<String> {
    let here = |name| case.is_here(name);
    let (source, to) = (star.world.source(row.from, here), star.world.destination(row.to, here));
    let (tries, wait) = match row.want {
        Want::Servers(_) => (TRIES, PATIENCE),
        Want::Reject if star.transport() == Transport::Sctp => (1, SILENCE),
        Want::Reject | Want::Untouched => (1, PATIENCE),
        Want::Drop => (1, SILENCE),
    };
    let got = (0..tries).map(|_| star.ask(row.from, source, SocketAddr::from(to), wait));
    let wrong = got.filter(|got| !is_right(star, case, row, got));
    wrong.map(|got| format!("line {} ({}): {row:?}: {got:?}", row.line, case.title)).collect()
}

/// Who serves.
#[derive(Clone, Copy, Debug)]
enum By {
    Nftables,
    Iptables(Variant),
    Userspace,
}

impl By {
    /// In the namespace of the calling thread, and within a runtime.
    fn backend(self, config: Config, family: Family) -> Box<dyn Backend> {
        match self {
            Self::Nftables => Box::new(NftBackend::new(config, &[family], Netlink::open().unwrap())),
            Self::Iptables(variant) => {
                let tools = Tools::find(variant).expect("iptables is needed (package iptables)");
                Box::new(IptablesBackend::new(config, &[family], tools))
            }
            Self::Userspace => Box::new(UserspaceBackend::new(config, &[family], Limits::alone(1 << 14)).unwrap()),
        }
    }

    /// A row as it holds then.
    fn row(self, case: &Case, row: &Row) -> Row {
        match self {
            Self::Nftables | Self::Iptables(_) => row.clone(),
            Self::Userspace => case.in_userspace(row),
        }
    }

    /// Whether another process of the node can have the node port besides.
    fn node_port(self) -> NodePort {
        match self {
            Self::Nftables | Self::Iptables(_) => NodePort::Taken,
            Self::Userspace => NodePort::Free,
        }
    }
}

fn replay(by: By, world: World, transport: Transport, proto: Proto) {
    replay_over(Links::Routed, by, world, transport, proto);
}

fn replay_over(links: Links, by: By, world: World, transport: Transport, proto: Proto) {
    if !pintle_testkit::require_root("real packets") {
        return;
    }
    if !is_known(transport) {
        assert!(std::env::var_os(sctp::MUST).is_none(), "the VM's kernel has {transport:?}");
        eprintln!("SKIPPED: this kernel has no {transport:?}; the table is not replayed with it");
        return;
    }
    let family = Family::of(world.node);
    let star = Star::new(world, transport, links, by.node_port());
    // Its threads are made here, and so in this namespace.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _within = runtime.enter();
    let first = config(&star.world, links, &cases()[0]);
    let mut backend = by.backend(first, family);
    let mut conntrack = Conntrack::open().unwrap();
    let mut wrong = Vec::new();
    for case in cases() {
        backend.reconfigure(config(&star.world, links, &case));
        backend.note(Change::Service(&case.service(&star.world, &proto.name().to_uppercase())));
        backend.note(Change::Slice(&case.slice(&star.world, &proto.name().to_uppercase())));
        let report = backend.sync();
        assert!(report.is_installed() && !report.wants_retry(), "{}: {report:?}", case.title);
        // No client goes on where it was in the case before.
        if proto != Proto::Tcp {
            for flow in conntrack.flows(family, |flow| flow.proto == proto).unwrap() {
                // It may have run out by itself.
                drop(conntrack.delete(&flow));
            }
        }
        let (apart, together): (Vec<Row>, Vec<Row>) =
            case.rows.iter().map(|row| by.row(&case, row)).partition(|row| row.from == Client::NodeAsLoadBalancer);
        let (star, case) = (&star, &case);
        std::thread::scope(|scope| {
            let threads: Vec<_> = together.iter().map(|row| scope.spawn(move || ask(star, case, row))).collect();
            wrong.extend(threads.into_iter().flat_map(|thread| thread.join().unwrap()));
        });
        for row in apart {
            star.node_has(star.world.load_balancer, true);
            wrong.extend(ask(star, case, &row));
            star.node_has(star.world.load_balancer, false);
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_table_holds_for_real_tcp_over_ipv4() {
    replay(By::Nftables, World::v4(), Transport::Tcp, Proto::Tcp);
}

#[test]
fn the_table_holds_for_real_tcp_over_ipv6() {
    replay(By::Nftables, World::v6(), Transport::Tcp, Proto::Tcp);
}

#[test]
fn the_table_holds_where_pods_are_told_by_their_bridge_over_ipv4() {
    replay_over(Links::Bridged, By::Nftables, World::v4(), Transport::Tcp, Proto::Tcp);
}

#[test]
fn the_table_holds_where_pods_are_told_by_their_bridge_over_ipv6() {
    replay_over(Links::Bridged, By::Nftables, World::v6(), Transport::Tcp, Proto::Tcp);
}

#[test]
fn the_table_holds_where_pods_are_told_by_their_bridge_by_iptables() {
    replay_over(Links::Bridged, By::Iptables(Variant::Legacy), World::v4(), Transport::Tcp, Proto::Tcp);
}

#[test]
fn the_table_holds_for_real_udp_over_ipv4() {
    replay(By::Nftables, World::v4(), Transport::Udp, Proto::Udp);
}

#[test]
fn the_table_holds_for_real_udp_over_ipv6() {
    replay(By::Nftables, World::v6(), Transport::Udp, Proto::Udp);
}

#[test]
fn the_table_holds_for_real_sctp_over_ipv4_where_the_kernel_has_it() {
    replay(By::Nftables, World::v4(), Transport::Sctp, Proto::Sctp);
}

#[test]
fn the_table_holds_for_real_sctp_over_ipv6_where_the_kernel_has_it() {
    replay(By::Nftables, World::v6(), Transport::Sctp, Proto::Sctp);
}

#[test]
fn the_table_holds_for_real_tcp_over_ipv4_by_iptables() {
    replay(By::Iptables(Variant::Legacy), World::v4(), Transport::Tcp, Proto::Tcp);
}

#[test]
fn the_table_holds_for_real_tcp_over_ipv6_by_iptables() {
    replay(By::Iptables(Variant::Legacy), World::v6(), Transport::Tcp, Proto::Tcp);
}

#[test]
fn the_table_holds_for_real_udp_over_ipv4_by_iptables() {
    replay(By::Iptables(Variant::Legacy), World::v4(), Transport::Udp, Proto::Udp);
}

#[test]
fn the_table_holds_for_real_udp_over_ipv6_by_iptables() {
    replay(By::Iptables(Variant::Legacy), World::v6(), Transport::Udp, Proto::Udp);
}

#[test]
fn the_table_holds_for_real_tcp_by_iptables_over_nf_tables() {
    replay(By::Iptables(Variant::Nft), World::v4(), Transport::Tcp, Proto::Tcp);
}

#[test]
fn the_table_holds_for_real_tcp_over_ipv4_in_userspace() {
    replay(By::Userspace, World::v4(), Transport::Tcp, Proto::Tcp);
}

#[test]
fn the_table_holds_for_real_udp_over_ipv4_in_userspace() {
    replay(By::Userspace, World::v4(), Transport::Udp, Proto::Udp);
}

#[test]
fn the_table_holds_for_real_tcp_over_ipv6_in_userspace() {
    replay(By::Userspace, World::v6(), Transport::Tcp, Proto::Tcp);
}

#[test]
fn the_table_holds_for_real_udp_over_ipv6_in_userspace() {
    replay(By::Userspace, World::v6(), Transport::Udp, Proto::Udp);
}
