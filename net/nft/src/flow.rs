//! A flow as connection tracking knows it.

use std::net::IpAddr;

use crate::value::Proto;

/// A tracked flow. Where `server` is not `frontend`, its destination was translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Who speaks.
    pub client: (IpAddr, u16),
    /// To whom, as the client sees it.
    pub frontend: (IpAddr, u16),
    /// Who answers.
    pub server: (IpAddr, u16),
    /// The transport protocol.
    pub proto: Proto,
}
