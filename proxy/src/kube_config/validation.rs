//! What is wrong with a value, as kube-proxy would say it, and which values change nothing here.

use super::feature_gates;
use super::{API_VERSION, ConfigError, KubeProxyConfiguration};
use crate::mode;

/// The release of Kubernetes whose kube-proxy we stand in for, as major and minor.
pub const KUBERNETES: (u32, u32) = (1, 37);

impl KubeProxyConfiguration {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// The first field whose value makes no sense.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.api_version != API_VERSION {
            return field("apiVersion", format!("\"{}\" is not {API_VERSION}", self.api_version));
        }
        if self.kind != "KubeProxyConfiguration" {
            return field("kind", format!("\"{}\" is not KubeProxyConfiguration", self.kind));
        }
        if mode::find(&self.mode).is_none() {
            return field("mode", format!("\"{}\" is none of {}", self.mode, mode::names().join(", ")));
        }
        self.validate_rules()?;
        self.validate_numbers()?;
        feature_gates::check(&self.feature_gates)?;
        self.logging.validate(&self.feature_gates)?;
        self.validate_hidden_metrics()?;
        self.local_mode()?;
        self.cluster_ranges()?;
        self.node_port_ranges()?;
        self.health()?;
        self.metrics()?;
        self.node_address()?;
        Ok(())
    }

    /// What the modes' sections say of rules.
    fn validate_rules(&self) -> Result<(), ConfigError> {
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
        Ok(())
    }

    fn validate_numbers(&self) -> Result<(), ConfigError> {
        if let Some(score) = self.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
            return field("oomScoreAdj", format!("{score} is not within -1000 and 1000"));
        }
        for (name, number) in [
            ("clientConnection.burst", Some(self.client_connection.burst)),
            ("conntrack.maxPerCore", self.conntrack.max_per_core),
            ("conntrack.min", self.conntrack.min),
        ] {
            if let Some(number) = number.filter(|number| *number < 0) {
                return field(name, format!("{number} is less than nothing"));
            }
        }
        if self.client_connection.qps.is_nan() {
            return field("clientConnection.qps", "is no number".into());
        }
        Ok(())
    }

    /// As Kubernetes has it, only the release before may be named. No metric is hidden here.
    fn validate_hidden_metrics(&self) -> Result<(), ConfigError> {
        let (asked, (major, minor)) = (self.show_hidden_metrics_for_version.as_str(), KUBERNETES);
        let before = format!("{major}.{}", minor - 1);
        if asked.is_empty() || asked == before {
            return Ok(());
        }
        let why =
            format!("\"{asked}\" must be left out or be \"{before}\": only the release before this one is allowed");
        field("showHiddenMetricsForVersion", why)
    }

    /// The fields that say something and change nothing here, to be told to whoever wrote them.
    #[must_use]
    pub fn without_effect(&self) -> Vec<String> {
        let connection = &self.client_connection;
        let is_json =
            |types: &str| types.is_empty() || types.split(',').any(|t| t.trim().starts_with("application/json"));
        let usual = Self::default().client_connection.content_type;
        let fields = [
            ("clientConnection.acceptContentTypes (JSON is asked for)", !is_json(&connection.accept_content_types)),
            (
                "clientConnection.contentType (JSON is sent)",
                connection.content_type != usual && !is_json(&connection.content_type),
            ),
            ("showHiddenMetricsForVersion (no metric is hidden)", !self.show_hidden_metrics_for_version.is_empty()),
            ("portRange", !self.port_range.is_empty()),
            ("windowsRunAsService", self.windows_run_as_service),
        ];
        let fields = fields.into_iter().filter(|(_, is_set)| *is_set).map(|(field, _)| field.to_owned());
        let gates = feature_gates::without_effect(&self.feature_gates);
        gates.chain(self.logging.without_effect().map(str::to_owned)).chain(fields).collect()
    }
}

fn field<T>(field: &'static str, why: String) -> Result<T, ConfigError> {
    Err(ConfigError::Field { field, why })
}
