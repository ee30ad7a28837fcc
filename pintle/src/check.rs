//! What a machine must have, and what it should have. One file per subject, all in [`CHECKS`].
//!
//! A check looks and says; it changes nothing. A check that cannot look says so: it never takes that for "missing".

mod kernel;
mod limits;
mod network;
mod rights;
pub mod space;

use crate::flags::Dirs;

/// What the checks are about.
#[derive(Debug)]
pub struct Context {
    /// The directories that will be used.
    pub dirs: Dirs,
    /// Whether the machine's own network will be used.
    pub host_network: bool,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// As it should be.
    Good(String),
    /// It works without, at a price.
    Costs {
        /// What is missing.
        what: String,
        /// The price.
        cost: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// It does not work without.
    Missing {
        /// What is missing.
        what: String,
        /// What to do.
        hint: &'static str,
    },
}

/// One check.
pub struct Check {
    /// Its name in the table.
    pub name: &'static str,
    /// Looks.
    pub look: fn(&Context) -> Finding,
}

/// All checks, the most fundamental first.
pub const CHECKS: &[Check] = &[
    Check { name: "root", look: rights::root },
    Check { name: "capabilities", look: rights::capabilities },
    Check { name: "CAP_SYS_RESOURCE", look: rights::sys_resource },
    Check { name: "kernel version", look: kernel::version },
    Check { name: "namespaces", look: kernel::namespaces },
    Check { name: "overlayfs", look: kernel::overlayfs },
    Check { name: "cgroups", look: kernel::cgroups },
    Check { name: "nf_tables", look: network::nf_tables },
    Check { name: "connect time", look: network::connect_time },
    Check { name: "veth", look: network::veth },
    Check { name: "ports", look: network::ports },
    Check { name: "inotify", look: limits::inotify },
    Check { name: "pids", look: limits::pids },
    Check { name: "disk", look: space::disk },
    Check { name: "pintle-runc", look: space::runtime },
];

/// Runs all of them.
pub fn all(context: &Context) -> impl Iterator<Item = (&'static Check, Finding)> {
    CHECKS.iter().map(move |check| (check, (check.look)(context)))
}

/// The first thing that is missing and needed; also logs what costs something, once.
pub fn first_missing(context: &Context) -> Option<(String, &'static str)> {
    let mut missing = None;
    for (check, finding) in all(context) {
        match finding {
            Finding::Good(_) => {}
            Finding::Costs { what, cost, .. } => tracing::warn!(check = check.name, what, cost, "going on without"),
            Finding::Missing { what, hint } => {
                missing.get_or_insert((format!("{}: {what}", check.name), hint));
            }
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_check_gives_an_answer() {
        let dirs = Dirs { state_dir: "/tmp".into(), run_dir: "/tmp".into() };
        let context = Context { dirs, host_network: false };
        let names: std::collections::BTreeSet<_> = CHECKS.iter().map(|c| c.name).collect();
        assert_eq!(names.len(), CHECKS.len());
        assert_eq!(all(&context).count(), CHECKS.len());
    }
}
