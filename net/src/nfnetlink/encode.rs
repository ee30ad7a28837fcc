//! Operations and expressions as nf_tables messages. The numbers are those of linux/netfilter/nf_tables.h; all
//! 32-bit attributes are big-endian. Nothing is decided here.

use pintle_nft::expr::{Base, CmpOp, CtKey, FibAddr, MetaKey, PortChoice, RejectWith, Want};
use pintle_nft::{
    Action, ChainKind, Data, DataType, Expr, Family, Hook, HookPoint, Op, Reg, SetDecl, SetKind, TableId, Value,
    Verdict,
};

use super::spoken;
use super::wire::{Writer, flag, nfproto};

/// NFNL_SUBSYS_NFTABLES.
pub const SUBSYSTEM: u16 = 10;

/// Message types of the subsystem.
pub mod msg {
    pub const NEWTABLE: u16 = 0;
    pub const GETTABLE: u16 = 1;
    pub const DELTABLE: u16 = 2;
    pub const NEWCHAIN: u16 = 3;
    pub const GETCHAIN: u16 = 4;
    pub const DELCHAIN: u16 = 5;
    pub const NEWRULE: u16 = 6;
    pub const DELRULE: u16 = 8;
    pub const NEWSET: u16 = 9;
    pub const GETSET: u16 = 10;
    pub const DELSET: u16 = 11;
    pub const NEWSETELEM: u16 = 12;
    pub const GETSETELEM: u16 = 13;
    pub const DELSETELEM: u16 = 14;
    pub const NEWGEN: u16 = 15;
    pub const GETGEN: u16 = 16;
}

/// Messages that begin and end a batch.
pub const BATCH_BEGIN: u16 = 0x10;
pub const BATCH_END: u16 = 0x11;
/// Elements per message; an attribute, and so the list of them, holds 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 400;
const VERDICT_TYPE: u32 = 0xffff_ff00;

/// How many elements a message of a batch carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// Many, which takes the kernel less time.
    Coarse,
    /// One, so that an error names the very element.
    Fine,
}

/// A batch as bytes, and which operations each of its messages carries.
pub struct Batch {
    pub bytes: Vec<u8>,
    /// For the message with sequence number `first + i`: the range of operations.
    pub messages: Vec<std::ops::Range<usize>>,
    /// Sequence number of the first message that carries operations.
    pub first: u32,
}

pub fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

/// Encodes one batch. `sequence` is the number of its begin message.
pub fn batch(ops: &[Op], sequence: u32, grain: Grain) -> Batch {
    let mut w = Encoder { out: Writer::default(), sequence, messages: Vec::new(), set_id: 0 };
    w.marker(BATCH_BEGIN);
    let first = w.sequence;
    let per_message = match grain {
        Grain::Coarse => ELEMENTS_PER_MESSAGE,
        Grain::Fine => 1,
    };
    let mut at = 0;
    while at < ops.len() {
        let run = run_length(&ops[at..]).min(per_message);
        w.ops(at, &ops[at..at + run]);
        at += run;
    }
    // The answer to the last operation says that all were read; acknowledging each would fill the receive buffer.
    w.out.add_flags(flag::ACK);
    w.marker(BATCH_END);
    Batch { bytes: w.out.bytes, messages: w.messages, first }
}

/// How many of the first operations one message can carry: elements that all come into or all go from the same set. Not
/// elements that are replaced: while the kernel carries a transaction out, there is a moment at which a packet finds
/// neither, and it should pass before the next.
fn run_length(ops: &[Op]) -> usize {
    let key = |op: &Op| match &op.action {
        Action::AddElement(set, ..) => Some((0, set.clone())),
        Action::DelElement(set, _) => Some((1, set.clone())),
        _ => None,
    };
    let Some(first) = ops.first().and_then(key) else { return 1 };
    ops.iter().take_while(|op| op.table == ops[0].table && key(op).as_ref() == Some(&first)).count()
}

struct Encoder {
    out: Writer,
    sequence: u32,
    messages: Vec<std::ops::Range<usize>>,
    set_id: u32,
}

impl Encoder {
    fn marker(&mut self, kind: u16) {
        self.out.begin(kind, 0, self.sequence, 0, SUBSYSTEM);
        self.out.end();
        self.sequence += 1;
    }

    fn message(
        &mut self,
        ops: std::ops::Range<usize>,
        kind_: u16,
        flags: u16,
        table: &TableId,
        content: impl FnOnce(&mut Writer),
    ) {
        self.out.begin(kind(kind_), flags, self.sequence, nfproto(table.family), 0);
        self.out.text(1, &table.name);
        content(&mut self.out);
        self.out.end();
        self.messages.push(ops);
        self.sequence += 1;
    }

    /// One operation, or a run of element operations on one set.
    fn ops(&mut self, at: usize, ops: &[Op]) {
        let range = at..at + ops.len();
        let Some(Op { table, action }) = ops.first() else { return };
        match action {
            Action::AddTable => self.message(range, msg::NEWTABLE, flag::CREATE, table, |_| {}),
            Action::DelTable => self.message(range, msg::DELTABLE, 0, table, |_| {}),
            Action::AddSet(name, decl) => {
                self.set_id += 1;
                let id = self.set_id;
                let flags = flag::CREATE | flag::EXCL;
                self.message(range, msg::NEWSET, flags, table, |w| {
                    w.text(2, name);
                    set(w, decl, id);
                });
            }
            Action::DelSet(name) => self.message(range, msg::DELSET, 0, table, |w| w.text(2, name)),
            Action::AddChain(name, at_hook) => {
                self.message(range, msg::NEWCHAIN, flag::CREATE | flag::EXCL, table, |w| {
                    w.text(3, name);
                    if let Some(h) = at_hook {
                        hook(w, h);
                    }
                });
            }
            Action::DelChain(name) => self.message(range, msg::DELCHAIN, 0, table, |w| w.text(3, name)),
            Action::FlushChain(name) => self.message(range, msg::DELRULE, 0, table, |w| w.text(2, name)),
            Action::AddRule(name, rule) => {
                self.message(range, msg::NEWRULE, flag::CREATE | flag::APPEND, table, |w| {
                    w.text(2, name);
                    w.nested(4, |w| rule.iter().for_each(|e| expression(w, e)));
                });
            }
            Action::AddElement(name, ..) => self.elements(range, msg::NEWSETELEM, name, ops),
            Action::DelElement(name, _) => self.elements(range, msg::DELSETELEM, name, ops),
            Action::ReplaceElement(name, ..) => {
                self.elements(range.clone(), msg::DELSETELEM, name, ops);
                self.elements(range, msg::NEWSETELEM, name, ops);
            }
        }
    }

    fn elements(&mut self, range: std::ops::Range<usize>, kind: u16, set: &str, ops: &[Op]) {
        let flags = if kind == msg::NEWSETELEM { flag::CREATE | flag::EXCL } else { 0 };
        self.message(range, kind, flags, &ops[0].table, |w| {
            w.text(2, set);
            w.nested(3, |w| {
                for op in ops {
                    element(w, kind, &op.action);
                }
            });
        });
    }
}

fn element(w: &mut Writer, kind: u16, action: &Action) {
    let (key, data) = match action {
        Action::AddElement(_, key, data) | Action::ReplaceElement(_, key, data) => (key, Some(data)),
        Action::DelElement(_, key) => (key, None),
        _ => return,
    };
    w.nested(1, |w| {
        w.nested(1, |w| w.attr(1, key.as_bytes()));
        match data {
            _ if kind == msg::DELSETELEM => {}
            Some(Data::Value(value)) => w.nested(2, |w| w.attr(1, value.as_bytes())),
            Some(Data::Verdict(v)) => w.nested(2, |w| verdict(w, v)),
            Some(Data::None) | None => {}
        }
    });
}

fn set(w: &mut Writer, decl: &SetDecl, id: u32) {
    // NFT_SET_MAP, NFT_SET_TIMEOUT and NFT_SET_EVAL. No size is given: it would be a hard limit.
    let flags = match decl.kind {
        SetKind::Plain | SetKind::Closing => 0,
        SetKind::Map(_) | SetKind::Verdicts => 0x8,
        SetKind::Dynamic { .. } => 0x10 | 0x20,
    };
    w.u32(3, flags);
    w.u32(4, type_number(&decl.key));
    w.u32(5, length(&decl.key));
    if let Some(words) = spoken::words(&decl.key, &decl.kind) {
        w.attr(13, &words);
    }
    match &decl.kind {
        SetKind::Plain | SetKind::Closing => {}
        SetKind::Map(data) => {
            w.u32(6, type_number(data));
            w.u32(7, length(data));
        }
        SetKind::Verdicts => {
            w.u32(6, VERDICT_TYPE);
            w.u32(7, 16);
        }
        SetKind::Dynamic { timeout_ms } => w.u64(11, *timeout_ms),
    }
    w.u32(10, id);
}

/// nft packs the types of a concatenation six bits each.
fn type_number(types: &[DataType]) -> u32 {
    types.iter().fold(0, |n, t| n << 6 | t.number())
}

fn length(types: &[DataType]) -> u32 {
    match types {
        [DataType::InetProto] => 1,
        [DataType::InetService] => 2,
        _ => types.iter().map(|t| u32::try_from(t.padded_len()).unwrap_or(4)).sum(),
    }
}

fn hook(w: &mut Writer, hook: &Hook) {
    let number = match hook.at {
        HookPoint::Prerouting => 0,
        HookPoint::Input => 1,
        HookPoint::Forward => 2,
        HookPoint::Output => 3,
        HookPoint::Postrouting => 4,
    };
    w.nested(4, |w| {
        w.u32(1, number);
        w.attr(2, &hook.priority.to_be_bytes());
    });
    w.u32(5, 1);
    w.text(
        7,
        match hook.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        },
    );
}

fn verdict(w: &mut Writer, v: &Verdict) {
    let (code, chain): (i32, _) = match v {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    w.nested(2, |w| {
        w.attr(1, &code.to_be_bytes());
        if let Some(chain) = chain {
            w.text(2, chain);
        }
    });
}

/// NFT_REG32_00 is 8; register 0 is the verdict.
fn reg(r: Reg) -> u32 {
    8 + u32::from(r.index())
}

fn value(w: &mut Writer, kind: u16, v: &Value) {
    w.nested(kind, |w| w.attr(1, v.as_bytes()));
}

fn expression(w: &mut Writer, expr: &Expr) {
    w.nested(1, |w| {
        w.text(1, name(expr));
        w.nested(2, |w| body(w, expr));
    });
}

fn name(expr: &Expr) -> &'static str {
    match expr {
        Expr::Payload { .. } => "payload",
        Expr::Meta { .. } | Expr::SetMark { .. } => "meta",
        Expr::Ct { .. } => "ct",
        Expr::Cmp { .. } => "cmp",
        Expr::Bitwise { .. } => "bitwise",
        Expr::Lookup { .. } | Expr::Map { .. } | Expr::Vmap { .. } => "lookup",
        Expr::Immediate { .. } | Expr::Verdict(_) => "immediate",
        Expr::Dnat { .. } => "nat",
        Expr::Masquerade(_) => "masq",
        Expr::Reject(_) => "reject",
        Expr::Random { .. } => "numgen",
        Expr::FibType { .. } => "fib",
        Expr::Remember { .. } => "dynset",
        Expr::Counter => "counter",
    }
}

fn body(w: &mut Writer, expr: &Expr) {
    match expr {
        Expr::Payload { base, offset, len, dest } => {
            w.u32(1, reg(*dest));
            w.u32(2, if *base == Base::Network { 1 } else { 2 });
            w.u32(3, *offset);
            w.u32(4, *len);
        }
        Expr::Meta { key, dest } => {
            w.u32(1, reg(*dest));
            w.u32(2, meta_key(*key));
        }
        Expr::SetMark { source } => {
            w.u32(2, meta_key(MetaKey::Mark));
            w.u32(3, reg(*source));
        }
        Expr::Ct { key, dest } => {
            w.u32(1, reg(*dest));
            w.u32(
                2,
                match key {
                    CtKey::State => 0,
                    CtKey::Status => 2,
                },
            );
        }
        Expr::Cmp { op, source, value: v } => {
            w.u32(1, reg(*source));
            w.u32(2, if *op == CmpOp::Eq { 0 } else { 1 });
            value(w, 3, v);
        }
        Expr::Bitwise { source, dest, mask, xor } => {
            w.u32(1, reg(*source));
            w.u32(2, reg(*dest));
            w.u32(3, u32::try_from(mask.as_bytes().len()).unwrap_or(4));
            value(w, 4, mask);
            value(w, 5, xor);
        }
        Expr::Immediate { dest, value: v } => {
            w.u32(1, reg(*dest));
            value(w, 2, v);
        }
        Expr::Verdict(v) => {
            w.u32(1, 0);
            w.nested(2, |w| verdict(w, v));
        }
        other => stateful_body(w, other),
    }
}

/// Expressions that look something up, translate or remember.
fn stateful_body(w: &mut Writer, expr: &Expr) {
    match expr {
        Expr::Lookup { set, source, want } => {
            w.text(1, set);
            w.u32(2, reg(*source));
            w.u32(5, u32::from(*want == Want::Absent));
        }
        Expr::Map { set, source, dest } => {
            w.text(1, set);
            w.u32(2, reg(*source));
            w.u32(3, reg(*dest));
        }
        Expr::Vmap { set, source } => {
            w.text(1, set);
            w.u32(2, reg(*source));
            w.u32(3, 0);
        }
        Expr::Dnat { family, addr, port } => {
            w.u32(1, 1);
            w.u32(2, u32::from(nfproto(*family)));
            w.u32(3, reg(*addr));
            w.u32(5, reg(*port));
        }
        // NF_NAT_RANGE_PROTO_RANDOM_FULLY.
        Expr::Masquerade(PortChoice::Random) => w.u32(1, 1 << 4),
        Expr::Masquerade(PortChoice::Keep) | Expr::Counter => {}
        Expr::Reject(RejectWith::PortUnreachable(family)) => {
            w.u32(1, 0);
            w.u8(2, if *family == Family::V4 { 3 } else { 4 });
        }
        Expr::Reject(RejectWith::TcpReset) => {
            w.u32(1, 1);
            w.u8(2, 0);
        }
        Expr::Random { modulus, offset, dest } => {
            w.u32(1, reg(*dest));
            w.u32(2, *modulus);
            w.u32(3, 1);
            w.u32(4, *offset);
        }
        Expr::FibType { addr, dest } => {
            w.u32(1, reg(*dest));
            w.u32(2, 3);
            w.u32(3, if *addr == FibAddr::Source { 1 } else { 2 });
        }
        Expr::Remember { set, source, timeout_ms } => {
            w.text(1, set);
            // NFT_DYNSET_OP_UPDATE: add, or renew the timeout of what is there.
            w.u32(3, 1);
            w.u32(4, reg(*source));
            w.u64(6, *timeout_ms);
        }
        Expr::Payload { .. }
        | Expr::Meta { .. }
        | Expr::SetMark { .. }
        | Expr::Ct { .. }
        | Expr::Cmp { .. }
        | Expr::Bitwise { .. }
        | Expr::Immediate { .. }
        | Expr::Verdict(_) => {}
    }
}

fn meta_key(key: MetaKey) -> u32 {
    match key {
        MetaKey::Mark => 3,
        MetaKey::L4Proto => 16,
        MetaKey::IifName => 6,
    }
}
