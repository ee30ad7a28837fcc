//! Plain numbers that many threads count in.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A count or a level.
#[derive(Debug, Default)]
pub struct Number(AtomicI64);

impl Number {
    /// One more.
    pub fn add(&self, by: usize) {
        self.0.fetch_add(i64::try_from(by).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// One less.
    pub fn sub(&self, by: usize) {
        self.0.fetch_sub(i64::try_from(by).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// This many now.
    pub fn set(&self, to: usize) {
        self.0.store(i64::try_from(to).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// This many, if it is more than ever.
    pub fn raise(&self, to: usize) {
        self.0.fetch_max(i64::try_from(to).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A moment, in seconds since the epoch.
#[derive(Debug, Default)]
pub struct Moment(pub(super) AtomicU64);

impl Moment {
    /// Now.
    pub fn now(&self) {
        let now = jiff::Timestamp::now().as_millisecond();
        self.0.store(u64::try_from(now).unwrap_or(0), Ordering::Relaxed);
    }
}

/// How often something took how long.
#[derive(Debug)]
pub struct Histogram {
    pub(super) bounds_s: &'static [f64],
    /// One for each bound, and one beyond.
    pub(super) counts: Vec<AtomicU64>,
    pub(super) sum_us: AtomicU64,
}

impl Histogram {
    /// Nothing yet; bounds in seconds, ascending.
    pub(super) fn new(bounds_s: &'static [f64]) -> Self {
        let counts = (0..=bounds_s.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds_s, counts, sum_us: AtomicU64::new(0) }
    }

    /// It took this long once more.
    pub fn observe(&self, took: Duration) {
        let at = self.bounds_s.partition_point(|bound| *bound < took.as_secs_f64());
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
