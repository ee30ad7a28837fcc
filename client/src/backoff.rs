//! Jittered exponential back-off. Owns the delays; does not sleep.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Delays of 1×, 2×, 4×, … `base`, each multiplied by a random factor between a half and one, up to `max`.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// A fresh sequence.
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, failures: 0 }
    }

    /// The delay to wait before the next attempt.
    pub fn delay(&mut self) -> Duration {
        let full = self.base.saturating_mul(1 << self.failures.min(20)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(0.5 + random_unit() / 2.0)
    }

    /// An attempt succeeded: start again at `base`.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A number in [0, 1). `RandomState` draws its keys from the system once per thread and then counts, which is spread
/// enough for jitter and needs no further dependency.
pub(crate) fn random_unit() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_limit_and_start_again_after_a_success() {
        let (base, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(base, max);
        for full_ms in [100, 200, 400, 800, 1000, 1000] {
            let full = Duration::from_millis(full_ms);
            let got = backoff.delay();
            assert!(got >= full / 2 && got <= full, "{got:?} is not within a half and one of {full:?}");
        }
        backoff.reset();
        assert!(backoff.delay() <= base);
    }
}
