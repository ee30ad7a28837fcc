//! kube-proxy's own configuration file, `KubeProxyConfiguration` of `kubeproxy.config.k8s.io/v1alpha1`, with its
//! defaults. Owns its fields and reading it; a field nobody knows is an error that names it. What is left empty is in
//! `defaults`, what a value must be in `validation`, what a field means here in `meaning`.

macro_rules! section {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $ty:ty = $default:expr,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default, deny_unknown_fields)]
        pub struct $name { $($(#[$field_meta])* pub $field: $ty,)* }
        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

mod defaults;
mod feature_gates;
mod logging;
mod meaning;
#[cfg(test)]
mod tests;
mod validation;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;

pub use logging::{FlushFrequency, LogFormat, Logging};
pub use meaning::{LocalMode, NodePorts, RuleSettings};

/// The group and version we read.
pub const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no KubeProxyConfiguration; the source names the field.
    #[error("{} is no KubeProxyConfiguration", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        source: serde_yaml_ng::Error,
    },
    /// A field's value makes no sense.
    #[error("{field}: {why}")]
    Field {
        /// The field, as the file names it.
        field: &'static str,
        /// What is wrong with its value.
        why: String,
    },
}

section! {
    /// The file. Fields are kube-proxy's; what this proxy makes of each is said in docs/gaps.md where it is nothing.
    #[expect(missing_docs, reason = "the fields are documented by Kubernetes")]
    KubeProxyConfiguration {
        api_version: String = API_VERSION.to_owned(),
        kind: String = "KubeProxyConfiguration".to_owned(),
        feature_gates: BTreeMap<String, bool> = BTreeMap::new(),
        client_connection: ClientConnection = ClientConnection::default(),
        logging: Logging = Logging::default(),
        hostname_override: String = String::new(),
        bind_address: String = "0.0.0.0".to_owned(),
        healthz_bind_address: String = "0.0.0.0:10256".to_owned(),
        metrics_bind_address: String = "127.0.0.1:10249".to_owned(),
        bind_address_hard_fail: bool = false,
        enable_profiling: bool = false,
        show_hidden_metrics_for_version: String = String::new(),
        mode: String = String::new(),
        iptables: Iptables = Iptables::default(),
        ipvs: Ipvs = Ipvs::default(),
        nftables: Nftables = Nftables::default(),
        winkernel: Winkernel = Winkernel::default(),
        detect_local_mode: String = String::new(),
        detect_local: DetectLocal = DetectLocal::default(),
        #[serde(rename = "clusterCIDR")]
        cluster_cidr: String = String::new(),
        node_port_addresses: Option<Vec<String>> = None,
        oom_score_adj: Option<i32> = Some(-999),
        conntrack: Conntrack = Conntrack::default(),
        config_sync_period: GoDuration = GoDuration::from_secs(900),
        port_range: String = String::new(),
        windows_run_as_service: bool = false,
    }
}

section! {
    /// How the API server is spoken to.
    #[expect(missing_docs, reason = "the fields are documented by Kubernetes")]
    ClientConnection {
        kubeconfig: String = String::new(),
        accept_content_types: String = String::new(),
        content_type: String = "application/vnd.kubernetes.protobuf".to_owned(),
        qps: f32 = 5.0,
        burst: i32 = 10,
    }
}

section! {
    /// For mode `iptables`.
    #[expect(missing_docs, reason = "the fields are documented by Kubernetes")]
    Iptables {
        masquerade_bit: Option<i32> = Some(14),
        masquerade_all: bool = false,
        localhost_node_ports: Option<bool> = Some(true),
        sync_period: GoDuration = GoDuration::from_secs(30),
        min_sync_period: GoDuration = GoDuration::from_secs(1),
    }
}

section! {
    /// For mode `nftables`.
    #[expect(missing_docs, reason = "the fields are documented by Kubernetes")]
    Nftables {
        masquerade_bit: Option<i32> = Some(14),
        masquerade_all: bool = false,
        sync_period: GoDuration = GoDuration::from_secs(30),
        min_sync_period: GoDuration = GoDuration::from_secs(1),
    }
}

section! {
    /// For mode `ipvs`, which this proxy does not have: read, so that a file which has the section is accepted.
    #[expect(missing_docs, reason = "the fields are documented by Kubernetes")]
    Ipvs {
        sync_period: GoDuration = GoDuration::from_secs(30),
        min_sync_period: GoDuration = GoDuration::from_secs(1),
        scheduler: String = String::new(),
        #[serde(rename = "excludeCIDRs")]
        exclude_cidrs: Option<Vec<String>> = None,
        #[serde(rename = "strictARP")]
        strict_arp: bool = false,
        tcp_timeout: GoDuration = GoDuration::default(),
        tcp_fin_timeout: GoDuration = GoDuration::default(),
        udp_timeout: GoDuration = GoDuration::default(),
    }
}

section! {
    /// For Windows: read, so that a file which has the section is accepted.
    #[expect(missing_docs, reason = "the fields are documented by Kubernetes")]
    Winkernel {
        network_name: String = String::new(),
        source_vip: String = String::new(),
        #[serde(rename = "enableDSR")]
        enable_dsr: bool = false,
        root_hns_endpoint_name: String = String::new(),
        forward_health_check_vip: bool = false,
    }
}

section! {
    /// How pods of this node are told from others.
    #[expect(missing_docs, reason = "the fields are documented by Kubernetes")]
    DetectLocal {
        bridge_interface: String = String::new(),
        interface_name_prefix: String = String::new(),
    }
}

section! {
    /// Connection tracking's limits. Zero leaves the kernel's value, `None` means kube-proxy's default.
    #[expect(missing_docs, reason = "the fields are documented by Kubernetes")]
    Conntrack {
        max_per_core: Option<i32> = Some(32_768),
        min: Option<i32> = Some(131_072),
        tcp_established_timeout: Option<GoDuration> = Some(GoDuration::from_secs(86_400)),
        tcp_close_wait_timeout: Option<GoDuration> = Some(GoDuration::from_secs(3_600)),
        tcp_be_liberal: bool = false,
        udp_timeout: GoDuration = GoDuration::default(),
        udp_stream_timeout: GoDuration = GoDuration::default(),
    }
}

impl KubeProxyConfiguration {
    /// Reads a file, YAML or JSON.
    ///
    /// # Errors
    /// When it cannot be read, has a field nobody knows, or a value that makes no sense.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let read: Self =
            serde_yaml_ng::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
        let read = read.defaulted();
        read.validate()?;
        Ok(read)
    }
}
