//! A pod's volumes: where each comes from, where containers mount them.
//!
//! Owns: the plan. Does not own: what files a projected one holds (`payload`), directories, mounts, tokens (the edge's),
//! fetching objects.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, DownwardAPIVolumeFile, Pod, SecretProjection, Volume, VolumeMount, VolumeProjection,
};

use crate::containers::{containers, spec};
use crate::env::{ConfigError, expand};
use crate::oci::Propagation;
use crate::quantity;

const DEFAULT_MODE: u32 = 0o644;
/// The default of `serviceAccountToken.expirationSeconds`.
const TOKEN_LIFE_S: i64 = 3600;

/// One volume of a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct VolumePlan {
    /// Its name in the pod.
    pub name: String,
    /// Directory of its plugin below the pod's `volumes`, e.g. `kubernetes.io~empty-dir`.
    pub plugin: &'static str,
    /// What it is.
    pub kind: VolumeKind,
}

/// What a volume is.
#[derive(Debug, Clone, PartialEq)]
pub enum VolumeKind {
    /// An empty directory that lives as long as the pod.
    EmptyDir {
        /// In memory (tmpfs).
        memory: bool,
        /// Bytes; a tmpfs enforces it, of a directory on disk the kubelet measures it.
        size_max: Option<i64>,
        /// Permission bits, unless a group owns it.
        mode: u32,
    },
    /// A path of the node.
    HostPath {
        /// The path.
        path: String,
        /// What must be there, or is made.
        expect: HostPathType,
    },
    /// Files made from API objects, tokens and fields.
    Projection(Projection),
}

/// What a hostPath volume demands of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPathType {
    /// Nothing.
    Any,
    /// A directory, made (0755) if absent.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A file, made (0644) if absent.
    FileOrCreate,
    /// A file.
    File,
    /// A unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// A directory of files that is replaced as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// Where its files come from; later parts win.
    pub parts: Vec<Part>,
    /// Mode of files that do not say their own.
    pub default_mode: u32,
    /// Owner of files that do not say their own; `None` is root.
    pub default_user: Option<i64>,
    /// Kept in memory: it holds secrets.
    pub memory: bool,
}

/// One source of a projection's files.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Keys of a ConfigMap.
    ConfigMap(ConfigMapProjection),
    /// Keys of a Secret.
    Secret(SecretProjection),
    /// Fields of the pod.
    Downward(Vec<DownwardAPIVolumeFile>),
    /// A service-account token.
    Token {
        /// File name.
        path: String,
        /// Owner of the file.
        user: Option<i64>,
        /// What to ask the API server for.
        request: TokenAsk,
    },
}

/// What a token is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenAsk {
    /// Audience; empty is the API server's own.
    pub audience: String,
    /// Life in seconds.
    pub life_s: i64,
}

/// A volume's place in a container; the edge resolves the sub-path without following it out of the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPlan {
    /// The volume's directory on the node.
    pub volume: PathBuf,
    /// Path inside the volume, expanded.
    pub sub_path: Option<String>,
    /// Path in the container.
    pub mount_path: String,
    /// No writes.
    pub read_only: bool,
    /// No writes below either.
    pub recursive_read_only: bool,
    /// How mounts travel.
    pub propagation: Propagation,
    /// `noexec`, `nodev`, `nosuid`, as asked for.
    pub options: Vec<&'static str>,
}

/// The plan of every volume of the pod.
pub fn plan(pod: &Pod) -> Result<Vec<VolumePlan>, ConfigError> {
    spec(pod).volumes.iter().flatten().map(one).collect()
}

/// Names of ConfigMaps and of Secrets.
pub type References = (BTreeSet<String>, BTreeSet<String>);

/// ConfigMaps and Secrets the pod's volumes and environments refer to.
pub fn references(pod: &Pod) -> References {
    let (mut maps, mut secrets) = volume_references(pod);
    for (_, container) in containers(pod) {
        let (more_maps, more_secrets) = env_references(container);
        maps.extend(more_maps);
        secrets.extend(more_secrets);
    }
    (maps, secrets)
}

/// Those the pod's volumes refer to.
pub fn volume_references(pod: &Pod) -> References {
    let (mut maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for volume in plan(pod).unwrap_or_default() {
        let VolumeKind::Projection(projection) = volume.kind else { continue };
        for part in projection.parts {
            match part {
                Part::ConfigMap(p) => drop(maps.insert(p.name)),
                Part::Secret(p) => drop(secrets.insert(p.name)),
                Part::Downward(_) | Part::Token { .. } => {}
            }
        }
    }
    (maps, secrets)
}

/// Those a container's environment refers to.
pub fn env_references(container: &Container) -> References {
    let (mut maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for source in container.env_from.iter().flatten() {
        maps.extend(source.config_map_ref.iter().map(|r| r.name.clone()));
        secrets.extend(source.secret_ref.iter().map(|r| r.name.clone()));
    }
    for from in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
        maps.extend(from.config_map_key_ref.iter().map(|r| r.name.clone()));
        secrets.extend(from.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    (maps, secrets)
}

/// The tokens a projection needs.
pub fn tokens(projection: &Projection) -> Vec<TokenAsk> {
    let ask = |part: &Part| match part {
        Part::Token { request, .. } => Some(request.clone()),
        Part::ConfigMap(_) | Part::Secret(_) | Part::Downward(_) => None,
    };
    projection.parts.iter().filter_map(ask).collect()
}

/// Where a container mounts which volumes; `dirs` are the volumes' directories by name.
pub fn mounts(
    container: &Container,
    env: &[(String, String)],
    dirs: &BTreeMap<String, PathBuf>,
) -> Result<Vec<MountPlan>, ConfigError> {
    container.volume_mounts.iter().flatten().map(|m| one_mount(m, env, dirs)).collect()
}

fn one_mount(
    mount: &VolumeMount,
    env: &[(String, String)],
    dirs: &BTreeMap<String, PathBuf>,
) -> Result<MountPlan, ConfigError> {
    let volume = dirs
        .get(&mount.name)
        .ok_or_else(|| ConfigError::NoVolume { volume: mount.name.clone(), mount_path: mount.mount_path.clone() })?;
    let lookup = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let expanded = mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()).map(|e| expand(e, &lookup));
    Ok(MountPlan {
        volume: volume.clone(),
        sub_path: expanded.or_else(|| mount.sub_path.clone()).filter(|p| !p.is_empty()),
        mount_path: absolute(&mount.mount_path),
        read_only: mount.read_only.unwrap_or(false),
        // The runtime requires a kernel that has it, so that "if possible" is always.
        recursive_read_only: matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")),
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => Propagation::HostToContainer,
            Some("Bidirectional") => Propagation::Bidirectional,
            _ => Propagation::Private,
        },
        options: bind_options(mount)?,
    })
}

fn bind_options(mount: &VolumeMount) -> Result<Vec<&'static str>, ConfigError> {
    let known = |word: &String| {
        let option = ["noexec", "nodev", "nosuid"].into_iter().find(|o| o == word);
        let what = || format!("volumeMounts[{}].bindMountOptions: {word}", mount.mount_path);
        option.ok_or_else(|| ConfigError::Unsupported { what: what() })
    };
    mount.bind_mount_options.iter().flatten().map(known).collect()
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn one(volume: &Volume) -> Result<VolumePlan, ConfigError> {
    let planned = |plugin, kind| Ok(VolumePlan { name: volume.name.clone(), plugin, kind });
    let projection = |plugin, parts, mode: Option<i32>, default_user, memory| {
        let default_mode = mode_bits(mode);
        planned(plugin, VolumeKind::Projection(Projection { parts, default_mode, default_user, memory }))
    };
    if let Some(source) = &volume.host_path {
        let expect = host_path_type(source.type_.as_deref().unwrap_or_default())?;
        return planned("kubernetes.io~host-path", VolumeKind::HostPath { path: source.path.clone(), expect });
    }
    if let Some(source) = &volume.config_map {
        let part =
            ConfigMapProjection { items: source.items.clone(), name: source.name.clone(), optional: source.optional };
        return projection(
            "kubernetes.io~configmap",
            vec![Part::ConfigMap(part)],
            source.default_mode,
            source.default_user,
            false,
        );
    }
    if let Some(source) = &volume.secret {
        let part = SecretProjection {
            items: source.items.clone(),
            name: source.secret_name.clone().unwrap_or_default(),
            optional: source.optional,
        };
        return projection(
            "kubernetes.io~secret",
            vec![Part::Secret(part)],
            source.default_mode,
            source.default_user,
            true,
        );
    }
    if let Some(source) = &volume.downward_api {
        let part = Part::Downward(source.items.clone().unwrap_or_default());
        return projection("kubernetes.io~downward-api", vec![part], source.default_mode, source.default_user, false);
    }
    if let Some(source) = &volume.projected {
        let parts =
            source.sources.iter().flatten().map(|s| projected_part(&volume.name, s)).collect::<Result<Vec<_>, _>>()?;
        return projection("kubernetes.io~projected", parts, source.default_mode, source.default_user, true);
    }
    if let Some(source) = &volume.empty_dir {
        return planned("kubernetes.io~empty-dir", empty_dir(&volume.name, source)?);
    }
    Err(ConfigError::Unsupported { what: format!("spec.volumes[{}].{}", volume.name, source_word(volume)) })
}

/// The field that says what the volume is.
fn source_word(volume: &Volume) -> String {
    let fields = serde_json::to_value(volume).ok();
    let words = fields.as_ref().and_then(serde_json::Value::as_object).into_iter().flatten();
    words.map(|(word, _)| word.clone()).find(|word| word != "name").unwrap_or_else(|| "<no source>".to_owned())
}

fn empty_dir(name: &str, source: &k8s_openapi::api::core::v1::EmptyDirVolumeSource) -> Result<VolumeKind, ConfigError> {
    let memory = match source.medium.as_deref().unwrap_or_default() {
        "" => false,
        "Memory" => true,
        other => {
            return Err(ConfigError::Unsupported { what: format!("spec.volumes[{name}].emptyDir.medium: {other}") });
        }
    };
    let size_max = source.size_limit.as_ref().and_then(quantity::units).filter(|bytes| *bytes > 0);
    let mode = source.mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(0o777);
    Ok(VolumeKind::EmptyDir { memory, size_max, mode })
}

fn projected_part(name: &str, source: &VolumeProjection) -> Result<Part, ConfigError> {
    if let Some(p) = &source.config_map {
        return Ok(Part::ConfigMap(p.clone()));
    }
    if let Some(p) = &source.secret {
        return Ok(Part::Secret(p.clone()));
    }
    if let Some(p) = &source.downward_api {
        return Ok(Part::Downward(p.items.clone().unwrap_or_default()));
    }
    if let Some(p) = &source.service_account_token {
        let life_s = p.expiration_seconds.unwrap_or(TOKEN_LIFE_S);
        let request = TokenAsk { audience: p.audience.clone().unwrap_or_default(), life_s };
        return Ok(Part::Token { path: p.path.clone(), user: p.user, request });
    }
    let word = if source.cluster_trust_bundle.is_some() { "clusterTrustBundle" } else { "podCertificate" };
    Err(ConfigError::Unsupported { what: format!("spec.volumes[{name}].projected.sources[].{word}") })
}

fn host_path_type(word: &str) -> Result<HostPathType, ConfigError> {
    Ok(match word {
        "" => HostPathType::Any,
        "DirectoryOrCreate" => HostPathType::DirectoryOrCreate,
        "Directory" => HostPathType::Directory,
        "FileOrCreate" => HostPathType::FileOrCreate,
        "File" => HostPathType::File,
        "Socket" => HostPathType::Socket,
        "CharDevice" => HostPathType::CharDevice,
        "BlockDevice" => HostPathType::BlockDevice,
        other => return Err(ConfigError::Unsupported { what: format!("hostPath type \"{other}\"") }),
    })
}

fn mode_bits(mode: Option<i32>) -> u32 {
    mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(DEFAULT_MODE)
}
