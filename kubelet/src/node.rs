//! The node's own object and its Lease: registration, heartbeat, status, the pod CIDR that comes back.
//!
//! Owns: when they are written. Does not own: what they say (plan).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use pintle_client::{Backoff, Cache, Client, Patch};
use pintle_kubelet_plan::node::{MachineFacts, differs, labels, new_node, status};
use pintle_net::ipam::Ipam;
use serde_json::json;
use tokio::sync::watch;

use crate::error::chain;
use crate::images::Images;
use crate::worker::blocking;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_S: i32 = 40;
const RENEW_S: u64 = 10;
const STATUS_S: i64 = 300;

/// Keeps the node's objects true until it is dropped.
pub(crate) struct NodeKeeper {
    pub(crate) client: Client,
    pub(crate) facts: MachineFacts,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) ipam: watch::Sender<Option<Arc<Ipam>>>,
    pub(crate) ipam_dir: std::path::PathBuf,
    pub(crate) fixed_cidr: Option<pintle_net::Cidr>,
}

impl NodeKeeper {
    /// Registers the node and keeps it.
    pub(crate) async fn run(mut self) {
        if let Some(cidr) = self.fixed_cidr {
            self.open_pool(cidr);
        }
        // Before the node is made: one that is born Ready is announced, and then turns out not to be.
        self.judge();
        let mut node = self.register().await;
        let fields = format!("metadata.name={}", self.facts.name);
        let cache = Cache::<Node>::builder(&self.client).fields(&fields).start();
        let mut changes = cache.subscribe();
        let mut told_at = Timestamp::UNIX_EPOCH;
        let mut lease = tokio::time::interval(Duration::from_secs(RENEW_S));
        lease.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.take_cidr(&node);
            self.look().await;
            self.tell(&mut node, &mut told_at).await;
            tokio::select! {
                _ = lease.tick() => {
                    if let Err(e) = self.renew(&node).await {
                        tracing::warn!(error = chain(&e), "cannot renew the node's lease");
                    }
                }
                change = changes.next() => match change {
                    pintle_client::Change::Applied { new, .. } => node = (*new).clone(),
                    pintle_client::Change::Deleted { .. } => node = self.register().await,
                    pintle_client::Change::Resync => {}
                },
            }
        }
    }

    /// Makes the Node, or takes the one that is there, however long the API server is away.
    async fn register(&self) -> Node {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(5));
        loop {
            match self.try_register().await {
                Ok(node) => return node,
                Err(e) => tracing::warn!(error = chain(&e), "cannot register the node"),
            }
            tokio::time::sleep(backoff.delay()).await;
        }
    }

    async fn try_register(&self) -> Result<Node, pintle_client::Error> {
        match self.client.create(&new_node(&self.facts, Timestamp::now())).await {
            Ok(node) => Ok(node),
            Err(e) if e.is_already_exists() => {
                let patch = json!({ "metadata": { "labels": labels(&self.facts) } });
                self.client.patch::<Node>("", &self.facts.name, &Patch::Merge(patch)).await
            }
            Err(e) => Err(e),
        }
    }

    fn take_cidr(&mut self, node: &Node) {
        if self.ipam.borrow().is_none() {
            let cidr = node.spec.as_ref().and_then(|s| s.pod_cidr.as_deref()).and_then(|c| c.parse().ok());
            if let Some(cidr) = cidr {
                self.open_pool(cidr);
            }
        }
        self.judge();
    }

    /// Whether the node can run pods, as far as we know.
    fn judge(&mut self) {
        self.facts.not_ready = self.ipam.borrow().is_none().then(|| "the node has no pod CIDR yet".to_owned());
    }

    fn open_pool(&self, cidr: pintle_net::Cidr) {
        match Ipam::open(Path::new(&self.ipam_dir), cidr) {
            Ok(pool) => drop(self.ipam.send_replace(Some(Arc::new(pool)))),
            Err(e) => tracing::error!(error = chain(&e), "cannot use the node's pod CIDR"),
        }
    }

    async fn look(&mut self) {
        let images = self.images.clone();
        match blocking(move || images.list()).await {
            Ok(list) => self.facts.images = list,
            Err(e) => tracing::warn!(error = chain(&e), "cannot list images"),
        }
    }

    /// Writes the status if it changed or is old.
    async fn tell(&self, node: &mut Node, told_at: &mut Timestamp) {
        let now = Timestamp::now();
        let old = node.status.clone().unwrap_or_default();
        let new = status(&self.facts, &old, now);
        let due = now.duration_since(*told_at).as_secs() >= STATUS_S;
        if !due && !differs_in_ours(&old, &new) {
            return;
        }
        let patch = json!({ "status": new });
        match self.client.patch_sub::<Node>("", &self.facts.name, "status", &Patch::Merge(patch)).await {
            Ok(written) => {
                *node = written;
                *told_at = now;
            }
            Err(e) => tracing::warn!(error = chain(&e), "cannot write the node's status"),
        }
    }

    async fn renew(&self, node: &Node) -> Result<(), pintle_client::Error> {
        let name = &self.facts.name;
        let now = MicroTime(Timestamp::now());
        let patch = json!({ "spec": { "renewTime": now, "holderIdentity": name, "leaseDurationSeconds": LEASE_S } });
        match self.client.patch::<Lease>(LEASE_NAMESPACE, name, &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(e) if e.is_not_found() => self.client.create(&new_lease(name, node, now)).await.map(drop),
            Err(e) => Err(e),
        }
    }
}

fn new_lease(name: &str, node: &Node, now: MicroTime) -> Lease {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.to_owned(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(LEASE_NAMESPACE.to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.to_owned()),
            lease_duration_seconds: Some(LEASE_S),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    }
}

/// Whether what we own of a status differs; others may have added fields.
fn differs_in_ours(old: &NodeStatus, new: &NodeStatus) -> bool {
    let ours = |s: &NodeStatus| NodeStatus {
        addresses: s.addresses.clone(),
        capacity: s.capacity.clone(),
        allocatable: s.allocatable.clone(),
        conditions: s.conditions.clone(),
        daemon_endpoints: s.daemon_endpoints.clone(),
        images: s.images.clone().filter(|i| !i.is_empty()),
        node_info: s.node_info.clone(),
        runtime_handlers: s.runtime_handlers.clone(),
        ..NodeStatus::default()
    };
    differs(&ours(old), &ours(new))
}
