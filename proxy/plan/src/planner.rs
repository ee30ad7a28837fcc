//! All Services and endpoints, and what they put into the table. Owns the incremental computation: the cost of a
//! change is the size of the change. Takes API objects in, gives transactions out; nothing here waits or sends.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use pintle_nft::{Data, Family, Flow, Name, Proto, Ruleset, Table, Transaction, Value, diff};

use crate::base;
use crate::config::Config;
use crate::endpoints::{self, Backend, Selection, Slice};
use crate::fragment::{self, Claim, Fragment};
use crate::issue::{Issue, Problem};
use crate::service::{self, Service, ServiceName};

/// What happened to an API object.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A Service is new or different.
    Service(&'a core::Service),
    /// A Service is gone.
    ServiceGone(&'a core::Service),
    /// An EndpointSlice is new or different.
    Slice(&'a discovery::EndpointSlice),
    /// An EndpointSlice is gone.
    SliceGone(&'a discovery::EndpointSlice),
}

/// What follows from changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// What to send.
    pub transaction: Transaction,
    /// The frontends whose servers may have changed, for [`Planner::stale_flows`].
    pub touched: BTreeSet<Claim>,
    /// What is wrong with the changed objects.
    pub issues: Vec<Issue>,
}

/// The state of all Services.
#[derive(Debug)]
pub struct Planner {
    config: Config,
    services: BTreeMap<ServiceName, Known>,
    /// Which Service a slice was last seen to belong to, by namespace and name.
    slices: HashMap<(String, String), ServiceName>,
    /// Who wants what; the first has it.
    claims: HashMap<Claim, BTreeSet<(i64, ServiceName)>>,
    /// How many Services use a shared chain or element.
    users: HashMap<Shared, u32>,
    /// What changed services looked like when last rendered.
    dirty: BTreeMap<ServiceName, Known>,
    issues: Vec<Issue>,
}

/// Something several Services use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Shared {
    Chain(Name),
    Element(Name, Value),
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    service: Option<Service>,
    slices: BTreeMap<String, Slice>,
    lost: BTreeSet<Claim>,
}

impl Known {
    fn is_blank(&self) -> bool {
        self.service.is_none() && self.slices.is_empty()
    }

    fn claims(&self) -> BTreeSet<Claim> {
        self.service.as_ref().map(fragment::claims).unwrap_or_default()
    }

    fn selections(&self, config: &Config) -> Vec<(&service::Port, Selection)> {
        let ports = self.service.iter().flat_map(|s| &s.ports);
        ports.map(|p| (p, endpoints::select(config, p, self.slices.values()))).collect()
    }

    fn render(&self, config: &Config, name: &ServiceName) -> Fragment {
        let Some(service) = &self.service else { return Fragment::default() };
        fragment::render(config, name, service, &self.selections(config), &self.lost)
    }
}

impl Planner {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            services: BTreeMap::new(),
            slices: HashMap::new(),
            claims: HashMap::new(),
            users: HashMap::new(),
            dirty: BTreeMap::new(),
            issues: Vec::new(),
        }
    }

    /// The configuration it was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes note of a change; [`Planner::update`] says what follows.
    pub fn note(&mut self, change: Change<'_>) {
        let mut issues = Vec::new();
        match change {
            Change::Service(object) => {
                let read = service::read(&self.config, object, &mut issues);
                self.touch(&service::name_of(&object.metadata), |known| known.service = read);
            }
            Change::ServiceGone(object) => {
                self.touch(&service::name_of(&object.metadata), |known| known.service = None);
            }
            Change::Slice(object) => self.note_slice(object, &mut issues),
            Change::SliceGone(object) => self.forget_slice(object),
        }
        self.issues.extend(issues);
    }

    fn note_slice(&mut self, object: &discovery::EndpointSlice, issues: &mut Vec<Issue>) {
        let Some(owner) = endpoints::service_of(object) else { return self.forget_slice(object) };
        let (key, slice) = (slice_key(object), endpoints::read(&self.config, &owner, object, issues));
        if self.slices.get(&key).is_some_and(|before| *before != owner) {
            self.forget_slice(object);
        }
        self.slices.insert(key.clone(), owner.clone());
        self.touch(&owner, |known| drop(known.slices.insert(key.1, slice)));
    }

    fn forget_slice(&mut self, object: &discovery::EndpointSlice) {
        let key = slice_key(object);
        if let Some(owner) = self.slices.remove(&key) {
            self.touch(&owner, |known| drop(known.slices.remove(&key.1)));
        }
    }

    fn touch(&mut self, name: &ServiceName, change: impl FnOnce(&mut Known)) {
        let known = self.services.entry(name.clone()).or_default();
        if !self.dirty.contains_key(name) {
            self.dirty.insert(name.clone(), known.clone());
        }
        change(known);
    }

    /// What follows from the changes noted since the last call.
    pub fn update(&mut self) -> Update {
        let mut before = std::mem::take(&mut self.dirty);
        let noted: Vec<ServiceName> = before.keys().cloned().collect();
        before.retain(|name, old| self.services.get(name) != Some(old));
        let mut touched = self.move_claims(&before);
        for name in self.contenders(&touched) {
            before.entry(name.clone()).or_insert_with(|| self.services.get(&name).cloned().unwrap_or_default());
        }
        let mut issues = std::mem::take(&mut self.issues);
        let (mut installed, mut wanted) = (base_sets(&self.config), base_sets(&self.config));
        let mut uses: HashMap<Shared, i64> = HashMap::new();
        let mut shared = Fragment::default();
        for (name, old) in &before {
            self.settle(name, &mut issues);
            let Some(new) = self.services.get(name) else { continue };
            if new != old {
                touched.extend(new.claims());
                let (gone, come) = (old.render(&self.config, name), new.render(&self.config, name));
                count(&mut uses, &mut shared, &gone, -1);
                count(&mut uses, &mut shared, &come, 1);
                merge(&mut installed, gone.own);
                merge(&mut wanted, come.own);
            }
        }
        for name in noted {
            if self.services.get(&name).is_some_and(Known::is_blank) {
                self.services.remove(&name);
            }
        }
        self.share(uses, &shared, &mut installed, &mut wanted);
        let id = base::table_id(&self.config);
        let of = |table| Ruleset { tables: BTreeMap::from([(id.clone(), table)]) };
        Update { transaction: diff::diff(&of(installed), &of(wanted)), touched, issues }
    }

    /// Everything, as it should be installed.
    #[must_use]
    pub fn full(&self) -> Ruleset {
        let mut table = base::table(&self.config);
        for (name, known) in &self.services {
            let fragment = known.render(&self.config, name);
            for (set, key) in fragment.elements {
                add_element(&mut table, &set, key);
            }
            table.chains.extend(fragment.chains);
            merge(&mut table, fragment.own);
        }
        Ruleset { tables: BTreeMap::from([(base::table_id(&self.config), table)]) }
    }

    /// All frontends there are: what a full load touches.
    #[must_use]
    pub fn frontends(&self) -> BTreeSet<Claim> {
        self.claims.keys().copied().collect()
    }

    /// How many Services are known.
    #[must_use]
    pub fn service_count(&self) -> usize {
        self.services.values().filter(|k| k.service.is_some()).count()
    }

    /// Of these UDP flows, those to a touched frontend whose server does not serve it any more.
    #[must_use]
    pub fn stale_flows(&self, touched: &BTreeSet<Claim>, flows: &[Flow]) -> Vec<Flow> {
        let mut servers: HashMap<Claim, BTreeSet<Backend>> = HashMap::new();
        let mut stale = Vec::new();
        for flow in flows.iter().filter(|f| f.proto == Proto::Udp && Family::of(f.client.0) == self.config.family) {
            let vip = Claim::Vip(flow.frontend.0, flow.proto, flow.frontend.1);
            let node_port = Claim::NodePort(flow.proto, flow.frontend.1);
            let claim = match (touched.contains(&vip), touched.contains(&node_port)) {
                (true, _) => vip,
                // An untranslated flow to this port may be any other program's.
                (false, true) if flow.server != flow.frontend => node_port,
                _ => continue,
            };
            let serving = servers.entry(claim).or_insert_with(|| self.servers_of(&claim));
            if !serving.contains(&Backend { addr: flow.server.0, port: flow.server.1 }) {
                stale.push(*flow);
            }
        }
        stale
    }

    fn servers_of(&self, claim: &Claim) -> BTreeSet<Backend> {
        let owner = self.claims.get(claim).and_then(|who| who.first());
        let Some(known) = owner.and_then(|(_, name)| self.services.get(name)) else { return BTreeSet::new() };
        let has = |port: &service::Port| match claim {
            Claim::Vip(_, proto, number) => port.proto == *proto && port.port == *number,
            Claim::NodePort(proto, number) => port.proto == *proto && port.node_port == Some(*number),
        };
        let of_port = known.selections(&self.config).into_iter().filter(|(p, _)| has(p));
        of_port.flat_map(|(_, s)| s.cluster.into_iter().chain(s.local)).collect()
    }

    /// Gives up and takes up the claims of changed Services; returns all of both.
    fn move_claims(&mut self, before: &BTreeMap<ServiceName, Known>) -> BTreeSet<Claim> {
        let mut moved = BTreeSet::new();
        for (name, old) in before {
            for claim in old.claims() {
                let created = old.service.as_ref().map_or(0, |s| s.created_s);
                if let Some(who) = self.claims.get_mut(&claim) {
                    who.remove(&(created, name.clone()));
                    if who.is_empty() {
                        self.claims.remove(&claim);
                    }
                }
                moved.insert(claim);
            }
            let Some(new) = self.services.get(name) else { continue };
            for claim in new.claims() {
                let created = new.service.as_ref().map_or(0, |s| s.created_s);
                self.claims.entry(claim).or_default().insert((created, name.clone()));
                moved.insert(claim);
            }
        }
        moved
    }

    /// The Services that want one of these and are not alone.
    fn contenders(&self, claims: &BTreeSet<Claim>) -> BTreeSet<ServiceName> {
        let wanted = claims.iter().filter_map(|c| self.claims.get(c));
        // A loser that is alone now has won: it is among those who still want it.
        wanted.flatten().map(|(_, name)| name.clone()).collect()
    }

    /// Decides anew what a Service has lost to others.
    fn settle(&mut self, name: &ServiceName, issues: &mut Vec<Issue>) {
        let Some(known) = self.services.get_mut(name) else { return };
        let mut lost = BTreeSet::new();
        for claim in known.claims() {
            let winner = self.claims.get(&claim).and_then(|who| who.first());
            if let Some((_, by)) = winner.filter(|(_, by)| by != name) {
                if !known.lost.contains(&claim) {
                    let problem = Problem::Taken { frontend: claim.to_string(), by: by.clone() };
                    issues.push(Issue { service: name.clone(), problem });
                }
                lost.insert(claim);
            }
        }
        known.lost = lost;
    }

    /// Lets shared chains and elements appear with their first user and go with their last.
    fn share(&mut self, uses: HashMap<Shared, i64>, shared: &Fragment, installed: &mut Table, wanted: &mut Table) {
        for (what, change) in uses {
            let old = self.users.get(&what).copied().unwrap_or(0);
            let new = u32::try_from(i64::from(old) + change).unwrap_or(0);
            for (users, table) in [(old, &mut *installed), (new, &mut *wanted)] {
                match &what {
                    _ if users == 0 => {}
                    Shared::Element(set, key) => add_element(table, set, *key),
                    Shared::Chain(name) => {
                        let chain = shared.chains.get(name).cloned().unwrap_or_default();
                        table.chains.insert(name.clone(), chain);
                    }
                }
            }
            if new == 0 {
                self.users.remove(&what);
            } else {
                self.users.insert(what, new);
            }
        }
    }
}

/// Counts how often shared things are used, and remembers what the chains look like.
fn count(uses: &mut HashMap<Shared, i64>, shared: &mut Fragment, fragment: &Fragment, by: i64) {
    for (name, chain) in &fragment.chains {
        *uses.entry(Shared::Chain(name.clone())).or_default() += by;
        shared.chains.insert(name.clone(), chain.clone());
    }
    for (set, key) in &fragment.elements {
        *uses.entry(Shared::Element(set.clone(), *key)).or_default() += by;
    }
}

fn slice_key(object: &discovery::EndpointSlice) -> (String, String) {
    let name = service::name_of(&object.metadata);
    (name.namespace, name.name)
}

/// The constant sets without elements: they exist on both sides of every change.
fn base_sets(config: &Config) -> Table {
    Table { sets: base::table(config).sets, ..Table::default() }
}

fn add_element(table: &mut Table, set: &Name, key: Value) {
    if let Some(set) = table.sets.get_mut(set) {
        set.elements.insert(key, Data::None);
    }
}

fn merge(table: &mut Table, own: Table) {
    for (name, set) in own.sets {
        match table.sets.get_mut(&name) {
            Some(there) => there.elements.extend(set.elements),
            None => drop(table.sets.insert(name, set)),
        }
    }
    table.chains.extend(own.chains);
}
