//! Services at connect time: the programs in the real kernel, on a cgroup of the test's own. Where no packet filter is
//! loaded beside them, whatever they leave alone goes unanswered, so an answer is theirs.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pintle_net::netns;
use pintle_nft::Family;
use pintle_proxy::ProxyConfig;
use pintle_proxy::connect_time::{ConnectTime, Extent, Options, Wanted};
use pintle_proxy_plan::{Change, Config, Planner, ServiceMap};
use pintle_sys::bpf::{Hook, programs};
use pintle_testkit::{Cgroup, eventually};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, SERVICES, SLICES};
use crate::objects::{service, slice, web};
use crate::running::{is_error, start_with};
use crate::vm;
use crate::world::{NODE, World, ask, ask_again, ask_from, block_on, serve, world};

/// How long anything may take on a machine that does other things too.
const LIMIT: Duration = Duration::from_secs(30);
const HOOKS: [Hook; 8] = [
    Hook::Connect4,
    Hook::Connect6,
    Hook::SendMsg4,
    Hook::SendMsg6,
    Hook::RecvMsg4,
    Hook::RecvMsg6,
    Hook::PeerName4,
    Hook::PeerName6,
];

fn options(cgroup: &Cgroup) -> Options {
    Options { wanted: Wanted::On, cgroup: Some(cgroup.dir().to_owned()), pods: Vec::new() }
}

/// How many programs are on hooks of a cgroup, and of that of pods below it.
fn attached(cgroup: &Cgroup) -> [usize; 2] {
    [cgroup.dir(), &cgroup.pods()].map(|dir| {
        let dir = fs::File::open(dir).unwrap();
        HOOKS.iter().map(|hook| programs(&dir, *hook).unwrap().len()).sum()
    })
}

/// Services of both families and the programs that serve them.
struct Lab {
    planners: [Planner; 2],
    connect: ConnectTime,
}

impl Lab {
    fn new(cgroup: &Cgroup) -> Self {
        let ranges = |texts: [&str; 2]| texts.iter().map(|t| t.parse().unwrap()).collect();
        let config =
            Config::new("here", ranges(["10.42.0.0/16", "fd00:42::/32"]), ranges(["10.43.0.0/16", "fd00:43::/32"]));
        let planners = [Family::V4, Family::V6].map(|f| Planner::new(config.for_family(f)));
        Self { planners, connect: ConnectTime::open(&options(cgroup), true).unwrap() }
    }

    /// Carries out changes; how many operations it took.
    fn note(&mut self, changes: &[Change<'_>]) -> usize {
        let mut concerned = BTreeSet::new();
        for planner in &mut self.planners {
            changes.iter().for_each(|c| planner.note(*c));
            concerned.extend(planner.absorb().concerned);
        }
        let maps: Vec<&ServiceMap> = self.planners.iter().map(Planner::map).collect();
        self.connect.follow(&maps, &concerned, Extent::Changes).unwrap()
    }
}

fn ip(args: &[&str]) {
    assert!(Command::new("ip").args(args).status().expect("ip is needed (package iproute2)").success(), "ip {args:?}");
}

/// A question, and whom the socket says it spoke with.
fn ask_named(to: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_millis(700))?;
    let peer = stream.peer_addr()?.to_string();
    Ok((ask_again(&mut stream)?, peer))
}

/// A datagram from an unconnected socket: who answered, and from where.
fn ask_unconnected(socket: &UdpSocket, to: &str) -> std::io::Result<(String, String)> {
    socket.set_read_timeout(Some(Duration::from_millis(1500)))?;
    socket.send_to(b"?", to)?;
    let mut buffer = [0; 128];
    let (n, from) = socket.recv_from(&mut buffer)?;
    let answer = String::from_utf8_lossy(&buffer[..n]).into_owned();
    Ok((answer.split(' ').next().unwrap().to_owned(), from.to_string()))
}

fn anywhere(v6: bool) -> UdpSocket {
    UdpSocket::bind((if v6 { "::" } else { "0.0.0.0" }, 0)).unwrap()
}

/// Two pods that serve TCP and UDP, and a node that has IPv6 servers itself.
fn servers(world: &World) -> PathBuf {
    for addr in ["10.42.0.2", "10.42.0.3"] {
        serve(&world.pod(addr), addr, 8080);
    }
    ip(&["addr", "add", "fd00:42::2/128", "dev", "lo", "nodad"]);
    serve(Path::new("/proc/thread-self/ns/net"), "fd00:42::2", 8080);
    world.pod("10.42.0.9")
}

fn both(name: &str, cluster_ip: &str, more: serde_json::Value) -> k8s_openapi::api::core::v1::Service {
    let mut spec = json!({"ports": [
        {"name": "http", "port": 80, "nodePort": 30080},
        {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
    ]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    service(name, cluster_ip, spec)
}

fn dns(name: &str, endpoints: &[&str]) -> k8s_openapi::api::discovery::v1::EndpointSlice {
    let mut slice = slice(name, ("dns", "UDP", 8080), endpoints);
    slice.metadata.name = Some(format!("{name}-dns"));
    slice
}

#[test]
fn sockets_of_the_node_and_of_pods_reach_endpoints_and_see_virtual_addresses() {
    let Some(world) = world("eBPF on a cgroup") else { return };
    let cgroup = Cgroup::enter();
    let client = servers(&world);
    let mut lab = Lab::new(&cgroup);
    assert_eq!(attached(&cgroup), [0, 0], "finding out attaches nothing");
    let two = ["10.42.0.2@here", "10.42.0.3@here"];
    let more = json!({"type": "NodePort", "externalIPs": ["198.51.100.1"]});
    let six = both("six", "fd00:43::10", json!({"type": "ClusterIP"}));
    lab.note(&[
        Change::Service(&both("web", "10.43.0.10", more)),
        Change::Slice(&web("web", &two)),
        Change::Slice(&dns("web", &two)),
        Change::Service(&six),
        Change::Slice(&web("six", &["fd00:42::2@here"])),
        Change::Slice(&dns("six", &["fd00:42::2@here"])),
    ]);
    assert_eq!(attached(&cgroup), [8, 4]);

    // TCP of the node: by all its addresses, and by IPv4 of an IPv6 socket.
    for to in
        ["10.43.0.10:80", "198.51.100.1:80", &format!("{NODE}:30080"), "127.0.0.1:30080", "[::ffff:10.43.0.10]:80"]
    {
        let answers: BTreeSet<_> = (0..30).map(|_| ask_named(to).unwrap()).collect();
        let expected = ["10.42.0.2", "10.42.0.3"].map(|s| (format!("{s} {NODE}"), to.to_owned()));
        assert_eq!(answers, BTreeSet::from(expected), "{to}");
    }
    let (answer, peer) = ask_named("[fd00:43::10]:80").unwrap();
    assert_eq!((answer.split(' ').next(), peer.as_str()), (Some("fd00:42::2"), "[fd00:43::10]:80"));
    // Endpoints themselves are not touched.
    assert_eq!(ask_named("10.42.0.2:8080").unwrap().1, "10.42.0.2:8080");

    // UDP: each socket keeps its server, several have several; answers come from where they were asked for.
    for (to, v6) in [("10.43.0.10:53", false), ("[::ffff:10.43.0.10]:53", true), (&format!("{NODE}:30053"), false)] {
        let sockets: Vec<UdpSocket> = (0..20).map(|_| anywhere(v6)).collect();
        let ask_all = || -> Vec<_> { sockets.iter().map(|s| ask_unconnected(s, to).unwrap()).collect() };
        let first = ask_all();
        assert!(first.iter().all(|(_, from)| from == to), "{first:?}");
        assert_eq!(first.iter().map(|(server, _)| server).collect::<BTreeSet<_>>().len(), 2, "{first:?}");
        assert_eq!(ask_all(), first);
    }
    assert_eq!(
        ask_unconnected(&anywhere(true), "[fd00:43::10]:53").unwrap(),
        ("fd00:42::2".into(), "[fd00:43::10]:53".into())
    );

    // A pod: by the ClusterIP, with its own address; nothing else is for it.
    assert!(ask_from(&client, "10.43.0.10:80").unwrap().ends_with(" 10.42.0.9"));
    let named = netns::run_blocking(&client, || {
        (ask_named("10.43.0.10:80").unwrap().1, ask_unconnected(&anywhere(false), "10.43.0.10:53").unwrap().1)
    });
    assert_eq!(named.unwrap(), ("10.43.0.10:80".into(), "10.43.0.10:53".into()));
    for to in ["198.51.100.1:80", "127.0.0.1:30080", &format!("{NODE}:30080")] {
        assert!(ask_from(&client, to).is_err(), "{to}");
    }
}

#[test]
fn what_is_the_packet_filters_is_left_alone() {
    let Some(world) = world("eBPF on a cgroup") else { return };
    let cgroup = Cgroup::enter();
    servers(&world);
    let mut lab = Lab::new(&cgroup);
    let here = ["10.42.0.2@here"];
    let there = ["10.42.1.2"];
    let balanced = json!({
        "type": "LoadBalancer", "ingress": [{"ip": "198.51.100.2"}], "loadBalancerSourceRanges": ["203.0.113.0/24"],
    });
    let objects = [
        (service("plain", "10.43.0.10", balanced), web("plain", &here)),
        (service("sticky", "10.43.0.11", json!({"sessionAffinity": "ClientIP"})), web("sticky", &here)),
        (service("empty", "10.43.0.12", json!({})), web("empty", &[])),
        (service("local", "10.43.0.13", json!({"internalTrafficPolicy": "Local"})), web("local", &there)),
    ];
    let changes: Vec<Change<'_>> = objects.iter().flat_map(|(s, e)| [Change::Service(s), Change::Slice(e)]).collect();
    lab.note(&changes);
    assert!(ask("10.43.0.10:80").is_ok());
    for to in ["198.51.100.2:80", "10.43.0.11:80", "10.43.0.12:80", "10.43.0.13:80"] {
        assert!(ask(to).is_err(), "{to}");
    }
    // Sockets whose address was chosen for them, and connected UDP: the kernel routes these to the virtual address.
    let bound = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    let node: IpAddr = NODE.parse().unwrap();
    rustix::net::bind(&bound, &SocketAddr::new(node, 0)).unwrap();
    let wait = Some(Duration::from_millis(500));
    rustix::net::sockopt::set_socket_timeout(&bound, rustix::net::sockopt::Timeout::Send, wait).unwrap();
    assert!(rustix::net::connect(&bound, &"10.43.0.10:80".parse::<SocketAddr>().unwrap()).is_err());

    // A Service that comes to want affinity is let go of, and one that has endpoints again is taken up.
    let sticky = service("plain", "10.43.0.10", json!({"sessionAffinity": "ClientIP"}));
    lab.note(&[Change::Service(&sticky), Change::Slice(&web("empty", &here))]);
    assert!(ask("10.43.0.10:80").is_err());
    assert!(ask("10.43.0.12:80").is_ok());
    lab.note(&[Change::ServiceGone(&service("empty", "10.43.0.12", json!({})))]);
    assert!(ask("10.43.0.12:80").is_err());
    assert_eq!(lab.connect.count(Family::V4), 0);
}

#[test]
fn endpoints_change_under_load_and_no_connection_fails_or_goes_astray() {
    let Some(world) = world("eBPF on a cgroup") else { return };
    let cgroup = Cgroup::enter();
    let all = ["10.42.0.2", "10.42.0.3", "10.42.0.4"];
    for addr in all {
        serve(&world.pod(addr), addr, 8080);
    }
    let mut lab = Lab::new(&cgroup);
    let endpoints = |round: usize| -> Vec<String> {
        // One, two, three of them, never the same twice running.
        (0..=round % 3).map(|n| format!("{}@here", all[(round / 2 + n) % 3])).collect()
    };
    let slice_of = |round| {
        let listed = endpoints(round);
        web("web", &listed.iter().map(String::as_str).collect::<Vec<_>>())
    };
    lab.note(&[Change::Service(&service("web", "10.43.0.10", json!({}))), Change::Slice(&slice_of(0))]);

    // The rounds whose endpoints a connection may meet: what is installed, and what is being installed.
    let (installed, coming) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (done, wrong) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let asked = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let from = installed.load(Ordering::SeqCst);
                    let answer = ask("10.43.0.10:80");
                    let to = coming.load(Ordering::SeqCst);
                    let server = answer.as_ref().ok().and_then(|a| Some(format!("{}@here", a.split(' ').next()?)));
                    asked.fetch_add(1, Ordering::SeqCst);
                    if !server.is_some_and(|s| (from..=to).any(|round| endpoints(round).contains(&s))) {
                        wrong.lock().unwrap().push((from, to, format!("{answer:?}")));
                    }
                }
            });
        }
        for round in 1..600 {
            coming.store(round, Ordering::SeqCst);
            lab.note(&[Change::Slice(&slice_of(round))]);
            installed.store(round, Ordering::SeqCst);
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(*wrong.lock().unwrap(), []);
    assert!(asked.load(Ordering::SeqCst) > 50, "{asked:?} connections");
}

#[test]
fn datagrams_move_on_when_their_server_stops_answering_and_not_before() {
    let Some(world) = world("eBPF on a cgroup") else { return };
    let cgroup = Cgroup::enter();
    servers(&world);
    let mut lab = Lab::new(&cgroup);
    lab.note(&[
        Change::Service(&both("dns", "10.43.0.10", json!({}))),
        Change::Slice(&dns("dns", &["10.42.0.2@here"])),
    ]);
    let socket = anywhere(false);
    let ask = || ask_unconnected(&socket, "10.43.0.10:53").unwrap();
    let from = |server: &str| (server.to_owned(), "10.43.0.10:53".to_owned());
    assert_eq!(ask(), from("10.42.0.2"));
    for (endpoints, server) in [
        // Another comes; ours stays, on its way out, then serves nobody new.
        (&["10.42.0.2@here", "10.42.0.3@here"][..], "10.42.0.2"),
        (&["10.42.0.2@here!leaving", "10.42.0.3@here"], "10.42.0.2"),
        // It answers no more.
        (&["10.42.0.2@here!gone", "10.42.0.3@here"], "10.42.0.3"),
        (&["10.42.0.2@here", "10.42.0.3@here"], "10.42.0.3"),
    ] {
        lab.note(&[Change::Slice(&dns("dns", endpoints))]);
        for _ in 0..10 {
            assert_eq!(ask(), from(server), "{endpoints:?}");
        }
    }
}

#[test]
fn pods_cgroups_that_come_later_and_addresses_that_move_are_followed() {
    let Some(world) = world("eBPF on a cgroup") else { return };
    let cgroup = Cgroup::enter();
    let client = servers(&world);
    cgroup.remove_pods();
    let mut lab = Lab::new(&cgroup);
    let more = json!({"type": "NodePort"});
    lab.note(&[Change::Service(&both("web", "10.43.0.10", more)), Change::Slice(&web("web", &["10.42.0.2@here"]))]);
    assert!(ask("10.43.0.10:80").is_ok() && ask_from(&client, "10.43.0.10:80").is_err());
    for _ in 0..2 {
        cgroup.make_pods();
        assert!(ask_from(&client, "10.43.0.10:80").is_err());
        let config = lab.planners[0].config().clone();
        lab.connect.look_after(&config).unwrap();
        assert!(ask_from(&client, "10.43.0.10:80").is_ok());
        assert_eq!(attached(&cgroup), [8, 4]);
        cgroup.remove_pods();
    }
    let config = lab.planners[0].config().clone();
    for (what, answers) in [("add", true), ("del", false)] {
        ip(&["addr", what, "192.0.2.77/32", "dev", "lo"]);
        lab.connect.look_after(&config).unwrap();
        assert_eq!(ask("192.0.2.77:30080").is_ok(), answers, "{what}");
    }
}

#[test]
fn nothing_is_left_attached_and_what_cannot_be_is_said_with_its_reason() {
    let Some(_world) = world("eBPF on a cgroup") else { return };
    let cgroup = Cgroup::enter();
    let mut lab = Lab::new(&cgroup);
    lab.note(&[]);
    assert_eq!(attached(&cgroup), [8, 4]);
    // Everything anew: the new programs are there before the old ones go.
    let maps: Vec<&ServiceMap> = lab.planners.iter().map(Planner::map).collect();
    lab.connect.follow(&maps, &BTreeSet::new(), Extent::Everything).unwrap();
    assert_eq!(attached(&cgroup), [8, 4]);
    drop(lab);
    eventually("the programs are gone", LIMIT, || (attached(&cgroup) == [0, 0]).then_some(()));

    let error = |options: Options| ConnectTime::open(&options, true).err().unwrap();
    let elsewhere = error(Options { cgroup: Some("/proc".into()), ..options(&cgroup) });
    assert_eq!(elsewhere.to_string(), "/proc is no directory of a cgroup v2 hierarchy");
    let asked = options(&cgroup);
    let unprivileged = std::thread::spawn(move || {
        rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(65_534)).unwrap();
        error(asked)
    });
    let unprivileged = unprivileged.join().unwrap();
    assert_eq!(unprivileged.to_string(), "cannot make an eBPF map");
    assert!(unprivileged.hint().is_some_and(|hint| hint.contains("CAP_BPF")), "{unprivileged:?}");
}

/// The remote address the kernel has for a connection of this namespace, whatever the socket says.
fn real_peer(stream: &TcpStream) -> SocketAddr {
    let port = format!(":{:04X}", stream.local_addr().unwrap().port());
    let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let fields = table.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
    let line = fields.into_iter().find(|f| f.get(1).is_some_and(|local| local.ends_with(&port))).unwrap();
    let (addr, port) = line[2].split_once(':').unwrap();
    let addr = u32::from_str_radix(addr, 16).unwrap().to_ne_bytes();
    SocketAddr::new(addr.into(), u16::from_str_radix(port, 16).unwrap())
}

/// Who connects: the socket itself, with the endpoint's address, or packets that are translated on their way.
fn is_at_connect_time(vip: &str) -> Option<bool> {
    let stream = TcpStream::connect_timeout(&vip.parse().unwrap(), Duration::from_millis(700)).ok()?;
    assert_eq!(stream.peer_addr().unwrap().to_string(), vip);
    Some(real_peer(&stream).to_string() != vip)
}

fn shows(what: &str, vip: &str, at_connect_time: bool) {
    eventually(what, LIMIT, || (is_at_connect_time(vip) == Some(at_connect_time)).then_some(()));
}

#[test]
fn the_proxy_serves_at_connect_time_beside_its_rules_which_go_on_without_it() {
    let Some(world) = world("eBPF on a cgroup") else { return };
    let cgroup = Cgroup::enter();
    servers(&world);
    let api = Api::new();
    api.put(SERVICES, service("web", "10.43.0.10", json!({})));
    api.put(SLICES, web("web", &["10.42.0.2@here", "10.42.0.3@here"]));
    api.put(SERVICES, service("sticky", "10.43.0.11", json!({"sessionAffinity": "ClientIP"})));
    api.put(SLICES, web("sticky", &["10.42.0.2@here", "10.42.0.3@here"]));
    let start = || start_with(&api, |config| config.connect_time = options(&cgroup));
    let proxy = start();
    shows("connections begin at endpoints", "10.43.0.10:80", true);
    shows("affinity is left to rules", "10.43.0.11:80", false);
    let mut open = TcpStream::connect("10.43.0.10:80").unwrap();
    ask_again(&mut open).unwrap();

    // Endpoints go and the Service goes: what is to be said of that, rules say.
    api.put(SLICES, web("web", &[]));
    eventually("nobody serves", LIMIT, || is_error(ask("10.43.0.10:80"), ErrorKind::ConnectionRefused));
    api.put(SLICES, web("web", &["10.42.0.2@here"]));
    shows("an endpoint is back", "10.43.0.10:80", true);

    // Without the proxy, nothing of it is attached, rules serve, and what was connected stays so; then it is back.
    proxy.stop();
    eventually("no program is left", LIMIT, || (attached(&cgroup) == [0, 0]).then_some(()));
    assert_eq!(is_at_connect_time("10.43.0.10:80"), Some(false));
    ask_again(&mut open).unwrap();
    let proxy = start();
    shows("the proxy is back", "10.43.0.10:80", true);
    ask_again(&mut open).unwrap();
    api.delete(SERVICES, service("web", "10.43.0.10", json!({})));
    eventually("the Service is gone", LIMIT, || is_error(ask("10.43.0.10:80"), ErrorKind::TimedOut));
    proxy.stop();
    pintle_proxy::cleanup(pintle_proxy::config::TABLE).unwrap();
    eventually("no program is left", LIMIT, || (attached(&cgroup) == [0, 0]).then_some(()));
}

#[test]
fn where_it_is_impossible_the_rules_serve_alone_or_the_proxy_says_why_it_will_not() {
    let Some(world) = world("eBPF on a cgroup") else { return };
    let _cgroup = Cgroup::enter();
    servers(&world);
    let api = Api::new();
    api.put(SERVICES, service("web", "10.43.0.10", json!({})));
    api.put(SLICES, web("web", &["10.42.0.2@here"]));
    let nowhere = |wanted| Options { wanted, cgroup: Some("/proc".into()), pods: Vec::new() };
    let proxy = start_with(&api, |config| config.connect_time = nowhere(Wanted::Auto));
    shows("rules serve alone", "10.43.0.10:80", false);
    proxy.stop();
    let range = |text: &str| vec![text.parse().unwrap()];
    let mut config = ProxyConfig::new("here", range("10.42.0.0/16"), range("10.43.0.0/16"));
    config.connect_time = nowhere(Wanted::On);
    let refused = block_on(pintle_proxy::run(config, api.client(), CancellationToken::new())).unwrap_err();
    let cause = std::error::Error::source(&refused).unwrap().to_string();
    assert_eq!(refused.to_string(), "cannot serve Services at connect time");
    assert_eq!(cause, "/proc is no directory of a cgroup v2 hierarchy");
    assert!(refused.hint().is_some_and(|hint| hint.contains("--connect-time")), "{refused:?}");
}

/// The cgroup for [`a_process_that_is_to_be_killed`].
const KILLED: &str = "PINTLE_TEST_CONNECT_TIME";

#[test]
#[ignore = "not a test: the process that the next one kills"]
fn a_process_that_is_to_be_killed() {
    let Some(dir) = std::env::var_os(KILLED) else { return };
    let options = Options { wanted: Wanted::On, cgroup: Some(dir.into()), pods: Vec::new() };
    let mut connect = ConnectTime::open(&options, true).unwrap();
    connect.follow(&[], &BTreeSet::new(), Extent::Everything).unwrap();
    println!("attached");
    // Until it is killed, or whoever would kill it is gone.
    drop(std::io::stdin().read_line(&mut String::new()));
}

#[test]
fn a_process_that_is_killed_leaves_no_program_behind() {
    let Some(_world) = world("eBPF on a cgroup") else { return };
    let cgroup = Cgroup::enter();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "connect_time::a_process_that_is_to_be_killed", "--ignored", "--nocapture"])
        .env(KILLED, cgroup.dir())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("programs are attached", LIMIT, || (attached(&cgroup) == [8, 4]).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("they are gone", LIMIT, || (attached(&cgroup) == [0, 0]).then_some(()));
}

#[test]
fn connect_time_works_on_debians_kernel_where_cgroup_v2_is_alone_in_a_vm() {
    vm::run(
        "modprobe -a nf_tables nft_chain_nat nf_conntrack veth",
        "PINTLE_CONNECT_TIME_VM",
        &[
            "connect_time::sockets_of_the_node_and_of_pods_reach_endpoints_and_see_virtual_addresses",
            "connect_time::datagrams_move_on_when_their_server_stops_answering_and_not_before",
            "connect_time::nothing_is_left_attached_and_what_cannot_be_is_said_with_its_reason",
        ],
    );
}
