//! The ConfigMap `kube-root-ca.crt` of every namespace: how a pod knows the API server's certificate.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::common::{claim, meta};
use super::service_account::{is_open, namespace_key};
use super::{Action, Change, Controller, Key, KindRef, Name, Part, Plan, Question, Snapshot, View};

const NAME: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";

/// The controller.
pub struct RootCa;

impl Controller for RootCa {
    fn name(&self) -> &'static str {
        "root-ca-certificate-publisher-controller"
    }
    /// ConfigMaps are kept by metadata alone: their contents would cost memory for the sake of one of them.
    fn watches(&self) -> &'static [KindRef] {
        const { &[KindRef::of::<Namespace>()] }
    }
    fn keys(&self, change: &Change, _snapshot: &Snapshot) -> Vec<Key> {
        namespace_key(change, KindRef::of::<ConfigMap>(), NAME).into_iter().collect()
    }
    fn ask(&self, key: &Key, view: &View<'_>) -> Vec<Question> {
        let map = map_key(&key.name.name);
        if is_open(key, view) && view.snapshot.meta(&map).is_some() { vec![Question::Read(map)] } else { Vec::new() }
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        if !is_open(key, view) || view.config.ca_pem.is_empty() {
            return plan;
        }
        let map = map_key(&key.name.name);
        let Some(metadata) = view.snapshot.meta(&map) else {
            plan.push(claim::create(&config_map(&key.name.name, &view.config.ca_pem)));
            return plan;
        };
        let Some(live) = view.read(&map) else { return plan };
        if live["data"][FILE].as_str() != Some(&view.config.ca_pem) {
            let patch = json!({"metadata": {"uid": meta::uid(metadata)}, "data": {FILE: view.config.ca_pem}});
            plan.push(Action::Patch { kind: map.kind, name: map.name, part: Part::Main, patch });
        }
        plan
    }
}

fn map_key(namespace: &str) -> Key {
    Key::new(KindRef::of::<ConfigMap>(), Name::new(namespace, NAME))
}

fn config_map(namespace: &str, ca_pem: &str) -> ConfigMap {
    let description = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
                       such as the internal service IP or kubernetes.default.svc.";
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(namespace.to_owned()),
            annotations: Some([(DESCRIPTION.to_owned(), description.to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some([(FILE.to_owned(), ca_pem.to_owned())].into()),
        ..ConfigMap::default()
    }
}
