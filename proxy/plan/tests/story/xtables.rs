//! Tables of chains as the kernel's, in memory: takes what `iptables-restore --noflush` takes, refuses what it refuses,
//! and lists itself as `iptables-save` does.

use std::collections::BTreeMap;

use pintle_proxy_plan::iptables::Table;

const BUILT_IN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables(BTreeMap<String, Chains>);

/// Rules by chain.
type Chains = BTreeMap<String, Vec<String>>;

impl Tables {
    /// As a kernel begins.
    pub fn new() -> Self {
        let chains = || BUILT_IN.map(|chain| (chain.to_owned(), Vec::new())).into();
        Self(Table::ALL.map(|table| (table.name().to_owned(), chains())).into())
    }

    /// Carries out a script; each table whole or not at all.
    pub fn restore(&mut self, text: &str) -> Result<(), String> {
        let mut open: Option<(String, Chains)> = None;
        for (at, line) in (1..).zip(text.lines()) {
            let said = |why: &str| format!("line {at}: {why}: {line}");
            match (&mut open, line.split_at(1)) {
                (None, ("*", table)) => {
                    let chains = self.0.get(table).ok_or_else(|| said("no such table"))?;
                    open = Some((table.to_owned(), chains.clone()));
                }
                (Some((table, chains)), _) if line == "COMMIT" => {
                    check(chains).map_err(|why| said(&why))?;
                    self.0.insert(std::mem::take(table), std::mem::take(chains));
                    open = None;
                }
                (Some((_, chains)), _) => carry_out(chains, line).map_err(|why| said(&why))?,
                _ => return Err(said("outside of a table")),
            }
        }
        if open.is_some() { Err("no COMMIT".into()) } else { Ok(()) }
    }

    pub fn save(&self, table: Table) -> String {
        let chains = &self.0[table.name()];
        let names = chains.keys().map(|name| format!(":{name} - [0:0]\n"));
        let rules = chains.iter().flat_map(|(name, rules)| rules.iter().map(move |rule| format!("-A {name} {rule}\n")));
        format!("*{table}\n{}{}COMMIT\n", names.collect::<String>(), rules.collect::<String>())
    }
}

fn carry_out(chains: &mut Chains, line: &str) -> Result<(), String> {
    if let Some(chain) = line.strip_prefix(':') {
        let chain = chain.strip_suffix(" - [0:0]").ok_or("no policy or counters")?;
        // The kernel's XT_EXTENSION_MAXNAMELEN, less its end.
        if chain.len() > 28 || chain.contains(' ') {
            return Err("a bad name".into());
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
        "-X" => return Err("not empty".into()),
        _ => return Err("no such command".into()),
    }
    Ok(())
}

/// Every chain that a rule leads to is there, and every comment fits and ends.
fn check(chains: &Chains) -> Result<(), String> {
    for rule in chains.values().flatten() {
        let target = rule.split(" -j ").last().map(|t| t.strip_prefix("-j ").unwrap_or(t));
        let target = target.and_then(|t| t.split(' ').next()).unwrap_or_default();
        if (target.starts_with("KUBE-") || target.starts_with("PINTLE-")) && !chains.contains_key(target) {
            return Err(format!("{rule} leads nowhere"));
        }
        if rule.matches('"').count() % 2 != 0 || rule.split('"').any(|part| part.len() > 255) {
            return Err(format!("{rule} has a bad comment"));
        }
    }
    Ok(())
}
