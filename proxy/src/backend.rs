//! What carries Services out on this machine. One trait for every way to do it; the loop in `run` knows no other word.
//!
//! A backend owns the Services it was told of (each renders the same `ServiceMap`), what it believes to be installed,
//! and how to install it. Its calls block; `run` gives it a thread.

use std::time::Duration;

use pintle_net::nfnetlink::NftError;
use pintle_nft::Family;
use pintle_proxy_plan::outputs::{HealthChanges, LoopbackChanges};
use pintle_proxy_plan::{Change, Config, Counts, Issue, ServiceName};

/// A way to serve Services.
pub trait Backend: Send {
    /// As `/proxyMode` says it.
    fn mode(&self) -> &'static str;

    /// The configuration in effect; its family means nothing.
    fn config(&self) -> &Config;

    /// Begins again with another configuration; everything must be noted anew.
    fn reconfigure(&mut self, config: Config);

    /// Takes note of a change; [`Backend::sync`] carries it out.
    fn note(&mut self, change: Change<'_>);

    /// What is installed is not what we think: the next synchronisation installs everything.
    fn distrust(&mut self);

    /// Carries out what was noted. Whatever fails is in the report, and the next synchronisation tries it again.
    fn sync(&mut self) -> Report;

    /// Counts what is served in a family; the cost is that of looking at every Service.
    fn counts(&self, family: Family) -> Counts;

    /// Whether what is installed is still ours, as far as a glance tells.
    fn is_intact(&mut self) -> bool;

    /// Whether nobody else changed anything since the last synchronisation began, as far as a glance tells.
    fn was_alone(&mut self) -> bool;

    /// Removes everything this backend has ever installed, by this process or one before it.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn cleanup(&mut self) -> Result<(), NftError>;
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
    /// Services left out because the kernel refuses them, and why.
    pub refused: Vec<(ServiceName, String)>,
    /// How many flows were made to forget their server.
    pub flows: Result<usize, NftError>,
    /// Whether all the others are installed.
    pub outcome: Result<(), NftError>,
}

impl Report {
    /// Whether everything but refused Services is installed.
    pub fn is_installed(&self) -> bool {
        self.families.iter().all(|f| f.outcome.is_ok())
    }

    /// Whether something is to be tried again by itself.
    pub fn wants_retry(&self) -> bool {
        self.families.iter().any(|f| f.outcome.is_err() || !f.refused.is_empty())
    }
}
