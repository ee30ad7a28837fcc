//! Choosing the manifest of a multi-platform index that fits this machine.

use std::fmt;

use oci_spec::image::{Arch, Descriptor, Os};

/// The operating system and processor images are wanted for, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// e.g. `linux`.
    pub os: Os,
    /// e.g. `amd64`.
    pub architecture: Arch,
}

impl Wanted {
    /// Linux on the processor with this Rust name (`std::env::consts::ARCH`).
    pub fn linux(rust_arch: &str) -> Self {
        let architecture = match rust_arch {
            "x86_64" => Arch::Amd64,
            "aarch64" => Arch::ARM64,
            "x86" => Arch::i386,
            "arm" => Arch::ARM,
            "riscv64" => Arch::RISCV64,
            "powerpc64" => Arch::PowerPC64le,
            "s390x" => Arch::s390x,
            other => Arch::Other(other.to_owned()),
        };
        Self { os: Os::Linux, architecture }
    }

    /// Whether an image for `os`/`architecture` runs here.
    pub fn fits(&self, os: &Os, architecture: &Arch) -> bool {
        self.os == *os && self.architecture == *architecture
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// No manifest of an index fits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no image for {wanted} in the index; it has {}", if .offered.is_empty() { "none" } else { .offered })]
pub struct NoFit {
    /// What was wanted.
    pub wanted: String,
    /// What there is, comma-separated.
    pub offered: String,
}

/// The manifest to use: the first one for this platform, else the first that names no platform. Attestations and
/// signatures, which build tools list as manifests of the platform `unknown`, are never chosen.
pub fn select<'a>(manifests: &'a [Descriptor], wanted: &Wanted) -> Result<&'a Descriptor, NoFit> {
    let images: Vec<&Descriptor> = manifests.iter().filter(|descriptor| is_image(descriptor)).collect();
    let fits = |descriptor: &&&Descriptor| {
        let platform = descriptor.platform().as_ref();
        platform.is_some_and(|platform| wanted.fits(platform.os(), platform.architecture()))
    };
    if let Some(descriptor) = images.iter().find(fits) {
        return Ok(descriptor);
    }
    images
        .iter()
        .find(|descriptor| descriptor.platform().is_none())
        .copied()
        .ok_or_else(|| NoFit { wanted: wanted.to_string(), offered: offered(&images) })
}

fn offered(images: &[&Descriptor]) -> String {
    let platforms: Vec<String> = images
        .iter()
        .filter_map(|descriptor| descriptor.platform().as_ref())
        .map(|platform| format!("{}/{}", platform.os(), platform.architecture()))
        .collect();
    platforms.join(", ")
}

/// Whether a descriptor can be an image at all.
pub fn is_image(descriptor: &Descriptor) -> bool {
    let attestation = descriptor
        .annotations()
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key("vnd.docker.reference.type"));
    let unknown = descriptor.platform().as_ref().is_some_and(|platform| platform.os().to_string() == "unknown");
    !attestation && !unknown
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use serde_json::json;

    fn descriptor(seed: &str, platform: Option<(&str, &str)>) -> Descriptor {
        let mut value = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": crate::digest::Digest::of(seed.as_bytes()).to_string(),
            "size": 1,
        });
        if let Some((os, architecture)) = platform {
            value["platform"] = json!({ "os": os, "architecture": architecture });
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_manifest_of_this_machine_is_chosen() {
        let list = [descriptor("arm", Some(("linux", "arm64"))), descriptor("pc", Some(("linux", "amd64")))];
        assert_eq!(select(&list, &Wanted::linux("x86_64")).unwrap(), &list[1]);
        assert_eq!(select(&list, &Wanted::linux("aarch64")).unwrap(), &list[0]);
    }

    #[test]
    fn a_manifest_without_a_platform_is_the_second_choice() {
        let list = [descriptor("plain", None), descriptor("pc", Some(("linux", "amd64")))];
        assert_eq!(select(&list, &Wanted::linux("x86_64")).unwrap(), &list[1]);
        assert_eq!(select(&list, &Wanted::linux("s390x")).unwrap(), &list[0]);
    }

    #[test]
    fn what_is_offered_is_said_when_nothing_fits() {
        let list = [descriptor("w", Some(("windows", "amd64"))), descriptor("att", Some(("unknown", "unknown")))];
        let error = select(&list, &Wanted::linux("x86_64")).unwrap_err();
        assert_eq!(error.to_string(), "no image for linux/amd64 in the index; it has windows/amd64");
        let none = select(&[], &Wanted::linux("x86_64")).unwrap_err();
        assert_eq!(none.to_string(), "no image for linux/amd64 in the index; it has none");
    }
}
