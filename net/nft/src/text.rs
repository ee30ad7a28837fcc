//! How a ruleset reads: nft's language, near enough for people and golden files. Never parsed back, never given to
//! `nft`. Registers are followed symbolically, so that a rule reads as what it does.

use std::collections::BTreeMap;

use crate::cidr::Family;
use crate::diff::{Action, Op, Transaction};
use crate::expr::{Base, CmpOp, CtKey, Expr, FIB_LOCAL, FibAddr, MetaKey, PortChoice, Reg, RejectWith, Verdict, Want};
use crate::ruleset::{ChainKind, Data, Hook, HookPoint, Rule, Ruleset, SetDecl, SetKind, Table, TableId};
use crate::value::{DataType, Value, show};

/// The whole ruleset.
#[must_use]
pub fn ruleset(ruleset: &Ruleset) -> String {
    let mut text = String::new();
    for (id, table) in &ruleset.tables {
        line(&mut text, 0, &format!("table {} {{", table_id(id)));
        show_table(&mut text, id, table);
        line(&mut text, 0, "}");
    }
    text
}

/// A transaction, one operation a line, a blank line between batches, a comment between phases.
#[must_use]
pub fn transaction(transaction: &Transaction) -> String {
    let batch = |ops: &Vec<Op>| ops.iter().map(|o| op(o) + "\n").collect::<String>();
    let phases = transaction.phases().map(|p| p.iter().map(batch).collect::<Vec<_>>().join("\n"));
    phases.collect::<Vec<_>>().join("\n# when packets under way have left\n")
}

/// One operation, as it would be typed.
#[must_use]
pub fn op(op: &Op) -> String {
    let table = table_id(&op.table);
    match &op.action {
        Action::AddTable => format!("add table {table}"),
        Action::DelTable => format!("delete table {table}"),
        Action::AddSet(name, decl) => format!("add {} {table} {name} {{ {} }}", noun(decl), declaration(decl)),
        Action::DelSet(name) => format!("delete set {table} {name}"),
        Action::AddChain(name, None) => format!("add chain {table} {name}"),
        Action::AddChain(name, Some(h)) => format!("add chain {table} {name} {{ {} }}", hook(h)),
        Action::DelChain(name) => format!("delete chain {table} {name}"),
        Action::FlushChain(name) => format!("flush chain {table} {name}"),
        Action::AddRule(name, r) => format!("add rule {table} {name} {}", rule(op.table.family, r)),
        Action::AddElement(name, key, data) => format!("add element {table} {name} {{ {} }}", raw(key, data)),
        Action::ReplaceElement(name, key, data) => format!("replace element {table} {name} {{ {} }}", raw(key, data)),
        Action::DelElement(name, key) => format!("delete element {table} {name} {{ {key:?} }}"),
    }
}

/// One rule.
#[must_use]
pub fn rule(family: Family, rule: &Rule) -> String {
    let mut reader = Reader { family, held: BTreeMap::new() };
    let parts: Vec<String> = rule.iter().filter_map(|e| reader.read(e)).collect();
    parts.join(" ")
}

fn show_table(text: &mut String, id: &TableId, table: &Table) {
    for (name, set) in &table.sets {
        line(text, 1, &format!("{} {name} {{", noun(&set.decl)));
        line(text, 2, &declaration(&set.decl));
        for (key, data) in &set.elements {
            line(text, 2, &element(&set.decl, key, data));
        }
        line(text, 1, "}");
    }
    for (name, chain) in &table.chains {
        line(text, 1, &format!("chain {name} {{"));
        if let Some(h) = &chain.hook {
            line(text, 2, &hook(h));
        }
        for r in &chain.rules {
            line(text, 2, &rule(id.family, r));
        }
        line(text, 1, "}");
    }
}

fn line(text: &mut String, depth: usize, content: &str) {
    text.push_str(&"  ".repeat(depth));
    text.push_str(content);
    text.push('\n');
}

/// A table as nft names it: `ip pintle`.
#[must_use]
pub fn table_id(id: &TableId) -> String {
    format!("{} {}", family(id.family), id.name)
}

fn family(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn noun(decl: &SetDecl) -> &'static str {
    match decl.kind {
        SetKind::Plain | SetKind::Closing | SetKind::Dynamic { .. } => "set",
        SetKind::Map(_) | SetKind::Verdicts => "map",
    }
}

fn types(types: &[DataType]) -> String {
    types.iter().map(|t| t.name()).collect::<Vec<_>>().join(" . ")
}

fn declaration(decl: &SetDecl) -> String {
    let key = types(&decl.key);
    match &decl.kind {
        SetKind::Plain | SetKind::Closing => format!("type {key}"),
        SetKind::Map(data) => format!("type {key} : {}", types(data)),
        SetKind::Verdicts => format!("type {key} : verdict"),
        SetKind::Dynamic { timeout_ms } => format!("type {key}; flags dynamic,timeout; timeout {timeout_ms}ms"),
    }
}

fn element(decl: &SetDecl, key: &Value, data: &Data) -> String {
    let key = show(&decl.key, key);
    match (data, &decl.kind) {
        (Data::None, _) => key,
        (Data::Value(v), SetKind::Map(types)) => format!("{key} : {}", show(types, v)),
        (Data::Value(v), _) => format!("{key} : {v:?}"),
        (Data::Verdict(v), _) => format!("{key} : {}", verdict(v)),
    }
}

fn raw(key: &Value, data: &Data) -> String {
    match data {
        Data::None => format!("{key:?}"),
        Data::Value(v) => format!("{key:?} : {v:?}"),
        Data::Verdict(v) => format!("{key:?} : {}", verdict(v)),
    }
}

/// A verdict.
#[must_use]
pub fn verdict(v: &Verdict) -> String {
    match v {
        Verdict::Accept => "accept".into(),
        Verdict::Drop => "drop".into(),
        Verdict::Return => "return".into(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
    }
}

fn hook(hook: &Hook) -> String {
    let kind = match hook.kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
    };
    let at = match hook.at {
        HookPoint::Prerouting => "prerouting",
        HookPoint::Input => "input",
        HookPoint::Forward => "forward",
        HookPoint::Output => "output",
        HookPoint::Postrouting => "postrouting",
    };
    format!("type {kind} hook {at} priority {}; policy accept;", hook.priority)
}

/// Follows what registers hold, by the name it has in nft's language.
struct Reader {
    family: Family,
    held: BTreeMap<Reg, Held>,
}

struct Held {
    text: String,
    types: Vec<DataType>,
    words: u8,
}

impl Reader {
    fn hold(&mut self, reg: Reg, text: impl Into<String>, ty: DataType) -> Option<String> {
        let words = u8::try_from(ty.padded_len() / 4).unwrap_or(1);
        self.held.insert(reg, Held { text: text.into(), types: vec![ty], words });
        None
    }

    /// The parts from this register on, as one key.
    fn key(&self, reg: Reg) -> String {
        let mut parts = Vec::new();
        let mut next = reg.index();
        while next < 16
            && let Some(held) = self.held.get(&Reg::new(next))
        {
            parts.push(held.text.clone());
            next += held.words;
        }
        parts.join(" . ")
    }

    fn value(&self, reg: Reg, value: &Value) -> String {
        self.held.get(&reg).map_or_else(|| format!("{value:?}"), |h| show(&h.types, value))
    }

    fn read(&mut self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::Payload { base, offset, len, dest } => self.payload(*base, *offset, *len, *dest),
            Expr::Meta { key: MetaKey::Mark, dest } => self.hold(*dest, "meta mark", DataType::Mark),
            Expr::Meta { key: MetaKey::L4Proto, dest } => self.hold(*dest, "meta l4proto", DataType::InetProto),
            Expr::Meta { key: MetaKey::IifName, dest } => self.hold(*dest, "iifname", DataType::IfName),
            Expr::Ct { key: CtKey::State, dest } => self.hold(*dest, "ct state", DataType::Mark),
            Expr::Ct { key: CtKey::Status, dest } => self.hold(*dest, "ct status", DataType::Mark),
            Expr::FibType { addr: FibAddr::Source, dest } => self.hold(*dest, "fib saddr type", DataType::Mark),
            Expr::FibType { addr: FibAddr::Destination, dest } => self.hold(*dest, "fib daddr type", DataType::Mark),
            Expr::Random { modulus, offset: 0, dest } => {
                self.hold(*dest, format!("numgen random mod {modulus}"), DataType::Mark)
            }
            Expr::Random { modulus, offset, dest } => {
                self.hold(*dest, format!("numgen random mod {modulus} offset {offset}"), DataType::Mark)
            }
            Expr::Immediate { dest, value } => self.hold(*dest, format!("{value:?}"), DataType::Mark),
            Expr::Map { set, source, dest } => {
                let text = format!("{} map @{set}", self.key(*source));
                self.held.retain(|reg, _| reg.index() < dest.index());
                self.hold(*dest, text, DataType::Mark)
            }
            Expr::Bitwise { source, dest, mask, xor } => self.bitwise(*source, *dest, mask, xor),
            other => Some(self.statement(other)),
        }
    }

    fn payload(&mut self, base: Base, offset: u32, len: u32, dest: Reg) -> Option<String> {
        let ip = family(self.family);
        let addr = if self.family == Family::V4 { DataType::Ipv4Addr } else { DataType::Ipv6Addr };
        match (base, offset, len) {
            (Base::Network, 12, 4) | (Base::Network, 8, 16) => self.hold(dest, format!("{ip} saddr"), addr),
            (Base::Network, 16, 4) | (Base::Network, 24, 16) => self.hold(dest, format!("{ip} daddr"), addr),
            (Base::Transport, 2, 2) => self.hold(dest, "th dport", DataType::InetService),
            (Base::Network, o, l) => self.hold(dest, format!("@nh,{},{}", o * 8, l * 8), DataType::Mark),
            (Base::Transport, o, l) => self.hold(dest, format!("@th,{},{}", o * 8, l * 8), DataType::Mark),
        }
    }

    fn bitwise(&mut self, source: Reg, dest: Reg, mask: &Value, xor: &Value) -> Option<String> {
        let held = self.held.get(&source)?;
        let ty = *held.types.first()?;
        let mut text = format!("{} & {}", held.text, show_bits(ty, mask));
        if xor.as_bytes().iter().any(|b| *b != 0) {
            text = format!("{text} ^ {}", show_bits(ty, xor));
        }
        self.hold(dest, text, ty)
    }

    fn statement(&self, expr: &Expr) -> String {
        match expr {
            Expr::Cmp { op, source, value } => {
                let sign = if *op == CmpOp::Eq { "" } else { "!= " };
                let key = self.held.get(source).map_or("?", |h| h.text.as_str());
                let local = key.starts_with("fib ") && *value == Value::new().number(FIB_LOCAL);
                let value = if local { "local".to_owned() } else { self.value(*source, value) };
                format!("{key} {sign}{value}")
            }
            Expr::Lookup { set, source, want } => {
                let sign = if *want == Want::Present { "" } else { "!= " };
                format!("{} {sign}@{set}", self.key(*source))
            }
            Expr::Vmap { set, source } => format!("{} vmap @{set}", self.key(*source)),
            Expr::SetMark { source } => format!("meta mark set {}", self.key(*source)),
            Expr::Verdict(v) => verdict(v),
            Expr::Dnat { addr, .. } => format!("dnat to {}", self.key(*addr)),
            Expr::Masquerade(PortChoice::Keep) => "masquerade".into(),
            Expr::Masquerade(PortChoice::Random) => "masquerade fully-random".into(),
            Expr::Reject(RejectWith::PortUnreachable(_)) => "reject".into(),
            Expr::Reject(RejectWith::TcpReset) => "reject with tcp reset".into(),
            Expr::Remember { set, source, timeout_ms } => {
                format!("update @{set} {{ {} timeout {timeout_ms}ms }}", self.key(*source))
            }
            Expr::Counter => "counter".into(),
            Expr::Payload { .. }
            | Expr::Meta { .. }
            | Expr::Ct { .. }
            | Expr::FibType { .. }
            | Expr::Random { .. }
            | Expr::Immediate { .. }
            | Expr::Map { .. }
            | Expr::Bitwise { .. } => String::new(),
        }
    }
}

fn show_bits(ty: DataType, value: &Value) -> String {
    if ty == DataType::Mark {
        let word = value.as_bytes().try_into().map(u32::from_ne_bytes).unwrap_or_default();
        return format!("{word:#010x}");
    }
    show(&[ty], value)
}
