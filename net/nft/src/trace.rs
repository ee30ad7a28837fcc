//! Walks an imaginary packet, the first of a connection, through a ruleset and says what may become of it. Where a
//! rule draws a random number, every number is tried, so the answer is a set. Pure, and independent of the planner:
//! it reads expressions as the kernel does. The words are for whoever walks packets through something else too.

mod choices;
mod words;

use std::collections::BTreeSet;
use std::net::IpAddr;

pub use choices::{Choices, every_way};
pub use words::{Fate, Interface, Journey, Machine, Origin, Packet, SourceSeen, Step, summary};

use crate::cidr::Family;
use crate::expr::{Base, CmpOp, CtKey, Expr, FIB_LOCAL, FibAddr, MetaKey, Name, Reg, Verdict, Want};
use crate::ruleset::{ChainKind, Data, HookPoint, Rule, Ruleset, Table, TableId};
use crate::text;
use crate::value::Value;

/// Everything that may become of the packet: one fate for each outcome of the random choices on its way.
#[must_use]
pub fn trace(ruleset: &Ruleset, machine: &Machine, packet: Packet) -> BTreeSet<Fate> {
    let mut fates = BTreeSet::new();
    walk_all((ruleset, None), machine, packet, false, |_, fate| fates.extend([fate]));
    fates
}

/// What may become of a packet that is under way while the rules change: its first `reads` chains and lookups are those
/// of `before`, all later lookups those of `later`.
#[must_use]
pub fn trace_amid(before: &Ruleset, later: Later<'_>, machine: &Machine, packet: Packet) -> BTreeSet<Fate> {
    let mut fates = BTreeSet::new();
    walk_all((before, Some(later)), machine, packet, false, |_, fate| fates.extend([fate]));
    fates
}

/// Every way the packet may go, one for each outcome of the random choices.
#[must_use]
pub fn journeys(ruleset: &Ruleset, machine: &Machine, packet: Packet) -> Vec<Journey> {
    let mut journeys = Vec::new();
    walk_all((ruleset, None), machine, packet, true, |walk, fate| {
        let steps = walk.steps.take().unwrap_or_default();
        journeys.push(Journey { steps, remembered: std::mem::take(&mut walk.adds), fate });
    });
    journeys
}

/// What is installed while a packet is under way.
#[derive(Clone, Copy, Debug)]
pub struct Later<'a> {
    /// After so many chains and lookups.
    pub reads: usize,
    /// What lookups are answered by from then on, and whose rules are walked from the next hook on.
    pub after: &'a Ruleset,
    /// Whose rules are walked until then, in chains that come now: of a chain that the last transaction changed, the kernel
    /// shows those of before it to whoever entered in the other generation.
    pub rules: &'a Ruleset,
}

fn walk_all<'a>(
    (ruleset, later): (&'a Ruleset, Option<Later<'a>>),
    machine: &'a Machine,
    packet: Packet,
    told: bool,
    mut each: impl FnMut(&mut Walk<'a>, Fate),
) {
    every_way(|choices| {
        let mut walk = Walk::new(ruleset, machine, packet, std::mem::take(choices));
        walk.steps = told.then(Vec::new);
        walk.later = later;
        let fate = walk.run();
        each(&mut walk, fate);
        *choices = walk.choices;
    });
}

struct Walk<'a> {
    ruleset: &'a Ruleset,
    later: Option<Later<'a>>,
    /// Whether it entered the hook it is in before that was installed.
    entered_before: bool,
    /// The table whose chains the packet is in.
    at: Option<&'a TableId>,
    machine: &'a Machine,
    packet: Packet,
    mark: u32,
    translated: bool,
    source: SourceSeen,
    choices: Choices,
    adds: Vec<(String, Value)>,
    /// What happened, where somebody wants to know.
    steps: Option<Vec<Step>>,
}

/// How a chain ended.
enum End {
    /// Fell off its end, or returned: the caller goes on.
    Through,
    /// This hook is done with the packet.
    Accepted,
    /// The packet is gone.
    Fate(Fate),
}

impl<'a> Walk<'a> {
    fn new(ruleset: &'a Ruleset, machine: &'a Machine, packet: Packet, choices: Choices) -> Self {
        let source = SourceSeen::Kept;
        Self {
            ruleset,
            later: None,
            entered_before: true,
            at: None,
            machine,
            packet,
            mark: 0,
            translated: false,
            source,
            choices,
            adds: Vec::new(),
            steps: None,
        }
    }

    fn tell(&mut self, step: impl FnOnce(&Self) -> Step) {
        if self.steps.is_some() {
            let step = step(self);
            self.steps.get_or_insert_default().push(step);
        }
    }

    fn run(&mut self) -> Fate {
        if let Some(fate) = self.hook(self.packet.origin.first_hook()) {
            return fate;
        }
        // The destination may be another one now: routing decides anew.
        let here = self.machine.has(self.packet.destination);
        self.tell(|_| Step::routed(here));
        for at in self.packet.origin.hooks_after_routing(here) {
            if let Some(fate) = self.hook(*at) {
                return fate;
            }
        }
        Fate::Delivered { to: self.packet.destination, port: self.packet.port, source: self.source }
    }

    fn hook(&mut self, at: HookPoint) -> Option<Fate> {
        let family = Family::of(self.packet.destination);
        let ruleset = self.ruleset;
        let mut bases = Vec::new();
        for (id, table) in ruleset.tables.iter().filter(|(id, _)| id.family == family) {
            for (name, chain) in &table.chains {
                if let Some(hook) = chain.hook.filter(|h| h.at == at) {
                    bases.push((hook.priority, hook.kind, id, table, (name, chain)));
                }
            }
        }
        bases.sort_by_key(|(priority, ..)| *priority);
        let mut nat_done = false;
        for (_, kind, id, table, (name, chain)) in bases {
            // Once a translation is decided, later nat chains of the hook do not see the packet.
            if kind == ChainKind::Nat && nat_done {
                continue;
            }
            let (before, translated) = (self.source, self.translated);
            self.at = Some(id);
            self.entered_before = self.later.is_none_or(|later| later.reads > 0);
            self.tell(|_| Step::Hook { at, chain: format!("{} {name}", text::table_id(id)) });
            if let End::Fate(fate) = self.chain(table, (name, &chain.rules), 0) {
                return Some(fate);
            }
            nat_done |= self.source != before || self.translated != translated;
        }
        None
    }

    fn chain(&mut self, table: &Table, (name, rules): (&Name, &[Rule]), depth: u8) -> End {
        // The kernel refuses deeper nesting (NFT_JUMP_STACK_SIZE).
        if depth > 16 {
            return End::Fate(Fate::Dropped);
        }
        for rule in rules {
            let before = (self.mark, self.adds.len());
            let decision = self.rule(table, rule);
            self.tell_rule(depth, name, rule, before, decision.as_ref());
            let Some(verdict) = decision else { continue };
            let end = match verdict {
                Decision::Done => End::Accepted,
                Decision::Fate(fate) => End::Fate(fate),
                Decision::Verdict(Verdict::Accept) => End::Accepted,
                Decision::Verdict(Verdict::Drop) => End::Fate(Fate::Dropped),
                Decision::Verdict(Verdict::Return) => End::Through,
                Decision::Verdict(Verdict::Goto(name)) => self.called(table, &name, depth + 1),
                Decision::Verdict(Verdict::Jump(name)) => match self.called(table, &name, depth + 1) {
                    End::Through => continue,
                    end => end,
                },
            };
            return end;
        }
        End::Through
    }

    fn called(&mut self, table: &Table, name: &Name, depth: u8) -> End {
        match self.now() {
            None => self.chain(table, (name, rules_of(table, name)), depth),
            Some(now) => {
                let when_entered = || self.later?.rules.tables.get(self.at?);
                let walked = if self.entered_before { when_entered() } else { now };
                self.chain(table, (name, walked.map(|t| rules_of(t, name)).unwrap_or_default()), depth)
            }
        }
    }

    /// One more chain or lookup is read. The table as it is by now, if it is there; `None` if it is still as it was.
    fn now(&mut self) -> Option<Option<&'a Table>> {
        let later = self.later.as_mut()?;
        match later.reads.checked_sub(1) {
            Some(left) => {
                later.reads = left;
                None
            }
            None => Some(later.after.tables.get(self.at?)),
        }
    }

    fn tell_rule(&mut self, depth: u8, chain: &Name, rule: &Rule, before: (u32, usize), did: Option<&Decision>) {
        self.tell(|walk| {
            let read = text::rule(Family::of(walk.packet.destination), rule);
            let mut effects = Vec::new();
            if walk.mark != before.0 {
                effects.push(format!("mark {:#x}", walk.mark));
            }
            if walk.adds.len() > before.1 {
                effects.push("remembers the client".to_owned());
            }
            match did {
                None => {}
                Some(Decision::Verdict(verdict)) => effects.push(text::verdict(verdict)),
                Some(Decision::Fate(fate)) => effects.push(fate.to_string()),
                Some(Decision::Done) if walk.source == SourceSeen::Masqueraded => {
                    effects.push("source becomes this machine's".to_owned());
                }
                Some(Decision::Done) => {
                    let to = std::net::SocketAddr::new(walk.packet.destination, walk.packet.port);
                    effects.push(format!("destination becomes {to}"));
                }
            }
            let chain = chain.clone();
            if effects.is_empty() {
                return Step::Passed { depth, chain, rule: read };
            }
            Step::Rule { depth, chain, rule: read, effect: effects.join(", ") }
        });
    }

    /// What a rule decides; `None` when it stops before or has nothing to say.
    fn rule(&mut self, table: &Table, rule: &Rule) -> Option<Decision> {
        let mut regs = Registers::default();
        for expr in rule {
            match self.expr(table, expr, &mut regs) {
                Flow::Next => {}
                Flow::Break => return None,
                Flow::Decide(decision) => return Some(decision),
            }
        }
        None
    }

    fn expr(&mut self, table: &Table, expr: &Expr, regs: &mut Registers) -> Flow {
        match expr {
            Expr::Payload { base, offset, len, dest } => return self.payload(*base, *offset, *len, *dest, regs),
            Expr::Meta { key: MetaKey::Mark, dest } => regs.set(*dest, &self.mark.to_ne_bytes()),
            Expr::Meta { key: MetaKey::L4Proto, dest } => regs.set(*dest, &[self.packet.proto.number()]),
            Expr::Meta { key: MetaKey::IifName, dest } => regs.set(*dest, self.packet.ingress.value().as_bytes()),
            Expr::SetMark { source } => self.mark = u32::from_ne_bytes(regs.word(*source)),
            // It is the first packet of its connection.
            Expr::Ct { key: CtKey::State, dest } => regs.set(*dest, &8_u32.to_ne_bytes()),
            Expr::Ct { key: CtKey::Status, dest } => {
                regs.set(*dest, &if self.translated { 32_u32 } else { 0 }.to_ne_bytes());
            }
            Expr::Cmp { op, source, value } => {
                let equal = regs.get(*source, value.as_bytes().len()) == value.as_bytes();
                return Flow::go_on_if(equal == (*op == CmpOp::Eq));
            }
            Expr::Bitwise { source, dest, mask, xor } => {
                let bytes: Vec<u8> = regs
                    .get(*source, mask.as_bytes().len())
                    .iter()
                    .zip(mask.as_bytes().iter().zip(xor.as_bytes()))
                    .map(|(b, (m, x))| (b & m) ^ x)
                    .collect();
                regs.set(*dest, &bytes);
            }
            Expr::Lookup { set, source, want } => {
                let found = self.lookup(table, set, *source, regs).is_some();
                return Flow::go_on_if(found == (*want == Want::Present));
            }
            Expr::Map { set, source, dest } => match self.lookup(table, set, *source, regs) {
                Some(Data::Value(value)) => regs.set(*dest, value.as_bytes()),
                _ => return Flow::Break,
            },
            Expr::Vmap { set, source } => match self.lookup(table, set, *source, regs) {
                Some(Data::Verdict(verdict)) => return Flow::Decide(Decision::Verdict(verdict)),
                _ => return Flow::Break,
            },
            Expr::Immediate { dest, value } => regs.set(*dest, value.as_bytes()),
            Expr::Verdict(verdict) => return Flow::Decide(Decision::Verdict(verdict.clone())),
            Expr::Dnat { family, addr, port } => return self.dnat(*family, *addr, *port, regs),
            Expr::Masquerade(_) => {
                self.source = SourceSeen::Masqueraded;
                return Flow::Decide(Decision::Done);
            }
            Expr::Reject(_) => return Flow::Decide(Decision::Fate(Fate::Rejected)),
            Expr::Random { modulus, offset, dest } => {
                let taken = self.choices.draw(*modulus);
                regs.set(*dest, &(offset + taken).to_ne_bytes());
            }
            Expr::FibType { addr, dest } => {
                let addr = if *addr == FibAddr::Source { self.packet.source } else { self.packet.destination };
                // 1 is RTN_UNICAST, an address elsewhere.
                let kind = if self.machine.has(addr) { FIB_LOCAL } else { 1 };
                regs.set(*dest, &kind.to_ne_bytes());
            }
            Expr::Remember { set, source, .. } => {
                let len = table.sets.get(set).map_or(0, |s| s.decl.key.iter().map(|t| t.padded_len()).sum());
                self.adds.push((set.to_string(), Value::new().with(regs.get(*source, len))));
            }
            Expr::Counter => {}
        }
        Flow::Next
    }

    fn payload(&self, base: Base, offset: u32, len: u32, dest: Reg, regs: &mut Registers) -> Flow {
        let header: Vec<u8> = match (base, self.packet.source, self.packet.destination) {
            (Base::Network, IpAddr::V4(s), IpAddr::V4(d)) => [&[0; 12][..], &s.octets(), &d.octets()].concat(),
            (Base::Network, IpAddr::V6(s), IpAddr::V6(d)) => [&[0; 8][..], &s.octets(), &d.octets()].concat(),
            (Base::Network, ..) => return Flow::Break,
            (Base::Transport, ..) => [[0, 0], self.packet.port.to_be_bytes()].concat(),
        };
        let (from, len) = (offset as usize, len as usize);
        match header.get(from..from + len) {
            Some(bytes) => {
                regs.set(dest, bytes);
                Flow::Next
            }
            None => Flow::Break,
        }
    }

    fn dnat(&mut self, family: Family, addr: Reg, port: Reg, regs: &Registers) -> Flow {
        self.packet.destination = match family {
            Family::V4 => IpAddr::from(regs.word(addr)),
            Family::V6 => IpAddr::from(<[u8; 16]>::try_from(regs.get(addr, 16)).unwrap_or_default()),
        };
        let [a, b, ..] = regs.word(port);
        self.packet.port = u16::from_be_bytes([a, b]);
        self.translated = true;
        Flow::Decide(Decision::Done)
    }

    fn lookup(&mut self, table: &Table, set: &str, source: Reg, regs: &Registers) -> Option<Data> {
        let table = self.now().unwrap_or(Some(table))?;
        let set_ = table.sets.get(set)?;
        let len = set_.decl.key.iter().map(|t| t.padded_len()).sum();
        let key = Value::new().with(regs.get(source, len));
        let remembered = || self.machine.remembered.contains(&(set.to_owned(), key)).then_some(Data::None);
        set_.elements.get(&key).cloned().or_else(remembered)
    }
}

enum Decision {
    Verdict(Verdict),
    /// A translation, which ends the hook's chain like an accept.
    Done,
    Fate(Fate),
}

enum Flow {
    Next,
    Break,
    Decide(Decision),
}

impl Flow {
    fn go_on_if(condition: bool) -> Self {
        if condition { Self::Next } else { Self::Break }
    }
}

struct Registers {
    bytes: [u8; 64],
}

impl Default for Registers {
    fn default() -> Self {
        Self { bytes: [0; 64] }
    }
}

impl Registers {
    fn set(&mut self, reg: Reg, value: &[u8]) {
        let from = usize::from(reg.index()) * 4;
        let end = (from + value.len()).min(self.bytes.len());
        // The kernel clears the rest of the last word it writes.
        let padded = end.next_multiple_of(4).min(self.bytes.len());
        self.bytes[from..padded].fill(0);
        self.bytes[from..end].copy_from_slice(&value[..end - from]);
    }

    fn get(&self, reg: Reg, len: usize) -> &[u8] {
        let from = usize::from(reg.index()) * 4;
        &self.bytes[from..(from + len).min(self.bytes.len())]
    }

    fn word(&self, reg: Reg) -> [u8; 4] {
        self.get(reg, 4).try_into().unwrap_or_default()
    }
}

fn rules_of<'t>(table: &'t Table, name: &Name) -> &'t [Rule] {
    table.chains.get(name).map(|c| c.rules.as_slice()).unwrap_or_default()
}
