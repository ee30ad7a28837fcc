//! A ruleset: tables, each with chains of rules and sets or maps of elements. Plain data in one comparable form, the
//! same for what is installed and what is wanted.

use std::collections::BTreeMap;

use crate::cidr::Family;
use crate::expr::{Expr, Name, Verdict};
use crate::value::{DataType, Value};

/// All our tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// By family and name.
    pub tables: BTreeMap<TableId, Table>,
}

/// Which table: `ip pintle`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    /// The packets it sees.
    pub family: Family,
    /// Its name.
    pub name: Name,
}

/// A table's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Sets and maps by name.
    pub sets: BTreeMap<Name, Set>,
    /// Chains by name.
    pub chains: BTreeMap<Name, Chain>,
}

/// A set or map: its declaration and its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// What it is made of.
    pub decl: SetDecl,
    /// Keys and what they map to. Elements that packets add to a dynamic set are not ours and not here.
    pub elements: BTreeMap<Value, Data>,
}

/// What a set or map is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetDecl {
    /// The parts of a key.
    pub key: Vec<DataType>,
    /// What a key maps to.
    pub kind: SetKind,
}

/// What a key of a set maps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// Nothing: a plain set.
    Plain,
    /// Nothing; its members close something. They come after all elements that lead packets somewhere and go before
    /// those, so that nothing is closed that the same change opens.
    Closing,
    /// A value of these parts.
    Map(Vec<DataType>),
    /// A verdict.
    Verdicts,
    /// Nothing; packets add elements, which are forgotten after this long.
    Dynamic {
        /// Milliseconds since the last packet that renewed it.
        timeout_ms: u64,
    },
}

/// What an element's key maps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing.
    None,
    /// A value.
    Value(Value),
    /// A verdict.
    Verdict(Verdict),
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where packets enter it; `None` for chains that others jump to.
    pub hook: Option<Hook>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// A rule: expressions, evaluated until one stops it or decides.
pub type Rule = Vec<Expr>;

/// Where a base chain is attached. The policy is always accept: we never close what others opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hook {
    /// Filter or nat.
    pub kind: ChainKind,
    /// The point in a packet's way.
    pub at: HookPoint,
    /// Order among the chains there; lower is earlier. -100 is destination, 100 source translation.
    pub priority: i32,
}

/// What a base chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChainKind {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of a connection, and may translate it.
    Nat,
}

/// The points at which base chains see packets, in the order of linux/netfilter.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookPoint {
    /// Just arrived.
    Prerouting,
    /// For this machine.
    Input,
    /// Passing through.
    Forward,
    /// From this machine.
    Output,
    /// About to leave.
    Postrouting,
}

impl Set {
    /// An empty set with this declaration.
    #[must_use]
    pub fn new(key: &[DataType], kind: SetKind) -> Self {
        Self { decl: SetDecl { key: key.to_vec(), kind }, elements: BTreeMap::new() }
    }
}

impl Table {
    /// The number of elements in all sets: the size of the table in the kernel.
    #[must_use]
    pub fn element_count(&self) -> usize {
        self.sets.values().map(|s| s.elements.len()).sum()
    }
}
