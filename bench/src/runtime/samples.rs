//! Times by runtime and command, and their table.

use std::collections::BTreeMap;
use std::time::Duration;

/// Times by (what, who).
#[derive(Debug, Default)]
pub struct Samples(BTreeMap<(&'static str, String), Vec<Duration>>);

/// Rows of the table, in the order of a container's life.
const ROWS: &[&str] = &["create", "start", "exec", "state", "kill", "delete", "run"];

impl Samples {
    /// One more.
    pub fn add(&mut self, what: &'static str, who: &str, took: Duration) {
        self.0.entry((what, who.to_owned())).or_default().push(took);
    }

    /// All of another.
    pub fn extend(&mut self, other: Samples) {
        for (key, times) in other.0 {
            self.0.entry(key).or_default().extend(times);
        }
    }

    /// A Markdown table: median, 95th percentile and minimum in ms, and how pintle's median compares.
    pub fn print(&self, names: &[&str]) {
        println!("Milliseconds: median (p95, min).\n");
        println!(
            "| | {} | pintle / crun | pintle / floor |\n|---|{}---|---|",
            names.join(" | "),
            "---|".repeat(names.len())
        );
        for row in ROWS {
            let cells: Vec<String> = names.iter().map(|name| self.cell(row, name)).collect();
            let ratio = |other: &str| match (self.median(row, "pintle"), self.median(row, other)) {
                (Some(ours), Some(theirs)) => format!("{:.2}", ours / theirs),
                _ => "–".to_owned(),
            };
            println!("| {row} | {} | {} | {} |", cells.join(" | "), ratio("crun"), ratio("floor"));
        }
    }

    fn sorted(&self, what: &'static str, who: &str) -> Option<Vec<Duration>> {
        let mut times = self.0.get(&(what, who.to_owned()))?.clone();
        times.sort_unstable();
        Some(times)
    }

    fn median(&self, what: &'static str, who: &str) -> Option<f64> {
        self.sorted(what, who).map(|times| ms(share(&times, 0.5)))
    }

    fn cell(&self, what: &'static str, who: &str) -> String {
        match self.sorted(what, who) {
            Some(times) => {
                let [median, high, low] = [0.5, 0.95, 0.0].map(|at| ms(share(&times, at)));
                format!("{median:.2} ({high:.1}, {low:.2})")
            }
            None => "–".to_owned(),
        }
    }
}

/// The value below which a share of sorted, non-empty times lies.
pub fn share(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1]
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_sorted_times() {
        let times: Vec<Duration> = (1..=20).map(Duration::from_millis).collect();
        for (at, expected_ms) in [(0.0, 1.0), (0.5, 10.0), (0.95, 19.0), (1.0, 20.0)] {
            assert!((ms(share(&times, at)) - expected_ms).abs() < 1e-9, "{at}");
        }
    }
}
