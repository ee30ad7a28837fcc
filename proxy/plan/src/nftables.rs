//! The nftables backend: [`Served`](crate::map::Served) Services as fragments of one table. Owns what Services share
//! (chains per number of servers, sets of addresses), which appear with their first user and go with their last, and
//! the order of a full load.

use std::collections::{BTreeMap, HashMap, HashSet};

use pintle_nft::{Action, Data, Name, Op, Ruleset, Table, TableId, Transaction, Value, diff};

use crate::backend::Backend;
use crate::base;
use crate::config::Config;
use crate::fragment::{Fragment, render};
use crate::map::{Changed, ServiceMap};

/// How many operations a batch of a full load has at least, but for the last.
pub const LOAD_BATCH: usize = 6_000;

/// How many Services use what they share.
#[derive(Debug, Default)]
pub struct Nftables {
    users: HashMap<Shared, u32>,
}

/// Something several Services use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Shared {
    Chain(Name),
    Element(Name, Value),
}

impl Backend for Nftables {
    type Plan = Transaction;

    fn full(&mut self, map: &ServiceMap) -> Transaction {
        Transaction::of(self.load(map, None, LOAD_BATCH).map(Part::ops).collect())
    }

    fn change(&mut self, map: &ServiceMap, changes: &[Changed]) -> Transaction {
        let config = map.config();
        let (mut installed, mut wanted) = (base_sets(config), base_sets(config));
        let mut uses: HashMap<Shared, i64> = HashMap::new();
        let mut chains = BTreeMap::new();
        for change in changes {
            let rendered = |served| render(config, &change.name, served);
            let (gone, come) = (change.before.as_deref().map(rendered), change.after.as_deref().map(rendered));
            for (fragment, table, by) in [(gone, &mut installed, -1), (come, &mut wanted, 1)] {
                let Some(fragment) = fragment else { continue };
                count(&mut uses, &fragment, by);
                merge(table, fragment.own);
                chains.extend(fragment.chains);
            }
        }
        self.share(uses, &chains, &mut installed, &mut wanted);
        diff::diff(&of(config, installed), &of(config, wanted))
    }
}

impl Nftables {
    /// A full load into a fresh table, in batches: nothing of it works before the last, then all of it does, and the table
    /// `instead_of` is not needed any more. So no transaction holds the kernel up for long.
    pub fn load<'a>(&'a mut self, map: &'a ServiceMap, instead_of: Option<TableId>, batch: usize) -> Load<'a> {
        self.users.clear();
        let services = Box::new(map.iter().map(|(name, served)| render(map.config(), name, served)));
        Load { backend: self, config: map.config(), services, instead_of, batch, stage: Stage::Frame }
    }

    /// Lets shared chains and elements appear with their first user and go with their last.
    fn share(
        &mut self,
        uses: HashMap<Shared, i64>,
        chains: &BTreeMap<Name, pintle_nft::Chain>,
        installed: &mut Table,
        wanted: &mut Table,
    ) {
        for (what, change) in uses {
            let old = self.users.get(&what).copied().unwrap_or(0);
            let new = u32::try_from(i64::from(old) + change).unwrap_or(0);
            for (users, table) in [(old, &mut *installed), (new, &mut *wanted)] {
                match &what {
                    _ if users == 0 => {}
                    Shared::Element(set, key) => add_element(table, set, *key),
                    Shared::Chain(name) => {
                        table.chains.insert(name.clone(), chains.get(name).cloned().unwrap_or_default());
                    }
                }
            }
            if new == 0 {
                self.users.remove(&what);
            } else {
                self.users.insert(what, new);
            }
        }
    }
}

/// The batches of a full load, one at a time: what is sent need not be held.
pub struct Load<'a> {
    backend: &'a mut Nftables,
    config: &'a Config,
    services: Box<dyn Iterator<Item = Fragment> + 'a>,
    instead_of: Option<TableId>,
    batch: usize,
    stage: Stage,
}

/// A batch of a full load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Fills the new table; no packet enters it yet.
    Fill(Vec<Op>),
    /// The hooks of the new table.
    TakeOver(Vec<Op>),
    /// Removes the old table, whether it is there or not: once its hooks are gone, if it has any ([`unhook`]), and all
    /// packets have left it.
    Remove(Vec<Op>),
}

impl Part {
    /// Its operations.
    #[must_use]
    pub fn ops(self) -> Vec<Op> {
        match self {
            Self::Fill(ops) | Self::TakeOver(ops) | Self::Remove(ops) => ops,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The table, its sets and its constant chains.
    Frame,
    /// Services, as many as a batch holds.
    Services,
    /// The old table.
    Remove,
    Done,
}

impl Iterator for Load<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        match self.stage {
            Stage::Frame => {
                self.stage = Stage::Services;
                Some(Part::Fill(self.frame()))
            }
            Stage::Services => match self.services() {
                Some(batch) => Some(Part::Fill(batch)),
                None => {
                    self.stage = Stage::Remove;
                    Some(Part::TakeOver(self.hooks()))
                }
            },
            Stage::Remove => {
                self.stage = Stage::Done;
                let table = self.instead_of.take()?;
                let op = |action| Op { table: table.clone(), action };
                Some(Part::Remove([Action::AddTable, Action::DelTable].map(op).to_vec()))
            }
            Stage::Done => None,
        }
    }
}

/// Lets no packet enter a table any more that has our hooks.
#[must_use]
pub fn unhook(table: &TableId) -> Vec<Op> {
    let both = |name: &str| [Action::FlushChain(name.into()), Action::DelChain(name.into())];
    let actions = base::HOOKS.into_iter().flat_map(both);
    actions.map(|action| Op { table: table.clone(), action }).collect()
}

impl Load<'_> {
    fn op(&self, action: Action) -> Op {
        Op { table: base::table_id(self.config), action }
    }

    fn frame(&self) -> Vec<Op> {
        let mut frame = base::table(self.config);
        frame.chains.retain(|_, chain| chain.hook.is_none());
        // Adding before deleting makes the deletion succeed when there is none.
        let mut ops = vec![self.op(Action::AddTable), self.op(Action::DelTable)];
        ops.extend(diff::diff(&Ruleset::default(), &of(self.config, frame)).batches.into_iter().flatten());
        ops
    }

    fn services(&mut self) -> Option<Vec<Op>> {
        let (mut wanted, mut ops) = (base_sets(self.config), 0);
        let mut any = false;
        let mut shared: HashSet<Shared> = HashSet::new();
        while ops < self.batch {
            let Some(fragment) = self.services.next() else { break };
            any = true;
            for (name, chain) in &fragment.chains {
                if self.backend.first_use(Shared::Chain(name.clone())) {
                    wanted.chains.insert(name.clone(), chain.clone());
                    ops += 1 + chain.rules.len();
                }
            }
            for (set, key) in &fragment.elements {
                let element = Shared::Element(set.clone(), *key);
                if self.backend.first_use(element.clone()) && shared.insert(element) {
                    add_element(&mut wanted, set, *key);
                    ops += 1;
                }
            }
            ops +=
                fragment.own.element_count() + fragment.own.chains.values().map(|c| c.rules.len() + 1).sum::<usize>();
            merge(&mut wanted, fragment.own);
        }
        let installed = of(self.config, base_sets(self.config));
        any.then(|| diff::diff(&installed, &of(self.config, wanted)).batches.into_iter().flatten().collect())
    }

    fn hooks(&self) -> Vec<Op> {
        let frame = base::table(self.config);
        let mut ops = Vec::new();
        for (name, chain) in frame.chains.into_iter().filter(|(_, chain)| chain.hook.is_some()) {
            ops.push(self.op(Action::AddChain(name.clone(), chain.hook)));
            ops.extend(chain.rules.into_iter().map(|rule| self.op(Action::AddRule(name.clone(), rule))));
        }
        ops
    }
}

impl Nftables {
    /// Counts one more user; whether it is the first.
    fn first_use(&mut self, what: Shared) -> bool {
        let users = self.users.entry(what).or_default();
        *users += 1;
        *users == 1
    }
}

/// Everything, as it should be installed, for people and tests; an edge takes [`Nftables::load`].
#[must_use]
pub fn ruleset(map: &ServiceMap) -> Ruleset {
    let config = map.config();
    let mut table = base::table(config);
    for (name, served) in map.iter() {
        let fragment = render(config, name, served);
        for (set, key) in &fragment.elements {
            add_element(&mut table, set, *key);
        }
        table.chains.extend(fragment.chains);
        merge(&mut table, fragment.own);
    }
    of(config, table)
}

fn of(config: &Config, table: Table) -> Ruleset {
    Ruleset { tables: BTreeMap::from([(base::table_id(config), table)]) }
}

fn count(uses: &mut HashMap<Shared, i64>, fragment: &Fragment, by: i64) {
    for name in fragment.chains.keys() {
        *uses.entry(Shared::Chain(name.clone())).or_default() += by;
    }
    for (set, key) in &fragment.elements {
        *uses.entry(Shared::Element(set.clone(), *key)).or_default() += by;
    }
}

/// The constant sets without elements: they exist on both sides of every change.
fn base_sets(config: &Config) -> Table {
    Table { sets: base::table(config).sets, ..Table::default() }
}

fn add_element(table: &mut Table, set: &Name, key: Value) {
    if let Some(set) = table.sets.get_mut(set) {
        set.elements.insert(key, Data::None);
    }
}

fn merge(table: &mut Table, own: Table) {
    for (name, set) in own.sets {
        match table.sets.get_mut(&name) {
            Some(there) => there.elements.extend(set.elements),
            None => drop(table.sets.insert(name, set)),
        }
    }
    table.chains.extend(own.chains);
}
