//! What files a projected volume holds: keys of objects, fields of the pod, tokens.
//!
//! Owns: names, contents, modes, owners. Does not own: writing them, fetching objects and tokens.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, DownwardAPIVolumeFile, KeyToPath, Pod, SecretProjection,
};

use crate::env::{ConfigError, Facts, Objects, config_map, field, resource, secret};
use crate::volumes::{Part, Projection, TokenAsk};

/// A file of a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Permission bits.
    pub mode: u32,
    /// Owner; `None` is root.
    pub user: Option<u32>,
    /// Contents.
    pub data: Vec<u8>,
}

/// Mode and owner of files that do not say their own.
#[derive(Clone, Copy)]
struct Defaults {
    mode: u32,
    user: Option<u32>,
}

impl Defaults {
    fn file(self, mode: Option<i32>, user: Option<i64>, data: Vec<u8>) -> File {
        let mode = mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(self.mode);
        File { mode, user: number(user).or(self.user), data }
    }
}

fn number(id: Option<i64>) -> Option<u32> {
    id.and_then(|id| u32::try_from(id).ok())
}

/// The files of a projection, by path below its directory.
pub fn payload(
    pod: &Pod,
    projection: &Projection,
    objects: &Objects,
    tokens: &BTreeMap<TokenAsk, String>,
    facts: &Facts,
) -> Result<BTreeMap<String, File>, ConfigError> {
    let defaults = Defaults { mode: projection.default_mode, user: number(projection.default_user) };
    let mut out = BTreeMap::new();
    for part in &projection.parts {
        match part {
            Part::ConfigMap(p) => add_config_map(&mut out, p, defaults, objects)?,
            Part::Secret(p) => add_secret(&mut out, p, defaults, objects)?,
            Part::Downward(items) => add_fields(&mut out, pod, items, defaults, facts)?,
            Part::Token { path, user, request } => {
                let token = tokens
                    .get(request)
                    .ok_or_else(|| ConfigError::NoObject { kind: "service account token", name: path.clone() })?;
                out.insert(path.clone(), defaults.file(None, *user, token.clone().into_bytes()));
            }
        }
    }
    Ok(out)
}

fn add_config_map(
    out: &mut BTreeMap<String, File>,
    part: &ConfigMapProjection,
    defaults: Defaults,
    objects: &Objects,
) -> Result<(), ConfigError> {
    let optional = part.optional.unwrap_or(false);
    let Some(map) = config_map(objects, &part.name, optional)? else { return Ok(()) };
    let text = map.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()));
    add_keys(out, text.chain(binary).collect(), part.items.as_deref(), defaults, optional, ("configmap", &part.name))
}

fn add_secret(
    out: &mut BTreeMap<String, File>,
    part: &SecretProjection,
    defaults: Defaults,
    objects: &Objects,
) -> Result<(), ConfigError> {
    let optional = part.optional.unwrap_or(false);
    let Some(found) = secret(objects, &part.name, optional)? else { return Ok(()) };
    let data = found.data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()));
    add_keys(out, data.collect(), part.items.as_deref(), defaults, optional, ("secret", &part.name))
}

fn add_keys(
    out: &mut BTreeMap<String, File>,
    mut data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    defaults: Defaults,
    optional: bool,
    object: (&'static str, &str),
) -> Result<(), ConfigError> {
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        out.extend(data.into_iter().map(|(path, data)| (path, defaults.file(None, None, data))));
        return Ok(());
    };
    for item in items {
        match data.remove(&item.key) {
            Some(data) => drop(out.insert(item.path.clone(), defaults.file(item.mode, item.user, data))),
            None if optional => {}
            None => {
                return Err(ConfigError::NoObject {
                    kind: "references non-existent config key",
                    name: format!("{} in {} {}", item.key, object.0, object.1),
                });
            }
        }
    }
    Ok(())
}

fn add_fields(
    out: &mut BTreeMap<String, File>,
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    defaults: Defaults,
    facts: &Facts,
) -> Result<(), ConfigError> {
    for item in items {
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(reference), _) => field(pod, &reference.field_path, facts)?,
            (None, Some(reference)) => resource(pod, &Container::default(), reference, facts)?,
            (None, None) => String::new(),
        };
        out.insert(item.path.clone(), defaults.file(item.mode, item.user, value.into_bytes()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::volumes::{VolumeKind, plan, references, tokens};
    use k8s_openapi::api::core::v1::ConfigMap;

    #[test]
    fn a_service_account_volume_holds_token_ca_and_namespace() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "ns"},
            "spec": {"containers": [], "volumes": [{"name": "kube-api-access", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}]}
        }))
        .unwrap();
        assert!(references(&pod).0.contains("kube-root-ca.crt"));
        let plan = plan(&pod).unwrap();
        let VolumeKind::Projection(projection) = &plan[0].kind else { panic!("{plan:?}") };
        let map: ConfigMap = serde_json::from_str(r#"{"data":{"ca.crt":"PEM"}}"#).unwrap();
        let objects =
            Objects { config_maps: BTreeMap::from([("kube-root-ca.crt".to_owned(), Some(map))]), ..Objects::default() };
        let tokens = BTreeMap::from([(tokens(projection)[0].clone(), "TOKEN".to_owned())]);
        let files = payload(&pod, projection, &objects, &tokens, &Facts::default()).unwrap();
        let text: Vec<String> =
            files.iter().map(|(path, f)| format!("{path} {:o} {}", f.mode, String::from_utf8_lossy(&f.data))).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        ca.crt 644 PEM
        namespace 644 ns
        token 644 TOKEN
        ");
    }

    #[test]
    fn an_absent_object_is_an_error_unless_optional() {
        let projection = |optional| Projection {
            parts: vec![Part::ConfigMap(ConfigMapProjection { name: "m".to_owned(), optional, items: None })],
            default_mode: 0o600,
            default_user: None,
            memory: false,
        };
        let run = |optional| {
            let objects = Objects::default();
            payload(&Pod::default(), &projection(optional), &objects, &BTreeMap::new(), &Facts::default())
        };
        assert_eq!(run(None).unwrap_err().to_string(), "configmap \"m\" not found");
        assert_eq!(run(Some(true)).unwrap(), BTreeMap::new());
    }
}
