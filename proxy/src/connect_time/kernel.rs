//! One set of maps with its programs and their links. Owns loading and the order of what is sent; not what is in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pintle_net::NetError;
use pintle_nft::Family;
use pintle_proxy_plan::connect::Plan;
use pintle_proxy_plan::connect::layout::{Element, Table, any, octets};
use pintle_proxy_plan::connect::program::{self, Ip, Program, Scope};
use pintle_sys::Errno;
use pintle_sys::bpf::{self, Hook, Insn, Map, MapKind};

use super::Site;
use crate::grace;

/// Sockets whose peer's name is remembered; the kernel takes about 100 bytes for each at once.
const PEERS_MAX: u32 = 32_768;
/// The same for unconnected UDP: answers, and who answers.
const FLOWS_MAX: u32 = 16_384;
/// Room of a map at least; the kernel takes 16 bytes for each at once, and the rest as entries come.
const ROOM_MIN: usize = 1024;
/// This machine's addresses at most.
const HERE_MAX: usize = 4096;

/// Why Services are not served at connect time.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The list of mounts cannot be read.
    #[error("cannot read /proc/self/mountinfo")]
    Mounts(#[source] io::Error),
    /// There is no cgroup v2 here.
    #[error("no cgroup v2 hierarchy is mounted")]
    NoHierarchy,
    /// The directory asked for is none of cgroup v2.
    #[error("{} is no directory of a cgroup v2 hierarchy", path.display())]
    NoCgroup {
        /// Which.
        path: PathBuf,
    },
    /// A cgroup's directory cannot be opened.
    #[error("cannot open the cgroup {}", path.display())]
    Cgroup {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// This machine's addresses cannot be listed.
    #[error("cannot find out this machine's addresses")]
    Addresses(#[source] NetError),
    /// The kernel refuses a program.
    #[error("cannot load the eBPF program for {hook:?}: the verifier says {said:?}")]
    Program {
        /// Where it would run.
        hook: Hook,
        /// The last lines of the verifier's log; empty when it was not asked.
        said: String,
        /// Why.
        source: Errno,
    },
    /// The kernel refuses something else.
    #[error("cannot {action}")]
    Kernel {
        /// What.
        action: &'static str,
        /// Why.
        source: Errno,
    },
}

impl ConnectError {
    pub(super) fn kernel(action: &'static str) -> impl Fn(Errno) -> Self {
        move |source| Self::Kernel { action, source }
    }

    /// What the user can do about it, where we know.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoHierarchy | Self::NoCgroup { .. } => {
                Some("mount one (mount -t cgroup2 none /sys/fs/cgroup/unified), or leave --connect-time off")
            }
            Self::Program { source, .. } | Self::Kernel { source, .. } => match source {
                Errno::EPERM | Errno::EACCES => Some("this needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN"),
                Errno::EINVAL | Errno::ENOPROTOOPT | Errno::ENOSYS => {
                    Some("use Linux 5.14 or newer with CONFIG_CGROUP_BPF, or leave --connect-time off")
                }
                _ => None,
            },
            Self::Mounts(_) | Self::Cgroup { .. } | Self::Addresses(_) => None,
        }
    }
}

/// The maps that programs fill. They outlive a set: sockets are not to forget whom they speak with.
pub struct Kept {
    maps: BTreeMap<Table, Map>,
}

impl Kept {
    pub fn create() -> Result<Self, ConnectError> {
        let sizes = [(Table::Peers, PEERS_MAX), (Table::Answers, FLOWS_MAX), (Table::Flows, FLOWS_MAX)];
        let maps = sizes.map(|(table, max)| Ok((table, create(MapKind::LruHash, table, max)?)));
        Ok(Self { maps: maps.into_iter().collect::<Result<_, ConnectError>>()? })
    }
}

fn create(kind: MapKind, table: Table, entries_max: u32) -> Result<Map, ConnectError> {
    let (key, value) = table.bytes();
    Map::create(kind, table.name(), key, value, entries_max).map_err(ConnectError::kernel("make an eBPF map"))
}

/// How many entries each map must have room for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    frontends: usize,
    endpoints: usize,
    members: usize,
}

impl Room {
    /// For what these plans put, and as much again: new lists are there before old ones go.
    pub fn for_plans(plans: &[Plan]) -> Self {
        let mut room = Self::default();
        for plan in plans {
            let members = plan.fill.iter().filter(|e| matches!(e, Element::Member(..))).count();
            room.frontends += plan.switch.len();
            room.endpoints += plan.fill.len() - members;
            room.members += members;
        }
        room
    }

    fn of(entries: usize) -> u32 {
        u32::try_from((2 * entries).max(ROOM_MIN).next_power_of_two()).unwrap_or(u32::MAX)
    }
}

/// A cgroup's directory with our programs on its hooks, as long as this lives.
struct Linked {
    directory: PathBuf,
    /// A directory that was made anew is another one.
    inode: u64,
    _links: Vec<OwnedFd>,
}

/// A set of maps and programs.
pub struct Loaded {
    linked: Vec<Linked>,
    node: (PathBuf, Vec<(Hook, OwnedFd)>),
    pods: (Vec<PathBuf>, Vec<(Hook, OwnedFd)>),
    maps: BTreeMap<Table, Map>,
    _kept: Arc<Kept>,
}

impl Loaded {
    /// Makes the maps and loads the programs; nothing runs yet.
    pub fn load(site: &Site, kept: Arc<Kept>, room: Room) -> Result<Self, ConnectError> {
        let sizes = [
            (Table::Frontends, Room::of(room.frontends)),
            (Table::Here, Room::of(HERE_MAX / 2)),
            (Table::Endpoints, Room::of(room.endpoints)),
            (Table::Members, Room::of(room.members)),
        ];
        let maps = sizes.map(|(table, max)| Ok((table, create(MapKind::Hash, table, max)?)));
        let maps: BTreeMap<Table, Map> = maps.into_iter().collect::<Result<_, ConnectError>>()?;
        let number = |table| maps.get(&table).or_else(|| kept.maps.get(&table)).map_or(-1, Map::number);
        let load = |scope: Scope| -> Result<Vec<(Hook, OwnedFd)>, ConnectError> {
            let programs = scope.programs().into_iter();
            programs.map(|p| Ok((hook(p), load(p, scope, site.netns, number)?))).collect()
        };
        let (node, pods) = (load(Scope::Node)?, load(Scope::Pods)?);
        Ok(Self {
            linked: Vec::new(),
            node: (site.cgroup.clone(), node),
            pods: (site.pods.clone(), pods),
            maps,
            _kept: kept,
        })
    }

    /// Links the programs wherever they should be and are not.
    pub fn attach(&mut self) -> Result<(), ConnectError> {
        self.linked.retain(|l| File::open(&l.directory).and_then(|d| d.metadata()).is_ok_and(|m| m.ino() == l.inode));
        if !self.linked.iter().any(|l| l.directory == self.node.0) {
            self.linked.push(link(&self.node.0, &self.node.1)?);
        }
        for directory in &self.pods.0 {
            if !self.linked.iter().any(|l| l.directory == *directory) && directory.is_dir() {
                self.linked.push(link(directory, &self.pods.1)?);
            }
        }
        Ok(())
    }

    /// Carries out plans, which may belong to several families.
    pub fn apply(&mut self, plans: &[Plan]) -> Result<(), ConnectError> {
        for element in plans.iter().flat_map(|p| &p.fill) {
            self.put(element.table(), &element.key(), &element.value())?;
        }
        for (at, lead) in plans.iter().flat_map(|p| &p.switch) {
            match lead {
                Some(lead) => self.put(Table::Frontends, &at.key(), &lead.value())?,
                None => self.remove(Table::Frontends, &at.key())?,
            }
        }
        if plans.iter().all(|p| p.free.is_empty()) {
            return Ok(());
        }
        if !self.linked.is_empty() {
            grace::period();
        }
        plans.iter().flat_map(|p| &p.free).try_for_each(|element| self.remove(element.table(), &element.key()))
    }

    /// Lets an address of this machine answer on node ports.
    pub fn answer_on(&self, addr: IpAddr) -> Result<(), ConnectError> {
        self.put(Table::Here, &octets(addr), &octets(any(Family::of(addr))))
    }

    /// And no more.
    pub fn answer_no_more_on(&self, addr: IpAddr) -> Result<(), ConnectError> {
        self.remove(Table::Here, &octets(addr))
    }

    fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<(), ConnectError> {
        self.map(table).and_then(|map| map.put(key, value)).map_err(ConnectError::kernel("fill an eBPF map"))
    }

    fn remove(&self, table: Table, key: &[u8]) -> Result<(), ConnectError> {
        let removed = self.map(table).and_then(|map| map.remove(key));
        // What is gone already is as it should be.
        removed.map(drop).map_err(ConnectError::kernel("remove an entry of an eBPF map"))
    }

    fn map(&self, table: Table) -> Result<&Map, Errno> {
        self.maps.get(&table).ok_or(Errno::ENOENT)
    }
}

/// Names are restored before anything is translated: that is the order of [`Scope::programs`] from its end.
fn link(directory: &Path, programs: &[(Hook, OwnedFd)]) -> Result<Linked, ConnectError> {
    let failed = |source| ConnectError::Cgroup { path: directory.to_owned(), source };
    let cgroup = File::open(directory).map_err(failed)?;
    let inode = cgroup.metadata().map_err(failed)?.ino();
    let link = |(hook, program): &(Hook, OwnedFd)| bpf::link(&cgroup, *hook, program);
    let links = programs.iter().rev().map(link).collect::<Result<_, Errno>>();
    let links = links.map_err(ConnectError::kernel("attach an eBPF program to a cgroup"))?;
    Ok(Linked { directory: directory.to_owned(), inode, _links: links })
}

fn load(program: Program, scope: Scope, netns: u64, number: impl Fn(Table) -> i32) -> Result<OwnedFd, ConnectError> {
    let insns: Vec<Insn> = program::assemble(program, scope, netns, number)
        .iter()
        .map(|i| Insn { code: i.code, regs: i.src << 4 | i.dst, off: i.off, imm: i.imm })
        .collect();
    let hook = hook(program);
    bpf::load_program(hook, &insns).map_err(|source| {
        let log = bpf::verifier_log(hook, &insns);
        let last: Vec<&str> = log.trim().lines().rev().take(3).collect();
        ConnectError::Program { hook, said: last.into_iter().rev().collect::<Vec<_>>().join("; "), source }
    })
}

fn hook(program: Program) -> Hook {
    match program {
        Program::Connect(Ip::V4) => Hook::Connect4,
        Program::Connect(Ip::V6) => Hook::Connect6,
        Program::Send(Ip::V4) => Hook::SendMsg4,
        Program::Send(Ip::V6) => Hook::SendMsg6,
        Program::Receive(Ip::V4) => Hook::RecvMsg4,
        Program::Receive(Ip::V6) => Hook::RecvMsg6,
        Program::PeerName(Ip::V4) => Hook::PeerName4,
        Program::PeerName(Ip::V6) => Hook::PeerName6,
    }
}
