//! docs/conformance.md, from the rows.

use std::fmt::Write as _;

use crate::Row;
use crate::callers::Step;
use crate::case::Level;
use crate::runner::{Outcome, Runtime};

/// A section's title and rows.
pub type Section<'a> = (&'a str, Vec<Row>);

/// Where the cases ran.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The document's.
    pub title: &'a str,
    /// The target of make that writes it.
    pub command: &'a str,
    /// Distribution, kernel, cgroups.
    pub host: &'a str,
}

/// The whole document.
pub fn document(
    site: &Place<'_>,
    runtimes: &[Runtime],
    versions: &[String],
    sections: &[Section<'_>],
    more: &str,
) -> String {
    let Place { title, command, host } = site;
    let mut text = format!("# {title}\n\nWritten by `make {command}`; do not edit. ");
    text.push_str(
        "The same cases (`conformance/cases/*.yaml`: one sentence of the OCI runtime specification, or one behaviour that \
         callers of runc rely on, each) run against ",
    );
    text.push_str(match runtimes {
        [_ours] => "pintle-runc",
        _ => "Debian's runc and crun and against pintle-runc",
    });
    text.push_str(". A case looks at effects: from inside the container, or through the kernel.\n\n");
    let _infallible = writeln!(text, "Host: {host}.\n\n| runtime | version |\n|---|---|");
    for (runtime, version) in runtimes.iter().zip(versions) {
        let _infallible = writeln!(text, "| {} | {version} |", runtime.name);
    }
    counts(&mut text, runtimes, sections);
    differences(&mut text, runtimes, sections);
    text.push_str(more);
    everything(&mut text, runtimes, sections);
    text
}

/// Life cycles through real callers: name, version, steps.
pub fn callers(lives: &[(&str, String, Vec<Step>)]) -> String {
    let mut text = String::from(
        "\n## Real callers\n\nPrograms of Debian take a container through its life with pintle-runc as their runtime.\n",
    );
    for (name, version, steps) in lives {
        let held = steps.iter().filter(|step| step.seen.is_none()).count();
        let _infallible =
            writeln!(text, "\n### {name}\n\n{version}: {held} of {} steps.\n\n| step | |\n|---|---|", steps.len());
        for step in steps {
            let seen = step.seen.as_ref().map_or("yes".to_owned(), |seen| format!("**no**: {}", cell(&tidy(seen))));
            let _infallible = writeln!(text, "| {} | {seen} |", cell(&step.what));
        }
    }
    text
}

/// Many containers at once. The time is left out: it would make every run of the report differ.
pub fn crowd(count: usize, workers: usize, outcome: &crate::crowd::Outcome) -> String {
    let left = if outcome.left.is_empty() { "nothing".to_owned() } else { outcome.left.join("; ") };
    format!(
        "\n## A crowd\n\n{count} containers, each created, looked at, started, entered by exec, killed and deleted, by {workers} \
         workers at once. Left behind of cgroups, mounts, namespaces, processes and state: {}.\n",
        cell(&left)
    )
}

fn header(text: &mut String, first: &str, runtimes: &[Runtime], last: &str) {
    let names: Vec<&str> = runtimes.iter().map(|runtime| runtime.name.as_str()).collect();
    let rule = "---|".repeat(names.len());
    let _infallible = writeln!(text, "| {first} | {} |{last}\n|---|{rule}{}", names.join(" | "), rule_of(first, last));
}

/// One more column per `|` in the first and last header cells.
fn rule_of(first: &str, last: &str) -> String {
    "---|".repeat(first.matches('|').count() + last.matches('|').count())
}

fn counts(text: &mut String, runtimes: &[Runtime], sections: &[Section<'_>]) {
    text.push_str("\n## How many hold\n\n");
    header(text, "section | cases", runtimes, "");
    let line = |text: &mut String, name: &str, rows: &[&Row]| {
        let hold = |at: usize| rows.iter().filter(|row| row.outcomes.get(at) == Some(&Outcome::Holds)).count();
        let cells: Vec<String> = (0..runtimes.len()).map(|at| hold(at).to_string()).collect();
        let _infallible = writeln!(text, "| {name} | {} | {} |", rows.len(), cells.join(" | "));
    };
    let here = |rows: &'_ [Row]| -> Vec<usize> {
        (0..rows.len()).filter(|at| rows[*at].outcomes.iter().any(|one| *one != Outcome::NotHere)).collect()
    };
    let mut all: Vec<&Row> = Vec::new();
    for (name, rows) in sections {
        let these: Vec<&Row> = here(rows).into_iter().map(|at| &rows[at]).collect();
        line(text, name, &these);
        all.extend(these);
    }
    line(text, "all", &all);
}

fn differences(text: &mut String, runtimes: &[Runtime], sections: &[Section<'_>]) {
    text.push_str("\n## Differences\n\nCases that do not hold for every runtime, and what was seen instead.\n\n");
    let differs = |row: &&Row| row.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Differs(_)));
    let rows: Vec<&Row> = sections.iter().flat_map(|(_, rows)| rows).filter(differs).collect();
    if rows.is_empty() {
        text.push_str("None.\n");
        return;
    }
    header(text, "case | sentence", runtimes, " note |");
    for row in rows {
        let cells: Vec<String> = row.outcomes.iter().map(seen).collect();
        let notes: Vec<String> = row.case.notes.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        let _infallible = writeln!(
            text,
            "| {} | {} ({}) | {} | {} |",
            row.case.name,
            cell(&row.case.says),
            cell(&row.case.spec),
            cells.join(" | "),
            cell(&notes.join("; "))
        );
    }
}

fn everything(text: &mut String, runtimes: &[Runtime], sections: &[Section<'_>]) {
    text.push_str("\n## Every case\n");
    for (name, rows) in sections {
        let _infallible = writeln!(text, "\n### {name}\n");
        header(text, "sentence | from", runtimes, "");
        for row in rows {
            let cells: Vec<&str> = row.outcomes.iter().map(mark).collect();
            let level = match row.case.level {
                Level::Must => "MUST",
                Level::Should => "SHOULD",
                Level::Caller => "callers",
            };
            let _infallible = writeln!(
                text,
                "| {} | {}, {level} | {} |",
                cell(&row.case.says),
                cell(&row.case.spec),
                cells.join(" | ")
            );
        }
    }
}

fn mark(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Holds => "yes",
        Outcome::Differs(_) => "**no**",
        Outcome::NotHere => "–",
    }
}

fn seen(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Differs(what) => cell(&tidy(what)),
        other => mark(other).to_owned(),
    }
}

/// Times and temporary directories would make every run of the report differ.
fn tidy(what: &str) -> String {
    let words = what.split(' ').map(|word| {
        if word.contains("time=\"") || word.contains("-pintle-conformance") {
            return "…".to_owned();
        }
        match (word.find("/.tmp"), word.find("/.cache/peers")) {
            (Some(at), _) => format!("{}…", &word[..at]),
            (None, Some(at)) => format!("…{}", &word[at..]),
            (None, None) => word.to_owned(),
        }
    });
    let joined = words.collect::<Vec<_>>().join(" ");
    joined.chars().take(240).collect()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
