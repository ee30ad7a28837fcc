//! The same cases against runc, crun and pintle-runc, and the table of what differs.
//!
//! Owns: cases (data), running them, the report; life cycles through real callers (Podman, containerd). Does not own:
//! any knowledge of how pintle-runc works inside: it is a program like the others.

pub mod callers;
pub mod case;
pub mod crowd;
pub mod report;
pub mod runner;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use case::Case;
use runner::{Outcome, Runtime, Site};

/// One case's outcomes, in the order of the runtimes.
#[derive(Debug, Clone)]
pub struct Row {
    /// The case.
    pub case: Case,
    /// Per runtime.
    pub outcomes: Vec<Outcome>,
}

/// Runs cases against runtimes with some workers.
pub fn run(site: &Site, cases: &[Case], runtimes: &[Runtime], workers: usize) -> Vec<Row> {
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcomes = runtimes.iter().map(|runtime| site.run(case, runtime)).collect();
                    let row = Row { case: case.clone(), outcomes };
                    rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let place = |row: &Row| cases.iter().position(|case| case.name == row.case.name);
    rows.sort_by_key(place);
    rows
}

/// What is wrong with a row of pintle alone: an unexpected difference, or an expected one that has gone.
pub fn surprise(row: &Row, at: usize) -> Option<String> {
    let name = &row.case.name;
    match (row.outcomes.get(at), row.case.notes.get("pintle")) {
        (Some(Outcome::Differs(what)), None) => Some(format!("{name} ({}): {what}", row.case.says)),
        (Some(Outcome::Holds), Some(_)) => {
            Some(format!("{name}: holds, though its notes say that pintle differs: remove the note"))
        }
        _ => None,
    }
}
