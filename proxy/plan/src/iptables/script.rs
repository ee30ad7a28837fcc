//! The text that `iptables-restore --noflush` carries out: a table whole or not at all, one table after the other.
//! Remembers for whose sake each line is there, so that the tool's complaint about a line is one about a Service.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::service::ServiceName;

/// A table of xtables that we use, in the order in which they are sent: a Service is translated before what is not
/// translated is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Translation.
    Nat,
    /// Refusal.
    Filter,
}

impl Table {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Nat, Self::Filter];

    /// As the tools call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Filter => "filter",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// For whose sake a line is there; `None` for everybody's.
pub type Owner = Option<Arc<ServiceName>>;

/// The text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    text: String,
    lines: usize,
    /// From which line on (from 1) lines are whose.
    owners: Vec<(usize, Owner)>,
}

impl Script {
    /// What the tool reads.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many lines it has.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Whose a line is, from 1.
    #[must_use]
    pub fn owner(&self, line: usize) -> Option<&Arc<ServiceName>> {
        let after = self.owners.partition_point(|(from, _)| *from <= line);
        self.owners[..after].last()?.1.as_ref()
    }

    fn push(&mut self, owner: &Owner, line: fmt::Arguments<'_>) {
        self.lines += 1;
        if self.owners.last().is_none_or(|(_, last)| last != owner) {
            self.owners.push((self.lines, owner.clone()));
        }
        // Writing to a String cannot fail.
        let _ = fmt::Write::write_fmt(&mut self.text, line);
        self.text.push('\n');
    }
}

/// Rules of a chain, in order, each without the chain's name, and whose each is.
pub type Rules = Vec<(Owner, String)>;

/// What is to become of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableChange {
    /// Chains that have these rules and no others; they are made where they are not there.
    pub chains: BTreeMap<String, Rules>,
    /// Rules that are deleted, of chains that are not ours.
    pub unhooked: Vec<(String, String)>,
    /// Rules that are put first in chains that are not ours; the last of them comes first.
    pub hooked: Vec<(String, String)>,
    /// Chains that go.
    pub gone: BTreeSet<String>,
}

impl TableChange {
    fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    fn write(&self, table: Table, script: &mut Script) {
        script.push(&None, format_args!("*{table}"));
        // A chain that is named is made, or emptied: all of them before any rule leads there.
        for (chain, rules) in &self.chains {
            let owner = rules.first().and_then(|(owner, _)| owner.clone());
            script.push(&owner, format_args!(":{chain} - [0:0]"));
        }
        for chain in &self.gone {
            script.push(&None, format_args!(":{chain} - [0:0]"));
        }
        for (chain, rule) in &self.unhooked {
            script.push(&None, format_args!("-D {chain} {rule}"));
        }
        for (chain, rules) in &self.chains {
            for (owner, rule) in rules {
                script.push(owner, format_args!("-A {chain} {rule}"));
            }
        }
        for (chain, rule) in &self.hooked {
            script.push(&None, format_args!("-I {chain} 1 {rule}"));
        }
        for chain in &self.gone {
            script.push(&None, format_args!("-X {chain}"));
        }
        script.push(&None, format_args!("COMMIT"));
    }
}

/// The text of changes of tables.
#[must_use]
pub fn script<'a>(changes: impl IntoIterator<Item = (Table, &'a TableChange)>) -> Script {
    let mut script = Script::default();
    for (table, change) in changes {
        if !change.is_empty() {
            change.write(table, &mut script);
        }
    }
    script
}
