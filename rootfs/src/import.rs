//! Importing: everything is read, verified and unpacked beside the store, made durable by one syncfs(2), and then
//! renamed into it under the lock. Until the new index is in place nothing of it is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pintle_rootfs_plan::digest::{ChainId, Digest, ImageId};
use pintle_rootfs_plan::docker::{self, Blob, Compression};
use pintle_rootfs_plan::index::{ImageRecord, LayerRecord};
use pintle_rootfs_plan::names::Override;
use pintle_rootfs_plan::platform::Wanted;

use crate::candidates::{Candidate, Document, Finder, LayerPart};
use crate::contents::{Contents, Section, Source};
use crate::dirs::sync_dir;
use crate::error::{At, Error, Result};
use crate::gc::{LayerMeta, now_ms};
use crate::implied;
use crate::layer_stream::{Targets, stream};
use crate::store::{Image, Store};
use crate::temp::Temp;

/// How an import goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// With a tag, the name of the archive's one image; without, the repository under which its tags are kept. None
    /// takes the names the archive gives.
    pub name: Option<String>,
}

/// How often an import starts again because garbage collection took what it relied on.
const ATTEMPTS_MAX: usize = 5;

/// A layer to bring in: where it comes from and what is missing of it.
struct Job<'a> {
    part: &'a LayerPart,
    keep_blob: bool,
    unpack: bool,
}

struct Done {
    record: LayerRecord,
    compression: Compression,
    implied: Vec<Vec<u8>>,
}

type Key = (ChainId, String);

impl Store {
    /// Imports every image for this machine of an OCI layout or archive, or a Docker archive. Every digest is verified;
    /// on failure nothing is left.
    pub fn import(&self, source: Source<'_>, options: &ImportOptions) -> Result<Vec<Image>> {
        let chosen = options.name.as_deref().map(Override::parse).transpose()?;
        let spool = self.temp()?;
        let contents = Contents::open(source, spool.path())?;
        let wanted = Wanted::linux(std::env::consts::ARCH);
        let finder = Finder { contents: &contents, limits: &self.limits, wanted: &wanted, chosen: chosen.as_ref() };
        let candidates = finder.find()?;
        for _ in 0..ATTEMPTS_MAX {
            let temp = self.temp()?;
            let records = self.bring(&contents, &candidates, temp.path())?;
            if self.commit(temp.path(), &records)? {
                return records.iter().map(|record| self.image_by_id(record.id)).collect();
            }
        }
        let why = "it is being collected as garbage as fast as it is imported".to_owned();
        Err(Error::Unusable { what: contents.name().to_owned(), why })
    }

    fn temp(&self) -> Result<Temp> {
        Temp::create(&self.dirs, &self.dirs.lock()?)
    }

    fn image_by_id(&self, id: ImageId) -> Result<Image> {
        let index = self.index.read(&self.dirs)?;
        self.image(index.by_id(id).ok_or_else(|| Error::NotFound(id.to_string()))?)
    }

    /// Brings all layers and documents into `temp` and makes them durable.
    fn bring(&self, contents: &Contents, candidates: &[Candidate], temp: &Path) -> Result<Vec<ImageRecord>> {
        for dir in ["blobs", "layers", "work"] {
            fs::create_dir(temp.join(dir)).at("create", temp.join(dir))?;
        }
        let jobs = self.jobs(candidates);
        let done = self.run_jobs(contents, &jobs, temp)?;
        for candidate in candidates {
            self.adopt_implied(candidate, &done, temp)?;
        }
        let records = candidates.iter().map(|candidate| self.record(candidate, &done, temp)).collect::<Result<_>>()?;
        let dir = File::open(temp).at("open", temp)?;
        rustix::fs::syncfs(&dir).at("sync", temp)?;
        Ok(records)
    }

    /// Each layer once, and of it only what is missing.
    fn jobs<'a>(&self, candidates: &'a [Candidate]) -> Vec<Job<'a>> {
        let (mut seen, mut unpacked) = (BTreeSet::new(), BTreeSet::new());
        let mut jobs = Vec::new();
        for part in candidates.iter().flat_map(|candidate| &candidate.layers) {
            if !seen.insert(key(part)) {
                continue;
            }
            let blob = part.expected.blob;
            let keep_blob = blob.is_none_or(|blob| !self.dirs.blob(&blob).exists());
            let unpack = unpacked.insert(part.chain) && !self.dirs.layer(&part.chain).exists();
            jobs.push(Job { part, keep_blob, unpack });
        }
        jobs
    }

    /// Works on as many layers at once as there are processors; the first failure ends all.
    fn run_jobs(&self, contents: &Contents, jobs: &[Job<'_>], temp: &Path) -> Result<BTreeMap<Key, Done>> {
        let (next, cancel) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (done, failed) = (Mutex::new(BTreeMap::new()), Mutex::new(None));
        let lock_failed = "a thread that panics ends the scope before this is read";
        let work = || {
            while !cancel.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(job) = jobs.get(number) else { return };
                match self.run_job(contents, job, temp, number, &cancel) {
                    Ok(result) => drop(done.lock().expect(lock_failed).insert(key(job.part), result)),
                    Err(error) => {
                        cancel.store(true, Ordering::Relaxed);
                        failed.lock().expect(lock_failed).get_or_insert(error);
                    }
                }
            }
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 8).min(jobs.len());
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(work);
            }
            work();
        });
        match failed.into_inner().expect(lock_failed) {
            Some(error) => Err(error),
            None => Ok(done.into_inner().expect(lock_failed)),
        }
    }

    fn run_job(
        &self,
        contents: &Contents,
        job: &Job<'_>,
        temp: &Path,
        number: usize,
        cancel: &AtomicBool,
    ) -> Result<Done> {
        let part = job.part;
        if let (Some(blob), false, false) = (part.expected.blob, job.keep_blob, job.unpack)
            && let Some(done) = self.already_here(part, blob)?
        {
            return Ok(done);
        }
        let source = match part.expected.blob.filter(|_| !job.keep_blob) {
            Some(blob) => self.stored_blob(&blob)?,
            None => contents.required(&part.path)?,
        };
        let work = temp.join("work").join(number.to_string());
        let layer = temp.join("layers").join(part.chain.0.hex());
        let fs_dir = layer.join("fs");
        if job.unpack {
            fs::create_dir_all(&fs_dir).at("create", &fs_dir)?;
        }
        let targets = Targets { blob: job.keep_blob.then_some(&*work), unpack: job.unpack.then_some(&*fs_dir) };
        let verified = stream(source, &part.expected, targets, &self.limits, cancel)?;
        if job.keep_blob {
            let place = temp.join("blobs").join(verified.blob.hex());
            fs::rename(&work, &place).at("create", &place)?;
        }
        let mut opaque_root = self.layer_meta(&part.chain).is_ok_and(|meta| meta.opaque_root);
        let mut implied = Vec::new();
        if let Some(unpacked) = verified.unpacked {
            opaque_root = unpacked.opaque_root;
            implied = unpacked.implied;
            let meta = LayerMeta {
                diff: part.expected.diff,
                tar_bytes: verified.tar_bytes,
                content_bytes: unpacked.content_bytes,
                entries: unpacked.entries,
                opaque_root,
            };
            write_json(&layer.join("meta.json"), &meta)?;
        }
        let record = LayerRecord {
            blob: verified.blob,
            blob_bytes: verified.blob_bytes,
            diff: part.expected.diff,
            tar_bytes: verified.tar_bytes,
            chain: part.chain,
            opaque_root,
        };
        Ok(Done { record, compression: verified.compression, implied })
    }

    /// A layer of which blob and directory are in the store needs no reading. None when they vanished meanwhile.
    fn already_here(&self, part: &LayerPart, blob: Digest) -> Result<Option<Done>> {
        let (Ok(metadata), Ok(meta)) = (fs::metadata(self.dirs.blob(&blob)), self.layer_meta(&part.chain)) else {
            return Ok(None);
        };
        let mut head = [0; 4];
        let mut section = self.stored_blob(&blob)?;
        let read = std::io::Read::read(&mut section, &mut head).at("read", self.dirs.blob(&blob))?;
        let record = LayerRecord {
            blob,
            blob_bytes: metadata.len(),
            diff: part.expected.diff,
            tar_bytes: meta.tar_bytes,
            chain: part.chain,
            opaque_root: meta.opaque_root,
        };
        Ok(Some(Done { record, compression: Compression::of(&head[..read]), implied: Vec::new() }))
    }

    fn stored_blob(&self, blob: &Digest) -> Result<Section> {
        let path = self.dirs.blob(blob);
        File::open(&path).and_then(Section::whole).at("open", path)
    }

    /// Bottom up, so that what is adopted from has adopted before.
    fn adopt_implied(&self, candidate: &Candidate, done: &BTreeMap<Key, Done>, temp: &Path) -> Result<()> {
        let mut below: Vec<PathBuf> = Vec::new();
        for part in &candidate.layers {
            let fresh = temp.join("layers").join(part.chain.0.hex()).join("fs");
            let here = if fresh.exists() { fresh } else { self.dirs.layer(&part.chain).join("fs") };
            if let Some(done) = done.get(&key(part)) {
                if done.record.opaque_root {
                    below.clear();
                }
                implied::adopt(&here, &done.implied, &below)?;
            }
            below.push(here);
        }
        Ok(())
    }

    fn record(&self, candidate: &Candidate, done: &BTreeMap<Key, Done>, temp: &Path) -> Result<ImageRecord> {
        let layers: Vec<&Done> = candidate.layers.iter().filter_map(|part| done.get(&key(part))).collect();
        let manifest = match &candidate.manifest {
            Some(document) => document.clone(),
            None => made_manifest(&candidate.config, &layers),
        };
        for document in [Some(&candidate.config), Some(&manifest), candidate.index.as_ref()].into_iter().flatten() {
            let place = temp.join("blobs").join(document.digest.hex());
            fs::write(&place, &document.bytes).at("write", place)?;
        }
        let documents = (candidate.config.bytes.len() + manifest.bytes.len()) as u64;
        let pinned = |name: &pintle_rootfs_plan::reference::Reference| {
            let index = candidate.index.as_ref().map(|index| name.pinned(index.digest));
            [Some(name.pinned(manifest.digest)), index]
        };
        Ok(ImageRecord {
            id: ImageId(candidate.config.digest),
            manifest: manifest.digest,
            index: candidate.index.as_ref().map(|index| index.digest),
            tags: candidate.names.iter().cloned().collect(),
            digests: candidate.names.iter().flat_map(pinned).flatten().collect(),
            layers: layers.iter().map(|done| done.record).collect(),
            size_bytes: documents + layers.iter().map(|done| done.record.blob_bytes).sum::<u64>(),
            imported_at_ms: now_ms(),
        })
    }

    /// Renames everything into place. Says no when something that was in the store when the import began is no more.
    fn commit(&self, temp: &Path, records: &[ImageRecord]) -> Result<bool> {
        let lock = self.dirs.lock()?;
        move_all(&temp.join("blobs"), &self.dirs.blobs())?;
        move_all(&temp.join("layers"), &self.dirs.layers())?;
        let complete = |record: &ImageRecord| {
            record.blobs().all(|blob| self.dirs.blob(&blob).exists())
                && record.chains().all(|chain| self.dirs.layer(&chain).exists())
        };
        if !records.iter().all(complete) {
            return Ok(false);
        }
        sync_dir(&self.dirs.blobs())?;
        sync_dir(&self.dirs.layers())?;
        let mut index = (*self.index.read(&self.dirs)?).clone();
        for record in records {
            index.insert(record.clone());
        }
        self.index.write(&self.dirs, &index, &lock)?;
        Ok(true)
    }
}

fn key(part: &LayerPart) -> Key {
    (part.chain, part.path.clone())
}

/// Docker's own archives have no manifest that anything else could use.
fn made_manifest(config: &Document, layers: &[&Done]) -> Document {
    let blob =
        |done: &&Done| Blob { digest: done.record.blob, bytes: done.record.blob_bytes, compression: done.compression };
    let blobs: Vec<Blob> = layers.iter().map(blob).collect();
    let bytes = docker::oci_manifest(config.digest, config.bytes.len() as u64, &blobs);
    Document { digest: Digest::of(&bytes), bytes }
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(|source| Error::Json { what: path.display().to_string(), source })?;
    fs::write(path, text).at("write", path)
}

/// Renames what `to` does not have; the rest goes with the temporary directory.
fn move_all(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).at("list", from)? {
        let entry = entry.at("list", from)?;
        let place = to.join(entry.file_name());
        if !place.exists() {
            fs::rename(entry.path(), &place).at("create", place)?;
        }
    }
    Ok(())
}
