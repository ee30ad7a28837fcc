//! Content addresses: the digest of a blob, the id of an image, the id of a chain of layers.
//!
//! Only sha256 is spoken: it is what every registry and archive uses, and a second algorithm would give one blob two
//! names in the store.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A sha256 digest, parsed once at the boundary. Its text form is `sha256:<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// Why a text is no digest that the store can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:` in front.
    #[error("digest {0:?} has no algorithm; expected sha256:<64 hex digits>")]
    NoAlgorithm(String),
    /// Another algorithm than sha256.
    #[error("digest algorithm {algorithm:?} is not supported; only sha256 is")]
    Algorithm {
        /// What stood before the colon.
        algorithm: String,
    },
    /// The value is not 64 lower-case hexadecimal digits.
    #[error("digest {0:?} is not sha256: followed by 64 lower-case hex digits")]
    Value(String),
}

impl Digest {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Wraps a finished sha256 sum.
    pub const fn from_sum(sum: [u8; 32]) -> Self {
        Self(sum)
    }

    /// The 64 hexadecimal digits: the name of the blob's file.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Parses the 64 hexadecimal digits without the algorithm.
    pub fn from_hex(text: &str) -> Result<Self, DigestError> {
        let mut sum = [0; 32];
        let lower = text.bytes().all(|b| !b.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut sum) {
            Ok(()) if lower => Ok(Self(sum)),
            _ => Err(DigestError::Value(text.to_owned())),
        }
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, value) = text.split_once(':').ok_or_else(|| DigestError::NoAlgorithm(text.to_owned()))?;
        if algorithm != "sha256" {
            return Err(DigestError::Algorithm { algorithm: algorithm.to_owned() });
        }
        Self::from_hex(value).map_err(|_| DigestError::Value(text.to_owned()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The identity of an image: the digest of its configuration, as `docker images` and the CRI use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub Digest);

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ImageId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.parse().map(Self)
    }
}

/// The identity of a stack of unpacked layers, from the bottom up to and including one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The chain id of every layer of an image whose uncompressed layers have these digests, bottom first.
/// Source: OCI image specification, config.md, "Layer ChainID".
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<ChainId> {
    let mut chains: Vec<ChainId> = Vec::with_capacity(diff_ids.len());
    for diff in diff_ids {
        let chain = chains.last().map_or(*diff, |parent| Digest::of(format!("{parent} {diff}").as_bytes()));
        chains.push(ChainId(chain));
    }
    chains
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_digest_survives_its_text_form() {
        let digest = Digest::of(b"hello");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert_eq!(digest.to_string(), "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    }

    #[test]
    fn what_is_not_a_sha256_digest_is_refused_by_name() {
        let upper = format!("sha256:{}", "A".repeat(64));
        for (text, want) in [
            ("abc", "digest \"abc\" has no algorithm; expected sha256:<64 hex digits>"),
            ("sha512:00", "digest algorithm \"sha512\" is not supported; only sha256 is"),
            ("sha256:../../etc", "digest \"sha256:../../etc\" is not sha256: followed by 64 lower-case hex digits"),
            (upper.as_str(), "lower-case hex digits"),
        ] {
            let error = text.parse::<Digest>().unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn a_chain_id_names_the_layer_and_all_below_it() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let chains = chain_ids(&[a, b]);
        assert_eq!(chains[0].0, a);
        assert_eq!(chains[1].0, Digest::of(format!("{a} {b}").as_bytes()));
        assert_ne!(chain_ids(&[b, a])[1], chains[1]);
        assert!(chain_ids(&[]).is_empty());
    }
}
