//! What an archive holds: its images, with their documents read and verified and their layers named.

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use pintle_rootfs_plan::digest::{ChainId, Digest, chain_ids};
use pintle_rootfs_plan::docker::DockerImage;
use pintle_rootfs_plan::names::{self, Override};
use pintle_rootfs_plan::platform::{self, Wanted};
use pintle_rootfs_plan::reference::Reference;
use serde::de::DeserializeOwned;

use crate::contents::Contents;
use crate::error::{Error, Result};
use crate::layer_stream::Expected;
use crate::store::Limits;

/// An index in an index in an index is nobody's honest work.
const INDEX_DEPTH_MAX: usize = 4;

/// An image of an archive.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) names: Vec<Reference>,
    pub(crate) config: Document,
    /// None in Docker's own archives: it is made once the layers are known.
    pub(crate) manifest: Option<Document>,
    /// The index it was chosen from.
    pub(crate) index: Option<Document>,
    pub(crate) layers: Vec<LayerPart>,
}

/// A small blob, verified.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
}

/// A layer of an archive, not read yet.
#[derive(Debug, Clone)]
pub(crate) struct LayerPart {
    /// Where it is in the archive.
    pub(crate) path: String,
    pub(crate) expected: Expected,
    pub(crate) chain: ChainId,
}

pub(crate) struct Finder<'a> {
    pub(crate) contents: &'a Contents,
    pub(crate) limits: &'a Limits,
    pub(crate) wanted: &'a Wanted,
    pub(crate) chosen: Option<&'a Override>,
}

impl Finder<'_> {
    /// Finds every image for this machine. An archive that has the marks of both formats is read as an OCI layout.
    pub(crate) fn find(&self) -> Result<Vec<Candidate>> {
        let layout = self.contents.document("oci-layout", self.limits)?;
        let candidates = match (layout, self.contents.document("index.json", self.limits)?) {
            (Some(_), Some(index)) => self.layout(&index)?,
            _ => match self.contents.document("manifest.json", self.limits)? {
                Some(manifest) => self.docker(&manifest)?,
                None => return Err(Error::NotAnImage(self.contents.name().to_owned())),
            },
        };
        if candidates.is_empty() {
            return Err(self.unusable("there is no image in it"));
        }
        if candidates.len() > 1 && matches!(self.chosen, Some(Override::Name(_))) {
            return Err(self.unusable("it holds several images, which cannot all have one name"));
        }
        Ok(candidates)
    }

    fn layout(&self, index: &[u8]) -> Result<Vec<Candidate>> {
        let index: ImageIndex = json(index, "index.json")?;
        let mut found = Vec::new();
        let fits = |descriptor: &&Descriptor| {
            let platform = descriptor.platform().as_ref();
            platform::is_image(descriptor)
                && platform.is_none_or(|platform| self.wanted.fits(platform.os(), platform.architecture()))
        };
        let fitting: Vec<&Descriptor> = index.manifests().iter().filter(fits).collect();
        if fitting.is_empty() {
            // Says what there is, or that there is nothing.
            platform::select(index.manifests(), self.wanted)?;
        }
        for descriptor in fitting {
            let names = names::of_layout(descriptor.annotations().as_ref(), self.chosen);
            let mut candidate = self.image(descriptor, 0)?;
            candidate.names = names;
            merge(&mut found, candidate);
        }
        Ok(found)
    }

    /// Follows a descriptor to an image. What a document is, its fields say: media types are often missing or wrong.
    fn image(&self, descriptor: &Descriptor, depth: usize) -> Result<Candidate> {
        let document = self.blob(descriptor, "manifest")?;
        let fields: serde_json::Value = json(&document.bytes, &format!("manifest {}", document.digest))?;
        if fields.get("manifests").is_none() {
            return self.manifest(document);
        }
        if depth == INDEX_DEPTH_MAX {
            return Err(self.unusable("its indexes are nested too deeply"));
        }
        let index: ImageIndex = json(&document.bytes, &format!("index {}", document.digest))?;
        let mut candidate = self.image(platform::select(index.manifests(), self.wanted)?, depth + 1)?;
        candidate.index = Some(document);
        Ok(candidate)
    }

    fn manifest(&self, document: Document) -> Result<Candidate> {
        let manifest: ImageManifest = json(&document.bytes, &format!("manifest {}", document.digest))?;
        let config = self.blob(manifest.config(), "configuration")?;
        let diffs = self.diff_ids(&config, manifest.layers().len())?;
        let mut layers = Vec::new();
        for ((descriptor, diff), chain) in manifest.layers().iter().zip(&diffs).zip(chain_ids(&diffs)) {
            let blob = digest(descriptor.digest().as_ref(), "a layer's descriptor")?;
            let expected = Expected { blob: Some(blob), blob_bytes: Some(descriptor.size()), diff: *diff };
            layers.push(LayerPart { path: blob_path(&blob), expected, chain });
        }
        Ok(Candidate { names: Vec::new(), config, manifest: Some(document), index: None, layers })
    }

    fn docker(&self, manifest: &[u8]) -> Result<Vec<Candidate>> {
        let images: Vec<DockerImage> = json(manifest, "manifest.json")?;
        let mut found = Vec::new();
        for image in &images {
            let bytes = self.contents.document(&image.config, self.limits)?;
            let bytes = bytes.ok_or_else(|| self.missing(&image.config))?;
            let config = Document { digest: Digest::of(&bytes), bytes };
            if let Some(named) = digest_in_name(&image.config).filter(|named| *named != config.digest) {
                let what = "image configuration".to_owned();
                return Err(Error::Mismatch { what, expected: named, found: config.digest });
            }
            let diffs = self.diff_ids(&config, image.layers.len())?;
            let chains = chain_ids(&diffs);
            let part = |((path, diff), chain): ((&String, &Digest), ChainId)| {
                // Only in the blobs directory is a name a promise about the bytes.
                let blob = path.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok());
                LayerPart { path: path.clone(), expected: Expected { blob, blob_bytes: None, diff: *diff }, chain }
            };
            let layers = image.layers.iter().zip(&diffs).zip(chains).map(part).collect();
            let names = names::of_docker(&image.repo_tags, self.chosen);
            merge(&mut found, Candidate { names, config, manifest: None, index: None, layers });
        }
        Ok(found)
    }

    /// Checks that the configuration is one of an image for this machine with so many layers.
    fn diff_ids(&self, config: &Document, layers: usize) -> Result<Vec<Digest>> {
        let what = format!("configuration {}", config.digest);
        let parsed: ImageConfiguration = json(&config.bytes, &what)?;
        if !self.wanted.fits(parsed.os(), parsed.architecture()) {
            let (os, architecture) = (parsed.os(), parsed.architecture());
            let why = format!("the image is for {os}/{architecture}, this machine runs {}", self.wanted);
            return Err(Error::Unusable { what, why });
        }
        if layers > self.limits.layers_max {
            let what = "the number of layers".to_owned();
            return Err(Error::Limit { what, limit: self.limits.layers_max as u64, unit: "layers" });
        }
        let diffs = parsed.rootfs().diff_ids();
        if diffs.len() != layers {
            let why = format!("it names {} layers, the manifest {layers}", diffs.len());
            return Err(Error::Unusable { what, why });
        }
        diffs.iter().map(|diff| digest(diff, "a diff id of the configuration")).collect()
    }

    fn blob(&self, descriptor: &Descriptor, what: &str) -> Result<Document> {
        let expected = digest(descriptor.digest().as_ref(), &format!("the descriptor of a {what}"))?;
        let path = blob_path(&expected);
        let bytes = self.contents.document(&path, self.limits)?.ok_or_else(|| self.missing(&path))?;
        if bytes.len() as u64 != descriptor.size() {
            let (expected, found) = (descriptor.size(), bytes.len() as u64);
            return Err(Error::Size { what: format!("{what} {path}"), expected, found });
        }
        let found = Digest::of(&bytes);
        if found == expected {
            Ok(Document { digest: found, bytes })
        } else {
            Err(Error::Mismatch { what: what.to_owned(), expected, found })
        }
    }

    fn missing(&self, path: &str) -> Error {
        Error::Missing { archive: self.contents.name().to_owned(), what: path.to_owned() }
    }

    fn unusable(&self, why: &str) -> Error {
        Error::Unusable { what: self.contents.name().to_owned(), why: why.to_owned() }
    }
}

/// One image under several names is listed once per name by newer Docker.
fn merge(found: &mut Vec<Candidate>, candidate: Candidate) {
    match found.iter_mut().find(|known| known.config.digest == candidate.config.digest) {
        Some(known) => known.names.extend(candidate.names),
        None => found.push(candidate),
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn digest(text: &str, what: &str) -> Result<Digest> {
    text.parse().map_err(|source| Error::BadDigest { what: what.to_owned(), source })
}

fn digest_in_name(path: &str) -> Option<Digest> {
    let name = path.rsplit('/').next()?;
    Digest::from_hex(name.strip_suffix(".json").unwrap_or(name)).ok()
}

fn json<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json { what: what.to_owned(), source })
}
