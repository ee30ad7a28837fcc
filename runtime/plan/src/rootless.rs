//! Checks of a configuration against its caller: what an ordinary user cannot have is refused by its JSON path before
//! anything is made, with what to do about it.

use oci_spec::runtime::{Linux, LinuxNamespaceType as Ns, Process, Spec};

use crate::caller::{Caller, Map};
use crate::init::ranges;
use crate::mount_options::Options;
use crate::spec::{ConfigError, Problems};
use crate::step::IdRange;

/// What is mapped inside a container, and whether groups can be set there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    /// Its uid map; `None` if it is not known beforehand.
    pub uids: Option<Vec<IdRange>>,
    /// Its gid map, likewise.
    pub gids: Option<Vec<IdRange>>,
    /// setgroups(2) is denied there.
    pub setgroups_denied: bool,
}

/// Checks config.json.
pub fn check(spec: &Spec, caller: &Caller) -> Result<(), ConfigError> {
    let mut problems = Problems::default();
    let inside = match user_namespace(spec) {
        UserNs::Same => {
            if !caller.may_mount() {
                problems.add(
                    "linux.namespaces",
                    "rootless container requires user namespaces: add {\"type\": \"user\"}, linux.uidMappings and \
                     linux.gidMappings as `spec --rootless` writes them, or run as root",
                );
            }
            let (uids, gids) = (Some(caller.uid_map.clone()), Some(caller.gid_map.clone()));
            Inside { uids, gids, setgroups_denied: caller.setgroups_denied }
        }
        UserNs::Joined => Inside { setgroups_denied: caller.setgroups_denied, ..Inside::default() },
        UserNs::New(linux) => new_namespace(linux, caller, &mut problems),
    };
    mounts(spec, &inside, caller, &mut problems);
    let devices = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
    if devices.is_some_and(|devices| !devices.is_empty()) && !caller.may_mount() {
        problems.add("linux.netDevices", "an ordinary user cannot take network devices from the host");
    }
    if let Some(process) = spec.process() {
        check_process(process, &inside, &mut problems);
    }
    problems.done()
}

/// Checks one more process.
pub fn check_exec(process: &Process, inside: &Inside) -> Result<(), ConfigError> {
    let mut problems = Problems::default();
    check_process(process, inside, &mut problems);
    problems.done()
}

enum UserNs<'a> {
    Same,
    Joined,
    New(&'a Linux),
}

fn user_namespace(spec: &Spec) -> UserNs<'_> {
    let Some(linux) = spec.linux() else { return UserNs::Same };
    match linux.namespaces().iter().flatten().find(|ns| ns.typ() == Ns::User) {
        None => UserNs::Same,
        Some(ns) if ns.path().as_ref().is_some_and(|path| !path.as_os_str().is_empty()) => UserNs::Joined,
        Some(_) => UserNs::New(linux),
    }
}

fn new_namespace(linux: &Linux, caller: &Caller, problems: &mut Problems) -> Inside {
    let (uids, gids) = (ranges(linux.uid_mappings()), ranges(linux.gid_mappings()));
    for (map, ranges) in [(Map::Uids, &uids), (Map::Gids, &gids)] {
        id_map(map, ranges, caller, problems);
    }
    for (n, ns) in linux.namespaces().iter().flatten().enumerate() {
        if ns.path().as_ref().is_some_and(|path| !path.as_os_str().is_empty()) && !caller.may_mount() {
            let what = "an ordinary user can only join namespaces that belong to a user namespace he joins as well: \
                give the path of that one too, or leave this one's out";
            problems.add(format!("linux.namespaces[{n}].path"), what);
        }
    }
    Inside { setgroups_denied: caller.denies_setgroups(&gids), uids: Some(uids), gids: Some(gids) }
}

fn id_map(map: Map, ranges: &[IdRange], caller: &Caller, problems: &mut Problems) {
    let field = map.field();
    for (n, range) in ranges.iter().enumerate() {
        if !covers(caller.map(map), range.outside, range.count) {
            let last = u64::from(range.outside) + u64::from(range.count) - 1;
            let what = format!("the ids {} to {last} do not all exist in this user namespace", range.outside);
            problems.add(format!("linux.{field}[{n}].hostID"), what);
        }
    }
    if !ranges.is_empty() && !covers(ranges, 0, 1) {
        problems.add(format!("linux.{field}"), "the container's id 0 must be mapped: it is who sets the container up");
    }
    if !caller.may_write(map, ranges) && caller.helper(map).is_none() {
        let (own, helper) = (if map == Map::Uids { caller.uid } else { caller.gid }, map.helper_name());
        let what = format!(
            "an ordinary user can map his own id ({own}, size 1) alone; more takes {helper}, which is not in $PATH: \
             install it (Debian: uidmap, Fedora: shadow-utils)"
        );
        problems.add(format!("linux.{field}"), what);
    }
}

/// Whether all of the ids `first..first + count` exist inside a namespace with these ranges.
fn covers(ranges: &[IdRange], first: u32, count: u32) -> bool {
    let inside = |range: &IdRange| u64::from(range.inside)..u64::from(range.inside) + u64::from(range.count);
    let (mut at, end) = (u64::from(first), u64::from(first) + u64::from(count));
    while at < end {
        let Some(range) = ranges.iter().map(inside).find(|range| range.contains(&at)) else { return false };
        at = range.end;
    }
    true
}

fn unmapped(map: &Option<Vec<IdRange>>, id: u32) -> bool {
    map.as_ref().is_some_and(|ranges| !covers(ranges, id, 1))
}

fn check_process(process: &Process, inside: &Inside, problems: &mut Problems) {
    let user = process.user();
    let mut one = |at: String, id: u32, map: Map, ranges: &Option<Vec<IdRange>>| {
        if unmapped(ranges, id) {
            problems.add(at, format!("{id} is not mapped into the container (linux.{})", map.field()));
        }
    };
    one("process.user.uid".to_owned(), user.uid(), Map::Uids, &inside.uids);
    one("process.user.gid".to_owned(), user.gid(), Map::Gids, &inside.gids);
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    for (n, gid) in groups.iter().enumerate() {
        one(format!("process.user.additionalGids[{n}]"), *gid, Map::Gids, &inside.gids);
    }
    if inside.setgroups_denied && !groups.is_empty() {
        let what = "cannot set any additional groups in a rootless container whose only group is the caller's: map more \
            with newgidmap, or leave them out";
        problems.add("process.user.additionalGids", what);
    }
}

fn mounts(spec: &Spec, inside: &Inside, caller: &Caller, problems: &mut Problems) {
    for (n, mount) in spec.mounts().iter().flatten().enumerate() {
        let given = |maps: &Option<Vec<_>>| maps.as_ref().is_some_and(|maps| !maps.is_empty());
        let options = Options::parse(mount.options().as_deref().unwrap_or_default());
        if !caller.may_mount() && (given(mount.uid_mappings()) || options.idmap.is_some()) {
            problems.add(format!("mounts[{n}]"), "id-mapped mounts are not possible for rootless containers");
        }
        for (o, option) in mount.options().iter().flatten().enumerate() {
            let owner = |key: &str| option.strip_prefix(key).and_then(|id| id.parse().ok());
            let bad = match (owner("uid="), owner("gid=")) {
                (Some(uid), _) if unmapped(&inside.uids, uid) => Map::Uids,
                (_, Some(gid)) if unmapped(&inside.gids, gid) => Map::Gids,
                _ => continue,
            };
            let what = format!("{option} is not mapped into the container (linux.{}): leave it out", bad.field());
            problems.add(format!("mounts[{n}].options[{o}]"), what);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::{Value, json};

    use super::*;

    fn user() -> Caller {
        Caller { uid: 1000, gid: 1000, caps: 0, ..Caller::root() }
    }

    fn config() -> Value {
        let own = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        json!({
            "ociVersion": "1.2.0",
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/"},
            "root": {"path": "rootfs"},
            "mounts": [],
            "linux": {"namespaces": [{"type": "user"}, {"type": "mount"}], "uidMappings": own, "gidMappings": own}
        })
    }

    fn told(config: &Value, caller: &Caller) -> String {
        let (spec, _) = crate::parse_spec(&config.to_string()).unwrap();
        check(&spec, caller).map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn what_spec_writes_is_fine_for_its_caller() {
        assert_eq!(told(&config(), &user()), "fine");
        assert_eq!(told(&config(), &Caller::root()), "fine");
        let mapped = Caller { uid_map: vec![IdRange { inside: 0, outside: 7, count: 1 }], ..Caller::root() };
        assert!(
            told(&config(), &mapped).contains("linux.uidMappings[0].hostID: the ids 1000 to 1000 do not all exist")
        );
    }

    #[test]
    fn refusals_name_the_place_and_the_way_out() {
        let ranges =
            json!([{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 5000, "size": 9}]);
        let high = json!([{"containerID": 5, "hostID": 1000, "size": 1}]);
        let gid5 = json!([{"destination": "/dev/pts", "type": "devpts", "options": ["nosuid", "gid=5"]}]);
        let idmap = json!([{"destination": "/x", "type": "bind", "source": "/", "options": ["bind", "idmap"]}]);
        let joined = json!([{"type": "user"}, {"type": "network", "path": "/proc/1/ns/net"}]);
        let cases = [
            ("/linux/namespaces", json!([{"type": "mount"}]), "linux.namespaces: rootless container requires user"),
            ("/linux/namespaces", joined, "linux.namespaces[1].path: an ordinary user can only join namespaces that"),
            ("/linux/uidMappings", ranges.clone(), "more takes newuidmap, which is not in $PATH: install it"),
            ("/linux/gidMappings", ranges, "more takes newgidmap"),
            ("/linux/uidMappings", high, "linux.uidMappings: the container's id 0 must be mapped"),
            ("/process/user", json!({"uid": 33, "gid": 0}), "process.user.uid: 33 is not mapped"),
            ("/process/user", json!({"uid": 0, "gid": 44}), "process.user.gid: 44 is not mapped"),
            ("/process/user", json!({"uid": 0, "gid": 0, "additionalGids": [0]}), "cannot set any additional groups"),
            ("/mounts", gid5, "mounts[0].options[1]: gid=5 is not mapped into the container (linux.gidMappings)"),
            ("/mounts", idmap, "mounts[0]: id-mapped mounts are not possible"),
        ];
        for (pointer, value, expected) in cases {
            let mut config = config();
            *config.pointer_mut(pointer).unwrap() = value;
            let said = told(&config, &user());
            assert!(said.contains(expected), "{pointer}: {said}");
        }
    }

    #[test]
    fn ids_may_lie_in_neighbouring_ranges() {
        let ranges = [(0, 10), (10, 5), (20, 1)].map(|(inside, count)| IdRange { inside, outside: 0, count });
        let answers =
            [(0, 15), (9, 2), (14, 2), (20, 1), (u32::MAX, 1)].map(|(first, count)| covers(&ranges, first, count));
        assert_eq!(answers, [true, true, false, true, false]);
    }
}
