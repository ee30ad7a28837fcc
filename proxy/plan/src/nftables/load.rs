//! A full load: all tables of a family made anew, in batches.

use std::collections::HashSet;

use pintle_nft::{Action, Op, Ruleset, TableId, diff};

use super::tables::Tables;
use super::{Nftables, Shared};
use crate::base;
use crate::config::Config;
use crate::fragment::Fragment;
use crate::small::Home;

/// How many operations a batch of a full load has at least, but for the last.
pub const LOAD_BATCH: usize = 6_000;

/// The batches of a full load, one at a time: what is sent need not be held.
pub struct Load<'a> {
    pub(super) backend: &'a mut Nftables,
    pub(super) config: &'a Config,
    pub(super) services: Box<dyn Iterator<Item = Fragment> + 'a>,
    pub(super) instead_of: Option<TableId>,
    pub(super) batch: usize,
    pub(super) stage: Stage,
}

/// A batch of a full load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Fills the new tables; no packet enters them yet.
    Fill(Vec<Op>),
    /// The hooks of the new tables.
    TakeOver(Vec<Op>),
    /// Removes the old tables, whether they are there or not: once their hooks are gone, if they have any ([`unhook`]), and
    /// all packets have left them.
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
pub(super) enum Stage {
    /// The tables, their sets and their constant chains.
    Frame,
    /// Services, as many as a batch holds.
    Services,
    /// The old tables.
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
                Some(Part::Remove(remove(&self.instead_of.take()?)))
            }
            Stage::Done => None,
        }
    }
}

/// Lets no packet enter a table any more that has our hooks.
#[must_use]
pub fn unhook(table: &TableId) -> Vec<Op> {
    let both = |name: &&str| [Action::FlushChain((*name).into()), Action::DelChain((*name).into())];
    let actions = base::hooks(table).iter().flat_map(both);
    actions.map(|action| Op { table: table.clone(), action }).collect()
}

/// Removes a table and those beside it. Adding before deleting makes the deletion succeed when there is none.
fn remove(large: &TableId) -> Vec<Op> {
    let tables = Home::ALL.map(|home| home.beside(large));
    diff::remove(&tables).batches.concat()
}

impl Load<'_> {
    fn frame(&self) -> Vec<Op> {
        let mut frame = Tables::frame(self.config).ruleset();
        frame.tables.values_mut().for_each(|table| table.chains.retain(|_, chain| chain.hook.is_none()));
        let mut ops = remove(&base::table_id(self.config));
        ops.extend(diff::diff(&Ruleset::default(), &frame).batches.concat());
        ops
    }

    fn services(&mut self) -> Option<Vec<Op>> {
        let (mut wanted, mut ops) = (Tables::sets(self.config), 0);
        let mut any = false;
        let mut shared: HashSet<Shared> = HashSet::new();
        while ops < self.batch {
            let Some(mut fragment) = self.services.next() else { break };
            any = true;
            fragment.chains.retain(|name, _| self.backend.first_use(Shared::Chain(name.clone())));
            fragment.elements.retain(|(set, key)| {
                let element = Shared::Element(set.clone(), *key);
                self.backend.first_use(element.clone()) && shared.insert(element)
            });
            let chains = fragment.chains.values().chain(fragment.own.chains.values());
            ops += chains.map(|chain| 1 + chain.rules.len()).sum::<usize>();
            ops += fragment.elements.len() + fragment.own.element_count();
            wanted.put(fragment);
        }
        let installed = Tables::sets(self.config).ruleset();
        any.then(|| diff::diff(&installed, &wanted.ruleset()).batches.concat())
    }

    fn hooks(&self) -> Vec<Op> {
        let mut ops = Vec::new();
        for (id, table) in Tables::frame(self.config).ruleset().tables {
            let mut op = |action| ops.push(Op { table: id.clone(), action });
            for (name, chain) in table.chains.into_iter().filter(|(_, chain)| chain.hook.is_some()) {
                op(Action::AddChain(name.clone(), chain.hook));
                chain.rules.into_iter().for_each(|rule| op(Action::AddRule(name.clone(), rule)));
            }
        }
        ops
    }
}
