//! Service: a stable address for a set of pods.
//!
//! Owns: defaults, rules, and keeping allocated values over an update. Does not own: allocating addresses and node
//! ports, which needs to know those in use.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ClientIPConfig, Service, ServicePort, ServiceSpec, SessionAffinityConfig};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pintle_api::field::{FieldErrors, Path};
use pintle_api::{metadata, name};
use serde_json::Value;

use super::common;
use crate::kind::{Column, Kind, NameRule, Names, Scope, Subresource};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
/// The clusterIP of a headless Service.
pub const HEADLESS: &str = "None";
const AFFINITY_TIMEOUT_S: i32 = 10_800;
const AFFINITY_TIMEOUT_S_MAX: i32 = 86_400;

/// See the module.
pub struct Services;

impl Kind for Services {
    type Object = Service;
    const NAMES: Names = Names { singular: "service", short: &["svc"], categories: &["all"] };
    const SCOPE: Scope = Scope::Namespaced;
    const NAME_RULE: NameRule = NameRule::Label1035;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Type", "ClusterIP, NodePort, LoadBalancer or ExternalName."),
        Column::text("Cluster-IP", "The address inside of the cluster."),
        Column::text("External-IP", "Addresses outside of the cluster."),
        Column::text("Port(s)", "PORT[:NODEPORT]/PROTOCOL."),
        Column::AGE,
        Column::text("Selector", "Labels of the pods behind it.").wide(),
    ];
    const FIELDS: &'static [&'static str] = &["spec.clusterIP", "spec.type"];

    fn default(object: &mut Service) {
        let spec = object.spec.get_or_insert_default();
        set_text(&mut spec.type_, "ClusterIP");
        set_text(&mut spec.session_affinity, "None");
        let kind = spec.type_.clone().unwrap_or_default();
        for port in spec.ports.iter_mut().flatten() {
            set_text(&mut port.protocol, "TCP");
            if matches!(port.target_port, None | Some(IntOrString::Int(0))) {
                port.target_port = Some(IntOrString::Int(port.port));
            }
        }
        if spec.session_affinity.as_deref() == Some("ClientIP") {
            let config: &mut SessionAffinityConfig = spec.session_affinity_config.get_or_insert_default();
            let client: &mut ClientIPConfig = config.client_ip.get_or_insert_default();
            client.timeout_seconds.get_or_insert(AFFINITY_TIMEOUT_S);
        }
        if kind != "ExternalName" {
            set_text(&mut spec.internal_traffic_policy, "Cluster");
            addresses(spec);
        }
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
            set_text(&mut spec.external_traffic_policy, "Cluster");
        }
        if kind == "LoadBalancer" {
            spec.allocate_load_balancer_node_ports.get_or_insert(true);
        }
    }

    fn prepare_create(object: &mut Service) {
        object.status = Some(Default::default());
    }

    fn prepare_update(new: &mut Service, old: &Service) {
        new.status.clone_from(&old.status);
        if let (Some(new), Some(old)) = (&mut new.spec, &old.spec) {
            drop_type_dependent(new, old);
            keep_allocated(new, old);
        }
    }

    fn prepare_status(new: &mut Service, old: &Service) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &Service, errors: &mut FieldErrors) {
        let path = Path::new("spec");
        let Some(spec) = &object.spec else { return };
        errors.one_of(&path.child("type"), spec.type_.as_deref(), TYPES);
        metadata::labels(spec.selector.iter().flatten(), &path.child("selector"), errors);
        ports(spec, &path.child("ports"), errors);
        affinity(spec, &path, errors);
        policies(spec, &path, errors);
        for (index, ip) in spec.cluster_ips.iter().flatten().enumerate() {
            if ip != HEADLESS && !ip.is_empty() {
                errors.invalid_each(&path.child("clusterIPs").index(index), ip, name::ip(ip));
            }
        }
        for (index, ip) in spec.external_ips.iter().flatten().enumerate() {
            errors.invalid_each(&path.child("externalIPs").index(index), ip, name::ip(ip));
        }
        if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref().unwrap_or("").trim_end_matches('.');
            if target.is_empty() {
                errors.required(&path.child("externalName"), "");
            } else {
                errors.invalid_each(&path.child("externalName"), target, name::dns1123_subdomain(target));
            }
        }
    }

    fn validate_update(new: &Service, old: &Service, errors: &mut FieldErrors) {
        let (Some(new), Some(old)) = (&new.spec, &old.spec) else { return };
        let needs = |spec: &ServiceSpec| spec.type_.as_deref() != Some("ExternalName");
        let was = old.cluster_ip.as_deref().unwrap_or("");
        if needs(old) && needs(new) && !was.is_empty() && new.cluster_ip.as_deref() != Some(was) {
            let path = Path::new("spec").child("clusterIPs").index(0);
            errors.invalid(&path, new.cluster_ips.clone().unwrap_or_default().join(","), "may not change once set");
        }
    }

    fn row(object: &Service, now: Timestamp) -> Vec<Value> {
        let spec = object.spec.clone().unwrap_or_default();
        vec![
            common::name_cell(&object.metadata),
            spec.type_.clone().unwrap_or_default().into(),
            common::or_none(spec.cluster_ip.as_deref()),
            external(object, &spec).into(),
            ports_cell(&spec),
            common::age(&object.metadata, now),
            common::labels_cell(spec.selector.as_ref()),
        ]
    }

    fn fields(object: &Service) -> Vec<String> {
        let spec = object.spec.clone().unwrap_or_default();
        vec![spec.cluster_ip.unwrap_or_default(), spec.type_.unwrap_or_default()]
    }
}

fn set_text(field: &mut Option<String>, value: &str) {
    if field.as_deref().is_none_or(str::is_empty) {
        *field = Some(value.to_owned());
    }
}

/// clusterIP and clusterIPs mirror each other; the families follow the addresses.
fn addresses(spec: &mut ServiceSpec) {
    match (&spec.cluster_ip, &spec.cluster_ips) {
        (Some(ip), None) if !ip.is_empty() => spec.cluster_ips = Some(vec![ip.clone()]),
        (None, Some(ips)) => spec.cluster_ip = ips.first().cloned(),
        _ => {}
    }
    set_text(&mut spec.ip_family_policy, "SingleStack");
    if spec.ip_families.is_none() {
        let family = match &spec.cluster_ip {
            Some(ip) if ip.contains(':') => "IPv6",
            _ => "IPv4",
        };
        spec.ip_families = Some(vec![family.to_owned()]);
    }
}

/// A change of type drops what only the old type had, unless the updater changed it as well.
fn drop_type_dependent(new: &mut ServiceSpec, old: &ServiceSpec) {
    if new.type_ == old.type_ {
        return;
    }
    let kind = new.type_.as_deref().unwrap_or("ClusterIP");
    if !matches!(kind, "NodePort" | "LoadBalancer") {
        for port in new.ports.iter_mut().flatten() {
            if old.ports.iter().flatten().any(|was| was.port == port.port && was.node_port == port.node_port) {
                port.node_port = None;
            }
        }
        if new.external_traffic_policy == old.external_traffic_policy {
            new.external_traffic_policy = None;
        }
    }
    if kind != "LoadBalancer" && new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
        new.allocate_load_balancer_node_ports = None;
    }
    if kind == "ExternalName" && new.cluster_ip == old.cluster_ip {
        (new.cluster_ip, new.cluster_ips) = (None, None);
        (new.ip_families, new.ip_family_policy, new.internal_traffic_policy) = (None, None, None);
    }
}

/// What was allocated stays, unless the updater says otherwise or the type no longer has it.
fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    let kind = new.type_.as_deref().unwrap_or("ClusterIP");
    let (with_ip, with_ports) = (kind != "ExternalName", matches!(kind, "NodePort" | "LoadBalancer"));
    if with_ip && old.type_.as_deref() != Some("ExternalName") && new.cluster_ip.as_deref().is_none_or(str::is_empty) {
        new.cluster_ip.clone_from(&old.cluster_ip);
        new.cluster_ips.clone_from(&old.cluster_ips);
    }
    if with_ports {
        for port in new.ports.iter_mut().flatten().filter(|port| port.node_port.unwrap_or(0) == 0) {
            let same = |other: &&ServicePort| other.port == port.port && other.protocol == port.protocol;
            port.node_port = old.ports.iter().flatten().find(same).and_then(|other| other.node_port);
        }
        if new.health_check_node_port.unwrap_or(0) == 0 {
            new.health_check_node_port = old.health_check_node_port;
        }
    }
}

fn ports(spec: &ServiceSpec, path: &Path, errors: &mut FieldErrors) {
    let list = spec.ports.as_deref().unwrap_or(&[]);
    let headless = spec.cluster_ip.as_deref() == Some(HEADLESS);
    if list.is_empty() && !headless && spec.type_.as_deref() != Some("ExternalName") {
        errors.required(path, "");
    }
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in list.iter().enumerate() {
        let path = path.index(index);
        let text = port.name.as_deref().unwrap_or("");
        if text.is_empty() && list.len() > 1 {
            errors.required(&path.child("name"), "");
        } else if !text.is_empty() {
            errors.invalid_each(&path.child("name"), text, name::dns1123_label(text));
            if !names.insert(text) {
                errors.duplicate(&path.child("name"), text);
            }
        }
        for message in name::port_number(port.port) {
            errors.invalid(&path.child("port"), port.port, message);
        }
        errors.one_of(&path.child("protocol"), port.protocol.as_deref(), PROTOCOLS);
        match &port.target_port {
            Some(IntOrString::Int(number)) => {
                for message in name::port_number(*number) {
                    errors.invalid(&path.child("targetPort"), *number, message);
                }
            }
            Some(IntOrString::String(text)) => {
                errors.invalid_each(&path.child("targetPort"), text, name::port_name(text));
            }
            None => {}
        }
        if port.node_port.unwrap_or(0) != 0 && matches!(spec.type_.as_deref(), Some("ClusterIP" | "ExternalName")) {
            errors.forbidden(&path.child("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
        if !numbers.insert((port.protocol.clone(), port.port)) {
            errors.duplicate(&path, pintle_api::field::json(port));
        }
    }
}

fn affinity(spec: &ServiceSpec, path: &Path, errors: &mut FieldErrors) {
    errors.one_of(&path.child("sessionAffinity"), spec.session_affinity.as_deref(), &["ClientIP", "None"]);
    let path = path.child("sessionAffinityConfig");
    match (spec.session_affinity.as_deref(), &spec.session_affinity_config) {
        (Some("ClientIP"), Some(config)) => {
            let timeout_s = config.client_ip.as_ref().and_then(|client| client.timeout_seconds).unwrap_or(0);
            if !(1..=AFFINITY_TIMEOUT_S_MAX).contains(&timeout_s) {
                let why = format!("must be greater than 0 and less than or equal to {AFFINITY_TIMEOUT_S_MAX}");
                errors.invalid(&path.child("clientIP").child("timeoutSeconds"), timeout_s, why);
            }
        }
        (Some("None"), Some(_)) => {
            errors.forbidden(&path, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn policies(spec: &ServiceSpec, path: &Path, errors: &mut FieldErrors) {
    let outside = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"))
        || spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    if let Some(policy) = spec.external_traffic_policy.as_deref() {
        let path = path.child("externalTrafficPolicy");
        if outside {
            errors.one_of(&path, Some(policy), &["Cluster", "Local"]);
        } else {
            errors.invalid(&path, policy, "may only be set for externally-accessible services");
        }
    }
    if let Some(policy) = spec.internal_traffic_policy.as_deref() {
        errors.one_of(&path.child("internalTrafficPolicy"), Some(policy), &["Cluster", "Local"]);
    }
    if let Some(preference) = spec.traffic_distribution.as_deref() {
        let known = &["PreferClose", "PreferSameNode", "PreferSameZone"];
        errors.one_of(&path.child("trafficDistribution"), Some(preference), known);
    }
    if let Some(policy) = spec.ip_family_policy.as_deref() {
        let known = &["SingleStack", "PreferDualStack", "RequireDualStack"];
        errors.one_of(&path.child("ipFamilyPolicy"), Some(policy), known);
    }
    for (index, family) in spec.ip_families.iter().flatten().enumerate() {
        errors.one_of(&path.child("ipFamilies").index(index), Some(family), &["IPv4", "IPv6"]);
    }
}

fn external(service: &Service, spec: &ServiceSpec) -> String {
    let own = spec.external_ips.clone().unwrap_or_default();
    match spec.type_.as_deref() {
        Some("ExternalName") => spec.external_name.clone().unwrap_or_default(),
        Some("LoadBalancer") => {
            let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            let ingress = balancer.into_iter().flat_map(|balancer| balancer.ingress.iter().flatten());
            let mut all: Vec<String> = ingress.filter_map(|i| i.ip.clone().or_else(|| i.hostname.clone())).collect();
            all.extend(own);
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ if own.is_empty() => common::NONE.to_owned(),
        _ => own.join(","),
    }
}

fn ports_cell(spec: &ServiceSpec) -> Value {
    let ports: Vec<String> = spec
        .ports
        .iter()
        .flatten()
        .map(|port| {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            match port.node_port.filter(|node_port| *node_port != 0) {
                Some(node_port) => format!("{}:{node_port}/{protocol}", port.port),
                None => format!("{}/{protocol}", port.port),
            }
        })
        .collect();
    common::or_none(Some(&ports.join(",")))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn service(json: &str) -> Service {
        let mut service = serde_json::from_str(json).unwrap();
        Services::default(&mut service);
        service
    }

    #[test]
    fn services_are_checked() {
        let table = [
            r#"{"spec":{"ports":[{"port":80}]}}"#,
            r#"{"spec":{}}"#,
            r#"{"spec":{"clusterIP":"None"}}"#,
            r#"{"spec":{"type":"Odd","ports":[{"port":0},{"port":80,"protocol":"HTTP","name":"UP"},{"port":81,"targetPort":"-x","name":"b","nodePort":30000}]}}"#,
            r#"{"spec":{"type":"ExternalName"}}"#,
            r#"{"spec":{"ports":[{"port":80}],"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":0}},"externalTrafficPolicy":"Local","clusterIP":"x"}}"#,
            r#"{"spec":{"ports":[{"name":"a","port":80},{"name":"a","port":80}],"selector":{"a b":"c"}}}"#,
        ];
        let lines: Vec<String> = table
            .iter()
            .map(|json| {
                let mut errors = FieldErrors::new();
                Services::validate(&service(json), &mut errors);
                errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n--\n"), @r#"
        --
        spec.ports: Required value
        --

        --
        spec.type: Unsupported value: "Odd": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"
        spec.ports[0].name: Required value
        spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
        spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive
        spec.ports[1].name: Invalid value: "UP": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        spec.ports[1].protocol: Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP"
        spec.ports[2].targetPort: Invalid value: "-x": must not begin or end with a hyphen
        --
        spec.externalName: Required value
        --
        spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than or equal to 86400
        spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services
        spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        --
        spec.selector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.ports[1].name: Duplicate value: "a"
        spec.ports[1]: Duplicate value: {"name":"a","port":80,"protocol":"TCP","targetPort":80}
        "#);
    }

    #[test]
    fn allocated_values_survive_an_update_that_leaves_them_out() {
        let old =
            service(r#"{"spec":{"type":"NodePort","clusterIP":"10.43.0.9","ports":[{"port":80,"nodePort":30080}]}}"#);
        let mut new = service(r#"{"spec":{"type":"NodePort","ports":[{"port":80},{"port":81,"name":"b"}]}}"#);
        Services::prepare_update(&mut new, &old);
        let spec = new.spec.clone().unwrap();
        assert_eq!(spec.cluster_ip.as_deref(), Some("10.43.0.9"));
        assert_eq!(spec.ports.unwrap().iter().map(|p| p.node_port).collect::<Vec<_>>(), [Some(30080), None]);
        let mut errors = FieldErrors::new();
        Services::validate_update(&service(r#"{"spec":{"clusterIP":"10.43.0.8"}}"#), &old, &mut errors);
        assert_eq!(errors.summary(), r#"spec.clusterIPs[0]: Invalid value: "10.43.0.8": may not change once set"#);
    }

    #[test]
    fn rows_show_ports_and_addresses() {
        let json = r#"{"metadata":{"name":"s"},"spec":{"type":"LoadBalancer","clusterIP":"10.43.0.9","ports":[{"port":80,"nodePort":30080},{"name":"d","port":53,"protocol":"UDP"}],"selector":{"a":"b"}}}"#;
        let row = Services::row(&service(json), Timestamp::UNIX_EPOCH);
        insta::assert_snapshot!(serde_json::to_string(&row).unwrap(), @r#"["s","LoadBalancer","10.43.0.9","<pending>","80:30080/TCP,53/UDP","<unknown>","a=b"]"#);
    }
}
