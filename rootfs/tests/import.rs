//! Importing and exporting on a real file system: formats, names, sharing, and everything that must be refused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;

use common::{Bench, Made, descriptor, dir, file, layer, pack, write_index, zstd};
use pintle_rootfs::{Digest, Error, ExportFormat, GcPolicy, ImportOptions, Limits, Nameless, Removed, Source, Store};
use pintle_testkit::require_root;
use serde_json::json;

fn options(name: &str) -> ImportOptions {
    ImportOptions { name: Some(name.to_owned()) }
}

fn stream(bytes: Vec<u8>) -> Source<'static> {
    Source::Stream(Box::new(std::io::Cursor::new(bytes)))
}

#[test]
fn a_layout_is_imported_and_found_under_all_its_names() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    let tar = layer(&[dir("etc", 0o755), file("etc/motd", "hello")]);
    let plain = (tar.clone(), Digest::of(&tar).to_string());
    let other = layer(&[file("etc/other", "x")]);
    let made = Made { layers: vec![plain, (zstd(&other), Digest::of(&other).to_string())], ..Made::default() };
    let top = made.write(&bench.layout(), "docker.io/library/web:1");
    let image = bench.import_layout().unwrap().remove(0);
    assert_eq!(image.repo_tags, ["docker.io/library/web:1"]);
    assert_eq!(image.repo_digests, [format!("docker.io/library/web@{}", top["digest"].as_str().unwrap())]);
    assert_eq!(fs::read_to_string(bench.layer(&image, 0).join("etc/motd")).unwrap(), "hello");
    assert_eq!(fs::read_to_string(bench.layer(&image, 1).join("etc/other")).unwrap(), "x");
    let id = image.id.to_string();
    let pinned = image.repo_digests[0].clone();
    for name in ["web:1", "docker.io/web:1", &id, &id[7..], &pinned] {
        assert_eq!(bench.store.resolve(name).unwrap().as_ref(), Some(&image), "{name}");
    }
    assert_eq!(bench.store.find(&id[7..19]).unwrap(), image);
    assert!(bench.store.resolve("web:2").unwrap().is_none());
    assert!(matches!(bench.store.resolve("Web"), Err(Error::Reference(_))));
    assert!(bench.remains().iter().all(|path| !path.starts_with("tmp/")));
    assert_eq!(Store::open(&bench.store_dir()).unwrap().list().unwrap(), [image]);
}

#[test]
fn an_archive_is_the_same_from_a_file_a_stream_or_compressed() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    Made::of(&[layer(&[file("a", "1")])]).write(&bench.layout(), "");
    let archive = pack(&bench.layout());
    let path = bench.dir.path().join("image.tar");
    fs::write(&path, &archive).unwrap();
    let from_file = bench.store.import(Source::Path(&path), &options("file:1")).unwrap();
    let from_stream = bench.store.import(stream(archive.clone()), &options("stream:1")).unwrap();
    let from_gzip = bench.store.import(stream(common::gzip(&archive)), &options("gzip:1")).unwrap();
    fs::write(&path, zstd(&archive)).unwrap();
    let from_zstd = bench.store.import(Source::Path(&path), &options("zstd:1")).unwrap();
    assert_eq!(from_file[0].id, from_stream[0].id);
    assert_eq!(from_file[0].id, from_gzip[0].id);
    assert_eq!(from_zstd[0].repo_tags.len(), 4);
}

#[test]
fn an_exported_image_is_the_same_image_elsewhere() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    let image =
        bench.import(&[layer(&[file("a", "1")]), layer(&[file("b", "2")])], "localhost/web:1").unwrap().remove(0);
    for format in [ExportFormat::Oci, ExportFormat::Docker] {
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        bench.store.export(&["localhost/web:1".to_owned()], &mut once, format).unwrap();
        bench.store.export(&["localhost/web:1".to_owned()], &mut twice, format).unwrap();
        assert_eq!(once, twice, "{format:?} is reproducible");
        let other = Bench::new();
        let back = other.store.import(stream(once), &ImportOptions::default()).unwrap().remove(0);
        assert_eq!((back.id, &back.repo_tags), (image.id, &image.repo_tags), "{format:?}");
        assert_eq!(fs::read_to_string(other.layer(&back, 1).join("b")).unwrap(), "2");
        if format == ExportFormat::Oci {
            assert_eq!(back.repo_digests, image.repo_digests);
        }
    }
}

#[test]
fn a_docker_archive_with_linked_layers_is_imported() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    let tar = layer(&[file("a", "1")]);
    let diff = Digest::of(&tar).to_string();
    let made = Made { layers: vec![(tar.clone(), diff.clone()), (tar.clone(), diff)], ..Made::default() };
    let config = made.configuration().to_string();
    let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let dir = bench.layout();
    fs::create_dir(dir.join("one")).unwrap();
    fs::create_dir(dir.join("two")).unwrap();
    fs::write(dir.join("one/layer.tar"), &tar).unwrap();
    std::os::unix::fs::symlink("../one/layer.tar", dir.join("two/layer.tar")).unwrap();
    fs::write(dir.join(&name), &config).unwrap();
    let manifest = json!([{
        "Config": name, "RepoTags": ["web:1", "web:2"], "Layers": ["one/layer.tar", "two/layer.tar"],
    }]);
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    builder.append_dir_all(".", &dir).unwrap();
    let archive = builder.into_inner().unwrap();
    let image = bench.store.import(stream(archive), &ImportOptions::default()).unwrap().remove(0);
    assert_eq!(image.id.0, Digest::of(config.as_bytes()));
    assert_eq!(image.repo_tags, ["docker.io/library/web:1", "docker.io/library/web:2"]);
    assert_eq!(image.layers.len(), 2);
}

#[test]
fn a_base_layer_is_unpacked_once_and_shared() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    let base = layer(&[file("base", "b")]);
    let one = bench.import(&[base.clone(), layer(&[file("one", "1")])], "one:1").unwrap().remove(0);
    let inode = fs::metadata(bench.layer(&one, 0).join("base")).unwrap().ino();
    let two = bench.import(&[base, layer(&[file("two", "2")])], "two:1").unwrap().remove(0);
    assert_eq!(bench.layer(&two, 0), bench.layer(&one, 0));
    assert_eq!(fs::metadata(bench.layer(&two, 0).join("base")).unwrap().ino(), inode);
    assert_eq!(bench.remains().iter().filter(|path| path.starts_with("layers/")).count(), 3);
    assert_eq!(bench.store.remove("one:1").unwrap(), Removed::Image(one.id));
    assert!(bench.layer(&two, 0).join("base").exists());
    assert_eq!(bench.remains().iter().filter(|path| path.starts_with("layers/")).count(), 2);
    bench.store.remove(&two.id.to_string()).unwrap();
    assert_eq!(bench.remains(), Vec::<String>::new());
}

#[test]
fn a_moved_tag_leaves_a_nameless_image_that_gc_takes() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    let old = bench.import(&[layer(&[file("a", "old")])], "web:1").unwrap().remove(0);
    let new = bench.import(&[layer(&[file("a", "new")])], "web:1").unwrap().remove(0);
    assert_eq!(bench.store.resolve("web:1").unwrap().unwrap().id, new.id);
    assert!(bench.store.resolve(&old.id.to_string()).unwrap().unwrap().repo_tags.is_empty());
    let plan = bench.store.gc(&GcPolicy { nameless: Nameless::Remove, ..GcPolicy::default() }).unwrap();
    assert_eq!(plan.images, [old.id]);
    assert_eq!(bench.store.list().unwrap(), [new]);
    let usage = bench.store.usage().unwrap();
    assert_eq!((usage.images, usage.layers_bytes, usage.layers_entries), (1, 3, 1));
}

#[test]
fn directories_an_archive_only_implies_take_the_attributes_below() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    let mut owned = dir("srv/www", 0o750);
    (owned.uid, owned.gid) = (33, 34);
    let base = layer(&[dir("./", 0o711), dir("tmp", 0o1777), dir("srv", 0o755), owned]);
    let image = bench.import(&[base, layer(&[file("tmp/x", ""), file("srv/www/y", ""), file("new/z", "")])], "a:1");
    let image = image.unwrap().remove(0);
    let top = bench.layer(&image, 1);
    let mode = |path: &str| fs::metadata(top.join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("."), mode("tmp"), mode("srv/www"), mode("new")), (0o711, 0o1777, 0o750, 0o755));
    let owner = fs::metadata(top.join("srv/www")).unwrap();
    assert_eq!((owner.uid(), owner.gid(), owner.mtime()), (33, 34, 1_000_000_000));
}

#[expect(clippy::too_many_lines, reason = "a flat table")]
/// Every way an image can lie, and the error that says so. Nothing may remain.
#[test]
fn damaged_images_are_refused_and_leave_nothing() {
    if !require_root("unpacking layers") {
        return;
    }
    let tar = layer(&[file("a", &"content ".repeat(1000)), dir("d", 0o755)]);
    let blob = common::gzip(&tar);
    let digest = Digest::of(&blob);
    let good = || Made::of(std::slice::from_ref(&tar));
    type Damage = Box<dyn Fn(&Bench)>;
    let blob_file = move |bench: &Bench| common::blob_path(&bench.layout(), &digest);
    let cases: Vec<(&str, Damage, &str)> = vec![
        (
            "a flipped bit in the blob",
            Box::new(move |bench| {
                let mut bytes = fs::read(blob_file(bench)).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(blob_file(bench), bytes).unwrap();
            }),
            "layer blob is damaged",
        ),
        (
            "a truncated blob",
            Box::new(move |bench| {
                let bytes = fs::read(blob_file(bench)).unwrap();
                fs::write(blob_file(bench), &bytes[..bytes.len() - 1]).unwrap();
            }),
            "its descriptor says",
        ),
        ("a missing blob", Box::new(move |bench| fs::remove_file(blob_file(bench)).unwrap()), "has no blobs/sha256/"),
        (
            "another archive than the configuration says",
            {
                let tar = tar.clone();
                Box::new(move |bench| {
                    let made = Made {
                        layers: vec![(common::gzip(&tar), Digest::of(b"other").to_string())],
                        ..Made::default()
                    };
                    made.write(&bench.layout(), "web:1");
                })
            },
            "uncompressed layer is damaged",
        ),
        (
            "compression that ends early",
            {
                let blob = common::gzip(&tar);
                let diff = Digest::of(&tar).to_string();
                Box::new(move |bench| {
                    let made =
                        Made { layers: vec![(blob[..blob.len() / 2].to_vec(), diff.clone())], ..Made::default() };
                    made.write(&bench.layout(), "web:1");
                })
            },
            "cannot decompress layer blob",
        ),
        (
            "a layer that is no archive",
            Box::new(|bench| {
                let junk = vec![7; 4096];
                let made = Made { layers: vec![(junk.clone(), Digest::of(&junk).to_string())], ..Made::default() };
                made.write(&bench.layout(), "web:1");
            }),
            "checksum is wrong",
        ),
        (
            "fewer layers than the configuration says",
            Box::new(|bench| {
                let made = Made {
                    config: Some(json!({"rootfs": {"type": "layers", "diff_ids": []}})),
                    ..Made::of(&[layer(&[])])
                };
                made.write(&bench.layout(), "web:1");
            }),
            "names 0 layers, the manifest 1",
        ),
        (
            "an image for another machine",
            Box::new(|bench| {
                let made = Made { config: Some(json!({"architecture": "s390x"})), ..Made::of(&[layer(&[])]) };
                made.write(&bench.layout(), "web:1");
            }),
            "the image is for linux/s390x",
        ),
        (
            "an index for another machine",
            Box::new(|bench| {
                let made = Made { platform: Some(json!({"os": "linux", "architecture": "s390x"})), ..Made::of(&[]) };
                made.write(&bench.layout(), "web:1");
            }),
            "it has linux/s390x",
        ),
        (
            "a changed manifest",
            Box::new(|bench| {
                let mut top = Made::of(&[]).write(&bench.layout(), "web:1");
                top["digest"] = json!(Digest::of(b"x").to_string());
                write_index(&bench.layout(), &[top]);
            }),
            "has no blobs/sha256/",
        ),
        (
            "a digest that is a path",
            Box::new(|bench| {
                let mut top = Made::of(&[]).write(&bench.layout(), "web:1");
                top["digest"] = json!("sha256:../../index.json");
                write_index(&bench.layout(), &[top]);
            }),
            "cannot read index.json",
        ),
        (
            "no layout at all",
            Box::new(|bench| fs::remove_file(bench.layout().join("oci-layout")).unwrap()),
            "neither an OCI image layout nor a Docker archive",
        ),
        (
            "an index that is not JSON",
            Box::new(|bench| fs::write(bench.layout().join("index.json"), "{").unwrap()),
            "cannot read index.json",
        ),
        ("an index without images", Box::new(|bench| write_index(&bench.layout(), &[])), "it has none"),
    ];
    for (what, damage, want) in cases {
        let bench = Bench::new();
        good().write(&bench.layout(), "web:1");
        damage(&bench);
        let error = bench.import_layout().expect_err(what);
        assert!(error.to_string().contains(want), "{what}: {error}");
        assert_eq!(bench.remains(), Vec::<String>::new(), "{what}");
        assert!(bench.store.list().unwrap().is_empty(), "{what}");
    }
}

#[test]
fn the_manifest_for_this_machine_is_taken_from_an_index() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    let foreign = Made {
        platform: Some(json!({"os": "linux", "architecture": "s390x"})),
        ..Made::of(&[layer(&[file("foreign", "")])])
    };
    let ours = Made {
        platform: Some(json!({"os": "linux", "architecture": common::arch()})),
        ..Made::of(&[layer(&[file("ours", "")])])
    };
    let manifests = [foreign.write(&bench.layout(), ""), ours.write(&bench.layout(), "")];
    let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
    let mut top = descriptor("application/vnd.oci.image.index.v1+json", index.as_bytes(), &bench.layout());
    top["annotations"] = json!({"io.containerd.image.name": "docker.io/library/web:1"});
    write_index(&bench.layout(), &[top.clone()]);
    let image = bench.import_layout().unwrap().remove(0);
    assert!(bench.layer(&image, 0).join("ours").exists());
    assert_eq!(image.repo_digests.len(), 2, "pinned by the index and by the manifest");
    let by_index = format!("web@{}", top["digest"].as_str().unwrap());
    assert_eq!(bench.store.resolve(&by_index).unwrap().unwrap().id, image.id);
}

#[test]
fn bombs_stop_at_the_limits() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    let big = layer(&[file("zeros", &"\0".repeat(1 << 20))]);
    let many = layer(&(0..50).map(|n| file(&format!("f{n}"), "")).collect::<Vec<_>>());
    let cases = [
        (big, Limits { layer_bytes_max: 100_000, ..Limits::default() }, "100000 bytes unpacked"),
        (many.clone(), Limits { layer_entries_max: 49, ..Limits::default() }, "49 entries"),
        (many.clone(), Limits { document_bytes_max: 10, ..Limits::default() }, "10 bytes"),
        (many, Limits { layers_max: 0, ..Limits::default() }, "0 layers"),
    ];
    for (number, (tar, limits, want)) in cases.into_iter().enumerate() {
        Made::of(&[tar]).write(&bench.layout(), "web:1");
        let dir = bench.dir.path().join(format!("limited-{number}"));
        let store = Store::open_with(&dir, limits).unwrap();
        let error = store.import(Source::Path(&bench.layout()), &ImportOptions::default()).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
        assert_eq!(common::remains(&dir), Vec::<String>::new());
    }
}

#[test]
fn a_store_that_lost_its_index_does_not_look_empty() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    bench.import(&[layer(&[file("a", "1")])], "web:1").unwrap();
    fs::remove_file(bench.store_dir().join("index.json")).unwrap();
    assert!(bench.store.list().is_err());
    assert!(matches!(Store::open(&bench.store_dir()), Err(Error::Store { .. })));
}

#[test]
fn two_imports_at_once_of_one_image_both_succeed() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    let layers: Vec<Vec<u8>> = (0..4).map(|n| layer(&[file(&format!("f{n}"), &"x".repeat(100_000))])).collect();
    Made::of(&layers).write(&bench.layout(), "web:1");
    std::thread::scope(|scope| {
        let imports: Vec<_> =
            (0..4).map(|_| scope.spawn(|| bench.import_layout().map(|images| images[0].id))).collect();
        for import in imports {
            import.join().unwrap().unwrap();
        }
    });
    assert_eq!(bench.store.list().unwrap().len(), 1);
    assert!(bench.remains().iter().all(|path| !path.starts_with("tmp/")));
}

#[test]
fn collecting_garbage_beside_imports_never_breaks_an_image() {
    if !require_root("unpacking layers") {
        return;
    }
    let bench = Bench::new();
    Made::of(&[layer(&[file("a", "1")]), layer(&[file("b", "2")])]).write(&bench.layout(), "web:1");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..40 {
                bench.store.gc(&GcPolicy { free_bytes: u64::MAX, ..GcPolicy::default() }).unwrap();
            }
        });
        for _ in 0..20 {
            match bench.import_layout() {
                Ok(_) | Err(Error::NotFound(_) | Error::Unusable { .. } | Error::Io { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    let image = bench.import_layout().unwrap().remove(0);
    assert!(bench.layer(&image, 0).join("a").exists() && bench.layer(&image, 1).join("b").exists());
}
