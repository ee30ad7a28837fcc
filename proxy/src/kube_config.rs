//! kube-proxy's own configuration file, `KubeProxyConfiguration` of `kubeproxy.config.k8s.io/v1alpha1`, with its
//! defaults. Owns reading it and finding fault with it; a field nobody knows is an error that names it. What a field
//! means here is in [`KubeProxyConfiguration::validate`] and in `config`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pintle_net::Cidr;
use pintle_proxy_plan::Masquerade;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::mode;

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

section! {
    /// The file. Fields are kube-proxy's; what this proxy makes of each is said in docs/gaps.md where it is nothing.
    #[expect(missing_docs, reason = "the fields are documented by Kubernetes")]
    KubeProxyConfiguration {
        api_version: String = API_VERSION.to_owned(),
        kind: String = "KubeProxyConfiguration".to_owned(),
        feature_gates: BTreeMap<String, bool> = BTreeMap::new(),
        client_connection: ClientConnection = ClientConnection::default(),
        logging: serde_json::Value = serde_json::Value::Null,
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

/// How pods of this node are told from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalMode {
    /// By the cluster's ranges, `clusterCIDR`.
    ClusterCidr,
    /// By the ranges of our Node, `spec.podCIDRs`.
    NodeCidr,
    /// By the bridge they are behind.
    BridgeInterface(String),
    /// By how their interfaces' names begin.
    InterfacePrefix(String),
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

    /// Puts kube-proxy's default in place of what is left empty: kubeadm writes files full of zeros and nulls.
    #[must_use]
    pub fn defaulted(mut self) -> Self {
        let default = Self::default();
        let text = |field: &mut String, default: String| {
            if field.is_empty() {
                *field = default;
            }
        };
        let period = |field: &mut GoDuration, default: GoDuration| {
            if *field == GoDuration::default() {
                *field = default;
            }
        };
        text(&mut self.bind_address, default.bind_address);
        text(&mut self.healthz_bind_address, default.healthz_bind_address);
        text(&mut self.metrics_bind_address, default.metrics_bind_address);
        text(&mut self.client_connection.content_type, default.client_connection.content_type);
        period(&mut self.config_sync_period, default.config_sync_period);
        period(&mut self.nftables.sync_period, default.nftables.sync_period);
        period(&mut self.nftables.min_sync_period, default.nftables.min_sync_period);
        period(&mut self.iptables.sync_period, default.iptables.sync_period);
        period(&mut self.iptables.min_sync_period, default.iptables.min_sync_period);
        period(&mut self.ipvs.sync_period, default.ipvs.sync_period);
        period(&mut self.ipvs.min_sync_period, default.ipvs.min_sync_period);
        self.nftables.masquerade_bit = self.nftables.masquerade_bit.or(default.nftables.masquerade_bit);
        self.iptables.masquerade_bit = self.iptables.masquerade_bit.or(default.iptables.masquerade_bit);
        self.iptables.localhost_node_ports =
            self.iptables.localhost_node_ports.or(default.iptables.localhost_node_ports);
        self.oom_score_adj = self.oom_score_adj.or(default.oom_score_adj);
        let (ours, theirs) = (&mut self.conntrack, default.conntrack);
        ours.max_per_core = ours.max_per_core.or(theirs.max_per_core);
        ours.min = ours.min.or(theirs.min);
        ours.tcp_established_timeout = ours.tcp_established_timeout.or(theirs.tcp_established_timeout);
        ours.tcp_close_wait_timeout = ours.tcp_close_wait_timeout.or(theirs.tcp_close_wait_timeout);
        let connection = &mut self.client_connection;
        if connection.qps == 0.0 {
            connection.qps = default.client_connection.qps;
        }
        if connection.burst == 0 {
            connection.burst = default.client_connection.burst;
        }
        self
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// The first field whose value makes no sense.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let field = |field, why: String| Err(ConfigError::Field { field, why });
        if self.api_version != API_VERSION {
            return field("apiVersion", format!("\"{}\" is not {API_VERSION}", self.api_version));
        }
        if self.kind != "KubeProxyConfiguration" {
            return field("kind", format!("\"{}\" is not KubeProxyConfiguration", self.kind));
        }
        if mode::find(&self.mode).is_none() {
            return field("mode", format!("\"{}\" is none of {}", self.mode, mode::names().join(", ")));
        }
        for (name, section) in [("nftables", self.nftables.masquerade_bit), ("iptables", self.iptables.masquerade_bit)]
        {
            if section.is_some_and(|bit| !(0..32).contains(&bit)) {
                return field("masqueradeBit", format!("of {name} must be 0 to 31"));
            }
        }
        if self.nftables.min_sync_period > self.nftables.sync_period {
            return field("nftables.minSyncPeriod", "is longer than nftables.syncPeriod".into());
        }
        if self.iptables.min_sync_period > self.iptables.sync_period {
            return field("iptables.minSyncPeriod", "is longer than iptables.syncPeriod".into());
        }
        self.local_mode()?;
        self.cluster_ranges()?;
        self.node_port_ranges()?;
        self.health()?;
        self.metrics()?;
        self.node_address()?;
        Ok(())
    }

    /// The fields that say something and change nothing here, to be told to whoever wrote them.
    #[must_use]
    pub fn without_effect(&self) -> Vec<&'static str> {
        let (default, connection) = (Self::default(), &self.client_connection);
        let usual = &default.client_connection;
        [
            ("featureGates", !self.feature_gates.is_empty()),
            ("logging", !self.logging.is_null()),
            ("enableProfiling", self.enable_profiling),
            ("showHiddenMetricsForVersion", !self.show_hidden_metrics_for_version.is_empty()),
            ("clientConnection.acceptContentTypes", connection.accept_content_types != usual.accept_content_types),
            ("clientConnection.contentType", connection.content_type != usual.content_type),
            ("clientConnection.qps", connection.qps != usual.qps),
            ("clientConnection.burst", connection.burst != usual.burst),
            ("portRange", !self.port_range.is_empty()),
            ("windowsRunAsService", self.windows_run_as_service),
        ]
        .into_iter()
        .filter_map(|(field, is_set)| is_set.then_some(field))
        .collect()
    }

    /// The address that `bindAddress` names as this node's; `None` where it names all.
    ///
    /// # Errors
    /// When the text is no address.
    pub fn node_address(&self) -> Result<Option<IpAddr>, ConfigError> {
        match self.bind_address.trim().parse::<IpAddr>() {
            Ok(addr) => Ok(Some(addr).filter(|a| !a.is_unspecified())),
            Err(_) if self.bind_address.trim().is_empty() => Ok(None),
            Err(_) => {
                let why = format!("\"{}\" is no address", self.bind_address);
                Err(ConfigError::Field { field: "bindAddress", why })
            }
        }
    }

    /// How pods of this node are told from others.
    ///
    /// # Errors
    /// When the mode is unknown or lacks its argument.
    pub fn local_mode(&self) -> Result<LocalMode, ConfigError> {
        let need = |field: &'static str, value: &str| match value {
            "" => Err(ConfigError::Field {
                field,
                why: format!("is needed by detectLocalMode {}", self.detect_local_mode),
            }),
            value => Ok(value.to_owned()),
        };
        match self.detect_local_mode.as_str() {
            "" | "ClusterCIDR" => Ok(LocalMode::ClusterCidr),
            "NodeCIDR" => Ok(LocalMode::NodeCidr),
            "BridgeInterface" => {
                need("detectLocal.bridgeInterface", &self.detect_local.bridge_interface).map(LocalMode::BridgeInterface)
            }
            "InterfaceNamePrefix" => need("detectLocal.interfaceNamePrefix", &self.detect_local.interface_name_prefix)
                .map(LocalMode::InterfacePrefix),
            other => {
                let why = format!("\"{other}\" is none of ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix");
                Err(ConfigError::Field { field: "detectLocalMode", why })
            }
        }
    }

    /// Where the cluster's pods live; empty when not told.
    ///
    /// # Errors
    /// When a text is no range.
    pub fn cluster_ranges(&self) -> Result<Vec<Cidr>, ConfigError> {
        ranges("clusterCIDR", self.cluster_cidr.split(',').filter(|t| !t.trim().is_empty()))
    }

    /// Which of this machine's addresses answer on node ports: `None` for all, and whether the Node's own addresses
    /// are meant (`primary`).
    ///
    /// # Errors
    /// When a text is no range.
    pub fn node_port_ranges(&self) -> Result<NodePorts, ConfigError> {
        match self.node_port_addresses.as_deref() {
            None | Some([]) => Ok(NodePorts::All),
            Some([only]) if only == "primary" => Ok(NodePorts::Primary),
            Some(texts) => Ok(NodePorts::In(ranges("nodePortAddresses", texts.iter().map(String::as_str))?)),
        }
    }

    /// Where `/healthz` is served.
    ///
    /// # Errors
    /// When the text is no address.
    pub fn health(&self) -> Result<Option<SocketAddr>, ConfigError> {
        address("healthzBindAddress", &self.healthz_bind_address, 10256)
    }

    /// Where `/metrics` is served.
    ///
    /// # Errors
    /// When the text is no address.
    pub fn metrics(&self) -> Result<Option<SocketAddr>, ConfigError> {
        address("metricsBindAddress", &self.metrics_bind_address, 10249)
    }

    /// What holds for rules in a mode: its own section, or that of `nftables` for a mode that has none.
    #[must_use]
    pub fn rules(&self, mode: &str) -> RuleSettings {
        let (nftables, iptables) = (&self.nftables, &self.iptables);
        let (bit, everybody, check_every, hold) = if mode == "iptables" {
            (iptables.masquerade_bit, iptables.masquerade_all, iptables.sync_period, iptables.min_sync_period)
        } else {
            (nftables.masquerade_bit, nftables.masquerade_all, nftables.sync_period, nftables.min_sync_period)
        };
        let bit = bit.and_then(|b| u32::try_from(b).ok()).unwrap_or(14);
        // kube-proxy's default of a second is for those whose synchronisations cost a second.
        let at_once = mode != "iptables" && hold == Nftables::default().min_sync_period;
        RuleSettings {
            masquerade: if everybody { Masquerade::All } else { Masquerade::OffCluster },
            masquerade_mark: 1 << bit.min(31),
            check_every: check_every.0.max(Duration::from_secs(1)),
            hold: if at_once { Duration::ZERO } else { hold.0 },
        }
    }
}

/// What a mode's section says of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleSettings {
    /// Who is masqueraded on the way to a ClusterIP.
    pub masquerade: Masquerade,
    /// The bit of the packet mark that asks for masquerading, as a mask.
    pub masquerade_mark: u32,
    /// How often what is installed is looked at.
    pub check_every: Duration,
    /// How long a synchronisation waits for the one before at least.
    pub hold: Duration,
}

/// Which of this machine's addresses answer on node ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePorts {
    /// All of them.
    All,
    /// Those the Node object lists.
    Primary,
    /// Those in these ranges.
    In(Vec<Cidr>),
}

fn ranges<'a>(field: &'static str, texts: impl Iterator<Item = &'a str>) -> Result<Vec<Cidr>, ConfigError> {
    texts
        .map(|text| match text.trim().parse::<Cidr>() {
            Ok(range) => Ok(range.network()),
            Err(_) => Err(ConfigError::Field { field, why: format!("\"{text}\" is no address range") }),
        })
        .collect()
}

/// An address with or without a port; nowhere when empty or when the port is 0.
fn address(field: &'static str, text: &str, port: u16) -> Result<Option<SocketAddr>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    let whole = text.parse::<SocketAddr>().or_else(|_no_port| text.parse::<IpAddr>().map(|ip| (ip, port).into()));
    match whole {
        Ok(addr) if addr.port() == 0 => Ok(None),
        Ok(addr) => Ok(Some(addr)),
        Err(_) => Err(ConfigError::Field { field, why: format!("\"{text}\" is no address, with or without a port") }),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_has_no_effect_is_known_and_what_has_is_not_among_it() {
        let quiet = read("bindAddress: 0.0.0.0\nnftables: {minSyncPeriod: 1s}\n").unwrap();
        assert_eq!(
            (quiet.without_effect(), quiet.rules("nftables").hold, quiet.node_address().unwrap()),
            (vec![], Duration::ZERO, None)
        );
        let loud = "bindAddress: 192.0.2.1\nfeatureGates: {X: true}\nenableProfiling: true\nclientConnection: {qps: 50}\n\
                    nftables: {minSyncPeriod: 5s}\n";
        let loud = read(loud).unwrap();
        assert_eq!(loud.without_effect(), ["featureGates", "enableProfiling", "clientConnection.qps"]);
        assert_eq!(loud.rules("nftables").hold, Duration::from_secs(5));
        assert_eq!(loud.rules("iptables").hold, Duration::from_secs(1));
        assert_eq!(loud.node_address().unwrap().map(|a| a.to_string()).as_deref(), Some("192.0.2.1"));
        assert_eq!(read("bindAddress: here\n").unwrap_err(), "bindAddress: \"here\" is no address");
    }

    fn read(text: &str) -> Result<KubeProxyConfiguration, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.conf");
        std::fs::write(&path, text).unwrap();
        KubeProxyConfiguration::read(&path).map_err(|e| match std::error::Error::source(&e) {
            Some(source) => source.to_string(),
            None => e.to_string(),
        })
    }

    /// What kubeadm 1.34 writes.
    const KUBEADM: &str = r#"
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16,fd00:10:244::/56
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: nftables
nftables:
  masqueradeAll: true
  masqueradeBit: 13
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: [10.0.0.0/8, "fd00::/8"]
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
"#;

    #[test]
    fn kubeadms_file_is_read_whole() {
        let read = read(KUBEADM).unwrap();
        assert_eq!(read.client_connection.kubeconfig, "/var/lib/kube-proxy/kubeconfig.conf");
        assert_eq!(read.cluster_ranges().unwrap().len(), 2);
        assert!(read.nftables.masquerade_all);
        assert_eq!((read.rules("nftables").masquerade_mark, read.rules("iptables").masquerade_mark), (0x2000, 0x4000));
        assert!(matches!(read.node_port_ranges().unwrap(), NodePorts::In(ranges) if ranges.len() == 2));
        assert_eq!(read.conntrack, Conntrack::default());
        assert_eq!((read.nftables.sync_period, read.oom_score_adj), (GoDuration::from_secs(30), Some(-999)));
        assert_eq!(read.healthz_bind_address, "0.0.0.0:10256");
    }

    #[test]
    fn an_empty_file_has_kube_proxys_defaults() {
        let read = read("kind: KubeProxyConfiguration\napiVersion: kubeproxy.config.k8s.io/v1alpha1\n").unwrap();
        assert_eq!(read, KubeProxyConfiguration::default());
        assert_eq!(read.health().unwrap().unwrap().to_string(), "0.0.0.0:10256");
        assert_eq!(read.metrics().unwrap().unwrap().to_string(), "127.0.0.1:10249");
        assert_eq!(read.conntrack.tcp_established_timeout.unwrap().to_string(), "24h0m0s");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("nftables: {masquaradeAll: true}", "nftables: unknown field `masquaradeAll`"),
            ("proxyMode: nftables", "unknown field `proxyMode`"),
            ("mode: ipvs", "mode: \"ipvs\" is none of nftables"),
            ("detectLocalMode: Magic", "detectLocalMode: \"Magic\" is none of"),
            ("detectLocalMode: BridgeInterface", "detectLocal.bridgeInterface: is needed"),
            ("clusterCIDR: 10.0.0.0/33", "clusterCIDR: \"10.0.0.0/33\" is no address range"),
            ("conntrack: {udpTimeout: 3 days}", "conntrack: \"3 days\" is no duration"),
            ("metricsBindAddress: here", "metricsBindAddress: \"here\" is no address"),
            ("apiVersion: v1", "apiVersion: \"v1\" is not kubeproxy"),
            ("nftables: {masqueradeBit: 32}", "masqueradeBit: of nftables must be 0 to 31"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
