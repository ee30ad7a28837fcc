//! What the node rules of authorization ask of the cluster's state. Owns: finding it among the stored pods.

use bytes::Bytes;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use pintle_control_plan::authz::NodeFacts;
use pintle_control_plan::registry;
use pintle_store::List;

use crate::serve::{Api, object};

impl NodeFacts for Api {
    fn pod_refers(&self, node: &str, resource: &str, namespace: &str, name: &str) -> bool {
        let Some(kind) = registry::by_kind("v1", "Pod") else { return false };
        if namespace.is_empty() || name.is_empty() {
            return false;
        }
        let prefix = object::prefix(kind, namespace);
        let Ok(page) = self.store.list(&List::all(&prefix)) else { return false };
        page.entries.iter().any(|entry| {
            // Decoding is dear; a pod that does not even mention the two names is out.
            mentions(&entry.bytes, node)
                && mentions(&entry.bytes, name)
                && serde_json::from_slice::<Pod>(&entry.bytes).is_ok_and(|pod| {
                    pod.spec
                        .is_some_and(|spec| spec.node_name.as_deref() == Some(node) && refers(&spec, resource, name))
                })
        })
    }

    fn pod_is_on(&self, node: &str, namespace: &str, pod: &str) -> bool {
        let pod: Option<Pod> = self.find("v1", "Pod", namespace, pod);
        // A pod that is gone already hides nothing: the request gets its 404.
        pod.is_none_or(|pod| pod.spec.is_some_and(|spec| spec.node_name.as_deref() == Some(node)))
    }
}

fn mentions(bytes: &Bytes, word: &str) -> bool {
    let quoted = format!("\"{word}\"");
    bytes.windows(quoted.len()).any(|window| window == quoted.as_bytes())
}

fn refers(spec: &PodSpec, resource: &str, name: &str) -> bool {
    match resource {
        "serviceaccounts" => spec.service_account_name.as_deref().unwrap_or("default") == name,
        "persistentvolumeclaims" => spec
            .volumes
            .iter()
            .flatten()
            .any(|volume| volume.persistent_volume_claim.as_ref().is_some_and(|claim| claim.claim_name == name)),
        "secrets" => names(spec, Which::Secrets).any(|found| found == name),
        "configmaps" => names(spec, Which::ConfigMaps).any(|found| found == name),
        _ => false,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Which {
    Secrets,
    ConfigMaps,
}

/// Names of all Secrets or all ConfigMaps a pod refers to.
fn names(spec: &PodSpec, which: Which) -> impl Iterator<Item = &str> {
    volumes(spec, which).chain(environment(spec, which)).chain(pull_secrets(spec, which))
}

fn pull_secrets(spec: &PodSpec, which: Which) -> impl Iterator<Item = &str> {
    let secrets = spec.image_pull_secrets.iter().flatten().filter(move |_| which == Which::Secrets);
    secrets.map(|reference| reference.name.as_str())
}

fn volumes(spec: &PodSpec, which: Which) -> impl Iterator<Item = &str> {
    spec.volumes.iter().flatten().flat_map(move |volume| {
        let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        let (direct, sources): (Option<&str>, Vec<&str>) = match which {
            Which::Secrets => (
                volume.secret.as_ref().and_then(|secret| secret.secret_name.as_deref()),
                projected.filter_map(|source| source.secret.as_ref().map(|secret| secret.name.as_str())).collect(),
            ),
            Which::ConfigMaps => (
                volume.config_map.as_ref().map(|map| map.name.as_str()),
                projected.filter_map(|source| source.config_map.as_ref().map(|map| map.name.as_str())).collect(),
            ),
        };
        direct.into_iter().chain(sources)
    })
}

fn environment(spec: &PodSpec, which: Which) -> impl Iterator<Item = &str> {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers.flat_map(move |container| {
        let one = container.env.iter().flatten().filter_map(move |variable| {
            let from = variable.value_from.as_ref()?;
            match which {
                Which::Secrets => from.secret_key_ref.as_ref().map(|key| key.name.as_str()),
                Which::ConfigMaps => from.config_map_key_ref.as_ref().map(|key| key.name.as_str()),
            }
        });
        let whole = container.env_from.iter().flatten().filter_map(move |from| match which {
            Which::Secrets => from.secret_ref.as_ref().map(|secret| secret.name.as_str()),
            Which::ConfigMaps => from.config_map_ref.as_ref().map(|map| map.name.as_str()),
        });
        one.chain(whole)
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_way_to_refer_to_a_secret_or_config_map_counts() {
        let spec: PodSpec = serde_json::from_value(serde_json::json!({
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "s1"}},
                {"name": "b", "configMap": {"name": "c1"}},
                {"name": "c", "projected": {"sources": [{"secret": {"name": "s2"}}, {"configMap": {"name": "c2"}}]}},
            ],
            "containers": [{"name": "x",
                "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "k"}}}],
                "envFrom": [{"configMapRef": {"name": "c3"}}]}],
            "initContainers": [{"name": "y", "envFrom": [{"secretRef": {"name": "s4"}}]}],
        }))
        .unwrap();
        assert_eq!(names(&spec, Which::Secrets).collect::<Vec<_>>(), ["s1", "s2", "s3", "s4", "pull"]);
        assert_eq!(names(&spec, Which::ConfigMaps).collect::<Vec<_>>(), ["c1", "c2", "c3"]);
        assert!(refers(&spec, "serviceaccounts", "default") && !refers(&spec, "serviceaccounts", "other"));
    }
}
