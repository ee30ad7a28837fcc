//! The expressions of a rule: each reads registers, writes registers, stops the rule, or decides. Owns their meaning
//! as data; the bytes are `pintle-net`'s.

use crate::cidr::{Cidr, Family};
use crate::value::Value;

/// The name of a chain, set or map.
pub type Name = std::sync::Arc<str>;

/// One of the sixteen 32-bit registers. A value longer than four bytes fills the following ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reg(u8);

impl Reg {
    /// Register `n`, 0 to 15.
    ///
    /// # Panics
    /// Beyond 15; registers are constants of our rules.
    #[must_use]
    pub const fn new(n: u8) -> Self {
        assert!(n < 16, "there are sixteen registers");
        Self(n)
    }

    /// Its position.
    #[must_use]
    pub const fn index(self) -> u8 {
        self.0
    }
}

/// What becomes of a packet, or where to go on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Done with this hook's base chain; later ones still see the packet.
    Accept,
    /// Dropped without a word.
    Drop,
    /// Back to the calling chain.
    Return,
    /// Into a chain and back.
    Jump(Name),
    /// Into a chain for good.
    Goto(Name),
}

/// Which header a payload offset counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// The IP header.
    Network,
    /// The TCP, UDP or SCTP header.
    Transport,
}

/// What the kernel knows about a packet besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetaKey {
    /// The packet's mark, 32 bits.
    Mark,
    /// The transport protocol.
    L4Proto,
    /// The name of the interface by which it came in, 16 bytes filled with zeros; all zeros for this machine's own.
    IifName,
}

/// What connection tracking knows about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CtKey {
    /// State bits: invalid 1, established 2, related 4, new 8.
    State,
    /// Status bits; 32 is "destination translated".
    Status,
}

/// How a comparison must turn out for the rule to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CmpOp {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
}

/// Whether a lookup must find something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// The rule goes on when the key is in the set.
    Present,
    /// The rule goes on when it is not.
    Absent,
}

/// Which address is looked up in the routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FibAddr {
    /// The packet's source.
    Source,
    /// The packet's destination.
    Destination,
}

/// How a masqueraded connection gets its source port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortChoice {
    /// Kept where possible.
    Keep,
    /// Fully random, which avoids collisions of simultaneous connections.
    Random,
}

/// What the sender of a rejected packet gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectWith {
    /// ICMP or ICMPv6 port unreachable. The kernel limits how many it sends to one address.
    PortUnreachable(Family),
    /// A TCP reset; the packet must be TCP.
    TcpReset,
}

/// One expression. Registers named `source` are read, `dest` written.
#[expect(missing_docs, reason = "each variant's sentence speaks of its fields")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    /// Loads bytes of the packet; the rule ends when the packet is too short.
    Payload { base: Base, offset: u32, len: u32, dest: Reg },
    /// Loads what the kernel knows.
    Meta { key: MetaKey, dest: Reg },
    /// Sets the packet's mark.
    SetMark { source: Reg },
    /// Loads what connection tracking knows.
    Ct { key: CtKey, dest: Reg },
    /// Goes on only if the comparison holds.
    Cmp { op: CmpOp, source: Reg, value: Value },
    /// `dest = (source & mask) ^ xor`, all of the mask's length.
    Bitwise { source: Reg, dest: Reg, mask: Value, xor: Value },
    /// Goes on only if the key is (or is not) in the set.
    Lookup { set: Name, source: Reg, want: Want },
    /// Loads the data of the key from a map; the rule ends when there is none.
    Map { set: Name, source: Reg, dest: Reg },
    /// Takes the verdict of the key from a verdict map; the rule ends when there is none.
    Vmap { set: Name, source: Reg },
    /// Loads a constant.
    Immediate { dest: Reg, value: Value },
    /// Decides.
    Verdict(Verdict),
    /// Translates the destination of the connection, and decides: accept.
    Dnat { family: Family, addr: Reg, port: Reg },
    /// Translates the source of the connection to the outgoing interface's address, and decides: accept.
    Masquerade(PortChoice),
    /// Drops the packet and tells the sender.
    Reject(RejectWith),
    /// Draws a number from `offset` to `offset + modulus - 1`.
    Random { modulus: u32, offset: u32, dest: Reg },
    /// Loads the routing table's address type: 2 is an address of this machine.
    FibType { addr: FibAddr, dest: Reg },
    /// Adds the key to a dynamic set, or renews its timeout.
    Remember { set: Name, source: Reg, timeout_ms: u64 },
    /// Counts packets and bytes.
    Counter,
}

/// `RTN_LOCAL` of linux/rtnetlink.h: the type of an address of this machine.
pub const FIB_LOCAL: u32 = 2;

/// Loads the packet's source address.
#[must_use]
pub fn saddr(family: Family, dest: Reg) -> Expr {
    match family {
        Family::V4 => Expr::Payload { base: Base::Network, offset: 12, len: 4, dest },
        Family::V6 => Expr::Payload { base: Base::Network, offset: 8, len: 16, dest },
    }
}

/// Loads the packet's destination address.
#[must_use]
pub fn daddr(family: Family, dest: Reg) -> Expr {
    match family {
        Family::V4 => Expr::Payload { base: Base::Network, offset: 16, len: 4, dest },
        Family::V6 => Expr::Payload { base: Base::Network, offset: 24, len: 16, dest },
    }
}

/// Loads the destination port.
#[must_use]
pub fn dport(dest: Reg) -> Expr {
    Expr::Payload { base: Base::Transport, offset: 2, len: 2, dest }
}

/// Compares the address in a register with a range; masks it in place unless the range is a single address.
#[must_use]
pub fn in_range(reg: Reg, range: Cidr, op: CmpOp) -> Vec<Expr> {
    let network = Expr::Cmp { op, source: reg, value: Value::new().addr(range.network().addr()) };
    let mask = Cidr::new(all_ones(range.family()), range.prefix()).map(|c| c.network().addr());
    match mask {
        Some(mask) if mask != all_ones(range.family()) => {
            let (mask, xor) = (Value::new().addr(mask), Value::new().addr(unspecified(range.family())));
            vec![Expr::Bitwise { source: reg, dest: reg, mask, xor }, network]
        }
        _ => vec![network],
    }
}

/// Sets bits of the packet's mark, leaving the others. Uses register 0.
#[must_use]
pub fn set_mark_bits(bits: u32) -> [Expr; 3] {
    change_mark(!bits, bits)
}

/// Clears bits of the packet's mark, leaving the others. Uses register 0.
#[must_use]
pub fn clear_mark_bits(bits: u32) -> [Expr; 3] {
    change_mark(!bits, 0)
}

fn change_mark(keep: u32, set: u32) -> [Expr; 3] {
    let reg = Reg::new(0);
    let (mask, xor) = (Value::new().number(keep), Value::new().number(set));
    [
        Expr::Meta { key: MetaKey::Mark, dest: reg },
        Expr::Bitwise { source: reg, dest: reg, mask, xor },
        Expr::SetMark { source: reg },
    ]
}

fn all_ones(family: Family) -> std::net::IpAddr {
    match family {
        Family::V4 => std::net::Ipv4Addr::BROADCAST.into(),
        Family::V6 => std::net::Ipv6Addr::from(u128::MAX).into(),
    }
}

fn unspecified(family: Family) -> std::net::IpAddr {
    Cidr::default_route(family).addr()
}
