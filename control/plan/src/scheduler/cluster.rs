//! The nodes and what already runs on them, as all plugins see them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};

use super::amounts::{Amounts, requests};
use crate::controllers::{Snapshot, labels::Labels, meta, pods};

/// One node.
pub(super) struct NodeInfo<'a> {
    pub node: &'a Node,
    pub name: &'a str,
    /// What pods may take in all.
    pub allocatable: Amounts,
    /// What its pods take.
    pub requested: Amounts,
    /// The same with floors, for comparisons.
    pub floored: Amounts,
    /// Its pods, those placed in this plan included.
    pub pods: Vec<&'a Pod>,
}

impl<'a> NodeInfo<'a> {
    fn new(node: &'a Node) -> NodeInfo<'a> {
        let status = node.status.as_ref();
        let room = status.and_then(|s| s.allocatable.as_ref().or(s.capacity.as_ref()));
        NodeInfo {
            node,
            name: meta::name(&node.metadata),
            allocatable: Amounts::read(room),
            requested: Amounts::default(),
            floored: Amounts::default(),
            pods: Vec::new(),
        }
    }
    pub(super) fn labels(&self) -> Option<&Labels> {
        self.node.metadata.labels.as_ref()
    }
    pub(super) fn label(&self, key: &str) -> Option<&str> {
        meta::label(&self.node.metadata, key)
    }
    fn add(&mut self, pod: &'a Pod, requests: &Amounts) {
        self.requested.add(requests);
        self.floored.add(&requests.floored());
        self.pods.push(pod);
    }
}

/// All of them.
pub(super) struct Cluster<'a> {
    pub nodes: Vec<NodeInfo<'a>>,
    pub snapshot: &'a Snapshot,
}

impl<'a> Cluster<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Cluster<'a> {
        let alive = |n: &&Node| !meta::is_deleting(&n.metadata);
        let mut nodes: Vec<NodeInfo<'a>> = snapshot.list::<Node>().filter(alive).map(NodeInfo::new).collect();
        let places: BTreeMap<&str, usize> = nodes.iter().enumerate().map(|(at, n)| (n.name, at)).collect();
        // A pod that is being deleted keeps its room until it is gone.
        for pod in snapshot.list::<Pod>().filter(|p| !pods::is_finished(p)) {
            if let Some(at) = pods::node(pod).and_then(|n| places.get(n)) {
                nodes[*at].add(pod, &requests(pod));
            }
        }
        Cluster { nodes, snapshot }
    }

    /// The pod counts as running there from now on.
    pub(super) fn assume(&mut self, at: usize, pod: &'a Pod, requests: &Amounts) {
        self.nodes[at].add(pod, requests);
    }

    /// Labels of a namespace, where namespaces are cached.
    pub(super) fn namespace_labels(&self, namespace: &str) -> Option<&'a Labels> {
        let name = crate::controllers::Name::new("", namespace);
        self.snapshot.get::<Namespace>(&name)?.metadata.labels.as_ref()
    }
}
