//! What is forwarded, in numbers.

use crate::metrics::Number;

/// See the module's description. Levels are of now, the others since the beginning.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sockets that listen.
    pub listeners: Number,
    /// Connections that go on now.
    pub connections_open: Number,
    /// Connections that got a server, less those of `broken`.
    pub served: Number,
    /// Connections that were reset, since no server could be reached.
    pub unserved: Number,
    /// Connections that did not end in order: one end reset them, or was lost.
    pub broken: Number,
    /// Bytes of connections' clients.
    pub to_server: Number,
    /// Bytes of their servers.
    pub to_client: Number,
    /// UDP flows there are.
    pub flows_open: Number,
    /// UDP flows begun.
    pub flows: Number,
    /// Datagrams of clients, handed to the kernel for a server.
    pub datagrams_to_server: Number,
    /// Datagrams of servers, handed to the kernel for a client.
    pub datagrams_to_client: Number,
    /// Datagrams that came and went nowhere.
    pub datagrams_lost: Number,
}

/// Counts one more in a level for as long as it lives.
pub struct Held<'a>(&'a Number);

impl<'a> Held<'a> {
    /// One more.
    pub fn one(level: &'a Number) -> Self {
        level.add(1);
        Self(level)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}
