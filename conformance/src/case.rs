//! A case: one sentence that must hold of every OCI runtime, and how to see whether it does.
//!
//! Cases are data, in `cases/*.yaml`. Owns: their form and what they share. Does not own: running them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

/// Where a sentence comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The runtime specification demands it.
    Must,
    /// The runtime specification recommends it.
    Should,
    /// Programs that call runc rely on it.
    Caller,
}

/// Which hosts a case means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Only {
    /// cgroup v1 controllers.
    V1,
    /// cgroup v2 alone.
    V2,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Unique, in kebab case.
    pub name: String,
    /// Document and section, or the caller's name.
    pub spec: String,
    /// How binding it is.
    pub level: Level,
    /// The sentence, in our words.
    pub says: String,
    /// Merged (RFC 7396) into the base configuration.
    #[serde(default)]
    pub config: Value,
    /// Further mounts.
    #[serde(default)]
    pub mounts: Vec<Value>,
    /// Further namespaces.
    #[serde(default)]
    pub namespaces: Vec<Value>,
    /// Namespaces of the base configuration to leave out.
    #[serde(default)]
    pub without: Vec<String>,
    /// Shell on the host, in the bundle, before anything else.
    #[serde(default)]
    pub prepare: String,
    /// Shell in the container, unless `config` names a program.
    pub run: Option<String>,
    /// Shell on the host, in the bundle; by default one `run`.
    pub script: Option<String>,
    /// Lines of standard output; `*` stands for anything.
    pub out: Option<String>,
    /// What standard error must contain.
    #[serde(default)]
    pub err: Vec<String>,
    /// The script's exit code.
    #[serde(default)]
    pub rc: i32,
    /// Hosts it is about.
    pub only: Option<Only>,
    /// Runtime → why it is known to differ. For pintle that makes the difference expected: the day it goes, this fails.
    #[serde(default)]
    pub notes: BTreeMap<String, String>,
}

const FILES: &[(&str, &str)] = &[
    ("Lifecycle", include_str!("../cases/lifecycle.yaml")),
    ("Process", include_str!("../cases/process.yaml")),
    ("Mounts and root", include_str!("../cases/mounts.yaml")),
    ("Linux", include_str!("../cases/linux.yaml")),
    ("Control groups", include_str!("../cases/cgroups.yaml")),
    ("Seccomp", include_str!("../cases/seccomp.yaml")),
    ("Hooks", include_str!("../cases/hooks.yaml")),
    ("Command line", include_str!("../cases/cli.yaml")),
    ("Refusals", include_str!("../cases/refusals.yaml")),
];

/// All cases, by section.
///
/// # Errors
/// When a file does not parse or a name occurs twice.
pub fn all() -> Result<Vec<(&'static str, Vec<Case>)>> {
    let mut names = BTreeSet::new();
    let mut sections = Vec::new();
    for (section, text) in FILES {
        let cases: Vec<Case> = serde_yaml_ng::from_str(text).with_context(|| format!("cases of section {section}"))?;
        for case in &cases {
            ensure!(names.insert(case.name.clone()), "two cases are called {}", case.name);
        }
        sections.push((*section, cases));
    }
    Ok(sections)
}

impl Case {
    /// The bundle's config.json; `{cgroup}` and `{bundle}` are filled in.
    pub fn configuration(&self, cgroup: &str, bundle: &str) -> String {
        let mut config = base();
        if let Some(script) = &self.run {
            config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        }
        if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
            namespaces.retain(|ns| !self.without.iter().any(|kind| ns["type"] == json!(kind)));
            namespaces.extend(self.namespaces.iter().cloned());
        }
        if let Some(mounts) = config["mounts"].as_array_mut() {
            mounts.extend(self.mounts.iter().cloned());
        }
        if !self.config.is_null() {
            json_patch::merge(&mut config, &self.config);
        }
        config.to_string().replace("{cgroup}", cgroup).replace("{bundle}", bundle)
    }

    /// What differs between what a runtime did and what the case says; nothing if it holds.
    pub fn differences(&self, rc: i32, out: &str, err: &str) -> Vec<String> {
        let mut found = Vec::new();
        if rc != self.rc {
            found.push(format!("exit code {rc}, not {}: {}", self.rc, last_line(err)));
        }
        if let Some(expected) = &self.out {
            let expected: Vec<&str> = expected.lines().collect();
            let got: Vec<&str> = out.lines().collect();
            let pairs = expected.len().max(got.len());
            let line = |lines: &[&str], at: usize| lines.get(at).map_or("(nothing)".to_owned(), |l| format!("`{l}`"));
            found.extend((0..pairs).find_map(|at| match (expected.get(at), got.get(at)) {
                (Some(pattern), Some(text)) if matches(pattern, text) => None,
                _ => Some(format!("{} instead of {}", line(&got, at), line(&expected, at))),
            }));
        }
        found.extend(
            self.err
                .iter()
                .filter(|part| !err.contains(*part))
                .map(|part| format!("stderr lacks `{part}`: {}", last_line(err))),
        );
        found
    }
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or("(stderr is empty)").chars().take(300).collect()
}

/// Whether `text` is `pattern`, whose `*` stand for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let middle: Vec<&str> = parts.collect();
    let Some((last, middle)) = middle.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// What every bundle begins as: a shell in fresh namespaces, with the mounts and capabilities callers usually ask for.
fn base() -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_CHOWN"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": ["/bin/sh", "-c", "exec sleep 1000"], "cwd": "/", "env": ["PATH=/bin"],
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps}, "noNewPrivileges": true
        },
        "root": {"path": "rootfs"},
        "hostname": "inside",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "cgroupsPath": "{cgroup}/c",
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "maskedPaths": ["/proc/kcore", "/proc/keys"],
            "readonlyPaths": ["/proc/sys"]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} against {text}");
        }
    }

    #[test]
    fn every_file_of_cases_parses_and_names_are_unique() {
        let sections = all().expect("the cases parse");
        assert!(sections.iter().map(|(_, cases)| cases.len()).sum::<usize>() >= 60);
    }
}
