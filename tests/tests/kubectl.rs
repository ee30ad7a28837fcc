//! The real kubectl, oldest and newest supported, over every verb a user has. One cluster per version; each area is a
//! function that leaves the namespace as it found it. `AREA=exec` runs the areas of that name alone.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its own output has failed")]

#[path = "kubectl/driver.rs"]
mod driver;
#[path = "kubectl/objects.rs"]
mod objects;
#[path = "kubectl/pods.rs"]
mod pods;
#[path = "kubectl/server_side.rs"]
mod server_side;
#[path = "kubectl/workloads.rs"]
mod workloads;

use std::panic::{AssertUnwindSafe, catch_unwind};

use driver::Kubectl;

/// An area of kubectl's work.
type Area = (&'static str, fn(&Kubectl<'_>));

const AREAS: &[Area] = &[
    ("discovery", objects::discovery),
    ("create, get in every form, delete", objects::get),
    ("apply, edit, replace", objects::apply),
    ("server-side apply", server_side::apply),
    ("helm", server_side::helm),
    ("label, annotate, patch", objects::patch),
    ("watch and wait", objects::watch),
    ("bad input", objects::bad_input),
    ("logs", pods::logs),
    ("exec", pods::exec),
    ("a failing container", pods::failing),
    ("deployment: scale, rollout", workloads::rollout),
    ("describe", workloads::describe),
    ("propagation", workloads::propagation),
    ("cordon, drain", workloads::drain),
];

fn run(version: &str) {
    if !pintle_testkit::require_root("a whole cluster with the real kubectl") {
        return;
    }
    let mut cluster = pintle_testkit::Cluster::start();
    let mut failed = Vec::new();
    let only = std::env::var("AREA").unwrap_or_default();
    for (name, area) in AREAS.iter().filter(|(name, _)| name.contains(&only)) {
        println!("--- kubectl {version}: {name}");
        // The areas are independent: one that fails does not hide the others.
        let outcome = catch_unwind(AssertUnwindSafe(|| area(&Kubectl::new(&cluster, version))));
        if outcome.is_err() {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "failed: {failed:?}");
    cluster.down();
}

#[test]
fn kubectl_1_37_finds_every_verb_working() {
    run("v1.37");
}

#[test]
fn kubectl_1_33_finds_every_verb_working() {
    run("v1.33");
}
