//! The nftables backend: planners and the kernel side by side, a family at a time.
//!
//! ```text
//!  Unknown ── full load into the tables that do not serve, which then take over ──► AsPlanned ◄──┐
//!     ▲  ▲                                                                             │   │       │ a change:
//!     │  └── refused for reasons that pass, or a table was meddled with ───────────────┘   └───────┘ its own size
//!     └───── what is refused belongs to no Service, or other changes went in before it
//! ```
//!
//! A packet is judged lookup by lookup, so what packets under way may still look for is removed only when they have left:
//! what is wanted comes first, in both families, and the rest of every transaction follows in rounds.
//!
//! Whatever the kernel refuses is traced to the Service it belongs to; that Service is left out of the change or load
//! (its address then refuses connections) until it changes or is tried again; the others are not concerned.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pintle_net::nfnetlink::{Grain, NftError};
use pintle_nft::{Action, Family, Op, TableId, Transaction};
use pintle_proxy_plan::nftables::{LOAD_BATCH, Part, unhook};
use pintle_proxy_plan::recall::Sticky;
use pintle_proxy_plan::small::Home;
use pintle_proxy_plan::{Change, Claim, Config, Planner, ServiceMap, ServiceName, Slot, Update};

use crate::affinity;
use crate::backend::{Backend, Extent, FamilyReport, Found, Report};
use crate::kernel::Kernel;

/// How often a batch is sent without what was refused of it before we give up.
const ROUNDS_MAX: usize = 6;

/// See the module's description.
pub struct NftBackend<K> {
    kernel: K,
    config: Config,
    families: Vec<PerFamily>,
    /// The kernel's generation when nobody began to listen, and how many transactions we had sent by then.
    began: Option<(u32, u32)>,
}

struct PerFamily {
    planner: Planner,
    installed: Installed,
    /// Why the kernel refused the Services that are left out.
    refused: BTreeMap<Arc<ServiceName>, String>,
    /// Frontends whose flows must be looked at once the rules are in: kept when a transaction fails.
    touched: BTreeSet<Claim>,
    /// What is removed once packets under way have left: a round of batches after the other.
    rounds: VecDeque<Vec<Vec<Op>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Installed {
    Unknown,
    AsPlanned,
}

/// What was sent.
#[derive(Default)]
struct Sent {
    ops: usize,
    longest: Duration,
}

impl<K: Kernel> NftBackend<K> {
    /// Knows nothing yet of Services or of the kernel's state.
    pub fn new(config: Config, families: &[Family], kernel: K) -> Self {
        let families = families.iter().map(|f| PerFamily::new(&config, *f)).collect();
        Self { kernel, config, families, began: None }
    }

    /// Every table that may be there.
    pub fn tables(config: &Config) -> Vec<TableId> {
        let of = |family| Planner::new(config.for_family(family)).all_tables().collect::<Vec<_>>();
        [Family::V4, Family::V6].into_iter().flat_map(of).collect()
    }

    /// What it speaks to.
    pub fn kernel(&mut self) -> &mut K {
        &mut self.kernel
    }

    /// Removes round by round what nothing leads to any more, and then the flows to servers that serve no more: a packet
    /// that was under way may have begun one.
    fn remove_unused(&mut self, report: &mut Report) {
        let mut is_due = self.families.iter().any(|f| !f.rounds.is_empty() || !f.touched.is_empty());
        while is_due {
            self.kernel.let_packets_leave();
            for (family, done) in self.families.iter_mut().zip(&mut report.families) {
                family.next_round(&mut self.kernel, done);
            }
            is_due = self.families.iter().any(|f| !f.rounds.is_empty());
        }
    }
}

impl<K: Kernel> Backend for NftBackend<K> {
    fn config(&self) -> &Config {
        &self.config
    }

    fn reconfigure(&mut self, config: Config) {
        let families: Vec<Family> = self.families.iter().map(|f| f.planner.config().family).collect();
        self.families = families.into_iter().map(|f| PerFamily::new(&config, f)).collect();
        self.config = config;
    }

    fn note(&mut self, change: Change<'_>) {
        self.families.iter_mut().for_each(|f| f.planner.note(change));
    }

    fn distrust(&mut self) {
        for family in &mut self.families {
            family.installed = Installed::Unknown;
            family.planner.forgive();
        }
    }

    fn try_again(&mut self) {
        for family in &mut self.families {
            match family.installed {
                Installed::AsPlanned => family.planner.try_again(),
                Installed::Unknown => family.planner.forgive(),
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.families.iter().all(|f| f.planner.is_settled())
    }

    fn settle(&mut self) {
        self.families.iter_mut().for_each(|f| f.planner.settle());
    }

    fn begin_alone(&mut self) {
        self.began = self.kernel.generation().ok().map(|g| (g, self.kernel.transactions()));
    }

    fn sync(&mut self) -> Report {
        let mut report = Report::default();
        for family in &mut self.families {
            let (done, update) = family.sync(&mut self.kernel);
            let Update { concerned, issues, health, loopback, .. } = update;
            report.add(done, Found { concerned, issues, health, loopback });
        }
        self.remove_unused(&mut report);
        report.settle_health(|| self.families.iter().map(|f| f.planner.map()));
        report
    }

    fn maps(&self) -> Vec<&ServiceMap> {
        self.families.iter().map(|f| f.planner.map()).collect()
    }

    fn is_intact(&mut self) -> bool {
        let known = self.families.iter().filter(|f| f.installed == Installed::AsPlanned);
        known.flat_map(|f| f.planner.serving()).all(|table| self.kernel.is_serving(&table).unwrap_or(false))
    }

    fn was_alone(&mut self) -> bool {
        let now = self.kernel.generation().ok().map(|g| (g, self.kernel.transactions()));
        matches!((self.began, now), (Some((g0, n0)), Some((g1, n1))) if g1.wrapping_sub(g0) == n1.wrapping_sub(n0))
    }
}

/// Whether this kernel takes our rules of a family: all that every table has, in a transaction that removes it again.
///
/// # Errors
/// The kernel's reason.
pub fn probe(kernel: &mut impl Kernel, config: &Config, family: Family) -> Result<(), NftError> {
    let config = Config { table: format!("{}-probe", config.table), ..config.for_family(family) };
    let mut planner = Planner::new(config);
    let mut ops: Vec<Op> = planner.load(LOAD_BATCH).flat_map(Part::ops).collect();
    ops.extend(planner.serving().map(|table| Op { table, action: Action::DelTable }));
    kernel.commit(&ops, Grain::Fine)
}

impl PerFamily {
    fn new(config: &Config, family: Family) -> Self {
        Self {
            planner: Planner::new(config.for_family(family)),
            installed: Installed::Unknown,
            refused: BTreeMap::new(),
            touched: BTreeSet::new(),
            rounds: VecDeque::new(),
        }
    }

    /// Puts in effect what is wanted; what is to be removed is left to [`Self::next_round`].
    fn sync(&mut self, kernel: &mut impl Kernel) -> (FamilyReport, Update) {
        let begun = Instant::now();
        let mut sent = Sent::default();
        let incremental = self.installed == Installed::AsPlanned;
        let mut update = if incremental { self.planner.update() } else { self.planner.absorb() };
        self.touched.append(&mut update.touched);
        let mut extent = Extent::Nothing;
        let mut outcome = Ok(());
        if incremental && !update.transaction.is_empty() {
            extent = Extent::Incremental;
            outcome = self.change(kernel, &mut sent, &mut update);
            // Nobody but us should know why it was refused: the whole truth comes with a full load.
            self.installed = if outcome.is_ok() { Installed::AsPlanned } else { Installed::Unknown };
        }
        if self.installed == Installed::Unknown {
            extent = Extent::Full;
            outcome = self.load(kernel, &mut sent);
            self.installed = if outcome.is_ok() { Installed::AsPlanned } else { Installed::Unknown };
        }
        self.refused.retain(|name, _| self.planner.left_out().contains(name));
        let report = FamilyReport {
            family: self.planner.config().family,
            extent,
            ops: sent.ops,
            took: begun.elapsed(),
            longest: sent.longest,
            refused: self.refused.iter().map(|(name, why)| ((**name).clone(), why.clone())).collect(),
            flows: Ok(0),
            outcome: outcome.map_err(Into::into),
        };
        (report, update)
    }

    /// Carries out one round of removals; after the last, flows are looked at.
    fn next_round(&mut self, kernel: &mut impl Kernel, report: &mut FamilyReport) {
        if report.outcome.is_err() {
            self.rounds.clear();
            return;
        }
        let mut sent = Sent::default();
        let batches = self.rounds.pop_front().unwrap_or_default();
        if let Err(error) = batches.iter().try_for_each(|batch| sent.batch(kernel, batch, Grain::Coarse)) {
            // What is wanted is in effect, but not all else is as it should be.
            self.rounds.clear();
            self.installed = Installed::Unknown;
            report.outcome = Err(error.into());
            return;
        }
        report.ops += sent.ops;
        report.longest = report.longest.max(sent.longest);
        if self.rounds.is_empty() && report.flows.is_ok() {
            report.flows = self.forget_stale_flows(kernel).map_err(Into::into);
        }
    }

    /// Puts a transaction in effect; what it removes waits for later rounds. Of a failure, the refused operations, unless
    /// something is installed already.
    fn first_phase(
        &mut self,
        kernel: &mut impl Kernel,
        sent: &mut Sent,
        transaction: &Transaction,
    ) -> Result<(), (NftError, Vec<Op>)> {
        let mut phases = transaction.phases();
        let first = phases.next().unwrap_or_default();
        let of = |at: &[usize]| at.iter().filter_map(|n| first[0].get(*n)).cloned().collect();
        sent.all(kernel, first).map_err(|(batch, error)| {
            let refused = match &error {
                NftError::Refused { at, .. } if batch == 0 && !error.is_transient() => of(at),
                _ => Vec::new(),
            };
            (error, refused)
        })?;
        self.rounds = phases.map(<[Vec<Op>]>::to_vec).collect();
        Ok(())
    }

    /// Puts a change in effect, and again without the Services the kernel refuses, as long as nothing of it is installed.
    fn change(&mut self, kernel: &mut impl Kernel, sent: &mut Sent, update: &mut Update) -> Result<(), NftError> {
        for _ in 0..ROUNDS_MAX {
            let Err((error, refused)) = self.first_phase(kernel, sent, &update.transaction) else { return Ok(()) };
            let named = self.planner.leave_out_of(update, &refused.iter().collect::<Vec<_>>());
            if named.is_empty() {
                return Err(error);
            }
            self.refused.extend(named.into_keys().map(|name| (name, why(&error))));
        }
        Err(NftError::Overrun { ops: sent.ops })
    }

    /// Loads everything, and again without the Services the kernel refuses.
    fn load(&mut self, kernel: &mut impl Kernel, sent: &mut Sent) -> Result<(), NftError> {
        self.touched.extend(self.planner.frontends());
        for _ in 0..ROUNDS_MAX {
            let Some(refused) = self.load_once(kernel, sent)? else { return Ok(()) };
            let named = self.planner.leave_out(&refused.iter().map(|(op, _)| op).collect::<Vec<_>>());
            if named.is_empty() {
                return Err(refused.into_iter().next().map_or(NftError::Overrun { ops: sent.ops }, |(_, error)| error));
            }
            self.refused.extend(named.into_iter().map(|(name, at)| (name, why(&refused[at].1))));
        }
        Err(NftError::Overrun { ops: sent.ops })
    }

    /// Loads everything but who is left out into the tables that do not serve. What the kernel refuses is returned,
    /// and then the old ones go on serving.
    fn load_once(
        &mut self,
        kernel: &mut impl Kernel,
        sent: &mut Sent,
    ) -> Result<Option<Vec<(Op, NftError)>>, NftError> {
        let [first, second] = self.planner.tables();
        // The first table is preferred where none serves.
        let (slot, old, new) = match (kernel.is_serving(&second)?, kernel.is_serving(&first)?) {
            (false, true) => (Slot::First, first, second),
            (_, false) | (true, true) => (Slot::Second, second, first),
        };
        self.planner.set_slot(slot);
        let sticky = Sticky::of(self.planner.map());
        let mut refused: Vec<(Op, NftError)> = Vec::new();
        for part in self.planner.load(LOAD_BATCH) {
            let batch = match part {
                Part::Fill(batch) => batch,
                Part::TakeOver(_) if !refused.is_empty() => return Ok(Some(refused)),
                Part::TakeOver(batch) => {
                    if let Err(error) = affinity::keep(kernel, &sticky, &old, &new) {
                        tracing::warn!(%error, "clients of Services with session affinity may get another endpoint");
                    }
                    // Hooks are nobody's: all of them or none, and then the old table serves on.
                    sent.batch(kernel, &batch, Grain::Fine)?;
                    continue;
                }
                Part::Remove(batch) => {
                    // Both serve for a moment, the newer before the older.
                    let mut hooks = Vec::new();
                    for table in Home::ALL.map(|home| home.beside(&old)) {
                        hooks.extend(kernel.is_serving(&table)?.then(|| unhook(&table)).into_iter().flatten());
                    }
                    let hooks = (!hooks.is_empty()).then(|| vec![hooks]);
                    self.rounds = hooks.into_iter().chain([vec![batch]]).collect();
                    continue;
                }
            };
            refused.extend(sent.sift(kernel, batch)?);
        }
        Ok((!refused.is_empty()).then_some(refused))
    }

    /// UDP has no connections that end: a client that goes on sending keeps its flow, and with it the server it was
    /// once given. Of other protocols, connections that could not begin while there were no rules can then.
    fn forget_stale_flows(&mut self, kernel: &mut impl Kernel) -> Result<usize, NftError> {
        if self.touched.is_empty() {
            return Ok(0);
        }
        let flows = kernel.flows(self.planner.config().family, &ServiceMap::may_be_stale)?;
        let stale = self.planner.stale_flows(&self.touched, &flows);
        stale.iter().try_for_each(|flow| kernel.forget(flow))?;
        // Those that could not be looked at are looked at with the next change.
        self.touched.clear();
        Ok(stale.len())
    }
}

/// The kernel's word for it.
fn why(error: &NftError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

impl Sent {
    fn batch(&mut self, kernel: &mut impl Kernel, ops: &[Op], grain: Grain) -> Result<(), NftError> {
        let begun = Instant::now();
        let outcome = kernel.commit(ops, grain);
        self.longest = self.longest.max(begun.elapsed());
        self.ops += ops.len();
        outcome
    }

    /// Sends batches; of a failure, which it was and which operations exactly.
    fn all(&mut self, kernel: &mut impl Kernel, batches: &[Vec<Op>]) -> Result<(), (usize, NftError)> {
        for (at, ops) in batches.iter().enumerate() {
            let mut outcome = self.batch(kernel, ops, Grain::Coarse);
            if outcome.as_ref().is_err_and(|e| matches!(e, NftError::Refused { .. }) && !e.is_transient()) {
                outcome = self.batch(kernel, ops, Grain::Fine);
            }
            outcome.map_err(|error| (at, error))?;
        }
        Ok(())
    }

    /// Sends a batch without what the kernel refuses of it, which is returned.
    fn sift(&mut self, kernel: &mut impl Kernel, mut ops: Vec<Op>) -> Result<Vec<(Op, NftError)>, NftError> {
        let mut refused: Vec<(Op, NftError)> = Vec::new();
        let mut grain = Grain::Coarse;
        for _ in 0..ROUNDS_MAX {
            if ops.is_empty() {
                return Ok(refused);
            }
            let error = match self.batch(kernel, &ops, grain) {
                Ok(()) => return Ok(refused),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => error,
            };
            let NftError::Refused { at, source, .. } = &error else { return Err(error) };
            if grain == Grain::Coarse {
                // Once more, to learn which operations it is exactly.
                grain = Grain::Fine;
                continue;
            }
            let at: HashSet<usize> = at.iter().copied().collect();
            let errno = source.raw_os_error().unwrap_or(0);
            let (bad, good): (Vec<_>, Vec<_>) = ops.into_iter().enumerate().partition(|(n, _)| at.contains(n));
            ops = good.into_iter().map(|(_, op)| op).collect();
            let again = |op: &Op| NftError::Refused {
                object: pintle_nft::text::op(op),
                count: bad.len(),
                at: Vec::new(),
                source: std::io::Error::from_raw_os_error(errno),
            };
            let bad: Vec<(Op, NftError)> = bad.iter().map(|(_, op)| (op.clone(), again(op))).collect();
            if bad.is_empty() {
                return Err(error);
            }
            refused.extend(bad);
        }
        Ok(refused)
    }
}
