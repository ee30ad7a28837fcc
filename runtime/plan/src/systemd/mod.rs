//! A container as a unit of systemd: its name and place, the properties it is made with, and what changes of limits
//! mean for them.
//!
//! Owns: deciding. Does not own: talking to systemd, and what it does not know, which is written to files (`cgroup`).
//! Names, defaults and values are runc's, so that whoever looks after containers with systemctl finds the same.

mod annotations;
mod devices;
mod limits;
mod unit;

use pintle_dbus::Value;

use crate::cgroup::Version;

pub use annotations::{AnnotationError, from_annotations};
pub use devices::{Devices, devices};
pub use limits::limits;
pub use unit::{Manager, Unit, UnitError};

/// One property of a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// As org.freedesktop.systemd1(5) has it.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// The first version of systemd that knows it; earlier ones are not told, the limit is in its file anyway.
    pub since: u32,
}

fn property(name: &str, value: Value) -> Property {
    Property { name: name.to_owned(), value, since: 0 }
}

/// A controller that is joined later has missed what was before.
fn accounting(version: Version) -> [&'static str; 4] {
    let io = match version {
        Version::V1 => "BlockIOAccounting",
        Version::V2 => "IOAccounting",
    };
    ["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"]
}

/// What a unit is made with, without its limits and devices. A scope is made around the process `holder`; a slice holds none and
/// cannot be delegated.
pub fn creation(unit: &Unit, holder: u32, version: Version) -> Vec<Property> {
    let mut properties = vec![property("Description", Value::str(format!("pintle container {}", unit.label)))];
    if unit.is_slice() {
        properties.push(property("Wants", Value::strings(&[&unit.slice])));
    } else {
        properties.push(property("Slice", Value::str(&unit.slice)));
        properties.push(property("Delegate", Value::Bool(true)));
        properties.push(property("PIDs", Value::Array("u".to_owned(), vec![Value::U32(holder)])));
    }
    properties.extend(accounting(version).map(|name| property(name, Value::Bool(true))));
    // One whose start failed is forgotten by itself (v236).
    properties.push(property("CollectMode", Value::str("inactive-or-failed")));
    // Containers end when whoever made them says so, not with the targets of a shutdown.
    properties.push(property("DefaultDependencies", Value::Bool(false)));
    properties
}

/// The oldest version of systemd that knows all of them; `None` if any does, so that it need not be asked.
pub fn version_needed(properties: &[Property]) -> Option<u32> {
    properties.iter().map(|property| property.since).max().filter(|since| *since > 0)
}

/// Systemd's number in the Manager's property `Version`: "252.39-1~deb12u1", "v245", "257~rc1".
pub fn version(text: &str) -> Option<u32> {
    let digits = text.trim_start_matches('v');
    digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len())].parse().ok()
}

/// Properties as `a(sv)`, but those that this version does not know.
pub fn encode(properties: &[Property], version: u32) -> Value {
    let known = properties.iter().filter(|property| property.since <= version);
    let pair = |property: &Property| {
        Value::Struct(vec![Value::str(&property.name), Value::Variant(Box::new(property.value.clone()))])
    };
    Value::Array("(sv)".to_owned(), known.map(pair).collect())
}

/// What takes a change of limits back: the old values, and for what had none the value that stands for that.
pub fn undo(old: &[Property], new: &[Property]) -> Vec<Property> {
    let before = |new: &Property| {
        let known = old.iter().rev().find(|old| old.name == new.name).cloned();
        known.unwrap_or_else(|| Property { value: unset(&new.name), ..new.clone() })
    };
    new.iter().map(before).collect()
}

/// systemd.resource-control(5): lists are empty, protections nothing, all else "infinity".
fn unset(name: &str) -> Value {
    match name {
        "AllowedCPUs" | "AllowedMemoryNodes" => Value::bytes(&[]),
        "MemoryLow" | "MemoryMin" => Value::U64(0),
        _ => Value::U64(u64::MAX),
    }
}

#[cfg(test)]
mod tests;
