//! What the tests of the image store share: layers, layouts and archives made by hand, honest or not.
#![allow(dead_code, reason = "every test file uses another part of it")]
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use pintle_rootfs::{Digest, Store};
use serde_json::{Value, json};

/// One entry of a layer.
#[derive(Debug, Clone)]
pub struct Entry {
    pub path: String,
    pub kind: tar::EntryType,
    pub link: String,
    pub data: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    pub xattrs: Vec<(String, Vec<u8>)>,
}

pub fn entry(path: &str, kind: tar::EntryType) -> Entry {
    Entry {
        path: path.to_owned(),
        kind,
        link: String::new(),
        data: Vec::new(),
        mode: if kind == tar::EntryType::Directory { 0o755 } else { 0o644 },
        uid: 0,
        gid: 0,
        mtime: 1_000_000_000,
        xattrs: Vec::new(),
    }
}

pub fn file(path: &str, text: &str) -> Entry {
    Entry { data: text.as_bytes().to_vec(), ..entry(path, tar::EntryType::Regular) }
}

pub fn dir(path: &str, mode: u32) -> Entry {
    Entry { mode, ..entry(path, tar::EntryType::Directory) }
}

pub fn symlink(path: &str, target: &str) -> Entry {
    Entry { link: target.to_owned(), ..entry(path, tar::EntryType::Symlink) }
}

pub fn hard_link(path: &str, target: &str) -> Entry {
    Entry { link: target.to_owned(), ..entry(path, tar::EntryType::Link) }
}

/// Packs a layer without any of the checks that honest programs make.
pub fn layer(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        if !entry.xattrs.is_empty() {
            let records: Vec<u8> = entry
                .xattrs
                .iter()
                .flat_map(|(name, value)| pintle_rootfs_plan::pax::record(&format!("SCHILY.xattr.{name}"), value))
                .collect();
            member(&mut bytes, "pax", tar::EntryType::XHeader, "", &records, &file("pax", ""));
        }
        member(&mut bytes, &entry.path, entry.kind, &entry.link, &entry.data, entry);
    }
    bytes.extend([0; 1024]);
    bytes
}

fn member(bytes: &mut Vec<u8>, path: &str, kind: tar::EntryType, link: &str, data: &[u8], entry: &Entry) {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(data.len() as u64);
    header.set_mode(entry.mode);
    header.set_uid(entry.uid);
    header.set_gid(entry.gid);
    header.set_mtime(entry.mtime);
    header.set_cksum();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// An image in the making: layers as (blob, uncompressed digest).
#[derive(Debug, Clone, Default)]
pub struct Made {
    pub layers: Vec<(Vec<u8>, String)>,
    pub config: Option<Value>,
    pub platform: Option<Value>,
}

impl Made {
    pub fn of(layers: &[Vec<u8>]) -> Self {
        let layers = layers.iter().map(|tar| (gzip(tar), Digest::of(tar).to_string())).collect();
        Self { layers, ..Self::default() }
    }

    pub fn configuration(&self) -> Value {
        let diffs: Vec<&String> = self.layers.iter().map(|(_, diff)| diff).collect();
        let mut config = json!({
            "architecture": arch(), "os": "linux",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": diffs},
        });
        if let Some(Value::Object(changes)) = self.config.clone() {
            config.as_object_mut().unwrap().extend(changes);
        }
        config
    }

    /// Writes it as an OCI layout. Gives the descriptor of its manifest.
    pub fn write(&self, layout: &Path, name: &str) -> Value {
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|(blob, _)| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", blob, layout))
            .collect();
        let config = self.configuration().to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes(), layout),
            "layers": layers,
        });
        let manifest = manifest.to_string();
        let mut top = descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes(), layout);
        if !name.is_empty() {
            top["annotations"] = json!({"io.containerd.image.name": name});
        }
        if let Some(platform) = &self.platform {
            top["platform"] = platform.clone();
        }
        write_index(layout, &[top.clone()]);
        top
    }
}

pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub fn blob_path(layout: &Path, digest: &Digest) -> PathBuf {
    layout.join("blobs/sha256").join(digest.hex())
}

pub fn descriptor(media_type: &str, bytes: &[u8], layout: &Path) -> Value {
    let digest = Digest::of(bytes);
    let path = blob_path(layout, &digest);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
}

pub fn write_index(layout: &Path, manifests: &[Value]) {
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = json!({"schemaVersion": 2, "manifests": manifests});
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

/// Packs a directory as a tar archive.
pub fn pack(dir: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", dir).unwrap();
    builder.into_inner().unwrap()
}

/// A store and a layout in directories that vanish.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub store: Store,
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("layout")).unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Self { dir, store }
    }

    pub fn layout(&self) -> PathBuf {
        self.dir.path().join("layout")
    }

    pub fn store_dir(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub fn import(&self, layers: &[Vec<u8>], name: &str) -> pintle_rootfs::Result<Vec<pintle_rootfs::Image>> {
        Made::of(layers).write(&self.layout(), name);
        self.import_layout()
    }

    pub fn import_layout(&self) -> pintle_rootfs::Result<Vec<pintle_rootfs::Image>> {
        self.store.import(pintle_rootfs::Source::Path(&self.layout()), &pintle_rootfs::ImportOptions::default())
    }

    /// The unpacked top layer of an image.
    pub fn layer(&self, image: &pintle_rootfs::Image, number: usize) -> PathBuf {
        self.store_dir().join("layers").join(image.layers[number].chain_id.0.hex()).join("fs")
    }

    /// Everything in the store besides its own fixed files.
    pub fn remains(&self) -> Vec<String> {
        remains(&self.store_dir())
    }
}

pub fn remains(store: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for dir in ["blobs/sha256", "layers", "snapshots", "tmp"] {
        for entry in fs::read_dir(store.join(dir)).unwrap() {
            found.push(format!("{dir}/{}", entry.unwrap().file_name().to_string_lossy()));
        }
    }
    found.sort();
    found
}
