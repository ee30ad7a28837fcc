//! Words for packet filtering: what an nftables ruleset is, as plain data. Pure: no sockets, no files. Sending a
//! ruleset to the kernel is the business of `pintle-net`.

pub mod cidr;

pub use cidr::{Cidr, CidrError, Family};
