//! One family's Services, and the nftables tables that serve them: the [`ServiceMap`] with its nftables rendering.
//! Takes API objects in, gives transactions out; nothing here waits or sends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pintle_nft::{Flow, Op, Ruleset, TableId, Transaction};

use crate::base;
use crate::blame::blamed;
use crate::config::Config;
use crate::issue::Issue;
use crate::map::{Change, Resolved, ServiceMap};
use crate::nftables::{self, Difference, Nftables};
use crate::outputs::{self, Counts, HealthChanges, HealthCheck, LoopbackChanges, LoopbackPort};
use crate::service::{Claim, ServiceName};
use crate::small::Home;

/// What follows from changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// What to send.
    pub transaction: Transaction,
    /// Services that may be served differently; see [`Resolved::concerned`].
    pub concerned: BTreeSet<Arc<ServiceName>>,
    /// The UDP frontends whose servers may have changed, for [`Planner::stale_flows`].
    pub touched: BTreeSet<Claim>,
    /// What is wrong with the changed objects.
    pub issues: Vec<Issue>,
    /// Health checks to answer otherwise.
    pub health: HealthChanges,
    /// Node ports to serve on loopback otherwise.
    pub loopback: LoopbackChanges,
    difference: Difference,
}

impl Update {
    fn of(resolved: Resolved, difference: Difference) -> Self {
        Self {
            transaction: difference.transaction(),
            difference,
            health: outputs::health_changes(&resolved.changes),
            loopback: outputs::loopback_changes(&resolved.changes),
            concerned: resolved.concerned,
            touched: resolved.touched,
            issues: resolved.issues,
        }
    }
}

/// Which of two large tables, each with others beside it, serves: a full load fills the other and lets it take over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slot {
    /// The table of the configured name.
    #[default]
    First,
    /// The one with `-b` after it.
    Second,
}

impl Slot {
    /// The table of a configured name.
    #[must_use]
    pub fn table(self, name: &str) -> String {
        match self {
            Self::First => name.to_owned(),
            Self::Second => format!("{name}-b"),
        }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// The state of all Services of one family.
#[derive(Debug)]
pub struct Planner {
    map: ServiceMap,
    nftables: Nftables,
    name: String,
    slot: Slot,
}

impl Planner {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let name = config.table.clone();
        let mut map = ServiceMap::new(config);
        map.decide_fresh();
        Self { map, nftables: Nftables::default(), name, slot: Slot::First }
    }

    /// The configuration it was made with; its table is the one that serves.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.map.config()
    }

    /// The Services as every backend sees them.
    #[must_use]
    pub fn map(&self) -> &ServiceMap {
        &self.map
    }

    /// Takes note of a change; [`Planner::update`] says what follows.
    pub fn note(&mut self, change: Change<'_>) {
        self.map.note(change);
    }

    /// What follows from the changes noted since the last call, given that everything before is installed.
    pub fn update(&mut self) -> Update {
        let resolved = self.map.resolve();
        let difference = self.nftables.difference(&self.map, &resolved.changes);
        Update::of(resolved, difference)
    }

    /// Makes another transaction of an update of which nothing is installed, without the Services these refused
    /// operations belong to. They stay left out until they change, [`Planner::try_again`] or [`Planner::forgive`].
    /// Returns whom it left out, and for which operation; nobody when it cannot tell.
    pub fn leave_out_of(&mut self, update: &mut Update, refused: &[&Op]) -> BTreeMap<Arc<ServiceName>, usize> {
        let mut named = blamed(&self.map, update.difference.services.iter(), refused);
        named.retain(|name, _| !self.left_out().contains(name));
        self.nftables.leave_out_of(&self.map, &mut update.difference, named.keys());
        update.transaction = update.difference.transaction();
        named
    }

    /// The same for a full load, of which another must follow.
    pub fn leave_out(&mut self, refused: &[&Op]) -> BTreeMap<Arc<ServiceName>, usize> {
        let mut named = blamed(&self.map, self.map.iter().map(|(name, _)| name), refused);
        named.retain(|name, _| !self.left_out().contains(name));
        self.nftables.leave_out(named.keys());
        named
    }

    /// The Services left out.
    #[must_use]
    pub fn left_out(&self) -> &BTreeSet<Arc<ServiceName>> {
        self.nftables.left_out()
    }

    /// Whether nothing is installed as fresh ([`Config::fresh_from`]).
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.nftables.is_settled()
    }

    /// Has the next update settle what is fresh.
    pub fn settle(&mut self) {
        self.nftables.settle();
    }

    /// Has the next update contain what is left out.
    pub fn try_again(&mut self) {
        self.nftables.try_again();
    }

    /// Has the next load contain what is left out.
    pub fn forgive(&mut self) {
        self.nftables.forgive();
    }

    /// The same where nothing is known to be installed: no transaction is made, and [`Planner::load`] must follow.
    pub fn absorb(&mut self) -> Update {
        let resolved = self.map.resolve();
        self.nftables.forgive_changed(&resolved.changes);
        Update::of(resolved, Difference::default())
    }

    /// Names the table that serves now, as found in the kernel at start.
    pub fn set_slot(&mut self, slot: Slot) {
        self.slot = slot;
        self.map.set_table(&slot.table(&self.name));
    }

    /// Both large tables it may use; at most one has hooks.
    #[must_use]
    pub fn tables(&self) -> [TableId; 2] {
        [Slot::First, Slot::Second].map(|slot| self.table_of(slot))
    }

    /// Every table it may use.
    pub fn all_tables(&self) -> impl Iterator<Item = TableId> {
        self.tables().into_iter().flat_map(|large| Home::ALL.map(|home| home.beside(&large)))
    }

    /// Those that serve together.
    pub fn serving(&self) -> impl Iterator<Item = TableId> {
        Home::of(self.config()).iter().map(|home| home.beside(&self.table()))
    }

    fn table_of(&self, slot: Slot) -> TableId {
        TableId { family: self.config().family, name: slot.table(&self.name).as_str().into() }
    }

    /// A full load in batches of about `batch` operations, into the tables that do not serve, which take over then; the
    /// last removes the others. Whatever was in them is deleted first.
    pub fn load(&mut self, batch: usize) -> nftables::Load<'_> {
        let old = self.table_of(self.slot);
        self.set_slot(self.slot.other());
        self.map.decide_fresh();
        self.nftables.load(&self.map, Some(old), batch)
    }

    /// Everything, as it should be installed.
    #[must_use]
    pub fn full(&self) -> Ruleset {
        self.nftables.installed(&self.map)
    }

    /// The large table that serves.
    #[must_use]
    pub fn table(&self) -> TableId {
        base::table_id(self.config())
    }

    /// All frontends there are: what a full load touches.
    #[must_use]
    pub fn frontends(&self) -> BTreeSet<Claim> {
        self.map.frontends()
    }

    /// How many Services are served.
    #[must_use]
    pub fn service_count(&self) -> usize {
        self.map.iter().count()
    }

    /// See [`ServiceMap::stale_flows`].
    #[must_use]
    pub fn stale_flows(&self, touched: &BTreeSet<Claim>, flows: &[Flow]) -> Vec<Flow> {
        self.map.stale_flows(touched, flows)
    }

    /// All health checks to answer.
    pub fn health_checks(&self) -> impl Iterator<Item = (&ServiceName, HealthCheck)> {
        self.map.iter().filter_map(|(name, served)| Some((&**name, outputs::health_check(served)?)))
    }

    /// All node ports to serve on loopback.
    pub fn loopback_ports(&self) -> impl Iterator<Item = LoopbackPort> {
        self.map.iter().flat_map(|(name, served)| outputs::loopback_ports(name, served))
    }

    /// How much is served.
    #[must_use]
    pub fn counts(&self) -> Counts {
        outputs::counts(&self.map)
    }
}
