//! The ways to serve Services, each a file here and an entry of [`MODES`]: what it is called, whether this machine can
//! do it, how it begins, what it leaves behind. Owns the choice of one; knows nothing of how any of them works.
//!
//! A proxy that begins in one mode installs everything, and only then removes what the others left: packets always meet
//! the old rules, the new ones, or both, which lead to the same servers.

mod iptables;
mod nftables;
mod userspace;

use pintle_nft::Family;
use pintle_nft::trace::{Journey, Machine, Packet};
use pintle_proxy_plan::iptables::Unreadable;
use pintle_proxy_plan::{Config, ServiceMap};

use crate::backend::{Backend, BackendError, Watch};
use crate::config::ProxyError;
use crate::run::cause;

/// All of them; where nobody asked for one, the first that this machine can do.
pub const MODES: &[&dyn Mode] = &[&nftables::Nftables, &iptables::Iptables, &userspace::Userspace];

/// A way to serve Services. Everything happens in the network namespace of the calling thread.
pub trait Mode: Sync {
    /// As `--proxy-mode`, the configuration's `mode` and `/proxyMode` say it.
    fn name(&self) -> &'static str;

    /// Whether this machine can serve a family's Services so. Leaves nothing behind.
    ///
    /// # Errors
    /// Why not.
    fn probe(&self, config: &Config, family: Family) -> Result<(), BackendError>;

    /// Begins, within a tokio runtime; nothing is installed before the first synchronisation.
    ///
    /// # Errors
    /// When what it works with cannot be opened.
    fn start(&self, config: &Config, families: &[Family]) -> Result<Started, BackendError>;

    /// Removes everything this mode ever installed, by this process or one before it, in both families. Nothing there
    /// is fine, and so is a machine that cannot do this mode at all.
    ///
    /// # Errors
    /// When something may be left.
    fn cleanup(&self, config: &Config) -> Result<(), BackendError>;

    /// A family's Services as this mode would install them, for people.
    fn render(&self, map: &ServiceMap) -> String;

    /// Whether the kernel tracks connections for it, and has limits for that.
    fn tracks_connections(&self) -> bool {
        true
    }

    /// What may become of an imaginary packet where a family's Services are served so: every way it may go.
    ///
    /// # Errors
    /// When the mode's own rules cannot be read.
    fn journeys(&self, map: &ServiceMap, machine: &Machine, packet: Packet) -> Result<Vec<Journey>, Unreadable>;
}

/// A mode at work.
pub struct Started {
    /// What carries Services out.
    pub backend: Box<dyn Backend>,
    /// What notices foreign hands on them; [`crate::backend::Blind`] for none.
    pub watch: Box<dyn Watch>,
}

/// A mode that this machine can do, and for whom.
pub struct Chosen {
    /// Which.
    pub mode: &'static dyn Mode,
    /// The families in which it can: IPv4, and perhaps IPv6.
    pub families: Vec<Family>,
}

/// Their names, the first choice first.
#[must_use]
pub fn names() -> Vec<&'static str> {
    MODES.iter().map(|mode| mode.name()).collect()
}

/// The mode that is asked for by name; an empty name means the first choice, whatever this machine can do.
#[must_use]
pub fn find(asked: &str) -> Option<&'static dyn Mode> {
    MODES.iter().find(|mode| asked.is_empty() || mode.name() == asked).copied()
}

/// The mode that is asked for, or where nobody asks the first that works here. Says once why it is not the first choice.
///
/// # Errors
/// When a mode that was asked for does not work here, none does, or this process may not find out.
pub fn choose(
    asked: &str,
    modes: &[&'static dyn Mode],
    config: impl Fn(&dyn Mode) -> Config,
) -> Result<Chosen, ProxyError> {
    let mut impossible: Vec<(&'static str, BackendError)> = Vec::new();
    for mode in modes.iter().filter(|mode| asked.is_empty() || mode.name() == asked) {
        let config = config(*mode);
        match mode.probe(&config, Family::V4) {
            Err(error) if error.is_denied() => return Err(ProxyError::Mode { mode: mode.name(), source: error }),
            Err(error) if !error.is_transient() => impossible.push((mode.name(), error)),
            // What passes is met again, and dealt with, by the first load.
            _ => {
                for (other, error) in &impossible {
                    let (cause, instead) = (cause(error), mode.name());
                    tracing::warn!(%error, cause, "mode {other} is impossible on this machine: Services are served by {instead}");
                }
                return Ok(Chosen { mode: *mode, families: families(*mode, &config) });
            }
        }
    }
    Err(match impossible.pop() {
        Some((mode, source)) if impossible.is_empty() => ProxyError::Mode { mode, source },
        last => ProxyError::NoMode {
            reasons: impossible
                .iter()
                .chain(&last)
                .map(|(mode, error)| format!("{mode}: {error}: {}", cause(error)))
                .collect::<Vec<_>>()
                .join("; "),
        },
    })
}

/// IPv4, and IPv6 where the kernel speaks it and the mode can do it.
fn families(mode: &dyn Mode, config: &Config) -> Vec<Family> {
    let mut families = vec![Family::V4];
    if speaks_ipv6() {
        match mode.probe(config, Family::V6) {
            Err(error) if !error.is_transient() => {
                let (cause, hint) = (cause(&error), error.hint());
                tracing::warn!(%error, cause, hint, "this kernel cannot serve IPv6 Services; they are left alone");
            }
            _ => families.push(Family::V6),
        }
    }
    families
}

/// Whether the kernel speaks IPv6.
pub fn speaks_ipv6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

/// Removes everything that modes other than `kept` ever installed; the first failure, after all were tried.
///
/// # Errors
/// When something may be left.
pub fn cleanup(config: &Config, kept: Option<&str>) -> Result<(), ProxyError> {
    let others = MODES.iter().filter(|mode| Some(mode.name()) != kept);
    let done =
        others.map(|mode| mode.cleanup(config).map_err(|source| ProxyError::Cleanup { mode: mode.name(), source }));
    done.fold(Ok(()), Result::and)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::backend::Fault;

    #[derive(Debug, thiserror::Error)]
    #[error("it is {0:?}")]
    struct Broken(Why);

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Why {
        Absent,
        Denied,
        Busy,
    }

    impl Fault for Broken {
        fn is_transient(&self) -> bool {
            self.0 == Why::Busy
        }

        fn is_denied(&self) -> bool {
            self.0 == Why::Denied
        }

        fn hint(&self) -> Option<&'static str> {
            None
        }
    }

    struct Imaginary(&'static str, Option<Why>);

    impl Mode for Imaginary {
        fn name(&self) -> &'static str {
            self.0
        }

        fn probe(&self, _config: &Config, _family: Family) -> Result<(), BackendError> {
            self.1.map_or(Ok(()), |why| Err(Broken(why).into()))
        }

        fn start(&self, _config: &Config, _families: &[Family]) -> Result<Started, BackendError> {
            Err(Broken(Why::Absent).into())
        }

        fn cleanup(&self, _config: &Config) -> Result<(), BackendError> {
            Ok(())
        }

        fn render(&self, _map: &ServiceMap) -> String {
            String::new()
        }

        fn journeys(&self, _: &ServiceMap, _: &Machine, _: Packet) -> Result<Vec<Journey>, Unreadable> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn the_first_mode_that_works_is_chosen_and_a_named_one_or_none() {
        const WORKS: &dyn Mode = &Imaginary("works", None);
        const ABSENT: &dyn Mode = &Imaginary("absent", Some(Why::Absent));
        const ALSO: &dyn Mode = &Imaginary("also", Some(Why::Absent));
        const DENIED: &dyn Mode = &Imaginary("denied", Some(Why::Denied));
        const BUSY: &dyn Mode = &Imaginary("busy", Some(Why::Busy));
        let config = Config::new("here", Vec::new(), Vec::new());
        let chosen = |asked: &str, modes: &[&'static dyn Mode]| match choose(asked, modes, |_| config.clone()) {
            Ok(chosen) => chosen.mode.name().to_owned(),
            Err(error) => format!("{error}"),
        };
        for (asked, modes, want) in [
            ("", &[WORKS, ABSENT][..], "works"),
            ("", &[ABSENT, WORKS], "works"),
            ("", &[BUSY, WORKS], "busy"),
            ("", &[DENIED, WORKS], "cannot serve Services in mode denied"),
            ("absent", &[ABSENT, WORKS], "cannot serve Services in mode absent"),
            ("works", &[ABSENT, WORKS], "works"),
            (
                "",
                &[ABSENT, ALSO],
                "this machine can serve Services in no mode: absent: it is Absent: ; also: it is Absent: ",
            ),
        ] {
            assert_eq!(chosen(asked, modes), want);
        }
        assert_eq!(find("").unwrap().name(), "nftables");
        assert!(find("ipvs").is_none());
    }

    #[test]
    fn every_mode_has_a_name_of_its_own() {
        let mut names = names();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), MODES.len());
    }
}
