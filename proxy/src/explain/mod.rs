//! What the proxy would do, for people: the rules of a set of objects, and where a packet goes through them and why.
//! Reads objects from an API server or from files; asks no kernel and changes nothing.

mod objects;
mod plan;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::BTreeSet;
use std::net::IpAddr;

use pintle_nft::Family;
use pintle_nft::trace::{Interface, Journey, Machine, Origin, Packet};
use pintle_proxy_plan::iptables::Unreadable;
use pintle_proxy_plan::{Change, Issue, ServiceMap};
use serde_json::{Value, json};

use crate::config::ProxyConfig;
use crate::mode::{self, Mode};
use crate::node;
use crate::planner_config::planner_config;

pub use objects::Objects;
pub use trace::{Question, Trace};

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The API server did not answer as hoped.
    #[error("cannot read {what} from the API server")]
    List {
        /// Which objects.
        what: &'static str,
        /// Why.
        source: pintle_client::Error,
    },
    /// A document is not YAML.
    #[error("document {at} is no YAML")]
    Yaml {
        /// Which, from 1.
        at: usize,
        /// What is wrong, and where.
        source: serde_yaml_ng::Error,
    },
    /// An object is not of its kind.
    #[error("document {at} is no {kind}")]
    Object {
        /// Which document, from 1.
        at: usize,
        /// What it says it is.
        kind: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// There is no mode of that name.
    #[error("mode \"{name}\" is none of {}", mode::names().join(", "))]
    NoMode {
        /// The name.
        name: String,
    },
    /// A packet has two addresses of one family.
    #[error("a packet from {from} to {to} cannot be: the addresses are of different families")]
    Families {
        /// Its source.
        from: IpAddr,
        /// Its destination.
        to: IpAddr,
    },
    /// The mode's rules cannot be walked.
    #[error("cannot walk a packet through what mode {mode} would install")]
    Walk {
        /// The mode.
        mode: &'static str,
        /// Why.
        source: Unreadable,
    },
}

/// Rules, and what can be said of them.
pub struct Explained {
    mode: &'static dyn Mode,
    /// A family each.
    maps: Vec<ServiceMap>,
    issues: Vec<Issue>,
    local: BTreeSet<IpAddr>,
}

impl Explained {
    /// Plans as the proxy of this configuration would; where it names no mode, in the first choice.
    ///
    /// # Errors
    /// When there is no such mode.
    pub fn new(config: &ProxyConfig, objects: &Objects) -> Result<Self, ExplainError> {
        let name = &config.kube.mode;
        let mode = mode::find(name).ok_or_else(|| ExplainError::NoMode { name: name.clone() })?;
        let base = planner_config(config, mode.name());
        let own = objects.nodes.iter().find(|n| n.metadata.name.as_deref() == Some(config.node.as_str()));
        let planned = own.map_or_else(|| base.clone(), |n| node::configure(&base, &config.local_mode, n));
        let mut maps = [Family::V4, Family::V6].map(|family| ServiceMap::new(planned.for_family(family)));
        let mut issues = BTreeSet::new();
        for map in &mut maps {
            objects.services.iter().for_each(|s| map.note(Change::Service(s)));
            objects.slices.iter().for_each(|s| map.note(Change::Slice(s)));
            issues.extend(map.resolve().issues);
        }
        let local = planned.node_addrs.into_iter().collect();
        Ok(Self { mode, maps: maps.into(), issues: issues.into_iter().collect(), local })
    }

    fn rules(&self) -> String {
        self.maps.iter().map(|map| self.mode.render(map)).collect()
    }

    /// The rules, as the mode's own tool would list them, after what is wrong with the objects.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out: String = self.issues.iter().map(|issue| format!("# {issue}\n")).collect();
        out.push_str(&self.rules());
        out
    }

    /// The same as data: each Service with where it answers and who serves, the rules, and what is wrong.
    #[must_use]
    pub fn json(&self) -> Value {
        let services = self.maps.iter().flat_map(|map| {
            let family = map.config().family;
            map.iter().map(move |(name, served)| plan::service(family, name, served))
        });
        json!({
            "mode": self.mode.name(),
            "services": services.collect::<Vec<_>>(),
            "rules": self.rules().lines().collect::<Vec<_>>(),
            "issues": self.issues.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }

    /// Where a packet goes: every fate it may have, and the way to each.
    ///
    /// # Errors
    /// When there can be no such packet.
    pub fn trace(&self, question: &Question) -> Result<Trace, ExplainError> {
        let (from, to, mode) = (question.source, question.destination, self.mode.name());
        let family = Family::of(to);
        let map = self.maps.iter().find(|map| map.config().family == family && Family::of(from) == family);
        let map = map.ok_or(ExplainError::Families { from, to })?;
        let machine = Machine { local: self.local.clone(), ..Machine::default() };
        let is_local = self.local.contains(&question.source) || question.source.is_loopback();
        let packet = Packet {
            source: question.source,
            destination: question.destination,
            proto: question.proto,
            port: question.port,
            origin: if is_local { Origin::Local } else { Origin::Arriving },
            ingress: question.interface.as_deref().map_or_else(Interface::default, Interface::named),
        };
        let mut ways: Vec<Journey> = Vec::new();
        let all = self.mode.journeys(map, &machine, packet);
        for journey in all.map_err(|source| ExplainError::Walk { mode, source })? {
            if !ways.iter().any(|known| known.fate == journey.fate) {
                ways.push(journey);
            }
        }
        ways.sort_by(|a, b| a.fate.cmp(&b.fate));
        Ok(Trace { mode, packet, ways })
    }
}
