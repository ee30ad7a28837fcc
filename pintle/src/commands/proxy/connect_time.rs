//! Flags of Services at connect time. kube-proxy has nothing like it: they are ours.

use clap::{Args, ValueEnum};
use pintle_proxy::connect_time::{Options, Wanted};
use std::path::PathBuf;

/// Whether, and for whom.
#[derive(Args, Debug, Default)]
pub struct ConnectTimeFlags {
    /// Lead sockets of this node and its pods to endpoints as they connect, by eBPF on cgroup v2, besides the rules that
    /// serve everything else: on, off, or auto, which does without where it is impossible
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    connect_time: When,
    /// Only for processes below this cgroup: a directory of the cgroup v2 hierarchy [default: all of it]
    #[arg(long, value_name = "DIR")]
    connect_time_cgroup: Option<PathBuf>,
    /// Where pods are, below that directory [default: kubepods,kubepods.slice,pintle/kubepods]
    #[arg(long, value_delimiter = ',', value_name = "CGROUP")]
    connect_time_pods: Vec<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
enum When {
    #[default]
    Off,
    Auto,
    On,
}

impl ConnectTimeFlags {
    /// What they say.
    pub fn options(&self) -> Options {
        let wanted = match self.connect_time {
            When::Off => Wanted::Off,
            When::Auto => Wanted::Auto,
            When::On => Wanted::On,
        };
        Options { wanted, cgroup: self.connect_time_cgroup.clone(), pods: self.connect_time_pods.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        flags: ConnectTimeFlags,
    }

    #[test]
    fn connect_time_is_off_unless_asked_for() {
        let read = |arguments: &[&str]| Command::parse_from([&["proxy"], arguments].concat()).flags.options();
        assert_eq!(read(&[]), Options::default());
        let asked = ["--connect-time=auto", "--connect-time-cgroup=/c", "--connect-time-pods=a,b/c"];
        let pods = vec!["a".into(), "b/c".into()];
        assert_eq!(read(&asked), Options { wanted: Wanted::Auto, cgroup: Some("/c".into()), pods });
        assert!(Command::try_parse_from(["proxy", "--connect-time=maybe"]).is_err());
    }
}
