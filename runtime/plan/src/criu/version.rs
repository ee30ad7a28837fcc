//! What a version of CRIU can do.

use std::fmt;

/// Major, minor and sublevel as one number: 31701 for 3.17.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(i32);

/// Abilities that came with a version (criu.org, Releases).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The version can be asked for.
    Anything,
    /// Network namespaces by path.
    ExternalNet,
    /// The freezer of cgroup v2.
    FreezerV2,
    /// Pid namespaces by path.
    ExternalPid,
    /// The caller is told when lazy pages can be asked for.
    StatusReady,
    /// Other LSM profiles.
    Lsm,
}

impl Needs {
    fn since(self) -> (Version, &'static str) {
        let (number, what) = match self {
            Needs::Anything => (30_000, "checkpoint and restore"),
            Needs::ExternalNet => (31_100, "a network namespace given by path"),
            Needs::FreezerV2 => (31_400, "the freezer of cgroup v2"),
            Needs::ExternalPid => (31_500, "a pid namespace given by path"),
            Needs::StatusReady => (31_500, "word of lazy pages"),
            Needs::Lsm => (31_600, "--lsm-profile and --lsm-mount-context"),
        };
        (Version(number), what)
    }
}

/// This CRIU cannot do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} needs CRIU {least} or newer, this is {found}")]
pub struct TooOld {
    what: &'static str,
    least: Version,
    found: Version,
}

impl Version {
    /// From CRIU's answer. One that was built between two versions has what the next one has.
    pub fn from_answer(answer: &pintle_criu::Version) -> Version {
        let part = |number: i32| number.clamp(0, 99);
        let whole = part(answer.major) * 10_000 + part(answer.minor) * 100;
        Version(if answer.git_id.is_some() { whole + 100 } else { whole + part(answer.sublevel.unwrap_or(0)) })
    }

    /// Whether it can do this.
    pub fn has(self, needs: Needs) -> bool {
        self >= needs.since().0
    }

    /// # Errors
    /// If it cannot.
    pub fn require(self, needs: Needs) -> Result<(), TooOld> {
        let (least, what) = needs.since();
        if self >= least { Ok(()) } else { Err(TooOld { what, least, found: self }) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10_000, self.0 / 100 % 100)?;
        if self.0 % 100 == 0 { Ok(()) } else { write!(f, ".{}", self.0 % 100) }
    }
}
