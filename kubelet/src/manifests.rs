//! Static pods: a directory of manifests, read anew whenever it changes, and the mirror pods that show them.
//!
//! Owns: reading, naming, the shape of mirrors. Does not own: running them (`worker`), writing mirrors (`manager`).

use std::path::Path;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use sha2::{Digest as _, Sha256};

use crate::disk;
use crate::error::{At as _, FileError, chain};

/// Marks a mirror; its value is the manifest's hash.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
const HASH: &str = "kubernetes.io/config.hash";
const SOURCE: &str = "kubernetes.io/config.source";

/// Reads every manifest of a directory. A file that is no pod is told about and left out.
pub(crate) fn read(dir: &Path, node_name: &str) -> Result<Vec<Pod>, FileError> {
    let mut out = Vec::new();
    for name in disk::names(dir)? {
        let path = dir.join(&name);
        let manifest = [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
        if name.starts_with('.') || !manifest {
            continue;
        }
        let text = std::fs::read_to_string(&path).at("read", &path)?;
        match serde_yaml_ng::from_str::<Pod>(&text) {
            Ok(pod) => out.push(own(pod, &text, node_name)),
            Err(e) => tracing::error!(file = %path.display(), error = chain(&e), "not a pod's manifest"),
        }
    }
    Ok(out)
}

/// Gives a manifest's pod its identity: a uid from its contents, a name that tells the node.
fn own(mut pod: Pod, text: &str, node_name: &str) -> Pod {
    let digest = Sha256::digest(format!("{node_name}\n{text}").as_bytes());
    let hash: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
    let meta = &mut pod.metadata;
    meta.name = meta.name.take().map(|name| format!("{name}-{node_name}"));
    meta.namespace.get_or_insert_with(|| "default".to_owned());
    meta.uid = Some(hash.clone());
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(HASH.to_owned(), hash);
    annotations.insert(SOURCE.to_owned(), "file".to_owned());
    if let Some(spec) = &mut pod.spec {
        spec.node_name = Some(node_name.to_owned());
    }
    pod.status = None;
    pod
}

/// The mirror of a static pod.
pub(crate) fn mirror(pod: &Pod, node: Option<&Node>) -> Pod {
    let mut out = pod.clone();
    let hash = out.metadata.uid.take().unwrap_or_default();
    out.metadata.annotations.get_or_insert_default().insert(MIRROR.to_owned(), hash);
    out.metadata.owner_references = node.map(|node| {
        vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: node.metadata.name.clone().unwrap_or_default(),
            uid: node.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            ..OwnerReference::default()
        }]
    });
    out
}

/// The hash a mirror carries; `None` if the pod is no mirror.
pub(crate) fn mirrored(pod: &Pod) -> Option<&str> {
    pod.metadata.annotations.as_ref()?.get(MIRROR).map(String::as_str)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node_and_a_bad_one_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: b}]}\n";
        std::fs::write(dir.path().join("web.yaml"), text).unwrap();
        std::fs::write(dir.path().join("bad.yaml"), "[1").unwrap();
        std::fs::write(dir.path().join(".hidden.yaml"), text).unwrap();
        let pods = read(dir.path(), "n1").unwrap();
        assert_eq!(pods.len(), 1);
        assert_eq!(pods[0].metadata.name.as_deref(), Some("web-n1"));
        let mirror = mirror(&pods[0], None);
        assert_eq!(mirrored(&mirror), pods[0].metadata.uid.as_deref());
        assert_eq!(mirrored(&pods[0]), None);
    }
}
