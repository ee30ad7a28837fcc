//! Image names and the question whether a container may start with what the local store holds.
//!
//! Owns: parsing and normalising names, pull policies. Does not own: the store, pulling.

use std::fmt;

/// A well-formed image name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    /// As the container's spec says it.
    pub given: String,
    /// With registry and tag filled in: `docker.io/library/busybox:latest`.
    pub full: String,
}

/// Why an image name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("couldn't parse image name \"{name}\": invalid reference format")]
pub struct InvalidImageName {
    /// The name.
    pub name: String,
}

/// When an image is looked for outside the local store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// At every start of a container.
    Always,
    /// If the store lacks it.
    IfNotPresent,
    /// Not.
    Never,
}

impl ImageName {
    /// Reads `[registry/]path[:tag][@digest]`.
    pub fn parse(name: &str) -> Result<ImageName, InvalidImageName> {
        let invalid = || InvalidImageName { name: name.to_owned() };
        let (rest, digest) = name.split_once('@').map_or((name, None), |(r, d)| (r, Some(d)));
        let slash = rest.rfind('/').map_or(0, |i| i + 1);
        let (path, tag) = match rest[slash..].split_once(':') {
            Some((_, tag)) => (&rest[..rest.len() - tag.len() - 1], Some(tag)),
            None => (rest, None),
        };
        let (registry, path) = split_registry(path);
        let well_formed = !path.is_empty()
            && path.split('/').all(path_part_ok)
            && tag.is_none_or(tag_ok)
            && digest.is_none_or(digest_ok);
        if !well_formed {
            return Err(invalid());
        }
        let library = if registry == "docker.io" && !path.contains('/') { "library/" } else { "" };
        let suffix = match (tag, digest) {
            (_, Some(digest)) => format!("@{digest}"),
            (Some(tag), None) => format!(":{tag}"),
            (None, None) => ":latest".to_owned(),
        };
        Ok(ImageName { given: name.to_owned(), full: format!("{registry}/{library}{path}{suffix}") })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

/// The policy as written, else Always for `:latest` and IfNotPresent for the rest.
pub fn pull_policy(written: Option<&str>, image: &ImageName) -> PullPolicy {
    match written {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some("IfNotPresent") => PullPolicy::IfNotPresent,
        _ if image.full.ends_with(":latest") => PullPolicy::Always,
        _ => PullPolicy::IfNotPresent,
    }
}

/// The waiting reason and message for an image the store lacks.
pub fn missing(policy: PullPolicy, image: &ImageName) -> (&'static str, String) {
    let hint = format!(
        "this node has no registry client yet; import it with `pintle image import <archive>` so that it is named \"{}\"",
        image.full
    );
    match policy {
        PullPolicy::Never => (
            "ErrImageNeverPull",
            format!("Container image \"{image}\" is not present with pull policy of Never; {hint}"),
        ),
        PullPolicy::Always | PullPolicy::IfNotPresent => {
            ("ErrImagePull", format!("image \"{image}\" is not in the local store, and {hint}"))
        }
    }
}

fn split_registry(path: &str) -> (&str, &str) {
    match path.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => ("docker.io", path),
    }
}

fn path_part_ok(part: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    edge(part.chars().next())
        && edge(part.chars().next_back())
        && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'))
}

fn tag_ok(tag: &str) -> bool {
    let first = tag.chars().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    first && tag.len() <= 128 && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn digest_ok(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, value)| {
        !algorithm.is_empty() && value.len() >= 32 && value.chars().all(|c| c.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let table = [
            ("busybox", Some("docker.io/library/busybox:latest".to_owned())),
            ("busybox:1.35", Some("docker.io/library/busybox:1.35".to_owned())),
            ("a/b", Some("docker.io/a/b:latest".to_owned())),
            ("localhost/web:1", Some("localhost/web:1".to_owned())),
            ("r.example:5000/a/b:c", Some("r.example:5000/a/b:c".to_owned())),
            (&format!("r.example/a:c@{digest}"), Some(format!("r.example/a@{digest}"))),
            ("Busybox", None),
            ("", None),
            ("a b", None),
            ("busybox:", None),
            ("busybox@sha256:12", None),
        ];
        for (given, full) in table {
            assert_eq!(ImageName::parse(given).ok().map(|i| i.full), full, "{given}");
        }
    }
}
