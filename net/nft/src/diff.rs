//! From what is installed to what is wanted: ordered operations in bounded batches.
//!
//! Every batch is one kernel transaction. The order makes the state between two batches harmless too: what is pointed
//! to appears before what points to it, and disappears after; base chains, by which packets enter, come last. An
//! element whose data changes is one operation, and the rules of a chain stay together, so no batch boundary falls
//! between removal and return.
//!
//! A packet is not judged at one stroke either: each lookup it makes is answered by what is installed at that moment. So
//! what a packet under way may still look for stays until it has left: [`Transaction::phases`]. The rules it walks are those
//! from when it entered, which for a chain that is new are none; once another transaction has been committed they are there
//! for it too. So new chains come in a transaction before the one that leads to them.

use std::collections::BTreeMap;

use crate::expr::{Expr, Name, Verdict};
use crate::ruleset::{Chain, Data, Hook, Rule, Ruleset, Set, SetDecl, SetKind, Table, TableId};
use crate::value::Value;

/// Operations per batch unless told otherwise: a transaction of this size takes a few tens of milliseconds.
pub const BATCH_MAX: usize = 8_000;

/// Batches in order; each is applied whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Never empty ones.
    pub batches: Vec<Vec<Op>>,
    /// Where phases begin, but for the first: indices of batches, ascending.
    phases: Vec<usize>,
}

/// One operation on one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// In which table.
    pub table: TableId,
    /// What to do.
    pub action: Action,
}

/// What an operation does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the table; no error if it exists.
    AddTable,
    /// Delete the table with all it holds; an error if there is none.
    DelTable,
    /// Make a set or map.
    AddSet(Name, SetDecl),
    /// Delete a set or map and its elements.
    DelSet(Name),
    /// Make a chain, without rules.
    AddChain(Name, Option<Hook>),
    /// Delete a chain and its rules.
    DelChain(Name),
    /// Remove all rules of a chain.
    FlushChain(Name),
    /// Append a rule.
    AddRule(Name, Rule),
    /// Add an element.
    AddElement(Name, Value, Data),
    /// Give an element other data.
    ReplaceElement(Name, Value, Data),
    /// Delete an element.
    DelElement(Name, Value),
}

impl Transaction {
    /// Batches of one phase.
    #[must_use]
    pub fn of(batches: Vec<Vec<Op>>) -> Self {
        Self { batches, phases: Vec::new() }
    }

    /// Batches that packets under way may meet in any mixture: before the next phase begins, all those that entered the
    /// rules before must have left them. The first puts in effect what is wanted; what follows removes what is not.
    pub fn phases(&self) -> impl Iterator<Item = &[Vec<Op>]> {
        let begins = std::iter::once(0).chain(self.phases.iter().copied());
        let ends = self.phases.iter().copied().chain([self.batches.len()]);
        begins.zip(ends).map(|(from, to)| &self.batches[from..to])
    }

    fn in_phases(parts: impl IntoIterator<Item = Vec<Vec<Op>>>) -> Self {
        let mut all = Self::default();
        for batches in parts.into_iter().filter(|batches| !batches.is_empty()) {
            all.append(Self::of(batches));
        }
        all
    }

    /// What another does comes after what this one does, in phases of its own.
    pub fn append(&mut self, other: Self) {
        let so_far = self.batches.len();
        if so_far > 0 && !other.is_empty() {
            self.phases.push(so_far);
        }
        self.phases.extend(other.phases.iter().map(|at| at + so_far));
        self.batches.extend(other.batches);
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The number of operations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batches.iter().map(Vec::len).sum()
    }
}

/// Cuts operations into batches of at most `max`, more only where what belongs together is longer.
#[must_use]
pub fn in_batches(ops: Vec<Op>, max: usize) -> Vec<Vec<Op>> {
    let mut batches: Vec<Vec<Op>> = Vec::with_capacity(ops.len().div_ceil(max.max(1)));
    let mut start_of_group = 0;
    for op in ops {
        match batches.last_mut() {
            Some(batch) if batch.last().is_some_and(|before| belongs_to(before, &op)) => {
                batch.push(op);
                if batch.len() > max && start_of_group > 0 {
                    let group = batch.split_off(start_of_group);
                    batches.push(group);
                    start_of_group = 0;
                }
            }
            Some(batch) if batch.len() < max => {
                start_of_group = batch.len();
                batch.push(op);
            }
            _ => {
                start_of_group = 0;
                batches.push(vec![op]);
            }
        }
    }
    batches
}

/// Whether no batch boundary may fall between two operations: they are the rules of
/// one chain.
fn belongs_to(before: &Op, op: &Op) -> bool {
    let chain = |action: &Action| match action {
        Action::FlushChain(name) | Action::AddChain(name, _) | Action::AddRule(name, _) => Some(name.clone()),
        _ => None,
    };
    match &op.action {
        Action::AddRule(name, _) => chain(&before.action).as_ref() == Some(name) && before.table == op.table,
        _ => false,
    }
}

/// The transaction from installed to wanted; empty when they agree.
#[must_use]
pub fn diff(installed: &Ruleset, wanted: &Ruleset) -> Transaction {
    // Tables of another version's form, each made anew at one stroke.
    let mut anew: Vec<Vec<Op>> = Vec::new();
    let mut made: Vec<Op> = Vec::new();
    let mut phases: [Vec<Op>; PHASES] = Default::default();
    let none = Table::default();
    for (id, table) in &wanted.tables {
        let there = installed.tables.get(id);
        let old = there.filter(|old| is_compatible(old, table));
        let mut stages = Stages::new(id);
        let changes_form = there.is_some() && old.is_none();
        if changes_form {
            stages.op(Stage::Unhook, Action::DelTable);
        }
        if old.is_none() {
            stages.op(Stage::Declare, Action::AddTable);
        }
        stages.sets(&old.unwrap_or(&none).sets, &table.sets);
        stages.chains(&old.unwrap_or(&none).chains, &table.chains);
        // Nobody is in a table that is new.
        if old.is_some() {
            made.extend(stages.chains_made());
        }
        let parts = stages.finish();
        if changes_form {
            anew.push(parts.concat());
            continue;
        }
        for (phase, ops) in phases.iter_mut().zip(parts) {
            phase.extend(ops);
        }
    }
    let gone = installed.tables.keys().filter(|id| !wanted.tables.contains_key(id));
    phases[PHASES - 1].extend(gone.map(|id| Op { table: id.clone(), action: Action::DelTable }));
    let [effect, retract, forget] = phases.map(|ops| in_batches(ops, BATCH_MAX));
    let effect = [in_batches(made, BATCH_MAX), effect].concat();
    Transaction::in_phases([anew, effect, retract, forget])
}

/// Whether nothing changes that the kernel cannot change: the type of a set, the hook of a chain.
fn is_compatible(old: &Table, new: &Table) -> bool {
    old.sets.iter().all(|(name, set)| new.sets.get(name).is_none_or(|s| s.decl == set.decl))
        && old.chains.iter().all(|(name, chain)| new.chains.get(name).is_none_or(|c| c.hook == chain.hook))
}

/// Replaces everything in one transaction, whatever is installed: packets see the old rules or the new ones, never
/// none. Adding the table before deleting it makes the deletion succeed when there is none.
#[must_use]
pub fn replace(wanted: &Ruleset) -> Transaction {
    let mut ops = Vec::new();
    for id in wanted.tables.keys() {
        for action in [Action::AddTable, Action::DelTable] {
            ops.push(Op { table: id.clone(), action });
        }
    }
    ops.extend(diff(&Ruleset::default(), wanted).batches.into_iter().flatten());
    Transaction::of(if ops.is_empty() { vec![] } else { vec![ops] })
}

/// Removes these tables, whether they are there or not.
#[must_use]
pub fn remove(tables: &[TableId]) -> Transaction {
    let both = |id: &TableId| [Action::AddTable, Action::DelTable].map(|action| Op { table: id.clone(), action });
    Transaction::of(in_batches(tables.iter().flat_map(both).collect(), BATCH_MAX))
}

/// The order of operations within a table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Base chains that go: nothing enters by them any more.
    Unhook,
    /// Objects that others name.
    Declare,
    /// Rules of new chains: nothing leads there yet.
    Fill,
    /// Elements that only carry values, new or changed.
    Values,
    /// Elements that lead packets somewhere, new or changed.
    Verdicts,
    /// Rules of chains that change; what they lead to is there, and what they led to still is.
    Rules,
    /// Base chains that are new, with their rules.
    Hook,
    /// Members of closing sets, new: whoever missed what has just come is not refused for it.
    Close,
    /// Members of closing sets that go.
    Open,
    /// Elements that lead packets somewhere and go.
    Retract,
    /// Elements nothing leads to any more.
    Forget,
    /// Objects nothing names any more.
    Drop,
}

/// See [`Transaction::phases`].
const PHASES: usize = 3;

impl Stage {
    fn phase(self) -> usize {
        match self {
            Self::Unhook | Self::Declare | Self::Fill | Self::Values | Self::Verdicts | Self::Rules | Self::Hook => 0,
            Self::Close | Self::Open | Self::Retract => 1,
            Self::Forget | Self::Drop => PHASES - 1,
        }
    }
}

struct Stages<'a> {
    table: &'a TableId,
    ops: BTreeMap<Stage, Vec<Op>>,
}

impl<'a> Stages<'a> {
    fn new(table: &'a TableId) -> Self {
        Self { table, ops: BTreeMap::new() }
    }

    fn op(&mut self, stage: Stage, action: Action) {
        self.ops.entry(stage).or_default().push(Op { table: self.table.clone(), action });
    }

    /// Takes out new chains with their rules and what those name, if there are any.
    fn chains_made(&mut self) -> Vec<Op> {
        let Some(rules) = self.ops.remove(&Stage::Fill) else { return Vec::new() };
        [self.ops.remove(&Stage::Declare).unwrap_or_default(), rules].concat()
    }

    /// What leads packets somewhere goes in the reverse order of its coming.
    fn finish(mut self) -> [Vec<Op>; PHASES] {
        if let Some(ops) = self.ops.get_mut(&Stage::Retract) {
            ops.reverse();
        }
        let mut phases: [Vec<Op>; PHASES] = Default::default();
        for (stage, ops) in self.ops {
            phases[stage.phase()].extend(ops);
        }
        phases
    }

    fn sets(&mut self, old: &BTreeMap<Name, Set>, new: &BTreeMap<Name, Set>) {
        let none = BTreeMap::new();
        for (name, set) in new {
            if !old.contains_key(name) {
                self.op(Stage::Declare, Action::AddSet(name.clone(), set.decl.clone()));
            }
            let there = old.get(name).map_or(&none, |s| &s.elements);
            self.elements(name, &set.decl.kind, there, &set.elements);
        }
        for name in old.keys().filter(|name| !new.contains_key(*name)) {
            self.op(Stage::Drop, Action::DelSet(name.clone()));
        }
    }

    fn elements(&mut self, set: &Name, kind: &SetKind, old: &BTreeMap<Value, Data>, new: &BTreeMap<Value, Data>) {
        for (key, data) in new {
            match old.get(key) {
                Some(same) if same == data => {}
                Some(_) => self.op(coming(kind), Action::ReplaceElement(set.clone(), *key, data.clone())),
                None => self.op(coming(kind), Action::AddElement(set.clone(), *key, data.clone())),
            }
        }
        for key in old.keys().filter(|key| !new.contains_key(*key)) {
            self.op(going(kind), Action::DelElement(set.clone(), *key));
        }
    }

    fn chains(&mut self, old: &BTreeMap<Name, Chain>, new: &BTreeMap<Name, Chain>) {
        for (name, chain) in new {
            match old.get(name) {
                Some(same) if same == chain => {}
                Some(_) => {
                    self.op(Stage::Rules, Action::FlushChain(name.clone()));
                    self.rules(Stage::Rules, name, &chain.rules);
                }
                None if chain.hook.is_some() => {
                    self.op(Stage::Hook, Action::AddChain(name.clone(), chain.hook));
                    self.rules(Stage::Hook, name, &chain.rules);
                }
                None => {
                    self.op(Stage::Declare, Action::AddChain(name.clone(), None));
                    self.rules(Stage::Fill, name, &chain.rules);
                }
            }
        }
        // A chain that another dropped chain leads to goes after it: all are emptied first.
        let gone: Vec<(&Name, &Chain)> = old.iter().filter(|(name, _)| !new.contains_key(*name)).collect();
        for (name, chain) in gone {
            let (empty, drop) = match chain.hook {
                Some(_) => (Stage::Unhook, Stage::Unhook),
                None => (Stage::Forget, Stage::Drop),
            };
            if chain.rules.iter().flatten().any(leads_on) {
                self.op(empty, Action::FlushChain(name.clone()));
            }
            self.op(drop, Action::DelChain(name.clone()));
        }
    }

    fn rules(&mut self, stage: Stage, chain: &Name, rules: &[Rule]) {
        for rule in rules {
            self.op(stage, Action::AddRule(chain.clone(), rule.clone()));
        }
    }
}

fn coming(kind: &SetKind) -> Stage {
    match kind {
        SetKind::Verdicts => Stage::Verdicts,
        SetKind::Closing => Stage::Close,
        SetKind::Plain | SetKind::Map(_) | SetKind::Dynamic { .. } => Stage::Values,
    }
}

fn going(kind: &SetKind) -> Stage {
    match kind {
        // An element that leads somewhere goes before what it leads to.
        SetKind::Verdicts => Stage::Retract,
        SetKind::Closing => Stage::Open,
        SetKind::Plain | SetKind::Map(_) | SetKind::Dynamic { .. } => Stage::Forget,
    }
}

fn leads_on(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Verdict(Verdict::Goto(_) | Verdict::Jump(_))
            | Expr::Lookup { .. }
            | Expr::Map { .. }
            | Expr::Vmap { .. }
            | Expr::Remember { .. }
    )
}

/// Carries a transaction out on a ruleset in memory, as the kernel would on its own: for tests, and for whoever keeps
/// an image of what is installed.
pub fn apply(ruleset: &mut Ruleset, transaction: &Transaction) {
    for op in transaction.batches.iter().flatten() {
        match &op.action {
            Action::AddTable => drop(ruleset.tables.entry(op.table.clone()).or_default()),
            Action::DelTable => drop(ruleset.tables.remove(&op.table)),
            action => {
                if let Some(table) = ruleset.tables.get_mut(&op.table) {
                    apply_to_table(table, action);
                }
            }
        }
    }
}

pub(crate) fn apply_to_table(table: &mut Table, action: &Action) {
    match action {
        Action::AddTable | Action::DelTable => {}
        Action::AddSet(name, decl) => {
            table.sets.insert(name.clone(), Set { decl: decl.clone(), elements: BTreeMap::new() });
        }
        Action::DelSet(name) => drop(table.sets.remove(name)),
        Action::AddChain(name, hook) => {
            table.chains.insert(name.clone(), Chain { hook: *hook, rules: Vec::new() });
        }
        Action::DelChain(name) => drop(table.chains.remove(name)),
        Action::FlushChain(name) => {
            if let Some(chain) = table.chains.get_mut(name) {
                chain.rules.clear();
            }
        }
        Action::AddRule(name, rule) => {
            if let Some(chain) = table.chains.get_mut(name) {
                chain.rules.push(rule.clone());
            }
        }
        Action::AddElement(name, key, data) | Action::ReplaceElement(name, key, data) => {
            if let Some(set) = table.sets.get_mut(name) {
                set.elements.insert(*key, data.clone());
            }
        }
        Action::DelElement(name, key) => {
            if let Some(set) = table.sets.get_mut(name) {
                set.elements.remove(key);
            }
        }
    }
}
