//! API objects as a cache should keep them: small. Kubernetes' own types are made for reading, with a place for every
//! field; ten thousand Services with their slices would take 150 MB of which the proxy looks at a tenth. Kept is what
//! the proxy reads, as JSON, and unpacked when it is looked at; only what a cache tells objects by lies open. Owns what
//! of an object the proxy reads.

use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pintle_client::{Held, Object, ObjectKey};
use pintle_proxy_plan::endpoints::SERVICE_NAME;
use pintle_proxy_plan::service::PROXY_NAME;
use serde::{Deserialize, Deserializer};

use crate::programming::Programming;

/// A kind that is kept packed.
pub trait Pack: Object + Default {
    /// Drops what the proxy does not read.
    fn trim(&mut self);
}

impl Pack for Service {
    /// No selector, of metadata only what decides about serving.
    fn trim(&mut self) {
        self.metadata.annotations = None;
        trim_metadata(&mut self.metadata, PROXY_NAME);
        if let Some(spec) = &mut self.spec {
            spec.selector = None;
        }
    }
}

impl Pack for EndpointSlice {
    fn trim(&mut self) {
        Programming::keep_trigger(&mut self.metadata);
        trim_metadata(&mut self.metadata, SERVICE_NAME);
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

/// Keeps annotations, one label, the identity and when it was made.
fn trim_metadata(meta: &mut ObjectMeta, label: &str) {
    let ObjectMeta { annotations, creation_timestamp, labels, namespace, name, uid, resource_version, .. } =
        std::mem::take(meta);
    let labels = labels.map(|labels| labels.into_iter().filter(|(name, _)| name == label).collect());
    *meta = ObjectMeta {
        annotations,
        creation_timestamp,
        labels,
        namespace,
        name,
        uid,
        resource_version,
        ..ObjectMeta::default()
    };
}

/// An object without what the proxy does not read. A struct of metadata takes as much room as all the rest.
pub struct Packed<K> {
    /// Namespace, name, uid and version, none of which can have one of these [`BETWEEN`] it and the next.
    identity: Box<str>,
    /// Everything else, JSON.
    body: Box<[u8]>,
    kind: PhantomData<fn() -> K>,
}

const BETWEEN: char = '/';

impl<K: Pack> Packed<K> {
    /// Packs an object.
    pub fn new(mut object: K) -> Self {
        object.trim();
        let meta = object.metadata_mut();
        let mut take = |part: fn(&mut ObjectMeta) -> &mut Option<String>| part(meta).take().unwrap_or_default();
        let identity = [
            take(|m| &mut m.namespace),
            take(|m| &mut m.name),
            take(|m| &mut m.uid),
            take(|m| &mut m.resource_version),
        ];
        let identity = identity.join(&BETWEEN.to_string()).into();
        // Maps with text keys and numbers always become JSON; an object of defaults is what would be left of another.
        let body = serde_json::to_vec(&object).unwrap_or_default().into();
        Self { identity, body, kind: PhantomData }
    }

    /// The object, with all of its metadata that was kept.
    pub fn unpack(&self) -> K {
        let mut object: K = serde_json::from_slice(&self.body).unwrap_or_default();
        self.identify(object.metadata_mut());
        object
    }

    /// An object of which only the identity is true: enough to say that it is gone.
    pub fn unpack_identity(&self) -> K {
        let mut object = K::default();
        self.identify(object.metadata_mut());
        object
    }

    fn identify(&self, meta: &mut ObjectMeta) {
        let [namespace, name, uid, version] = self.parts().map(|part| (!part.is_empty()).then(|| part.to_owned()));
        (meta.namespace, meta.name, meta.uid, meta.resource_version) = (namespace, name, uid, version);
    }
}

impl<K> Packed<K> {
    fn parts(&self) -> [&str; 4] {
        let mut parts = self.identity.splitn(4, BETWEEN);
        [(); 4].map(|()| parts.next().unwrap_or_default())
    }
}

impl<K> fmt::Debug for Packed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed").field("identity", &self.identity).field("bytes", &self.body.len()).finish()
    }
}

impl<'de, K: Pack> Deserialize<'de> for Packed<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        K::deserialize(deserializer).map(Self::new)
    }
}

impl<K: Pack> Held for Packed<K> {
    type Kind = K;

    fn key(&self) -> ObjectKey {
        let [namespace, name, ..] = self.parts();
        ObjectKey::new(namespace, name)
    }

    fn revision(&self) -> u64 {
        self.parts()[3].parse().unwrap_or(0)
    }

    fn is_same_version(&self, other: &Self) -> bool {
        self.identity == other.identity && !self.parts()[3].is_empty()
    }

    fn drop_managed_fields(&mut self) {}
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
            "metadata": {"namespace": "d", "name": "web-1", "resourceVersion": "7", "generation": 3,
                         "labels": {"kubernetes.io/service-name": "web", "x": "y"}, "annotations": {"other": "x"}},
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.42.0.2"], "nodeName": "here", "targetRef": {"kind": "Pod", "name": "p"},
                 "conditions": {"ready": true, "serving": true, "terminating": false}},
                {"addresses": ["10.42.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true},
                 "hints": {"forZones": [{"name": "z"}]}},
            ],
        });
        let packed: Packed<EndpointSlice> = serde_json::from_value(slice).unwrap();
        assert_eq!((packed.key(), packed.revision()), (ObjectKey::new("d", "web-1"), 7));
        let text = serde_json::to_string(&packed.unpack()).unwrap();
        insta::assert_snapshot!(text, @r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4","endpoints":[{"addresses":["10.42.0.2"],"nodeName":"here"},{"addresses":["10.42.0.3"],"conditions":{"ready":false,"serving":true,"terminating":true},"hints":{"forZones":[{"name":"z"}]}}],"metadata":{"labels":{"kubernetes.io/service-name":"web"},"name":"web-1","namespace":"d","resourceVersion":"7"},"ports":[{"name":"http","port":8080,"protocol":"TCP"}]}"#);
        let (gone, whole) = (packed.unpack_identity().metadata, packed.unpack().metadata);
        assert_eq!((gone.namespace, gone.name, gone.uid), (whole.namespace, whole.name, whole.uid));
    }
}
