//! Exponential back-off with a memory: 10 s, doubled up to 300 s, forgotten after 10 quiet minutes.
//!
//! Owns: the arithmetic. The figures are the kubelet's (`MaxContainerBackOff`, `containerBackOffPeriod`).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// First delay, in seconds.
pub const FIRST_S: i64 = 10;
/// Longest delay, in seconds.
pub const LONGEST_S: i64 = 300;
/// A quiet time after which the delay starts over, in seconds.
pub const RESET_S: i64 = 600;

/// How long to wait between attempts. Starts without any delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Backoff {
    /// The delay now in force, in seconds; 0 before the first repetition.
    pub delay_s: i64,
    /// When it was last raised.
    pub raised_at: Option<Timestamp>,
}

impl Backoff {
    /// The moment from which an attempt after a failure at `since` is allowed.
    pub fn allowed_at(&self, since: Timestamp) -> Timestamp {
        let delay_s = if self.quiet(since) { 0 } else { self.delay_s };
        since + SignedDuration::from_secs(delay_s)
    }

    /// The back-off after one more attempt at `now`.
    #[must_use]
    pub fn raised(&self, now: Timestamp) -> Backoff {
        let delay_s = if self.quiet(now) || self.delay_s == 0 { FIRST_S } else { (self.delay_s * 2).min(LONGEST_S) };
        Backoff { delay_s, raised_at: Some(now) }
    }

    fn quiet(&self, at: Timestamp) -> bool {
        self.raised_at.is_none_or(|raised| at.duration_since(raised).as_secs() > RESET_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_to_five_minutes_and_is_forgotten_after_ten_quiet_ones() {
        let mut now = Timestamp::UNIX_EPOCH;
        let mut backoff = Backoff::default();
        let mut delays = vec![backoff.delay_s];
        for _ in 0..7 {
            backoff = backoff.raised(now);
            delays.push(backoff.delay_s);
            now += SignedDuration::from_secs(backoff.delay_s);
        }
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.raised(now + SignedDuration::from_secs(RESET_S + 1)).delay_s, 10);
    }
}
