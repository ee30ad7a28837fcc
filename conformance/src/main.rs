//! `pintle-conformance`: runs everything and writes docs/conformance.md. `make conformance-runtime` calls it in fresh
//! mount and network namespaces.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use pintle_conformance::callers::CALLERS;
use pintle_conformance::runner::{Outcome, Runtime, Site};
use pintle_conformance::{Row, case, crowd, report, run, surprise};

/// Runs the same cases against several OCI runtimes
#[derive(Parser, Debug)]
struct Arguments {
    /// pintle-runc
    #[arg(long, default_value = "bin/pintle-runc")]
    pintle: PathBuf,
    /// Where `cargo xtask peers` put Debian's packages; without it, pintle-runc runs alone
    #[arg(long)]
    peers: Option<PathBuf>,
    /// The report to write
    #[arg(long)]
    report: Option<PathBuf>,
    /// Only cases and callers whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Containers that are created, used and deleted by 20 workers
    #[arg(long, default_value_t = 1000)]
    crowd: usize,
    /// How often each case runs; more rounds find what happens rarely
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Cases at a time
    #[arg(long, default_value_t = 4)]
    workers: usize,
}

const CROWD_WORKERS: usize = 20;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtimes = runtimes(&arguments)?;
    let work = tempfile::tempdir()?;
    let site = Site::new(work.path())?;
    let (mut sections, mut surprises) = (Vec::new(), Vec::new());
    let ours = runtimes.len() - 1;
    for (name, mut cases) in case::all()? {
        cases.retain(|case| case.name.contains(&arguments.only));
        let mut rows = run(&site, &cases, &runtimes, arguments.workers);
        for _ in 1..arguments.rounds {
            keep_differences(&mut rows, run(&site, &cases, &runtimes, arguments.workers));
        }
        for row in &rows {
            println!("{:<44} {}", row.case.name, row.outcomes.iter().map(short).collect::<Vec<_>>().join("  "));
        }
        surprises.extend(rows.iter().filter_map(|row| surprise(row, ours)));
        sections.push((name, rows));
    }
    let more = match &arguments.peers {
        Some(peers) => more(&arguments, work.path(), peers, &runtimes, &mut surprises)?,
        _ => String::new(),
    };
    if let Some(path) = &arguments.report {
        let versions = runtimes.iter().map(version).collect::<Result<Vec<_>>>()?;
        let v2 = ("Conformance on cgroup v2", "conformance-runtime-v2");
        let (title, command) = if site.is_v2() { v2 } else { ("Conformance, side by side", "conformance-runtime") };
        let place = report::Place { title, command, host: &host(&site)? };
        let text = report::document(&place, &runtimes, &versions, &sections, &more);
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    for surprise in &surprises {
        eprintln!("pintle: {surprise}");
    }
    Ok(if surprises.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was seen once was seen.
fn keep_differences(rows: &mut [Row], again: Vec<Row>) {
    for (row, again) in rows.iter_mut().zip(again) {
        for (outcome, again) in row.outcomes.iter_mut().zip(again.outcomes) {
            if *outcome == Outcome::Holds {
                *outcome = again;
            }
        }
    }
}

/// Real callers, and a crowd of containers.
fn more(
    arguments: &Arguments,
    work: &Path,
    peers: &Path,
    runtimes: &[Runtime],
    surprises: &mut Vec<String>,
) -> Result<String> {
    let ours = runtimes.last().context("no runtime")?;
    let peers = std::path::absolute(peers)?;
    let mut lives = Vec::new();
    for caller in CALLERS.iter().filter(|caller| caller.name.contains(&arguments.only)) {
        let steps = caller.run(work, &peers, ours)?;
        for step in &steps {
            println!("{}: {:<44} {}", caller.name, step.what, step.seen.as_deref().unwrap_or("yes"));
        }
        let failed = steps.iter().filter_map(|step| Some((&step.what, step.seen.as_ref()?)));
        surprises.extend(failed.map(|(what, seen)| format!("{}: {what}: {seen}", caller.name)));
        lives.push((caller.name, caller.version(&peers)?, steps));
    }
    if !arguments.only.is_empty() {
        return Ok(report::callers(&lives));
    }
    let outcome = crowd::run(ours, work, arguments.crowd, CROWD_WORKERS)?;
    println!("{} containers in {CROWD_WORKERS} workers: {:.1} s", arguments.crowd, outcome.took.as_secs_f64());
    surprises.extend(outcome.left.iter().map(|left| format!("{} containers left {left}", arguments.crowd)));
    Ok(report::callers(&lives) + &report::crowd(arguments.crowd, CROWD_WORKERS, &outcome))
}

fn short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Holds => "yes".to_owned(),
        Outcome::NotHere => "-".to_owned(),
        Outcome::Differs(what) => format!("NO({what})"),
    }
}

/// The peers first, pintle last.
fn runtimes(arguments: &Arguments) -> Result<Vec<Runtime>> {
    let mut all = Vec::new();
    if let Some(root) = &arguments.peers {
        let root = std::path::absolute(root)?;
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        for name in ["runc", "crun"] {
            let places = [root.join("usr/sbin"), root.join("usr/bin"), "/usr/sbin".into(), "/usr/bin".into()];
            let program = places.iter().map(|place| place.join(name)).find(|program| program.is_file());
            let program = program.with_context(|| format!("{name} is missing: run `cargo xtask peers`"))?;
            all.push(Runtime { name: name.to_owned(), program, libraries: Some(libraries.clone()) });
        }
    }
    let program = std::path::absolute(&arguments.pintle)?;
    ensure!(program.is_file(), "{} is missing: run `make build`", program.display());
    all.push(Runtime { name: "pintle".to_owned(), program, libraries: None });
    Ok(all)
}

fn version(runtime: &Runtime) -> Result<String> {
    let mut command = Command::new(&runtime.program);
    command.arg("--version");
    if let Some(libraries) = &runtime.libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    let output = command.output().with_context(|| format!("run {}", runtime.program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("").to_owned())
}

fn host(site: &Site) -> Result<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel: Vec<&str> = kernel.trim().split(['.', '-']).take(2).collect();
    let groups = if site.is_v2() { "cgroup v2" } else { "cgroup v1 controllers, each mounted" };
    let distribution = std::fs::read_to_string(Path::new("/etc/os-release")).unwrap_or_default();
    let pretty = distribution.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
    Ok(format!("{}, kernel {}, {groups}", pretty.trim_matches('"'), kernel.join(".")))
}
