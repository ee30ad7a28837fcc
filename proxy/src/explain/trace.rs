//! The answer to a question about a packet, for people and for programs.

use std::net::{IpAddr, SocketAddr};

use pintle_nft::trace::{Fate, Journey, Origin, Packet, Step};
use pintle_nft::{HookPoint, Proto};
use serde_json::{Value, json};

/// A packet somebody asks about.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// The destination's port.
    pub port: u16,
    /// Its protocol.
    pub proto: Proto,
    /// By which interface it comes in; needed only where pods are told by interfaces.
    pub interface: Option<String>,
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub struct Trace {
    pub(super) mode: &'static str,
    pub(super) packet: Packet,
    pub(super) ways: Vec<Journey>,
}

impl Trace {
    /// For people: what may become of the packet, then why, rule by rule, for the first of these.
    #[must_use]
    pub fn text(&self) -> String {
        let packet = &self.packet;
        let from = match packet.origin {
            Origin::Local => "a process of this node",
            Origin::Arriving => "a pod or another machine",
        };
        let to = SocketAddr::new(packet.destination, packet.port);
        let mut out =
            format!("{} {} -> {to}, from {from}, in mode {}\n", packet.proto.name(), packet.source, self.mode);
        for journey in &self.ways {
            line(&mut out, 1, &sentence(packet, &journey.fate));
        }
        if let Some(first) = self.ways.first() {
            out.push_str(if self.ways.len() > 1 { "\nwhy, for the first of these:\n" } else { "\nwhy:\n" });
            first.steps.iter().for_each(|step| tell(&mut out, step));
        }
        out
    }

    /// The same as data, with the way to every fate.
    #[must_use]
    pub fn json(&self) -> Value {
        let ways = self.ways.iter().map(|journey| {
            let mut steps = String::new();
            journey.steps.iter().for_each(|step| tell(&mut steps, step));
            json!({
                "fate": journey.fate.to_string(),
                "sentence": sentence(&self.packet, &journey.fate),
                "steps": steps.lines().map(str::trim).collect::<Vec<_>>(),
            })
        });
        json!({
            "mode": self.mode,
            "source": self.packet.source,
            "destination": SocketAddr::new(self.packet.destination, self.packet.port),
            "protocol": self.packet.proto.name(),
            "ways": ways.collect::<Vec<_>>(),
        })
    }
}

fn sentence(packet: &Packet, fate: &Fate) -> String {
    match fate {
        Fate::Delivered { to, port, .. } if (*to, *port) == (packet.destination, packet.port) => {
            format!("goes where it was sent: {fate}")
        }
        Fate::Delivered { .. } => format!("goes to {fate}"),
        Fate::Dropped => "is dropped without a word".into(),
        Fate::Rejected => "is refused, and the sender is told".into(),
    }
}

fn tell(out: &mut String, step: &Step) {
    match step {
        Step::Hook { at, chain } => line(out, 1, &format!("{}: {chain}", hook(*at))),
        Step::Rule { depth, chain, rule, effect } => {
            line(out, 2 + usize::from(*depth), &format!("{chain}: {rule} => {effect}"));
        }
        // What did not concern it would bury the rest.
        Step::Passed { .. } => {}
        Step::Routed(whereto) => line(out, 1, &format!("routed {whereto}")),
        Step::Told { depth, what } => line(out, 1 + usize::from(*depth), what),
    }
}

fn hook(at: HookPoint) -> &'static str {
    match at {
        HookPoint::Prerouting => "prerouting",
        HookPoint::Input => "input",
        HookPoint::Forward => "forward",
        HookPoint::Output => "output",
        HookPoint::Postrouting => "postrouting",
    }
}

fn line(out: &mut String, depth: usize, text: &str) {
    *out += &format!("{:width$}{text}\n", "", width = depth * 2);
}
