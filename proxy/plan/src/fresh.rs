//! Services that are fresh, beside the verdict map. An element that leads to a chain makes the kernel look through the whole
//! map for loops, which of ten thousand Services takes longer than all else of a change. So where there are many, a frontend
//! that is new or has another number of servers is at first a member of a plain set, one for each number; together with all
//! others that are fresh it moves into the map a little later, for one look through it.
//!
//! ```text
//! services ─► ip daddr . proto . port @fresh ─► fresh ─► @fresh-0 ─► refuse
//!        │                                        │      @fresh-1 ─► cluster-1
//!        └──► … vmap @service-ips  ◄── in none ───┘      …
//! ```
//!
//! The sets of fewer servers come first: whoever gets fewer is led by the new number at once, and a packet that has passed
//! the new set still finds the old one until it has left ([`SetKind::Leading`]).

use pintle_nft::expr::{Expr, Want};
use pintle_nft::{Chain, Data, Name, Reg, Rule, Set, SetKind, Verdict};

use crate::base::{REJECT, SERVICE_IPS, addr_type, frontend_key, goto, jump};
use crate::config::Config;
use crate::fragment::{CLUSTER, Fragment, cluster_chain};

/// All frontends that are fresh, and the chain they are led to.
const FRESH: &str = "fresh";
/// Frontends with more servers go into the map at once.
const SERVERS_MAX: u32 = 16;
const R0: Reg = Reg::new(0);

/// Whether a set is one of those of fresh frontends.
pub(crate) fn is_set(name: &str) -> bool {
    name == FRESH || name.starts_with("fresh-")
}

/// The sets there are, without members.
pub(crate) fn sets(config: &Config) -> Vec<(Name, Set)> {
    if !config.fresh {
        return Vec::new();
    }
    let each = (0..=SERVERS_MAX).map(|count| (set_name(count), set(config, count)));
    each.chain([(FRESH.into(), set(config, 0))]).collect()
}

/// The chains there are, whoever uses them.
pub(crate) fn chains(config: &Config) -> Vec<(Name, Chain)> {
    if !config.fresh {
        return Vec::new();
    }
    let led = |count| [is_member(config, &set_name(count)), vec![goto(&target(count))]].concat();
    let rules = (0..=SERVERS_MAX).map(led).collect();
    let each = (1..=SERVERS_MAX).map(|count| (target(count), cluster_chain(config, count)));
    each.chain([(FRESH.into(), Chain { hook: None, rules })]).collect()
}

/// The rule that leads fresh frontends to the chain that finds out how many servers each has.
pub(crate) fn entry(config: &Config) -> Option<Rule> {
    config.fresh.then(|| [is_member(config, FRESH), vec![jump(FRESH)]].concat())
}

/// A Service's fragment where it uses what is there anyway; as a fresh one's if it shall be.
pub(crate) fn adapt(config: &Config, mut fragment: Fragment, is_fresh: bool) -> Fragment {
    if !config.fresh {
        return fragment;
    }
    fragment.chains.retain(|name, _| count_of(name).is_none());
    let frontends = fragment.own.sets.get_mut(SERVICE_IPS).filter(|_| is_fresh);
    let Some(frontends) = frontends else { return fragment };
    let mut fresh = Vec::new();
    frontends.elements.retain(|key, data| {
        let Data::Verdict(Verdict::Goto(chain)) = data else { return true };
        let count = count_of(chain);
        fresh.extend(count.map(|count| (*key, count)));
        count.is_none()
    });
    for (key, count) in fresh {
        for (name, rank) in [(FRESH.into(), 0), (set_name(count), count)] {
            let members = fragment.own.sets.entry(name).or_insert_with(|| set(config, rank));
            members.elements.insert(key, Data::None);
        }
    }
    fragment
}

/// Whether a fragment is a fresh one's.
pub(crate) fn is_fresh(fragment: &Fragment) -> bool {
    fragment.own.sets.contains_key(FRESH)
}

/// Whether these two lead their frontends to different places, by elements that fresh ones do without.
pub(crate) fn differ(one: &Fragment, other: &Fragment) -> bool {
    let elements = |fragment: &Fragment| fragment.own.sets.get(SERVICE_IPS).map(|set| set.elements.clone());
    elements(one).unwrap_or_default() != elements(other).unwrap_or_default()
}

fn set_name(count: u32) -> Name {
    format!("fresh-{count}").into()
}

fn set(config: &Config, count: u32) -> Set {
    use pintle_nft::DataType::{InetProto, InetService};
    let rank = u8::try_from(count).unwrap_or(u8::MAX);
    Set::new(&[addr_type(config.family), InetProto, InetService], SetKind::Leading { rank })
}

fn is_member(config: &Config, set: &str) -> Rule {
    let mut rule = frontend_key(config.family);
    rule.push(Expr::Lookup { set: set.into(), source: R0, want: Want::Present });
    rule
}

fn target(count: u32) -> Name {
    if count == 0 { REJECT.into() } else { format!("{CLUSTER}-{count}").into() }
}

/// The inverse of [`target`]. Chains of a Service's own have longer names.
fn count_of(chain: &str) -> Option<u32> {
    if chain == REJECT {
        return Some(0);
    }
    let digits = chain.strip_prefix(CLUSTER)?.strip_prefix('-').filter(|digits| digits.len() <= 2)?;
    digits.parse().ok().filter(|count| *count <= SERVERS_MAX)
}
