//! The iptables backend: what to write and the tools that write it, a family at a time.
//!
//! ```text
//!  Unknown ── a look at what is there, then a full load ──► AsPlanned ◄─┐
//!     ▲                                                       │   │      │ a change: the chains it concerns
//!     └── refused, or the tables were meddled with ───────────┘   └──────┘
//! ```
//!
//! A table is written whole or not at all. Whatever is refused is traced to its Service, by the line that the tool names
//! or, where the kernel refuses all of it, by trying the chains of half the Services, then of half of those. That Service
//! is left out (its address then refuses connections), the others are not concerned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pintle_nft::Family;
use pintle_proxy_plan::backend::Backend as _;
use pintle_proxy_plan::iptables::{Iptables, Observed, Script, Table, landmarks};
use pintle_proxy_plan::map::{Changed, Resolved, Served};
use pintle_proxy_plan::{Change, Claim, Config, ServiceMap, ServiceName, outputs};

use crate::backend::{Backend, Extent, FamilyReport, Fault as _, Found, Report};
use crate::xtables::{Xtables, XtablesError};

/// Services left out in one synchronisation before we give up: then it is not they who are at fault.
const REFUSED_MAX: usize = 100;

/// See the module's description.
pub struct IptablesBackend<T> {
    tools: T,
    config: Config,
    families: Vec<PerFamily>,
}

struct PerFamily {
    map: ServiceMap,
    planner: Iptables,
    installed: Installed,
    /// Services that were refused, as they were then.
    refused: BTreeMap<ServiceName, Refusal>,
    /// Whether they are to be tried again.
    retry: bool,
    /// UDP frontends whose flows must be looked at once the rules are in: kept when that fails.
    touched: BTreeSet<Claim>,
}

struct Refusal {
    served: Served,
    why: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Installed {
    Unknown,
    AsPlanned,
}

/// What was sent.
#[derive(Default)]
struct Sent {
    lines: usize,
    longest: Duration,
}

impl<T: Xtables> IptablesBackend<T> {
    /// Knows nothing yet of Services or of what is installed.
    pub fn new(config: Config, families: &[Family], tools: T) -> Self {
        let families = families.iter().map(|f| PerFamily::new(&config, *f)).collect();
        Self { tools, config, families }
    }

    /// What it works with.
    pub fn tools(&mut self) -> &mut T {
        &mut self.tools
    }
}

impl<T: Xtables> Backend for IptablesBackend<T> {
    fn config(&self) -> &Config {
        &self.config
    }

    fn reconfigure(&mut self, config: Config) {
        let families: Vec<Family> = self.families.iter().map(|f| f.map.config().family).collect();
        self.families = families.into_iter().map(|f| PerFamily::new(&config, f)).collect();
        self.config = config;
    }

    fn note(&mut self, change: Change<'_>) {
        self.families.iter_mut().for_each(|f| f.map.note(change));
    }

    fn distrust(&mut self) {
        for family in &mut self.families {
            family.installed = Installed::Unknown;
            family.refused.clear();
        }
    }

    fn try_again(&mut self) {
        self.families.iter_mut().for_each(|family| family.retry = true);
    }

    fn sync(&mut self) -> Report {
        let mut report = Report::default();
        for family in &mut self.families {
            let resolved = family.map.resolve();
            let (health, loopback) =
                (outputs::health_changes(&resolved.changes), outputs::loopback_changes(&resolved.changes));
            let done = family.sync(&mut self.tools, &resolved);
            report.add(done, Found { concerned: resolved.concerned, issues: resolved.issues, health, loopback });
        }
        report.settle_health(|| self.families.iter().map(|f| &f.map));
        report
    }

    fn maps(&self) -> Vec<&ServiceMap> {
        self.families.iter().map(|f| &f.map).collect()
    }

    fn is_intact(&mut self) -> bool {
        let mut is_there =
            |config: &Config, table| match self.tools.has(config.family, table, &landmarks(config, table)) {
                Ok(is_there) => is_there,
                // Not a word about the tables.
                Err(error) => error.is_transient(),
            };
        let installed = self.families.iter().filter(|f| f.installed == Installed::AsPlanned);
        installed.map(|f| f.map.config()).all(|config| Table::ALL.iter().all(|table| is_there(config, *table)))
    }
}

/// What is in a family's tables.
///
/// # Errors
/// When a tool fails.
pub fn observe(tools: &mut impl Xtables, family: Family) -> Result<Observed, XtablesError> {
    let mut observed = Observed::default();
    for table in Table::ALL {
        observed.read(table, &tools.save(family, table)?);
    }
    Ok(observed)
}

impl PerFamily {
    fn new(config: &Config, family: Family) -> Self {
        Self {
            map: ServiceMap::new(config.for_family(family)),
            planner: Iptables::default(),
            installed: Installed::Unknown,
            refused: BTreeMap::new(),
            retry: false,
            touched: BTreeSet::new(),
        }
    }

    fn family(&self) -> Family {
        self.map.config().family
    }

    fn sync(&mut self, tools: &mut impl Xtables, resolved: &Resolved) -> FamilyReport {
        let begun = Instant::now();
        let mut sent = Sent::default();
        self.touched.extend(resolved.touched.iter().copied());
        // One that has changed since may do better now.
        let map = &self.map;
        self.refused.retain(|name, refusal| map.get(name) == Some(&refusal.served));
        let mut extent = Extent::Nothing;
        let mut outcome = self.try_refused(tools, &mut sent);
        if outcome.is_err() {
            // What changed was not written.
            self.installed = Installed::Unknown;
        }
        if self.installed == Installed::AsPlanned {
            outcome = self.install(tools, &mut sent, Some(&resolved.changes));
            extent = if sent.lines > 0 { Extent::Incremental } else { Extent::Nothing };
            // Nobody but us should know why: the whole truth comes with a full load.
            self.installed = if outcome.is_ok() { Installed::AsPlanned } else { Installed::Unknown };
        }
        // A lock that was held a moment ago is held now too.
        if self.installed == Installed::Unknown && !outcome.as_ref().is_err_and(XtablesError::is_transient) {
            extent = Extent::Full;
            outcome = self.load(tools, &mut sent);
            self.installed = if outcome.is_ok() { Installed::AsPlanned } else { Installed::Unknown };
        }
        let took = begun.elapsed();
        let flows = if outcome.is_ok() { self.forget_stale_flows(tools) } else { Ok(0) };
        FamilyReport {
            family: self.family(),
            extent,
            ops: sent.lines,
            took,
            longest: sent.longest,
            refused: self.refused.iter().map(|(name, r)| (name.clone(), r.why.clone())).collect(),
            flows: flows.map_err(Into::into),
            outcome: outcome.map_err(Into::into),
        }
    }

    /// Tries again those that were refused, where that was asked for: the chains of each alone, which nobody enters yet.
    /// Who is refused again costs the others nothing; who is not is taken in by the next change.
    fn try_refused(&mut self, tools: &mut impl Xtables, sent: &mut Sent) -> Result<(), XtablesError> {
        if !std::mem::take(&mut self.retry) {
            return Ok(());
        }
        if self.installed == Installed::Unknown {
            self.refused.clear();
        }
        let mut refused = std::mem::take(&mut self.refused);
        let names: Vec<_> =
            self.map.iter().map(|(name, _)| name.clone()).filter(|n| refused.contains_key(&**n)).collect();
        for name in names {
            match sent.script(tools, self.family(), &self.planner.own_chains(&self.map, std::slice::from_ref(&name))) {
                Ok(()) => drop(refused.remove(&*name)),
                Err(XtablesError::Refused { is_transient: false, .. }) => {}
                Err(error) => {
                    self.refused = refused;
                    return Err(error);
                }
            }
        }
        self.refused = refused;
        Ok(())
    }

    /// Installs everything, whatever is there.
    fn load(&mut self, tools: &mut impl Xtables, sent: &mut Sent) -> Result<(), XtablesError> {
        self.touched.extend(self.map.frontends());
        self.planner.observe(observe(tools, self.family())?);
        let refused = match self.install(tools, sent, None) {
            Err(error @ XtablesError::Refused { is_transient: false, .. }) => error,
            done => return done,
        };
        // The kernel does not say whose rules they were. Everybody's, if not even the constant ones are taken.
        if sent.script(tools, self.family(), &self.planner.own_chains(&self.map, &[])).is_err() {
            return Err(refused);
        }
        let names: Vec<_> = self.map.iter().map(|(name, _)| name.clone()).collect();
        let names: Vec<_> = names.into_iter().filter(|name| !self.refused.contains_key(&**name)).collect();
        let before = self.refused.len();
        self.isolate(tools, sent, &names)?;
        if self.refused.len() == before { Err(refused) } else { self.install(tools, sent, None) }
    }

    /// Sends a change, or everything; again without each Service whose line is refused.
    fn install(
        &mut self,
        tools: &mut impl Xtables,
        sent: &mut Sent,
        changes: Option<&[Changed]>,
    ) -> Result<(), XtablesError> {
        for _ in 0..REFUSED_MAX {
            self.planner.leave_out(self.refused.keys());
            let script = match changes {
                Some(changes) => self.planner.change(&self.map, changes),
                None => self.planner.full(&self.map),
            };
            match sent.script(tools, self.family(), &script) {
                Ok(()) => {
                    self.planner.installed();
                    return Ok(());
                }
                Err(error) => self.blame_line(&script, error)?,
            }
        }
        Err(XtablesError::Hopeless { services: self.refused.len() })
    }

    /// Notes whose line was refused; the error itself when it was nobody's.
    fn blame_line(&mut self, script: &Script, error: XtablesError) -> Result<(), XtablesError> {
        let XtablesError::Refused { line: Some(line), source, .. } = &error else { return Err(error) };
        match script.owner(*line).cloned() {
            Some(name) if !self.refused.contains_key(&*name) => {
                self.refuse(&name, source.to_string());
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn refuse(&mut self, name: &ServiceName, why: String) {
        if let Some(served) = self.map.get(name) {
            self.refused.insert(name.clone(), Refusal { served: served.clone(), why });
        }
    }

    /// Finds, among these, the Services whose chains are refused: all at once, or else those of each half.
    fn isolate(
        &mut self,
        tools: &mut impl Xtables,
        sent: &mut Sent,
        names: &[Arc<ServiceName>],
    ) -> Result<(), XtablesError> {
        if names.is_empty() || self.refused.len() >= REFUSED_MAX {
            return Ok(());
        }
        match sent.script(tools, self.family(), &self.planner.own_chains(&self.map, names)) {
            Ok(()) => Ok(()),
            Err(XtablesError::Refused { is_transient: false, source, .. }) => match names {
                [only] => {
                    self.refuse(only, source.to_string());
                    Ok(())
                }
                _ => {
                    let (first, second) = names.split_at(names.len() / 2);
                    self.isolate(tools, sent, first)?;
                    self.isolate(tools, sent, second)
                }
            },
            Err(error) => Err(error),
        }
    }

    /// UDP has no connections that end: a client that goes on sending keeps its flow, and with it the server it was
    /// once given. Of other protocols, connections that could not begin while there were no rules can then.
    fn forget_stale_flows(&mut self, tools: &mut impl Xtables) -> Result<usize, XtablesError> {
        if self.touched.is_empty() {
            return Ok(0);
        }
        let flows = tools.flows(self.family(), &ServiceMap::may_be_stale)?;
        let stale = self.map.stale_flows(&self.touched, &flows);
        stale.iter().try_for_each(|flow| tools.forget(flow))?;
        // Those that could not be looked at are looked at with the next change.
        self.touched.clear();
        Ok(stale.len())
    }
}

impl Sent {
    fn script(&mut self, tools: &mut impl Xtables, family: Family, script: &Script) -> Result<(), XtablesError> {
        if script.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        let outcome = tools.restore(family, script);
        self.longest = self.longest.max(begun.elapsed());
        self.lines += script.lines();
        outcome
    }
}
