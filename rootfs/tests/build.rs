//! Building images from files, and running what was built.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use clap::Parser;
use common::Bench;
use pintle_rootfs::cli::{ImageCommand, run_to};
use pintle_rootfs::{BuildOptions, BuildSpec, MountOptions, read_spec};
use pintle_testkit::{MountNs, require_root};

#[derive(Parser)]
struct Program {
    #[command(subcommand)]
    command: ImageCommand,
}

fn pintle_image(bench: &Bench, words: &[&str]) -> pintle_rootfs::Result<String> {
    let program = Program::try_parse_from([&["image"], words].concat()).unwrap();
    let mut out = Vec::new();
    run_to(program.command, &bench.store, &mut out).map(|()| String::from_utf8(out).unwrap())
}

fn options(bench: &Bench, name: &str) -> BuildOptions {
    BuildOptions { name: name.to_owned(), context: bench.dir.path().to_owned(), epoch_seconds: 0 }
}

fn tree(bench: &Bench) {
    let src = bench.dir.path().join("src");
    fs::create_dir_all(src.join("sub")).unwrap();
    fs::write(src.join("sub/b"), "b").unwrap();
    fs::write(src.join("a"), "a").unwrap();
    fs::set_permissions(src.join("a"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("a", src.join("link")).unwrap();
}

fn spec(text: &str) -> BuildSpec {
    serde_yaml_ng::from_str(text).unwrap()
}

#[test]
fn the_same_files_give_the_same_image() {
    if !require_root("unpacking layers") {
        return;
    }
    let text = "add: [{source: src, destination: /app}]\nentrypoint: [/app/a]\nports: ['80']\n";
    let build = || {
        let bench = Bench::new();
        tree(&bench);
        bench.store.build(&spec(text), &options(&bench, "app:1")).unwrap()
    };
    let (one, two) = (build(), build());
    assert_eq!(one.id, two.id);
    assert_eq!(one.layers, two.layers);
    assert_eq!(one.repo_digests, two.repo_digests);
    assert_eq!(one.config.created().as_deref(), Some("1970-01-01T00:00:00Z"));
}

#[test]
fn an_image_is_built_upon_another_and_shares_its_layers() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    tree(&bench);
    let base = spec("add: [{source: src, destination: /app}]\nenv: {A: '1'}\nuser: '5'\n");
    let base = bench.store.build(&base, &options(&bench, "base:1")).unwrap();
    let top = spec("base: base:1\nfiles: [{destination: /app/c, text: hello, mode: '0600'}]\nenv: {B: '2'}\n");
    let top = bench.store.build(&top, &options(&bench, "top:1")).unwrap();
    assert_eq!(top.layers[0], base.layers[0]);
    assert_eq!(top.layers.len(), 2);
    let config = top.config.config().as_ref().unwrap();
    assert_eq!(config.env().as_deref().unwrap(), ["A=1", "B=2"]);
    assert_eq!(config.user().as_deref(), Some("5"));
    assert_eq!(fs::read_to_string(bench.layer(&top, 1).join("app/c")).unwrap(), "hello");
    let only_config = spec("base: top:1\ncmd: [x]\n");
    let same_layers = bench.store.build(&only_config, &options(&bench, "config:1")).unwrap();
    assert_eq!(same_layers.layers, top.layers);
    assert_ne!(same_layers.id, top.id);
}

#[test]
fn what_cannot_be_built_is_said_and_leaves_nothing() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    tree(&bench);
    for (text, want) in [
        ("add: [{source: missing, destination: /a}]", "cannot add"),
        ("base: missing:1", "image missing:1 is not in the store"),
        ("add: [{source: src/a, destination: /}]\nfiles: [{destination: a, text: x}]", "\"a\" is added twice"),
        ("add: [{source: src/a, destination: ../a}]", "contains \"..\""),
        ("files: [{destination: a, text: x, mode: rwx}]", "not an octal number"),
        ("ports: ['http']", "port \"http\" is not"),
    ] {
        let error = bench.store.build(&spec(text), &options(&bench, "bad:1")).expect_err(text);
        assert!(error.to_string().contains(want), "{text}: {error}");
        assert_eq!(bench.remains(), Vec::<String>::new(), "{text}");
    }
    let file = bench.dir.path().join("image.yaml");
    fs::write(&file, "entrypint: [x]\n").unwrap();
    let error = read_spec(&file).unwrap_err().to_string();
    assert!(error.contains("unknown field `entrypint`"), "{error}");
}

#[test]
fn a_busybox_image_built_by_flags_runs() {
    if !require_root("mounting overlays") {
        return;
    }
    let busybox = format!("{}:/bin/busybox:0755", pintle_testkit::busybox().display());
    let _namespace = MountNs::private();
    let bench = Bench::new();
    let printed = pintle_image(
        &bench,
        &[
            "build",
            "-t",
            "localhost/busybox:test",
            "--add",
            &busybox,
            "--symlink",
            "busybox:/bin/sh",
            "--symlink",
            "busybox:/bin/cat",
            "--entrypoint",
            "/bin/sh",
            "--entrypoint",
            "-c",
            "--env",
            "PATH=/bin",
            "--workdir",
            "/",
            "--port",
            "8080",
        ],
    );
    let image = bench.store.find("localhost/busybox:test").unwrap();
    assert_eq!(printed.unwrap(), format!("localhost/busybox:test {}\n", image.id));
    let at = bench.dir.path().join("root");
    bench.store.mount(&image.id, "c1", &at, &MountOptions::default()).unwrap();
    let script = "echo written > /file; cat /file";
    let output = Command::new("chroot").arg(&at).args(["/bin/sh", "-c", script]).output().unwrap();
    bench.store.unmount("c1", &at).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "written\n", "{output:?}");
}

#[test]
fn the_commands_tell_a_whole_story() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    tree(&bench);
    let dir = bench.dir.path().to_str().unwrap().to_owned();
    let archive = format!("{dir}/app.tar");
    let id = pintle_image(&bench, &["build", "-q", "-t", "app", "-C", &dir, "--add", "src:/app"]).unwrap();
    let id = id.trim();
    assert!(pintle_image(&bench, &["ls"]).unwrap().contains("docker.io/library/app   latest"));
    assert_eq!(pintle_image(&bench, &["ls", "-q", "--no-trunc"]).unwrap().trim(), id);
    assert!(pintle_image(&bench, &["ls", "-o", "json"]).unwrap().contains(id));
    assert_eq!(pintle_image(&bench, &["ls", "-q", "other"]).unwrap(), "");
    pintle_image(&bench, &["tag", "app", "localhost/app:2"]).unwrap();
    pintle_image(&bench, &["export", "-o", &archive, "localhost/app:2"]).unwrap();
    assert_eq!(pintle_image(&bench, &["rm", "app"]).unwrap(), "Untagged: docker.io/library/app:latest\n");
    assert_eq!(pintle_image(&bench, &["rm", &id[7..19]]).unwrap(), format!("Deleted: {id}\n"));
    let imported = pintle_image(&bench, &["import", &archive]).unwrap();
    assert_eq!(imported, format!("localhost/app:2 {id}\n"));
    assert!(pintle_image(&bench, &["inspect", "localhost/app:2"]).unwrap().contains("diff_ids"));
    let pruned = pintle_image(&bench, &["prune", "--all"]).unwrap();
    assert!(pruned.starts_with(&format!("Deleted: {id}\nFreed: ")), "{pruned}");
    let error = pintle_image(&bench, &["rm", "app"]).unwrap_err();
    assert_eq!(error.to_string(), "image app is not in the store");
    assert!(error.hint().unwrap().contains("pintle image import"));
}
