//! Cluster IPs and node ports of Services. What is taken is what the stored Services say, so nothing can leak: writes
//! of Services take turns, and each looks at all the others.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use pintle_api::field::{FieldErrors, Path};
use pintle_api::status::{self, About};
use pintle_control_plan::registry::{self, DynKind};
use pintle_control_plan::service_ranges::ServiceRanges;
use pintle_store::{Entry, List, Store};
use serde::Deserialize;

use super::{Plugin, Review};
use crate::serve::answer::Failure;
use crate::serve::object;

pub(super) struct ServiceAddresses;

impl Plugin for ServiceAddresses {
    fn name(&self) -> &'static str {
        "ServiceAddresses"
    }

    fn serializes(&self, kind: &dyn DynKind) -> bool {
        kind.group().is_empty() && kind.plural() == "services"
    }

    fn admit(&self, review: &mut Review<'_>) -> Result<(), Failure> {
        if !review.is("", "services") {
            return Ok(());
        }
        let taken = taken(review)?;
        let old = review.old.and_then(|old| old.downcast_ref::<Service>()).and_then(|old| old.spec.clone());
        let name = review.name.to_owned();
        let Some(service) = review.object.as_mut().and_then(|object| object.downcast_mut::<Service>()) else {
            return Ok(());
        };
        let spec = service.spec.get_or_insert_default();
        let mut errors = FieldErrors::new();
        let mut random = |bound| rand::random_range(0..bound);
        Allocation { ranges: &review.api.ranges, taken: &taken, random: &mut random }.assign(
            spec,
            old.as_ref(),
            &mut errors,
        );
        if errors.is_empty() {
            return Ok(());
        }
        Err(status::invalid(About::new("", "Service", &name), &errors).into())
    }
}

/// What other Services have.
#[derive(Debug, Default)]
struct Taken {
    addresses: HashSet<String>,
    ports: HashSet<i32>,
}

#[derive(Deserialize)]
struct Peek {
    #[serde(default)]
    spec: PeekSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PeekSpec {
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    ports: Vec<PeekPort>,
    health_check_node_port: i32,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PeekPort {
    node_port: i32,
}

/// Every stored Service's key and what it holds.
fn services(store: &dyn Store) -> Result<Vec<(Arc<str>, PeekSpec)>, Failure> {
    let Some(kind) = registry::by_kind("v1", "Service") else { return Ok(Vec::new()) };
    let page = store.list(&List::all(&object::prefix(kind, ""))).map_err(status::internal_error)?;
    let read = |entry: &Entry| -> Result<_, Failure> {
        let found: Peek = serde_json::from_slice(&entry.bytes).map_err(status::internal_error)?;
        Ok((entry.key.clone(), found.spec))
    };
    page.entries.iter().map(read).collect()
}

fn taken(review: &Review<'_>) -> Result<Taken, Failure> {
    let mut taken = Taken::default();
    let own = object::key(review.call.kind, &review.call.path.namespace, review.name);
    for (_, spec) in services(&*review.api.store)?.into_iter().filter(|(key, _)| *key != own) {
        taken.ports.extend(spec.ports.iter().map(|port| port.node_port));
        taken.ports.insert(spec.health_check_node_port);
        taken.addresses.extend(spec.cluster_ips);
    }
    Ok(taken)
}

/// What stored Services hold that lies outside the ranges: `default/web 10.43.0.9`, `default/web port 30080`. They
/// date from a start with other ranges.
///
/// # Errors
/// A store or a Service that cannot be read.
pub(crate) fn misfits(store: &dyn Store, ranges: &ServiceRanges) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for (key, spec) in services(store)? {
        let name: Vec<&str> = key.rsplitn(3, '/').take(2).collect();
        let name =
            format!("{}/{}", name.last().copied().unwrap_or_default(), name.first().copied().unwrap_or_default());
        let addresses = spec.cluster_ips.iter().filter(|ip| !matches!(ip.as_str(), "" | "None"));
        let outside = addresses.filter(|ip| !ip.parse().is_ok_and(|ip| ranges.holds_address(ip)));
        found.extend(outside.map(|ip| format!("{name} {ip}")));
        let ports = spec.ports.iter().map(|port| port.node_port).chain([spec.health_check_node_port]);
        let outside = ports.filter(|port| *port != 0 && !ranges.holds_port(*port));
        found.extend(outside.map(|port| format!("{name} port {port}")));
    }
    Ok(found)
}

/// What one decision is made from. `random` answers a number below its argument.
struct Allocation<'a> {
    ranges: &'a ServiceRanges,
    taken: &'a Taken,
    random: &'a mut dyn FnMut(u32) -> u32,
}

impl Allocation<'_> {
    /// Gives a Service what it needs and does not have.
    fn assign(&mut self, spec: &mut ServiceSpec, old: Option<&ServiceSpec>, errors: &mut FieldErrors) {
        let kind = spec.type_.clone().unwrap_or_else(|| "ClusterIP".to_owned());
        if kind == "ExternalName" {
            return;
        }
        self.assign_address(spec, old, errors);
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
            self.assign_ports(spec, old, errors);
        }
    }

    fn assign_address(&mut self, spec: &mut ServiceSpec, old: Option<&ServiceSpec>, errors: &mut FieldErrors) {
        let given = |address: &Option<String>| address.clone().filter(|address| !address.is_empty());
        let first = spec.cluster_ips.as_ref().and_then(|all| all.first().cloned());
        let asked = given(&spec.cluster_ip).or_else(|| given(&first));
        // What it had, it keeps, without having to repeat it.
        let asked = asked.or_else(|| old.and_then(|old| given(&old.cluster_ip)));
        let address = match asked {
            Some(asked) if asked == "None" || old.is_some_and(|old| old.cluster_ip.as_ref() == Some(&asked)) => asked,
            Some(asked) => {
                if let Some(why) = self.unusable(&asked) {
                    let path = Path::new("spec").child("clusterIPs");
                    errors.invalid(&path, serde_json::json!([asked]), format!("failed to allocate IP {asked}: {why}"));
                    return;
                }
                asked
            }
            None => match self.free_address() {
                Some(address) => address,
                None => {
                    let path = Path::new("spec").child("clusterIP");
                    errors.invalid(&path, "", "failed to allocate a serviceIP: range is full");
                    return;
                }
            },
        };
        spec.cluster_ips = Some(vec![address.clone()]);
        spec.cluster_ip = Some(address);
        spec.ip_families.get_or_insert_with(|| vec!["IPv4".to_owned()]);
        spec.ip_family_policy.get_or_insert_with(|| "SingleStack".to_owned());
    }

    fn unusable(&self, address: &str) -> Option<String> {
        let Ok(parsed) = address.parse::<Ipv4Addr>() else { return Some("it is not an IPv4 address".to_owned()) };
        if !self.ranges.holds_address(parsed) {
            let range = self.ranges.cidr();
            return Some(format!("the provided IP is not in the valid range. The range of valid IPs is {range}"));
        }
        self.taken.addresses.contains(address).then(|| "provided IP is already allocated".to_owned())
    }

    fn free_address(&mut self) -> Option<String> {
        let mut order = self.ranges.addresses_to_try(self.random).map(|address| address.to_string());
        order.find(|address| !self.taken.addresses.contains(address))
    }

    fn assign_ports(&mut self, spec: &mut ServiceSpec, old: Option<&ServiceSpec>, errors: &mut FieldErrors) {
        let mut used = self.taken.ports.clone();
        let ports = spec.ports.get_or_insert_default();
        let had = |name: &Option<String>, port: i32| {
            let olds = old.into_iter().flat_map(|old| old.ports.iter().flatten());
            let mut olds = olds.filter(|old| old.port == port && old.name == *name);
            olds.find_map(|old| old.node_port).filter(|port| *port != 0)
        };
        for (index, port) in ports.iter_mut().enumerate() {
            let path = Path::new("spec").child("ports").index(index).child("nodePort");
            let asked = port.node_port.filter(|port| *port != 0).or_else(|| had(&port.name, port.port));
            match asked {
                Some(asked) if !self.ranges.holds_port(asked) => {
                    let range = self.ranges.node_ports();
                    let why = format!("provided port is not in the valid range. The range of valid ports is {range}");
                    errors.invalid(&path, asked, why);
                }
                // One port may be given twice within a Service, for TCP and UDP.
                Some(asked) if self.taken.ports.contains(&asked) => {
                    errors.invalid(&path, asked, "provided port is already allocated");
                }
                Some(asked) => {
                    used.insert(asked);
                    port.node_port = Some(asked);
                }
                None => {}
            }
        }
        for (index, port) in ports.iter_mut().enumerate().filter(|(_, port)| port.node_port.unwrap_or(0) == 0) {
            match self.ranges.ports_to_try(self.random).find(|port| !used.contains(port)) {
                Some(free) => {
                    used.insert(free);
                    port.node_port = Some(free);
                }
                None => {
                    let path = Path::new("spec").child("ports").index(index).child("nodePort");
                    errors.invalid(&path, 0, "failed to allocate a nodePort: range is full");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::{Value, json};

    fn taken() -> Taken {
        Taken { addresses: HashSet::from(["10.43.0.2".to_owned()]), ports: HashSet::from([30_000]) }
    }

    /// The spec after assigning, or what is wrong; randomness always says 0.
    fn assigned(spec: Value, old: Option<Value>) -> String {
        let mut spec: ServiceSpec = serde_json::from_value(spec).unwrap();
        let old: Option<ServiceSpec> = old.map(|old| serde_json::from_value(old).unwrap());
        let mut errors = FieldErrors::new();
        let (ranges, taken) = (ServiceRanges::default(), taken());
        let mut allocation = Allocation { ranges: &ranges, taken: &taken, random: &mut |_| 0 };
        allocation.assign(&mut spec, old.as_ref(), &mut errors);
        if !errors.is_empty() {
            return errors.summary();
        }
        let ports: Vec<_> = spec.ports.iter().flatten().map(|port| port.node_port.unwrap_or(0)).collect();
        format!("{:?} {:?} {ports:?}", spec.cluster_ip.unwrap_or_default(), spec.cluster_ips.unwrap_or_default())
    }

    #[test]
    fn services_get_what_they_need_and_keep_what_they_have() {
        let node_port = json!({"type": "NodePort", "ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]});
        let lines = [
            assigned(json!({"ports": [{"port": 80}]}), None),
            assigned(json!({"clusterIP": "None"}), None),
            assigned(json!({"clusterIP": "10.43.7.7"}), None),
            assigned(json!({"clusterIP": "10.43.0.2"}), None),
            assigned(json!({"clusterIP": "10.44.0.2"}), None),
            assigned(json!({"type": "ExternalName", "externalName": "x"}), None),
            assigned(node_port.clone(), None),
            assigned(
                node_port,
                Some(json!({"clusterIP": "10.43.9.9",
                "ports": [{"port": 81, "name": "b", "nodePort": 31000}]})),
            ),
            assigned(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30000}]}), None),
            assigned(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}), None),
        ];
        insta::assert_snapshot!(lines.join("\n"), @r#"
        "10.43.1.1" ["10.43.1.1"] [0]
        "None" ["None"] []
        "10.43.7.7" ["10.43.7.7"] []
        spec.clusterIPs: Invalid value: ["10.43.0.2"]: failed to allocate IP 10.43.0.2: provided IP is already allocated
        spec.clusterIPs: Invalid value: ["10.44.0.2"]: failed to allocate IP 10.44.0.2: the provided IP is not in the valid range. The range of valid IPs is 10.43.0.0/16
        "" [] []
        "10.43.1.1" ["10.43.1.1"] [30086, 30087]
        "10.43.9.9" ["10.43.9.9"] [30086, 31000]
        spec.ports[0].nodePort: Invalid value: 30000: provided port is already allocated
        spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767
        "#);
    }
}
