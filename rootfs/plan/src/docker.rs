//! Docker's own archive format (`docker save`): a `manifest.json` naming the configuration and the layers by path.
//! Source: the Docker image specification v1.2. An OCI manifest is made for each image, so that the store knows one kind.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::digest::Digest;

/// One image of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerImage {
    /// Path of the configuration in the archive.
    pub config: String,
    /// Names with tags.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub repo_tags: Vec<String>,
    /// Paths of the layers in the archive, bottom first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub layers: Vec<String>,
}

/// Docker writes `null` for an empty list.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// How a layer's blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar archive.
    None,
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 8878, one or more frames.
    Zstd,
}

impl Compression {
    /// Tells by the first bytes, never by the media type, which some tools write wrongly.
    pub fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // RFC 8878 section 3.1.2: a stream may begin with a skippable frame.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// The OCI media type of a layer compressed like this.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// A blob a manifest points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// How it is compressed.
    pub compression: Compression,
}

/// The bytes of an OCI manifest over a configuration and layers; the same input gives the same bytes.
pub fn oci_manifest(config: Digest, config_bytes: u64, layers: &[Blob]) -> Vec<u8> {
    let layers: Vec<serde_json::Value> = layers
        .iter()
        .map(|layer| {
            json!({
                "mediaType": layer.compression.media_type(),
                "digest": layer.digest,
                "size": layer.bytes,
            })
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config,
            "size": config_bytes,
        },
        "layers": layers,
    });
    manifest.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn dockers_manifest_may_have_nulls() {
        let text = r#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar"]}]"#;
        let images: Vec<DockerImage> = serde_json::from_str(text).unwrap();
        assert_eq!(images[0].repo_tags, Vec::<String>::new());
        assert_eq!(images[0].layers, ["a/layer.tar"]);
    }

    #[test]
    fn compression_is_told_by_the_first_bytes() {
        assert_eq!(Compression::of(&[0x1f, 0x8b, 8]), Compression::Gzip);
        assert_eq!(Compression::of(&[0x28, 0xb5, 0x2f, 0xfd]), Compression::Zstd);
        assert_eq!(Compression::of(&[0x50, 0x2a, 0x4d, 0x18]), Compression::Zstd);
        assert_eq!(Compression::of(b"etc/passwd"), Compression::None);
        assert_eq!(Compression::of(b""), Compression::None);
    }

    #[test]
    fn the_manifest_made_for_an_image_is_a_valid_oci_manifest() {
        let layer = Blob { digest: Digest::of(b"l"), bytes: 1, compression: Compression::None };
        let bytes = oci_manifest(Digest::of(b"c"), 2, &[layer]);
        let manifest: oci_spec::image::ImageManifest = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(manifest.layers().len(), 1);
        assert_eq!(manifest.config().digest().to_string(), Digest::of(b"c").to_string());
    }
}
