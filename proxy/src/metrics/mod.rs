//! What the proxy counts, under kube-proxy's names where it has such. Plain numbers; nothing here decides or serves.

mod number;
mod render;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pintle_nft::Family;

use crate::forward::Counters;

pub use number::{Histogram, Moment, Number};

/// kube-proxy's buckets for synchronisation: a millisecond, doubled fourteen times.
const SYNC_BUCKETS_S: &[f64] =
    &[0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];
/// From a change of an endpoint to its rule; finer below than kube-proxy's, whose first bucket is a quarter second.
const PROGRAMMING_BUCKETS_S: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];

/// What is counted for each address family.
#[derive(Debug)]
pub struct FamilyMetrics {
    /// Every synchronisation.
    pub sync: Histogram,
    /// Those that sent everything.
    pub sync_full: Histogram,
    /// Those that sent what changed.
    pub sync_partial: Histogram,
    /// From the change of an endpoint, as its slice says, to its rule.
    pub programming: Histogram,
    /// Transactions the kernel refused.
    pub failures: Number,
    /// Services left out because the kernel refuses them.
    pub refused_services: Number,
    /// Things wrong with Services and endpoints, found so far.
    pub invalid: Number,
    /// Stale UDP flows deleted.
    pub flows_deleted: Number,
    /// Ports with internalTrafficPolicy Local and no local endpoint.
    pub no_local_internal: Number,
    /// Ports with externalTrafficPolicy Local and no local endpoint.
    pub no_local_external: Number,
    /// Services known.
    pub services: Number,
    /// Times somebody else changed our table.
    pub repairs: Number,
    /// Longest batch so far, in microseconds.
    pub longest_batch_us: Number,
}

impl FamilyMetrics {
    fn new() -> Self {
        let sync = || Histogram::new(SYNC_BUCKETS_S);
        Self {
            sync: sync(),
            sync_full: sync(),
            sync_partial: sync(),
            programming: Histogram::new(PROGRAMMING_BUCKETS_S),
            failures: Number::default(),
            refused_services: Number::default(),
            invalid: Number::default(),
            flows_deleted: Number::default(),
            no_local_internal: Number::default(),
            no_local_external: Number::default(),
            services: Number::default(),
            repairs: Number::default(),
            longest_batch_us: Number::default(),
        }
    }
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    mode: &'static str,
    v4: FamilyMetrics,
    v6: FamilyMetrics,
    /// When something was last told us that needs a synchronisation.
    pub last_queued: Moment,
    /// When everything was last in the kernel.
    pub last_synced: Moment,
    /// Changes of Services seen.
    pub service_changes: Number,
    /// Changes of endpoints seen.
    pub endpoint_changes: Number,
    /// Of these, not in the kernel yet.
    pub service_changes_pending: Number,
    /// Of these, not in the kernel yet.
    pub endpoint_changes_pending: Number,
    /// Node ports served on loopback addresses.
    pub local_ports: Number,
    /// Node ports that could not be served there.
    pub local_ports_refused: Number,
    answers: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// What this process forwards itself, where it does.
    forwarding: OnceLock<Arc<Counters>>,
}

impl Metrics {
    /// Of a proxy in a mode that has done nothing yet.
    pub fn new(mode: &'static str) -> Self {
        Self {
            mode,
            v4: FamilyMetrics::new(),
            v6: FamilyMetrics::new(),
            last_queued: Moment::default(),
            last_synced: Moment::default(),
            service_changes: Number::default(),
            endpoint_changes: Number::default(),
            service_changes_pending: Number::default(),
            endpoint_changes_pending: Number::default(),
            local_ports: Number::default(),
            local_ports_refused: Number::default(),
            answers: Mutex::default(),
            forwarding: OnceLock::new(),
        }
    }

    /// The mode.
    pub fn mode(&self) -> &'static str {
        self.mode
    }
}

impl Metrics {
    /// Those of a family.
    pub fn of(&self, family: Family) -> &FamilyMetrics {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// This process forwards, and counts there what it does. Only one does.
    pub fn forwards(&self, counters: Arc<Counters>) {
        // The first is the one.
        let _ = self.forwarding.set(counters);
    }

    /// `/healthz` or `/livez` was answered.
    pub fn answered(&self, path: &'static str, status: u16) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry((path, status)).or_default() += 1;
    }
}
