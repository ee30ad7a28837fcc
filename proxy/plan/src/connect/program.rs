//! The programs, one per hook. They never refuse: what they do not know, and whatever surprises them, goes on as it is,
//! and is the packet filter's. See `connect` for what they do and [`layout`](super::layout) for what they read.

use pintle_nft::Proto;

use super::asm::{Assembler, Helper, If, Insn, Label, Reg, Size};
use super::layout::Table;

use Reg::{R0, R1, R2, R3, R4, R6, R7, R8, R9, R10};

/// The context, `struct bpf_sock_addr` of linux/bpf.h.
mod context {
    pub const IP4: i16 = 4;
    pub const IP6: i16 = 8;
    pub const PORT: i16 = 24;
    pub const PROTOCOL: i16 = 36;
    pub const SOCKET: i16 = 64;
}

/// The socket, `struct bpf_sock`.
mod socket {
    pub const DEVICE: i16 = 0;
    pub const SOURCE_IP4: i16 = 24;
    pub const SOURCE_IP6: i16 = 28;
}

/// The stack, from its end: where keys and values are put together.
mod stack {
    /// A key of `frontends`.
    pub const FRONTEND: i16 = -24;
    /// A value of `peers` and `answers`: what was asked for.
    pub const ASKED: i16 = -48;
    /// A key of `endpoints`.
    pub const ENDPOINT: i16 = -64;
    /// A key of `peers`, `answers` and `flows`.
    pub const SOCKET: i16 = -96;
    /// A key of `members`, whose end is a value of `flows`.
    pub const MEMBER: i16 = -128;
}

/// What a program does, and thereby on which hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Leads a TCP connection to an endpoint.
    Connect(Ip),
    /// Leads datagrams of an unconnected UDP socket to an endpoint, and goes on with the same.
    Send(Ip),
    /// Lets their answers come from where they were asked for.
    Receive(Ip),
    /// Names as the peer what was asked for.
    PeerName(Ip),
}

/// Which kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    /// IPv4.
    V4,
    /// IPv6, which may speak IPv4.
    V6,
}

/// Whose sockets a cgroup's programs are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of the node's network namespace.
    Node,
    /// Those of all others.
    Pods,
}

impl Scope {
    /// The programs of a cgroup. Names are restored for everybody below the node's.
    #[must_use]
    pub fn programs(self) -> Vec<Program> {
        let mut programs = Vec::new();
        for ip in [Ip::V4, Ip::V6] {
            programs.extend([Program::Connect(ip), Program::Send(ip)]);
            if self == Self::Node {
                programs.extend([Program::Receive(ip), Program::PeerName(ip)]);
            }
        }
        programs
    }
}

/// Assembles a program. `netns` is the cookie of the node's network namespace; `descriptor` names each map in the
/// process that loads it.
#[must_use]
pub fn assemble(program: Program, scope: Scope, netns: u64, descriptor: impl Fn(Table) -> i32) -> Vec<Insn> {
    let mut a = Assembler::default();
    let pass = a.label();
    a.mov(R6, R1);
    match program {
        Program::Connect(ip) => Translation { ip, proto: Proto::Tcp, scope, descriptor }.body(&mut a, netns, pass),
        Program::Send(ip) => Translation { ip, proto: Proto::Udp, scope, descriptor }.body(&mut a, netns, pass),
        Program::Receive(ip) => restore(&mut a, ip, descriptor(Table::Answers), pass),
        Program::PeerName(ip) => restore(&mut a, ip, descriptor(Table::Peers), pass),
    }
    a.bind(pass);
    a.mov_imm(R0, 1);
    a.exit();
    a.finish()
}

/// Puts back what a socket asked for.
fn restore(a: &mut Assembler, ip: Ip, asked: i32, pass: Label) {
    socket_key(a);
    place_of_context(a, ip, stack::SOCKET + 8);
    lookup(a, asked, stack::SOCKET);
    a.jump_if(If::Eq, R0, 0, pass);
    a.mov(R9, R0);
    into_context(a, ip);
}

struct Translation<D> {
    ip: Ip,
    proto: Proto,
    scope: Scope,
    descriptor: D,
}

impl<D: Fn(Table) -> i32> Translation<D> {
    /// R6 is the context; then R7 the list, R8 its length, R9 where the endpoint is.
    fn body(&self, a: &mut Assembler, netns: u64, pass: Label) {
        self.concerns_us(a, netns, pass);
        self.find(a, pass);
        place_of_context(a, self.ip, stack::ASKED);
        socket_key(a);
        if self.proto == Proto::Udp {
            self.go_on(a, pass);
        } else {
            self.draw(a, pass);
        }
        self.remember_asked(a, pass);
        into_context(a, self.ip);
    }

    /// Passes what is not ours: other protocols, other namespaces, sockets that are bound.
    fn concerns_us(&self, a: &mut Assembler, netns: u64, pass: Label) {
        a.load(Size::Word, R1, R6, context::PROTOCOL);
        a.jump_if(If::Ne, R1, i32::from(self.proto.number()), pass);
        a.mov(R1, R6);
        a.call(Helper::NetnsCookie);
        a.imm64(R1, netns);
        let elsewhere = match self.scope {
            Scope::Node => If::Ne,
            Scope::Pods => If::Eq,
        };
        a.jump_if_reg(elsewhere, R0, R1, pass);
        a.load(Size::Double, R1, R6, context::SOCKET);
        let source = match self.ip {
            Ip::V4 => vec![socket::SOURCE_IP4],
            Ip::V6 => (0..4).map(|n| socket::SOURCE_IP6 + 4 * n).collect(),
        };
        for field in [socket::DEVICE].into_iter().chain(source) {
            a.load(Size::Word, R2, R1, field);
            a.jump_if(If::Ne, R2, 0, pass);
        }
    }

    /// Finds the frontend: by the address, or by the port of one of this machine's addresses.
    fn find(&self, a: &mut Assembler, pass: Label) {
        let found = a.label();
        place_of_context(a, self.ip, stack::FRONTEND);
        a.store_imm(Size::Byte, R10, stack::FRONTEND + 18, i32::from(self.proto.number()));
        self.lookup(a, Table::Frontends, stack::FRONTEND);
        match self.scope {
            Scope::Pods => {
                a.jump_if(If::Eq, R0, 0, pass);
                a.load(Size::Word, R1, R0, 12);
                a.jump_if(If::Ne, R1, 0, pass);
            }
            Scope::Node => {
                a.jump_if(If::Ne, R0, 0, found);
                self.lookup(a, Table::Here, stack::FRONTEND);
                a.jump_if(If::Eq, R0, 0, pass);
                copy_address(a, R0, 0, stack::FRONTEND);
                self.lookup(a, Table::Frontends, stack::FRONTEND);
                a.jump_if(If::Eq, R0, 0, pass);
                a.bind(found);
            }
        }
        a.load(Size::Double, R7, R0, 0);
        a.load(Size::Word, R8, R0, 8);
    }

    /// UDP: the endpoint that this socket has already, if it still answers; else another.
    fn go_on(&self, a: &mut Assembler, pass: Label) {
        let (draw, done) = (a.label(), a.label());
        copy(a, R10, stack::ASKED, stack::SOCKET + 8);
        self.lookup(a, Table::Flows, stack::SOCKET);
        a.jump_if(If::Eq, R0, 0, draw);
        a.mov(R9, R0);
        a.store(Size::Double, R10, stack::MEMBER, R7);
        copy(a, R9, 0, stack::MEMBER + 8);
        self.lookup(a, Table::Members, stack::MEMBER);
        a.jump_if(If::Ne, R0, 0, done);
        a.bind(draw);
        self.draw(a, pass);
        copy(a, R9, 0, stack::MEMBER + 8);
        self.update(a, Table::Flows, stack::SOCKET, stack::MEMBER + 8);
        a.bind(done);
    }

    /// Any server of the list.
    fn draw(&self, a: &mut Assembler, pass: Label) {
        a.call(Helper::Random);
        a.modulo(R0, R8);
        a.store(Size::Double, R10, stack::ENDPOINT, R7);
        a.store(Size::Word, R10, stack::ENDPOINT + 8, R0);
        a.store_imm(Size::Word, R10, stack::ENDPOINT + 12, 0);
        self.lookup(a, Table::Endpoints, stack::ENDPOINT);
        a.jump_if(If::Eq, R0, 0, pass);
        a.mov(R9, R0);
    }

    /// So that the peer's name and answers' sources are what was asked for.
    fn remember_asked(&self, a: &mut Assembler, pass: Label) {
        copy(a, R9, 0, stack::SOCKET + 8);
        let asked = if self.proto == Proto::Udp { Table::Answers } else { Table::Peers };
        self.update(a, asked, stack::SOCKET, stack::ASKED);
        a.jump_if(If::Ne, R0, 0, pass);
    }

    fn lookup(&self, a: &mut Assembler, table: Table, key: i16) {
        lookup(a, (self.descriptor)(table), key);
    }

    fn update(&self, a: &mut Assembler, table: Table, key: i16, value: i16) {
        a.map(R1, (self.descriptor)(table));
        for (reg, at) in [(R2, key), (R3, value)] {
            a.mov(reg, R10);
            a.add_imm(reg, i32::from(at));
        }
        a.mov_imm(R4, 0);
        a.call(Helper::MapUpdate);
    }
}

/// R0 = where the value is, or 0.
fn lookup(a: &mut Assembler, map: i32, key: i16) {
    a.map(R1, map);
    a.mov(R2, R10);
    a.add_imm(R2, i32::from(key));
    a.call(Helper::MapLookup);
}

/// The socket's number, at the beginning of a key.
fn socket_key(a: &mut Assembler) {
    a.mov(R1, R6);
    a.call(Helper::SocketCookie);
    a.store(Size::Double, R10, stack::SOCKET, R0);
}

/// The address and port of the context, onto the stack: `[addr 16][port 2][0 2]`.
fn place_of_context(a: &mut Assembler, ip: Ip, to: i16) {
    match ip {
        Ip::V4 => {
            a.store_imm(Size::Double, R10, to, 0);
            a.store_imm(Size::Word, R10, to + 8, i32::from_ne_bytes([0, 0, 0xff, 0xff]));
            a.load(Size::Word, R1, R6, context::IP4);
            a.store(Size::Word, R10, to + 12, R1);
        }
        Ip::V6 => {
            for word in (0..16).step_by(4) {
                a.load(Size::Word, R1, R6, context::IP6 + word);
                a.store(Size::Word, R10, to + word, R1);
            }
        }
    }
    a.load(Size::Word, R1, R6, context::PORT);
    a.store(Size::Half, R10, to + 16, R1);
    a.store_imm(Size::Half, R10, to + 18, 0);
}

/// The address and port at R9 into the context.
fn into_context(a: &mut Assembler, ip: Ip) {
    match ip {
        Ip::V4 => {
            a.load(Size::Word, R1, R9, 12);
            a.store(Size::Word, R6, context::IP4, R1);
        }
        Ip::V6 => {
            for word in (0..16).step_by(4) {
                a.load(Size::Word, R1, R9, word);
                a.store(Size::Word, R6, context::IP6 + word, R1);
            }
        }
    }
    a.load(Size::Half, R1, R9, 16);
    a.store(Size::Word, R6, context::PORT, R1);
}

/// `[addr 16][port 2][0 2]` onto the stack.
fn copy(a: &mut Assembler, from: Reg, off: i16, to: i16) {
    copy_address(a, from, off, to);
    a.load(Size::Word, R1, from, off + 16);
    a.store(Size::Word, R10, to + 16, R1);
}

fn copy_address(a: &mut Assembler, from: Reg, off: i16, to: i16) {
    for double in [0, 8] {
        a.load(Size::Double, R1, from, off + double);
        a.store(Size::Double, R10, to + double, R1);
    }
}
