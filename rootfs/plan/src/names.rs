//! What an imported image is called: by the archive's annotations, or by the user's word.

use std::collections::HashMap;

use crate::reference::{Reference, ReferenceError};

/// The full name, as containerd and newer Docker write it.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// OCI image specification, annotations.md: often only a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What the user asked an import to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Override {
    /// A whole name: every image of the archive gets it, so there must be only one.
    Name(Reference),
    /// A repository: the archive's tags are kept beneath it.
    Repository(Reference),
}

impl Override {
    /// Reads the user's word: with a tag it is a name, without one a repository.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let reference: Reference = text.parse()?;
        Ok(if reference.tag().is_some() { Self::Name(reference) } else { Self::Repository(reference) })
    }
}

/// The names of an image of an OCI layout, from the annotations of its descriptor. An archive's word that is neither a
/// name nor a tag is ignored: the image arrives without a name and can be given one.
pub fn of_layout(annotations: Option<&HashMap<String, String>>, chosen: Option<&Override>) -> Vec<Reference> {
    let word = |key: &str| annotations.and_then(|map| map.get(key)).map(String::as_str);
    let (full, short) = (word(CONTAINERD_NAME), word(REF_NAME));
    match chosen {
        Some(Override::Name(name)) => vec![name.clone()],
        Some(Override::Repository(repository)) => {
            let tag = full.and_then(tag_of).or_else(|| short.and_then(tag_of));
            let bare = short.filter(|short| !short.contains([':', '/'])).map(str::to_owned);
            let named = tag.or(bare).and_then(|tag| repository.with_tag(&tag).ok());
            vec![named.unwrap_or_else(|| repository.clone().or_latest())]
        }
        None => {
            let written = full.or_else(|| short.filter(|short| short.contains([':', '/'])));
            written.and_then(|name| name.parse::<Reference>().ok()).map(Reference::or_latest).into_iter().collect()
        }
    }
}

/// The names of an image of a Docker archive, from `RepoTags`.
pub fn of_docker(repo_tags: &[String], chosen: Option<&Override>) -> Vec<Reference> {
    let written = || repo_tags.iter().filter_map(|tag| tag.parse::<Reference>().ok()).map(Reference::or_latest);
    match chosen {
        Some(Override::Name(name)) => vec![name.clone()],
        Some(Override::Repository(repository)) => {
            let tags = written().filter_map(|name| name.tag().and_then(|tag| repository.with_tag(tag).ok()));
            let names: Vec<Reference> = tags.collect();
            if names.is_empty() { vec![repository.clone().or_latest()] } else { names }
        }
        None => written().collect(),
    }
}

fn tag_of(name: &str) -> Option<String> {
    let tail = name.rsplit('/').next().unwrap_or(name);
    name.parse::<Reference>().ok().filter(|_| tail.contains(':'))?.tag().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn layout(pairs: &[(&str, &str)], chosen: Option<&str>) -> String {
        let map = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let chosen = chosen.map(|text| Override::parse(text).unwrap());
        let names = of_layout(Some(&map), chosen.as_ref());
        names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_oci_layout_names_its_images_in_two_ways() {
        for (pairs, chosen, want) in [
            (vec![(CONTAINERD_NAME, "docker.io/library/web:1"), (REF_NAME, "1")], None, "docker.io/library/web:1"),
            (vec![(REF_NAME, "localhost/web:2")], None, "localhost/web:2"),
            (vec![(REF_NAME, "latest")], None, ""),
            (vec![(REF_NAME, "latest")], Some("web"), "docker.io/library/web:latest"),
            (vec![(REF_NAME, "1.2")], Some("localhost/web"), "localhost/web:1.2"),
            (vec![(CONTAINERD_NAME, "a/b:7")], Some("c/d"), "docker.io/c/d:7"),
            (vec![(CONTAINERD_NAME, "a/b:7")], Some("c/d:8"), "docker.io/c/d:8"),
            (vec![], Some("web"), "docker.io/library/web:latest"),
            (vec![(CONTAINERD_NAME, "Not A Name")], None, ""),
        ] {
            assert_eq!(layout(&pairs, chosen), want, "{pairs:?} {chosen:?}");
        }
    }

    #[test]
    fn a_docker_archive_names_its_images_by_repo_tags() {
        let tags = ["web:1".to_owned(), "localhost/web:2".to_owned()];
        let text = |chosen: Option<&str>| {
            let chosen = chosen.map(|text| Override::parse(text).unwrap());
            of_docker(&tags, chosen.as_ref()).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(text(None), "docker.io/library/web:1 localhost/web:2");
        assert_eq!(text(Some("x")), "docker.io/library/x:1 docker.io/library/x:2");
        assert_eq!(text(Some("x:9")), "docker.io/library/x:9");
        assert_eq!(of_docker(&[], Some(&Override::parse("x").unwrap()))[0].to_string(), "docker.io/library/x:latest");
    }
}
