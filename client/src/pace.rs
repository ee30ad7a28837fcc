//! How many requests a client may make: so many a second, and so many at once after a pause. Owns the counting; does not
//! sleep.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A bucket of `burst` requests that fills at so many a second.
#[derive(Debug)]
pub(crate) struct Pace {
    each: Duration,
    burst: u32,
    /// When the bucket is full again if nobody asks any more.
    full_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// A full bucket; `None` where nothing is counted: at a rate below nothing, as client-go has it.
    pub(crate) fn new(per_second: f32, burst: u32) -> Option<Self> {
        let each = Duration::try_from_secs_f32(1.0 / per_second).ok().filter(|_| per_second > 0.0)?;
        Some(Self { each, burst: burst.max(1), full_at: Mutex::default() })
    }

    /// When a request asked for now may be made. It is counted.
    pub(crate) fn reserve(&self, now: Instant) -> Instant {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let before = full_at.unwrap_or(now).max(now);
        *full_at = Some(before + self.each);
        // So many may be ahead of their time.
        let ahead = self.each.saturating_mul(self.burst - 1);
        before.checked_sub(ahead).map_or(now, |at| at.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_its_pace() {
        let pace = Pace::new(10.0, 3).expect("a rate");
        let now = Instant::now();
        let waits =
            |now: Instant, n: usize| -> Vec<u128> { (0..n).map(|_| (pace.reserve(now) - now).as_millis()).collect() };
        assert_eq!(waits(now, 5), [0, 0, 0, 100, 200]);
        // Two have passed, and a pause fills the bucket again.
        assert_eq!(waits(now + Duration::from_millis(200), 1), [100]);
        assert_eq!(waits(now + Duration::from_secs(9), 4), [0, 0, 0, 100]);
    }

    #[test]
    fn without_a_rate_nothing_is_counted() {
        for rate in [-1.0, 0.0, f32::NAN] {
            assert!(Pace::new(rate, 10).is_none(), "{rate}");
        }
    }
}
