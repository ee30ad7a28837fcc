//! How many descriptors forwarding may use. A process that has none left cannot even log out of it: every use has its
//! share, and a part is nobody's.

/// How much is forwarded at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sockets that listen; further ones are refused.
    pub listeners: usize,
    /// Connections, of two descriptors each; further ones wait to be accepted.
    pub connections: usize,
    /// UDP flows; a further one takes the place of a silent one, or its datagrams are lost.
    pub flows: usize,
    /// Pipes, of two descriptors each, lent to connections while data is under way; without one it is copied.
    pub pipes: usize,
}

/// For everything else the process does: watches, health checks, netlink.
const ELSE: u64 = 128;

impl Limits {
    /// For a process whose business is forwarding, of its limit of descriptors: a quarter each for listeners,
    /// connections, flows and pipes.
    #[must_use]
    pub fn alone(descriptors: u64) -> Self {
        let quarter = usize::try_from(descriptors.saturating_sub(ELSE) / 4).unwrap_or(usize::MAX).clamp(8, 1 << 17);
        Self { listeners: quarter, connections: quarter / 2, flows: quarter, pipes: quarter / 2 }
    }

    /// For one that forwards node ports on loopback besides: an eighth for listeners.
    #[must_use]
    pub fn aside(descriptors: u64) -> Self {
        let listeners = usize::try_from(descriptors / 8).unwrap_or(128).min(4096);
        Self { listeners, connections: 256, flows: 256, pipes: 32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_of_descriptors_is_used_up() {
        for descriptors in [256, 1024, 65_536, 524_288, u64::MAX] {
            for limits in [Limits::alone(descriptors), Limits::aside(descriptors.max(2048))] {
                let used = limits.listeners + 2 * limits.connections + limits.flows + 2 * limits.pipes;
                assert!(used as u64 <= descriptors.max(2048) - ELSE, "{descriptors}: {limits:?}");
                assert!(limits.listeners > 0 && limits.connections > 0 && limits.flows > 0);
            }
        }
    }
}
