//! Writing images out: as an OCI archive, which newer Docker loads too, or as Docker's own archive for older tools.
//! The same images give the same bytes; every blob is verified while it is written.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};

use pintle_rootfs_plan::digest::Digest;
use pintle_rootfs_plan::docker::DockerImage;
use pintle_rootfs_plan::index::{ImageRecord, Index};
use pintle_rootfs_plan::reference::Reference;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::decompress;
use crate::error::{At, Error, Result};
use crate::store::{Store, find_record};

/// The kind of archive to write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExportFormat {
    /// An OCI image layout in a tar, with a `manifest.json` beside it for Docker.
    #[default]
    Oci,
    /// `docker save` of before version 25: layers uncompressed.
    Docker,
}

/// An image to write, and under which names.
struct Wanted<'a> {
    record: &'a ImageRecord,
    names: Vec<Reference>,
}

impl Store {
    /// Writes images, each named by a reference, an id or the first digits of one, as one tar archive. An image asked
    /// for by name is written under that name, one asked for by id under all its names.
    pub fn export(&self, words: &[String], to: &mut dyn Write, format: ExportFormat) -> Result<()> {
        let index = self.index.read(&self.dirs)?;
        let mut wanted: Vec<Wanted<'_>> = Vec::new();
        for word in words {
            let record = find_record(&index, word)?;
            let names = names(record, word);
            match wanted.iter_mut().find(|known| known.record.id == record.id) {
                Some(known) => known.names.extend(names),
                None => wanted.push(Wanted { record, names }),
            }
        }
        let mut archive = Archive { tar: tar::Builder::new(to) };
        match format {
            ExportFormat::Oci => self.oci(&mut archive, &wanted)?,
            ExportFormat::Docker => self.docker(&mut archive, &index, &wanted)?,
        }
        archive.tar.into_inner().and_then(Write::flush).at("write", "the archive")
    }

    fn oci(&self, archive: &mut Archive<'_>, wanted: &[Wanted<'_>]) -> Result<()> {
        let blobs: BTreeSet<Digest> = wanted
            .iter()
            .flat_map(|image| image.record.blobs().filter(|blob| Some(*blob) != image.record.index))
            .collect();
        for blob in &blobs {
            self.blob(archive, blob)?;
        }
        let mut manifests = Vec::new();
        for image in wanted {
            manifests.extend(self.descriptors(image)?);
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        });
        archive.document("index.json", &index)?;
        let path = |blob: &Digest| format!("blobs/sha256/{}", blob.hex());
        let layer_paths = |record: &ImageRecord| record.layers.iter().map(|layer| path(&layer.blob)).collect();
        let images: Vec<DockerImage> = wanted
            .iter()
            .map(|image| DockerImage {
                config: path(&image.record.id.0),
                repo_tags: image.names.iter().map(Reference::familiar).collect(),
                layers: layer_paths(image.record),
            })
            .collect();
        archive.document("manifest.json", &json!(images))?;
        archive.document("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))
    }

    /// One descriptor per name, as annotations hold one name each.
    fn descriptors(&self, image: &Wanted<'_>) -> Result<Vec<Value>> {
        let bytes = self.document(&image.record.manifest, "manifest")?;
        let media_type = serde_json::from_slice::<Value>(&bytes)
            .ok()
            .and_then(|manifest| manifest.get("mediaType").and_then(Value::as_str).map(str::to_owned))
            .unwrap_or_else(|| "application/vnd.oci.image.manifest.v1+json".to_owned());
        let config = self.image(image.record)?.config;
        let descriptor = json!({
            "mediaType": media_type,
            "digest": image.record.manifest,
            "size": bytes.len(),
            "platform": { "architecture": config.architecture(), "os": config.os() },
        });
        if image.names.is_empty() {
            return Ok(vec![descriptor]);
        }
        let named = |name: &Reference| {
            let mut descriptor = descriptor.clone();
            descriptor["annotations"] = json!({
                "io.containerd.image.name": name.to_string(),
                "org.opencontainers.image.ref.name": name.tag().unwrap_or_default(),
            });
            descriptor
        };
        Ok(image.names.iter().map(named).collect())
    }

    fn docker(&self, archive: &mut Archive<'_>, index: &Index, wanted: &[Wanted<'_>]) -> Result<()> {
        let (mut images, mut written) = (Vec::new(), BTreeSet::new());
        for image in wanted {
            debug_assert!(index.by_id(image.record.id).is_some(), "records come from the index");
            let config = format!("{}.json", image.record.id.0.hex());
            archive.bytes(&config, &self.document(&image.record.id.0, "image configuration")?)?;
            let mut layers = Vec::new();
            for layer in &image.record.layers {
                let path = format!("{}.tar", layer.diff.hex());
                if written.insert(layer.diff) {
                    let blob = self.dirs.blob(&layer.blob);
                    let file = File::open(&blob).at("open", &blob)?;
                    let (plain, _) = decompress::plain(file).at("read", &blob)?;
                    archive.verified(&path, plain, layer.tar_bytes, &layer.diff)?;
                }
                layers.push(path);
            }
            let repo_tags = image.names.iter().map(Reference::familiar).collect();
            images.push(DockerImage { config, repo_tags, layers });
        }
        archive.document("manifest.json", &json!(images))
    }

    fn blob(&self, archive: &mut Archive<'_>, blob: &Digest) -> Result<()> {
        let path = self.dirs.blob(blob);
        let file = File::open(&path).at("open", &path)?;
        let bytes = file.metadata().at("stat", &path)?.len();
        archive.verified(&format!("blobs/sha256/{}", blob.hex()), file, bytes, blob)
    }
}

fn names(record: &ImageRecord, word: &str) -> Vec<Reference> {
    let asked = word.parse::<Reference>().ok().map(Reference::or_latest);
    match asked.filter(|name| record.tags.contains(name)) {
        Some(name) => vec![name],
        None => record.tags.iter().cloned().collect(),
    }
}

struct Archive<'a> {
    tar: tar::Builder<&'a mut dyn Write>,
}

impl Archive<'_> {
    fn document(&mut self, path: &str, value: &Value) -> Result<()> {
        self.bytes(path, value.to_string().as_bytes())
    }

    fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.append(path, bytes, bytes.len() as u64)
    }

    /// Writes what `source` reads and fails when it is not what the digest says.
    fn verified(&mut self, path: &str, source: impl Read, bytes: u64, expected: &Digest) -> Result<()> {
        let mut hashing = Hashing { source, sum: Sha256::new() };
        self.append(path, &mut hashing, bytes)?;
        let found = Digest::from_sum(hashing.sum.finalize().into());
        if found == *expected {
            Ok(())
        } else {
            Err(Error::Mismatch { what: format!("{path} in the store"), expected: *expected, found })
        }
    }

    fn append(&mut self, path: &str, source: impl Read, bytes: u64) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(bytes);
        header.set_mode(0o444);
        self.tar.append_data(&mut header, path, source).at("write", path)
    }
}

struct Hashing<R> {
    source: R,
    sum: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.sum.update(&buffer[..read]);
        Ok(read)
    }
}
