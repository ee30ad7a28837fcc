//! ServiceAccount: every pod has an account, and, unless it says no, a projected volume with a token of it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath, LocalObjectReference,
    ObjectFieldSelector, Pod, ProjectedVolumeSource, ServiceAccount, ServiceAccountTokenProjection, Volume,
    VolumeMount, VolumeProjection,
};
use pintle_api::status;
use pintle_control_plan::registry::{self, Object};
use pintle_control_plan::strategy;

use super::{Plugin, Review};
use crate::serve::answer::Failure;
use crate::serve::call::Call;
use crate::serve::object;

/// Where containers find it.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// A pod of a node's own files; it has no account.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// An hour and seven seconds: upstream marks tokens of this life as those it may extend.
const TOKEN_LIFE_S: i64 = 3607;

pub(super) struct ServiceAccounts;

impl Plugin for ServiceAccounts {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    /// A new namespace's `default` account is made by a controller, moments after the namespace.
    fn awaits(&self, call: &Call, object: &dyn Object) -> Option<Arc<str>> {
        let pod = object.downcast_ref::<Pod>().filter(|pod| !is_mirror(pod))?;
        (account_of(pod) == "default").then_some(())?;
        Some(object::key(registry::by_kind("v1", "ServiceAccount")?, &call.path.namespace, "default"))
    }

    fn admit(&self, review: &mut Review<'_>) -> Result<(), Failure> {
        if !review.creates("", "pods") {
            return Ok(());
        }
        let namespace = review.call.path.namespace.clone();
        let Some(pod) = review.object.as_ref().and_then(|object| object.downcast_ref::<Pod>()) else { return Ok(()) };
        if is_mirror(pod) {
            return Ok(());
        }
        let name = account_of(pod).to_owned();
        let account: Option<ServiceAccount> = review.find("v1", "ServiceAccount", &namespace, &name);
        let about = review.call.kind.about(review.name);
        let Some(account) = account else {
            let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
            return Err(status::forbidden(about, &why).into());
        };
        let suffix = strategy::generated_name("kube-api-access-", rand::random());
        if let Some(pod) = review.object.as_mut().and_then(|object| object.downcast_mut::<Pod>()) {
            give(pod, &account, &name, suffix);
        }
        Ok(())
    }
}

fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR))
}

fn account_of(pod: &Pod) -> &str {
    let name = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    name.filter(|name| !name.is_empty()).unwrap_or("default")
}

fn give(pod: &mut Pod, account: &ServiceAccount, name: &str, volume: String) {
    let spec = pod.spec.get_or_insert_default();
    spec.service_account_name = Some(name.to_owned());
    spec.service_account = Some(name.to_owned());
    if spec.image_pull_secrets.as_ref().is_none_or(Vec::is_empty) {
        let secrets = account.image_pull_secrets.iter().flatten();
        let secrets: Vec<_> = secrets.map(|secret| LocalObjectReference { name: secret.name.clone() }).collect();
        spec.image_pull_secrets = (!secrets.is_empty()).then_some(secrets);
    }
    let wanted = spec.automount_service_account_token.or(account.automount_service_account_token).unwrap_or(true);
    if !wanted {
        return;
    }
    let mut mounted = false;
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        mounted |= mount(container, &volume);
    }
    if mounted {
        spec.volumes.get_or_insert_default().push(token_volume(volume));
    }
}

/// Whether the container got the mount; one that puts something of its own there keeps that.
fn mount(container: &mut Container, volume: &str) -> bool {
    let mounts = container.volume_mounts.get_or_insert_default();
    if mounts.iter().any(|mount| mount.mount_path.trim_end_matches('/') == MOUNT_PATH) {
        return false;
    }
    mounts.push(VolumeMount {
        name: volume.to_owned(),
        mount_path: MOUNT_PATH.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    true
}

fn token_volume(name: String) -> Volume {
    let token = ServiceAccountTokenProjection {
        expiration_seconds: Some(TOKEN_LIFE_S),
        path: "token".to_owned(),
        ..ServiceAccountTokenProjection::default()
    };
    let ca = ConfigMapProjection {
        name: "kube-root-ca.crt".to_owned(),
        items: Some(vec![KeyToPath { key: "ca.crt".to_owned(), path: "ca.crt".to_owned(), ..KeyToPath::default() }]),
        optional: None,
    };
    let namespace = DownwardAPIVolumeFile {
        path: "namespace".to_owned(),
        field_ref: Some(ObjectFieldSelector {
            api_version: Some("v1".to_owned()),
            field_path: "metadata.namespace".to_owned(),
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let sources = vec![
        VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
        VolumeProjection { config_map: Some(ca), ..VolumeProjection::default() },
        VolumeProjection {
            downward_api: Some(DownwardAPIProjection { items: Some(vec![namespace]) }),
            ..VolumeProjection::default()
        },
    ];
    let projected =
        ProjectedVolumeSource { default_mode: Some(0o644), sources: Some(sources), ..ProjectedVolumeSource::default() };
    Volume { name, projected: Some(projected), ..Volume::default() }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    fn given(pod: serde_json::Value, account: serde_json::Value) -> Pod {
        let mut pod = serde_json::from_value(pod).unwrap();
        give(&mut pod, &serde_json::from_value(account).unwrap(), "web", "kube-api-access-x".to_owned());
        pod
    }

    #[test]
    fn containers_get_the_token_unless_somebody_says_no() {
        let pod = json!({"spec": {
            "containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}],
            "initContainers": [{"name": "c"}],
        }});
        let spec = given(pod.clone(), json!({"imagePullSecrets": [{"name": "s"}]})).spec.unwrap();
        let mounts = |container: &Container| {
            container.volume_mounts.iter().flatten().map(|m| m.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(mounts(&spec.containers[0]), ["kube-api-access-x"]);
        assert_eq!(mounts(&spec.containers[1]), ["own"]);
        assert_eq!(mounts(&spec.init_containers.unwrap()[0]), ["kube-api-access-x"]);
        assert_eq!(spec.volumes.unwrap().len(), 1);
        assert_eq!(spec.image_pull_secrets.unwrap()[0].name, "s");
        assert_eq!(spec.service_account_name.as_deref(), Some("web"));

        let refused = given(pod.clone(), json!({"automountServiceAccountToken": false})).spec.unwrap();
        assert_eq!(refused.volumes, None);
        let mut insists = pod;
        insists["spec"]["automountServiceAccountToken"] = true.into();
        let insists = given(insists, json!({"automountServiceAccountToken": false})).spec.unwrap();
        assert_eq!(insists.volumes.unwrap().len(), 1);
    }
}
