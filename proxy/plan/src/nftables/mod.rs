//! The nftables backend: [`Served`](crate::map::Served) Services as fragments of tables. Owns what Services share (chains
//! per number of servers, sets of addresses), which appear with their first user and go with their last, and who is fresh.

mod load;
mod tables;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use pintle_nft::{Chain, Name, Ruleset, Table, TableId, Transaction, Value, diff};

use crate::backend::Backend;
use crate::base;
use crate::config::Config;
use crate::fragment::{Fragment, render};
use crate::map::{Changed, Served, ServiceMap};
use crate::service::ServiceName;
use crate::small::{Home, can_be_fresh, is_looked_through, place};
use load::Stage;
use tables::Tables;

pub use load::{LOAD_BATCH, Load, Part, unhook};

/// Of more changes at once none is kept apart as fresh: all are one look through the large table.
const FRESH_MAX: usize = 100;

/// What is rendered, as far as the Services alone do not say it.
#[derive(Debug, Default)]
pub struct Nftables {
    /// How many Services use what they share.
    users: HashMap<Shared, u32>,
    /// Services that the kernel refused: their addresses refuse connections, nothing else of them is there.
    left_out: BTreeSet<Arc<ServiceName>>,
    /// Whether the next change tries them again.
    again: bool,
    /// Services that are installed as fresh ones.
    fresh: BTreeSet<Arc<ServiceName>>,
    /// Chains of the small table that fresh ones share. They stay until everything is loaded: who is fresh next finds them.
    small_chains: BTreeMap<Name, Chain>,
    /// Whether they are no more after the next change.
    settle: bool,
}

/// What a transaction is the difference of, so that another can be made without what the kernel refuses of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The Services concerned.
    pub services: Vec<Arc<ServiceName>>,
    installed: Ruleset,
    wanted: Ruleset,
}

/// Something several Services use in the large table.
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
        self.difference(map, changes).transaction()
    }
}

impl Difference {
    /// What leads from one side to the other.
    #[must_use]
    pub fn transaction(&self) -> Transaction {
        diff::diff(&self.installed, &self.wanted)
    }
}

impl Nftables {
    /// What follows from changes of the map; see [`Backend::change`]. A Service that was left out and has changed may
    /// do better now.
    pub fn difference(&mut self, map: &ServiceMap, changes: &[Changed]) -> Difference {
        let config = map.config();
        let again = if std::mem::take(&mut self.again) { once_more(map, &self.left_out, changes) } else { Vec::new() };
        let settled = if std::mem::take(&mut self.settle) { once_more(map, &self.fresh, changes) } else { Vec::new() };
        let few = config.fresh && changes.len() <= FRESH_MAX;
        let (mut installed, mut wanted) = (Tables::sets(config), Tables::sets(config));
        let mut uses: HashMap<Shared, i64> = HashMap::new();
        let mut chains = BTreeMap::new();
        for (at, change) in settled.iter().chain(changes).chain(&again).enumerate() {
            let rendered = |served: &Arc<Served>| render(config, &change.name, served);
            let (gone, come) = (change.before.as_ref().map(rendered), change.after.as_ref().map(rendered));
            let (was_out, was_fresh) = (self.left_out.remove(&change.name), self.fresh.remove(&change.name));
            let there = gone.as_ref().filter(|_| !was_out);
            let stays = was_fresh && at >= settled.len();
            let becomes = |come: &Fragment| !was_fresh && few && is_looked_through(there, come);
            let may =
                |served: &Served, come: &Fragment| can_be_fresh(&served.service, come) && (stays || becomes(come));
            let is_fresh = change.after.as_ref().zip(come.as_ref()).is_some_and(|(served, come)| may(served, come));
            let gone = gone.map(|fragment| place(fragment, was_fresh));
            let gone = gone.map(|fragment| if was_out { without_service(fragment) } else { fragment });
            let come = come.map(|fragment| place(fragment, is_fresh));
            if is_fresh {
                self.fresh.insert(change.name.clone());
            }
            for (fragment, tables, by) in [(gone, &mut installed, -1), (come, &mut wanted, 1)] {
                let Some(mut fragment) = fragment else { continue };
                if fragment.home == Home::Small {
                    let mut missing = std::mem::take(&mut fragment.chains);
                    missing.retain(|name, _| !self.small_chains.contains_key(name));
                    self.small_chains.extend(missing.clone());
                    tables.merge(Home::Small, Table { chains: missing, ..Table::default() });
                }
                count(&mut uses, &fragment, by);
                tables.merge(fragment.home, fragment.own);
                chains.extend(fragment.chains);
            }
        }
        self.share(uses, &chains, &mut installed, &mut wanted);
        let services = settled.iter().chain(changes).chain(&again).map(|change| change.name.clone()).collect();
        Difference { services, installed: installed.ruleset(), wanted: wanted.ruleset() }
    }

    /// Leaves Services, none of which is left out yet, out of a difference of which nothing is installed.
    pub fn leave_out_of<'a>(
        &mut self,
        map: &ServiceMap,
        difference: &mut Difference,
        names: impl Iterator<Item = &'a Arc<ServiceName>>,
    ) {
        let large = base::table_id(map.config());
        for name in names {
            let Some(served) = map.get(name) else { continue };
            let is_fresh = self.fresh.remove(name);
            let fragment = place(render(map.config(), name, served), is_fresh);
            let Some(table) = difference.wanted.tables.get_mut(&fragment.home.beside(&large)) else { continue };
            for chain in fragment.chains.into_keys().filter(|_| !is_fresh) {
                if self.last_use(Shared::Chain(chain.clone())) {
                    table.chains.remove(&chain);
                }
            }
            take_out(table, &fragment.own);
            self.left_out.insert(name.clone());
        }
        self.take_out_small_chains(map, difference);
    }

    /// Leaves out the new chains of the small table that nobody wants any more.
    fn take_out_small_chains(&mut self, map: &ServiceMap, difference: &mut Difference) {
        let small = Home::Small.beside(&base::table_id(map.config()));
        let Some(table) = difference.wanted.tables.get_mut(&small) else { return };
        let fresh = difference.services.iter().filter(|name| self.fresh.contains(*name));
        let chains = |name: &Arc<ServiceName>| Some(render(map.config(), name, map.get(name)?).chains);
        let wanted: BTreeSet<Name> = fresh.filter_map(chains).flat_map(BTreeMap::into_keys).collect();
        let gone = |name: &Name, chains: &BTreeMap<Name, Chain>| chains.contains_key(name) && !wanted.contains(name);
        let unwanted: Vec<Name> = table.chains.keys().filter(|name| gone(name, &self.small_chains)).cloned().collect();
        for name in unwanted {
            table.chains.remove(&name);
            self.small_chains.remove(&name);
        }
    }

    /// Leaves Services out of whatever is loaded next.
    pub fn leave_out<'a>(&mut self, names: impl Iterator<Item = &'a Arc<ServiceName>>) {
        self.left_out.extend(names.cloned());
    }

    /// The Services left out.
    #[must_use]
    pub fn left_out(&self) -> &BTreeSet<Arc<ServiceName>> {
        &self.left_out
    }

    /// Tries with the next change to install what was left out.
    pub fn try_again(&mut self) {
        self.again = !self.left_out.is_empty();
    }

    /// Whether nothing is installed as fresh.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.fresh.is_empty()
    }

    /// With the next change, what is fresh now and does not change is so no more.
    pub fn settle(&mut self) {
        self.settle = !self.is_settled();
    }

    /// Leaves nobody out of the next load.
    pub fn forgive(&mut self) {
        self.left_out.clear();
    }

    /// Who has changed may do better now.
    pub fn forgive_changed(&mut self, changes: &[Changed]) {
        self.left_out.retain(|name| changes.iter().all(|change| change.name != *name));
    }

    /// A full load into new tables, in batches: nothing of it works before the last, then all of it does, and the table
    /// `instead_of` and those beside it are not needed any more. So no transaction holds the kernel up for long.
    pub fn load<'a>(&'a mut self, map: &'a ServiceMap, instead_of: Option<TableId>, batch: usize) -> Load<'a> {
        self.users.clear();
        self.fresh.clear();
        self.small_chains.clear();
        (self.again, self.settle) = (false, false);
        self.left_out.retain(|name| map.get(name).is_some());
        let left_out = self.left_out.clone();
        let config = map.config();
        let of = move |(name, served)| place(rendered(config, name, served, &left_out), false);
        let services = Box::new(map.iter().map(of));
        Load { backend: self, config, services, instead_of, batch, stage: Stage::Frame }
    }

    /// Everything, as it is when all that was planned is installed.
    #[must_use]
    pub fn installed(&self, map: &ServiceMap) -> Ruleset {
        self.rendered(map.config(), map)
    }

    fn rendered(&self, config: &Config, map: &ServiceMap) -> Ruleset {
        let mut tables = Tables::frame(config);
        for (name, served) in map.iter() {
            let fragment = rendered(config, name, served, &self.left_out);
            tables.put(place(fragment, self.fresh.contains(name)));
        }
        tables.merge(Home::Small, Table { chains: self.small_chains.clone(), ..Table::default() });
        tables.ruleset()
    }

    /// Lets shared chains and elements appear with their first user and go with their last.
    fn share(
        &mut self,
        uses: HashMap<Shared, i64>,
        chains: &BTreeMap<Name, Chain>,
        installed: &mut Tables,
        wanted: &mut Tables,
    ) {
        for (what, change) in uses {
            let old = self.users.get(&what).copied().unwrap_or(0);
            let new = u32::try_from(i64::from(old) + change).unwrap_or(0);
            for (users, tables) in [(old, &mut *installed), (new, &mut *wanted)] {
                match &what {
                    _ if users == 0 => {}
                    Shared::Element(set, key) => tables.add_element(set, *key),
                    Shared::Chain(name) => {
                        let chain = chains.get(name).cloned().unwrap_or_default();
                        tables.of(Home::Large).map(|table| table.chains.insert(name.clone(), chain));
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

impl Nftables {
    /// Counts one user less; whether it was the last.
    fn last_use(&mut self, what: Shared) -> bool {
        match self.users.entry(what) {
            Entry::Occupied(mut users) if *users.get() > 1 => {
                *users.get_mut() -= 1;
                false
            }
            Entry::Occupied(users) => {
                users.remove();
                true
            }
            Entry::Vacant(_) => false,
        }
    }

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
    Nftables::default().rendered(&Config { fresh: map.is_large(), ..map.config().clone() }, map)
}

/// These Services, but for those that change anyway, as if they did.
fn once_more(map: &ServiceMap, names: &BTreeSet<Arc<ServiceName>>, changes: &[Changed]) -> Vec<Changed> {
    let same = names.iter().filter(|name| !changes.iter().any(|c| c.name == **name));
    let served = same.filter_map(|name| Some((name.clone(), map.served(name)?.clone())));
    served.map(|(name, served)| Changed { name, before: Some(served.clone()), after: Some(served) }).collect()
}

fn rendered(
    config: &Config,
    name: &Arc<ServiceName>,
    served: &Served,
    left_out: &BTreeSet<Arc<ServiceName>>,
) -> Fragment {
    let fragment = render(config, name, served);
    if left_out.contains(name) { without_service(fragment) } else { fragment }
}

/// What is installed of a Service that is left out: its address, which then refuses.
fn without_service(fragment: Fragment) -> Fragment {
    Fragment { elements: fragment.elements, ..Fragment::default() }
}

/// Takes a Service's own objects out of a table.
fn take_out(table: &mut Table, own: &Table) {
    for (name, gone) in &own.sets {
        match table.sets.get_mut(name) {
            Some(set) if base::is_constant(name) => set.elements.retain(|key, _| !gone.elements.contains_key(key)),
            _ => drop(table.sets.remove(name)),
        }
    }
    table.chains.retain(|name, _| !own.chains.contains_key(name));
}

fn count(uses: &mut HashMap<Shared, i64>, fragment: &Fragment, by: i64) {
    for name in fragment.chains.keys() {
        *uses.entry(Shared::Chain(name.clone())).or_default() += by;
    }
    for (set, key) in &fragment.elements {
        *uses.entry(Shared::Element(set.clone(), *key)).or_default() += by;
    }
}
