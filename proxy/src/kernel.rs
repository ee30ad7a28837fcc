//! What the nftables backend asks of a kernel, and the real one. Tests have another, in memory, that refuses what they
//! want refused.

use std::net::IpAddr;

use pintle_net::nfnetlink::conntrack::Conntrack;
use pintle_net::nfnetlink::members::Member;
use pintle_net::nfnetlink::{Grain, Nft, NftError};
use pintle_nft::{Family, Flow, Op, TableId, Value};
use pintle_proxy_plan::recall::Clients;

use crate::grace;

/// See the module's description.
pub trait Kernel: Send {
    /// Applies a batch whole or not at all.
    fn commit(&mut self, ops: &[Op], grain: Grain) -> Result<(), NftError>;

    /// The ruleset's generation: a number that every transaction of anybody changes by one.
    fn generation(&mut self) -> Result<u32, NftError>;

    /// How many transactions of ours were applied so far.
    fn transactions(&self) -> u32;

    /// Returns when every packet that was being judged when this was called has been.
    fn let_packets_leave(&mut self);

    /// Whether packets enter this table.
    fn is_serving(&mut self, table: &TableId) -> Result<bool, NftError>;

    /// Copies the members of sets that packets fill into the sets of the same names in another table.
    fn carry_over(&mut self, from: &TableId, to: &TableId) -> Result<usize, NftError>;

    /// Fills sets of a table that packets fill; a set that is not there is passed over.
    fn remember(&mut self, table: &TableId, clients: &Clients) -> Result<(), NftError>;

    /// The flows of a family that are wanted.
    fn flows(&mut self, family: Family, wanted: &dyn Fn(&Flow) -> bool) -> Result<Vec<Flow>, NftError>;

    /// Lets the next packet of a flow be translated anew.
    fn forget(&mut self, flow: &Flow) -> Result<(), NftError>;
}

/// The kernel of the network namespace in which it was opened.
pub struct Netlink {
    nft: Nft,
    conntrack: Conntrack,
    transactions: u32,
}

impl Netlink {
    /// Opens the conversation, in the calling thread's namespace.
    pub fn open() -> Result<Self, NftError> {
        Ok(Self { nft: Nft::open()?, conntrack: Conntrack::open()?, transactions: 0 })
    }

    /// Puts members into sets of a table; returns how many.
    fn fill(&mut self, table: &TableId, sets: &[(&str, Vec<Member>)]) -> Result<usize, NftError> {
        let lists: Vec<(&str, &[Member])> = sets.iter().map(|(set, members)| (*set, members.as_slice())).collect();
        // One transaction must not hold the kernel up for long.
        for some in lists.chunks(200) {
            self.nft.remember(table, some)?;
            self.transactions = self.transactions.wrapping_add(1);
        }
        Ok(lists.iter().map(|(_, members)| members.len()).sum())
    }

    /// The netlink port of our changes.
    pub fn port(&self) -> u32 {
        self.nft.port()
    }
}

impl Kernel for Netlink {
    fn commit(&mut self, ops: &[Op], grain: Grain) -> Result<(), NftError> {
        self.nft.commit_batch(ops, grain)?;
        self.transactions = self.transactions.wrapping_add(1);
        Ok(())
    }

    fn generation(&mut self) -> Result<u32, NftError> {
        self.nft.generation()
    }

    fn transactions(&self) -> u32 {
        self.transactions
    }

    /// Rules are walked within a read-side critical section of RCU.
    fn let_packets_leave(&mut self) {
        grace::period();
    }

    fn is_serving(&mut self, table: &TableId) -> Result<bool, NftError> {
        self.nft.chain_exists(table, pintle_proxy_plan::base::hooks(table)[0])
    }

    fn carry_over(&mut self, from: &TableId, to: &TableId) -> Result<usize, NftError> {
        let there = self.nft.filled_sets(from)?;
        if there.is_empty() {
            return Ok(0);
        }
        let wanted: std::collections::HashSet<String> = self.nft.filled_sets(to)?.into_iter().collect();
        let mut sets: Vec<(&str, Vec<Member>)> = Vec::new();
        for set in there.iter().filter(|name| wanted.contains(*name)) {
            let members = self.nft.members(from, set)?;
            if !members.is_empty() {
                sets.push((set, members));
            }
        }
        self.fill(to, &sets)
    }

    fn remember(&mut self, table: &TableId, clients: &Clients) -> Result<(), NftError> {
        let there = self.nft.filled_sets(table)?;
        let mut sets: Vec<(&str, Vec<Member>)> = Vec::new();
        for (set, clients) in clients.iter().filter(|(name, _)| there.iter().any(|t| **t == ***name)) {
            let member = |(client, ms): (&IpAddr, &u64)| Member {
                key: Value::new().addr(*client).as_bytes().to_vec(),
                timeout_ms: Some(*ms),
                expires_ms: *ms,
            };
            sets.push((&**set, clients.iter().map(member).collect()));
        }
        self.fill(table, &sets).map(drop)
    }

    fn flows(&mut self, family: Family, wanted: &dyn Fn(&Flow) -> bool) -> Result<Vec<Flow>, NftError> {
        self.conntrack.flows(family, wanted)
    }

    fn forget(&mut self, flow: &Flow) -> Result<(), NftError> {
        self.conntrack.delete(flow)
    }
}
