//! eBPF: programs that run on a cgroup's hooks, and the maps they share with us.
//!
//! Owns the commands of bpf(2) and nothing of what a program says. Sizes and pointers are this file's own: a map checks
//! the length of every key and value it is given.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::{Errno, Result, check};

/// One eBPF instruction.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Operation.
    pub code: u8,
    /// Source register in the high half, destination in the low.
    pub regs: u8,
    /// Offset.
    pub off: i16,
    /// Immediate operand.
    pub imm: i32,
}

/// Where on a cgroup a program runs: `enum bpf_attach_type` of linux/bpf.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// Use of a device.
    Device = 6,
    /// connect(2) to IPv4.
    Connect4 = 10,
    /// connect(2) of an IPv6 socket.
    Connect6 = 11,
    /// A datagram to a named IPv4 address.
    SendMsg4 = 14,
    /// A datagram to a named IPv6 address.
    SendMsg6 = 15,
    /// Where an IPv4 datagram came from.
    RecvMsg4 = 19,
    /// Where a datagram of an IPv6 socket came from.
    RecvMsg6 = 20,
    /// getpeername(2), IPv4.
    PeerName4 = 29,
    /// getpeername(2) of an IPv6 socket.
    PeerName6 = 30,
}

impl Hook {
    /// `enum bpf_prog_type`, and what the verifier must know besides.
    fn program_type(self) -> (u32, u32) {
        const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
        const BPF_PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;
        match self {
            Self::Device => (BPF_PROG_TYPE_CGROUP_DEVICE, 0),
            _ => (BPF_PROG_TYPE_CGROUP_SOCK_ADDR, self as u32),
        }
    }
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkAttr {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> Result<libc::c_long> {
    // SAFETY: `attr` is the prefix of the kernel's union for `command`, of the size given; the kernel reads the
    // rest as zero, and pointers inside were set by this file to buffers that outlive the call.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) })
}

fn bpf_fd<T>(command: libc::c_int, attr: &mut T) -> Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: only called for commands that return a fresh close-on-exec descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Loads a program for a hook. What the verifier has against it is in its log, by [`verifier_log`].
pub fn load_program(hook: Hook, program: &[Insn]) -> Result<OwnedFd> {
    load(hook, program, &mut [])
}

/// What the verifier says of a program it refuses; the end of it names the reason. Empty when it was never asked.
pub fn verifier_log(hook: Hook, program: &[Insn]) -> String {
    let mut log = vec![0; 1 << 18];
    drop(load(hook, program, &mut log));
    let end = log.iter().position(|b| *b == 0).unwrap_or(log.len());
    String::from_utf8_lossy(&log[..end]).into_owned()
}

fn load(hook: Hook, program: &[Insn], log: &mut [u8]) -> Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_int = 5;
    let (prog_type, expected_attach_type) = hook.program_type();
    let mut attr = LoadAttr {
        prog_type,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        expected_attach_type,
        ..LoadAttr::default()
    };
    if !log.is_empty() {
        (attr.log_level, attr.log_size, attr.log_buf) = (1, log.len() as u32, log.as_mut_ptr() as u64);
    }
    bpf_fd(BPF_PROG_LOAD, &mut attr)
}

/// Attaches a device program to a cgroup directory, besides those its ancestors have (all must allow).
pub fn attach_device_program(cgroup: impl AsFd, program: impl AsFd) -> Result<()> {
    const BPF_PROG_ATTACH: libc::c_int = 8;
    const BPF_F_ALLOW_MULTI: u32 = 2;
    let mut attr = AttachAttr {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_bpf_fd: program.as_fd().as_raw_fd() as u32,
        attach_type: Hook::Device as u32,
        attach_flags: BPF_F_ALLOW_MULTI,
        ..AttachAttr::default()
    };
    bpf(BPF_PROG_ATTACH, &mut attr).map(drop)
}

/// Detaches a device program from a cgroup directory.
pub fn detach_device_program(cgroup: impl AsFd, program: impl AsFd) -> Result<()> {
    const BPF_PROG_DETACH: libc::c_int = 9;
    let mut attr = AttachAttr {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_bpf_fd: program.as_fd().as_raw_fd() as u32,
        attach_type: Hook::Device as u32,
        ..AttachAttr::default()
    };
    bpf(BPF_PROG_DETACH, &mut attr).map(drop)
}

/// Attaches a program to a hook of a cgroup directory, besides all others there and on its ancestors, for as long as
/// the returned descriptor is open. Linux 5.7.
pub fn link(cgroup: impl AsFd, hook: Hook, program: impl AsFd) -> Result<OwnedFd> {
    const BPF_LINK_CREATE: libc::c_int = 28;
    let mut attr = LinkAttr {
        prog_fd: program.as_fd().as_raw_fd() as u32,
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_type: hook as u32,
        ..LinkAttr::default()
    };
    bpf_fd(BPF_LINK_CREATE, &mut attr)
}

/// The numbers of the programs on a hook of a cgroup directory itself (at most 64).
pub fn programs(cgroup: impl AsFd, hook: Hook) -> Result<Vec<u32>> {
    const BPF_PROG_QUERY: libc::c_int = 16;
    let mut ids = [0u32; 64];
    let mut query = QueryAttr {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_type: hook as u32,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        ..QueryAttr::default()
    };
    bpf(BPF_PROG_QUERY, &mut query)?;
    Ok(ids.into_iter().take(query.prog_cnt as usize).collect())
}

/// The device programs attached to a cgroup directory itself (at most 64).
pub fn device_programs(cgroup: impl AsFd) -> Result<Vec<OwnedFd>> {
    const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
    let by_id = |id| bpf_fd(BPF_PROG_GET_FD_BY_ID, &mut [id, 0, 0]);
    programs(cgroup, Hook::Device)?.into_iter().map(by_id).collect()
}

/// How a map keeps its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapKind {
    /// All of them, in memory that is taken as they come; full is an error (E2BIG).
    Hash,
    /// The lately used ones, in memory that is taken at once.
    LruHash,
}

/// A map: entries of fixed sizes that programs and we read and write.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    key_bytes: usize,
    value_bytes: usize,
}

impl Map {
    /// Makes an empty map. `name` is for people (`bpftool map`): at most 15 letters, digits, `_` and `.`.
    pub fn create(kind: MapKind, name: &str, key_bytes: usize, value_bytes: usize, entries_max: u32) -> Result<Self> {
        const BPF_MAP_CREATE: libc::c_int = 0;
        const BPF_MAP_TYPE_HASH: u32 = 1;
        const BPF_MAP_TYPE_LRU_HASH: u32 = 9;
        const BPF_F_NO_PREALLOC: u32 = 1;
        let (map_type, map_flags) = match kind {
            MapKind::Hash => (BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC),
            MapKind::LruHash => (BPF_MAP_TYPE_LRU_HASH, 0),
        };
        let mut attr = MapAttr {
            map_type,
            key_size: key_bytes as u32,
            value_size: value_bytes as u32,
            max_entries: entries_max,
            map_flags,
            ..MapAttr::default()
        };
        let name = &name.as_bytes()[..name.len().min(15)];
        attr.map_name[..name.len()].copy_from_slice(name);
        Ok(Self { fd: bpf_fd(BPF_MAP_CREATE, &mut attr)?, key_bytes, value_bytes })
    }

    /// The number by which a program of this process names the map while it is loaded.
    pub fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Sets an entry, whatever was there. A key or value of another size than the map's is EINVAL, here and below.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
        self.fits(value.len() == self.value_bytes)?;
        self.element(BPF_MAP_UPDATE_ELEM, key, value.as_ptr() as u64)
    }

    /// Reads an entry into `value`; whether there is one.
    pub fn get(&self, key: &[u8], value: &mut [u8]) -> Result<bool> {
        const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
        self.fits(value.len() == self.value_bytes)?;
        found(self.element(BPF_MAP_LOOKUP_ELEM, key, value.as_mut_ptr() as u64))
    }

    /// Removes an entry; whether there was one.
    pub fn remove(&self, key: &[u8]) -> Result<bool> {
        const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
        found(self.element(BPF_MAP_DELETE_ELEM, key, 0))
    }

    fn fits(&self, does: bool) -> Result<()> {
        if does { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn element(&self, command: libc::c_int, key: &[u8], value: u64) -> Result<()> {
        self.fits(key.len() == self.key_bytes)?;
        let map_fd = self.fd.as_raw_fd() as u32;
        bpf(command, &mut ElementAttr { map_fd, key: key.as_ptr() as u64, value, ..ElementAttr::default() }).map(drop)
    }
}

fn found(outcome: Result<()>) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}
