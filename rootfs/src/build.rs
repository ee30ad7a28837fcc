//! Building an image from files: the new layer and its documents are written as an OCI layout into a temporary
//! directory and imported from there, so that a built image passes every check that a foreign one does.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;
use pintle_rootfs_plan::build::{self, Add, BuildSpec, Content, Entry, LayerPlan, Platform};
use pintle_rootfs_plan::digest::Digest;
use pintle_rootfs_plan::docker::{self, Blob, Compression};
use pintle_rootfs_plan::entry::LayerPath;
use pintle_rootfs_plan::reference::Reference;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::contents::Source;
use crate::decompress;
use crate::error::{At, Error, Result};
use crate::import::ImportOptions;
use crate::store::{Image, Store};
use crate::temp::Temp;

/// What an image is built with besides its specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOptions {
    /// The name it gets.
    pub name: String,
    /// Sources are relative to this directory.
    pub context: PathBuf,
    /// The time of everything in the new layer, seconds since 1970 (SOURCE_DATE_EPOCH).
    pub epoch_seconds: u64,
}

/// The image built upon.
struct Base {
    config: Arc<ImageConfiguration>,
    blobs: Vec<Blob>,
}

impl Store {
    /// Builds an image of at most one new layer and imports it under its name. The same specification over the same
    /// files gives the same image.
    pub fn build(&self, spec: &BuildSpec, options: &BuildOptions) -> Result<Image> {
        let name: Reference = options.name.parse::<Reference>()?.or_latest();
        let base = match spec.base.as_deref() {
            None | Some("scratch") => None,
            Some(word) => Some(self.base(word)?),
        };
        let plan = layer_plan(spec, &options.context)?;
        let temp = Temp::create(&self.dirs, &self.dirs.lock()?)?;
        let layout = temp.path().join("layout");
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).at("create", &blobs)?;
        let mut layers = base.as_ref().map_or_else(Vec::new, |base| base.blobs.clone());
        let mut diff = None;
        if !plan.is_empty() {
            let (blob, layer_diff) = write_layer(&plan, &blobs, options.epoch_seconds)?;
            layers.push(blob);
            diff = Some(layer_diff);
        }
        let platform = Platform { architecture: architecture(), created: rfc3339(options.epoch_seconds) };
        let config = build::configuration(spec, base.as_ref().map(|base| &*base.config), diff, &platform)?;
        let config_digest = put(&blobs, &config)?;
        let manifest = docker::oci_manifest(config_digest, config.len() as u64, &layers);
        let manifest_digest = put(&blobs, &manifest)?;
        write_index(&layout, &manifest_digest, manifest.len())?;
        let imported = self.import(Source::Path(&layout), &ImportOptions { name: Some(name.to_string()) })?;
        imported.into_iter().next().ok_or_else(|| Error::NotFound(name.to_string()))
    }

    /// The base's blobs stay in the store; the manifest of the new image only names them.
    fn base(&self, word: &str) -> Result<Base> {
        let image = self.find(word)?;
        let mut blobs = Vec::new();
        for layer in &image.layers {
            let path = self.dirs.blob(&layer.digest);
            let file = File::open(&path).at("open", &path)?;
            let (_, compression) = decompress::plain(file).at("read", &path)?;
            blobs.push(Blob { digest: layer.digest, bytes: layer.size_bytes, compression });
        }
        Ok(Base { config: image.config, blobs })
    }
}

/// Reads a specification from a file: YAML, of which JSON is a part.
pub fn read_spec(path: &Path) -> Result<BuildSpec> {
    let text = fs::read_to_string(path).at("read", path)?;
    serde_yaml_ng::from_str(&text).map_err(|error| Error::BuildFile { path: path.to_owned(), why: error.to_string() })
}

fn layer_plan(spec: &BuildSpec, context: &Path) -> Result<LayerPlan> {
    let mut plan = LayerPlan::default();
    for add in &spec.add {
        add_source(&mut plan, add, context)?;
    }
    plan.add_written(spec)?;
    // Asked now, so that a contradiction is found before anything is written.
    plan.entries()?;
    Ok(plan)
}

fn add_source(plan: &mut LayerPlan, add: &Add, context: &Path) -> Result<()> {
    let source = context.join(&add.source);
    let metadata = fs::metadata(&source).at("add", &source)?;
    let (uid, gid) = build::owner(add.owner.as_deref())?;
    let mode = build::mode(add.mode.as_deref())?;
    let owned = |content, found: u32| Entry { content, mode: mode.unwrap_or(found & 0o7777), uid, gid };
    let destination = build::destination(add);
    if !metadata.is_dir() {
        let entry = owned(Content::Copy(source), metadata.permissions().mode());
        return Ok(plan.add(&destination, entry)?);
    }
    let mut dirs = vec![(source, destination.trim_end_matches('/').to_owned())];
    while let Some((dir, destination)) = dirs.pop() {
        let found = fs::metadata(&dir).at("add", &dir)?.permissions().mode() & 0o7777;
        plan.add(&format!("{destination}/"), Entry { content: Content::Directory, mode: found, uid, gid })?;
        for child in fs::read_dir(&dir).at("list", &dir)? {
            let child = child.at("list", &dir)?;
            let path = child.path();
            let destination = format!("{destination}/{}", child.file_name().to_string_lossy());
            let metadata = fs::symlink_metadata(&path).at("add", &path)?;
            if metadata.is_dir() {
                dirs.push((path, destination));
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).at("read", &path)?.to_string_lossy().into_owned();
                plan.add(&destination, Entry { content: Content::Symlink(target), mode: 0o777, uid, gid })?;
            } else if metadata.is_file() {
                plan.add(&destination, owned(Content::Copy(path), metadata.permissions().mode()))?;
            } else {
                let why = "it is neither a file, a directory nor a symlink".to_owned();
                return Err(Error::Unusable { what: path.display().to_string(), why });
            }
        }
    }
    Ok(())
}

/// Writes the layer, compressed, under its digest. Gives the blob and the digest of the archive in it.
fn write_layer(plan: &LayerPlan, blobs: &Path, epoch_seconds: u64) -> Result<(Blob, Digest)> {
    let path = blobs.join("layer");
    let file = File::create_new(&path).at("create", &path)?;
    let blob = Sum::new(std::io::BufWriter::with_capacity(256 << 10, file));
    // GzBuilder writes a modification time of 0: nothing but the content decides over the bytes.
    let gzip = flate2::GzBuilder::new().mtime(0).write(blob, flate2::Compression::default());
    let mut tar = tar::Builder::new(Sum::new(gzip));
    for (path, entry) in plan.entries()? {
        append(&mut tar, path, entry, epoch_seconds)?;
    }
    let written = tar.into_inner().and_then(|archive| {
        let (gzip, diff, _) = archive.end();
        let (mut file, digest, bytes) = gzip.finish()?.end();
        file.flush()?;
        Ok((Blob { digest, bytes, compression: Compression::Gzip }, diff))
    });
    let (blob, diff) = written.at("write", &path)?;
    fs::rename(&path, blobs.join(blob.digest.hex())).at("rename", &path)?;
    Ok((blob, diff))
}

fn append(tar: &mut tar::Builder<impl Write>, path: &LayerPath, entry: &Entry, epoch_seconds: u64) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_mtime(epoch_seconds);
    header.set_size(0);
    let name = String::from_utf8_lossy(path.as_bytes()).into_owned();
    match &entry.content {
        Content::Directory => {
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, format!("{name}/"), std::io::empty()).at("write", name)
        }
        Content::Symlink(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, &name, target).at("write", name)
        }
        Content::Text(text) => {
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, &name, text.as_bytes()).at("write", name)
        }
        Content::Copy(source) => {
            let file = File::open(source).at("open", source)?;
            header.set_size(file.metadata().at("stat", source)?.len());
            tar.append_data(&mut header, &name, file).at("add", source)
        }
    }
}

fn put(blobs: &Path, bytes: &[u8]) -> Result<Digest> {
    let digest = Digest::of(bytes);
    let path = blobs.join(digest.hex());
    fs::write(&path, bytes).at("write", path)?;
    Ok(digest)
}

fn write_index(layout: &Path, manifest: &Digest, bytes: usize) -> Result<()> {
    let write =
        |name: &str, value: Value| fs::write(layout.join(name), value.to_string()).at("write", layout.join(name));
    write("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }))?;
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let descriptor = json!({ "mediaType": media_type, "digest": manifest, "size": bytes });
    write("index.json", json!({ "schemaVersion": 2, "manifests": [descriptor] }))
}

/// This machine's processor in Go's words.
fn architecture() -> String {
    pintle_rootfs_plan::platform::Wanted::linux(std::env::consts::ARCH).architecture.to_string()
}

/// Seconds since 1970 as RFC 3339 in UTC. The calendar is Howard Hinnant's `civil_from_days`.
fn rfc3339(epoch_seconds: u64) -> String {
    let (days, second) = (epoch_seconds / 86_400, epoch_seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

/// Reads `NAME=value` pairs as flags give them.
pub(crate) fn pairs(words: &[String]) -> BTreeMap<String, String> {
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (word.clone(), String::new()),
    };
    words.iter().map(pair).collect()
}

/// Hashes and counts what passes through.
struct Sum<W> {
    to: W,
    sum: Sha256,
    bytes: u64,
}

impl<W: Write> Sum<W> {
    fn new(to: W) -> Self {
        Self { to, sum: Sha256::new(), bytes: 0 }
    }

    fn end(self) -> (W, Digest, u64) {
        (self.to, Digest::from_sum(self.sum.finalize().into()), self.bytes)
    }
}

impl<W: Write> Write for Sum<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(buffer)?;
        self.sum.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), want);
        }
    }
}
