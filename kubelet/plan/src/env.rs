//! A container's environment: image, services, envFrom, env, with `$(VAR)` expansion.
//!
//! Owns: order, expansion, field and resource references. Does not own: fetching ConfigMaps, Secrets, Services.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvFromSource, EnvVar, EnvVarSource, Pod, ResourceFieldSelector, Secret, Service,
};

use crate::containers::{find, name, namespace, spec, uid};
use crate::quantity;
use crate::resources::{limits, requests};

/// The ConfigMaps and Secrets of a pod's namespace, as far as they were asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// By name; `None` was looked for and does not exist.
    pub config_maps: BTreeMap<String, Option<ConfigMap>>,
    /// By name; `None` was looked for and does not exist.
    pub secrets: BTreeMap<String, Option<Secret>>,
}

/// What downward references can say about the node and the pod's network.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Name of this node.
    pub node_name: String,
    /// The node's addresses, the primary one first.
    pub host_ips: Vec<String>,
    /// The pod's addresses, the primary one first.
    pub pod_ips: Vec<String>,
    /// Allocatable CPU, in thousandths of a core.
    pub allocatable_cpu_milli: i64,
    /// Allocatable memory, in bytes.
    pub allocatable_memory: i64,
    /// Allocatable local disk, in bytes.
    pub allocatable_storage: i64,
    /// Memory of the machine, in bytes.
    pub machine_memory: i64,
}

/// Why a container's configuration cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A ConfigMap or Secret does not exist.
    #[error("{kind} \"{name}\" not found")]
    NoObject {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It exists without that key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// The pod's namespace.
        namespace: String,
        /// The object's name.
        name: String,
        /// The key.
        key: String,
    },
    /// A fieldRef names something that is not exposed.
    #[error("unsupported fieldPath: {path}")]
    Field {
        /// The path.
        path: String,
    },
    /// A resourceFieldRef names something that is not exposed.
    #[error("unsupported container resource: {resource}")]
    Resource {
        /// The resource.
        resource: String,
    },
    /// The image runs as root and may not.
    #[error("container has runAsNonRoot and image will run as root (pod: \"{pod}\", container: {container})")]
    RunsAsRoot {
        /// `name_namespace(uid)`.
        pod: String,
        /// The container.
        container: String,
    },
    /// A container without a command of its own uses an image without one.
    #[error("no command specified: neither the container nor its image says what to run")]
    NoCommand,
    /// The user cannot be resolved.
    #[error("cannot resolve the container's user")]
    User(#[from] crate::users::UserError),
    /// A mount refers to a volume the pod does not have or that is not ready.
    #[error("volume \"{volume}\" of mount {mount_path} is not there")]
    NoVolume {
        /// The volume.
        volume: String,
        /// Where it was to be mounted.
        mount_path: String,
    },
    /// A value asks for something this node does not do.
    #[error("{what} is not supported on this node")]
    Unsupported {
        /// What.
        what: String,
    },
}

/// The environment of a container, in order, later values replacing earlier ones of the same name.
pub fn environment(
    pod: &Pod,
    container: &Container,
    objects: &Objects,
    services: &[Service],
    facts: &Facts,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut out = Variables::default();
    for (name, value) in service_variables(pod, services) {
        out.set(&name, value);
    }
    for source in container.env_from.iter().flatten() {
        add_all(&mut out, source, objects)?;
    }
    for var in container.env.iter().flatten() {
        if let Some(value) = value_of(pod, container, var, &out, objects, facts)? {
            out.set(&var.name, value);
        }
    }
    Ok(out.0)
}

/// Replaces `$(NAME)` by its value, leaves unknown names, and reads `$$` as `$`.
pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            out.push_str(&lookup(name).unwrap_or_else(|| format!("$({name})")));
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The value of a downward `fieldRef`, in the form `env` and volumes share.
pub fn field(pod: &Pod, path: &str, facts: &Facts) -> Result<String, ConfigError> {
    let unsupported = || ConfigError::Field { path: path.to_owned() };
    if let Some((map, key)) = subscript(path) {
        let labels = pod.metadata.labels.as_ref();
        let annotations = pod.metadata.annotations.as_ref();
        let map = match map {
            "metadata.labels" => labels,
            "metadata.annotations" => annotations,
            _ => return Err(unsupported()),
        };
        return Ok(map.and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => name(pod).to_owned(),
        "metadata.namespace" => namespace(pod).to_owned(),
        "metadata.uid" => uid(pod).to_owned(),
        "metadata.labels" => lines(pod.metadata.labels.as_ref()),
        "metadata.annotations" => lines(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => spec(pod).service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return Err(unsupported()),
    })
}

/// The value of a `resourceFieldRef`: a whole number of divisors, rounded up.
pub fn resource(
    pod: &Pod,
    own: &Container,
    selector: &ResourceFieldSelector,
    facts: &Facts,
) -> Result<String, ConfigError> {
    let container = match selector.container_name.as_deref().filter(|n| !n.is_empty()) {
        Some(name) => find(pod, name).map_or(own, |(_, c)| c),
        None => own,
    };
    let or = |value: i64, default: i64| if value == 0 { default } else { value };
    let (limit, request) = (limits(container), requests(container));
    let (milli, cpu) = match selector.resource.as_str() {
        "limits.cpu" => (or(limit.cpu_milli, facts.allocatable_cpu_milli), true),
        "requests.cpu" => (request.cpu_milli, true),
        "limits.memory" => (or(limit.memory, facts.allocatable_memory), false),
        "requests.memory" => (request.memory, false),
        "limits.ephemeral-storage" => (or(limit.storage, facts.allocatable_storage), false),
        "requests.ephemeral-storage" => (request.storage, false),
        other => return Err(ConfigError::Resource { resource: other.to_owned() }),
    };
    let divisor = selector.divisor.as_ref().and_then(|d| if cpu { quantity::milli(d) } else { quantity::units(d) });
    let divisor = divisor.filter(|d| *d > 0).unwrap_or(if cpu { 1000 } else { 1 });
    Ok((milli / divisor + i64::from(milli % divisor != 0)).to_string())
}

#[derive(Default)]
struct Variables(Vec<(String, String)>);

impl Variables {
    fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
    fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
    }
}

fn add_all(out: &mut Variables, source: &EnvFromSource, objects: &Objects) -> Result<(), ConfigError> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    if let Some(reference) = &source.config_map_ref {
        let optional = reference.optional.unwrap_or(false);
        if let Some(map) = config_map(objects, &reference.name, optional)? {
            for (key, value) in map.data.iter().flatten() {
                out.set(&format!("{prefix}{key}"), value.clone());
            }
        }
    }
    if let Some(reference) = &source.secret_ref {
        let optional = reference.optional.unwrap_or(false);
        if let Some(secret) = secret(objects, &reference.name, optional)? {
            for (key, value) in secret.data.iter().flatten() {
                out.set(&format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned());
            }
        }
    }
    Ok(())
}

fn value_of(
    pod: &Pod,
    container: &Container,
    var: &EnvVar,
    known: &Variables,
    objects: &Objects,
    facts: &Facts,
) -> Result<Option<String>, ConfigError> {
    match &var.value_from {
        None => Ok(Some(expand(var.value.as_deref().unwrap_or_default(), &|n| known.get(n)))),
        Some(source) => referred(pod, container, &var.name, source, objects, facts),
    }
}

fn referred(
    pod: &Pod,
    container: &Container,
    variable: &str,
    source: &EnvVarSource,
    objects: &Objects,
    facts: &Facts,
) -> Result<Option<String>, ConfigError> {
    if let Some(reference) = &source.field_ref {
        return field(pod, &reference.field_path, facts).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return resource(pod, container, reference, facts).map(Some);
    }
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional.unwrap_or(false);
        let map = config_map(objects, &reference.name, optional)?;
        let value = map.and_then(|m| m.data.as_ref()).and_then(|d| d.get(&reference.key)).cloned();
        return key_or_error(pod, "ConfigMap", &reference.name, &reference.key, optional, value);
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional.unwrap_or(false);
        let found = secret(objects, &reference.name, optional)?;
        let value = found.and_then(|s| s.data.as_ref()).and_then(|d| d.get(&reference.key));
        let value = value.map(|v| String::from_utf8_lossy(&v.0).into_owned());
        return key_or_error(pod, "Secret", &reference.name, &reference.key, optional, value);
    }
    if source.file_key_ref.is_some() {
        let at = crate::refusals::place(pod, container);
        return Err(ConfigError::Unsupported { what: format!("{at}.env[{variable}].valueFrom.fileKeyRef") });
    }
    Ok(Some(String::new()))
}

fn key_or_error(
    pod: &Pod,
    kind: &'static str,
    object: &str,
    key: &str,
    optional: bool,
    value: Option<String>,
) -> Result<Option<String>, ConfigError> {
    if value.is_some() || optional {
        return Ok(value);
    }
    Err(ConfigError::NoKey { kind, namespace: namespace(pod).to_owned(), name: object.to_owned(), key: key.to_owned() })
}

/// The ConfigMap, `None` if it is optional and absent.
pub(crate) fn config_map<'o>(
    objects: &'o Objects,
    name: &str,
    optional: bool,
) -> Result<Option<&'o ConfigMap>, ConfigError> {
    match objects.config_maps.get(name).and_then(Option::as_ref) {
        Some(found) => Ok(Some(found)),
        None if optional => Ok(None),
        None => Err(ConfigError::NoObject { kind: "configmap", name: name.to_owned() }),
    }
}

/// The Secret, `None` if it is optional and absent.
pub(crate) fn secret<'o>(objects: &'o Objects, name: &str, optional: bool) -> Result<Option<&'o Secret>, ConfigError> {
    match objects.secrets.get(name).and_then(Option::as_ref) {
        Some(found) => Ok(Some(found)),
        None if optional => Ok(None),
        None => Err(ConfigError::NoObject { kind: "secret", name: name.to_owned() }),
    }
}

/// Docker-link style variables for `kubernetes` and, with enableServiceLinks, the namespace's services.
fn service_variables(pod: &Pod, services: &[Service]) -> Vec<(String, String)> {
    let links = spec(pod).enable_service_links.unwrap_or(true);
    let mut out = Vec::new();
    for service in services {
        let (Some(name), Some(spec)) = (service.metadata.name.as_deref(), service.spec.as_ref()) else { continue };
        let own = service.metadata.namespace.as_deref().unwrap_or("default");
        let master = own == "default" && name == "kubernetes";
        let wanted = master || (links && own == namespace(pod));
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { continue };
        if wanted {
            one_service(&mut out, name, ip, spec.ports.as_deref().unwrap_or_default());
        }
    }
    out
}

fn one_service(
    out: &mut Vec<(String, String)>,
    name: &str,
    ip: &str,
    ports: &[k8s_openapi::api::core::v1::ServicePort],
) {
    let Some(first) = ports.first() else { return };
    let upper = |text: &str| text.to_uppercase().replace('-', "_");
    let prefix = upper(name);
    let bracketed = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    out.push((format!("{prefix}_SERVICE_HOST"), ip.to_owned()));
    out.push((format!("{prefix}_SERVICE_PORT"), first.port.to_string()));
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            out.push((format!("{prefix}_SERVICE_PORT_{}", upper(port_name)), port.port.to_string()));
        }
    }
    let url = |p: &k8s_openapi::api::core::v1::ServicePort| {
        format!("{}://{bracketed}:{}", p.protocol.as_deref().unwrap_or("TCP").to_lowercase(), p.port)
    };
    out.push((format!("{prefix}_PORT"), url(first)));
    for port in ports {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let stem = format!("{prefix}_PORT_{}_{protocol}", port.port);
        out.push((stem.clone(), url(port)));
        out.push((format!("{stem}_PROTO"), protocol.to_lowercase()));
        out.push((format!("{stem}_PORT"), port.port.to_string()));
        out.push((format!("{stem}_ADDR"), ip.to_owned()));
    }
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let quoted = |(k, v): (&String, &String)| format!("{k}={}", serde_json::Value::String(v.clone()));
    map.into_iter().flatten().map(quoted).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn expansion_knows_names_escapes_and_leaves_the_rest() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        let table = [
            ("$(A)", "1"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$A", "$A"),
            ("a$", "a$"),
            ("$(A", "$(A"),
            ("$(A)$(A)", "11"),
        ];
        for (text, wanted) in table {
            assert_eq!(expand(text, &lookup), wanted, "{text}");
        }
    }

    #[test]
    fn an_environment_is_built_in_the_documented_order() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "labels": {"app": "x"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c",
                "resources": {"limits": {"cpu": "1500m"}},
                "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}],
                "env": [
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                    {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                    {"name": "URL", "value": "http://$(POD).$(P_k)/$(NONE)"},
                    {"name": "OPT", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}},
                    {"name": "POD", "value": "$(POD)!"}]}]}
        }))
        .unwrap();
        let service: Service = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"clusterIP": "10.43.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]}}))
        .unwrap();
        let map: ConfigMap = serde_json::from_str(r#"{"data":{"k":"v"}}"#).unwrap();
        let objects = Objects { config_maps: BTreeMap::from([("m".to_owned(), Some(map))]), ..Objects::default() };
        let facts = Facts { pod_ips: vec!["10.42.0.2".to_owned()], allocatable_memory: 1 << 30, ..Facts::default() };
        let env = environment(&pod, &spec(&pod).containers[0], &objects, &[service], &facts).unwrap();
        let text: Vec<String> = env.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        KUBERNETES_SERVICE_HOST=10.43.0.1
        KUBERNETES_SERVICE_PORT=443
        KUBERNETES_SERVICE_PORT_HTTPS=443
        KUBERNETES_PORT=tcp://10.43.0.1:443
        KUBERNETES_PORT_443_TCP=tcp://10.43.0.1:443
        KUBERNETES_PORT_443_TCP_PROTO=tcp
        KUBERNETES_PORT_443_TCP_PORT=443
        KUBERNETES_PORT_443_TCP_ADDR=10.43.0.1
        P_k=v
        POD=web!
        IP=10.42.0.2
        APP=x
        CPU=2
        MEM=1024
        URL=http://web.v/$(NONE)
        ");
    }

    #[test]
    fn a_missing_key_says_which() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "namespace": "ns"},
            "spec": {"containers": [{"name": "c", "env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]}]}}))
        .unwrap();
        let container = &spec(&pod).containers[0];
        let mut objects = Objects::default();
        let message =
            |objects: &Objects| environment(&pod, container, objects, &[], &Facts::default()).unwrap_err().to_string();
        assert_eq!(message(&objects), "configmap \"m\" not found");
        objects.config_maps.insert("m".to_owned(), Some(ConfigMap::default()));
        assert_eq!(message(&objects), "couldn't find key k in ConfigMap ns/m");
    }
}
