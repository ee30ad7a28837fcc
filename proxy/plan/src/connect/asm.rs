//! A small assembler of eBPF (Documentation/bpf/standardization/instruction-set.rst): the few instructions our programs
//! are made of, and labels, so that nobody counts jumps.

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Operation.
    pub code: u8,
    /// Destination register.
    pub dst: u8,
    /// Source register.
    pub src: u8,
    /// Jump or memory offset.
    pub off: i16,
    /// Immediate operand.
    pub imm: i32,
}

/// A register. R0 is results, R1 to R5 arguments that calls destroy, R6 to R9 our own, R10 the stack's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "a number each")]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// How much of a register memory has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Half,
    /// 4 bytes.
    Word,
    /// 8 bytes.
    Double,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum If {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
}

/// A function of the kernel: `enum bpf_func_id` of linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Helper {
    /// (map, key) → the value's address, or 0.
    MapLookup = 1,
    /// (map, key, value, flags) → 0, or an error.
    MapUpdate = 2,
    /// () → 32 random bits.
    Random = 7,
    /// (context) → the socket's number, never used twice.
    SocketCookie = 46,
    /// (context) → the socket's network namespace's number, never used twice.
    NetnsCookie = 122,
}

/// A place to jump to, forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// A program in the making.
#[derive(Debug, Default)]
pub struct Assembler {
    insns: Vec<Insn>,
    /// Where each label is, once it is bound.
    labels: Vec<Option<usize>>,
    /// Jumps and where to.
    jumps: Vec<(usize, Label)>,
}

const LOAD: u8 = 0x61;
const STORE: u8 = 0x63;
const STORE_IMM: u8 = 0x62;
const LOAD_IMM_DOUBLE: u8 = 0x18;
const MAP_BY_DESCRIPTOR: u8 = 1;
const ADD_IMM: u8 = 0x07;
const MOV_IMM: u8 = 0xb7;
const MOV: u8 = 0xbf;
const MODULO_32: u8 = 0x9c;
const JUMP: u8 = 0x05;
const BY_REGISTER: u8 = 0x08;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

impl Size {
    fn bits(self) -> u8 {
        match self {
            Self::Word => 0,
            Self::Half => 0x08,
            Self::Byte => 0x10,
            Self::Double => 0x18,
        }
    }
}

impl If {
    fn code(self) -> u8 {
        match self {
            Self::Eq => 0x15,
            Self::Ne => 0x55,
        }
    }
}

impl Assembler {
    fn push(&mut self, code: u8, dst: Reg, src: Reg, off: i16, imm: i32) {
        self.insns.push(Insn { code, dst: dst as u8, src: src as u8, off, imm });
    }

    /// A label that is bound later.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Jumps to the label lead here.
    pub fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.insns.len());
    }

    /// `dst = src`
    pub fn mov(&mut self, dst: Reg, src: Reg) {
        self.push(MOV, dst, src, 0, 0);
    }

    /// `dst = value`
    pub fn mov_imm(&mut self, dst: Reg, value: i32) {
        self.push(MOV_IMM, dst, Reg::R0, 0, value);
    }

    /// `dst += value`
    pub fn add_imm(&mut self, dst: Reg, value: i32) {
        self.push(ADD_IMM, dst, Reg::R0, 0, value);
    }

    /// `dst %= src`, of the low 32 bits.
    pub fn modulo(&mut self, dst: Reg, src: Reg) {
        self.push(MODULO_32, dst, src, 0, 0);
    }

    /// `dst = value`, 64 bits.
    pub fn imm64(&mut self, dst: Reg, value: u64) {
        let [low, high] = [value as u32, (value >> 32) as u32].map(u32::cast_signed);
        self.push(LOAD_IMM_DOUBLE, dst, Reg::R0, 0, low);
        self.push(0, Reg::R0, Reg::R0, 0, high);
    }

    /// `dst` = the map that this descriptor of the loading process is.
    pub fn map(&mut self, dst: Reg, descriptor: i32) {
        let dst = dst as u8;
        self.insns.push(Insn { code: LOAD_IMM_DOUBLE, dst, src: MAP_BY_DESCRIPTOR, off: 0, imm: descriptor });
        self.push(0, Reg::R0, Reg::R0, 0, 0);
    }

    /// `dst = *(from + off)`
    pub fn load(&mut self, size: Size, dst: Reg, from: Reg, off: i16) {
        self.push(LOAD | size.bits(), dst, from, off, 0);
    }

    /// `*(to + off) = src`
    pub fn store(&mut self, size: Size, to: Reg, off: i16, src: Reg) {
        self.push(STORE | size.bits(), to, src, off, 0);
    }

    /// `*(to + off) = value`
    pub fn store_imm(&mut self, size: Size, to: Reg, off: i16, value: i32) {
        self.push(STORE_IMM | size.bits(), to, Reg::R0, off, value);
    }

    /// Goes on at the label.
    pub fn jump(&mut self, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(JUMP, Reg::R0, Reg::R0, 0, 0);
    }

    /// Goes on at the label if `dst` compares so with a number.
    pub fn jump_if(&mut self, what: If, dst: Reg, value: i32, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(what.code(), dst, Reg::R0, 0, value);
    }

    /// Goes on at the label if `dst` compares so with `src`.
    pub fn jump_if_reg(&mut self, what: If, dst: Reg, src: Reg, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(what.code() | BY_REGISTER, dst, src, 0, 0);
    }

    /// Calls a function of the kernel.
    pub fn call(&mut self, helper: Helper) {
        self.push(CALL, Reg::R0, Reg::R0, 0, helper as i32);
    }

    /// Ends the program with R0 as its result.
    pub fn exit(&mut self) {
        self.push(EXIT, Reg::R0, Reg::R0, 0, 0);
    }

    /// The program.
    ///
    /// # Panics
    /// When a label was jumped to and never bound: a mistake in the program that every test of it meets.
    #[must_use]
    pub fn finish(mut self) -> Vec<Insn> {
        for (at, label) in self.jumps {
            let to = self.labels[label.0].unwrap_or_else(|| panic!("a jump from {at} leads nowhere"));
            self.insns[at].off = i16::try_from(to as i64 - at as i64 - 1).unwrap_or_else(|_| panic!("too far: {at}"));
        }
        self.insns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_those_of_the_instruction_set() {
        let mut a = Assembler::default();
        let end = a.label();
        a.load(Size::Word, Reg::R2, Reg::R6, 24);
        a.load(Size::Double, Reg::R1, Reg::R6, 64);
        a.store(Size::Half, Reg::R10, -8, Reg::R2);
        a.store_imm(Size::Byte, Reg::R10, -6, 17);
        a.jump_if(If::Ne, Reg::R2, 6, end);
        a.imm64(Reg::R1, 0x1_0000_0002);
        a.jump_if_reg(If::Eq, Reg::R0, Reg::R1, end);
        a.map(Reg::R1, 7);
        a.modulo(Reg::R0, Reg::R8);
        a.call(Helper::MapLookup);
        a.bind(end);
        a.exit();
        let insn = |code, dst, src, off, imm| Insn { code, dst, src, off, imm };
        let expected = [
            insn(0x61, 2, 6, 24, 0),
            insn(0x79, 1, 6, 64, 0),
            insn(0x6b, 10, 2, -8, 0),
            insn(0x72, 10, 0, -6, 17),
            insn(0x55, 2, 0, 7, 6),
            insn(0x18, 1, 0, 0, 2),
            insn(0, 0, 0, 0, 1),
            insn(0x1d, 0, 1, 4, 0),
            insn(0x18, 1, 1, 0, 7),
            insn(0, 0, 0, 0, 0),
            insn(0x9c, 0, 8, 0, 0),
            insn(0x85, 0, 0, 0, 1),
            insn(0x95, 0, 0, 0, 0),
        ];
        assert_eq!(a.finish(), expected);
    }
}
