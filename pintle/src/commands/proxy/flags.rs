//! kube-proxy's flags, laid over its configuration file. Owns their names; what they mean is the file's business.

use anyhow::Result;
use clap::Args;
use pintle_proxy::KubeProxyConfiguration;
use pintle_proxy::duration::GoDuration;
use pintle_proxy::kube_config::FlushFrequency;
use std::path::PathBuf;

/// Flags named as kube-proxy names them. One that is given wins over the file.
#[derive(Args, Debug, Default)]
pub struct KubeFlags {
    /// KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1), YAML or JSON
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Name of the node [default: the host name]
    #[arg(long, value_name = "NAME", alias = "node-name", global = true)]
    pub hostname_override: Option<String>,
    /// How Services are served: nftables, iptables, userspace [default: the first of these that this machine can do]
    #[arg(long, value_name = "MODE")]
    proxy_mode: Option<String>,
    /// An address of the node besides those of its Node object
    #[arg(long, value_name = "IP")]
    bind_address: Option<String>,
    /// End when an address cannot be listened on, instead of trying again
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    bind_address_hard_fail: Option<bool>,
    /// Where /healthz, /livez and /readyz are served; port 0 for nowhere [default: 0.0.0.0:10256]
    #[arg(long, value_name = "ADDR")]
    healthz_bind_address: Option<String>,
    /// Where /metrics, /configz and /proxyMode are served; port 0 for nowhere [default: 127.0.0.1:10249]
    #[arg(long, value_name = "ADDR")]
    metrics_bind_address: Option<String>,
    /// Which of the node's addresses answer on node ports: ranges, or "primary" for those of the Node object
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    nodeport_addresses: Option<Vec<String>>,
    /// How pods of this node are told: ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix
    #[arg(long, value_name = "MODE")]
    detect_local_mode: Option<String>,
    /// For BridgeInterface
    #[arg(long, value_name = "NAME")]
    pod_bridge_interface: Option<String>,
    /// For InterfaceNamePrefix
    #[arg(long, value_name = "PREFIX")]
    pod_interface_name_prefix: Option<String>,
    /// Masquerade everything that goes to a ClusterIP
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    masquerade_all: Option<bool>,
    /// In mode nftables: bit of the packet mark that asks for masquerading [default: 14]
    #[arg(long, value_name = "BIT")]
    nftables_masquerade_bit: Option<i32>,
    /// In mode nftables: at least this often the rules are looked at, and installed anew if somebody took them
    /// [default: 30s]
    #[arg(long, value_name = "DURATION")]
    nftables_sync_period: Option<GoDuration>,
    /// In mode nftables: at most this often changes are installed; 1s, kube-proxy's default, means at once [default: 1s]
    #[arg(long, value_name = "DURATION")]
    nftables_min_sync_period: Option<GoDuration>,
    /// In mode iptables: bit of the packet mark that asks for masquerading [default: 14]
    #[arg(long, value_name = "BIT")]
    iptables_masquerade_bit: Option<i32>,
    /// In mode iptables: at least this often the rules are looked at, and installed anew if somebody took them
    /// [default: 30s]
    #[arg(long, value_name = "DURATION")]
    iptables_sync_period: Option<GoDuration>,
    /// In mode iptables: at most this often changes are installed [default: 1s]
    #[arg(long, value_name = "DURATION")]
    iptables_min_sync_period: Option<GoDuration>,
    /// Whether node ports answer on loopback [default: true]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    iptables_localhost_nodeports: Option<bool>,
    /// How often everything is installed anew [default: 15m]
    #[arg(long, value_name = "DURATION")]
    config_sync_period: Option<GoDuration>,
    #[command(flatten)]
    conntrack: ConntrackFlags,
    /// How soon the kernel ends this process when memory is short [default: -999]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    oom_score_adj: Option<i32>,
    /// Feature gates of Kubernetes, NAME=BOOL,…: what this proxy has or lacks whatever a gate says is told at its start
    #[arg(long, value_delimiter = ',', value_name = "NAME=BOOL")]
    feature_gates: Option<Vec<String>>,
    /// The release before this one, as 1.36: no metric is hidden here
    #[arg(long, value_name = "VERSION")]
    show_hidden_metrics_for_version: Option<String>,
    /// Requests to the API server in a second, at most; less than 0 for as many as may be [default: 5]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    kube_api_qps: Option<f32>,
    /// Requests to the API server at once, after a pause [default: 10]
    #[arg(long, value_name = "N")]
    kube_api_burst: Option<i32>,
    /// Type of requests' bodies; JSON is sent whatever it says
    #[arg(long, value_name = "TYPE")]
    kube_api_content_type: Option<String>,
    /// Offer /debug/pprof beside the metrics: what there is of it without Go's runtime
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    profiling: Option<bool>,
    #[command(flatten)]
    logging: LoggingFlags,
    #[command(flatten)]
    unused: UnusedFlags,
    /// Write the configuration in effect to this file, and end
    #[arg(long, value_name = "FILE")]
    pub write_config_to: Option<PathBuf>,
}

/// How log lines look. Their verbosity is `--v`.
#[derive(Args, Debug, Default)]
struct LoggingFlags {
    /// What a log line is: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    logging_format: Option<String>,
    /// Lines are written as they come: there is nothing to flush
    #[arg(long, value_name = "DURATION", hide_short_help = true)]
    log_flush_frequency: Option<GoDuration>,
    /// Log lines go to standard error, whatever this says
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", hide_short_help = true)]
    logtostderr: Option<bool>,
}

/// Flags of kube-proxy for what this proxy does not do: understood, so that its command lines are, and told at the start.
#[derive(Args, Debug, Default)]
struct UnusedFlags {
    /// For mode ipvs, which this proxy does not have
    #[arg(long, value_name = "DURATION", hide_short_help = true)]
    ipvs_sync_period: Option<GoDuration>,
    /// For mode ipvs, which this proxy does not have
    #[arg(long, value_name = "DURATION", hide_short_help = true)]
    ipvs_min_sync_period: Option<GoDuration>,
    /// For mode ipvs, which this proxy does not have
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    ipvs_scheduler: Option<String>,
    /// For mode ipvs, which this proxy does not have
    #[arg(long, value_delimiter = ',', value_name = "CIDR", hide_short_help = true)]
    ipvs_exclude_cidrs: Option<Vec<String>>,
    /// For mode ipvs, which this proxy does not have
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", hide_short_help = true)]
    ipvs_strict_arp: Option<bool>,
    /// For mode ipvs, which this proxy does not have
    #[arg(long, value_name = "DURATION", hide_short_help = true)]
    ipvs_tcp_timeout: Option<GoDuration>,
    /// For mode ipvs, which this proxy does not have
    #[arg(long, value_name = "DURATION", hide_short_help = true)]
    ipvs_tcpfin_timeout: Option<GoDuration>,
    /// For mode ipvs, which this proxy does not have
    #[arg(long, value_name = "DURATION", hide_short_help = true)]
    ipvs_udp_timeout: Option<GoDuration>,
    /// Of a proxy of former times
    #[arg(long, value_name = "RANGE", hide_short_help = true)]
    proxy_port_range: Option<String>,
}

/// Connection tracking's limits.
#[derive(Args, Debug, Default)]
struct ConntrackFlags {
    /// Connections tracked at most for each core; 0 leaves it [default: 32768]
    #[arg(long, value_name = "N")]
    conntrack_max_per_core: Option<i32>,
    /// Connections tracked at most, at least [default: 131072]
    #[arg(long, value_name = "N")]
    conntrack_min: Option<i32>,
    /// Forget an idle TCP connection after this; 0 leaves it [default: 24h]
    #[arg(long, value_name = "DURATION")]
    conntrack_tcp_timeout_established: Option<GoDuration>,
    /// Forget a half-closed TCP connection after this; 0 leaves it [default: 1h]
    #[arg(long, value_name = "DURATION")]
    conntrack_tcp_timeout_close_wait: Option<GoDuration>,
    /// Let TCP packets outside of the window pass
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    conntrack_tcp_be_liberal: Option<bool>,
    /// Forget a UDP flow without answer after this; 0 leaves it [default: 0]
    #[arg(long, value_name = "DURATION")]
    conntrack_udp_timeout: Option<GoDuration>,
    /// Forget an answered UDP flow after this; 0 leaves it [default: 0]
    #[arg(long, value_name = "DURATION")]
    conntrack_udp_timeout_stream: Option<GoDuration>,
}

fn put<T: Clone>(field: &mut T, given: Option<&T>) {
    if let Some(value) = given {
        field.clone_from(value);
    }
}

impl KubeFlags {
    /// The configuration in effect: the file, or kube-proxy's defaults, with these flags over it.
    pub fn configuration(&self) -> Result<KubeProxyConfiguration> {
        let mut kube = match &self.config {
            Some(path) => KubeProxyConfiguration::read(path)?,
            None => KubeProxyConfiguration::default(),
        };
        self.lay_over(&mut kube)?;
        kube.validate()?;
        Ok(kube)
    }

    fn lay_over(&self, kube: &mut KubeProxyConfiguration) -> Result<()> {
        put(&mut kube.hostname_override, self.hostname_override.as_ref());
        put(&mut kube.mode, self.proxy_mode.as_ref());
        put(&mut kube.bind_address, self.bind_address.as_ref());
        put(&mut kube.bind_address_hard_fail, self.bind_address_hard_fail.as_ref());
        put(&mut kube.healthz_bind_address, self.healthz_bind_address.as_ref());
        put(&mut kube.metrics_bind_address, self.metrics_bind_address.as_ref());
        put(&mut kube.detect_local_mode, self.detect_local_mode.as_ref());
        put(&mut kube.detect_local.bridge_interface, self.pod_bridge_interface.as_ref());
        put(&mut kube.detect_local.interface_name_prefix, self.pod_interface_name_prefix.as_ref());
        put(&mut kube.nftables.masquerade_all, self.masquerade_all.as_ref());
        put(&mut kube.iptables.masquerade_all, self.masquerade_all.as_ref());
        put(&mut kube.nftables.sync_period, self.nftables_sync_period.as_ref());
        put(&mut kube.nftables.min_sync_period, self.nftables_min_sync_period.as_ref());
        put(&mut kube.iptables.sync_period, self.iptables_sync_period.as_ref());
        put(&mut kube.iptables.min_sync_period, self.iptables_min_sync_period.as_ref());
        put(&mut kube.config_sync_period, self.config_sync_period.as_ref());
        put(&mut kube.show_hidden_metrics_for_version, self.show_hidden_metrics_for_version.as_ref());
        put(&mut kube.client_connection.qps, self.kube_api_qps.as_ref());
        put(&mut kube.client_connection.burst, self.kube_api_burst.as_ref());
        put(&mut kube.client_connection.content_type, self.kube_api_content_type.as_ref());
        kube.node_port_addresses = self.nodeport_addresses.clone().or(kube.node_port_addresses.take());
        kube.nftables.masquerade_bit = self.nftables_masquerade_bit.or(kube.nftables.masquerade_bit);
        kube.iptables.masquerade_bit = self.iptables_masquerade_bit.or(kube.iptables.masquerade_bit);
        kube.iptables.localhost_node_ports = self.iptables_localhost_nodeports.or(kube.iptables.localhost_node_ports);
        kube.oom_score_adj = self.oom_score_adj.or(kube.oom_score_adj);
        for gate in self.feature_gates.iter().flatten() {
            let parsed = gate.split_once('=').and_then(|(name, on)| Some((name, on.parse::<bool>().ok()?)));
            let (name, on) = parsed.ok_or_else(|| anyhow::anyhow!("--feature-gates: \"{gate}\" is not NAME=BOOL"))?;
            kube.feature_gates.insert(name.to_owned(), on);
        }
        put(&mut kube.enable_profiling, self.profiling.as_ref());
        put(&mut kube.logging.format, self.logging.logging_format.as_ref());
        if let Some(period) = self.logging.log_flush_frequency {
            kube.logging.flush_frequency = FlushFrequency::Text(period);
        }
        self.conntrack.lay_over(kube);
        self.unused.lay_over(kube);
        Ok(())
    }
}

impl UnusedFlags {
    fn lay_over(&self, kube: &mut KubeProxyConfiguration) {
        let ipvs = &mut kube.ipvs;
        put(&mut ipvs.sync_period, self.ipvs_sync_period.as_ref());
        put(&mut ipvs.min_sync_period, self.ipvs_min_sync_period.as_ref());
        put(&mut ipvs.scheduler, self.ipvs_scheduler.as_ref());
        ipvs.exclude_cidrs = self.ipvs_exclude_cidrs.clone().or(ipvs.exclude_cidrs.take());
        put(&mut ipvs.strict_arp, self.ipvs_strict_arp.as_ref());
        put(&mut ipvs.tcp_timeout, self.ipvs_tcp_timeout.as_ref());
        put(&mut ipvs.tcp_fin_timeout, self.ipvs_tcpfin_timeout.as_ref());
        put(&mut ipvs.udp_timeout, self.ipvs_udp_timeout.as_ref());
        put(&mut kube.port_range, self.proxy_port_range.as_ref());
    }
}

impl ConntrackFlags {
    fn lay_over(&self, kube: &mut KubeProxyConfiguration) {
        let conntrack = &mut kube.conntrack;
        conntrack.max_per_core = self.conntrack_max_per_core.or(conntrack.max_per_core);
        conntrack.min = self.conntrack_min.or(conntrack.min);
        conntrack.tcp_established_timeout =
            self.conntrack_tcp_timeout_established.or(conntrack.tcp_established_timeout);
        conntrack.tcp_close_wait_timeout = self.conntrack_tcp_timeout_close_wait.or(conntrack.tcp_close_wait_timeout);
        put(&mut conntrack.tcp_be_liberal, self.conntrack_tcp_be_liberal.as_ref());
        put(&mut conntrack.udp_timeout, self.conntrack_udp_timeout.as_ref());
        put(&mut conntrack.udp_stream_timeout, self.conntrack_udp_timeout_stream.as_ref());
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        flags: KubeFlags,
    }

    fn configuration(arguments: &[&str]) -> Result<KubeProxyConfiguration> {
        Command::try_parse_from([&["proxy"], arguments].concat())?.flags.configuration()
    }

    #[test]
    fn kubeadms_and_k3s_command_lines_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.conf");
        let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\n\
                    nftables: {masqueradeAll: true}\nconntrack: {min: 7}\n";
        std::fs::write(&file, text).unwrap();
        let config = format!("--config={}", file.display());
        let read = configuration(&[&config, "--hostname-override=n1", "--conntrack-min=9"]).unwrap();
        assert_eq!((read.hostname_override.as_str(), read.conntrack.min), ("n1", Some(9)));
        assert!(read.nftables.masquerade_all);
        let read = configuration(&[
            "--proxy-mode=nftables",
            "--healthz-bind-address=127.0.0.1",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
            "--feature-gates=NFTablesProxyMode=true,SidecarContainers=false",
            "--oom-score-adj=-998",
            "--masquerade-all",
            "--nodeport-addresses=10.0.0.0/8,192.168.0.0/16",
        ])
        .unwrap();
        assert_eq!(read.health().unwrap().unwrap().to_string(), "127.0.0.1:10256");
        assert_eq!((read.conntrack.max_per_core, read.oom_score_adj), (Some(0), Some(-998)));
        assert_eq!(read.node_port_addresses.unwrap().len(), 2);
        assert_eq!(read.feature_gates.len(), 2);
        let read = configuration(&[
            "--proxy-mode=iptables",
            "--iptables-masquerade-bit=13",
            "--iptables-sync-period=10s",
            "--iptables-min-sync-period=2s",
            "--masquerade-all",
        ])
        .unwrap();
        let rules = read.rules("iptables");
        assert_eq!((read.mode.as_str(), rules.masquerade_mark), ("iptables", 0x2000));
        assert_eq!((rules.check_every.as_secs(), rules.hold.as_secs()), (10, 2));
        assert!(read.iptables.masquerade_all && read.nftables.masquerade_all);
        assert_eq!(read.rules("nftables").check_every.as_secs(), 30);
    }

    #[test]
    fn flags_of_what_this_proxy_does_not_have_are_understood_too() {
        let read = configuration(&[
            "--proxy-mode=iptables",
            "--ipvs-scheduler=rr",
            "--ipvs-strict-arp",
            "--ipvs-exclude-cidrs=10.0.0.0/8",
            "--proxy-port-range=0-0",
            "--logtostderr=true",
            "--profiling",
            "--logging-format=json",
            "--log-flush-frequency=5s",
            "--kube-api-qps=-1",
            "--kube-api-burst=20",
        ])
        .unwrap();
        assert_eq!((read.ipvs.scheduler.as_str(), read.ipvs.strict_arp, read.enable_profiling), ("rr", true, true));
        assert_eq!((read.client_connection.qps, read.client_connection.burst), (-1.0, 20));
        assert_eq!(read.without_effect(), ["portRange"]);
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        for (argument, said) in [
            ("--proxy-mode=ipvs", "mode: \"ipvs\" is none of nftables"),
            ("--feature-gates=A", "\"A\" is not NAME=BOOL"),
            ("--feature-gates=A=true", "featureGates: unrecognized feature gate: A"),
            ("--logging-format=xml", "logging.format: \"xml\" is no log format"),
            ("--show-hidden-metrics-for-version=1.2", "showHiddenMetricsForVersion: \"1.2\" must be left out"),
            ("--nodeport-addresses=here", "nodePortAddresses: \"here\""),
            ("--config=/nowhere", "cannot read /nowhere"),
        ] {
            let error = configuration(&[argument]).unwrap_err().to_string();
            assert!(error.contains(said), "{argument}: {error}");
        }
    }
}
