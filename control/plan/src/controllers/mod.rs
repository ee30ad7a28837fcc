//! Controllers: each turns what is into the writes that bring about what is wanted.
//!
//! Owns the trait, the registry and the pure plans. Does not own caches, queues, back-off or requests: the one driver in
//! `control/src/controllers` serves every controller here. To add one: a file, a line in [`CONTROLLERS`].

use jiff::Timestamp;

pub mod certificates;
mod common;
pub mod daemonset;
pub mod deployment;
pub mod endpoints;
pub mod endpointslice;
pub mod garbage;
pub mod job;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod pod_gc;
pub mod replicaset;
pub mod root_ca;
pub mod service_account;
#[cfg(test)]
pub(crate) mod sim;
mod snapshot;
#[cfg(test)]
mod tests;
pub mod token_cleaner;
pub mod ttl;
mod typed;
mod words;

pub use common::{conditions, hash, labels, meta, pods};
pub use snapshot::{Change, MetaOnly, Object, Snapshot, name_of, revision_of};
pub use words::{
    About, Action, Answer, Answers, CsrSubject, Key, KeyUse, KindRef, Name, Note, NoteKind, Part, Plan, Propagation,
    Question, Scoped, Write, encode,
};

/// What the cluster's administrator chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Addresses of pods, `10.42.0.0/16`.
    pub cluster_cidr: String,
    /// Prefix length of each node's share.
    pub node_cidr_bits: u8,
    /// PEM of the cluster's CA, published to every namespace.
    pub ca_pem: String,
    /// How long a node may be silent before its Ready condition becomes Unknown.
    pub node_grace_s: i64,
    /// Namespaced kinds the server has; all of them are emptied before a namespace goes.
    pub namespaced: Vec<KindRef>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            cluster_cidr: "10.42.0.0/16".to_owned(),
            node_cidr_bits: 24,
            ca_pem: String::new(),
            node_grace_s: 40,
            namespaced: Vec::new(),
        }
    }
}

/// Everything a plan may look at.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The caches, never older than the controller's last write.
    pub snapshot: &'a Snapshot,
    /// Settings.
    pub config: &'a Config,
    /// Answers to what the controller asked.
    pub answers: &'a Answers,
    /// What the last attempt for this key failed with, if it failed.
    pub failure: Option<&'a str>,
    /// The time.
    pub now: Timestamp,
}

impl View<'_> {
    /// The answer to a [`Question::Read`]. The driver plans only with every question answered.
    pub fn read(&self, key: &Key) -> Option<&serde_json::Value> {
        match self.answers.get(&Question::Read(key.clone())) {
            Some(Answer::Object(object)) => object.as_ref(),
            _ => None,
        }
    }
}

/// One control loop.
pub trait Controller: Sync {
    /// For logs, metrics and event sources: `deployment-controller`.
    fn name(&self) -> &'static str;
    /// Kinds it must have whole, not by metadata alone.
    fn watches(&self) -> &'static [KindRef];
    /// Which keys a change concerns. Also called with every object at start, as if it were new.
    fn keys(&self, change: &Change, snapshot: &Snapshot) -> Vec<Key>;
    /// What it must know besides the caches.
    fn ask(&self, _key: &Key, _view: &View<'_>) -> Vec<Question> {
        Vec::new()
    }
    /// What to do. Planning again after applying yields a quiet plan.
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan;
}

/// Every controller, in the order in which a new cluster needs them.
pub const CONTROLLERS: &[&dyn Controller] = &[
    &certificates::Approver,
    &certificates::Signer,
    &certificates::Cleaner,
    &node_ipam::NodeIpam,
    &node_lifecycle::NodeLifecycle,
    &node_lifecycle::TaintEviction,
    &service_account::ServiceAccounts,
    &root_ca::RootCa,
    &deployment::Deployments,
    &replicaset::ReplicaSets,
    &daemonset::DaemonSets,
    &job::Jobs,
    &endpointslice::EndpointSlices,
    &endpoints::EndpointsMirror,
    &namespace::Namespaces,
    &garbage::GarbageCollector,
    &pod_gc::PodGc,
    &ttl::TtlAfterFinished,
    &token_cleaner::TokenCleaner,
];
