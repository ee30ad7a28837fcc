//! Connection tracking's limits and time-outs, and what else of the machine's settings kube-proxy sets. Owns turning
//! the configuration into kernel switches and writing them, in the caller's network namespace only.
//!
//! The size of the hash table is a setting of the whole machine, not of a namespace: it is left alone.

use std::num::NonZero;

use pintle_net::{NetError, sysctl};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::duration::GoDuration;
use crate::kube_config::Conntrack;

/// One switch below /proc/sys, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// With dots.
    pub name: &'static str,
    /// As it is written.
    pub value: String,
}

/// The switches a configuration asks for on a machine with so many cores.
#[must_use]
pub fn switches(config: &Conntrack, cores: usize) -> Vec<Switch> {
    let mut switches = Vec::new();
    let mut put = |name, value: String| switches.push(Switch { name, value });
    let positive = |n: Option<i32>| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    // As kube-proxy: so many for each core, but at least so many; nothing per core means leave it.
    let max = match positive(config.max_per_core) {
        0 => 0,
        each => each.saturating_mul(cores).max(positive(config.min)),
    };
    if max > 0 {
        put("net.netfilter.nf_conntrack_max", max.to_string());
    }
    let seconds = |d: GoDuration| d.0.as_secs();
    for (name, value) in [
        ("net.netfilter.nf_conntrack_tcp_timeout_established", config.tcp_established_timeout.map_or(0, seconds)),
        ("net.netfilter.nf_conntrack_tcp_timeout_close_wait", config.tcp_close_wait_timeout.map_or(0, seconds)),
        ("net.netfilter.nf_conntrack_udp_timeout", seconds(config.udp_timeout)),
        ("net.netfilter.nf_conntrack_udp_timeout_stream", seconds(config.udp_stream_timeout)),
    ] {
        if value > 0 {
            put(name, value.to_string());
        }
    }
    if config.tcp_be_liberal {
        put("net.netfilter.nf_conntrack_tcp_be_liberal", "1".to_owned());
    }
    switches
}

/// Sets them; those that cannot be set are returned, the others are set all the same.
#[must_use]
pub fn set(switches: &[Switch]) -> Vec<(Switch, NetError)> {
    let tried = switches.iter().map(|switch| (switch, sysctl::set(switch.name, &switch.value)));
    tried.filter_map(|(switch, outcome)| outcome.err().map(|e| (switch.clone(), e))).collect()
}

/// Descriptors this process may have.
#[must_use]
pub fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Lets this process have as many descriptors as the system allows it; how many that is.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
    open_files()
}

/// Cores this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// How soon the kernel picks this process when memory is short; -1000 to 1000.
///
/// # Errors
/// Without CAP_SYS_RESOURCE, to lower it.
pub fn set_oom_score(value: i32) -> std::io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_kube_proxy() {
        let show = |config: &Conntrack, cores| {
            let shown: Vec<String> = switches(config, cores)
                .iter()
                .map(|s| format!("{}={}", s.name.trim_start_matches("net.netfilter.nf_conntrack_"), s.value))
                .collect();
            shown.join(" ")
        };
        let usual = Conntrack::default();
        assert_eq!(show(&usual, 2), "max=131072 tcp_timeout_established=86400 tcp_timeout_close_wait=3600");
        assert_eq!(show(&usual, 16), "max=524288 tcp_timeout_established=86400 tcp_timeout_close_wait=3600");
        let left = Conntrack {
            max_per_core: Some(0),
            tcp_established_timeout: Some(GoDuration::default()),
            tcp_close_wait_timeout: None,
            tcp_be_liberal: true,
            udp_timeout: GoDuration::from_secs(40),
            ..usual
        };
        assert_eq!(show(&left, 2), "udp_timeout=40 tcp_be_liberal=1");
    }
}
