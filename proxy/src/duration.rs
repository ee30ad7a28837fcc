//! Durations as Go writes them in configuration files and flags: `24h0m0s`, `1m30s`, `250ms`, `0`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A duration that reads and writes itself as Go does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub Duration);

impl GoDuration {
    /// Whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

/// A text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no duration such as 30s, 1h30m or 250ms")]
pub struct BadDuration(String);

impl std::str::FromStr for GoDuration {
    type Err = BadDuration;

    fn from_str(text: &str) -> Result<Self, BadDuration> {
        let bad = || BadDuration(text.to_owned());
        if text == "0" {
            return Ok(Self::default());
        }
        let (mut rest, mut total_ns) = (text, 0_f64);
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
            let number: f64 = rest[..digits].parse().map_err(|_no_number| bad())?;
            rest = &rest[digits..];
            let (unit, ns) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit)).ok_or_else(bad)?;
            rest = &rest[unit.len()..];
            total_ns += number * ns;
        }
        Duration::try_from_secs_f64(total_ns / 1e9).map(Self).map_err(|_out_of_range| bad())
    }
}

/// Longer names first, so that `ms` is not read as minutes.
const UNITS: [(&str, f64); 7] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];

impl std::fmt::Display for GoDuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, ns) = (self.0.as_secs(), self.0.subsec_nanos());
        if seconds == 0 && ns > 0 {
            return write!(f, "{}ms", f64::from(ns) / 1e6);
        }
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        if ns == 0 { write!(f, "{seconds}s") } else { write!(f, "{}s", self.0.as_secs_f64() % 60.0) }
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (text, ms, again) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("30s", 30_000, "30s"),
            ("24h0m0s", 86_400_000, "24h0m0s"),
            ("1h30m", 5_400_000, "1h30m0s"),
            ("250ms", 250, "250ms"),
            ("1.5s", 1500, "1.5s"),
        ] {
            let read: GoDuration = text.parse().unwrap();
            assert_eq!((read.0.as_millis(), read.to_string().as_str()), (ms, again), "{text}");
        }
        for text in ["", "30", "s", "1x", "-1s", "1h 2m", "..s"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text:?}");
        }
    }
}
