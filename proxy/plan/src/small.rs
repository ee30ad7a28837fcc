//! The small table, beside the one that serves all Services. An element that leads to a chain makes the kernel look through
//! all that lead anywhere in its table, for loops; of ten thousand Services that takes longer than all else of a change. So
//! where there are many, what changes is in a table that has little: a Service that is new, or whose frontends lead to
//! another number of servers, is fresh; all of it is in the small table, and together with all others that are fresh it
//! moves into the large one a little later, for one look through that. Not so one with session affinity: its sets remember
//! clients, and what packets filled does not move.
//!
//! ```text
//! prerouting, output ─► services ─► ip daddr . proto . port vmap @service-ips ──► as in the large table
//!                          └──────► proto . port @known-ports, to this machine ─► proto . port vmap @node-ports
//! ```
//!
//! Its hooks come before those of the large table, which packets meet if nothing here translates them; so for that while a
//! node port precedes another Service's external address that is this machine's, with the same port. A Service is in one of
//! the tables; while it moves, packets find it in both (`Transaction::phases`).

use pintle_nft::expr::{Expr, Want};
use pintle_nft::{Chain, Data, DataType, Name, Reg, Set, SetKind, Table, TableId, Value};

use crate::base::{self, BEFORE_DESTINATION_NAT, NODE_PORTS, SERVICE_IPS};
use crate::config::Config;
use crate::fragment::Fragment;
use crate::service::{Affinity, Service};

/// Node ports that are in this table. Without it every packet to this machine would be asked where it goes twice.
pub(crate) const KNOWN_PORTS: &str = "known-ports";
/// A Service with more elements and chains is not kept apart: moving it would take longer than the look it saves.
const OBJECTS_MAX: usize = 250;
const SUFFIX: &str = "-small";
const R0: Reg = Reg::new(0);

/// Which of the tables a Service is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Home {
    /// The one that all settled Services share.
    #[default]
    Large,
    /// See the module's description.
    Small,
}

impl Home {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Large, Self::Small];

    /// Those there are with this configuration.
    pub(crate) fn of(config: &Config) -> &'static [Self] {
        if config.fresh { &Self::ALL } else { &[Self::Large] }
    }

    /// This one of those that serve together with a large one.
    #[must_use]
    pub fn beside(self, large: &TableId) -> TableId {
        match self {
            Self::Large => large.clone(),
            Self::Small => TableId { family: large.family, name: format!("{}{SUFFIX}", large.name).as_str().into() },
        }
    }
}

/// Whether it is a small one, by its name.
#[must_use]
pub(crate) fn is_small(table: &TableId) -> bool {
    table.name.ends_with(SUFFIX)
}

/// The table without any Service.
pub(crate) fn table(config: &Config) -> Table {
    let mut table = Table { sets: sets(config), ..Table::default() };
    table.chains.extend(base::entries(BEFORE_DESTINATION_NAT));
    let mut rules = vec![base::frontends(config.family)];
    let mut is_known = base::port_key(0);
    is_known.push(Expr::Lookup { set: KNOWN_PORTS.into(), source: R0, want: Want::Present });
    rules.extend(base::node_ports(config).into_iter().map(|rule| [is_known.clone(), rule].concat()));
    table.chains.insert("services".into(), Chain { hook: None, rules });
    table.chains.extend([base::refusal(config.family)]);
    table
}

/// Its sets, without elements.
pub(crate) fn sets(config: &Config) -> std::collections::BTreeMap<Name, Set> {
    let known = Set::new(&[DataType::InetProto, DataType::InetService], SetKind::Plain);
    base::leading_sets(config).into_iter().chain([(KNOWN_PORTS.into(), known)]).collect()
}

/// Puts a Service where it belongs.
pub(crate) fn place(mut fragment: Fragment, is_fresh: bool) -> Fragment {
    if !is_fresh {
        return fragment;
    }
    fragment.home = Home::Small;
    if let Some(ports) = fragment.own.sets.get(NODE_PORTS) {
        let known: Vec<Value> = ports.elements.keys().copied().collect();
        let mut set = Set::new(&[], SetKind::Plain);
        set.elements.extend(known.into_iter().map(|port| (port, Data::None)));
        fragment.own.sets.insert(KNOWN_PORTS.into(), set);
    }
    fragment
}

/// Whether a Service, so rendered, can be fresh.
pub(crate) fn can_be_fresh(service: &Service, fragment: &Fragment) -> bool {
    let objects = fragment.own.element_count() + fragment.own.chains.len();
    service.affinity == Affinity::None && objects <= OBJECTS_MAX
}

/// Whether the large table would be looked through for one that comes there; `gone` is what is there of it. As rendered.
pub(crate) fn is_looked_through(gone: Option<&Fragment>, come: &Fragment) -> bool {
    let none = Table::default();
    let (gone, come) = (gone.map_or(&none, |gone| &gone.own), &come.own);
    let leads_elsewhere = |name: &&str| {
        let was = |key: &Value| gone.sets.get(*name).and_then(|set| set.elements.get(key));
        come.sets.get(*name).is_some_and(|set| set.elements.iter().any(|(key, data)| was(key) != Some(data)))
    };
    let is_new = |(name, chain): (&Name, &Chain)| gone.chains.get(name) != Some(chain);
    [SERVICE_IPS, NODE_PORTS].iter().any(leads_elsewhere) || come.chains.iter().any(is_new)
}
