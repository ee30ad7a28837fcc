//! The map says which crate must never see which; Cargo's own account of the workspace is held against it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The table of ARCHITECTURE.md: layer, its crates by folder.
const LAYERS: &[(&str, &[&str])] = &[
    ("words", &["api", "sys", "net/nft", "runtime/shim", "runtime/ttrpc", "runtime/dbus", "runtime/criu"]),
    ("thought", &["control/plan", "kubelet/plan", "rootfs/plan", "runtime/plan", "proxy/plan"]),
    ("memory", &["control/store"]),
    ("hands", &["net", "client", "rootfs", "runtime"]),
    ("bodies", &["control", "kubelet", "proxy"]),
    ("wiring", &["pintle", "testkit", "proxy/cases", "tests", "conformance", "bench", "xtask"]),
];

/// What no plan may depend on: each is a way to a clock, a file, a socket, the environment, randomness or a runtime.
const IMPURE: &[&str] = &[
    "tokio",
    "tokio-util",
    "hyper",
    "hyper-util",
    "nix",
    "rustix",
    "libc",
    "caps",
    "rtnetlink",
    "netlink-sys",
    "rand",
    "ring",
    "rustls",
    "tempfile",
    "redb",
    "tracing",
    "futures-util",
    "pintle-sys",
];

/// What no plan's code may say, outside of tests.
const IMPURE_WORDS: &[&str] = &[
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::process",
    "std::env::var",
    "std::env::args",
    "std::env::current",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "RandomState",
];

struct Workspace {
    root: PathBuf,
    /// By folder: package name, normal dependencies.
    crates: BTreeMap<String, (String, BTreeSet<String>)>,
}

impl Workspace {
    fn read() -> Self {
        let metadata = cargo_metadata::MetadataCommand::new().no_deps().exec().unwrap();
        let root: PathBuf = metadata.workspace_root.clone().into();
        let mut crates = BTreeMap::new();
        for package in metadata.workspace_packages() {
            let folder = Path::new(&package.manifest_path).parent().unwrap().strip_prefix(&root).unwrap();
            let normal = package.dependencies.iter().filter(|d| d.kind == cargo_metadata::DependencyKind::Normal);
            let dependencies = normal.map(|d| d.name.clone()).collect();
            crates.insert(folder.display().to_string(), (package.name.to_string(), dependencies));
        }
        Self { root, crates }
    }

    fn package(&self, folder: &str) -> &str {
        &self.crates.get(folder).unwrap_or_else(|| panic!("the map names {folder}, which is no crate")).0
    }

    fn dependencies(&self, folder: &str) -> &BTreeSet<String> {
        &self.crates[folder].1
    }

    fn layer(&self, name: &str) -> impl Iterator<Item = &'static str> {
        LAYERS.iter().find(|(layer, _)| *layer == name).unwrap().1.iter().copied()
    }

    /// Every dependency from a crate of `from` on a crate of `to`, as a sentence.
    fn edges(&self, from: &str, to: &str) -> Vec<String> {
        let mut found = Vec::new();
        for folder in self.layer(from) {
            for other in self.layer(to).filter(|o| *o != folder) {
                if self.dependencies(folder).contains(self.package(other)) {
                    found.push(format!("{folder} ({from}) sees {other} ({to})"));
                }
            }
        }
        found
    }
}

#[test]
fn every_crate_has_its_place_and_the_map_says_the_same() {
    let workspace = Workspace::read();
    let placed: BTreeSet<String> = LAYERS.iter().flat_map(|(_, c)| c.iter().map(|f| (*f).to_owned())).collect();
    let there: BTreeSet<String> = workspace.crates.keys().cloned().collect();
    assert_eq!(placed, there);
    let map = fs::read_to_string(workspace.root.join("ARCHITECTURE.md")).unwrap();
    for (layer, crates) in LAYERS.iter().filter(|(layer, _)| *layer != "thought") {
        let line = map.lines().find(|l| l.starts_with(&format!("| {layer} |"))).unwrap();
        let listed: BTreeSet<&str> = line.split('|').nth(2).unwrap().split(',').map(str::trim).collect();
        assert_eq!(listed, crates.iter().copied().collect(), "the map's line of {layer}");
    }
}

#[test]
fn no_layer_sees_what_it_must_not() {
    let workspace = Workspace::read();
    let mut wrong = Vec::new();
    for to in ["words", "thought", "memory", "hands", "bodies", "wiring"] {
        wrong.extend(workspace.edges("words", to));
    }
    for to in ["thought", "memory", "hands", "bodies", "wiring"] {
        wrong.extend(workspace.edges("thought", to));
        wrong.extend(workspace.edges("memory", to));
    }
    for to in ["memory", "hands", "bodies", "wiring"] {
        wrong.extend(workspace.edges("hands", to));
    }
    for to in ["bodies", "wiring"] {
        wrong.extend(workspace.edges("bodies", to));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_store_knows_keys_bytes_and_revisions_and_nothing_of_kubernetes() {
    let workspace = Workspace::read();
    let seen = workspace.dependencies("control/store");
    assert!(!seen.contains("k8s-openapi") && !seen.contains("pintle-api"), "{seen:?}");
}

#[test]
fn a_plan_has_no_dependency_by_which_it_could_act() {
    let workspace = Workspace::read();
    for folder in workspace.layer("thought") {
        let impure: Vec<_> = workspace.dependencies(folder).iter().filter(|d| IMPURE.contains(&d.as_str())).collect();
        assert!(impure.is_empty(), "{folder} depends on {impure:?}");
    }
}

#[test]
fn a_plan_s_code_asks_for_no_clock_file_socket_or_environment() {
    let workspace = Workspace::read();
    let mut wrong = Vec::new();
    for folder in workspace.layer("thought") {
        for file in sources(&workspace.root.join(folder).join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            // Tests may read golden files; they stand at the end, or in a file of their own.
            let code = text.split("#[cfg(test)]").next().unwrap();
            let is_test = file.file_name().unwrap().to_string_lossy().contains("test");
            for (number, line) in code.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//")) {
                if let Some(word) = IMPURE_WORDS.iter().find(|w| !is_test && line.contains(**w)) {
                    wrong.push(format!("{}:{}: {word}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_sys_may_say_unsafe() {
    let workspace = Workspace::read();
    for folder in workspace.crates.keys() {
        let manifest = fs::read_to_string(workspace.root.join(folder).join("Cargo.toml")).unwrap();
        let forbids = manifest.contains("[lints]\nworkspace = true");
        assert_eq!(forbids, folder != "sys", "{folder} takes the workspace's lints");
    }
    let manifest = fs::read_to_string(workspace.root.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"forbid\""));
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}
