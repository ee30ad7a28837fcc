//! Life cycles through real callers: Debian's Podman, and containerd's `ctr` with its shim for runc. Each is a script that
//! prints `ok` or `not ok` for every step.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::runner::{Runtime, make_bundle};

/// A caller and its script.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// As the report calls it.
    pub name: &'static str,
    /// What it is started with for its version.
    version: [&'static str; 2],
    script: &'static str,
}

/// All of them.
pub const CALLERS: &[Caller] = &[
    Caller {
        name: "Podman",
        version: ["podman", "--version"],
        script: concat!(include_str!("../callers/prelude.sh"), include_str!("../callers/podman.sh")),
    },
    Caller {
        name: "containerd (`ctr`, its shim for runc)",
        version: ["containerd", "--version"],
        script: concat!(include_str!("../callers/prelude.sh"), include_str!("../callers/ctr.sh")),
    },
];

/// What came of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The sentence.
    pub what: String,
    /// What was seen instead, if it does not hold.
    pub seen: Option<String>,
}

impl Caller {
    /// Takes a container through its life with `runtime`. Needs a mount and a network namespace of its own.
    ///
    /// # Errors
    /// When the script cannot be run or says nothing.
    pub fn run(&self, work: &Path, peers: &Path, runtime: &Runtime) -> Result<Vec<Step>> {
        let work = work.join(format!("{}-{}", self.version[0], runtime.name));
        make_bundle(&work)?;
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(self.script).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        shell.env("HOME", &work).env("B", &work).env("PEERS", peers).env("RT", &runtime.program);
        let output = shell.stdin(Stdio::null()).output().context("start /bin/sh")?;
        let steps = parse(&String::from_utf8_lossy(&output.stdout));
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(!steps.is_empty(), "the script of {} took no step: {errors}", self.name);
        Ok(steps)
    }

    /// Its first line of `--version`.
    ///
    /// # Errors
    /// When it is not there.
    pub fn version(&self, peers: &Path) -> Result<String> {
        let [program, flag] = self.version;
        let path = peers.join("usr/bin").join(program);
        let mut command = Command::new(&path);
        command.arg(flag).env("LD_LIBRARY_PATH", peers.join("usr/lib/x86_64-linux-gnu"));
        let output = command.output().with_context(|| format!("run {}", path.display()))?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
    }
}

fn parse(text: &str) -> Vec<Step> {
    let step = |line: &str| match (line.strip_prefix("ok "), line.strip_prefix("not ok ")) {
        (Some(what), _) => Some(Step { what: what.to_owned(), seen: None }),
        (None, Some(rest)) => {
            let (what, seen) = rest.split_once(": ").unwrap_or((rest, ""));
            Some(Step { what: what.to_owned(), seen: Some(seen.trim().to_owned()) })
        }
        (None, None) => None,
    };
    text.lines().filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_script_become_steps() {
        let steps = parse("ok create\nnoise\nnot ok start: it is: broken \n");
        let step = |what: &str, seen: Option<&str>| Step { what: what.to_owned(), seen: seen.map(str::to_owned) };
        assert_eq!(steps, [step("create", None), step("start", Some("it is: broken"))]);
    }
}
