//! Building an image without running anything in it: what its one new layer holds and what its configuration says.
//!
//! The same specification over the same files gives the same bytes: entries are sorted, times are fixed, owners are
//! written out. Reading the files is `pintle-rootfs`'s; a Dockerfile is deliberately not understood.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::digest::Digest;
use crate::entry::{LayerPath, Refusal};

/// What to build, as written in a file (`pintle image build --file`) or by flags. Paths of sources are relative to the
/// file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct BuildSpec {
    /// An image of the store to build upon; nothing or `scratch` for none.
    pub base: Option<String>,
    /// Files and directory trees to copy.
    pub add: Vec<Add>,
    /// Files whose text stands here.
    pub files: Vec<TextFile>,
    /// Empty directories.
    pub directories: Vec<Directory>,
    /// Symbolic links.
    pub symlinks: Vec<Symlink>,
    /// Replaces the base's entrypoint, and with it the base's command.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the base's command.
    pub cmd: Option<Vec<String>>,
    /// Added to the base's environment; a name given again is replaced.
    pub env: BTreeMap<String, String>,
    /// Where processes start.
    pub workdir: Option<String>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// Added to the base's labels.
    pub labels: BTreeMap<String, String>,
    /// Ports the image says it listens on, e.g. `8080/tcp`.
    pub ports: Vec<String>,
    /// e.g. `SIGTERM`.
    pub stop_signal: Option<String>,
}

/// A file or tree to copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Add {
    /// A file or directory.
    pub source: PathBuf,
    /// Where it goes; with a slash at the end, into that directory under its own name.
    pub destination: String,
    /// Octal permissions of files, e.g. `0755`; without it the source's.
    #[serde(default)]
    pub mode: Option<String>,
    /// `uid[:gid]`; without it 0:0.
    #[serde(default)]
    pub owner: Option<String>,
}

/// A file with the given text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TextFile {
    /// Where it goes.
    pub destination: String,
    /// Its content.
    pub text: String,
    /// Octal permissions; 0644 without it.
    #[serde(default)]
    pub mode: Option<String>,
    /// `uid[:gid]`; without it 0:0.
    #[serde(default)]
    pub owner: Option<String>,
}

/// An empty directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Directory {
    /// Where it is.
    pub destination: String,
    /// Octal permissions; 0755 without it.
    #[serde(default)]
    pub mode: Option<String>,
    /// `uid[:gid]`; without it 0:0.
    #[serde(default)]
    pub owner: Option<String>,
}

/// A symbolic link, or several to one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Symlink {
    /// What the links say.
    pub target: String,
    /// The links.
    pub destinations: Vec<String>,
}

/// What an entry of the new layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A directory.
    Directory,
    /// A copy of this file.
    Copy(PathBuf),
    /// A file with this text.
    Text(String),
    /// A symlink saying this.
    Symlink(String),
}

/// An entry of the new layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub content: Content,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Why a specification cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Permissions that are not octal.
    #[error("mode {0:?} is not an octal number up to 7777")]
    Mode(String),
    /// An owner that is no pair of ids.
    #[error("owner {0:?} is not uid[:gid] in numbers")]
    Owner(String),
    /// A destination that leaves the image.
    #[error(transparent)]
    Destination(#[from] Refusal),
    /// A destination that is the root directory.
    #[error("destination {0:?} is the root directory; name a file in it")]
    Root(String),
    /// Two things in one place.
    #[error("{path:?} is added twice")]
    Twice {
        /// The place.
        path: String,
    },
    /// A file where a directory is needed.
    #[error("{path:?} cannot lie beneath {parent:?}, which is not a directory")]
    NotADirectory {
        /// The entry.
        path: String,
        /// The entry in its way.
        parent: String,
    },
    /// A port that is none.
    #[error("port {0:?} is not a number from 1 to 65535 with an optional /tcp or /udp")]
    Port(String),
    /// The base has no usable configuration.
    #[error("the base image's configuration cannot be changed")]
    Config,
}

/// The new layer: its entries by path, parents before children. Directories above an entry are made as 0755 root
/// unless they were given; the ones that merely lead to an entry take the base's attributes when they are unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerPlan {
    entries: BTreeMap<LayerPath, Entry>,
}

impl LayerPlan {
    /// Adds one entry. Two directories in one place are one, with the later one's attributes.
    pub fn add(&mut self, destination: &str, entry: Entry) -> Result<(), BuildError> {
        let path = LayerPath::parse(destination.as_bytes())?;
        let Some(path) = path else {
            return match entry.content {
                Content::Directory => Ok(()),
                _ => Err(BuildError::Root(destination.to_owned())),
            };
        };
        let both_directories = |old: &Entry| old.content == Content::Directory && entry.content == Content::Directory;
        match self.entries.get(&path) {
            Some(old) if !both_directories(old) => Err(BuildError::Twice { path: path.to_string() }),
            _ => {
                self.entries.insert(path, entry);
                Ok(())
            }
        }
    }

    /// Adds what stands in the specification itself: texts, directories and links.
    pub fn add_written(&mut self, spec: &BuildSpec) -> Result<(), BuildError> {
        for directory in &spec.directories {
            let (uid, gid) = owner(directory.owner.as_deref())?;
            let mode = mode(directory.mode.as_deref())?.unwrap_or(0o755);
            self.add(&directory.destination, Entry { content: Content::Directory, mode, uid, gid })?;
        }
        for file in &spec.files {
            let (uid, gid) = owner(file.owner.as_deref())?;
            let mode = mode(file.mode.as_deref())?.unwrap_or(0o644);
            self.add(&file.destination, Entry { content: Content::Text(file.text.clone()), mode, uid, gid })?;
        }
        for link in &spec.symlinks {
            for destination in &link.destinations {
                let content = Content::Symlink(link.target.clone());
                self.add(destination, Entry { content, mode: 0o777, uid: 0, gid: 0 })?;
            }
        }
        Ok(())
    }

    /// The entries in the order of the archive. Fails when something lies beneath what is no directory.
    pub fn entries(&self) -> Result<Vec<(&LayerPath, &Entry)>, BuildError> {
        for path in self.entries.keys() {
            let mut above = path.parent();
            while let Some(parent) = above {
                if self.entries.get(&parent).is_some_and(|entry| entry.content != Content::Directory) {
                    return Err(BuildError::NotADirectory { path: path.to_string(), parent: parent.to_string() });
                }
                above = parent.parent();
            }
        }
        Ok(self.entries.iter().collect())
    }

    /// Whether there is anything to make a layer of.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Where `source` goes when its destination ends in a slash.
pub fn destination(add: &Add) -> String {
    match add.source.file_name() {
        Some(name) if add.destination.ends_with('/') => format!("{}{}", add.destination, name.to_string_lossy()),
        _ => add.destination.clone(),
    }
}

/// Reads octal permissions.
pub fn mode(text: Option<&str>) -> Result<Option<u32>, BuildError> {
    let Some(text) = text else { return Ok(None) };
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(Some(mode)),
        _ => Err(BuildError::Mode(text.to_owned())),
    }
}

/// Reads `uid[:gid]`; nothing is root.
pub fn owner(text: Option<&str>) -> Result<(u32, u32), BuildError> {
    let Some(text) = text else { return Ok((0, 0)) };
    let number = |part: &str| part.parse::<u32>().map_err(|_| BuildError::Owner(text.to_owned()));
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, number(gid)?)),
        None => Ok((number(text)?, 0)),
    }
}

/// The platform a new image without a base is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// e.g. `amd64`.
    pub architecture: String,
    /// RFC 3339, fixed, so that the same input gives the same image.
    pub created: String,
}

/// The bytes of the new image's configuration: the base's, changed by the specification, with the new layer on top.
pub fn configuration(
    spec: &BuildSpec,
    base: Option<&ImageConfiguration>,
    layer: Option<Digest>,
    platform: &Platform,
) -> Result<Vec<u8>, BuildError> {
    let mut image = match base {
        Some(base) => serde_json::to_value(base).map_err(|_| BuildError::Config)?,
        None => json!({
            "architecture": platform.architecture,
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [] },
        }),
    };
    let object = image.as_object_mut().ok_or(BuildError::Config)?;
    object.insert("created".to_owned(), json!(platform.created));
    let config = object.entry("config").or_insert_with(|| json!({}));
    configure(config.as_object_mut().ok_or(BuildError::Config)?, spec)?;
    let step =
        json!({ "created": platform.created, "created_by": "pintle image build", "empty_layer": layer.is_none() });
    push(object, "history", step)?;
    if let Some(layer) = layer {
        let rootfs = object.get_mut("rootfs").and_then(Value::as_object_mut).ok_or(BuildError::Config)?;
        push(rootfs, "diff_ids", json!(layer))?;
    }
    // Reading it back as the typed form drops nothing and gives every image one order of fields.
    let typed: ImageConfiguration = serde_json::from_value(image).map_err(|_| BuildError::Config)?;
    serde_json::to_value(&typed).map(|value| value.to_string().into_bytes()).map_err(|_| BuildError::Config)
}

fn push(object: &mut Map<String, Value>, key: &str, value: Value) -> Result<(), BuildError> {
    let list = object.entry(key).or_insert_with(|| json!([]));
    list.as_array_mut().ok_or(BuildError::Config)?.push(value);
    Ok(())
}

fn configure(config: &mut Map<String, Value>, spec: &BuildSpec) -> Result<(), BuildError> {
    if let Some(entrypoint) = &spec.entrypoint {
        config.insert("Entrypoint".to_owned(), json!(entrypoint));
        config.remove("Cmd");
    }
    if let Some(cmd) = &spec.cmd {
        config.insert("Cmd".to_owned(), json!(cmd));
    }
    for (key, value) in [("WorkingDir", &spec.workdir), ("User", &spec.user), ("StopSignal", &spec.stop_signal)] {
        if let Some(value) = value {
            config.insert(key.to_owned(), json!(value));
        }
    }
    let inherited = config.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
    let replaced = |line: &Value| {
        let name = line.as_str().and_then(|line| line.split('=').next()).unwrap_or("");
        spec.env.contains_key(name)
    };
    let mut env: Vec<Value> = inherited.into_iter().filter(|line| !replaced(line)).collect();
    env.extend(spec.env.iter().map(|(name, value)| json!(format!("{name}={value}"))));
    if !env.is_empty() {
        config.insert("Env".to_owned(), Value::Array(env));
    }
    merge(config, "Labels", spec.labels.iter().map(|(name, value)| (name.clone(), json!(value))))?;
    let ports: Result<Vec<(String, Value)>, BuildError> =
        spec.ports.iter().map(|port| Ok((checked_port(port)?, json!({})))).collect();
    merge(config, "ExposedPorts", ports?.into_iter())
}

fn merge(
    config: &mut Map<String, Value>,
    key: &str,
    pairs: impl Iterator<Item = (String, Value)>,
) -> Result<(), BuildError> {
    let mut pairs = pairs.peekable();
    if pairs.peek().is_none() {
        return Ok(());
    }
    // The typed configuration reads exposed ports as a list and writes them as a map; a null stands for none.
    let slot = config.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = json!({});
    }
    slot.as_object_mut().ok_or(BuildError::Config)?.extend(pairs);
    Ok(())
}

fn checked_port(text: &str) -> Result<String, BuildError> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    match (number.parse::<u16>(), protocol) {
        (Ok(1..), "tcp" | "udp" | "sctp") => Ok(format!("{number}/{protocol}")),
        _ => Err(BuildError::Port(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn platform() -> Platform {
        Platform { architecture: "amd64".to_owned(), created: "1970-01-01T00:00:00Z".to_owned() }
    }

    fn text(mode: u32) -> Entry {
        Entry { content: Content::Text(String::new()), mode, uid: 0, gid: 0 }
    }

    fn directory(mode: u32) -> Entry {
        Entry { content: Content::Directory, ..text(mode) }
    }

    #[test]
    fn a_layer_is_sorted_whatever_the_order_of_the_specification() {
        let mut plan = LayerPlan::default();
        for path in ["/usr/bin/b", "etc/x", "/usr", "usr/bin/a"] {
            let entry = if path == "/usr" { directory(0o755) } else { text(0o644) };
            plan.add(path, entry).unwrap();
        }
        let paths: Vec<String> = plan.entries().unwrap().iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(paths, ["etc/x", "usr", "usr/bin/a", "usr/bin/b"]);
    }

    #[test]
    fn contradictions_are_named() {
        let mut plan = LayerPlan::default();
        plan.add("a", text(0)).unwrap();
        insta::assert_snapshot!(plan.add("/a", text(0)).unwrap_err(), @r#""a" is added twice"#);
        insta::assert_snapshot!(plan.add("../a", text(0)).unwrap_err(), @r#"entry "../a" of the layer is refused: its path contains "..""#);
        insta::assert_snapshot!(plan.add("/", text(0)).unwrap_err(), @r#"destination "/" is the root directory; name a file in it"#);
        plan.add("a/b", text(0)).unwrap();
        insta::assert_snapshot!(plan.entries().unwrap_err(), @r#""a/b" cannot lie beneath "a", which is not a directory"#);
        insta::assert_snapshot!(mode(Some("rwx")).unwrap_err(), @r#"mode "rwx" is not an octal number up to 7777"#);
        insta::assert_snapshot!(owner(Some("www-data")).unwrap_err(), @r#"owner "www-data" is not uid[:gid] in numbers"#);
        insta::assert_snapshot!(checked_port("0").unwrap_err(), @r#"port "0" is not a number from 1 to 65535 with an optional /tcp or /udp"#);
    }

    #[test]
    fn two_directories_in_one_place_are_one() {
        let mut plan = LayerPlan::default();
        plan.add("tmp", directory(0o755)).unwrap();
        plan.add("tmp/", directory(0o1777)).unwrap();
        assert_eq!(plan.entries().unwrap()[0].1.mode, 0o1777);
    }

    #[test]
    fn the_configuration_of_an_image_from_nothing() {
        let spec: BuildSpec = serde_json::from_value(json!({
            "entrypoint": ["/bin/httpd"], "cmd": ["-f"], "env": {"PATH": "/bin"}, "workdir": "/srv",
            "user": "web", "labels": {"a": "b"}, "ports": ["8080"], "stopSignal": "SIGINT",
        }))
        .unwrap();
        let bytes = configuration(&spec, None, Some(Digest::of(b"layer")), &platform()).unwrap();
        insta::assert_snapshot!(String::from_utf8(bytes).unwrap(), @r#"{"architecture":"amd64","config":{"Cmd":["-f"],"Entrypoint":["/bin/httpd"],"Env":["PATH=/bin"],"ExposedPorts":{"8080/tcp":{}},"Labels":{"a":"b"},"StopSignal":"SIGINT","User":"web","WorkingDir":"/srv"},"created":"1970-01-01T00:00:00Z","history":[{"created":"1970-01-01T00:00:00Z","created_by":"pintle image build","empty_layer":false}],"os":"linux","rootfs":{"diff_ids":["sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85"],"type":"layers"}}"#);
    }

    #[test]
    fn a_base_is_changed_only_where_the_specification_says_so() {
        let base = json!({
            "architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"base").to_string()]},
            "config": {"Entrypoint": ["/e"], "Cmd": ["c"], "Env": ["PATH=/bin", "KEEP=1"], "User": "u",
                       "ExposedPorts": {"1/tcp": {}}},
        });
        let base: ImageConfiguration = serde_json::from_value(base).unwrap();
        let spec: BuildSpec = serde_json::from_value(json!({
            "entrypoint": ["/new"], "env": {"PATH": "/sbin"}, "ports": ["53/udp"],
        }))
        .unwrap();
        let bytes = configuration(&spec, Some(&base), Some(Digest::of(b"top")), &platform()).unwrap();
        let image: ImageConfiguration = serde_json::from_slice(&bytes).unwrap();
        let config = image.config().as_ref().unwrap();
        assert_eq!(config.entrypoint().as_deref(), Some(["/new".to_owned()].as_slice()));
        assert_eq!(*config.cmd(), None);
        assert_eq!(config.env().as_deref().unwrap(), ["KEEP=1", "PATH=/sbin"]);
        assert_eq!(config.user().as_deref(), Some("u"));
        assert_eq!(config.exposed_ports().as_ref().unwrap().len(), 2);
        assert_eq!(image.rootfs().diff_ids().len(), 2);
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let error = serde_json::from_value::<BuildSpec>(json!({"entrypint": ["/x"]})).unwrap_err();
        assert!(error.to_string().contains("unknown field `entrypint`"), "{error}");
    }
}
