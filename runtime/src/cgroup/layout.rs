//! Which cgroup hierarchies this host has, by /proc/self/mountinfo and /proc/self/cgroup.

use std::path::{Path, PathBuf};

use crate::error::{Doing as _, Result};
use crate::mountinfo;

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupMount {
    /// Where.
    pub mountpoint: PathBuf,
    /// The part of the hierarchy that is mounted, usually `/`.
    pub root: PathBuf,
    /// v1: controllers, or `name=…`; v2: none.
    pub controllers: Vec<String>,
    /// Our own cgroup in it, as /proc/self/cgroup says.
    pub own_path: PathBuf,
}

impl CgroupMount {
    /// Its name in maps: the controllers, or nothing for v2.
    pub fn key(&self) -> String {
        self.controllers.join(",")
    }

    /// Our own cgroup's directory.
    pub fn own(&self) -> PathBuf {
        self.directory(&self.own_path)
    }

    /// The directory of systemd's root, given the text of /proc/1/cgroup: what it calls "/".
    pub fn systemds_root(&self, of_init: &str) -> PathBuf {
        let own = own_path(of_init, &self.controllers);
        self.directory(own.parent().filter(|_| own.ends_with("init.scope")).unwrap_or(&own))
    }

    /// A cgroup's directory, by its path in the hierarchy.
    fn directory(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        self.mountpoint.join(below.strip_prefix("/").unwrap_or(below))
    }
}

/// The host's hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// v1, perhaps with a v2 beside it that has no controllers: a hybrid host.
    V1 { mounts: Vec<CgroupMount>, beside: Option<CgroupMount> },
    /// v2 alone.
    V2([CgroupMount; 1]),
}

impl Layout {
    /// All hierarchies that limit what containers use.
    pub fn mounts(&self) -> &[CgroupMount] {
        match self {
            Layout::V1 { mounts, .. } => mounts,
            Layout::V2(mount) => mount,
        }
    }

    /// The v2 of a hybrid host.
    pub fn beside(&self) -> Option<&CgroupMount> {
        match self {
            Layout::V1 { beside, .. } => beside.as_ref(),
            Layout::V2(_) => None,
        }
    }

    /// Whether it is v2.
    pub fn is_v2(&self) -> bool {
        matches!(self, Layout::V2(_))
    }
}

/// Looks at this host.
pub fn detect() -> Result<Layout> {
    let mountinfo = crate::text::read("/proc/self/mountinfo").doing(|| "read /proc/self/mountinfo".to_owned())?;
    let own = crate::text::read("/proc/self/cgroup").doing(|| "read /proc/self/cgroup".to_owned())?;
    Ok(parse(&mountinfo, &own))
}

fn parse(mountinfo: &str, own: &str) -> Layout {
    let (mut v1, mut v2) = (Vec::<CgroupMount>::new(), None);
    for found in mountinfo::parse(mountinfo) {
        let mount = |controllers: Vec<String>| CgroupMount {
            mountpoint: found.mountpoint.clone(),
            root: found.root.clone(),
            own_path: own_path(own, &controllers),
            controllers,
        };
        match found.kind {
            "cgroup2" => v2 = v2.or_else(|| Some(mount(Vec::new()))),
            "cgroup" => {
                let hierarchy = mount(controllers(found.options));
                // The first mount of a hierarchy is the host's; later ones are somebody's bind mounts.
                if !v1.iter().any(|known| known.controllers == hierarchy.controllers) {
                    v1.push(hierarchy);
                }
            }
            _ => {}
        }
    }
    match v2 {
        Some(mount) if v1.is_empty() => Layout::V2([mount]),
        beside => Layout::V1 { mounts: v1, beside },
    }
}

fn controllers(options: &str) -> Vec<String> {
    const NOT_CONTROLLERS: [&str; 6] = ["rw", "ro", "xattr", "clone_children", "noprefix", "cpuset_v2_mode"];
    let skip = |option: &&str| !NOT_CONTROLLERS.contains(option) && !option.starts_with("release_agent=");
    options.split(',').filter(skip).map(str::to_owned).collect()
}

/// cgroups(7): `id:controllers:path`, the controllers empty on v2.
fn own_path(own: &str, controllers: &[String]) -> PathBuf {
    let is_ours = |list: &str| match controllers.first() {
        None => list.is_empty(),
        Some(first) => list.split(',').any(|one| one == first),
    };
    let mut path = own.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_id, list, path) = (parts.next()?, parts.next()?, parts.next()?);
        is_ours(list).then(|| PathBuf::from(path))
    });
    path.next_back().unwrap_or_else(|| PathBuf::from("/"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn hybrid_hosts_are_v1_and_pure_ones_v2() {
        let hybrid = "\
30 29 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
31 29 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
32 29 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 29 0:26 /x /other/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
        let own = "2:cpu,cpuacct:/user\n1:name=systemd:/s\n0::/\n";
        let Layout::V1 { mounts, beside } = parse(hybrid, own) else { panic!("hybrid is v1") };
        assert_eq!(mounts.iter().map(CgroupMount::key).collect::<Vec<_>>(), ["cpu,cpuacct", "name=systemd"]);
        assert_eq!(mounts[0].own(), PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/user"));
        assert_eq!(beside.unwrap().systemds_root("0::/init.scope\n"), PathBuf::from("/sys/fs/cgroup/unified/"));
        let pure = "30 29 0:26 /box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let Layout::V2([mount]) = parse(pure, "0::/box/me\n") else { panic!("pure is v2") };
        assert_eq!(mount.own(), PathBuf::from("/sys/fs/cgroup/me"));
        assert_eq!(mount.systemds_root("0::/box/init.scope\n"), PathBuf::from("/sys/fs/cgroup/"));
        assert_eq!(mount.systemds_root("0::/box/user@1.service\n"), PathBuf::from("/sys/fs/cgroup/user@1.service"));
    }
}
