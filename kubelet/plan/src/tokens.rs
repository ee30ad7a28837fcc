//! When a pod's service-account token is replaced.
//!
//! Owns: the moments. Does not own: asking for tokens, the files they end in.
//!
//! ```text
//!   given ──────────── 80 % of its life, or a day ──── failed: every 30 s ──── ends
//!     │  used as it is            │  replaced                 │  still used      │  no volume without a new one
//! ```

use jiff::{SignedDuration, Timestamp};

/// Nobody holds a token longer than this without asking again (kubelet's token manager).
const AGE_MAX: SignedDuration = SignedDuration::from_hours(24);
/// Between attempts to replace a token that is due.
const RETRY: SignedDuration = SignedDuration::from_secs(30);

/// A token's life so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenLife {
    /// When it was asked for.
    pub given_at: Timestamp,
    /// When it is worth nothing any more.
    pub ends_at: Timestamp,
    /// When replacing it failed last.
    pub failed_at: Option<Timestamp>,
}

impl TokenLife {
    /// When to ask for the next one.
    pub fn replace_at(&self) -> Timestamp {
        let life = self.ends_at.duration_since(self.given_at);
        let due = self.given_at + (life / 10 * 8).min(AGE_MAX);
        self.failed_at.map_or(due, |at| at + RETRY).max(due)
    }

    /// Whether it is to be replaced now.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.replace_at() <= now || self.ends_at <= now
    }

    /// Whether it may be used although it could not be replaced.
    pub fn is_good(&self, now: Timestamp) -> bool {
        now < self.ends_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_token_is_replaced_at_four_fifths_of_its_life_and_after_a_day_at_the_latest() {
        let day = 24 * 3600;
        let table = [
            // Life, failed at; replaced at.
            (600, None, 480),
            (3605, None, 2884),
            (365 * day, None, day),
            // Failures are tried again after half a minute, however often.
            (600, Some(480), 510),
            (600, Some(575), 605),
            // A failure of the token before says nothing of this one.
            (600, Some(10), 480),
        ];
        for (life_s, failed_s, replaced_s) in table {
            let life = TokenLife { given_at: at(0), ends_at: at(life_s), failed_at: failed_s.map(at) };
            let told = life.replace_at().duration_since(at(0)).as_secs();
            assert_eq!(told, replaced_s, "{life_s} {failed_s:?}");
            assert!(!life.is_due(at(replaced_s.min(life_s) - 1)), "{life_s} {failed_s:?}");
            assert!(life.is_due(at(replaced_s)), "{life_s} {failed_s:?}");
            assert!(life.is_good(at(life_s - 1)) && !life.is_good(at(life_s)), "{life_s}");
        }
    }
}
