//! Device rules as an eBPF program, for cgroup v2, which has no devices controller.
//!
//! The program reads the request (type and access, major, minor) and tests the rules from the last to the first: the
//! first that matches decides, as the last write wins on v1. Denied is the default.

use super::devices::{Rule, is_everything};

/// One eBPF instruction (linux/bpf.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Operation.
    pub code: u8,
    /// Destination register.
    pub dst: u8,
    /// Source register.
    pub src: u8,
    /// Jump or memory offset.
    pub off: i16,
    /// Immediate.
    pub imm: i32,
}

const LDX_W: u8 = 0x61;
const MOV_IMM: u8 = 0xb7;
const MOV32_REG: u8 = 0xbc;
const AND32_IMM: u8 = 0x54;
const RSH32_IMM: u8 = 0x74;
const JNE_IMM: u8 = 0x55;
const JNE_REG: u8 = 0x5d;
const EXIT: u8 = 0x95;

const DEV_BLOCK: i32 = 1;
const DEV_CHAR: i32 = 2;

fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, dst, src, off, imm }
}

/// Registers: r1 is the context and then scratch, r2 type, r3 access, r4 major, r5 minor.
pub fn assemble(rules: &[Rule]) -> Vec<Insn> {
    // struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }, access_type = access << 16 | type.
    let mut program = vec![
        insn(LDX_W, 2, 1, 0, 0),
        insn(AND32_IMM, 2, 0, 0, 0xffff),
        insn(LDX_W, 3, 1, 0, 0),
        insn(RSH32_IMM, 3, 0, 0, 16),
        insn(LDX_W, 4, 1, 4, 0),
        insn(LDX_W, 5, 1, 8, 0),
    ];
    let relevant = relevant(rules);
    for rule in relevant.iter().rev() {
        program.extend(block(rule));
    }
    // The verifier refuses instructions that nothing reaches: behind a rule for everything there is no default.
    if !relevant.first().is_some_and(is_everything) {
        program.push(insn(MOV_IMM, 0, 0, 0, 0));
        program.push(insn(EXIT, 0, 0, 0, 0));
    }
    program
}

/// A rule for everything makes the ones before it moot.
fn relevant(rules: &[Rule]) -> &[Rule] {
    let start = rules.iter().rposition(is_everything).unwrap_or(0);
    &rules[start..]
}

/// An allow rule matches requests within its access; a deny rule matches requests that touch its access.
fn block(rule: &Rule) -> Vec<Insn> {
    let mut tests = Vec::new();
    match rule.kind {
        'b' => tests.push(insn(JNE_IMM, 2, 0, 0, DEV_BLOCK)),
        'c' => tests.push(insn(JNE_IMM, 2, 0, 0, DEV_CHAR)),
        _all => {}
    }
    if rule.access != 7 {
        tests.push(insn(MOV32_REG, 1, 3, 0, 0));
        tests.push(insn(AND32_IMM, 1, 0, 0, rule.access as i32));
        if rule.allow {
            tests.push(insn(JNE_REG, 1, 3, 0, 0));
        } else {
            const JEQ_IMM: u8 = 0x15;
            tests.push(insn(JEQ_IMM, 1, 0, 0, 0));
        }
    }
    if let Some(major) = rule.major {
        tests.push(insn(JNE_IMM, 4, 0, 0, major as i32));
    }
    if let Some(minor) = rule.minor {
        tests.push(insn(JNE_IMM, 5, 0, 0, minor as i32));
    }
    let length = tests.len() + 2;
    for (at, test) in tests.iter_mut().enumerate() {
        // Only jumps carry an offset; each skips to the end of this block.
        if matches!(test.code, JNE_IMM | JNE_REG | 0x15) {
            test.off = (length - at - 1) as i16;
        }
    }
    tests.push(insn(MOV_IMM, 0, 0, 0, i32::from(rule.allow)));
    tests.push(insn(EXIT, 0, 0, 0, 0));
    tests
}
