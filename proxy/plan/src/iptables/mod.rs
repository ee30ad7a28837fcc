//! The iptables backend: Services as chains of xtables, laid out and called as kube-proxy does, so that whoever knows
//! its rules finds their way in ours. For kernels without nf_tables.
//!
//! A full load needs to be told what is there ([`Observed`]), so that chains nobody needs any more go and ours are
//! entered once. A change writes the chains of the Services that changed, and of those that all share only the ones
//! whose rules differ.

pub mod base;
pub mod names;
pub mod observed;
pub mod render;
pub mod rule;
pub mod script;
pub mod tables;
pub mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use observed::Observed;
pub use script::{Script, Table};
pub use tables::{Tables, Unreadable};

use crate::backend::Backend;
use crate::config::Config;
use crate::map::{Changed, Served, ServiceMap};
use crate::service::ServiceName;
use render::{Fragment, Shared};
use script::{Owner, Rules, TableChange, script};

/// The chains that Services fill together.
const SHARED: [(Table, &str); 7] = [
    (Table::Nat, base::SERVICES),
    (Table::Nat, base::NODE_PORTS),
    (Table::Filter, base::SERVICES),
    (Table::Filter, base::EXTERNAL_SERVICES),
    (Table::Filter, base::FIREWALL),
    (Table::Filter, base::NODE_PORTS),
    (Table::Filter, base::UNUSED_PORTS),
];

type Changes = BTreeMap<Table, TableChange>;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Iptables {
    observed: Observed,
    /// Services that get no rules but those that refuse.
    left_out: BTreeSet<ServiceName>,
    /// Those of whom the same is true of what is installed.
    were_left_out: BTreeSet<ServiceName>,
}

impl Backend for Iptables {
    type Plan = Script;

    fn full(&mut self, map: &ServiceMap) -> Script {
        let config = map.config();
        let mut changes: Changes = Table::ALL.map(|table| (table, TableChange::default())).into();
        for (name, served) in map.iter() {
            let fragment = self.fragment(config, name, served, &self.left_out);
            write_own(&mut changes, &Some(name.clone()), fragment);
        }
        self.write_shared(map, SHARED.into(), &mut changes);
        for (table, change) in &mut changes {
            for (chain, rules) in base::constant(config, *table) {
                change.chains.insert(chain.to_owned(), everybodys(rules));
            }
            let hooks: Vec<base::Hook> = base::hooks(config).filter(|hook| hook.table == *table).collect();
            self.observed.adjust(*table, &hooks, change);
        }
        script(changes.iter().map(|(table, change)| (*table, change)))
    }

    fn change(&mut self, map: &ServiceMap, changes: &[Changed]) -> Script {
        let config = map.config();
        let mut wanted = Changes::new();
        let mut differ: BTreeSet<(Table, &'static str)> = BTreeSet::new();
        let noted: BTreeSet<&ServiceName> = changes.iter().map(|c| &*c.name).collect();
        let others = self.left_out.symmetric_difference(&self.were_left_out).filter(|name| !noted.contains(name));
        let others = others.filter_map(|name| map.iter().find(|(n, _)| ***n == *name)).map(|(name, served)| {
            let served = Some(Arc::new(served.clone()));
            Changed { name: name.clone(), before: served.clone(), after: served }
        });
        for change in changes.iter().cloned().chain(others) {
            let of = |served: &Option<Arc<Served>>, left_out| {
                served.as_deref().map_or_else(Fragment::default, |s| self.fragment(config, &change.name, s, left_out))
            };
            let (before, after) = (of(&change.before, &self.were_left_out), of(&change.after, &self.left_out));
            differ.extend(SHARED.iter().filter(|chain| before.shared.get(chain) != after.shared.get(chain)));
            write_difference(&mut wanted, &change.name, before, after);
        }
        self.write_shared(map, differ, &mut wanted);
        script(wanted.iter().map(|(table, change)| (*table, change)))
    }
}

impl Iptables {
    /// What is there, for the next full load.
    pub fn observe(&mut self, observed: Observed) {
        self.observed = observed;
    }

    /// Services that the kernel refuses get no rules from the next plan on, but those by which their addresses refuse.
    pub fn leave_out<'a>(&mut self, services: impl Iterator<Item = &'a ServiceName>) {
        self.left_out = services.cloned().collect();
    }

    /// The last plan was carried out.
    pub fn installed(&mut self) {
        self.were_left_out.clone_from(&self.left_out);
        self.observed = Observed::default();
    }

    /// The chains of these Services alone, without what leads into them: to find out whose the kernel refuses.
    #[must_use]
    pub fn own_chains(&self, map: &ServiceMap, services: &[Arc<ServiceName>]) -> Script {
        let mut change = TableChange::default();
        for (chain, rules) in base::constant(map.config(), Table::Nat) {
            change.chains.insert(chain.to_owned(), everybodys(rules));
        }
        for name in services {
            let Some(served) = map.get(name) else { continue };
            for (chain, rules) in render::render(map.config(), name, served).chains {
                change.chains.insert(chain, owned(&Some(name.clone()), rules).collect());
            }
        }
        script([(Table::Nat, &change)])
    }

    fn fragment(
        &self,
        config: &Config,
        name: &ServiceName,
        served: &Served,
        left_out: &BTreeSet<ServiceName>,
    ) -> Fragment {
        if left_out.contains(name) {
            render::render_left_out(config, name, served)
        } else {
            render::render(config, name, served)
        }
    }

    /// Writes shared chains whole: there is no other way to say a rule's place.
    fn write_shared(&self, map: &ServiceMap, which: BTreeSet<(Table, &'static str)>, changes: &mut Changes) {
        if which.is_empty() {
            return;
        }
        let mut chains: BTreeMap<(Table, &'static str), Rules> = which.iter().map(|c| (*c, Rules::new())).collect();
        for (name, served) in map.iter() {
            let owner = Some(name.clone());
            for (chain, rules) in self.shared(map.config(), name, served) {
                if let Some(all) = chains.get_mut(&chain) {
                    all.extend(owned(&owner, rules));
                }
            }
        }
        for ((table, chain), mut rules) in chains {
            rules.extend(everybodys(base::last(map.config(), table, chain)));
            changes.entry(table).or_default().chains.insert(chain.to_owned(), rules);
        }
    }

    fn shared(&self, config: &Config, name: &ServiceName, served: &Served) -> Shared {
        if self.left_out.contains(name) {
            render::render_left_out(config, name, served).shared
        } else {
            render::render_shared(config, name, served)
        }
    }
}

/// What removes everything that is ours.
#[must_use]
pub fn removal(observed: &Observed) -> Script {
    let mut changes: Changes = Table::ALL.map(|table| (table, TableChange::default())).into();
    for (table, change) in &mut changes {
        observed.adjust(*table, &[], change);
    }
    script(changes.iter().map(|(table, change)| (*table, change)))
}

/// Two scripts that install, and remove again, a chain which nobody enters, of everything our rules are made of: whether
/// this machine can do it.
#[must_use]
pub fn trial(config: &Config) -> [Script; 2] {
    let of = |change: &dyn Fn(Table) -> TableChange| {
        let changes = Table::ALL.map(|table| (table, change(table)));
        script(changes.iter().map(|(table, change)| (*table, change)))
    };
    let rules = |table| everybodys(base::sample(config, table));
    let install = of(&|table| TableChange {
        chains: [(observed::PROBE.to_owned(), rules(table))].into(),
        ..TableChange::default()
    });
    let remove = of(&|_| TableChange { gone: [observed::PROBE.to_owned()].into(), ..TableChange::default() });
    [install, remove]
}

/// How lines of a table begin, as `iptables-save` prints it, that are there as long as nobody else was at work: the rules
/// of others' chains by which packets come to ours, and one of our own that goes when somebody empties the table.
#[must_use]
pub fn landmarks(config: &Config, table: Table) -> Vec<String> {
    let hooks = base::hooks(config).filter(|hook| hook.table == table);
    let hooks = hooks.map(|hook| format!("-A {} {}", hook.from, hook.rule()));
    hooks.chain([format!("-A {} ", base::CANARY)]).collect()
}

fn owned(owner: &Owner, rules: Vec<String>) -> impl Iterator<Item = (Owner, String)> {
    rules.into_iter().map(|rule| (owner.clone(), rule))
}

fn everybodys(rules: Vec<String>) -> Rules {
    rules.into_iter().map(|rule| (None, rule)).collect()
}

fn write_own(changes: &mut Changes, owner: &Owner, fragment: Fragment) {
    let nat = changes.entry(Table::Nat).or_default();
    for (chain, rules) in fragment.chains {
        nat.chains.insert(chain, owned(owner, rules).collect());
    }
}

fn write_difference(changes: &mut Changes, name: &Arc<ServiceName>, before: Fragment, after: Fragment) {
    let gone: Vec<String> = before.chains.keys().filter(|chain| !after.chains.contains_key(*chain)).cloned().collect();
    let new = after.chains.into_iter().filter(|(chain, rules)| before.chains.get(chain) != Some(rules));
    let new = Fragment { chains: new.collect(), shared: Shared::new() };
    if new.chains.is_empty() && gone.is_empty() {
        return;
    }
    write_own(changes, &Some(name.clone()), new);
    changes.entry(Table::Nat).or_default().gone.extend(gone);
}
