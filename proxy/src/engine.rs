//! The planner and the kernel side by side. Owns what is known about the kernel's state: as planned, or unknown and to
//! be pushed in full. Blocking; the loop around it is `run`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pintle_net::nfnetlink::conntrack::Conntrack;
use pintle_net::nfnetlink::{Nft, NftError};
use pintle_nft::{Flow, Proto, Transaction, diff};
use pintle_proxy_plan::{Change, Claim, Config, Issue, Planner, base};

/// See the module's description.
pub struct Engine {
    planner: Planner,
    nft: Nft,
    conntrack: Conntrack,
    installed: Installed,
    /// Frontends whose flows must be looked at once the rules are in: kept when a transaction fails.
    touched: BTreeSet<Claim>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Installed {
    Unknown,
    AsPlanned,
}

/// What is to be sent.
pub struct Work {
    /// To the kernel.
    pub transaction: Transaction,
    /// Whether it replaces everything.
    pub extent: Extent,
    /// To the user.
    pub issues: Vec<Issue>,
}

/// How much a piece of work replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The whole table.
    Full,
    /// What changed.
    Incremental,
}

/// What was done.
#[derive(Debug)]
pub struct Done {
    /// How long the kernel took.
    pub took: Duration,
    /// How many flows were made to forget their server.
    pub flows: Result<usize, NftError>,
}

impl Engine {
    /// Opens the conversation with the kernel in the calling thread's namespace.
    pub fn new(config: Config) -> Result<Self, NftError> {
        Ok(Self {
            planner: Planner::new(config),
            nft: Nft::open()?,
            conntrack: Conntrack::open()?,
            installed: Installed::Unknown,
            touched: BTreeSet::new(),
        })
    }

    /// Begins again with another configuration; everything must be noted anew.
    pub fn reconfigure(&mut self, config: Config) {
        self.planner = Planner::new(config);
        self.distrust();
    }

    pub fn config(&self) -> &Config {
        self.planner.config()
    }

    /// The netlink port of our changes.
    pub fn port(&self) -> u32 {
        self.nft.port()
    }

    pub fn note(&mut self, change: Change<'_>) {
        self.planner.note(change);
    }

    /// The kernel's state is not what we think: the next work is a full push.
    pub fn distrust(&mut self) {
        self.installed = Installed::Unknown;
    }

    pub fn service_count(&self) -> usize {
        self.planner.service_count()
    }

    /// What follows from everything noted.
    pub fn work(&mut self) -> Work {
        let update = self.planner.update();
        self.touched.extend(update.touched);
        if self.installed == Installed::AsPlanned {
            return Work { transaction: update.transaction, extent: Extent::Incremental, issues: update.issues };
        }
        self.touched.extend(self.planner.frontends());
        let transaction = diff::replace(&self.planner.full());
        Work { transaction, extent: Extent::Full, issues: update.issues }
    }

    /// Sends the work. After an error the next work is a full push.
    pub fn commit(&mut self, work: &Work) -> Result<Done, NftError> {
        let begun = Instant::now();
        self.installed = Installed::Unknown;
        self.nft.commit(&work.transaction)?;
        self.installed = Installed::AsPlanned;
        let took = begun.elapsed();
        // The rules are in, whatever becomes of the flows; those that stay are looked at with the next change.
        let flows = self.forget_stale_flows();
        if flows.is_ok() {
            self.touched.clear();
        }
        Ok(Done { took, flows })
    }

    /// The ruleset's generation, and whether our table is there.
    pub fn state(&mut self) -> Result<(u32, bool), NftError> {
        let id = base::table_id(self.planner.config());
        Ok((self.nft.generation()?, self.nft.table_exists(&id)?))
    }

    /// UDP has no connections that end: a client that goes on sending keeps its flow, and with it the server it was
    /// once given.
    fn forget_stale_flows(&mut self) -> Result<usize, NftError> {
        let is_udp = |c: &Claim| matches!(c, Claim::Vip(_, Proto::Udp, _) | Claim::NodePort(Proto::Udp, _));
        if !self.touched.iter().any(is_udp) {
            return Ok(0);
        }
        let flows = self.conntrack.flows(self.planner.config().family, Proto::Udp)?;
        let stale: Vec<Flow> = self.planner.stale_flows(&self.touched, &flows);
        stale.iter().try_for_each(|flow| self.conntrack.delete(flow))?;
        Ok(stale.len())
    }
}
