//! API objects as a cache should keep them: small. Kubernetes' own types are made for reading, with a place for every
//! field; ten thousand Services with their slices would take 150 MB of which the proxy looks at a tenth. Kept is what
//! the proxy reads, as JSON, and unpacked when it is looked at. Owns what of an object the proxy reads.

use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use pintle_client::Object;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::programming::Programming;

/// A kind that is kept packed.
pub trait Pack: Object + Default {
    /// Drops what the proxy does not read.
    fn trim(&mut self);
}

impl Pack for Service {
    /// No annotations, no selector.
    fn trim(&mut self) {
        self.metadata.annotations = None;
        self.metadata.owner_references = None;
        if let Some(spec) = &mut self.spec {
            spec.selector = None;
        }
    }
}

impl Pack for EndpointSlice {
    fn trim(&mut self) {
        Programming::keep_trigger(&mut self.metadata);
        self.metadata.owner_references = None;
        for endpoint in self.endpoints.iter_mut().flatten() {
            endpoint.target_ref = None;
            endpoint.hostname = None;
            endpoint.zone = None;
            endpoint.deprecated_topology = None;
            // What is unset means the same.
            let usual = |c: &EndpointConditions| {
                c.ready != Some(false) && c.serving != Some(false) && c.terminating != Some(true)
            };
            endpoint.conditions = endpoint.conditions.take().filter(|c| !usual(c));
        }
    }
}

/// An object without what the proxy does not read.
#[derive(Clone)]
pub struct Packed<K> {
    metadata: ObjectMeta,
    /// Everything but the metadata, JSON.
    body: Box<[u8]>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Pack> Packed<K> {
    /// Packs an object.
    pub fn new(mut object: K) -> Self {
        object.trim();
        let metadata = std::mem::take(object.metadata_mut());
        // Maps with text keys and numbers always become JSON; an object of defaults is what would be left of another.
        let body = serde_json::to_vec(&object).unwrap_or_default().into();
        Self { metadata, body, kind: PhantomData }
    }

    /// The object, with all of its metadata that was kept.
    pub fn unpack(&self) -> K {
        let mut object: K = serde_json::from_slice(&self.body).unwrap_or_default();
        *object.metadata_mut() = self.metadata.clone();
        object
    }

    /// An object of which only the metadata is true: enough to say that it is gone.
    pub fn unpack_metadata(&self) -> K {
        let mut object = K::default();
        *object.metadata_mut() = self.metadata.clone();
        object
    }
}

impl<K> fmt::Debug for Packed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed").field("metadata", &self.metadata).field("bytes", &self.body.len()).finish()
    }
}

impl<'de, K: Pack> Deserialize<'de> for Packed<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        K::deserialize(deserializer).map(Self::new)
    }
}

impl<K: Pack> Serialize for Packed<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.unpack().serialize(serializer)
    }
}

impl<K: Resource> Resource for Packed<K> {
    const API_VERSION: &'static str = K::API_VERSION;
    const GROUP: &'static str = K::GROUP;
    const KIND: &'static str = K::KIND;
    const VERSION: &'static str = K::VERSION;
    const URL_PATH_SEGMENT: &'static str = K::URL_PATH_SEGMENT;
    type Scope = K::Scope;
}

impl<K: Resource> Metadata for Packed<K> {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_proxy_reads_comes_out_as_it_went_in() {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "d", "name": "web-1", "resourceVersion": "7",
                         "labels": {"kubernetes.io/service-name": "web"}, "annotations": {"other": "x"}},
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.42.0.2"], "nodeName": "here", "targetRef": {"kind": "Pod", "name": "p"},
                 "conditions": {"ready": true, "serving": true, "terminating": false}},
                {"addresses": ["10.42.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true},
                 "hints": {"forZones": [{"name": "z"}]}},
            ],
        });
        let packed: Packed<EndpointSlice> = serde_json::from_value(slice).unwrap();
        assert_eq!(packed.metadata().name.as_deref(), Some("web-1"));
        let text = serde_json::to_string(&packed).unwrap();
        insta::assert_snapshot!(text, @r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4","endpoints":[{"addresses":["10.42.0.2"],"nodeName":"here"},{"addresses":["10.42.0.3"],"conditions":{"ready":false,"serving":true,"terminating":true},"hints":{"forZones":[{"name":"z"}]}}],"metadata":{"labels":{"kubernetes.io/service-name":"web"},"name":"web-1","namespace":"d","resourceVersion":"7"},"ports":[{"name":"http","port":8080,"protocol":"TCP"}]}"#);
        assert_eq!(packed.unpack_metadata().metadata, packed.unpack().metadata);
    }
}
