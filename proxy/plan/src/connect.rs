//! Services at connect time: eBPF programs on a cgroup's hooks put an endpoint in the place of a virtual address before
//! the kernel looks for a route, so that not one packet of the connection has to be translated. An addition: whatever
//! the programs leave alone is the packet filter's, as ever.
//!
//! ```text
//! connect, sendto ─► frontends[addr, port, proto] ─► a list and its length ─► endpoints[list, random] ─► the socket
//!                     └ else here[addr] ─► frontends[any address, port, proto]            (node ports)
//! getpeername ─► peers[socket, endpoint]   ─► what was asked for
//! recvfrom    ─► answers[socket, endpoint] ─► what was asked for
//! ```
//!
//! What is left to the packet filter, since a socket's beginning is the wrong moment for it:
//!
//! - session affinity, which is by client address and shared with those who come by packets;
//! - load balancers' addresses with source ranges, and everybody if all are masqueraded;
//! - whatever has no endpoint to go to: refusing and dropping is said in one place;
//! - connected UDP sockets, which outlive endpoints: the packet filter gives their flow another server, and here
//!   nobody would; sockets bound to an address or a device, whose choice is not ours to void; SCTP;
//! - for pods, all but ClusterIPs: other addresses have rules of their own for pods' packets.

pub mod asm;
pub mod layout;
pub mod program;
pub mod tables;

pub use program::{Program, Scope};
pub use tables::{Plan, Tables};
