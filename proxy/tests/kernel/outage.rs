//! Without an API server the rules stay as they are; when it is back, what it says then is the truth.
//!
//! `PINTLE_OUTAGE_SECONDS` (4 by default; `make outage-proxy` sets 3600) says how long it is away.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pintle_testkit::eventually;
use serde_json::json;

use crate::api::{Answers, Api, SERVICES, SLICES};
use crate::load::{Allowed, Truth};
use crate::objects::{service, web};
use crate::running::{Running, SOON, is_error, serving_table, start};
use crate::star::Transport;
use crate::world::{NODE, World, ask, ask_again, nft, nft_list, serve, world};

/// A client tries again every ten seconds at the latest, and gives up a connection that hears nothing after ten.
const BACK_WITHIN: Duration = Duration::from_secs(40);
/// The proxy watches Services, slices and its Node.
const WATCHES: usize = 3;
/// Services that nobody asks, so that there is something to hold and to list again.
const OTHERS: u8 = 200;
/// Which of the load's Services is which.
const WEB: usize = 0;
const STEADY: usize = 1;

const PODS: [&str; 4] = ["10.42.0.2", "10.42.0.3", "10.42.0.4", "10.42.0.5"];

/// Everything that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Listens to this thread, and to the proxies it starts, until the guard goes.
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let writer = move || log.clone();
        tracing::subscriber::set_default(tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish())
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().lines().map(str::to_owned).collect()
    }
}

fn set(addrs: &[&str]) -> BTreeSet<String> {
    addrs.iter().map(|a| (*a).to_owned()).collect()
}

/// What is installed, whichever table serves and in whatever order the kernel lists it.
fn installed() -> Vec<String> {
    let listed = nft_list().replace("table ip pintle-b", "table ip pintle").replace("ip6 pintle-b", "ip6 pintle");
    let mut words: Vec<String> =
        listed.split([',', '\n']).map(|part| part.trim_matches([' ', '\t', '{', '}']).to_owned()).collect();
    words.sort();
    words
}

/// Resident memory of this process, in KiB: of the proxy, of its API server and of the load.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Services `web`, `old`, `steady`, and those nobody asks.
fn services(world: &World, api: &Api) {
    for addr in PODS {
        serve(&world.pod(addr), addr, 8080);
    }
    let node_port = json!({"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    for (name, ip, spec, pods) in [
        ("web", "10.43.0.10", json!({}), &PODS[..1]),
        ("old", "10.43.0.11", json!({}), &PODS[1..2]),
        ("steady", "10.43.0.20", node_port, &PODS[2..]),
    ] {
        api.put(SERVICES, service(name, ip, spec));
        api.put(SLICES, web(name, pods));
    }
    for n in 0..OTHERS {
        api.put(SERVICES, service(&format!("other-{n}"), &format!("10.43.1.{n}"), json!({})));
        api.put(SLICES, web(&format!("other-{n}"), &PODS));
    }
}

/// Nobody is told of these.
fn change_meanwhile(api: &Api) {
    api.put(SLICES, web("web", &PODS[1..2]));
    api.delete(SERVICES, service("old", "10.43.0.11", json!({})));
    api.delete(SLICES, web("old", &[]));
    api.put(SERVICES, service("new", "10.43.0.12", json!({})));
    api.put(SLICES, web("new", &PODS[..1]));
    for n in 0..OTHERS / 2 {
        api.delete(SERVICES, service(&format!("other-{n}"), "", json!({})));
        api.delete(SLICES, web(&format!("other-{n}"), &[]));
    }
}

struct Outage {
    api: Api,
    truth: Arc<Truth>,
    proxy: Running,
    /// What was installed when it began.
    before: Vec<String>,
    resident_kib_max: u64,
    repairs: usize,
}

impl Outage {
    /// Lets the time pass, and looks at everything again and again. The API server refuses at first, then says nothing.
    fn last(&mut self, length: Duration) {
        let begun = Instant::now();
        self.api.answers(Answers::Refuses);
        change_meanwhile(&self.api);
        let (mut rounds, mut silent) = (0_u64, false);
        let deletions_every = length / 4;
        let mut next_deletion = deletions_every;
        while begun.elapsed() < length {
            std::thread::sleep(Duration::from_millis(200));
            if !silent && begun.elapsed() > length / 2 {
                self.api.answers(Answers::Silent);
                silent = true;
            }
            if begun.elapsed() > next_deletion {
                next_deletion += deletions_every;
                self.lose_everything();
            }
            self.look();
            if rounds.is_multiple_of(150) {
                eprintln!(
                    "{} s: {} tried in vain, {} KiB resident",
                    begun.elapsed().as_secs(),
                    self.api.in_vain(),
                    resident_kib()
                );
            }
            rounds += 1;
        }
        assert!(installed() == self.before, "the rules changed");
    }

    fn look(&mut self) {
        assert!(ask("10.43.0.10:80").unwrap().starts_with(PODS[0]));
        // Nothing waits to be installed: as kube-proxy, it is healthy.
        assert!(self.proxy.is_healthy() && self.proxy.is_ready());
        self.resident_kib_max = self.resident_kib_max.max(resident_kib());
    }

    /// Somebody deletes all rules: what is known is installed again.
    fn lose_everything(&mut self) {
        let before = [WEB, STEADY].map(|at| self.truth.current(at));
        for at in [WEB, STEADY] {
            self.truth.set(at, Allowed { may_fail: true, ..before[at].clone() });
        }
        nft(&["flush", "ruleset"]);
        eventually("the rules are back", SOON, || {
            (serving_table().is_some() && installed() == self.before).then_some(())
        });
        for (at, allowed) in [WEB, STEADY].into_iter().zip(before) {
            self.truth.set(at, allowed);
        }
        self.repairs += 1;
    }

    /// Everything that changed meanwhile comes into effect.
    fn end(&self) {
        let (begun, listed) = (Instant::now(), self.api.watched().0);
        self.truth.change(WEB, set(&PODS[1..2]), || {
            self.api.answers(Answers::All);
            eventually("the pod that took over answers", BACK_WITHIN, || {
                ask("10.43.0.10:80").ok().filter(|answer| answer.starts_with(PODS[1]))
            });
        });
        eventually("the new Service answers", BACK_WITHIN, || ask("10.43.0.12:80").ok());
        eventually("the Service that went is gone", BACK_WITHIN, || {
            is_error(ask("10.43.0.11:80"), std::io::ErrorKind::TimedOut)
        });
        eventually("so are those nobody asked", BACK_WITHIN, || {
            (!installed().iter().any(|part| part.contains("10.43.1.0 ."))).then_some(())
        });
        assert!(installed().iter().any(|part| part.contains(&format!("10.43.1.{} .", OTHERS - 1))));
        eventually("each watch has listed again", BACK_WITHIN, || {
            (self.api.watched().0 == listed + WATCHES).then_some(())
        });
        eprintln!("in effect {:?} after the API server's return", begun.elapsed());
    }

    /// Away and back without a change: each watch goes on where it ended.
    fn again_without_changes(&self) {
        let (listed, resumed) = self.api.watched();
        self.api.answers(Answers::Refuses);
        self.api.answers(Answers::All);
        eventually("each watch goes on", BACK_WITHIN, || (self.api.watched().1 == resumed + WATCHES).then_some(()));
        assert_eq!(self.api.watched().0, listed, "nothing was listed again");
    }
}

#[test]
fn an_api_server_that_is_away_changes_nothing_and_one_that_is_back_is_listed_again() {
    let Some(world) = world("the proxy") else { return };
    let seconds = std::env::var("PINTLE_OUTAGE_SECONDS").map_or(4, |text| text.parse().expect("seconds"));
    let log = Log::default();
    let _listening = log.listen();
    let (api, truth) = (Api::new(), Truth::over(Transport::Tcp, 2, Duration::from_millis(20)));
    services(&world, &api);
    let proxy = start(&api);
    eventually("the proxy is ready", SOON, || proxy.is_ready().then_some(()));
    let mut held = TcpStream::connect("10.43.0.20:80").unwrap();
    ask_again(&mut held).unwrap();
    truth.set(WEB, Allowed { servers: set(&PODS[..1]), may_fail: false });
    truth.set(STEADY, Allowed { servers: set(&PODS[2..]), may_fail: false });
    let to = |text: &str| text.parse::<SocketAddr>().unwrap();
    let clients = vec![
        truth.client(Some(world.pod("10.42.0.100")), WEB, to("10.43.0.10:80")),
        truth.client(Some(world.pod("10.42.0.101")), STEADY, to("10.43.0.20:80")),
        truth.client(Some(world.outside()), STEADY, to(&format!("{NODE}:30080"))),
        truth.client(None, STEADY, to("10.43.0.20:80")),
    ];
    let begin_kib = resident_kib();
    let mut outage = Outage { api, truth, proxy, before: installed(), resident_kib_max: begin_kib, repairs: 0 };
    outage.last(Duration::from_secs(seconds));
    let (in_vain, said) = (outage.api.in_vain(), log.lines());
    outage.end();
    assert!(ask_again(&mut held).unwrap().starts_with("10.42.0."), "a connection from before");
    outage.again_without_changes();
    outage.api.put(SLICES, web("new", &PODS[1..2]));
    eventually("changes come through again", SOON, || {
        ask("10.43.0.12:80").ok().filter(|answer| answer.starts_with(PODS[1]))
    });
    let wrong = outage.truth.finish(clients);
    let (asked, grown_kib) = (outage.truth.asked.load(Ordering::Relaxed), outage.resident_kib_max - begin_kib);
    outage.proxy.stop();
    eprintln!("away {seconds} s: {asked} connections, {} wrong, tried {in_vain} times in vain", wrong.len());
    eprintln!(
        "{} repairs, {begin_kib} KiB at first, {grown_kib} more at most; said:\n{}",
        outage.repairs,
        said.join("\n")
    );
    assert!(wrong.is_empty(), "{}", wrong[..wrong.len().min(20)].join("\n"));
    // Each waits at least half of ten seconds once it has tried a few times, and less before.
    let tries_max = WATCHES * (12 + usize::try_from(seconds / 5).unwrap());
    assert!(in_vain <= tries_max, "{in_vain} attempts, {tries_max} at most");
    assert!(grown_kib < 8 << 10, "{grown_kib} KiB more than at first");
    let failed = said.iter().filter(|line| line.contains("watch failed")).count();
    assert_eq!(failed, WATCHES, "each watch's failure is said once:\n{}", said.join("\n"));
}

#[test]
fn a_server_that_ends_watches_at_once_is_asked_ever_less_often_and_half_a_list_is_none() {
    let Some(world) = world("the proxy") else { return };
    let api = Api::new();
    services(&world, &api);
    let proxy = start(&api);
    eventually("the proxy is ready", SOON, || proxy.is_ready().then_some(()));
    let before = installed();
    let asked = || api.watched().0 + api.watched().1;
    let so_far = asked();
    api.answers(Answers::Ends);
    // Each tries about ten times within ten seconds; without a pause it would be hundreds in one.
    std::thread::sleep(Duration::from_secs(2));
    api.put(SLICES, web("web", &PODS[1..2]));
    std::thread::sleep(Duration::from_secs(2));
    let tries = asked() - so_far;
    assert!((WATCHES..=WATCHES * 20).contains(&tries), "{tries} watches");
    assert!(installed() == before, "nobody has said that anything is gone");
    api.answers(Answers::All);
    eventually("the pod that took over answers", BACK_WITHIN, || {
        ask("10.43.0.10:80").ok().filter(|answer| answer.starts_with(PODS[1]))
    });
    proxy.stop();
}
