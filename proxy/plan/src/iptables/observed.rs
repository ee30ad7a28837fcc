//! What is in the tables: which chains are ours, and which rules of others lead there. Owns telling ours from others' in
//! what `iptables-save` prints.

use std::collections::{BTreeMap, BTreeSet};

use super::base::{CHAINS, Hook};
use super::names::KINDS;
use super::script::{Table, TableChange};
use super::tables::BUILT_IN;

/// In which the edge tries what the kernel can do.
pub const PROBE: &str = "PINTLE-PROBE";

/// See the module's description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    tables: BTreeMap<Table, Contents>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Contents {
    chains: BTreeSet<String>,
    /// Rules of built-in chains that lead into ours: the chain, and the rule.
    hooks: Vec<(String, String)>,
    /// Ours into which chains of others lead.
    borrowed: BTreeSet<String>,
}

impl Observed {
    /// Takes note of what `iptables-save` prints of a table.
    pub fn read(&mut self, table: Table, saved: &str) {
        let contents = self.tables.entry(table).or_default();
        for line in saved.lines() {
            if let Some(chain) = line.strip_prefix(':').and_then(|l| l.split(' ').next()) {
                contents.chains.extend(is_ours(chain).then(|| chain.to_owned()));
            } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|l| l.split_once(' '))
                && let Some(target) = target(rule)
                && is_ours(target)
                && !is_ours(chain)
            {
                if BUILT_IN.contains(&chain) {
                    contents.hooks.push((chain.to_owned(), rule.to_owned()));
                } else {
                    contents.borrowed.insert(target.to_owned());
                }
            }
        }
    }

    /// Whether there is anything of ours.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.values().all(|t| t.chains.is_empty())
    }

    /// Adds to a change of a table what makes these hooks the only ones and its chains the only ones of ours. A chain
    /// that others use stays.
    pub(super) fn adjust(&self, table: Table, hooks: &[Hook], change: &mut TableChange) {
        let empty = Contents::default();
        let there = self.tables.get(&table).unwrap_or(&empty);
        let wanted: Vec<(String, String)> = hooks.iter().map(|h| (h.from.to_owned(), h.rule())).collect();
        let mut kept: BTreeSet<&(String, String)> = BTreeSet::new();
        for hook in &there.hooks {
            // One that is there twice is once too many.
            if !wanted.contains(hook) || !kept.insert(hook) {
                change.unhooked.push(hook.clone());
            }
        }
        // `-D` takes the first that is alike: of those that are there twice, the one that is kept.
        change.hooked = wanted.iter().filter(|hook| !kept.contains(hook)).cloned().collect();
        let gone = there.chains.iter().filter(|c| !change.chains.contains_key(*c) && !there.borrowed.contains(*c));
        change.gone = gone.cloned().collect();
    }
}

fn is_ours(chain: &str) -> bool {
    CHAINS.contains(&chain) || chain == PROBE || KINDS.iter().any(|kind| chain.starts_with(kind))
}

/// The chain that a rule leads to: it is named last.
fn target(rule: &str) -> Option<&str> {
    let (rest, target) = rule.rsplit_once(' ')?;
    (rest.ends_with("-j") || rest.ends_with("-g")).then_some(target)
}
