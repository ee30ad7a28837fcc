//! Device rules as properties of a unit. On cgroup v1 systemd keeps the list of devices, and writes what it knows of it at
//! each daemon-reload and each change of a property: rules that it was not told would be gone.

use oci_spec::runtime::LinuxDeviceCgroup;
use pintle_dbus::Value;

use super::{Property, property};
use crate::cgroup::ResourceError;
use crate::cgroup::device_list::{Allowed, Exceptions};
use crate::cgroup::devices::{Rule, letters, line};

/// What a unit is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Devices {
    /// DevicePolicy and DeviceAllow.
    pub properties: Vec<Property>,
    /// Rules that systemd has no words for, as devices.allow and devices.deny take them: in force until it writes its list.
    pub untold: Vec<String>,
}

/// The properties for the rules of config.json and those that every container has. Systemd knows lists of allowed devices:
/// of a container that may use all but some it is told that it may use none, as that errs on the safe side.
pub fn devices(user: &[LinuxDeviceCgroup]) -> Result<Devices, ResourceError> {
    Ok(match Allowed::by(user)? {
        Allowed::AllBut(denied) if denied.is_empty() => {
            Devices { properties: told("auto", Vec::new()), untold: Vec::new() }
        }
        Allowed::AllBut(denied) => {
            let untold = rules(&denied, false).map(|rule| format!("deny {}", line(&rule))).collect();
            Devices { properties: told("strict", Vec::new()), untold }
        }
        Allowed::Only(allowed) => {
            let (known, unknown): (Vec<Rule>, Vec<Rule>) = rules(&allowed, true).partition(|rule| node(rule).is_some());
            let pairs = known.iter().filter_map(|rule| Some((node(rule)?, letters(rule.access)))).collect();
            let untold = unknown.iter().map(|rule| format!("allow {}", line(rule))).collect();
            Devices { properties: told("strict", pairs), untold }
        }
    })
}

fn rules(exceptions: &Exceptions, allow: bool) -> impl Iterator<Item = Rule> {
    let rule = move |((kind, major, minor), access): (&(char, Option<u32>, Option<u32>), &u32)| Rule {
        allow,
        kind: *kind,
        major: *major,
        minor: *minor,
        access: *access,
    };
    exceptions.iter().map(rule)
}

fn told(policy: &str, allow: Vec<(String, String)>) -> Vec<Property> {
    let pair = |(node, access)| Value::Struct(vec![Value::Str(node), Value::Str(access)]);
    let allow = Value::Array("(ss)".to_owned(), allow.into_iter().map(pair).collect());
    vec![property("DevicePolicy", Value::str(policy)), property("DeviceAllow", allow)]
}

/// How systemd.resource-control(5) names devices: a node, all of a major number, or all. One minor number of any major
/// it cannot name.
fn node(rule: &Rule) -> Option<String> {
    let kind = if rule.kind == 'b' { "block" } else { "char" };
    match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
        (Some(major), None) => Some(format!("{kind}-{major}")),
        (None, None) => Some(format!("{kind}-*")),
        (None, Some(_)) => None,
    }
}
