//! Layers that try to leave their root, against the real kernel: whatever they do, nothing outside changes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::symlink as make_symlink;

use common::{Bench, Entry, dir, entry, file, hard_link, layer, symlink};
use pintle_testkit::require_root;

fn device(path: &str, kind: tar::EntryType) -> Entry {
    entry(path, kind)
}

#[test]
fn entries_that_cannot_be_meant_are_refused_by_name() {
    if !require_root("unpacking layers") {
        return;
    }
    let cases: Vec<(Vec<Entry>, &str)> = vec![
        (vec![file("../outside", "x")], "contains \"..\""),
        (vec![file("a/../../outside", "x")], "contains \"..\""),
        (vec![hard_link("link", "../../secret")], "not a path inside the layer"),
        (vec![hard_link("link", "/etc/passwd")], "its target is not in the layer"),
        (vec![symlink("etc", "/etc"), hard_link("link", "etc/passwd")], "its target is not in the layer"),
        (vec![dir("d", 0o755), hard_link("link", "d")], "its target is no file"),
        (vec![file("gone", ""), file(".wh.hidden", ""), hard_link("link", "hidden")], "its target is no file"),
        (vec![device("disk", tar::EntryType::Block)], "device node outside /dev"),
        (vec![device("etc/null", tar::EntryType::Char)], "device node outside /dev"),
        (vec![file("f", "x"), file("f/below", "x")], "no directory"),
        (vec![symlink("loop", "loop"), file("loop/x", "x")], "cannot open"),
        (vec![symlink("nowhere", "/not/there"), file("nowhere/x", "x")], "no directory"),
        (vec![entry("odd", tar::EntryType::new(b'Q'))], "type 'Q' is unknown"),
        (vec![entry("sparse", tar::EntryType::GNUSparse)], "sparse"),
    ];
    for (entries, want) in cases {
        let bench = Bench::new();
        let error = bench.import(&[layer(&entries)], "evil:1").expect_err(want);
        assert!(error.to_string().contains(want), "{entries:?}: {error}");
        assert_eq!(bench.remains(), Vec::<String>::new(), "{entries:?}");
    }
}

#[test]
fn symlinks_of_a_layer_lead_nowhere_but_into_it() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    let outside = bench.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "untouched").unwrap();
    let to_outside = outside.to_str().unwrap();
    let up = format!("{}{to_outside}", "../".repeat(12));
    let within = to_outside.trim_start_matches('/');
    let image = bench.import(
        &[layer(&[
            // The same path inside the layer, so that following the link finds something.
            dir(within, 0o755),
            symlink("absolute", to_outside),
            symlink("relative", &up),
            file("absolute/secret", "in the layer"),
            file("relative/other", "in the layer"),
            // The last component is replaced, never followed.
            symlink("file", &format!("{to_outside}/secret")),
            file("file", "replaces the link"),
            // A directory where a link to one was replaces the link too.
            symlink("dirlink", to_outside),
            dir("dirlink", 0o700),
            file("dirlink/secret", "in the layer"),
            // A whiteout through a link hides inside the layer only.
            file("absolute/.wh.secret2", ""),
        ])],
        "evil:1",
    );
    let image = image.unwrap().remove(0);
    let root = bench.layer(&image, 0);
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(root.join(within).join("secret")).unwrap(), "in the layer");
    assert_eq!(fs::read_to_string(root.join(within).join("other")).unwrap(), "in the layer");
    assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "replaces the link");
    assert!(root.join("dirlink").symlink_metadata().unwrap().is_dir());
    assert_eq!(fs::read_to_string(root.join("dirlink/secret")).unwrap(), "in the layer");
}

#[test]
fn a_layout_directory_cannot_be_made_to_read_outside_itself() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    common::Made::of(&[layer(&[file("a", "1")])]).write(&bench.layout(), "evil:1");
    let secret = bench.dir.path().join("secret.json");
    fs::rename(bench.layout().join("index.json"), &secret).unwrap();
    make_symlink(&secret, bench.layout().join("index.json")).unwrap();
    assert!(bench.import_layout().is_err());
}

#[test]
fn device_nodes_in_dev_are_passed_over() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    let image = bench.import(&[layer(&[dir("dev", 0o755), device("dev/null", tar::EntryType::Char)])], "old:1");
    let image = image.unwrap().remove(0);
    assert_eq!(fs::read_dir(bench.layer(&image, 0).join("dev")).unwrap().count(), 0);
}
