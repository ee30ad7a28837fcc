//! What can be said of an imaginary packet: the machine it meets, its way, what becomes of it. For every kind of rules.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::expr::Name;
use crate::ruleset::HookPoint;
use crate::value::{Proto, Value, interface_name};

/// The machine the packet meets.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Addresses of this machine's interfaces.
    pub local: BTreeSet<IpAddr>,
    /// What packets have added to dynamic sets: set and key.
    pub remembered: BTreeSet<(String, Value)>,
}

impl Machine {
    /// Whether an address is this machine's; those of loopback always are.
    #[must_use]
    pub fn has(&self, addr: IpAddr) -> bool {
        addr.is_loopback() || self.local.contains(&addr)
    }
}

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From a process of this machine.
    Local,
    /// From an interface: a pod, another node, the world.
    Arriving,
}

impl Origin {
    /// Where such a packet meets the first rules, before routing.
    #[must_use]
    pub fn first_hook(self) -> HookPoint {
        match self {
            Self::Local => HookPoint::Output,
            Self::Arriving => HookPoint::Prerouting,
        }
    }

    /// Where it meets the others, in order, once it is known whether it is for this machine.
    #[must_use]
    pub fn hooks_after_routing(self, here: bool) -> &'static [HookPoint] {
        match (self, here) {
            (Self::Arriving, true) => &[HookPoint::Input],
            (Self::Arriving, false) => &[HookPoint::Forward, HookPoint::Postrouting],
            (Self::Local, true) => &[HookPoint::Postrouting, HookPoint::Input],
            (Self::Local, false) => &[HookPoint::Postrouting],
        }
    }
}

/// The first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Transport protocol.
    pub proto: Proto,
    /// Destination port.
    pub port: u16,
    /// Where it comes from.
    pub origin: Origin,
    /// By which interface it comes in.
    pub ingress: Interface,
}

/// The interface by which a packet comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface(Value);

impl Interface {
    /// An interface by its name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(interface_name(name))
    }

    /// Its name; empty for none.
    #[must_use]
    pub fn name(&self) -> String {
        let bytes = self.0.as_bytes();
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    /// As the kernel compares it.
    pub(super) fn value(&self) -> &Value {
        &self.0
    }
}

impl Default for Interface {
    /// None: a packet of this machine's own, or one whose interface no rule asks for.
    fn default() -> Self {
        Self::named("")
    }
}

/// One way a packet may go, told rule by rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journey {
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// Elements that the packet added to dynamic sets.
    pub remembered: Vec<(String, Value)>,
    /// What became of it.
    pub fate: Fate,
}

/// One thing that happened to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It came to a base chain.
    Hook {
        /// Where in its way.
        at: HookPoint,
        /// The chain, with its table: `ip pintle prerouting`.
        chain: String,
    },
    /// A rule did something.
    Rule {
        /// How many chains deep.
        depth: u8,
        /// The chain it is in.
        chain: Name,
        /// How it reads.
        rule: String,
        /// What it did: a verdict, a translation.
        effect: String,
    },
    /// A rule did not concern it.
    Passed {
        /// How many chains deep.
        depth: u8,
        /// The chain it is in.
        chain: Name,
        /// How it reads.
        rule: String,
    },
    /// Routing decided anew after a hook.
    Routed(&'static str),
    /// Something happened where there are no rules.
    Told {
        /// What it follows from, how far down.
        depth: u8,
        /// A sentence.
        what: String,
    },
}

impl Step {
    /// Routing decided whether the packet is for this machine.
    #[must_use]
    pub fn routed(here: bool) -> Self {
        Self::Routed(if here { "to this machine" } else { "to another machine or a pod" })
    }
}

/// What may become of a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It goes to this address and port.
    Delivered {
        /// Where to, after translation.
        to: IpAddr,
        /// On which port.
        port: u16,
        /// With which source address the receiver sees it.
        source: SourceSeen,
    },
    /// Dropped without a word.
    Dropped,
    /// Refused with a message to the sender.
    Rejected,
}

/// The source address the receiver of a packet sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceSeen {
    /// The sender's own.
    Kept,
    /// This machine's.
    Masqueraded,
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Delivered { to, port, source } => {
                write!(f, "{}", std::net::SocketAddr::new(*to, *port))?;
                if *source == SourceSeen::Masqueraded { f.write_str(" masqueraded") } else { Ok(()) }
            }
            Self::Dropped => f.write_str("DROP"),
            Self::Rejected => f.write_str("REJECT"),
        }
    }
}

/// A readable summary of fates: `10.42.0.5:80 | 10.42.0.6:80 masqueraded`.
#[must_use]
pub fn summary(fates: &BTreeSet<Fate>) -> String {
    fates.iter().map(ToString::to_string).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" | ")
}
