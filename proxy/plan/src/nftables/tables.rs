//! The tables of a family, or what some Services put into them.

use pintle_nft::{Data, Name, Ruleset, Table, TableId, Value};

use crate::base;
use crate::config::Config;
use crate::fragment::Fragment;
use crate::small::{self, Home};

/// See the module's description.
pub(super) struct Tables {
    large: TableId,
    /// In the order of [`Home::ALL`]; the small one only where there is one.
    each: Vec<Table>,
}

impl Tables {
    /// Without any Service.
    pub(super) fn frame(config: &Config) -> Self {
        Self::new(config, base::table, small::table)
    }

    /// Their sets without elements, which exist on both sides of every change.
    pub(super) fn sets(config: &Config) -> Self {
        let only = |sets| Table { sets, ..Table::default() };
        Self::new(config, |c| only(base::sets(c)), |c| only(small::sets(c)))
    }

    fn new(config: &Config, large: impl FnOnce(&Config) -> Table, small: impl FnOnce(&Config) -> Table) -> Self {
        let small = config.fresh.then(|| small(config));
        Self { large: base::table_id(config), each: [large(config)].into_iter().chain(small).collect() }
    }

    /// One of them, if there is one.
    pub(super) fn of(&mut self, home: Home) -> Option<&mut Table> {
        self.each.get_mut(home as usize)
    }

    /// Adds what is a Service's own.
    pub(super) fn merge(&mut self, home: Home, own: Table) {
        let Some(table) = self.of(home) else { return };
        for (name, set) in own.sets {
            match table.sets.get_mut(&name) {
                Some(there) => there.elements.extend(set.elements),
                None => drop(table.sets.insert(name, set)),
            }
        }
        table.chains.extend(own.chains);
    }

    /// Adds an element that Services share.
    pub(super) fn add_element(&mut self, set: &Name, key: Value) {
        if let Some(set) = self.of(Home::Large).and_then(|table| table.sets.get_mut(set)) {
            set.elements.insert(key, Data::None);
        }
    }

    /// Adds all there is of a Service.
    pub(super) fn put(&mut self, fragment: Fragment) {
        for (set, key) in &fragment.elements {
            self.add_element(set, *key);
        }
        if let Some(table) = self.of(fragment.home) {
            table.chains.extend(fragment.chains);
        }
        self.merge(fragment.home, fragment.own);
    }

    /// All of them.
    pub(super) fn ruleset(self) -> Ruleset {
        let ids = Home::ALL.map(|home| home.beside(&self.large));
        Ruleset { tables: ids.into_iter().zip(self.each).collect() }
    }
}
