//! Roots of containers through a real overlay mount.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use common::{Bench, Made, dir, file, hard_link, layer, symlink};
use pintle_rootfs::{Access, Error, Image, MountOptions, Store};
use pintle_testkit::{MountNs, require_root};

/// A store in a private mount namespace. The namespace comes first: a store opened before would be mounted elsewhere.
fn bench() -> Option<(MountNs, Bench, PathBuf)> {
    if !require_root("mounting overlays") {
        return None;
    }
    let namespace = MountNs::private();
    let bench = Bench::new();
    let at = bench.dir.path().join("root");
    Some((namespace, bench, at))
}

fn mount(bench: &Bench, image: &Image, id: &str, at: &Path) {
    bench.store.mount(&image.id, id, at, &MountOptions::default()).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn whiteouts_hide_lower_files_and_opaque_directories_hide_all_below() {
    let Some((_namespace, bench, at)) = bench() else { return };
    let base = layer(&[
        dir("keep", 0o755),
        file("keep/a", "a"),
        file("keep/b", "b"),
        dir("gone", 0o755),
        file("gone/x", "x"),
        dir("fresh", 0o755),
        file("fresh/old", "old"),
        dir("again", 0o755),
        file("again/old", "old"),
        dir("implied", 0o755),
        file("implied/old", "old"),
        file("file", "old"),
    ]);
    let top = layer(&[
        file("keep/.wh.a", ""),
        file(".wh.gone", ""),
        file("fresh/new", "new"),
        file("fresh/.wh..wh..opq", ""),
        // Removed and made again in one layer: nothing of the old one may show, in whatever order it is written.
        file(".wh.again", ""),
        dir("again", 0o755),
        file("again/new", "new"),
        file(".wh.implied", ""),
        file("implied/new", "new"),
        file("file", "new"),
        file(".wh.file", ""),
    ]);
    let image = bench.import(&[base, top], "web:1").unwrap().remove(0);
    mount(&bench, &image, "c1", &at);
    assert_eq!(names(&at), ["again", "file", "fresh", "implied", "keep"]);
    for (dir, want) in [("keep", "b"), ("fresh", "new"), ("again", "new"), ("implied", "new")] {
        assert_eq!(names(&at.join(dir)), [want], "{dir}");
    }
    assert_eq!(fs::read_to_string(at.join("file")).unwrap(), "new");
    bench.store.unmount("c1", &at).unwrap();
}

#[test]
fn an_opaque_root_hides_the_layers_below() {
    let Some((_namespace, bench, at)) = bench() else { return };
    let image = bench
        .import(
            &[
                layer(&[file("old", "")]),
                layer(&[file(".wh..wh..opq", ""), file("new", "")]),
                layer(&[file("top", "")]),
            ],
            "w:1",
        )
        .unwrap()
        .remove(0);
    mount(&bench, &image, "c1", &at);
    assert_eq!(names(&at), ["new", "top"]);
    bench.store.unmount("c1", &at).unwrap();
}

#[test]
fn containers_share_layers_and_never_each_others_changes() {
    let Some((_namespace, bench, at)) = bench() else { return };
    let image = bench.import(&[layer(&[dir("./", 0o711), file("shared", "clean")])], "web:1").unwrap().remove(0);
    let (one, two) = (at.join("one"), at.join("two"));
    mount(&bench, &image, "c1", &one);
    mount(&bench, &image, "c2", &two);
    assert_eq!(fs::metadata(&one).unwrap().permissions().mode() & 0o7777, 0o711, "the root is the image's");
    fs::write(one.join("shared"), "dirty").unwrap();
    fs::write(one.join("mine"), "x").unwrap();
    assert_eq!(fs::read_to_string(two.join("shared")).unwrap(), "clean");
    assert_eq!(names(&two), ["shared"]);
    assert_eq!(fs::read_to_string(bench.layer(&image, 0).join("shared")).unwrap(), "clean");
    assert_eq!(bench.store.written("c1").unwrap().inodes, 2);
    assert_eq!(bench.store.written("c2").unwrap().inodes, 0);

    let snapshots = bench.store.snapshots().unwrap();
    let seen: Vec<(&str, &Path)> = snapshots.iter().map(|s| (s.container_id.as_str(), s.at.as_path())).collect();
    assert_eq!(seen, [("c1", one.as_path()), ("c2", two.as_path())]);
    assert!(snapshots.iter().all(|snapshot| snapshot.image == image.id));

    bench.store.unmount("c1", &one).unwrap();
    bench.store.unmount("c1", &one).unwrap();
    mount(&bench, &image, "c1", &one);
    assert_eq!(names(&one), ["shared"], "a new root is clean");
    bench.store.unmount("c1", &one).unwrap();
    bench.store.unmount("c2", &two).unwrap();
    assert!(bench.remains().iter().all(|path| !path.starts_with("snapshots/") && !path.starts_with("tmp/")));
}

#[test]
fn an_image_in_use_is_neither_removed_nor_collected() {
    let Some((_namespace, bench, at)) = bench() else { return };
    let image = bench.import(&[layer(&[file("a", "1")])], "web:1").unwrap().remove(0);
    mount(&bench, &image, "c1", &at);
    match bench.store.remove("web:1") {
        Err(Error::InUse { containers, .. }) => assert_eq!(containers, ["c1"]),
        other => panic!("{other:?}"),
    }
    let everything = pintle_rootfs::GcPolicy { free_bytes: u64::MAX, ..Default::default() };
    assert!(bench.store.gc(&everything).unwrap().images.is_empty());
    // Moving the name away leaves the container its image.
    bench.import(&[layer(&[file("a", "2")])], "web:1").unwrap();
    assert_eq!(fs::read_to_string(at.join("a")).unwrap(), "1");
    bench.store.unmount("c1", &at).unwrap();
    assert_eq!(bench.store.gc(&everything).unwrap().images.len(), 2);
    assert_eq!(bench.remains(), Vec::<String>::new());
}

#[test]
fn a_failed_mount_leaves_nothing_and_says_why() {
    let Some((_namespace, bench, at)) = bench() else { return };
    let image = bench.import(&[layer(&[file("a", "1")])], "web:1").unwrap().remove(0);
    let options = MountOptions::default();
    for id in ["", "..", "a/b", "a b"] {
        assert!(matches!(bench.store.mount(&image.id, id, &at, &options), Err(Error::ContainerId(_))), "{id:?}");
    }
    let unknown = pintle_rootfs::ImageId(pintle_rootfs::Digest::of(b"unknown"));
    assert!(matches!(bench.store.mount(&unknown, "c1", &at, &options), Err(Error::NotFound(_))));
    fs::write(bench.dir.path().join("file"), "").unwrap();
    let error = bench.store.mount(&image.id, "c1", &bench.dir.path().join("file/below"), &options).unwrap_err();
    assert!(error.to_string().contains("cannot create"), "{error}");
    assert!(bench.store.snapshots().unwrap().is_empty());
    mount(&bench, &image, "c1", &at);
    assert!(matches!(bench.store.mount(&image.id, "c1", &at, &options), Err(Error::Mounted(_))));
    bench.store.unmount("c1", &at).unwrap();
}

#[test]
fn a_hundred_layers_are_mounted() {
    let Some((_namespace, bench, at)) = bench() else { return };
    let layers: Vec<Vec<u8>> =
        (0..100).map(|n| layer(&[file(&format!("f{n:03}"), ""), file("last", &n.to_string())])).collect();
    let image = bench.import(&layers, "deep:1").unwrap().remove(0);
    mount(&bench, &image, "c1", &at);
    assert_eq!(names(&at).len(), 101);
    assert_eq!(fs::read_to_string(at.join("last")).unwrap(), "99");
    fs::write(at.join("new"), "writable").unwrap();
    bench.store.unmount("c1", &at).unwrap();
}

#[test]
fn a_read_only_root_cannot_be_written() {
    let Some((_namespace, bench, at)) = bench() else { return };
    for (number, layers) in [vec![], vec![layer(&[file("a", "1")])]].into_iter().enumerate() {
        let image = bench.import(&layers, "ro:1").unwrap().remove(0);
        let id = format!("c{number}");
        bench.store.mount(&image.id, &id, &at, &MountOptions { access: Access::ReadOnly }).unwrap();
        let error = fs::write(at.join("b"), "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(names(&at).len(), layers.len());
        bench.store.unmount(&id, &at).unwrap();
    }
}

#[test]
fn everything_a_file_has_arrives_in_the_container() {
    let Some((_namespace, bench, at)) = bench() else { return };
    // VFS_CAP_REVISION_2, effective, with a newline among its bytes: cap_dac_override and cap_fowner.
    let capability = b"\x01\0\0\x02\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    let mut ping = file("bin/ping", "binary");
    (ping.mode, ping.uid, ping.gid) = (0o4751, 5, 6);
    ping.xattrs = vec![
        ("security.capability".to_owned(), capability.clone()),
        ("user.note".to_owned(), b"x\ny".to_vec()),
        ("trusted.overlay.opaque".to_owned(), b"y".to_vec()),
    ];
    let pipe = common::entry("pipe", tar::EntryType::Fifo);
    let entries = [dir("bin", 0o2755), ping, hard_link("bin/same", "./bin/ping"), symlink("link", "bin/ping"), pipe];
    let image = bench.import(&[layer(&entries)], "web:1").unwrap().remove(0);
    mount(&bench, &image, "c1", &at);
    let metadata = fs::metadata(at.join("bin/ping")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o4751, 5, 6));
    assert_eq!((metadata.mtime(), metadata.nlink()), (1_000_000_000, 2));
    assert_eq!(fs::metadata(at.join("bin/same")).unwrap().ino(), metadata.ino());
    assert_eq!(fs::metadata(at.join("bin")).unwrap().mode() & 0o7777, 0o2755);
    assert_eq!(fs::metadata(at.join("bin")).unwrap().mtime(), 1_000_000_000);
    assert_eq!(fs::read_link(at.join("link")).unwrap(), Path::new("bin/ping"));
    let xattr = |name: &str| {
        let mut value = vec![0; 64];
        let length = rustix::fs::getxattr(at.join("bin/ping"), name, value.as_mut_slice()).ok()?;
        value.truncate(length);
        Some(value)
    };
    assert_eq!(xattr("security.capability"), Some(capability));
    assert_eq!(xattr("user.note"), Some(b"x\ny".to_vec()));
    let mut value = [0u8; 8];
    let layer_file = bench.layer(&image, 0).join("bin/ping");
    assert!(rustix::fs::getxattr(&layer_file, "trusted.overlay.opaque", &mut value).is_err());
    bench.store.unmount("c1", &at).unwrap();
}

#[test]
fn a_container_that_mounts_over_its_root_loses_nothing_when_it_is_cleaned_up() {
    let Some((_namespace, bench, at)) = bench() else { return };
    let image = bench.import(&[layer(&[dir("data", 0o755)])], "web:1").unwrap().remove(0);
    mount(&bench, &image, "c1", &at);
    let volume = bench.dir.path().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("precious"), "x").unwrap();
    rustix::mount::mount_bind(&volume, at.join("data")).unwrap();
    bench.store.unmount("c1", &at).unwrap();
    assert_eq!(fs::read_to_string(volume.join("precious")).unwrap(), "x");
    assert!(bench.store.snapshots().unwrap().is_empty());
}

#[test]
fn users_are_looked_up_in_the_mounted_root() {
    let Some((_namespace, bench, at)) = bench() else { return };
    let entries =
        [dir("etc", 0o755), file("etc/passwd", "web:x:33:34::/srv:/bin/sh\n"), file("etc/group", "g:x:7:web\n")];
    let image = bench.import(&[layer(&entries)], "web:1").unwrap().remove(0);
    mount(&bench, &image, "c1", &at);
    let identity = pintle_rootfs::users::lookup(&at, "web").unwrap();
    assert_eq!((identity.uid, identity.gid, identity.supplementary), (33, 34, vec![7]));
    bench.store.unmount("c1", &at).unwrap();
}

#[test]
fn a_snapshot_survives_the_process_that_made_it() {
    let Some((_namespace, bench, at)) = bench() else { return };
    Made::of(&[layer(&[file("a", "1")])]).write(&bench.layout(), "web:1");
    let image = bench.import_layout().unwrap().remove(0);
    mount(&bench, &image, "c1", &at);
    let later = Store::open(&bench.store_dir()).unwrap();
    assert_eq!(later.snapshots().unwrap().len(), 1);
    later.unmount("c1", &at).unwrap();
    assert_eq!(names(&at), Vec::<String>::new());
}
