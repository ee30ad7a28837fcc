//! Who we are: what planning for ordinary users and for user namespaces must know.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use nix::unistd::{getegid, geteuid};
use pintle_runtime_plan::Caller;
use pintle_runtime_plan::step::IdRange;

use crate::error::{Doing as _, Result};

/// Looks at ourselves.
pub fn observe() -> Result<Caller> {
    let caps = pintle_sys::cred::caps().doing(|| "read own capabilities".to_owned())?.permitted;
    let first = Caller { uid: geteuid().as_raw(), gid: getegid().as_raw(), caps, ..Caller::root() };
    let caller = Caller { uid_map: map("uid_map")?, ..first };
    // The initial user namespace maps everybody in both maps, and denies nothing.
    let caller = if caller.in_user_namespace() {
        Caller { gid_map: map("gid_map")?, setgroups_denied: denies_setgroups("self"), ..caller }
    } else {
        caller
    };
    Ok(match caller.may_mount() {
        true => caller,
        false => Caller { newuidmap: find("newuidmap"), newgidmap: find("newgidmap"), ..caller },
    })
}

fn map(file: &str) -> Result<Vec<IdRange>> {
    let text = crate::text::read(format!("/proc/self/{file}")).doing(|| format!("read /proc/self/{file}"))?;
    Ok(parse(&text))
}

/// The lines of uid_map and gid_map (user_namespaces(7)).
pub fn parse(text: &str) -> Vec<IdRange> {
    let range = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(IdRange { inside: next()?, outside: next()?, count: next()? })
    };
    text.lines().filter_map(range).collect()
}

/// Whether the user namespace of a process (a pid, or `self`) denies setgroups(2).
pub fn denies_setgroups(process: &str) -> bool {
    crate::text::read(format!("/proc/{process}/setgroups")).is_ok_and(|text| text.starts_with("deny"))
}

/// A program in $PATH. Relative directories are not looked at: what runs would depend on where we stand.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let executable = |file: &PathBuf| {
        file.is_absolute() && file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(executable)
}
