//! kubeconfig files. Owns: their text. Does not own: where they lie.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::Certificate;

/// How the user proves who they are.
#[derive(Debug, Clone, Copy)]
pub enum Credentials<'a> {
    /// A client certificate, embedded.
    Certificate(&'a Certificate),
    /// A bearer token.
    Token(&'a str),
}

/// The text of a kubeconfig with one cluster `pintle`, one user and one context.
pub fn kubeconfig(server: &str, ca_pem: &str, user: &str, credentials: &Credentials<'_>) -> String {
    let ca = STANDARD.encode(ca_pem);
    let proof = match credentials {
        Credentials::Certificate(pair) => format!(
            "client-certificate-data: {}\n    client-key-data: {}",
            STANDARD.encode(&pair.certificate),
            STANDARD.encode(&pair.key)
        ),
        Credentials::Token(token) => format!("token: {token}"),
    };
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: pintle\n  cluster:\n    server: {server}\n    \
         certificate-authority-data: {ca}\nusers:\n- name: \"{user}\"\n  user:\n    {proof}\ncontexts:\n- name: pintle\n  \
         context:\n    cluster: pintle\n    user: \"{user}\"\ncurrent-context: pintle\n"
    )
}

/// What we look at in a kubeconfig of our own to see whether it is still good.
pub(super) struct Found {
    pub(super) server: String,
    pub(super) ca: String,
    pub(super) certificate: Certificate,
}

/// None for anything that is not a kubeconfig as written by [`kubeconfig`] with a certificate.
pub(super) fn parse(text: &str) -> Option<Found> {
    #[derive(Deserialize)]
    struct File {
        clusters: Vec<Cluster>,
        users: Vec<User>,
    }
    #[derive(Deserialize)]
    struct Cluster {
        cluster: ClusterBody,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct ClusterBody {
        server: String,
        certificate_authority_data: String,
    }
    #[derive(Deserialize)]
    struct User {
        user: UserBody,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct UserBody {
        client_certificate_data: String,
        client_key_data: String,
    }
    let file: File = serde_yaml_ng::from_str(text).ok()?;
    let decode = |data: &str| String::from_utf8(STANDARD.decode(data).ok()?).ok();
    let (cluster, user) = (&file.clusters.first()?.cluster, &file.users.first()?.user);
    Some(Found {
        server: cluster.server.clone(),
        ca: decode(&cluster.certificate_authority_data)?,
        certificate: Certificate {
            certificate: decode(&user.client_certificate_data)?,
            key: decode(&user.client_key_data)?,
        },
    })
}
