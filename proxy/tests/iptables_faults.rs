//! What the tools or the kernel refuse must stop nothing else, in mode iptables. The backend writes to tables in memory
//! that refuse what a test wants refused.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../plan/tests/story/objects.rs"]
mod objects;

use pintle_nft::{Family, Flow};
use pintle_proxy::backend::{Backend, Extent, Report};
use pintle_proxy::iptables_backend::IptablesBackend;
use pintle_proxy::xtables::{Complaint, Xtables, XtablesError};
use pintle_proxy_plan::iptables::{Script, Table, Tables};
use pintle_proxy_plan::{Change, Config};
use serde_json::json;

use objects::{service, web};

/// Who says which rule is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    /// The tool, which names the line.
    Tool,
    /// The kernel, of which one hears at the end of the table.
    Kernel,
}

struct Memory {
    tables: Tables,
    /// What a refused rule contains, and who refuses.
    refuse: Option<(&'static str, Says)>,
    /// So many further restores fail as a whole.
    fails: usize,
    restores: usize,
}

fn refused(line: Option<usize>, is_transient: bool, why: &str) -> XtablesError {
    XtablesError::Refused { program: "restore".into(), line, is_transient, source: Complaint(why.into()) }
}

impl Xtables for Memory {
    fn restore(&mut self, _family: Family, script: &Script) -> Result<(), XtablesError> {
        self.restores += 1;
        if self.fails > 0 {
            self.fails -= 1;
            return Err(refused(None, true, "the lock is held"));
        }
        if let Some((what, says)) = self.refuse {
            let lines: Vec<&str> = script.text().lines().collect();
            if let Some(at) = lines.iter().position(|line| line.starts_with("-A") && line.contains(what)) {
                let end = at + lines[at..].iter().position(|line| *line == "COMMIT").unwrap();
                return Err(refused(Some(1 + if says == Says::Tool { at } else { end }), false, "no such thing"));
            }
        }
        self.tables.restore(script.text()).map_err(|why| refused(None, false, &why.to_string()))
    }

    fn save(&mut self, _family: Family, table: Table) -> Result<String, XtablesError> {
        Ok(self.tables.save(table))
    }

    fn has(&mut self, _family: Family, table: Table, lines: &[String]) -> Result<bool, XtablesError> {
        let saved = self.tables.save(table);
        Ok(lines.iter().all(|wanted| saved.lines().any(|line| line.starts_with(wanted.as_str()))))
    }

    fn flows(&mut self, _family: Family, _wanted: &dyn Fn(&Flow) -> bool) -> Result<Vec<Flow>, XtablesError> {
        Ok(Vec::new())
    }

    fn forget(&mut self, _flow: &Flow) -> Result<(), XtablesError> {
        Ok(())
    }
}

/// A backend that serves ten Services, one of which, `sticky`, has rules of its own kind.
fn ten_services() -> IptablesBackend<Memory> {
    let range = |text: &str| vec![text.parse().unwrap()];
    let config = Config::new("here", range("10.42.0.0/16"), range("10.43.0.0/16"));
    let memory = Memory { tables: Tables::default(), refuse: None, fails: 0, restores: 0 };
    let mut backend = IptablesBackend::new(config, &[Family::V4], memory);
    for n in 0..9 {
        backend.note(Change::Service(&service(&format!("s{n}"), &format!("10.43.0.{}", n + 20), json!({}))));
        backend.note(Change::Slice(&web(&format!("s{n}"), &["10.42.0.2", "10.42.0.3"])));
    }
    backend.note(Change::Service(&service("sticky", "10.43.0.11", json!({"sessionAffinity": "ClientIP"}))));
    backend.note(Change::Slice(&web("sticky", &["10.42.0.4", "10.42.0.5"])));
    backend
}

fn nat(backend: &mut IptablesBackend<Memory>) -> String {
    backend.tools().tables.save(Table::Nat)
}

/// How many Services are served.
fn served(backend: &mut IptablesBackend<Memory>) -> usize {
    nat(backend).lines().filter(|line| line.starts_with("-A KUBE-SERVICES -d ")).count()
}

fn left_out(report: &Report) -> Vec<String> {
    report.families[0].refused.iter().map(|(name, why)| format!("{name}: {why}")).collect()
}

#[test]
fn a_service_that_is_refused_is_left_out_and_named_and_the_others_work() {
    for says in [Says::Tool, Says::Kernel] {
        let mut backend = ten_services();
        backend.tools().refuse = Some(("-m recent", says));
        let report = backend.sync();
        assert!(report.is_installed() && report.wants_retry(), "{report:?}");
        assert_eq!(left_out(&report), ["d/sticky: no such thing"]);
        assert_eq!(served(&mut backend), 9);
        assert!(backend.tools().tables.save(Table::Filter).contains("-d 10.43.0.11/32"), "its address refuses");

        // The others go on changing, each by itself.
        backend.note(Change::Slice(&web("s1", &["10.42.0.2"])));
        let report = backend.sync();
        assert_eq!((report.families[0].extent, left_out(&report).len()), (Extent::Incremental, 1));
        assert!(!nat(&mut backend).contains("d/s1:http -> 10.42.0.3"));

        // It changes, to something that is taken.
        backend.note(Change::Service(&service("sticky", "10.43.0.11", json!({}))));
        let report = backend.sync();
        assert!(report.is_installed() && !report.wants_retry(), "{report:?}");
        assert_eq!(served(&mut backend), 10);
    }
}

#[test]
fn what_was_refused_is_installed_when_it_is_possible_again() {
    let mut backend = ten_services();
    backend.tools().refuse = Some(("-m recent", Says::Kernel));
    backend.sync();
    // As the loop does it when it is time to try again.
    backend.try_again();
    let report = backend.sync();
    assert!(report.is_installed(), "{report:?}");
    assert_eq!((left_out(&report).len(), served(&mut backend)), (1, 9));
    assert_eq!(report.families[0].extent, Extent::Incremental, "trying again costs no full load");
    backend.tools().refuse = None;
    backend.try_again();
    let report = backend.sync();
    assert!(!report.wants_retry(), "{report:?}");
    assert_eq!((report.families[0].extent, served(&mut backend)), (Extent::Incremental, 10));
}

#[test]
fn a_refused_change_of_one_service_leaves_the_others_as_they_are() {
    for says in [Says::Tool, Says::Kernel] {
        let mut backend = ten_services();
        assert!(backend.sync().is_installed());
        backend.tools().refuse = Some(("10.42.0.66", says));
        backend.note(Change::Slice(&web("s1", &["10.42.0.66"])));
        backend.note(Change::Slice(&web("s2", &["10.42.0.7"])));
        let report = backend.sync();
        assert!(report.is_installed(), "{report:?}");
        assert_eq!(left_out(&report), ["d/s1: no such thing"]);
        assert_eq!(served(&mut backend), 9);
        assert!(nat(&mut backend).contains("d/s2:http -> 10.42.0.7"));
    }
}

#[test]
fn what_passes_is_nobodys_fault_and_the_old_rules_go_on() {
    let mut backend = ten_services();
    assert!(backend.sync().is_installed());
    let before = nat(&mut backend);
    backend.note(Change::Slice(&web("s1", &["10.42.0.2"])));
    backend.tools().fails = 1;
    let report = backend.sync();
    assert!(!report.is_installed() && report.wants_retry() && left_out(&report).is_empty(), "{report:?}");
    assert_eq!(nat(&mut backend), before);
    let report = backend.sync();
    assert!(report.is_installed() && !report.wants_retry(), "{report:?}");
    assert!(!nat(&mut backend).contains("d/s1:http -> 10.42.0.3"));
}

#[test]
fn when_everything_is_refused_nobody_is_blamed_and_it_is_not_the_end() {
    let mut backend = ten_services();
    backend.tools().refuse = Some(("-j MASQUERADE", Says::Kernel));
    let report = backend.sync();
    assert!(!report.is_installed() && report.wants_retry() && left_out(&report).is_empty(), "{report:?}");
    backend.tools().refuse = None;
    backend.distrust();
    assert!(backend.sync().is_installed());
    assert_eq!(served(&mut backend), 10);
}

#[test]
fn what_somebody_else_takes_away_is_noticed() {
    let mut backend = ten_services();
    assert!(backend.is_intact(), "nothing is installed yet");
    backend.sync();
    assert!(backend.is_intact());
    let whole = backend.tools().tables.clone();
    for foreign in [
        "*nat\n:PREROUTING - [0:0]\nCOMMIT\n",
        "*filter\n:FORWARD - [0:0]\nCOMMIT\n",
        "*nat\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n",
        "*nat\n-D OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\nCOMMIT\n",
    ] {
        backend.tools().tables.restore(foreign).unwrap();
        assert!(!backend.is_intact(), "{foreign}");
        // As the loop does then.
        backend.distrust();
        assert!(backend.sync().is_installed() && backend.is_intact());
        assert_eq!(backend.tools().tables, whole, "{foreign}");
    }
    // What others add is theirs.
    backend.tools().tables.restore("*nat\n-A PREROUTING -j ACCEPT\nCOMMIT\n").unwrap();
    assert!(backend.is_intact());
}
