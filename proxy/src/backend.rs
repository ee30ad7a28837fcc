//! What carries Services out on this machine. One trait for every way to do it; the loop in `run` knows no other word.
//!
//! A backend owns the Services it was told of (each renders the same `ServiceMap`), what it believes to be installed,
//! and how to install it. Its calls block; `run` gives it a thread.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use pintle_nft::Family;
use pintle_proxy_plan::outputs::{self, HealthChanges, LoopbackChanges};
use pintle_proxy_plan::{Change, Config, Counts, Issue, ServiceMap, ServiceName};

use crate::forward::Counters;

/// A way to serve Services.
pub trait Backend: Send {
    /// The configuration in effect; its family means nothing.
    fn config(&self) -> &Config;

    /// Begins again with another configuration; everything must be noted anew.
    fn reconfigure(&mut self, config: Config);

    /// Takes note of a change; [`Backend::sync`] carries it out.
    fn note(&mut self, change: Change<'_>);

    /// What is installed is not what we think: the next synchronisation installs everything.
    fn distrust(&mut self);

    /// The next synchronisation tries again what was refused so far, and what failed.
    fn try_again(&mut self) {
        self.distrust();
    }

    /// Whether nothing is installed in a way that is quick to install and is to be replaced a little later.
    fn is_settled(&self) -> bool {
        true
    }

    /// The next synchronisation replaces that.
    fn settle(&mut self) {}

    /// Carries out what was noted. Whatever fails or is refused is in the report.
    fn sync(&mut self) -> Report;

    /// The Services of each family, as they are after the last synchronisation.
    fn maps(&self) -> Vec<&ServiceMap>;

    /// Counts what is served in a family; the cost is that of looking at every Service.
    fn counts(&self, family: Family) -> Counts {
        let map = self.maps().into_iter().find(|map| map.config().family == family);
        map.map(outputs::counts).unwrap_or_default()
    }

    /// Whether what is installed is still ours, as far as a glance tells.
    fn is_intact(&mut self) -> bool;

    /// The [`Watch`] is paused: from now on [`Backend::was_alone`] is to tell.
    fn begin_alone(&mut self) {}

    /// Whether nobody else changed anything since [`Backend::begin_alone`], as far as a glance tells; without anything to
    /// watch by, yes.
    fn was_alone(&mut self) -> bool {
        true
    }

    /// What this process forwards itself, counted; `None` where the kernel does it all.
    fn forwarding(&self) -> Option<Arc<Counters>> {
        None
    }
}

/// What goes wrong in a backend, in its own words; each backend's error type is one.
pub trait Fault: std::error::Error + Send + Sync + 'static {
    /// Whether the same may go well a moment later, being no object's fault.
    fn is_transient(&self) -> bool;

    /// Whether it is this process that may not, rather than this machine that cannot.
    fn is_denied(&self) -> bool;

    /// What the user can do about it, where we know.
    fn hint(&self) -> Option<&'static str>;
}

/// Some backend's [`Fault`]: displayed as that is, with its source.
#[derive(Debug)]
pub struct BackendError(Box<dyn Fault>);

impl<F: Fault> From<F> for BackendError {
    fn from(fault: F) -> Self {
        Self(Box::new(fault))
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for BackendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl BackendError {
    /// See [`Fault::is_transient`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.0.is_transient()
    }

    /// See [`Fault::is_denied`].
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.0.is_denied()
    }

    /// See [`Fault::hint`].
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        self.0.hint()
    }
}

/// What is waited for.
pub type Wait<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Notices, at once, that somebody else changed what a backend installed. One that cannot is [`Blind`]; then
/// [`Backend::is_intact`], asked now and then, is all there is.
pub trait Watch: Send {
    /// Waits until somebody else did; the outcome says what, for the log. Cancel-safe.
    fn noticed(&mut self) -> Wait<'_, Result<String, BackendError>>;

    /// Forgets what has come but was not read: everything is about to be installed anyway.
    fn forget(&mut self) -> Wait<'_, ()>;

    /// Stops listening while the backend does much itself; what others do meanwhile [`Backend::was_alone`] tells.
    ///
    /// # Errors
    /// When watching has come to an end.
    fn pause(&mut self) -> Result<(), BackendError>;

    /// Listens again.
    ///
    /// # Errors
    /// When watching has come to an end.
    fn resume(&mut self) -> Result<(), BackendError>;
}

/// Notices nothing.
pub struct Blind;

impl Watch for Blind {
    fn noticed(&mut self) -> Wait<'_, Result<String, BackendError>> {
        Box::pin(std::future::pending())
    }

    fn forget(&mut self) -> Wait<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn pause(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    fn resume(&mut self) -> Result<(), BackendError> {
        Ok(())
    }
}

/// How much a synchronisation installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// Nothing: it was all there.
    #[default]
    Nothing,
    /// What changed.
    Incremental,
    /// Everything.
    Full,
}

/// What a synchronisation did and found.
#[derive(Debug, Default)]
pub struct Report {
    /// For each family that is served.
    pub families: Vec<FamilyReport>,
    /// Services that may be served differently, for whoever serves them besides.
    pub concerned: BTreeSet<Arc<ServiceName>>,
    /// What is wrong with the changed objects.
    pub issues: Vec<Issue>,
    /// Health checks to answer otherwise.
    pub health: HealthChanges,
    /// Node ports to serve on loopback otherwise.
    pub loopback: LoopbackChanges,
}

/// The same, for one family.
#[derive(Debug)]
pub struct FamilyReport {
    /// Which.
    pub family: Family,
    /// How much was installed.
    pub extent: Extent,
    /// Operations sent.
    pub ops: usize,
    /// All of it, planning included.
    pub took: Duration,
    /// The longest time the kernel was held up at a stretch.
    pub longest: Duration,
    /// Services left out, in whole or in part, because the kernel refuses them, and why.
    pub refused: Vec<(ServiceName, String)>,
    /// How many flows were made to forget their server.
    pub flows: Result<usize, BackendError>,
    /// Whether all the others are installed.
    pub outcome: Result<(), BackendError>,
}

/// What one family's Services ask for besides rules, or have wrong; see [`Report::add`].
#[derive(Debug, Default)]
pub struct Found {
    /// Services that may be served differently.
    pub concerned: BTreeSet<Arc<ServiceName>>,
    /// What is wrong with the changed objects.
    pub issues: Vec<Issue>,
    /// Health checks that changed.
    pub health: HealthChanges,
    /// Node ports on loopback that changed.
    pub loopback: LoopbackChanges,
}

impl Report {
    /// Adds one family. Both read the same objects and share one loopback: what is wrong is said once, and a node port
    /// of both has the servers of the first that has any. The health checks of both are settled by
    /// [`Report::settle_health`].
    pub fn add(&mut self, done: FamilyReport, found: Found) {
        self.families.push(done);
        self.concerned.extend(found.concerned);
        self.issues.extend(found.issues);
        self.issues.sort();
        self.issues.dedup();
        self.health.extend(found.health);
        for (port, serving) in found.loopback {
            let known = self.loopback.entry(port).or_insert_with(|| serving.clone());
            if known.as_ref().is_none_or(|k| k.servers.is_empty()) {
                *known = serving;
            }
        }
    }

    /// A pod with addresses of both families is one endpoint: of the checks of a Service, the one that counts more.
    pub fn settle_health<'a, M: Iterator<Item = &'a ServiceMap>>(&mut self, maps: impl Fn() -> M) {
        for (name, check) in &mut self.health {
            let checks = maps().filter_map(|map| outputs::health_check(map.get(name)?));
            *check = checks.max_by_key(|check| check.local_ready);
        }
    }

    /// Whether everything but refused Services is installed.
    pub fn is_installed(&self) -> bool {
        self.families.iter().all(|f| f.outcome.is_ok())
    }

    /// Whether something is to be tried again by itself.
    pub fn wants_retry(&self) -> bool {
        self.families.iter().any(|f| f.outcome.is_err() || !f.refused.is_empty())
    }
}
