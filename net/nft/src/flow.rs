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
    /// Whether anything has come from there yet.
    pub is_answered: bool,
}

impl Flow {
    /// Whether nobody translated it and nobody answers: it began while there were no rules. Connection tracking does not
    /// ask rules again, so as long as it remembers the flow, a client that tries again from the same port leads nowhere.
    #[must_use]
    pub fn is_astray(&self) -> bool {
        self.server == self.frontend && !self.is_answered
    }
}
