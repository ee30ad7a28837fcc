//! A kernel in memory: takes batches as nf_tables does, whole or not at all, and refuses what it would refuse. For
//! tests of orders of operations, and for edges that need something to speak to. Does not see packets; [`crate::trace`]
//! does, over [`Kernel::ruleset`].

use std::collections::BTreeMap;

use crate::diff::{Action, Op, apply_to_table};
use crate::expr::{Expr, Name, Verdict};
use crate::ruleset::{Data, Rule, Ruleset, SetKind, Table};
use crate::text;
use crate::value::{DataType, Value};

/// See the module's description.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    ruleset: Ruleset,
}

/// Why a batch was refused; nothing of it was applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op}: {reason}")]
pub struct Refused {
    /// The operation.
    pub op: String,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What the kernel would answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// ENOENT.
    #[error("no such table, chain, set or element")]
    Missing,
    /// EEXIST.
    #[error("it exists already")]
    Exists,
    /// EBUSY.
    #[error("something still leads there")]
    Busy,
    /// EINVAL.
    #[error("a key or value is not of the set's type")]
    Type,
}

impl Kernel {
    /// What is installed.
    #[must_use]
    pub fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// Applies one batch.
    ///
    /// # Errors
    /// The first operation that is refused.
    pub fn commit(&mut self, batch: &[Op]) -> Result<(), Refused> {
        let mut next = self.ruleset.clone();
        for op in batch {
            step(&mut next, op).map_err(|reason| Refused { op: text::op(op), reason })?;
        }
        self.ruleset = next;
        Ok(())
    }
}

fn step(ruleset: &mut Ruleset, op: &Op) -> Result<(), Reason> {
    match &op.action {
        Action::AddTable => {
            ruleset.tables.entry(op.table.clone()).or_default();
            Ok(())
        }
        Action::DelTable => ruleset.tables.remove(&op.table).map(drop).ok_or(Reason::Missing),
        action => {
            let table = ruleset.tables.get_mut(&op.table).ok_or(Reason::Missing)?;
            check(table, action)?;
            apply_to_table(table, action);
            Ok(())
        }
    }
}

fn check(table: &Table, action: &Action) -> Result<(), Reason> {
    let must = |condition: bool, reason| if condition { Ok(()) } else { Err(reason) };
    match action {
        Action::AddTable | Action::DelTable => Ok(()),
        Action::AddSet(name, _) => must(!table.sets.contains_key(name), Reason::Exists),
        Action::DelSet(name) => {
            must(table.sets.contains_key(name), Reason::Missing)?;
            must(!rules(table).any(|(_, rule)| rule.iter().any(|e| set_of(e) == Some(name))), Reason::Busy)
        }
        Action::AddChain(name, _) => must(!table.chains.contains_key(name), Reason::Exists),
        Action::DelChain(name) => {
            must(table.chains.contains_key(name), Reason::Missing)?;
            // Its own rules go with it.
            let by_rule = rules(table).any(|(of, rule)| of != name && rule.iter().any(|e| chain_of(e) == Some(name)));
            let by_element = table.sets.values().flat_map(|s| s.elements.values()).any(|d| led_to(d) == Some(name));
            must(!by_rule && !by_element, Reason::Busy)
        }
        Action::FlushChain(name) => must(table.chains.contains_key(name), Reason::Missing),
        Action::AddRule(name, rule) => {
            must(table.chains.contains_key(name), Reason::Missing)?;
            must(rule.iter().filter_map(set_of).all(|s| table.sets.contains_key(s)), Reason::Missing)?;
            must(rule.iter().filter_map(chain_of).all(|c| table.chains.contains_key(c)), Reason::Missing)
        }
        Action::AddElement(name, key, data) | Action::ReplaceElement(name, key, data) => {
            let set = table.sets.get(name).ok_or(Reason::Missing)?;
            let there = set.elements.contains_key(key);
            let is_new = matches!(action, Action::AddElement(..));
            must(!(is_new && there), Reason::Exists)?;
            must(is_new || there, Reason::Missing)?;
            must(led_to(data).is_none_or(|chain| table.chains.contains_key(chain)), Reason::Missing)?;
            must(fits(&set.decl.key, key) && is_of(&set.decl.kind, data), Reason::Type)
        }
        Action::DelElement(name, key) => {
            let set = table.sets.get(name).ok_or(Reason::Missing)?;
            must(set.elements.contains_key(key), Reason::Missing)
        }
    }
}

fn rules(table: &Table) -> impl Iterator<Item = (&Name, &Rule)> {
    let chains: &BTreeMap<_, _> = &table.chains;
    chains.iter().flat_map(|(name, chain)| chain.rules.iter().map(move |rule| (name, rule)))
}

fn set_of(expr: &Expr) -> Option<&Name> {
    match expr {
        Expr::Lookup { set, .. } | Expr::Map { set, .. } | Expr::Vmap { set, .. } | Expr::Remember { set, .. } => {
            Some(set)
        }
        _ => None,
    }
}

fn chain_of(expr: &Expr) -> Option<&Name> {
    match expr {
        Expr::Verdict(verdict) => target(verdict),
        _ => None,
    }
}

fn led_to(data: &Data) -> Option<&Name> {
    match data {
        Data::Verdict(verdict) => target(verdict),
        Data::None | Data::Value(_) => None,
    }
}

fn target(verdict: &Verdict) -> Option<&Name> {
    match verdict {
        Verdict::Goto(chain) | Verdict::Jump(chain) => Some(chain),
        Verdict::Accept | Verdict::Drop | Verdict::Return => None,
    }
}

fn fits(types: &[DataType], value: &Value) -> bool {
    let padded: usize = types.iter().map(|t| t.padded_len()).sum();
    value.as_bytes().len().next_multiple_of(4) == padded
}

fn is_of(kind: &SetKind, data: &Data) -> bool {
    match (kind, data) {
        (SetKind::Plain | SetKind::Closing, Data::None) | (SetKind::Verdicts, Data::Verdict(_)) => true,
        (SetKind::Map(types), Data::Value(value)) => fits(types, value),
        // Packets alone add to it.
        _ => false,
    }
}
