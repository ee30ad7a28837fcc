//! Image references, parsed and normalised as Docker and Kubernetes do: `busybox` means
//! `docker.io/library/busybox:latest`. Source: distribution/reference, grammar in its package documentation.
//!
//! A reference that does not parse is what Kubernetes reports as `InvalidImageName`. Asking a registry is not done here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestError};

const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL_PREFIX: &str = "library/";
/// The tag meant when neither a tag nor a digest is written.
pub const DEFAULT_TAG: &str = "latest";
/// distribution/reference, `RepositoryNameTotalLengthMax`.
const NAME_LENGTH_MAX: usize = 255;
/// distribution/reference, grammar of `tag`.
const TAG_LENGTH_MAX: usize = 128;

/// A normalised reference: `domain/path[:tag][@digest]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// What is wrong with a reference; each variant carries the whole text so that the message stands alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing was written.
    #[error("invalid image name: it is empty")]
    Empty,
    /// 64 hex digits look like an image id, which is no name.
    #[error("invalid image name {0:?}: 64 hex digits are an image id, not a repository; write sha256:{0} for the id")]
    LooksLikeId(String),
    /// Repositories are lower-case.
    #[error("invalid image name {0:?}: the repository must be lower-case")]
    Uppercase(String),
    /// The host part is no host.
    #[error("invalid image name {text:?}: {domain:?} is not a registry host[:port]")]
    Domain {
        /// The whole text.
        text: String,
        /// The part that should be a host.
        domain: String,
    },
    /// A path component breaks the grammar.
    #[error(
        "invalid image name {text:?}: path component {component:?} must be lower-case letters and digits, separated by single '.', '_', '__' or '-'"
    )]
    Component {
        /// The whole text.
        text: String,
        /// The component.
        component: String,
    },
    /// The tag breaks the grammar.
    #[error(
        "invalid image name {text:?}: tag {tag:?} must be 1 to 128 letters, digits, '_', '.' or '-', not beginning with '.' or '-'"
    )]
    Tag {
        /// The whole text.
        text: String,
        /// The tag.
        tag: String,
    },
    /// The digest cannot be used.
    #[error("invalid image name {text:?}")]
    Digest {
        /// The whole text.
        text: String,
        /// What is wrong with the digest.
        source: DigestError,
    },
    /// The repository name is too long.
    #[error("invalid image name: the repository has {length} characters, more than 255")]
    TooLong {
        /// Characters of `domain/path`.
        length: usize,
    },
}

impl Reference {
    /// The registry's host, e.g. `docker.io` or `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// `domain/path`, without tag and digest: what the CRI calls the repository.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag as written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest as written. When there is one it decides, and the tag is a comment.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// This reference with `latest` when it has neither tag nor digest.
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository under another tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        let text = format!("{}:{tag}", self.repository());
        check_tag(&text, tag)?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository pinned to a manifest's digest and without its tag, e.g. for `repoDigests`.
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// As a person would write it: without `docker.io/` and `library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(short) = full.strip_prefix("docker.io/") else { return full };
        short.strip_prefix(OFFICIAL_PREFIX).unwrap_or(short).to_owned()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (rest, digest) = split_digest(text)?;
        let (name, tag) = split_tag(text, rest)?;
        let (domain, path) = split_domain(name);
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase(text.to_owned()));
        }
        if !is_domain(&domain) {
            return Err(ReferenceError::Domain { text: text.to_owned(), domain });
        }
        if let Some(component) = path.split('/').find(|c| !is_component(c)) {
            return Err(ReferenceError::Component { text: text.to_owned(), component: component.to_owned() });
        }
        let length = domain.len() + 1 + path.len();
        if length > NAME_LENGTH_MAX {
            return Err(ReferenceError::TooLong { length });
        }
        Ok(Self { domain, path, tag, digest })
    }
}

impl Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn split_digest(text: &str) -> Result<(&str, Option<Digest>), ReferenceError> {
    let Some((rest, digest)) = text.split_once('@') else { return Ok((text, None)) };
    match digest.parse() {
        Ok(digest) => Ok((rest, Some(digest))),
        Err(source) => Err(ReferenceError::Digest { text: text.to_owned(), source }),
    }
}

/// A colon after the last slash begins the tag; one before it belongs to the host's port.
fn split_tag<'a>(text: &str, rest: &'a str) -> Result<(&'a str, Option<String>), ReferenceError> {
    let last = rest.rfind('/').map_or(0, |slash| slash + 1);
    let Some(colon) = rest[last..].find(':') else { return Ok((rest, None)) };
    let (name, tag) = (&rest[..last + colon], &rest[last + colon + 1..]);
    check_tag(text, tag)?;
    Ok((name, Some(tag.to_owned())))
}

fn check_tag(text: &str, tag: &str) -> Result<(), ReferenceError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = tag.as_bytes();
    let good = bytes.first().is_some_and(|b| word(*b))
        && bytes.len() <= TAG_LENGTH_MAX
        && bytes.iter().all(|b| word(*b) || matches!(b, b'.' | b'-'));
    if good { Ok(()) } else { Err(ReferenceError::Tag { text: text.to_owned(), tag: tag.to_owned() }) }
}

/// The first component is a host only when it cannot be anything else: it has a dot or a colon, an upper-case letter,
/// or is `localhost`.
fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        return (domain.to_owned(), format!("{OFFICIAL_PREFIX}{path}"));
    }
    (domain.to_owned(), path.to_owned())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                let good = !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
                return good && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
            }
            None => return false,
        },
        None => domain.split_once(':').map_or((domain, None), |(host, port)| (host, Some(port))),
    };
    port.is_none_or(is_port) && host.split('.').all(is_host_label)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alnum(*first) || !alnum(*last) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .filter(|run| !run.is_empty())
        .all(|run| matches!(run, "." | "_" | "__") || run.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_are_normalised_as_docker_does() {
        let pinned = format!("a/b:1@sha256:{HEX}");
        for (text, want) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("user/app", "docker.io/user/app:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("reg.example.com:5000/a/b_c/d__e/f--g:V1.0-x", "reg.example.com:5000/a/b_c/d__e/f--g:V1.0-x"),
            ("[2001:db8::1]:5000/app", "[2001:db8::1]:5000/app:latest"),
            ("Host/app", "Host/app:latest"),
            (pinned.as_str(), &format!("docker.io/a/b:1@sha256:{HEX}")),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().or_latest().to_string(), want);
        }
    }

    #[test]
    fn what_is_wrong_with_a_reference_is_named() {
        let long = format!("example.com/{}", "a".repeat(250));
        let short_digest = "a@sha256:12".to_owned();
        let lines: Vec<String> = [
            "",
            HEX,
            "Busybox",
            "a//b",
            "a/",
            "/a",
            "-a",
            "a_-b",
            "a___b",
            "ex_ample.com/a",
            "host:x/a",
            "a:",
            "a:.x",
            "a:b:c",
            "a b",
            &short_digest,
            "a@md5:00",
            "häuser",
            &long,
            "[::1/a",
        ]
        .iter()
        .map(|text| {
            let error = text.parse::<Reference>().unwrap_err();
            match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }
        })
        .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        invalid image name: it is empty
        invalid image name "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855": 64 hex digits are an image id, not a repository; write sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 for the id
        invalid image name "Busybox": the repository must be lower-case
        invalid image name "a//b": path component "" must be lower-case letters and digits, separated by single '.', '_', '__' or '-'
        invalid image name "a/": path component "" must be lower-case letters and digits, separated by single '.', '_', '__' or '-'
        invalid image name "/a": path component "" must be lower-case letters and digits, separated by single '.', '_', '__' or '-'
        invalid image name "-a": path component "-a" must be lower-case letters and digits, separated by single '.', '_', '__' or '-'
        invalid image name "a_-b": path component "a_-b" must be lower-case letters and digits, separated by single '.', '_', '__' or '-'
        invalid image name "a___b": path component "a___b" must be lower-case letters and digits, separated by single '.', '_', '__' or '-'
        invalid image name "ex_ample.com/a": "ex_ample.com" is not a registry host[:port]
        invalid image name "host:x/a": "host:x" is not a registry host[:port]
        invalid image name "a:": tag "" must be 1 to 128 letters, digits, '_', '.' or '-', not beginning with '.' or '-'
        invalid image name "a:.x": tag ".x" must be 1 to 128 letters, digits, '_', '.' or '-', not beginning with '.' or '-'
        invalid image name "a:b:c": tag "b:c" must be 1 to 128 letters, digits, '_', '.' or '-', not beginning with '.' or '-'
        invalid image name "a b": path component "a b" must be lower-case letters and digits, separated by single '.', '_', '__' or '-'
        invalid image name "a@sha256:12": digest "sha256:12" is not sha256: followed by 64 lower-case hex digits
        invalid image name "a@md5:00": digest algorithm "md5" is not supported; only sha256 is
        invalid image name "häuser": path component "häuser" must be lower-case letters and digits, separated by single '.', '_', '__' or '-'
        invalid image name: the repository has 262 characters, more than 255
        invalid image name "[::1/a": "[::1" is not a registry host[:port]
        "#);
    }

    #[test]
    fn a_person_reads_the_short_form() {
        for (text, want) in [("busybox", "busybox:latest"), ("u/a:1", "u/a:1"), ("localhost/a", "localhost/a:latest")] {
            assert_eq!(text.parse::<Reference>().unwrap().or_latest().familiar(), want);
        }
    }

    proptest! {
        #[test]
        fn any_text_either_fails_or_reads_back_the_same(text in "[a-zA-Z0-9./:@_-]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            let _ = text.parse::<Reference>();
        }
    }
}
