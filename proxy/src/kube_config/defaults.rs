//! kube-proxy's defaults for what a file leaves empty.

use super::KubeProxyConfiguration;
use crate::duration::GoDuration;

impl KubeProxyConfiguration {
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
        text(&mut self.logging.format, default.logging.format);
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
}
