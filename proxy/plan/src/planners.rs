//! Both families side by side. Each plans for itself; here their updates become one. A Service with addresses of one
//! family only is nothing to the other's planner.

use std::collections::{BTreeMap, BTreeSet};

use pintle_nft::{Family, Flow, Ruleset, TableId};

use crate::config::Config;
use crate::issue::Issue;
use crate::map::Change;
use crate::nftables::Part;
use crate::outputs::{self, Counts, HealthCheck};
use crate::planner::{Planner, Update};
use crate::service::{Claim, ServiceName};

/// A planner for each family that is served.
#[derive(Debug)]
pub struct Planners {
    planners: Vec<Planner>,
}

impl Planners {
    /// Knows nothing yet. The configuration's own family is ignored; its lists may mix both.
    #[must_use]
    pub fn new(config: &Config, families: &[Family]) -> Self {
        Self { planners: families.iter().map(|f| Planner::new(config.for_family(*f))).collect() }
    }

    /// The planner of each family.
    pub fn iter(&self) -> impl Iterator<Item = &Planner> {
        self.planners.iter()
    }

    /// The planner of each family.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Planner> {
        self.planners.iter_mut()
    }

    /// Takes note of a change.
    pub fn note(&mut self, change: Change<'_>) {
        self.planners.iter_mut().for_each(|p| p.note(change));
    }

    /// What follows, in one transaction for both families; see [`Planner::update`].
    pub fn update(&mut self) -> Update {
        let updates: Vec<Update> = self.planners.iter_mut().map(Planner::update).collect();
        self.join(updates)
    }

    /// See [`Planner::absorb`].
    pub fn absorb(&mut self) -> Update {
        let updates: Vec<Update> = self.planners.iter_mut().map(Planner::absorb).collect();
        self.join(updates)
    }

    fn join(&self, updates: Vec<Update>) -> Update {
        let mut joined = Update::default();
        let mut issues: BTreeSet<Issue> = BTreeSet::new();
        let mut health = BTreeSet::new();
        for update in updates {
            joined.transaction.append(update.transaction);
            joined.concerned.extend(update.concerned);
            joined.touched.extend(update.touched);
            // Both read the same object: what is wrong with it is said once.
            issues.extend(update.issues);
            health.extend(update.health.into_keys());
            for (key, port) in update.loopback {
                // Loopback is one machine: a node port of both families has the servers of the first.
                joined.loopback.entry(key).or_insert(port);
            }
        }
        joined.issues = issues.into_iter().collect();
        joined.health = health.into_iter().map(|name| (name.clone(), self.health_check(&name))).collect();
        joined
    }

    fn health_check(&self, name: &ServiceName) -> Option<HealthCheck> {
        let checks = self.planners.iter().filter_map(|p| outputs::health_check(p.map().get(name)?));
        checks.max_by_key(|check| check.local_ready)
    }

    /// A full load of both, family after family; see [`Planner::load`].
    pub fn load(&mut self, batch: usize) -> impl Iterator<Item = Part> {
        self.planners.iter_mut().flat_map(move |p| p.load(batch))
    }

    /// Everything, as it should be installed.
    #[must_use]
    pub fn full(&self) -> Ruleset {
        Ruleset { tables: self.planners.iter().flat_map(|p| p.full().tables).collect() }
    }

    /// Every table that may be there.
    #[must_use]
    pub fn tables(&self) -> Vec<TableId> {
        self.planners.iter().flat_map(Planner::tables).collect()
    }

    /// All frontends there are.
    #[must_use]
    pub fn frontends(&self) -> BTreeSet<Claim> {
        self.planners.iter().flat_map(Planner::frontends).collect()
    }

    /// See [`Planner::stale_flows`].
    #[must_use]
    pub fn stale_flows(&self, touched: &BTreeSet<Claim>, flows: &[Flow]) -> Vec<Flow> {
        self.planners.iter().flat_map(|p| p.stale_flows(touched, flows)).collect()
    }

    /// All health checks to answer. A pod with addresses of both families is one endpoint.
    #[must_use]
    pub fn health_checks(&self) -> BTreeMap<ServiceName, HealthCheck> {
        let mut all: BTreeMap<ServiceName, HealthCheck> = BTreeMap::new();
        for (name, check) in self.planners.iter().flat_map(Planner::health_checks) {
            let known = all.entry(name.clone()).or_insert_with(|| check.clone());
            known.local_ready = known.local_ready.max(check.local_ready);
        }
        all
    }

    /// How much is served, both families together.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.planners.iter().map(Planner::counts).fold(Counts::default(), |a, b| Counts {
            services: a.services.max(b.services),
            ports: a.ports + b.ports,
            servers: a.servers + b.servers,
            no_local_internal: a.no_local_internal + b.no_local_internal,
            no_local_external: a.no_local_external + b.no_local_external,
        })
    }
}
