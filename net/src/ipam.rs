//! Addresses for pods, one file per allocated address: the file's name is the address, its content the owner.
//!
//! A file appears whole or not at all: it is written under a temporary name and then linked to its final one, which
//! fails when the address is taken. So a kill at any moment, or a second process, can neither lose an address nor give
//! it out twice. Nothing is fsynced on purpose: after a power cut no pod of this node runs any more, so the only harm
//! would be an address file without content, and such a file is dropped when the directory is opened.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pintle_nft::Cidr;

use crate::NetError;

const LAST: &str = ".last";
const TMP: &str = ".tmp";

/// The allocator of one node's pod range. Cheap calls that touch one small file; safe to share between threads.
#[derive(Debug)]
pub struct Ipam {
    dir: PathBuf,
    cidr: Cidr,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    owners: BTreeMap<IpAddr, String>,
    /// Offset in the range of the address given out last: the next search begins after it, so that an address rests
    /// as long as possible before somebody else gets it.
    last: u64,
}

impl Ipam {
    /// Opens (or begins) the allocations in `dir`. Addresses outside `cidr` are kept and listed, never given out.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(dir: &Path, cidr: Cidr) -> Result<Self, NetError> {
        fs::create_dir_all(dir).map_err(|e| NetError::file("create directory", dir, e))?;
        let mut state = State::default();
        for entry in fs::read_dir(dir).map_err(|e| NetError::file("list", dir, e))? {
            let path = entry.map_err(|e| NetError::file("list", dir, e))?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let Ok(addr) = name.parse::<IpAddr>() else {
                if name.starts_with(TMP) {
                    fs::remove_file(&path).map_err(|e| NetError::file("remove", &path, e))?;
                }
                continue;
            };
            let owner = fs::read_to_string(&path).map_err(|e| NetError::file("read", &path, e))?;
            if owner.is_empty() {
                fs::remove_file(&path).map_err(|e| NetError::file("remove", &path, e))?;
            } else {
                state.owners.insert(addr, owner);
            }
        }
        // A hint only: without it the search begins at the start of the range.
        state.last = fs::read_to_string(dir.join(LAST)).ok().and_then(|s| s.trim().parse().ok()).unwrap_or(0);
        Ok(Self { dir: dir.to_owned(), cidr: cidr.network(), state: Mutex::new(state) })
    }

    /// Gives `owner` (not empty: a pod's uid) an address: the one it has already, or the next free one. The network,
    /// gateway (first) and broadcast addresses are never given out.
    ///
    /// # Errors
    /// [`NetError::Exhausted`], or the file that could not be written.
    pub fn allocate(&self, owner: &str) -> Result<IpAddr, NetError> {
        let mut state = self.lock();
        if let Some((addr, _)) = state.owners.iter().find(|(_, o)| *o == owner) {
            return Ok(*addr);
        }
        let mut offset = state.last;
        for _ in 0..self.usable() {
            offset = self.next(offset);
            let Some(addr) = self.cidr.nth(offset) else { continue };
            if state.owners.contains_key(&addr) {
                continue;
            }
            if self.claim(addr, owner)? {
                state.owners.insert(addr, owner.to_owned());
                state.last = offset;
                // A lost hint costs nothing but the order of addresses.
                drop(fs::write(self.dir.join(LAST), offset.to_string()));
                return Ok(addr);
            }
            let path = self.dir.join(addr.to_string());
            let other = fs::read_to_string(&path).map_err(|e| NetError::file("read", &path, e))?;
            state.owners.insert(addr, other);
        }
        Err(NetError::Exhausted { cidr: self.cidr, used: state.owners.len() })
    }

    /// Takes the owner's addresses back and returns them; an owner without any is no error.
    ///
    /// # Errors
    /// When an address file cannot be removed.
    pub fn release(&self, owner: &str) -> Result<Vec<IpAddr>, NetError> {
        let mut state = self.lock();
        let addrs: Vec<IpAddr> = state.owners.iter().filter(|(_, o)| *o == owner).map(|(a, _)| *a).collect();
        for addr in &addrs {
            let path = self.dir.join(addr.to_string());
            match fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(NetError::file("remove", &path, e)),
                _ => state.owners.remove(addr),
            };
        }
        Ok(addrs)
    }

    /// The address of an owner, if it has one.
    #[must_use]
    pub fn find(&self, owner: &str) -> Option<IpAddr> {
        self.lock().owners.iter().find(|(_, o)| *o == owner).map(|(a, _)| *a)
    }

    /// All allocations, by address.
    #[must_use]
    pub fn list(&self) -> BTreeMap<IpAddr, String> {
        self.lock().owners.clone()
    }

    /// The range addresses come from.
    #[must_use]
    pub fn cidr(&self) -> Cidr {
        self.cidr
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is changed only after the disk was: a panic in between leaves it valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many addresses can be given out: all but network, gateway and broadcast.
    fn usable(&self) -> u64 {
        let host_bits = match self.cidr.addr() {
            IpAddr::V4(_) => 32 - self.cidr.prefix(),
            // A /64 holds more addresses than any node has pods; the search is bounded here.
            IpAddr::V6(_) => (128 - self.cidr.prefix()).min(20),
        };
        (1u64 << host_bits).saturating_sub(3)
    }

    /// The offset after this one, skipping 0 (network) and 1 (gateway), and wrapping before the broadcast address.
    fn next(&self, offset: u64) -> u64 {
        if offset < 2 || offset > self.usable() { 2 } else { offset + 1 }
    }

    /// Makes the address's file; false when there is one.
    fn claim(&self, addr: IpAddr, owner: &str) -> Result<bool, NetError> {
        let tmp = self.dir.join(format!("{TMP}{}-{addr}", std::process::id()));
        let path = self.dir.join(addr.to_string());
        fs::write(&tmp, owner).map_err(|e| NetError::file("write", &tmp, e))?;
        let linked: io::Result<()> = fs::hard_link(&tmp, &path);
        fs::remove_file(&tmp).map_err(|e| NetError::file("remove", &tmp, e))?;
        match linked {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(NetError::file("create", &path, e)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn open(dir: &Path, cidr: &str) -> Ipam {
        Ipam::open(dir, cidr.parse().unwrap()).unwrap()
    }

    #[test]
    fn addresses_go_round_and_the_reserved_ones_are_never_given_out() {
        let dir = tempfile::tempdir().unwrap();
        let ipam = open(dir.path(), "10.42.0.0/29");
        let all: Vec<String> = (0..5).map(|n| ipam.allocate(&format!("pod-{n}")).unwrap().to_string()).collect();
        assert_eq!(all, ["10.42.0.2", "10.42.0.3", "10.42.0.4", "10.42.0.5", "10.42.0.6"]);
        let full = ipam.allocate("one-more").unwrap_err();
        assert_eq!(full.to_string(), "no free address left in 10.42.0.0/29 (5 in use)");
        ipam.release("pod-1").unwrap();
        ipam.release("pod-3").unwrap();
        assert_eq!(ipam.allocate("a").unwrap().to_string(), "10.42.0.3");
        assert_eq!(ipam.release("a").unwrap().len(), 1);
        // Round robin: the address freed just now is not the next one.
        assert_eq!(ipam.allocate("b").unwrap().to_string(), "10.42.0.5");
        assert_eq!(ipam.release("nobody").unwrap(), Vec::<IpAddr>::new());
    }

    #[test]
    fn an_owner_keeps_its_address_over_a_restart_and_gets_no_second_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), "10.42.0.0/24").allocate("pod").unwrap();
        let again = open(dir.path(), "10.42.0.0/24");
        assert_eq!(again.allocate("pod").unwrap(), first);
        assert_eq!(again.find("pod"), Some(first));
        assert_ne!(again.allocate("other").unwrap(), first);
    }

    #[test]
    fn what_a_crash_left_half_made_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("10.42.0.2"), "").unwrap();
        fs::write(dir.path().join(".tmp99-10.42.0.3"), "x").unwrap();
        let ipam = open(dir.path(), "10.42.0.0/24");
        assert_eq!(ipam.list().len(), 0);
        assert_eq!(ipam.allocate("pod").unwrap().to_string(), "10.42.0.2");
        assert!(!dir.path().join(".tmp99-10.42.0.3").exists());
    }

    #[test]
    fn two_processes_on_one_directory_never_share_an_address() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (open(dir.path(), "10.42.0.0/26"), open(dir.path(), "10.42.0.0/26"));
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..30 {
            assert!(seen.insert(a.allocate(&format!("a{n}")).unwrap()));
            assert!(seen.insert(b.allocate(&format!("b{n}")).unwrap()));
        }
    }
}
