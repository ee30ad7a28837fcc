//! The first stage: API objects in, a [`ServiceMap`] out, which says for every Service of one family where it answers
//! and who serves, in words that no packet filter knows. Every backend is a rendering of it (see [`crate::backend`]).
//!
//! Owns the state and its incremental change: what a change costs is the size of the Services it concerns. Does not
//! own reading of objects (`service`, `endpoints`), conflicts (`claims`), or what becomes of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use pintle_nft::{Family, Flow, Proto};

use crate::claims::Claims;
use crate::config::Config;
use crate::endpoints::{self, Backend, Selection, Slice};
use crate::issue::{Issue, Problem};
use crate::service::{self, Claim, Frontend, Port, Service, ServiceName};

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

/// A Service as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The Service.
    pub service: Arc<Service>,
    /// The servers of each of its ports, in the order of [`Service::ports`].
    pub servers: Box<[Selection]>,
    /// Frontends that other Services have; usually none.
    pub lost: Box<[Claim]>,
    /// Ready endpoints on this node; counted only for Services with a health check port.
    pub ready_here: usize,
}

impl Served {
    /// Its ports with their servers.
    pub fn ports(&self) -> impl Iterator<Item = (&Port, &Selection)> {
        self.service.ports.iter().zip(&self.servers)
    }

    /// Where a port answers, without what others have.
    pub fn frontends<'a>(&'a self, port: &'a Port) -> impl Iterator<Item = Frontend> + 'a {
        self.service.frontends(port).filter(|f| !self.lost.contains(&f.at))
    }

    /// Its port and servers behind a frontend, if it has that frontend.
    #[must_use]
    pub fn behind(&self, claim: &Claim) -> Option<(&Port, &Selection)> {
        self.ports().find(|(port, _)| self.frontends(port).any(|f| f.at == *claim))
    }
}

/// How the serving of one Service changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Which Service.
    pub name: Arc<ServiceName>,
    /// How it was served, if it was.
    pub before: Option<Arc<Served>>,
    /// How it is.
    pub after: Option<Arc<Served>>,
}

/// What follows from the changes noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Services that are served differently, by name.
    pub changes: Vec<Changed>,
    /// Services that may be served differently, or whose servers that only existing flows use may be others.
    pub concerned: BTreeSet<Arc<ServiceName>>,
    /// UDP frontends whose servers may have changed, for [`ServiceMap::stale_flows`].
    pub touched: BTreeSet<Claim>,
    /// What is wrong with the changed objects.
    pub issues: Vec<Issue>,
}

/// All Services of one family and who serves them.
#[derive(Debug)]
pub struct ServiceMap {
    config: Config,
    services: BTreeMap<Arc<ServiceName>, Known>,
    /// Which Service a slice was last seen to belong to, by `namespace/name` of the slice.
    slices: HashMap<Box<str>, Arc<ServiceName>>,
    claims: Claims,
    dirty: BTreeSet<Arc<ServiceName>>,
    issues: Vec<Issue>,
}

#[derive(Debug, Default)]
struct Known {
    service: Option<Arc<Service>>,
    /// The form of the Service for which claims are held.
    claimed: Option<Arc<Service>>,
    /// Few: a list is smaller than a map.
    slices: Vec<(Box<str>, Slice)>,
    served: Option<Arc<Served>>,
}

impl Known {
    fn slices(&self) -> impl Iterator<Item = &Slice> {
        self.slices.iter().map(|(_, slice)| slice)
    }
}

impl ServiceMap {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            services: BTreeMap::new(),
            slices: HashMap::new(),
            claims: Claims::default(),
            dirty: BTreeSet::new(),
            issues: Vec::new(),
        }
    }

    /// The configuration it was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Uses another table from now on; nothing else changes.
    pub(crate) fn set_table(&mut self, name: &str) {
        name.clone_into(&mut self.config.table);
    }

    /// Whether there are so many Services that fresh ones are to be in a table of their own.
    pub(crate) fn is_large(&self) -> bool {
        self.iter().count() >= self.config.fresh_from
    }

    /// Decides whether they are, from now on.
    pub(crate) fn decide_fresh(&mut self) {
        self.config.fresh = self.is_large();
    }

    /// Every Service that is served, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<ServiceName>, &Served)> {
        self.services.iter().filter_map(|(name, known)| Some((name, known.served.as_deref()?)))
    }

    /// How a Service is served.
    #[must_use]
    pub fn get(&self, name: &ServiceName) -> Option<&Served> {
        self.served(name).map(|served| &**served)
    }

    pub(crate) fn served(&self, name: &ServiceName) -> Option<&Arc<Served>> {
        self.services.get(name)?.served.as_ref()
    }

    /// All frontends there are: what a full load touches.
    #[must_use]
    pub fn frontends(&self) -> BTreeSet<Claim> {
        self.claims.all().copied().collect()
    }

    /// Takes note of a change; [`ServiceMap::resolve`] says what follows.
    pub fn note(&mut self, change: Change<'_>) {
        match change {
            Change::Service(object) => {
                let mut issues = Vec::new();
                let read = service::read(&self.config, object, &mut issues).map(Arc::new);
                self.issues.extend(issues);
                self.put_service(service::name_of(&object.metadata), read);
            }
            Change::ServiceGone(object) => self.put_service(service::name_of(&object.metadata), None),
            Change::Slice(object) => self.note_slice(object),
            Change::SliceGone(object) => self.forget_slice(object),
        }
    }

    fn put_service(&mut self, name: ServiceName, service: Option<Arc<Service>>) {
        if service.is_none() && !self.services.contains_key(&name) {
            return;
        }
        let name = self.intern(name);
        let known = self.services.entry(name.clone()).or_default();
        if known.service != service {
            known.service = service;
            self.dirty.insert(name);
        }
    }

    /// One copy of every name.
    fn intern(&self, name: ServiceName) -> Arc<ServiceName> {
        self.services.get_key_value(&name).map_or_else(|| Arc::new(name), |(known, _)| known.clone())
    }

    fn note_slice(&mut self, object: &discovery::EndpointSlice) {
        let Some(owner) = endpoints::service_of(object) else { return self.forget_slice(object) };
        let slice = endpoints::read(&self.config, &owner, object, &mut self.issues);
        let key = slice_key(object);
        if self.slices.get(&key).is_some_and(|before| **before != owner) {
            self.forget_slice(object);
        }
        let owner = self.intern(owner);
        self.slices.insert(key, owner.clone());
        let name: Box<str> = object.metadata.name.as_deref().unwrap_or_default().into();
        let known = self.services.entry(owner.clone()).or_default();
        match known.slices.binary_search_by(|(n, _)| n.cmp(&name)) {
            Ok(at) if known.slices[at].1 == slice => return,
            Ok(at) => known.slices[at].1 = slice,
            Err(at) => known.slices.insert(at, (name, slice)),
        }
        self.dirty.insert(owner);
    }

    fn forget_slice(&mut self, object: &discovery::EndpointSlice) {
        let Some(owner) = self.slices.remove(&slice_key(object)) else { return };
        let name = object.metadata.name.as_deref().unwrap_or_default();
        if let Some(known) = self.services.get_mut(&owner) {
            known.slices.retain(|(n, _)| &**n != name);
            self.dirty.insert(owner);
        }
    }

    /// What follows from the changes noted since the last call.
    pub fn resolve(&mut self) -> Resolved {
        let mut resolved = Resolved { issues: std::mem::take(&mut self.issues), ..Resolved::default() };
        let mut concerned = std::mem::take(&mut self.dirty);
        for name in &concerned.clone() {
            concerned.extend(self.move_claims(name));
        }
        for name in &concerned {
            self.serve(name, &mut resolved);
            if self.services.get(name).is_some_and(|k| k.service.is_none() && k.slices.is_empty()) {
                self.services.remove(name);
            }
        }
        resolved.concerned = concerned;
        resolved
    }

    /// Gives up and takes up the claims of a changed Service; returns the others who want any of both.
    fn move_claims(&mut self, name: &Arc<ServiceName>) -> BTreeSet<Arc<ServiceName>> {
        let Some(known) = self.services.get_mut(name) else { return BTreeSet::new() };
        if known.claimed == known.service {
            return BTreeSet::new();
        }
        let before = std::mem::replace(&mut known.claimed, known.service.clone());
        let after = known.service.clone();
        let mut others = BTreeSet::new();
        let claims = |service: &Option<Arc<Service>>| {
            let of =
                |s: &Arc<Service>| (s.created_s, s.ports.iter().flat_map(|p| s.frontends(p)).map(|f| f.at).collect());
            service.as_ref().map_or((0, BTreeSet::new()), of)
        };
        let ((old_age, old), (new_age, new)): ((i64, BTreeSet<Claim>), (i64, BTreeSet<Claim>)) =
            (claims(&before), claims(&after));
        for claim in old {
            others.extend(self.claims.remove(claim, old_age, name));
        }
        for claim in new {
            others.extend(self.claims.add(claim, new_age, name));
        }
        others
    }

    /// Decides anew how a Service is served.
    fn serve(&mut self, name: &Arc<ServiceName>, resolved: &mut Resolved) {
        let Some(known) = self.services.get(name) else { return };
        let before = known.served.clone();
        let after = known.service.as_ref().map(|service| {
            let served = serve(&self.config, &self.claims, name, known, service);
            for claim in served.lost.iter().filter(|c| !before.as_ref().is_some_and(|b| b.lost.contains(c))) {
                let by = self.claims.winner(claim).map_or_else(|| (**name).clone(), |w| (**w).clone());
                let problem = Problem::Taken { frontend: claim.to_string(), by };
                resolved.issues.push(Issue { service: (**name).clone(), problem });
            }
            Arc::new(served)
        });
        let claims = |served: &Option<Arc<Served>>| -> Vec<Claim> {
            let of = |s: &Arc<Served>| s.service.ports.iter().flat_map(|p| s.frontends(p)).map(|f| f.at).collect();
            served.as_ref().map(of).unwrap_or_default()
        };
        // Existing flows may concern endpoints that were not chosen either: what a slice says counts too.
        let udp = claims(&before).into_iter().chain(claims(&after)).filter(|c| c.proto() == Proto::Udp);
        resolved.touched.extend(udp);
        if before != after {
            resolved.changes.push(Changed { name: name.clone(), before, after: after.clone() });
        }
        if let Some(known) = self.services.get_mut(name) {
            known.served = after;
        }
    }

    /// Whether [`ServiceMap::stale_flows`] has anything to say of a flow.
    #[must_use]
    pub fn may_be_stale(flow: &Flow) -> bool {
        flow.proto == Proto::Udp || flow.is_astray()
    }

    /// Of these flows, those to a touched frontend that should begin anew: of UDP, whose server does not answer any more;
    /// of other protocols, those astray ([`Flow::is_astray`]), since a connection belongs to the server it began with.
    #[must_use]
    pub fn stale_flows(&self, touched: &BTreeSet<Claim>, flows: &[Flow]) -> Vec<Flow> {
        let mut servers: HashMap<Claim, Vec<Backend>> = HashMap::new();
        let mut stale = Vec::new();
        for flow in flows.iter().filter(|f| Self::may_be_stale(f) && Family::of(f.client.0) == self.config.family) {
            let vip = Claim::Vip(flow.frontend.0, flow.proto, flow.frontend.1);
            let node_port = Claim::NodePort(flow.proto, flow.frontend.1);
            // An untranslated flow to another machine's port of that number is somebody else's.
            let is_here = flow.server != flow.frontend || self.config.node_addrs.contains(&flow.frontend.0);
            let claim = match (touched.contains(&vip), touched.contains(&node_port)) {
                (true, _) => vip,
                (false, true) if is_here => node_port,
                _ => continue,
            };
            let serving = servers.entry(claim).or_insert_with(|| self.serving(&claim));
            if !serving.contains(&Backend { addr: flow.server.0, port: flow.server.1 }) {
                stale.push(*flow);
            }
        }
        stale
    }

    /// The servers to which existing flows of a frontend may go on.
    #[must_use]
    pub fn serving(&self, claim: &Claim) -> Vec<Backend> {
        let known = self.claims.winner(claim).and_then(|name| self.services.get(name));
        let port = known.and_then(|k| Some((k, k.served.as_ref()?.behind(claim)?.0)));
        port.map_or_else(Vec::new, |(known, port)| endpoints::serving(port, known.slices()))
    }
}

fn serve(config: &Config, claims: &Claims, name: &Arc<ServiceName>, known: &Known, service: &Arc<Service>) -> Served {
    let before = known.served.as_deref();
    let select = |port: &Port| {
        let same = |(p, _): &(&Port, &Selection)| p.name == port.name && p.proto == port.proto;
        let before = before.and_then(|s| s.ports().find(same)).map(|(_, selection)| selection);
        endpoints::select(config, service, port, known.slices(), before)
    };
    let all = service.ports.iter().flat_map(|p| service.frontends(p));
    let mut lost: Vec<Claim> = all.map(|f| f.at).filter(|c| claims.winner(c) != Some(name)).collect();
    // A port told twice is one Service's, which has it by its first port.
    lost.sort_unstable();
    lost.dedup();
    Served {
        service: service.clone(),
        servers: service.ports.iter().map(select).collect(),
        lost: lost.into(),
        ready_here: if service.health_check_port.is_some() { endpoints::ready_here(known.slices()) } else { 0 },
    }
}

fn slice_key(object: &discovery::EndpointSlice) -> Box<str> {
    let name = service::name_of(&object.metadata);
    name.to_string().into()
}
