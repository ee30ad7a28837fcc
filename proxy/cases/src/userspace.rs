//! What a proxy without a packet filter cannot have, and why: where the table holds otherwise for it.

use crate::{Case, Client, Destination, Row, Sees, Server, State, Want};

/// One kind of row that holds otherwise.
pub struct Difference {
    /// Why.
    pub why: &'static str,
    /// Which rows.
    pub concerns: fn(&Row) -> bool,
    /// What holds instead.
    pub instead: fn(&Case, &Row) -> Want,
}

/// All of them. The first that concerns a row holds.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        why: "a connection ends at the proxy and another begins there: servers see this machine",
        concerns: |row| matches!(row.want, Want::Servers(_)),
        instead: |_, row| {
            let Want::Servers(servers) = &row.want else { return row.want.clone() };
            Want::Servers(servers.iter().map(|s| Server { sees: Sees::Machine, ..*s }).collect())
        },
    },
    Difference {
        why: "a route drops what is sent to unallocated addresses, which senders on this machine are told at once",
        concerns: |row| (row.from, row.to) == (Client::Node, Destination::Unallocated),
        instead: |_, _| Want::Reject,
    },
    Difference {
        why: "the listener for a node port is for all addresses, loopback too",
        concerns: |row| row.to == Destination::NodePortLoopback,
        instead: |case, _| {
            let ready = case.endpoints.iter().filter(|e| e.state == State::Ready);
            Want::Servers(ready.map(|e| Server { name: e.name, sees: Sees::Machine }).collect())
        },
    },
    Difference {
        why: "no other process can have a node port: nobody is there to answer instead of the proxy",
        concerns: |row| (row.to, &row.want) == (Destination::NodePort, &Want::Untouched),
        instead: |_, _| Want::Reject,
    },
];

impl Case {
    /// A row as it holds without a packet filter.
    #[must_use]
    pub fn in_userspace(&self, row: &Row) -> Row {
        let difference = DIFFERENCES.iter().find(|d| (d.concerns)(row));
        Row { want: difference.map_or_else(|| row.want.clone(), |d| (d.instead)(self, row)), ..row.clone() }
    }
}
