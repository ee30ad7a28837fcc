//! What to throw away: images nobody uses, oldest use first, and blobs and layers no image needs.
//!
//! The thresholds of disk pressure are the kubelet's; it passes how many bytes it wants back.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::{ChainId, Digest, ImageId};
use crate::index::{ImageRecord, Index};

/// What the store holds on disk, with sizes in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Blobs present.
    pub blobs: BTreeMap<Digest, u64>,
    /// Unpacked layers present.
    pub layers: BTreeMap<ChainId, u64>,
    /// Images of which a container has a root mounted.
    pub mounted: BTreeSet<ImageId>,
    /// When an image was last mounted or unmounted, milliseconds since 1970.
    pub last_used_ms: BTreeMap<ImageId, u64>,
}

/// Which images may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Stop removing images once this much is freed. 0 removes only what no image needs.
    pub free_bytes: u64,
    /// Images used or imported more recently than this stay (Kubernetes: 2 minutes).
    pub unused_ms_min: u64,
    /// Images that stay whatever happens.
    pub keep: BTreeSet<ImageId>,
    /// Whether nameless images go even when no space is wanted.
    pub nameless: Nameless,
}

/// What happens to images without a tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Nameless {
    /// As every other image.
    #[default]
    Keep,
    /// Removed when nothing uses them.
    Remove,
}

/// What to remove. Images leave the index before their files go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Images to forget, in order.
    pub images: Vec<ImageId>,
    /// Blobs to delete.
    pub blobs: Vec<Digest>,
    /// Unpacked layers to delete.
    pub layers: Vec<ChainId>,
    /// Bytes that deleting frees.
    pub freed_bytes: u64,
}

/// Decides what goes. `now_ms` is milliseconds since 1970.
pub fn plan(index: &Index, observed: &Observed, policy: &Policy, now_ms: u64) -> Plan {
    let mut images: Vec<&ImageRecord> = index.images.iter().collect();
    let mut gone = Vec::new();
    let mut rubbish = Rubbish::of(&images, observed);
    for image in removable(index, observed, policy, now_ms) {
        let nameless = image.tags.is_empty() && policy.nameless == Nameless::Remove;
        if rubbish.bytes >= policy.free_bytes && !nameless {
            continue;
        }
        images.retain(|other| other.id != image.id);
        gone.push(image.id);
        rubbish = Rubbish::of(&images, observed);
    }
    Plan { images: gone, blobs: rubbish.blobs, layers: rubbish.layers, freed_bytes: rubbish.bytes }
}

/// Images that may go, nameless ones first, then by last use.
fn removable<'a>(index: &'a Index, observed: &Observed, policy: &Policy, now_ms: u64) -> Vec<&'a ImageRecord> {
    let used = |image: &ImageRecord| {
        let mounted = observed.last_used_ms.get(&image.id).copied().unwrap_or(0);
        mounted.max(image.imported_at_ms)
    };
    let mut images: Vec<&ImageRecord> = index
        .images
        .iter()
        .filter(|image| !policy.keep.contains(&image.id) && !observed.mounted.contains(&image.id))
        .filter(|image| now_ms.saturating_sub(used(image)) >= policy.unused_ms_min)
        .collect();
    images.sort_by_key(|image| (!image.tags.is_empty(), used(image), image.id));
    images
}

struct Rubbish {
    blobs: Vec<Digest>,
    layers: Vec<ChainId>,
    bytes: u64,
}

impl Rubbish {
    fn of(images: &[&ImageRecord], observed: &Observed) -> Self {
        let blobs: BTreeSet<Digest> = images.iter().flat_map(|image| image.blobs()).collect();
        let layers: BTreeSet<ChainId> = images.iter().flat_map(|image| image.chains()).collect();
        let mut rubbish = Self { blobs: Vec::new(), layers: Vec::new(), bytes: 0 };
        for (digest, bytes) in observed.blobs.iter().filter(|(digest, _)| !blobs.contains(digest)) {
            rubbish.blobs.push(*digest);
            rubbish.bytes += bytes;
        }
        for (chain, bytes) in observed.layers.iter().filter(|(chain, _)| !layers.contains(chain)) {
            rubbish.layers.push(*chain);
            rubbish.bytes += bytes;
        }
        rubbish
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::tests::image;
    use proptest::prelude::*;

    fn world(images: &[(&str, &[&str], u64)]) -> (Index, Observed) {
        let (mut index, mut observed) = (Index::default(), Observed::default());
        for (seed, layers, used_ms) in images {
            let record = image(seed, &[&format!("{seed}:1")], layers);
            observed.last_used_ms.insert(record.id, *used_ms);
            observed.blobs.extend(record.blobs().map(|digest| (digest, 10)));
            observed.layers.extend(record.chains().map(|chain| (chain, 100)));
            index.insert(record);
        }
        (index, observed)
    }

    fn wants(free_bytes: u64) -> Policy {
        Policy { free_bytes, ..Policy::default() }
    }

    #[test]
    fn without_a_wish_only_what_no_image_needs_goes() {
        let (index, mut observed) = world(&[("a", &["base"], 1)]);
        observed.blobs.insert(Digest::of(b"stray"), 7);
        observed.layers.insert(ChainId(Digest::of(b"stray layer")), 70);
        let plan = plan(&index, &observed, &wants(0), 1000);
        assert_eq!((plan.images.len(), plan.blobs.len(), plan.layers.len(), plan.freed_bytes), (0, 1, 1, 77));
    }

    #[test]
    fn the_longest_unused_image_goes_first_and_shared_layers_stay() {
        let (index, observed) = world(&[("new", &["base", "x"], 9), ("old", &["base", "y"], 5)]);
        let plan = plan(&index, &observed, &wants(1), 1000);
        assert_eq!(plan.images, [image("old", &[], &[]).id]);
        assert_eq!(plan.layers.len(), 1);
        assert_eq!(plan.freed_bytes, 100 + 3 * 10);
    }

    #[test]
    fn mounted_kept_and_fresh_images_stay_whatever_is_wanted() {
        let (index, mut observed) = world(&[("mounted", &["a"], 1), ("kept", &["b"], 1), ("fresh", &["c"], 999)]);
        observed.mounted.insert(image("mounted", &[], &[]).id);
        let keep = [image("kept", &[], &[]).id].into();
        let policy = Policy { unused_ms_min: 100, keep, ..wants(u64::MAX) };
        assert_eq!(plan(&index, &observed, &policy, 1000), Plan::default());
    }

    #[test]
    fn nameless_images_go_when_asked() {
        let (mut index, observed) = world(&[("named", &["a"], 1), ("nameless", &["b"], 1)]);
        index.images[1].tags.clear();
        let policy = Policy { nameless: Nameless::Remove, ..wants(0) };
        assert_eq!(plan(&index, &observed, &policy, 1000).images, [image("nameless", &[], &[]).id]);
    }

    proptest! {
        #[test]
        fn nothing_a_remaining_image_needs_is_ever_deleted(
            free_bytes in 0u64..2000,
            sets in proptest::collection::vec(proptest::collection::vec(0u8..5, 0..4), 0..6),
        ) {
            let names: Vec<(String, Vec<String>)> = sets.iter().enumerate()
                .map(|(n, layers)| (format!("i{n}"), layers.iter().map(|l| format!("l{l}")).collect()))
                .collect();
            let layers: Vec<Vec<&str>> =
                names.iter().map(|(_, layers)| layers.iter().map(String::as_str).collect()).collect();
            let images: Vec<(&str, &[&str], u64)> =
                names.iter().zip(&layers).map(|((name, _), layers)| (name.as_str(), layers.as_slice(), 1)).collect();
            let (index, observed) = world(&images);
            let plan = plan(&index, &observed, &wants(free_bytes), 1000);
            for image in index.images.iter().filter(|image| !plan.images.contains(&image.id)) {
                prop_assert!(image.blobs().all(|blob| !plan.blobs.contains(&blob)));
                prop_assert!(image.chains().all(|chain| !plan.layers.contains(&chain)));
            }
        }
    }
}
