//! The store's list of images: which names point at which image, and what each image is made of.
//!
//! Reading and writing the file is `pintle-rootfs`'s; here are its shape and the rules of tagging and untagging.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::{ChainId, Digest, ImageId};
use crate::reference::Reference;

/// The shape of the file this program writes.
pub const VERSION: u32 = 1;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Always [`VERSION`]; another number is another program's file.
    pub version: u32,
    /// Every image, in order of arrival.
    pub images: Vec<ImageRecord>,
}

impl Default for Index {
    fn default() -> Self {
        Self { version: VERSION, images: Vec::new() }
    }
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Digest of the configuration.
    pub id: ImageId,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Digest of the multi-platform index the manifest was chosen from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Digest>,
    /// Names with a tag.
    #[serde(default)]
    pub tags: BTreeSet<Reference>,
    /// Names with a digest, of the manifest or of the index.
    #[serde(default)]
    pub digests: BTreeSet<Reference>,
    /// Layers, bottom first.
    pub layers: Vec<LayerRecord>,
    /// Bytes of configuration, manifest and compressed layers.
    pub size_bytes: u64,
    /// When it was imported, milliseconds since 1970.
    pub imported_at_ms: u64,
}

/// One layer of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The blob as it was imported.
    pub blob: Digest,
    /// Its size.
    pub blob_bytes: u64,
    /// The uncompressed archive.
    pub diff: Digest,
    /// Its size.
    pub tar_bytes: u64,
    /// The unpacked directory.
    pub chain: ChainId,
    /// Whether the layer hides everything below it. Overlayfs does not look for its mark on a root directory, so the
    /// layers below are left out of the mount instead.
    #[serde(default)]
    pub opaque_root: bool,
}

impl ImageRecord {
    /// Every blob this image needs.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> + '_ {
        let layers = self.layers.iter().map(|layer| layer.blob);
        [self.id.0, self.manifest].into_iter().chain(self.index).chain(layers)
    }

    /// The unpacked layers to mount, bottom first.
    pub fn visible_chains(&self) -> impl Iterator<Item = ChainId> + '_ {
        let bottom = self.layers.iter().rposition(|layer| layer.opaque_root).unwrap_or(0);
        self.layers[bottom..].iter().map(|layer| layer.chain)
    }

    /// Every unpacked layer this image needs, bottom first.
    pub fn chains(&self) -> impl Iterator<Item = ChainId> + '_ {
        self.layers.iter().map(|layer| layer.chain)
    }
}

/// What removing a name did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// The name is gone, the image has others.
    Untagged(Reference),
    /// The image is gone with all its names.
    Image(Box<ImageRecord>),
}

/// A name or id that fits more than one image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{prefix:?} fits {matches} images; write more digits of the id")]
pub struct Ambiguous {
    /// What was asked for.
    pub prefix: String,
    /// How many fit.
    pub matches: usize,
}

impl Index {
    /// The image with this id.
    pub fn by_id(&self, id: ImageId) -> Option<&ImageRecord> {
        self.images.iter().find(|image| image.id == id)
    }

    /// The image a normalised reference points at; a digest outranks a tag.
    pub fn by_reference(&self, reference: &Reference) -> Option<&ImageRecord> {
        if let Some(digest) = reference.digest() {
            let pinned = reference.pinned(digest);
            return self.images.iter().find(|image| image.digests.contains(&pinned));
        }
        self.images.iter().find(|image| image.tags.contains(reference))
    }

    /// The image whose id begins with these hexadecimal digits.
    pub fn by_prefix(&self, prefix: &str) -> Result<Option<&ImageRecord>, Ambiguous> {
        let mut fits = self.images.iter().filter(|image| image.id.0.hex().starts_with(prefix));
        let first = fits.next();
        match fits.count() {
            0 => Ok(first),
            more => Err(Ambiguous { prefix: prefix.to_owned(), matches: more + 1 }),
        }
    }

    /// Adds an image. Its tags leave whatever image had them, which stays without a name; an image already here keeps
    /// its names and its time of arrival, and takes the new manifest.
    pub fn insert(&mut self, mut record: ImageRecord) {
        for image in self.images.iter_mut().filter(|image| image.id != record.id) {
            image.tags.retain(|tag| !record.tags.contains(tag));
        }
        match self.images.iter_mut().find(|image| image.id == record.id) {
            Some(known) => {
                record.tags.append(&mut known.tags);
                record.digests.append(&mut known.digests);
                record.imported_at_ms = known.imported_at_ms;
                *known = record;
            }
            None => self.images.push(record),
        }
    }

    /// Removes one tag; the last name takes the image with it.
    pub fn remove_tag(&mut self, tag: &Reference) -> Option<Removed> {
        let at = self.images.iter().position(|image| image.tags.contains(tag))?;
        if self.images[at].tags.len() == 1 {
            return Some(Removed::Image(Box::new(self.images.remove(at))));
        }
        self.images[at].tags.remove(tag);
        Some(Removed::Untagged(tag.clone()))
    }

    /// Removes an image with all its names.
    pub fn remove_image(&mut self, id: ImageId) -> Option<Removed> {
        let at = self.images.iter().position(|image| image.id == id)?;
        Some(Removed::Image(Box::new(self.images.remove(at))))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    pub(crate) fn tag(text: &str) -> Reference {
        text.parse::<Reference>().unwrap().or_latest()
    }

    pub(crate) fn image(seed: &str, tags: &[&str], layers: &[&str]) -> ImageRecord {
        let diffs: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer.as_bytes())).collect();
        let chains = crate::digest::chain_ids(&diffs);
        ImageRecord {
            id: ImageId(Digest::of(seed.as_bytes())),
            manifest: Digest::of(format!("manifest {seed}").as_bytes()),
            index: None,
            tags: tags.iter().map(|text| tag(text)).collect(),
            digests: BTreeSet::new(),
            layers: diffs
                .iter()
                .zip(chains)
                .map(|(diff, chain)| LayerRecord {
                    blob: *diff,
                    blob_bytes: 100,
                    diff: *diff,
                    tar_bytes: 300,
                    chain,
                    opaque_root: false,
                })
                .collect(),
            size_bytes: 0,
            imported_at_ms: 0,
        }
    }

    #[test]
    fn a_tag_moves_to_the_newer_image_and_the_older_stays_nameless() {
        let mut index = Index::default();
        index.insert(image("old", &["web", "web:1"], &[]));
        index.insert(image("new", &["web"], &[]));
        assert_eq!(index.by_reference(&tag("web")).unwrap().id, image("new", &[], &[]).id);
        assert_eq!(index.by_reference(&tag("web:1")).unwrap().id, image("old", &[], &[]).id);
    }

    #[test]
    fn importing_an_image_again_adds_names_and_keeps_its_age() {
        let mut index = Index::default();
        index.insert(ImageRecord { imported_at_ms: 5, ..image("a", &["web:1"], &[]) });
        index.insert(ImageRecord { imported_at_ms: 9, ..image("a", &["web:2"], &[]) });
        assert_eq!(index.images.len(), 1);
        assert_eq!(index.images[0].imported_at_ms, 5);
        assert_eq!(index.images[0].tags.len(), 2);
    }

    #[test]
    fn the_last_name_takes_the_image_with_it() {
        let mut index = Index::default();
        index.insert(image("a", &["web:1", "web:2"], &[]));
        assert_eq!(index.remove_tag(&tag("web:1")), Some(Removed::Untagged(tag("web:1"))));
        assert!(matches!(index.remove_tag(&tag("web:2")), Some(Removed::Image(_))));
        assert_eq!(index.remove_tag(&tag("web:2")), None);
        assert!(index.images.is_empty());
    }

    #[test]
    fn a_digest_outranks_a_tag() {
        let mut index = Index::default();
        let pinned = tag("web").pinned(Digest::of(b"m"));
        index.insert(ImageRecord { digests: [pinned.clone()].into(), ..image("a", &["web:1"], &[]) });
        let both: Reference = format!("web:9@{}", Digest::of(b"m")).parse().unwrap();
        assert_eq!(index.by_reference(&both).unwrap().id, image("a", &[], &[]).id);
    }

    #[test]
    fn an_ambiguous_prefix_is_an_error_not_a_guess() {
        let mut index = Index::default();
        index.insert(image("a", &[], &[]));
        index.insert(image("b", &[], &[]));
        assert_eq!(index.by_prefix("").unwrap_err().matches, 2);
        let hex = image("a", &[], &[]).id.0.hex();
        assert!(index.by_prefix(&hex[..12]).unwrap().is_some());
        assert!(index.by_prefix("zz").unwrap().is_none());
    }

    #[test]
    fn layers_below_an_opaque_root_are_not_mounted() {
        let mut record = image("a", &[], &["l1", "l2", "l3"]);
        assert_eq!(record.visible_chains().count(), 3);
        record.layers[1].opaque_root = true;
        assert_eq!(record.visible_chains().collect::<Vec<_>>(), record.chains().skip(1).collect::<Vec<_>>());
    }

    #[test]
    fn the_file_reads_back_as_written() {
        let mut index = Index::default();
        index.insert(image("a", &["web:1"], &["l1", "l2"]));
        let text = serde_json::to_string(&index).unwrap();
        assert_eq!(serde_json::from_str::<Index>(&text).unwrap(), index);
    }
}
