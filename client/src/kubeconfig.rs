//! Kubeconfig files: reading the current context, writing our own.
//!
//! Does not own: merging several files, exec plugins, proxies. They are refused or ignored where kubectl allows it.

use crate::{Config, Error, Identity, Trust};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The file, as far as we read and write it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kubeconfig {
    #[serde(rename = "apiVersion", default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    current_context: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_authority: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_authority_data: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(rename = "tokenFile", skip_serializing_if = "Option::is_none")]
    token_file: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

impl Kubeconfig {
    /// A file with one cluster, one user and one context, all data inline. A [`Trust::SpkiPin`] cannot be written.
    pub fn new(name: &str, user: &str, server: &str, ca_pem: &str, identity: &Identity) -> Self {
        let mut account = User::default();
        match identity {
            Identity::None => {}
            Identity::Token(token) => account.token = Some(token.clone()),
            Identity::TokenFile(path) => account.token_file = Some(path.display().to_string()),
            Identity::Cert { cert_pem, key_pem } => {
                account.client_certificate_data = Some(STANDARD.encode(cert_pem));
                account.client_key_data = Some(STANDARD.encode(key_pem));
            }
        }
        let cluster = Cluster {
            server: server.to_owned(),
            certificate_authority_data: Some(STANDARD.encode(ca_pem)),
            ..Cluster::default()
        };
        Self {
            api_version: "v1".into(),
            kind: "Config".into(),
            clusters: vec![NamedCluster { name: name.into(), cluster }],
            users: vec![NamedUser { name: user.into(), user: account }],
            contexts: vec![NamedContext {
                name: name.into(),
                context: Context { cluster: name.into(), user: user.into() },
            }],
            current_context: name.into(),
        }
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        serde_yaml_ng::from_str(&read(path)?).map_err(|e| invalid(path, &e.to_string()))
    }

    /// Writes the file, mode 0600, replacing it whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_yaml_ng::to_string(self).map_err(|e| invalid(path, &e.to_string()))?;
        write_private(path, text.as_bytes())
    }

    /// The current context as a client configuration; relative paths are relative to `path`'s directory.
    pub fn config(&self, path: &Path) -> Result<Config, Error> {
        let missing = |what: &str, name: &str| invalid(path, &format!("no {what} named {name:?}"));
        let context = self
            .contexts
            .iter()
            .find(|c| c.name == self.current_context)
            .ok_or_else(|| missing("context", &self.current_context))?;
        let context = &context.context;
        let cluster = self.clusters.iter().find(|c| c.name == context.cluster);
        let cluster = &cluster.ok_or_else(|| missing("cluster", &context.cluster))?.cluster;
        let user = self.users.iter().find(|u| u.name == context.user);
        let user = &user.ok_or_else(|| missing("user", &context.user))?.user;
        let ca = inline(path, cluster.certificate_authority_data.as_ref(), cluster.certificate_authority.as_ref())?
            .ok_or_else(|| invalid(path, "the cluster has no certificate-authority(-data)"))?;
        Ok(Config::new(cluster.server.clone(), Trust::Ca(ca), identity(path, user)?))
    }
}

fn identity(path: &Path, user: &User) -> Result<Identity, Error> {
    let cert = inline(path, user.client_certificate_data.as_ref(), user.client_certificate.as_ref())?;
    let key = inline(path, user.client_key_data.as_ref(), user.client_key.as_ref())?;
    match (cert, key, &user.token, &user.token_file) {
        (Some(cert_pem), Some(key_pem), _, _) => Ok(Identity::Cert { cert_pem, key_pem }),
        (Some(_), None, _, _) | (None, Some(_), _, _) => {
            Err(invalid(path, "a client certificate and its key belong together; one of them is missing"))
        }
        (None, None, Some(token), _) => Ok(Identity::Token(token.clone())),
        (None, None, None, Some(file)) => Ok(Identity::TokenFile(file.into())),
        (None, None, None, None) => Ok(Identity::None),
    }
}

/// The text of a `…-data` field or of the file its sibling names.
fn inline(config: &Path, data: Option<&String>, file: Option<&String>) -> Result<Option<String>, Error> {
    if let Some(data) = data {
        let bytes = STANDARD.decode(data.trim()).map_err(|e| invalid(config, &format!("base64: {e}")))?;
        return String::from_utf8(bytes).map(Some).map_err(|e| invalid(config, &e.to_string()));
    }
    let Some(file) = file else { return Ok(None) };
    let base = config.parent().unwrap_or(Path::new("."));
    read(&base.join(file)).map(Some)
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::File { op: "read", path: path.to_owned(), source })
}

fn invalid(path: &Path, why: &str) -> Error {
    Error::Config { what: format!("kubeconfig {}", path.display()), why: why.to_owned() }
}

/// Writes a file with mode 0600 by way of a temporary name and a rename, so that no reader sees half of it and no
/// moment leaves it readable by others.
pub fn write_private(path: &Path, contents: &[u8]) -> Result<(), Error> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = std::path::PathBuf::from(temporary);
    let write = || {
        // A left-over of a killed process with the same id must not lend us its mode.
        match std::fs::remove_file(&temporary) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|source| Error::File { op: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_written_is_read_back_and_only_the_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        let identity = Identity::Cert { cert_pem: "CERT".into(), key_pem: "KEY".into() };
        Kubeconfig::new("pintle", "system:admin", "https://10.0.0.1:6443", "CA", &identity).write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let config = Kubeconfig::read(&path).unwrap().config(&path).unwrap();
        assert_eq!(config.server, "https://10.0.0.1:6443");
        assert!(matches!(config.trust, Trust::Ca(ca) if ca == "CA"));
        assert!(matches!(config.identity, Identity::Cert { cert_pem, .. } if cert_pem == "CERT"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays behind");
    }

    #[test]
    fn a_certificate_without_a_key_is_refused_with_the_reason() {
        let path = Path::new("/x/kubeconfig");
        let identity = Identity::Cert { cert_pem: "CERT".into(), key_pem: "KEY".into() };
        let mut file = Kubeconfig::new("pintle", "u", "https://h", "CA", &identity);
        file.users[0].user.client_key_data = None;
        let error = file.config(path).unwrap_err().to_string();
        assert_eq!(
            error,
            "kubeconfig /x/kubeconfig: a client certificate and its key belong together; one of them is missing"
        );
    }
}
