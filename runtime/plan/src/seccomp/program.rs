//! The assembler: ranges of system call numbers into a binary search of jumps.
//!
//! A linear chain, as libseccomp makes by default, costs every system call of the container some hundred
//! instructions; the search costs about ten.

use oci_spec::runtime::LinuxSeccompOperator as Op;

use super::{Abi, Compare, RET_KILL_PROCESS, Verdict};

/// One classic BPF instruction (linux/filter.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if true.
    pub jt: u8,
    /// Instructions to skip if false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Load the word at offset k.
pub(super) const LD: u16 = 0x20;
/// A &= k.
pub(super) const AND: u16 = 0x54;
/// Jump always.
pub(super) const JA: u16 = 0x05;
/// Jump if A == k.
pub(super) const JEQ: u16 = 0x15;
/// Jump if A > k.
pub(super) const JGT: u16 = 0x25;
/// Jump if A >= k.
pub(super) const JGE: u16 = 0x35;
/// Return k.
pub(super) const RET: u16 = 0x06;

const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const X32_BIT: u32 = 0x4000_0000;

fn insn(code: u16, k: u32) -> Insn {
    Insn { code, jt: 0, jf: 0, k }
}

/// A whole filter. Calls by an ABI the profile does not list kill the process, as with libseccomp.
pub(super) fn assemble(sections: Vec<(Abi, Vec<(u32, Verdict)>)>) -> Vec<Insn> {
    let tree = |abi: Abi| {
        let ranges = sections.iter().find(|(of, _)| *of == abi).map(|(_, ranges)| ranges)?;
        let base = if abi == Abi::X32 { X32_BIT } else { 0 };
        Some(search(&ranges.iter().map(|(start, verdict)| (base + start, verdict)).collect::<Vec<_>>()))
    };
    let kill = || vec![insn(RET, RET_KILL_PROCESS)];
    let native = tree(Abi::X86_64).unwrap_or_else(kill);
    let x32 = tree(Abi::X32).unwrap_or_else(kill);
    let x86 = tree(Abi::X86).map_or_else(kill, |code| [vec![insn(LD, OFFSET_NUMBER)], code].concat());
    let x86 = branch(JEQ, AUDIT_ARCH_I386, kill(), x86);
    let x86_64 = [vec![insn(LD, OFFSET_NUMBER)], branch(JGE, X32_BIT, native, x32)].concat();
    [vec![insn(LD, OFFSET_ARCH)], branch(JEQ, AUDIT_ARCH_X86_64, x86, x86_64)].concat()
}

/// `if A <code> k { yes } else { no }`, where both end in RET.
fn branch(code: u16, k: u32, no: Vec<Insn>, yes: Vec<Insn>) -> Vec<Insn> {
    let head = match u8::try_from(no.len()) {
        Ok(skip) => vec![Insn { code, jt: skip, jf: 0, k }],
        // Too far for eight bits: jump over a long jump.
        Err(_too_far) => vec![Insn { code, jt: 0, jf: 1, k }, insn(JA, no.len() as u32)],
    };
    [head, no, yes].concat()
}

fn search(ranges: &[(u32, &Verdict)]) -> Vec<Insn> {
    match ranges {
        [] => vec![insn(RET, RET_KILL_PROCESS)],
        [(_, verdict)] => leaf(verdict),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            branch(JGE, high[0].0, search(low), search(high))
        }
    }
}

fn leaf(verdict: &Verdict) -> Vec<Insn> {
    let mut code = Vec::new();
    for (compares, action) in &verdict.alternatives {
        code.extend(alternative(compares, *action));
    }
    code.push(insn(RET, verdict.otherwise));
    code
}

/// Where a comparison's jump goes.
#[derive(Clone, Copy)]
enum To {
    Next,
    /// The comparison holds.
    Pass,
    /// It does not: on to the next alternative.
    Fail,
}

fn alternative(compares: &[Compare], action: u32) -> Vec<Insn> {
    let blocks: Vec<Vec<(Insn, To, To)>> = compares.iter().map(compare).collect();
    let total: usize = blocks.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code = Vec::with_capacity(total);
    for block in &blocks {
        let end = code.len() + block.len();
        for (one, on_true, on_false) in block {
            let here = code.len() + 1;
            // At most six comparisons of six instructions, so every distance fits eight bits.
            let distance = |to: To| match to {
                To::Next => 0,
                To::Pass => (end - here) as u8,
                To::Fail => (total - here) as u8,
            };
            code.push(Insn { jt: distance(*on_true), jf: distance(*on_false), ..*one });
        }
    }
    code.push(insn(RET, action));
    code
}

/// A 64-bit comparison out of 32-bit ones, the high word first.
fn compare(compare: &Compare) -> Vec<(Insn, To, To)> {
    use To::{Fail, Next, Pass};
    let low_at = OFFSET_ARGS + 8 * compare.index as u32;
    let (high, low) = ((compare.value >> 32) as u32, compare.value as u32);
    let load_high = (insn(LD, low_at + 4), Next, Next);
    let load_low = (insn(LD, low_at), Next, Next);
    match compare.op {
        Op::ScmpCmpEq => vec![load_high, (insn(JEQ, high), Next, Fail), load_low, (insn(JEQ, low), Pass, Fail)],
        Op::ScmpCmpNe => vec![load_high, (insn(JEQ, high), Next, Pass), load_low, (insn(JEQ, low), Fail, Pass)],
        Op::ScmpCmpGt => ordered(load_high, load_low, high, (insn(JGT, low), Pass, Fail), (Pass, Fail)),
        Op::ScmpCmpGe => ordered(load_high, load_low, high, (insn(JGE, low), Pass, Fail), (Pass, Fail)),
        Op::ScmpCmpLt => ordered(load_high, load_low, high, (insn(JGE, low), Fail, Pass), (Fail, Pass)),
        Op::ScmpCmpLe => ordered(load_high, load_low, high, (insn(JGT, low), Fail, Pass), (Fail, Pass)),
        Op::ScmpCmpMaskedEq => {
            let (want_high, want_low) = ((compare.value_two >> 32) as u32, compare.value_two as u32);
            vec![
                load_high,
                (insn(AND, high), Next, Next),
                (insn(JEQ, want_high), Next, Fail),
                load_low,
                (insn(AND, low), Next, Next),
                (insn(JEQ, want_low), Pass, Fail),
            ]
        }
    }
}

/// An order comparison: a greater or smaller high word decides, an equal one leaves it to the low word.
fn ordered(
    load_high: (Insn, To, To),
    load_low: (Insn, To, To),
    high: u32,
    decide_low: (Insn, To, To),
    (greater, smaller): (To, To),
) -> Vec<(Insn, To, To)> {
    vec![load_high, (insn(JGT, high), greater, To::Next), (insn(JEQ, high), To::Next, smaller), load_low, decide_low]
}
