//! What the proxy watches at the API server.

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pintle_client::{Cache, Client, Subscription};

use crate::packed::Packed;

/// Services that another proxy serves, or that have no virtual address, need not even be sent to us.
const NOT_OURS: &str = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";

/// Replicas of it, complete once [`Caches::synced`].
pub struct Caches {
    pub services: Cache<Packed<Service>>,
    pub slices: Cache<Packed<EndpointSlice>>,
    pub nodes: Cache<Node>,
}

/// Their changes.
pub struct Events {
    pub services: Subscription<Packed<Service>>,
    pub slices: Subscription<Packed<EndpointSlice>>,
    pub nodes: Subscription<Node>,
}

impl Caches {
    /// Begins to watch; `node` is the name of our own.
    pub fn start(client: &Client, node: &str) -> Self {
        let own = format!("metadata.name={node}");
        Self {
            services: Cache::builder(client).labels(NOT_OURS).start(),
            slices: Cache::builder(client).labels(NOT_OURS).start(),
            nodes: Cache::builder(client).fields(&own).start(),
        }
    }

    /// Waits until all of it was listed once.
    pub async fn synced(&self) {
        self.services.synced().await;
        self.slices.synced().await;
        self.nodes.synced().await;
    }

    /// Everything from the beginning, and what comes.
    pub fn subscribe(&self) -> Events {
        Events { services: self.services.subscribe(), slices: self.slices.subscribe(), nodes: self.nodes.subscribe() }
    }
}
