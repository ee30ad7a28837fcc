//! Services at connect time, besides the mode that serves all of them: keeps eBPF programs and their maps as
//! [`Tables`] plans them.
//!
//! ```text
//!  Empty ── new maps filled, programs linked ──► Linked ◄──┐ a change: fill, switch, free
//!    ▲           the old ones let go               │   │   │ everything: new maps in the place of the old
//!    │ try again                                   │   └───┘
//!    └──────── Failed: unlinked, the mode serves alone ◄── whatever is refused
//! ```
//!
//! Links live as long as this process. When it ends, however it ends, the packet filter's rules, which stay, take over
//! with the next connection; nothing is to be cleaned up. See docs/adr/0009-connect-time.md.

mod beside;
mod cgroup;
mod kernel;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use pintle_net::routes;
use pintle_nft::Family;
use pintle_proxy_plan::connect::tables::here;
use pintle_proxy_plan::connect::{Plan, Tables};
use pintle_proxy_plan::{Config, ServiceMap, ServiceName};

pub use beside::beside;
pub use kernel::ConnectError;
use kernel::{Kept, Loaded, Room};

/// Whether Services are served at connect time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// No.
    #[default]
    Off,
    /// Where it works; where not, that is said once.
    Auto,
    /// Yes, or the proxy does not run.
    On,
}

/// The operator's wishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether at all.
    pub wanted: Wanted,
    /// The directory of the cgroup v2 whose processes are served; `None` for the whole hierarchy.
    pub cgroup: Option<PathBuf>,
    /// The cgroups of pods, below that directory; empty for [`PODS`]. Those that are not there yet are looked for
    /// again and again.
    pub pods: Vec<PathBuf>,
}

/// Where kubelets put pods: by themselves, by systemd, and ours.
pub const PODS: [&str; 3] = ["kubepods", "kubepods.slice", "pintle/kubepods"];

/// Where programs go, and what they must know.
#[derive(Clone, Debug)]
struct Site {
    cgroup: PathBuf,
    pods: Vec<PathBuf>,
    /// The cookie of our network namespace.
    netns: u64,
}

/// See the module's description.
pub struct ConnectTime {
    site: Site,
    on_loopback: bool,
    tables: Vec<(Family, Tables)>,
    kept: Arc<Kept>,
    state: State,
    here: BTreeSet<IpAddr>,
}

enum State {
    Empty,
    Linked(Loaded),
    Failed,
}

impl ConnectTime {
    /// Finds out whether this machine can, in the network namespace of the calling thread. Nothing is attached yet.
    ///
    /// # Errors
    /// When there is no cgroup v2, or the kernel does not take the programs, with its reason.
    pub fn open(options: &Options, on_loopback: bool) -> Result<Self, ConnectError> {
        let cgroup = cgroup::directory(options.cgroup.as_deref())?;
        let usual = || PODS.iter().map(PathBuf::from).collect();
        let pods: Vec<PathBuf> = if options.pods.is_empty() { usual() } else { options.pods.clone() };
        // A path that begins at the root would replace the directory it should be below.
        let below = |p: &PathBuf| cgroup.join(p.strip_prefix("/").unwrap_or(p));
        let netns = pintle_sys::net::netns_cookie().map_err(ConnectError::kernel("name this network namespace"))?;
        let site = Site { pods: pods.iter().map(below).collect(), cgroup, netns };
        let kept = Arc::new(Kept::create()?);
        // Loads every program and lets it go: what the verifier refuses is known now.
        Loaded::load(&site, kept.clone(), Room::default())?;
        let tables = [Family::V4, Family::V6].map(|f| (f, Tables::new(f))).into();
        Ok(Self { site, on_loopback, tables, kept, state: State::Empty, here: BTreeSet::new() })
    }

    /// After a failure: the next [`ConnectTime::follow`] tries again.
    pub fn try_again(&mut self) {
        if matches!(self.state, State::Failed) {
            self.state = State::Empty;
        }
    }

    /// Brings the maps to what the Services are; `concerned` are those that may have changed. Returns how many
    /// operations it took.
    ///
    /// # Errors
    /// When the kernel refuses; then nothing is attached any more, and nothing happens until
    /// [`ConnectTime::try_again`].
    pub fn follow(
        &mut self,
        maps: &[&ServiceMap],
        concerned: &BTreeSet<Arc<ServiceName>>,
        extent: Extent,
    ) -> Result<usize, ConnectError> {
        let outcome = match (&self.state, extent) {
            (State::Failed, _) => Ok(0),
            (State::Linked(_), Extent::Changes) => self.change(maps, concerned),
            (State::Linked(_), Extent::Everything) | (State::Empty, _) => self.load(maps),
        };
        self.unless_failed(outcome)
    }

    fn unless_failed<T>(&mut self, outcome: Result<T, ConnectError>) -> Result<T, ConnectError> {
        if outcome.is_err() {
            self.state = State::Failed;
        }
        outcome
    }

    fn change(&mut self, maps: &[&ServiceMap], concerned: &BTreeSet<Arc<ServiceName>>) -> Result<usize, ConnectError> {
        let plans = self.plans(maps, |tables, map| tables.change(map, concerned));
        let State::Linked(loaded) = &mut self.state else { return Ok(0) };
        if loaded.apply(&plans).is_err() {
            // The maps are too small by now, or memory was short for a moment: once more, from the beginning.
            return self.load(maps);
        }
        Ok(plans.iter().map(Plan::len).sum())
    }

    /// New maps, filled before any program of theirs is linked; then the old programs are let go.
    fn load(&mut self, maps: &[&ServiceMap]) -> Result<usize, ConnectError> {
        let plans = self.plans(maps, Tables::full);
        let mut loaded = Loaded::load(&self.site, self.kept.clone(), Room::for_plans(&plans))?;
        loaded.apply(&plans)?;
        if let Some(map) = maps.first() {
            self.here = self.wanted_here(map.config())?;
            self.here.iter().try_for_each(|addr| loaded.answer_on(*addr))?;
        }
        loaded.attach()?;
        self.state = State::Linked(loaded);
        Ok(plans.iter().map(Plan::len).sum())
    }

    fn plans(&mut self, maps: &[&ServiceMap], plan: impl Fn(&mut Tables, &ServiceMap) -> Plan) -> Vec<Plan> {
        let of = |map: &&ServiceMap| {
            let (_, tables) = self.tables.iter_mut().find(|(family, _)| *family == map.config().family)?;
            Some(plan(tables, map))
        };
        maps.iter().filter_map(of).collect()
    }

    fn wanted_here(&self, config: &Config) -> Result<BTreeSet<IpAddr>, ConnectError> {
        let local = routes::local_addrs_here().map_err(ConnectError::Addresses)?;
        let local: Vec<IpAddr> = local.iter().map(pintle_net::Cidr::addr).collect();
        Ok(here(config, &local, self.on_loopback))
    }

    /// Looks after what changes without any Service: pods' cgroups that came or were made anew, and this machine's
    /// addresses.
    ///
    /// # Errors
    /// As [`ConnectTime::follow`].
    pub fn look_after(&mut self, config: &Config) -> Result<(), ConnectError> {
        let outcome = self.attach_and_answer(config);
        self.unless_failed(outcome)
    }

    fn attach_and_answer(&mut self, config: &Config) -> Result<(), ConnectError> {
        let wanted = self.wanted_here(config)?;
        let State::Linked(loaded) = &mut self.state else { return Ok(()) };
        loaded.attach()?;
        wanted.difference(&self.here).try_for_each(|addr| loaded.answer_on(*addr))?;
        self.here.difference(&wanted).try_for_each(|addr| loaded.answer_no_more_on(*addr))?;
        self.here = wanted;
        Ok(())
    }

    /// Whether programs are attached.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        matches!(self.state, State::Linked(_))
    }

    /// How many Services are served at connect time, in a family.
    #[must_use]
    pub fn count(&self, family: Family) -> usize {
        self.tables.iter().filter(|(f, _)| *f == family).map(|(_, tables)| tables.count()).sum()
    }
}

/// How much a synchronisation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Some Services.
    Changes,
    /// All of them.
    Everything,
}
