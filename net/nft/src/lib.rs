//! Words for packet filtering: what an nftables ruleset is, as plain data; the difference of two; how it reads; and
//! what would become of a packet. Pure: no sockets, no files. Sending a ruleset to the kernel is the business of
//! `pintle-net`.

pub mod cidr;
pub mod diff;
pub mod expr;
pub mod flow;
pub mod kernel;
pub mod ruleset;
pub mod text;
pub mod trace;
pub mod value;

pub use cidr::{Cidr, CidrError, Family};
pub use diff::{Action, Op, Transaction, diff};
pub use expr::{Expr, Name, Reg, Verdict};
pub use flow::Flow;
pub use kernel::Kernel;
pub use ruleset::{Chain, ChainKind, Data, Hook, HookPoint, Rule, Ruleset, Set, SetDecl, SetKind, Table, TableId};
pub use value::{DataType, Proto, Value};
