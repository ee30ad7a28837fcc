//! Every field of config.json is either honoured, refused by its path, or listed here with the reason why a plan does
//! not depend on it. Shown by taking each field away and looking whether anything that is decided changes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "host/mod.rs"]
mod host;

use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Spec};
use pintle_runtime_plan::{Caller, CgroupJoin, ExecRequest, cgroup, parse_spec, plan_exec, plan_init, rdt, validate};
use serde_json::Value;

use host::host;

const FULL: &str = include_str!("full.json");

/// Fields on which no plan depends, and who honours them.
const ELSEWHERE: &[(&str, &str)] = &[
    ("annotations.org.example", "state, list and the hooks' stdin show it"),
    ("linux.cgroupsPath", "resolved against the hierarchies by the runtime, handed in as Host::join"),
    ("hooks.poststart", "planned by convert_hooks when start runs"),
    ("hooks.poststop", "planned by convert_hooks when delete runs"),
    ("linux.seccomp.listenerMetadata", "sent to the listener by the runtime"),
    ("linux.resources.memory.kernel", "NOT RECOMMENDED by the specification; the kernel dropped it, runc ignores it"),
    ("linux.resources.memory.useHierarchy", "always on in every kernel that is supported"),
    ("linux.resources.memory.checkBeforeUpdate", "used by update only"),
];

/// All that is decided from a configuration, as text.
fn decided(config: &Value) -> String {
    let spec = match parse_spec(&config.to_string()) {
        Ok((spec, _)) => spec,
        Err(error) => return error.to_string(),
    };
    let checked = validate(&spec);
    let mut without_user_namespace = spec.clone();
    if let Some(linux) = without_user_namespace.linux_mut() {
        let namespaces = linux.namespaces().iter().flatten().filter(|ns| ns.typ() != LinuxNamespaceType::User).cloned();
        linux.set_namespaces(Some(namespaces.collect()));
    }
    let plans = [&spec, &without_user_namespace].map(|spec| plan_init(spec, &host()));
    format!("{checked:?} {plans:#?} {:#?} {:#?}", exec(&spec), groups(&spec))
}

/// The groups of resctrl on machines that lack one thing each.
fn groups(spec: &Spec) -> Vec<Result<rdt::Plan, rdt::Refused>> {
    let Some(asked) = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref()) else { return Vec::new() };
    let offers = |l3, mb, counters: &[&str]| rdt::Offers {
        l3,
        mb,
        monitoring: Some(counters.iter().map(|name| (*name).to_owned()).collect()),
    };
    let (cache, bandwidth) = ("llc_occupancy", "mbm_total_bytes");
    let machines =
        [offers(true, true, &[cache, bandwidth]), offers(true, true, &[cache]), offers(true, true, &[bandwidth])];
    machines.iter().map(|machine| rdt::plan(asked, "c", machine, None)).collect()
}

/// What becomes of the limits around one field, alone: some exclude each other, some are for one version of cgroups.
fn limits(config: &Value, pointer: &str) -> String {
    let mut path = pointer.split('/').skip(3);
    let (Some(section), field) = (path.next().filter(|_| pointer.starts_with("/linux/resources/")), path.next()) else {
        return String::new();
    };
    let whole = &config["linux"]["resources"][section];
    let alone = match field {
        Some(field) if whole.is_object() => serde_json::json!({section: {field: whole[field]}}),
        _ => serde_json::json!({section: whole}),
    };
    let Ok(resources) = serde_json::from_value::<LinuxResources>(alone) else { return String::new() };
    let rules = cgroup::devices::rules(resources.devices().as_deref().unwrap_or_default());
    format!("{:#?} {:#?} {rules:#?}", cgroup::plan_v1(&resources), cgroup::plan_v2(&resources))
}

fn exec(spec: &Spec) -> pintle_runtime_plan::InitPlan {
    let process = spec.process().clone().unwrap_or_default();
    plan_exec(&ExecRequest {
        process: &process,
        linux: spec.linux().as_ref(),
        join: 0,
        cgroup: CgroupJoin::None,
        moved: false,
        pid_ns: None,
        user_ns: None,
        chroot: None,
        caller: &Caller::root(),
        preserve_fds: 0,
        listen_fds: 0,
        stdio_passed: false,
        home: None,
        no_new_keyring: true,
        id: "c",
    })
}

/// Every leaf as a JSON pointer, with the path people read.
fn leaves(value: &Value, pointer: &str, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, inner) in map {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                let dot = if path.is_empty() { "" } else { "." };
                leaves(inner, &format!("{pointer}/{escaped}"), &format!("{path}{dot}{key}"), found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (n, inner) in items.iter().enumerate() {
                leaves(inner, &format!("{pointer}/{n}"), &format!("{path}[{n}]"), found);
            }
        }
        _ => found.push((pointer.to_owned(), path.to_owned())),
    }
}

fn without(config: &Value, pointer: &str) -> Value {
    let mut changed = config.clone();
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    match changed.pointer_mut(parent).unwrap() {
        Value::Object(map) => drop(map.remove(&last.replace("~1", "/").replace("~0", "~"))),
        Value::Array(items) => drop(items.remove(last.parse().unwrap())),
        _ => unreachable!("only these have members"),
    }
    changed
}

#[test]
fn every_field_of_the_specification_counts_or_is_accounted_for() {
    let config: Value = serde_json::from_str(FULL).unwrap();
    let whole = decided(&config);
    let (spec, _) = parse_spec(FULL).unwrap();
    validate(&spec).unwrap();
    let mut found = Vec::new();
    leaves(&config, "", "", &mut found);
    assert!(found.len() > 150, "the configuration has {} fields", found.len());
    let (mut silent, mut stale) = (Vec::new(), Vec::new());
    for (pointer, path) in found {
        let less = without(&config, &pointer);
        let required = parse_spec(&less.to_string()).is_err();
        let counts = required || decided(&less) != whole || limits(&config, &pointer) != limits(&less, &pointer);
        let elsewhere = ELSEWHERE
            .iter()
            .any(|(of, _)| path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])));
        if !counts && !elsewhere {
            silent.push(path);
        } else if counts && elsewhere && !required {
            stale.push(path);
        }
    }
    assert!(silent.is_empty(), "silently not honoured: {silent:?}");
    assert!(stale.is_empty(), "honoured by the plan now, take them off the list: {stale:?}");
}

/// A field that full.json lacks would go unnoticed above: it has all that the schema crate knows of Linux.
#[test]
fn the_full_configuration_has_every_field_of_the_schema() {
    let (spec, _) = parse_spec(FULL).unwrap();
    let debug = format!("{spec:?}");
    let fields = debug.split([',', '{', '}', '(', ')', '[', ']']).map(str::trim);
    let mut missing: Vec<&str> = fields.filter_map(|field| field.strip_suffix(": None")).collect();
    missing.sort_unstable();
    missing.dedup();
    // Other platforms' fields, those that one entry of a list has and another has not,
    // and leaf weights (refused).
    let known = [
        "args",
        "command_line",
        "errno_ret",
        "flags",
        "gid_mappings",
        "leaf_weight",
        "options",
        "path",
        "solaris",
        "typ",
        "uid_mappings",
        "username",
        "vm",
        "windows",
        "zos",
    ];
    assert_eq!(missing, known);
}

/// A misspelled key would be ignored, as the specification demands, and prove nothing either.
#[test]
fn every_key_of_the_full_configuration_is_one_of_the_schema() {
    let config: Value = serde_json::from_str(FULL).unwrap();
    let again = serde_json::to_value(parse_spec(FULL).unwrap().0).unwrap();
    let mut found = Vec::new();
    leaves(&config, "", "", &mut found);
    let lost: Vec<String> =
        found.into_iter().filter(|(at, _)| again.pointer(at).is_none()).map(|(_, path)| path).collect();
    // The schema crate's own spelling differs; they are respelled before it reads them.
    assert_eq!(lost, ["linux.intelRdt.enableCMT", "linux.intelRdt.enableMBM"]);
}
