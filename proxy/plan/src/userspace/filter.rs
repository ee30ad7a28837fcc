//! A [`Guard`] as a socket filter: a classic BPF program (Documentation/networking/filter.rst) that the kernel runs for
//! every packet that reaches a listening socket. One that it does not let in is dropped before anything answers, so that
//! a client hears nothing, as it would of a packet filter.

use std::net::IpAddr;

use pintle_nft::{Cidr, Family};

use super::listener::{Guard, Sources};

/// One instruction, as `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// Instructions skipped if a comparison holds.
    pub if_true: u8,
    /// Instructions skipped if not.
    pub if_false: u8,
    /// Operand.
    pub k: u32,
}

/// What the kernel takes at most (`BPF_MAXINSNS`).
pub const INSNS_MAX: usize = 4096;

const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Offsets from here on count from the network header (`SKF_NET_OFF`), wherever the packet's data begins.
const NETWORK: u32 = 0xfff0_0000;
/// The index of the interface by which the packet came (`SKF_AD_OFF + SKF_AD_IFINDEX`).
const INTERFACE: u32 = 0xffff_f008;
/// Loopback's index (`LOOPBACK_IFINDEX`): what this machine sends to itself comes by it.
const LOOPBACK: u32 = 1;
const WHOLE_PACKET: u32 = u32::MAX;

/// The guard has more ranges than a filter can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its source ranges take {insns} instructions of a socket filter, of which the kernel takes {INSNS_MAX}")]
pub struct TooLong {
    /// Instructions it would take.
    pub insns: usize,
}

/// The program; `None` where everybody is heard.
///
/// # Errors
/// When it would be too long for the kernel.
pub fn compile(guard: &Guard, family: Family) -> Result<Option<Vec<Insn>>, TooLong> {
    if guard.0.is_empty() {
        return Ok(None);
    }
    let mut program = Vec::new();
    for sources in &guard.0 {
        list(&mut program, sources, family);
    }
    program.push(plain(RETURN, WHOLE_PACKET));
    if program.len() > INSNS_MAX { Err(TooLong { insns: program.len() }) } else { Ok(Some(program)) }
}

fn plain(code: u16, k: u32) -> Insn {
    Insn { code, if_true: 0, if_false: 0, k }
}

/// Goes on behind itself for whoever is in the list, and drops the others.
fn list(program: &mut Vec<Insn>, sources: &Sources, family: Family) {
    let mut ways_in = Vec::new();
    if sources.machine {
        program.push(plain(LOAD_WORD, INTERFACE));
        program.push(Insn { code: JUMP_IF_EQUAL, if_true: 0, if_false: 1, k: LOOPBACK });
        ways_in.push(program.len());
        program.push(plain(JUMP, 0));
    }
    for range in sources.ranges.iter().filter(|r| r.family() == family) {
        let words = words(*range);
        for (at, (offset, mask, value)) in words.iter().enumerate() {
            program.push(plain(LOAD_WORD, NETWORK + offset));
            program.push(plain(AND, *mask));
            // Past the remaining words, and past the way in.
            let rest = u8::try_from((words.len() - at - 1) * 3 + 1).unwrap_or(u8::MAX);
            program.push(Insn { code: JUMP_IF_EQUAL, if_true: 0, if_false: rest, k: *value });
        }
        ways_in.push(program.len());
        program.push(plain(JUMP, 0));
    }
    program.push(plain(RETURN, 0));
    let end = program.len();
    for at in ways_in {
        program[at].k = u32::try_from(end - at - 1).unwrap_or(u32::MAX);
    }
}

/// Where the source address lies in the header, and what its words must be: offset, mask, value.
fn words(range: Cidr) -> Vec<(u32, u32, u32)> {
    let (at, octets) = match range.network().addr() {
        IpAddr::V4(a) => (12, a.octets().to_vec()),
        IpAddr::V6(a) => (8, a.octets().to_vec()),
    };
    let word = |(n, bytes): (u32, &[u8])| {
        let bits = u32::from(range.prefix()).saturating_sub(n * 32).min(32);
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        (mask != 0).then(|| (at + n * 4, mask, bytes.iter().fold(0, |w, b| w << 8 | u32::from(*b))))
    };
    (0..).zip(octets.chunks(4)).filter_map(word).collect()
}
