//! When a child that died is started again. Pure.

use std::time::Duration;

/// A child that ran this long is healthy: its next death is a first one.
const HEALTHY: Duration = Duration::from_secs(60);
/// The longest wait.
const DELAY_MAX: Duration = Duration::from_secs(30);
/// Deaths before a child was ever ready after which its starter is told so. Two, since a port may still be held by the
/// process that was just killed.
const ATTEMPTS_BEFORE_READY_MAX: u32 = 2;

/// What is known of a child's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Life {
    /// Deaths in a row.
    deaths: u32,
    /// Whether it was ever ready.
    ever_ready: bool,
}

/// What follows a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Start it again after this.
    Restart(Duration),
    /// It never got ready; tell, and stop trying.
    GiveUp,
}

impl Life {
    /// It said it is ready.
    pub fn ready(&mut self) {
        self.ever_ready = true;
    }

    /// It died after running for `ran`. The first restart is immediate: most deaths are one-time.
    pub fn died(&mut self, ran: Duration) -> Next {
        self.deaths = if ran >= HEALTHY { 1 } else { self.deaths.saturating_add(1) };
        if !self.ever_ready && self.deaths >= ATTEMPTS_BEFORE_READY_MAX {
            return Next::GiveUp;
        }
        let delay = match self.deaths {
            0 | 1 => Duration::ZERO,
            n => Duration::from_millis(500).saturating_mul(1 << (n - 2).min(10)),
        };
        Next::Restart(delay.min(DELAY_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_secs(1);

    #[test]
    fn a_child_that_was_ready_is_restarted_for_ever_with_growing_delays() {
        let mut life = Life::default();
        life.ready();
        let delays: Vec<Next> = (0..9).map(|_| life.died(QUICK)).collect();
        let expected: Vec<Next> = [0, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]
            .map(|ms| Next::Restart(Duration::from_millis(ms)))
            .to_vec();
        assert_eq!(delays, expected);
    }

    #[test]
    fn a_long_life_is_forgiven() {
        let mut life = Life::default();
        life.ready();
        for _ in 0..5 {
            life.died(QUICK);
        }
        assert_eq!(life.died(HEALTHY), Next::Restart(Duration::ZERO));
    }

    #[test]
    fn a_child_that_never_gets_ready_is_given_up() {
        let mut life = Life::default();
        assert_eq!(life.died(QUICK), Next::Restart(Duration::ZERO));
        assert_eq!(life.died(QUICK), Next::GiveUp);
    }
}
