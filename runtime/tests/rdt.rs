//! Intel RDT where there is no resctrl: refused by name, with nothing left, and never taken for granted. What is written
//! where there is one is planned in pure code and tested there.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{Bundle, require_root, texts};
use serde_json::{Value, json};

/// Calls the runtime in a mount namespace without resctrl, where a tmpfs that looks like one is mounted on `fake`.
fn without_resctrl(bundle: &Bundle, fake: &Path, args: &[&str]) -> Output {
    let script = "umount -a -t resctrl; mount -t tmpfs resctrl \"$1\" || exit 99; shift; \
        mkdir -p \"$0/info/L3\" \"$0/info/MB\"; : > \"$0/schemata\"; : > \"$0/tasks\"; \
        \"$@\"; code=$?; cat \"$0/schemata\" \"$0/tasks\"; ls \"$0\" | grep -vx -e info -e schemata -e tasks; exit $code";
    let call = bundle.command(args);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).args([fake, fake]);
    command.arg(call.get_program()).args(call.get_args()).output().unwrap()
}

fn refused(output: &Output) {
    let (out, err, code) = texts(output);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("linux.intelRdt: is specified in config, but Intel RDT is not enabled: no resctrl"), "{err}");
    assert!(
        err.contains("mount -t resctrl resctrl /sys/fs/resctrl") || err.contains("CONFIG_X86_CPU_RESCTRL"),
        "{err}"
    );
}

#[test]
fn a_container_that_asks_for_a_class_is_refused_and_a_tmpfs_is_no_resctrl() {
    if !require_root("makes a container") {
        return;
    }
    let mut bundle = Bundle::new("true");
    bundle.config["linux"]["intelRdt"] = json!({"l3CacheSchema": "L3:0=f", "enableMonitoring": true});
    bundle.write();
    let fake = bundle.path().join("fake");
    std::fs::create_dir(&fake).unwrap();
    refused(&without_resctrl(&bundle, &fake, &["run", "--bundle", &bundle.path().to_string_lossy(), "c"]));
    assert!(!bundle.root().join("c").exists() && bundle.cgroup_dirs().is_empty());
}

#[test]
fn an_update_that_cannot_have_its_schemata_changes_no_other_limit() {
    if !require_root("makes a container") {
        return;
    }
    let mut bundle = Bundle::new("sleep 100");
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 50}});
    assert_eq!(bundle.create(), 0);
    let fake = bundle.path().join("fake");
    std::fs::create_dir(&fake).unwrap();
    for flag in ["--l3-cache-schema=L3:0=f", "--mem-bw-schema=MB:0=20"] {
        refused(&without_resctrl(&bundle, &fake, &["update", "--pids-limit=70", flag, "c"]));
    }
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let limits: Vec<String> =
        bundle.cgroup_dirs().iter().map(|dir| read(&dir.join("c/pids.max").to_string_lossy())).collect();
    assert!(limits.iter().any(|limit| limit.trim() == "50") && !limits.iter().any(|limit| limit.trim() == "70"));
    let stats: Value = serde_json::from_slice(&bundle.runc(&["events", "--stats", "c"]).stdout).unwrap();
    assert_eq!((&stats["data"]["pids"]["limit"], &stats["data"]["intel_rdt"]), (&json!(50), &json!({})));
}
