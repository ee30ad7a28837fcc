//! Walks an imaginary packet, the first of a connection, through tables and says what may become of it: the same as
//! [`pintle_nft::trace`] does with nftables, in the same words. Where a rule matches by chance both outcomes are tried.
//! Reads the text of rules as the tools and the kernel do; knows nothing of Services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use pintle_nft::trace::{Choices, Fate, Journey, Machine, Packet, SourceSeen, Step, every_way};
use pintle_nft::{Family, HookPoint, Name, Value};

use super::rule::{Match, Rule, Target};
use super::script::Table;
use super::tables::{Tables, Unreadable};

/// The kernel's own limit is the number of chains; ours only ends what would never end.
const DEPTH_MAX: u8 = 64;

/// Rules of a family that packets can walk through.
#[derive(Clone, Debug)]
pub struct Rules(BTreeMap<(Table, Name), Vec<Rule>>);

impl Rules {
    /// Reads all rules of tables.
    ///
    /// # Errors
    /// At the first that is not understood.
    pub fn read(family: Family, tables: &Tables) -> Result<Self, Unreadable> {
        let mut all = BTreeMap::new();
        for table in Table::ALL {
            for (name, rules) in tables.chains(table) {
                let rules = rules.iter().map(|rule| Rule::read(family, rule)).collect::<Result<_, _>>()?;
                all.insert((table, Name::from(name)), rules);
            }
        }
        Ok(Self(all))
    }

    fn of(&self, table: Table, chain: &Name) -> &[Rule] {
        self.0.get(&(table, chain.clone())).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Everything that may become of the packet.
#[must_use]
pub fn trace(rules: &Rules, machine: &Machine, packet: Packet) -> BTreeSet<Fate> {
    journeys(rules, machine, packet).into_iter().map(|journey| journey.fate).collect()
}

/// Every way the packet may go, one for each outcome of the random choices.
#[must_use]
pub fn journeys(rules: &Rules, machine: &Machine, packet: Packet) -> Vec<Journey> {
    let mut journeys = Vec::new();
    every_way(|choices| {
        let mut walk = Walk {
            rules,
            machine,
            packet,
            mark: 0,
            source: SourceSeen::Kept,
            choices: std::mem::take(choices),
            remembered: Vec::new(),
            steps: Vec::new(),
        };
        let fate = walk.run();
        *choices = walk.choices;
        journeys.push(Journey { steps: walk.steps, remembered: walk.remembered, fate });
    });
    journeys
}

struct Walk<'a> {
    rules: &'a Rules,
    machine: &'a Machine,
    packet: Packet,
    mark: u32,
    source: SourceSeen,
    choices: Choices,
    remembered: Vec<(String, Value)>,
    steps: Vec<Step>,
}

/// How a chain ended.
enum End {
    /// Fell off its end, or returned.
    Through,
    /// This table is done with the packet at this hook.
    Done,
    /// The packet is gone.
    Gone(Fate),
}

/// The tables that see a packet at a hook, in the order of their priorities. `nat` sees input too, where nobody of ours
/// has rules.
fn tables(at: HookPoint) -> (&'static str, &'static [Table]) {
    match at {
        HookPoint::Prerouting => ("PREROUTING", &[Table::Nat]),
        HookPoint::Input => ("INPUT", &[Table::Filter, Table::Nat]),
        HookPoint::Forward => ("FORWARD", &[Table::Filter]),
        HookPoint::Output => ("OUTPUT", &[Table::Nat, Table::Filter]),
        HookPoint::Postrouting => ("POSTROUTING", &[Table::Nat]),
    }
}

impl Walk<'_> {
    fn run(&mut self) -> Fate {
        let origin = self.packet.origin;
        if let Some(fate) = self.hook(origin.first_hook()) {
            return fate;
        }
        let here = self.machine.has(self.packet.destination);
        self.steps.push(Step::routed(here));
        let rest = origin.hooks_after_routing(here);
        rest.iter().find_map(|at| self.hook(*at)).unwrap_or(Fate::Delivered {
            to: self.packet.destination,
            port: self.packet.port,
            source: self.source,
        })
    }

    fn hook(&mut self, at: HookPoint) -> Option<Fate> {
        let (chain, tables) = tables(at);
        tables.iter().find_map(|table| {
            let before = self.steps.len();
            self.steps.push(Step::Hook { at, chain: format!("{table} {chain}") });
            let end = self.chain(*table, &chain.into(), 0);
            // Where nothing happened nothing is told.
            if self.steps.len() == before + 1 {
                self.steps.truncate(before);
            }
            if let End::Gone(fate) = end { Some(fate) } else { None }
        })
    }

    fn chain(&mut self, table: Table, name: &Name, depth: u8) -> End {
        if depth > DEPTH_MAX {
            return End::Gone(Fate::Dropped);
        }
        let rules = self.rules;
        for rule in rules.of(table, name) {
            let known = self.remembered.len();
            if !rule.matches.iter().all(|m| self.holds(m)) {
                self.remembered.truncate(known);
                continue;
            }
            if let Target::Chain(next) = &rule.target {
                let told = self.steps.len();
                self.tell(depth, name, rule, format!("jump {next}"));
                match self.chain(table, next, depth + 1) {
                    // It came to nothing.
                    End::Through if self.steps.len() == told + 1 => self.steps.truncate(told),
                    End::Through => {}
                    end => return end,
                }
            } else if let Some(end) = self.decide(depth, name, rule) {
                return end;
            }
        }
        End::Through
    }

    /// What a rule's target does; `None` where the next rule is looked at.
    fn decide(&mut self, depth: u8, chain: &Name, rule: &Rule) -> Option<End> {
        let (end, mut effect) = match &rule.target {
            Target::Chain(_) => return None,
            Target::Return => return Some(End::Through),
            Target::Accept => (Some(End::Done), "accept".to_owned()),
            Target::Drop => (Some(End::Gone(Fate::Dropped)), Fate::Dropped.to_string()),
            Target::Reject => (Some(End::Gone(Fate::Rejected)), Fate::Rejected.to_string()),
            Target::SetMark(mark) => {
                self.mark = (self.mark & !mark.mask) ^ mark.value;
                (None, format!("mark {:#x}", self.mark))
            }
            Target::Translate(to) => {
                (self.packet.destination, self.packet.port) = (to.ip(), to.port());
                (Some(End::Done), format!("destination becomes {}", SocketAddr::new(to.ip(), to.port())))
            }
            Target::Masquerade => {
                self.source = SourceSeen::Masqueraded;
                (Some(End::Done), "source becomes this machine's".to_owned())
            }
        };
        if rule.matches.iter().any(|m| matches!(m, Match::Remember(_))) {
            effect.push_str(", remembers the client");
        }
        self.tell(depth, chain, rule, effect);
        end
    }

    fn tell(&mut self, depth: u8, chain: &Name, rule: &Rule, effect: String) {
        self.steps.push(Step::Rule { depth, chain: chain.clone(), rule: rule.text.clone(), effect });
    }

    fn holds(&mut self, what: &Match) -> bool {
        let packet = &self.packet;
        match what {
            Match::Not(what) => !self.holds(what),
            Match::Source(range) => range.contains(packet.source),
            Match::Destination(range) => range.contains(packet.destination),
            Match::Interface(name) => {
                let ingress = packet.ingress.name();
                name.strip_suffix('+').map_or(*name == ingress, |prefix| ingress.starts_with(prefix))
            }
            Match::Proto(proto) => *proto == packet.proto,
            Match::Port(port) => *port == packet.port,
            Match::SourceIsOurs => self.machine.has(packet.source),
            Match::DestinationIsOurs => self.machine.has(packet.destination),
            Match::Mark(mark) => self.mark & mark.mask == mark.value,
            // It is the first packet of its connection.
            Match::Begins(begins) => *begins,
            Match::Chance => self.choices.draw(2) == 0,
            Match::Known(list) => {
                let client = Value::new().addr(packet.source);
                self.machine.remembered.contains(&(list.clone(), client))
            }
            Match::Remember(list) => {
                self.remembered.push((list.clone(), Value::new().addr(packet.source)));
                true
            }
        }
    }
}
