//! The nftables backend: planners and the kernel side by side, a family at a time.
//!
//! ```text
//!  Unknown ── full load into the table that does not serve, which then takes over ──► AsPlanned ◄─┐
//!     ▲  ▲                                                                              │   │      │ a change:
//!     │  └── refused for reasons that pass, or the table was meddled with ──────────────┘   └──────┘ its own size
//!     └───── a Service is refused: all are loaded anew without it, and so on until it changes
//! ```
//!
//! A packet is judged lookup by lookup, so what packets under way may still look for is removed only when they have left:
//! what is wanted comes first, in both families, and the rest of every transaction follows in rounds.
//!
//! Whatever the kernel refuses is traced to the Service it belongs to; that Service is left out (its address then
//! refuses connections), the others are not concerned.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::{Duration, Instant};

use pintle_net::nfnetlink::{Grain, NftError};
use pintle_nft::{Action, Family, Name, Op, TableId, Transaction, Value};
use pintle_proxy_plan::fragment::render;
use pintle_proxy_plan::map::Served;
use pintle_proxy_plan::nftables::{LOAD_BATCH, Part, unhook};
use pintle_proxy_plan::{Change, Claim, Config, Counts, Planner, ServiceName, Slot, Update};

use crate::backend::{Backend, Extent, FamilyReport, Found, Report};
use crate::kernel::Kernel;

/// How often a batch is sent without what was refused of it before we give up.
const ROUNDS_MAX: usize = 6;

/// See the module's description.
pub struct NftBackend<K> {
    kernel: K,
    config: Config,
    families: Vec<PerFamily>,
    /// The kernel's generation when the last synchronisation began, and how many transactions we had sent by then.
    began: Option<(u32, u32)>,
}

struct PerFamily {
    planner: Planner,
    installed: Installed,
    /// Services the kernel refused, as they were then.
    refused: BTreeMap<ServiceName, Refusal>,
    /// UDP frontends whose flows must be looked at once the rules are in: kept when a transaction fails.
    touched: BTreeSet<Claim>,
    /// What is removed once packets under way have left: a round of batches after the other.
    rounds: VecDeque<Vec<Vec<Op>>>,
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

/// An object of the table that belongs to one Service.
#[derive(PartialEq, Eq, Hash)]
enum Object {
    Set(Name),
    Chain(Name),
    Element(Name, Value),
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
        let of = |family| Planner::new(config.for_family(family)).tables();
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
            family.refused.clear();
        }
    }

    fn sync(&mut self) -> Report {
        let mut report = Report::default();
        self.began = self.kernel.generation().ok().map(|g| (g, self.kernel.transactions()));
        for family in &mut self.families {
            let (done, update) = family.sync(&mut self.kernel);
            report.add(done, Found { issues: update.issues, health: update.health, loopback: update.loopback });
        }
        self.remove_unused(&mut report);
        report.settle_health(|| self.families.iter().map(|f| f.planner.map()));
        report
    }

    fn counts(&self, family: Family) -> Counts {
        let planner = self.families.iter().map(|f| &f.planner).find(|p| p.config().family == family);
        planner.map(Planner::counts).unwrap_or_default()
    }

    fn is_intact(&mut self) -> bool {
        let serving = |kernel: &mut K, f: &PerFamily| kernel.is_serving(&f.planner.table());
        self.families.iter().all(|f| f.installed == Installed::Unknown || serving(&mut self.kernel, f).unwrap_or(false))
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
    ops.push(Op { table: planner.table(), action: Action::DelTable });
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
        let incremental = self.installed == Installed::AsPlanned && self.refused.is_empty();
        let mut update = if incremental { self.planner.update() } else { self.planner.absorb() };
        self.touched.append(&mut update.touched);
        let mut extent = Extent::Nothing;
        let mut outcome = Ok(());
        if incremental {
            if !update.transaction.is_empty() {
                extent = Extent::Incremental;
                outcome = self.change(kernel, &mut sent, &update.transaction);
            }
            // Nobody but us should know why it was refused: the whole truth comes with a full load.
            self.installed = if outcome.is_ok() { Installed::AsPlanned } else { Installed::Unknown };
        }
        if self.installed == Installed::Unknown || !incremental {
            extent = Extent::Full;
            outcome = self.load(kernel, &mut sent);
            self.installed = if outcome.is_ok() { Installed::AsPlanned } else { Installed::Unknown };
        }
        let report = FamilyReport {
            family: self.planner.config().family,
            extent,
            ops: sent.ops,
            took: begun.elapsed(),
            longest: sent.longest,
            refused: self.refused.iter().map(|(name, r)| (name.clone(), r.why.clone())).collect(),
            flows: Ok(0),
            outcome: outcome.map_err(Into::into),
        };
        (report, update)
    }

    fn change(&mut self, kernel: &mut impl Kernel, sent: &mut Sent, transaction: &Transaction) -> Result<(), NftError> {
        let mut phases = transaction.phases();
        let first = phases.next().unwrap_or_default();
        first.iter().try_for_each(|batch| sent.batch(kernel, batch, Grain::Coarse))?;
        self.rounds = phases.map(<[Vec<Op>]>::to_vec).collect();
        Ok(())
    }

    /// Carries out one round of removals; after the last, flows are looked at.
    fn next_round(&mut self, kernel: &mut impl Kernel, report: &mut FamilyReport) {
        if report.outcome.is_err() {
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

    /// Loads everything, and again without the Services the kernel refuses.
    fn load(&mut self, kernel: &mut impl Kernel, sent: &mut Sent) -> Result<(), NftError> {
        self.touched.extend(self.planner.frontends().into_iter().filter(|c| c.proto() == pintle_nft::Proto::Udp));
        let map = self.planner.map();
        // One that has changed since may do better now.
        self.refused.retain(|name, refusal| map.get(name) == Some(&refusal.served));
        for _ in 0..ROUNDS_MAX {
            let Some(refused) = self.load_once(kernel, sent)? else { return Ok(()) };
            let before = self.refused.len();
            self.blame(&refused);
            if self.refused.len() == before {
                return Err(refused.into_iter().next().map_or(NftError::Overrun { ops: sent.ops }, |(_, error)| error));
            }
        }
        Err(NftError::Overrun { ops: sent.ops })
    }

    /// Loads everything but refused Services into the table that does not serve. What the kernel refuses is returned,
    /// and then the old table goes on serving.
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
        let without = self.objects_of_refused();
        let mut refused: Vec<(Op, NftError)> = Vec::new();
        for part in self.planner.load(LOAD_BATCH) {
            let batch = match part {
                Part::Fill(batch) => batch,
                Part::TakeOver(_) if !refused.is_empty() => return Ok(Some(refused)),
                Part::TakeOver(batch) => {
                    if let Err(error) = kernel.carry_over(&old, &new) {
                        tracing::warn!(%error, "clients of Services with session affinity may get another endpoint");
                    }
                    batch
                }
                Part::Remove(batch) => {
                    // Both serve for a moment, the newer before the older.
                    let unhook = if kernel.is_serving(&old)? { vec![vec![unhook(&old)]] } else { Vec::new() };
                    self.rounds = unhook.into_iter().chain([vec![batch]]).collect();
                    continue;
                }
            };
            let batch = if without.is_empty() {
                batch
            } else {
                batch.into_iter().filter(|op| !without.contains_op(op)).collect()
            };
            refused.extend(sent.sift(kernel, batch)?);
        }
        Ok((!refused.is_empty()).then_some(refused))
    }

    /// Finds the Services to whom the refused operations belong.
    fn blame(&mut self, refused: &[(Op, NftError)]) {
        for (name, served) in self.planner.map().iter() {
            let fragment = render(self.planner.config(), name, served);
            let (mut objects, mut shared) = (Objects::default(), Objects::default());
            objects.add(&fragment.own.sets, fragment.own.chains.keys());
            shared.add(&BTreeMap::new(), fragment.chains.keys());
            if let Some((_, error)) = refused.iter().find(|(op, _)| objects.contains_op(op) || shared.contains_op(op)) {
                let why = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
                self.refused.insert((**name).clone(), Refusal { served: served.clone(), why });
            }
        }
    }

    fn objects_of_refused(&self) -> Objects {
        let mut objects = Objects::default();
        for name in self.refused.keys() {
            let Some(served) = self.planner.map().get(name) else { continue };
            let own = render(self.planner.config(), name, served).own;
            objects.add(&own.sets, own.chains.keys());
        }
        objects
    }

    /// UDP has no connections that end: a client that goes on sending keeps its flow, and with it the server it was
    /// once given.
    fn forget_stale_flows(&mut self, kernel: &mut impl Kernel) -> Result<usize, NftError> {
        if self.touched.is_empty() {
            return Ok(0);
        }
        let flows = kernel.flows(self.planner.config().family)?;
        let stale = self.planner.stale_flows(&self.touched, &flows);
        stale.iter().try_for_each(|flow| kernel.forget(flow))?;
        // Those that could not be looked at are looked at with the next change.
        self.touched.clear();
        Ok(stale.len())
    }
}

/// Objects of Services.
#[derive(Default)]
struct Objects(HashSet<Object>);

impl Objects {
    fn add<'a>(&mut self, sets: &BTreeMap<Name, pintle_nft::Set>, chains: impl Iterator<Item = &'a Name>) {
        for (name, set) in sets {
            if is_shared(name) {
                self.0.extend(set.elements.keys().map(|key| Object::Element(name.clone(), *key)));
            } else {
                self.0.insert(Object::Set(name.clone()));
            }
        }
        self.0.extend(chains.map(|name| Object::Chain(name.clone())));
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn contains_op(&self, op: &Op) -> bool {
        let has = |object| self.0.contains(&object);
        match &op.action {
            Action::AddTable | Action::DelTable => false,
            Action::AddSet(name, _) | Action::DelSet(name) => has(Object::Set(name.clone())),
            Action::AddChain(name, _)
            | Action::DelChain(name)
            | Action::FlushChain(name)
            | Action::AddRule(name, _) => has(Object::Chain(name.clone())),
            Action::AddElement(set, key, _) | Action::ReplaceElement(set, key, _) | Action::DelElement(set, key) => {
                has(Object::Set(set.clone())) || has(Object::Element(set.clone(), *key))
            }
        }
    }
}

/// Whether a set is one of the table's constant ones.
fn is_shared(name: &Name) -> bool {
    use pintle_proxy_plan::base;
    [base::SERVICE_IPS, base::NODE_PORTS, base::ENDPOINTS, base::PORT_ENDPOINTS, base::UNUSED_PORTS, base::HAIRPIN]
        .contains(&&**name)
}

impl Sent {
    fn batch(&mut self, kernel: &mut impl Kernel, ops: &[Op], grain: Grain) -> Result<(), NftError> {
        let begun = Instant::now();
        let outcome = kernel.commit(ops, grain);
        self.longest = self.longest.max(begun.elapsed());
        self.ops += ops.len();
        outcome
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
