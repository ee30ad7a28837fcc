//! Times as Kubernetes writes and shows them.
//!
//! Owns: the formats of metav1.Time and MicroTime, and the ages `kubectl get` shows. Does not own: a clock; `now` is an
//! argument.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// metav1.Time: `2026-11-21T08:00:00Z`.
pub fn rfc3339(time: Timestamp) -> String {
    format!("{}", time.strftime("%Y-%m-%dT%H:%M:%SZ"))
}

/// metav1.MicroTime: `2026-11-21T08:00:00.000000Z`.
pub fn rfc3339_micro(time: Timestamp) -> String {
    format!("{}", time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ"))
}

/// Drops what metav1.Time cannot carry, so that an object equals its own encoding.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// `now` as metav1.Time.
pub fn time(now: Timestamp) -> Time {
    Time(whole_seconds(now))
}

/// `5m`, `3d4h`, … since `from`; `<unknown>` without one; `<invalid>` for more than a second in the future.
pub fn age(from: Option<&Time>, now: Timestamp) -> String {
    match from {
        None => "<unknown>".to_owned(),
        Some(from) => human_duration_s(now.as_second() - from.0.as_second()),
    }
}

/// A duration in at most two units, coarser as it grows (apimachinery's duration.HumanDuration).
pub fn human_duration_s(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let pair = |a: i64, unit_a: &str, b: i64, unit_b: &str| {
        if b == 0 { format!("{a}{unit_a}") } else { format!("{a}{unit_a}{b}{unit_b}") }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(hours / 24, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{}d", hours / 24),
        63_072_000..252_288_000 => pair(hours / 24 / 365, "y", (hours / 24) % 365, "d"),
        _ => format!("{}y", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn ages_grow_coarser() {
        let seconds = [
            -5,
            -1,
            0,
            1,
            119,
            120,
            150,
            599,
            600,
            659,
            7200,
            10_799,
            10_800,
            10_860,
            28_799,
            28_800,
            172_799,
            172_800,
            176_400,
            691_199,
            691_200,
            63_071_999,
            63_072_000,
            64_000_000,
            252_288_000,
        ];
        let shown: Vec<String> = seconds.iter().map(|s| human_duration_s(*s)).collect();
        insta::assert_snapshot!(shown.join(" "), @"<invalid> 0s 0s 1s 119s 2m 2m30s 9m59s 10m 10m 120m 179m 3h 3h1m 7h59m 8h 47h 2d 2d1h 7d23h 8d 729d 2y 2y10d 8y");
    }

    #[test]
    fn formats_are_those_of_metav1() {
        let time: Timestamp = "2026-11-21T08:00:00.25Z".parse().unwrap();
        assert_eq!(rfc3339(time), "2026-11-21T08:00:00Z");
        assert_eq!(rfc3339_micro(time), "2026-11-21T08:00:00.250000Z");
        assert_eq!(rfc3339(whole_seconds(time)), "2026-11-21T08:00:00Z");
    }
}
