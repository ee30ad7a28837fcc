//! Flags of Services at connect time. kube-proxy has nothing like it: they are ours.

use crate::flags::ConnectTime;
use clap::Args;
use pintle_proxy::connect_time::Options;
use std::path::PathBuf;

/// Whether, and for whom.
#[derive(Args, Debug, Default)]
pub struct ConnectTimeFlags {
    #[command(flatten)]
    connect_time: ConnectTime,
    /// Only for processes below this cgroup: a directory of the cgroup v2 hierarchy [default: all of it]
    #[arg(long, value_name = "DIR")]
    connect_time_cgroup: Option<PathBuf>,
    /// Where pods are, below that directory [default: kubepods,kubepods.slice,pintle/kubepods]
    #[arg(long, value_delimiter = ',', value_name = "CGROUP")]
    connect_time_pods: Vec<PathBuf>,
}

impl ConnectTimeFlags {
    /// What they say.
    pub fn options(&self) -> Options {
        let wanted = self.connect_time.wanted();
        Options { wanted, cgroup: self.connect_time_cgroup.clone(), pods: self.connect_time_pods.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use pintle_proxy::connect_time::Wanted;

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
