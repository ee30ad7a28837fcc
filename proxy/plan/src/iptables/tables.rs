//! Tables of chains as the kernel has them, in memory: take what `iptables-restore --noflush` takes, refuse what it
//! refuses, and list themselves as `iptables-save` does. Imaginary packets walk through them, and tests write to them.

use std::collections::BTreeMap;

use super::script::Table;

/// The chains in which packets begin.
pub const BUILT_IN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
/// The kernel's `XT_EXTENSION_MAXNAMELEN`, less its end.
const NAME_MAX: usize = 28;
/// Longer comments the kernel refuses (XT_MAX_COMMENT_LEN of linux/netfilter/xt_comment.h, less its end).
pub const COMMENT_MAX: usize = 255;

/// Why a text or a rule is no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}: {line}")]
pub struct Unreadable {
    /// The line, or the rule.
    pub line: String,
    /// What is wrong with it.
    pub why: String,
}

impl Unreadable {
    pub(super) fn new(why: impl Into<String>, line: &str) -> Self {
        Self { line: line.to_owned(), why: why.into() }
    }
}

/// See the module's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables(BTreeMap<Table, Chains>);

/// Rules by chain, each without the chain's name.
type Chains = BTreeMap<String, Vec<String>>;

impl Default for Tables {
    /// As a kernel begins.
    fn default() -> Self {
        let chains = || BUILT_IN.map(|chain| (chain.to_owned(), Vec::new())).into();
        Self(Table::ALL.map(|table| (table, chains())).into())
    }
}

impl Tables {
    /// Carries out a script; each table whole or not at all.
    ///
    /// # Errors
    /// At the first line that the tool or the kernel would refuse.
    pub fn restore(&mut self, text: &str) -> Result<(), Unreadable> {
        let mut open: Option<(Table, Chains)> = None;
        for line in text.lines() {
            let refused = |why| Unreadable::new(why, line);
            match (&mut open, line.strip_prefix('*')) {
                (None, Some(name)) => {
                    let table = Table::ALL.into_iter().find(|t| t.name() == name);
                    let table = table.ok_or_else(|| refused("no such table"))?;
                    open = Some((table, self.0.get(&table).cloned().unwrap_or_default()));
                }
                (Some((table, chains)), _) if line == "COMMIT" => {
                    check(chains)?;
                    self.0.insert(*table, std::mem::take(chains));
                    open = None;
                }
                (Some((_, chains)), _) => carry_out(chains, line).map_err(refused)?,
                (None, None) => return Err(refused("outside of a table")),
            }
        }
        if open.is_some() { Err(Unreadable::new("no COMMIT", "")) } else { Ok(()) }
    }

    /// As `iptables-save` prints one.
    #[must_use]
    pub fn save(&self, table: Table) -> String {
        let chains = self.chains(table);
        let names = chains.clone().map(|(name, _)| format!(":{name} - [0:0]\n")).collect::<String>();
        let rules = chains.flat_map(|(name, rules)| rules.iter().map(move |rule| format!("-A {name} {rule}\n")));
        format!("*{table}\n{names}{}COMMIT\n", rules.collect::<String>())
    }

    /// A table's chains with their rules, each without the chain's name.
    pub fn chains(&self, table: Table) -> impl Iterator<Item = (&str, &[String])> + Clone {
        self.0.get(&table).into_iter().flatten().map(|(name, rules)| (name.as_str(), rules.as_slice()))
    }
}

fn carry_out(chains: &mut Chains, line: &str) -> Result<(), &'static str> {
    if let Some(chain) = line.strip_prefix(':') {
        let chain = chain.strip_suffix(" - [0:0]").ok_or("no policy or counters")?;
        if chain.len() > NAME_MAX || chain.contains(' ') {
            return Err("a bad name");
        }
        chains.insert(chain.to_owned(), Vec::new());
        return Ok(());
    }
    let mut words = line.splitn(3, ' ');
    let (command, chain, rest) = (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next());
    let rules = chains.get_mut(chain).ok_or("no such chain")?;
    let rest = rest.unwrap_or_default();
    match command {
        "-A" => rules.push(rest.to_owned()),
        "-I" => rules.insert(0, rest.strip_prefix("1 ").ok_or("no place")?.to_owned()),
        "-D" => {
            let at = rules.iter().position(|rule| rule == rest).ok_or("no such rule")?;
            rules.remove(at);
        }
        "-X" if rules.is_empty() => drop(chains.remove(chain)),
        "-X" => return Err("not empty"),
        _ => return Err("no such command"),
    }
    Ok(())
}

/// Every chain that a rule leads to is there, and every comment fits and ends.
fn check(chains: &Chains) -> Result<(), Unreadable> {
    for rule in chains.values().flatten() {
        let target = rule.rsplit_once("-j ").map_or("", |(_, target)| target).split(' ').next().unwrap_or_default();
        if (target.starts_with("KUBE-") || target.starts_with("PINTLE-")) && !chains.contains_key(target) {
            return Err(Unreadable::new("it leads nowhere", rule));
        }
        if rule.matches('"').count() % 2 != 0 || rule.split('"').any(|part| part.len() > COMMENT_MAX) {
            return Err(Unreadable::new("a bad comment", rule));
        }
    }
    Ok(())
}
