//! What the kernel refuses must stop nothing else. The backend speaks to a kernel in memory that refuses what a test
//! wants refused; packets are walked through what it took.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../plan/tests/story/objects.rs"]
mod objects;

use std::collections::BTreeSet;

use pintle_net::nfnetlink::{Grain, NftError};
use pintle_nft::trace::{Fate, Interface, Machine, Origin, Packet, trace};
use pintle_nft::{Action, Family, Flow, Op, Proto, TableId};
use pintle_proxy::backend::{Backend, Extent};
use pintle_proxy::kernel::Kernel;
use pintle_proxy::nft_backend::{NftBackend, probe};
use pintle_proxy_plan::recall::Clients;
use pintle_proxy_plan::{Change, Config};
use serde_json::json;

use objects::{service, web};

/// Errors of errno.h.
const ENOMEM: i32 = 12;
const EBUSY: i32 = 16;
const ENOSPC: i32 = 28;
const ENOENT: i32 = 2;
const ENOBUFS: i32 = 105;

/// Which operations are refused, and why.
type Refuse = Box<dyn Fn(&Op) -> Option<i32> + Send>;

#[derive(Default)]
struct Memory {
    kernel: pintle_nft::Kernel,
    refuse: Option<Refuse>,
    /// So many further transactions fail as a whole.
    fails: Vec<i32>,
    generation: u32,
}

impl Kernel for Memory {
    fn commit(&mut self, ops: &[Op], grain: Grain) -> Result<(), NftError> {
        let refused = |at: Vec<usize>, errno| NftError::Refused {
            object: at.first().map(|n| pintle_nft::text::op(&ops[*n])).unwrap_or_default(),
            count: at.len(),
            at,
            source: std::io::Error::from_raw_os_error(errno),
        };
        if let Some(errno) = self.fails.pop() {
            return Err(refused(vec![0], errno));
        }
        let bad: Vec<(usize, i32)> =
            ops.iter().enumerate().filter_map(|(n, op)| Some((n, self.refuse.as_ref()?(op)?))).collect();
        if let Some((_, errno)) = bad.first() {
            let at = match grain {
                Grain::Fine => bad.iter().map(|(n, _)| *n).collect(),
                Grain::Coarse => (0..ops.len()).collect(),
            };
            return Err(refused(at, *errno));
        }
        self.kernel.commit(ops).map_err(|e| {
            let at = ops.iter().position(|op| pintle_nft::text::op(op) == e.op).into_iter().collect();
            refused(at, ENOENT)
        })?;
        self.generation += 1;
        Ok(())
    }

    fn generation(&mut self) -> Result<u32, NftError> {
        Ok(self.generation)
    }

    fn transactions(&self) -> u32 {
        self.generation
    }

    fn let_packets_leave(&mut self) {}

    fn is_serving(&mut self, table: &TableId) -> Result<bool, NftError> {
        let table = self.kernel.ruleset().tables.get(table);
        Ok(table.is_some_and(|t| t.chains.contains_key("prerouting")))
    }

    fn carry_over(&mut self, _from: &TableId, _to: &TableId) -> Result<usize, NftError> {
        Ok(0)
    }

    fn remember(&mut self, _table: &TableId, _clients: &Clients) -> Result<(), NftError> {
        Ok(())
    }

    fn flows(&mut self, _family: Family, _wanted: &dyn Fn(&Flow) -> bool) -> Result<Vec<Flow>, NftError> {
        Ok(Vec::new())
    }

    fn forget(&mut self, _flow: &Flow) -> Result<(), NftError> {
        Ok(())
    }
}

fn config() -> Config {
    let range = |text: &str| vec![text.parse().unwrap()];
    Config::new("here", range("10.42.0.0/16"), range("10.43.0.0/16"))
}

/// A backend that serves `web` and `sticky`, which has sets of its own.
fn two_services() -> NftBackend<Memory> {
    let mut backend = NftBackend::new(config(), &[Family::V4], Memory::default());
    backend.note(Change::Service(&service("web", "10.43.0.10", json!({}))));
    backend.note(Change::Slice(&web("web", &["10.42.0.2", "10.42.0.3"])));
    backend.note(Change::Service(&service("sticky", "10.43.0.11", json!({"sessionAffinity": "ClientIP"}))));
    backend.note(Change::Slice(&web("sticky", &["10.42.0.4", "10.42.0.5"])));
    backend
}

/// What becomes of a packet of a pod.
fn fates(backend: &mut NftBackend<Memory>, to: &str) -> BTreeSet<String> {
    let packet = Packet {
        source: "10.42.0.9".parse().unwrap(),
        destination: to.parse().unwrap(),
        proto: Proto::Tcp,
        port: 80,
        origin: Origin::Arriving,
        ingress: Interface::default(),
    };
    let fates = trace(backend.kernel().kernel.ruleset(), &Machine::default(), packet);
    fates.iter().map(Fate::to_string).collect()
}

fn is(fates: BTreeSet<String>, wanted: &[&str]) {
    assert_eq!(fates.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
}

const WEB: [&str; 2] = ["10.42.0.2:8080", "10.42.0.3:8080"];
const STICKY: [&str; 2] = ["10.42.0.4:8080", "10.42.0.5:8080"];

/// No room for sets that packets fill.
fn no_sets_of_clients(op: &Op) -> Option<i32> {
    matches!(&op.action, Action::AddSet(name, _) if name.starts_with("server-")).then_some(ENOSPC)
}

#[test]
fn a_service_the_kernel_refuses_is_left_out_and_named_and_the_others_work() {
    let mut backend = two_services();
    backend.kernel().refuse = Some(Box::new(no_sets_of_clients));
    let report = backend.sync();
    assert!(report.is_installed() && report.wants_retry(), "{report:?}");
    let named: Vec<String> = report.families[0].refused.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    assert_eq!(named, ["d/sticky: No space left on device (os error 28)"]);
    is(fates(&mut backend, "10.43.0.10"), &WEB);
    is(fates(&mut backend, "10.43.0.11"), &["REJECT"]);

    // The others go on changing, and that costs what they change.
    backend.note(Change::Slice(&web("web", &["10.42.0.2"])));
    let report = backend.sync();
    assert!(report.is_installed() && report.wants_retry(), "{report:?}");
    assert_eq!((report.families[0].extent, report.families[0].refused.len()), (Extent::Incremental, 1));
    is(fates(&mut backend, "10.43.0.10"), &WEB[..1]);

    // It changes, to something the kernel takes.
    backend.note(Change::Service(&service("sticky", "10.43.0.11", json!({}))));
    let report = backend.sync();
    assert!(report.is_installed() && !report.wants_retry(), "{report:?}");
    is(fates(&mut backend, "10.43.0.11"), &STICKY);
}

#[test]
fn a_table_whose_hooks_are_refused_takes_over_from_nobody() {
    let mut backend = two_services();
    assert!(backend.sync().is_installed());
    backend.note(Change::Slice(&web("web", &["10.42.0.2"])));
    backend.distrust();
    backend.kernel().refuse = Some(Box::new(|op| {
        matches!(&op.action, Action::AddChain(name, Some(_)) if **name == *"output").then_some(ENOSPC)
    }));
    assert!(!backend.sync().is_installed());
    is(fates(&mut backend, "10.43.0.10"), &WEB);
    backend.kernel().refuse = None;
    assert!(backend.sync().is_installed());
    is(fates(&mut backend, "10.43.0.10"), &WEB[..1]);
}

#[test]
fn what_was_refused_is_installed_when_there_is_room_again() {
    let mut backend = two_services();
    backend.kernel().refuse = Some(Box::new(no_sets_of_clients));
    backend.sync();
    backend.kernel().refuse = None;
    // Nobody tries before it is time to.
    assert!(backend.sync().wants_retry());
    is(fates(&mut backend, "10.43.0.11"), &["REJECT"]);
    backend.try_again();
    let report = backend.sync();
    assert!(!report.wants_retry(), "{report:?}");
    assert_eq!(report.families[0].extent, Extent::Incremental);
    is(fates(&mut backend, "10.43.0.11"), &STICKY);
    is(fates(&mut backend, "10.43.0.10"), &WEB);
}

#[test]
fn a_refused_service_that_changes_while_the_kernel_is_busy_is_served_with_the_others() {
    let mut backend = two_services();
    backend.kernel().refuse = Some(Box::new(no_sets_of_clients));
    backend.sync();
    // The change and the full load that follows it.
    backend.kernel().fails = vec![EBUSY, EBUSY];
    backend.note(Change::Slice(&web("web", &["10.42.0.2"])));
    assert!(!backend.sync().is_installed());
    backend.note(Change::Service(&service("sticky", "10.43.0.11", json!({}))));
    let report = backend.sync();
    assert!(report.is_installed() && !report.wants_retry(), "{report:?}");
    is(fates(&mut backend, "10.43.0.11"), &STICKY);
    is(fates(&mut backend, "10.43.0.10"), &WEB[..1]);
}

#[test]
fn what_is_refused_again_and_again_costs_the_others_nothing() {
    let mut backend = two_services();
    backend.kernel().refuse = Some(Box::new(no_sets_of_clients));
    backend.sync();
    for n in 0..5 {
        backend.try_again();
        backend.note(Change::Slice(&web("web", if n % 2 == 0 { &["10.42.0.2"] } else { &["10.42.0.3"] })));
        let report = backend.sync();
        assert!(report.is_installed() && report.wants_retry(), "{report:?}");
        assert_eq!((report.families[0].extent, report.families[0].refused.len()), (Extent::Incremental, 1));
        is(fates(&mut backend, "10.43.0.10"), &[WEB[n % 2]]);
        is(fates(&mut backend, "10.43.0.11"), &["REJECT"]);
    }
    // A full load leaves it out too, and the Service that goes leaves nothing behind.
    backend.distrust();
    assert_eq!(backend.sync().families[0].extent, Extent::Full);
    backend.note(Change::ServiceGone(&service("sticky", "10.43.0.11", json!({}))));
    let report = backend.sync();
    assert!(report.is_installed() && !report.wants_retry(), "{report:?}");
    is(fates(&mut backend, "10.43.0.11"), &["DROP"]);
}

#[test]
fn a_refused_change_of_one_service_leaves_the_others_as_they_are() {
    let mut backend = NftBackend::new(config(), &[Family::V4], Memory::default());
    backend.note(Change::Service(&service("web", "10.43.0.10", json!({}))));
    backend.note(Change::Slice(&web("web", &["10.42.0.2", "10.42.0.3"])));
    assert!(backend.sync().is_installed());
    backend.kernel().refuse = Some(Box::new(no_sets_of_clients));
    backend.note(Change::Service(&service("sticky", "10.43.0.11", json!({"sessionAffinity": "ClientIP"}))));
    backend.note(Change::Slice(&web("sticky", &["10.42.0.4"])));
    let report = backend.sync();
    assert!(report.is_installed(), "{report:?}");
    assert_eq!((report.families[0].extent, report.families[0].refused.len()), (Extent::Incremental, 1));
    is(fates(&mut backend, "10.43.0.10"), &WEB);
    is(fates(&mut backend, "10.43.0.11"), &["REJECT"]);
}

#[test]
fn what_passes_is_nobodys_fault_and_the_old_rules_go_on() {
    for errno in [ENOBUFS, ENOMEM, EBUSY] {
        let mut backend = two_services();
        assert!(backend.sync().is_installed());
        backend.note(Change::Slice(&web("web", &["10.42.0.2"])));
        // The change and the full load that follows it.
        backend.kernel().fails = vec![errno, errno];
        let report = backend.sync();
        assert!(!report.is_installed() && report.wants_retry(), "{errno}: {report:?}");
        assert_eq!(report.families[0].refused, []);
        is(fates(&mut backend, "10.43.0.10"), &WEB);
        let report = backend.sync();
        assert!(report.is_installed() && !report.wants_retry(), "{errno}: {report:?}");
        is(fates(&mut backend, "10.43.0.10"), &WEB[..1]);
        is(fates(&mut backend, "10.43.0.11"), &STICKY);
    }
}

#[test]
fn a_kernel_that_refuses_everything_is_an_error_and_not_the_end() {
    let mut backend = two_services();
    backend.kernel().refuse = Some(Box::new(|_| Some(ENOENT)));
    let report = backend.sync();
    assert!(!report.is_installed() && report.wants_retry());
    assert!(probe(backend.kernel(), &config(), Family::V4).is_err());
    backend.kernel().refuse = None;
    assert!(probe(backend.kernel(), &config(), Family::V4).is_ok());
    backend.distrust();
    assert!(backend.sync().is_installed());
    is(fates(&mut backend, "10.43.0.10"), &WEB);
    // Of the probe nothing is left.
    assert_eq!(backend.kernel().kernel.ruleset().tables.len(), 1);
}

#[test]
fn five_thousand_endpoints_are_one_service_like_any_other() {
    let mut backend = two_services();
    let many: Vec<String> = (0..5000).map(|n| format!("10.42.{}.{}", 1 + n / 250, 1 + n % 250)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    backend.note(Change::Service(&service("many", "10.43.0.12", json!({}))));
    backend.note(Change::Slice(&web("many", &many)));
    assert!(backend.sync().is_installed());
    assert_eq!(fates(&mut backend, "10.43.0.12").len(), 5000);
    backend.note(Change::Slice(&web("many", &many[1..])));
    let report = backend.sync();
    assert!(report.is_installed());
    assert_eq!(report.families[0].extent, Extent::Incremental);
    assert_eq!(fates(&mut backend, "10.43.0.12").len(), 4999);
    is(fates(&mut backend, "10.43.0.10"), &WEB);
}

#[test]
fn slices_may_come_before_their_service_and_stay_after_it() {
    let mut backend = NftBackend::new(config(), &[Family::V4], Memory::default());
    backend.note(Change::Slice(&web("web", &["10.42.0.2"])));
    assert!(backend.sync().is_installed());
    is(fates(&mut backend, "10.43.0.10"), &["DROP"]);
    let object = service("web", "10.43.0.10", json!({}));
    for _ in 0..2 {
        backend.note(Change::Service(&object));
        assert!(backend.sync().is_installed());
        is(fates(&mut backend, "10.43.0.10"), &WEB[..1]);
        backend.note(Change::ServiceGone(&object));
        assert!(backend.sync().is_installed());
        is(fates(&mut backend, "10.43.0.10"), &["DROP"]);
    }
}
