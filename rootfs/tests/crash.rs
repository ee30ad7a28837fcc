//! A full disk, and kill -9 at any moment: what is seen is whole, what is half is swept.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Bench, Made, file, layer};
use pintle_rootfs::{Error, ImportOptions, Source, Store};
use pintle_testkit::{MountNs, require_root};

/// Text that does not compress well.
fn noise(seed: u64, bytes: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b' ' + (state % 95) as u8)
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn a_full_disk_leaves_nothing_half_made() {
    if !require_root("a small tmpfs") {
        return;
    }
    let _namespace = MountNs::private();
    let bench = Bench::new();
    let small = bench.dir.path().join("small");
    fs::create_dir(&small).unwrap();
    let size = |text: &str| std::ffi::CString::new(format!("size={text}")).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", &small, "tmpfs", flags, Some(size("1m").as_c_str())).unwrap();
    let store = Store::open(&small.join("store")).unwrap();
    let first = layer(&[file("small", "fits")]);
    let big = layer(&[file("big", &noise(1, 3 << 20))]);
    Made::of(&[first, big]).write(&bench.layout(), "big:1");
    let error = store.import(Source::Path(&bench.layout()), &ImportOptions::default()).unwrap_err();
    match &error {
        Error::Io { source, .. } => assert_eq!(source.kind(), std::io::ErrorKind::StorageFull, "{error}"),
        other => panic!("{other}"),
    }
    assert!(error.hint().unwrap().contains("free some space"));
    assert_eq!(common::remains(&small.join("store")), Vec::<String>::new());
    rustix::mount::mount_remount(&small, flags, size("20m").as_c_str()).unwrap();
    store.import(Source::Path(&bench.layout()), &ImportOptions::default()).unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
    drop(store);
    // Mounted, it would keep the directory around it from vanishing.
    rustix::mount::unmount(&small, rustix::mount::UnmountFlags::empty()).unwrap();
}

const CHILD: &str = "PINTLE_TEST_IMPORT";

/// Not a test of its own: the process that the next one kills.
#[test]
fn import_when_asked_by_the_environment() {
    let Ok(paths) = std::env::var(CHILD) else { return };
    let (layout, store) = paths.split_once(':').unwrap();
    let store = Store::open(Path::new(store)).unwrap();
    store.import(Source::Path(Path::new(layout)), &ImportOptions::default()).unwrap();
}

#[test]
fn an_import_killed_at_any_moment_is_either_whole_or_gone() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    let layers: Vec<Vec<u8>> = (0..4)
        .map(|n| {
            layer(&(0..100).map(|f| file(&format!("l{n}/f{f}"), &noise(n * 100 + f, 8 << 10))).collect::<Vec<_>>())
        })
        .collect();
    Made::of(&layers).write(&bench.layout(), "big:1");
    let (mut killed, mut whole) = (0, 0);
    for round in 0..16u64 {
        let dir = bench.dir.path().join(format!("store-{round}"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "import_when_asked_by_the_environment"])
            .env(CHILD, format!("{}:{}", bench.layout().display(), dir.display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(round * 8));
        child.kill().unwrap();
        if child.wait().unwrap().signal() == Some(9) {
            killed += 1;
        }
        let store = Store::open(&dir).unwrap();
        assert!(fs::read_dir(dir.join("tmp")).unwrap().next().is_none(), "round {round}: tmp is swept");
        for image in store.list().unwrap() {
            whole += 1;
            for layer in &image.layers {
                let fs_dir = dir.join("layers").join(layer.chain_id.0.hex()).join("fs");
                assert_eq!(fs::read_dir(fs_dir).unwrap().count(), 1, "round {round}");
            }
        }
        let image = store.import(Source::Path(&bench.layout()), &ImportOptions::default()).unwrap().remove(0);
        let file = dir.join("layers").join(image.layers[3].chain_id.0.hex()).join("fs/l3/f99");
        assert_eq!(fs::read_to_string(file).unwrap(), noise(399, 8 << 10));
        store.remove("big:1").unwrap();
        assert_eq!(common::remains(&dir), Vec::<String>::new(), "round {round}");
    }
    assert!(killed > 0, "no import was killed while it ran");
    eprintln!("{killed} killed, {whole} found whole");
}
