//! `pintle-conformance`: runs everything and writes docs/conformance.md. `make conformance-runtime` calls it in fresh
//! mount and network namespaces.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use pintle_conformance::runner::{Outcome, Runtime, Site};
use pintle_conformance::{case, report, run, surprise};

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
    /// Only cases whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Cases at a time
    #[arg(long, default_value_t = 4)]
    workers: usize,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtimes = runtimes(&arguments)?;
    let work = tempfile::tempdir()?;
    let site = Site::new(work.path())?;
    let (mut sections, mut surprises) = (Vec::new(), Vec::new());
    let ours = runtimes.len() - 1;
    for (name, mut cases) in case::all()? {
        cases.retain(|case| case.name.contains(&arguments.only));
        let rows = run(&site, &cases, &runtimes, arguments.workers);
        for row in &rows {
            println!("{:<44} {}", row.case.name, row.outcomes.iter().map(short).collect::<Vec<_>>().join("  "));
        }
        surprises.extend(rows.iter().filter_map(|row| surprise(row, ours)));
        sections.push((name, rows));
    }
    if let Some(path) = &arguments.report {
        let versions = runtimes.iter().map(version).collect::<Result<Vec<_>>>()?;
        let text = report::document(&host(&site)?, &runtimes, &versions, &sections, "");
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    for surprise in &surprises {
        eprintln!("pintle: {surprise}");
    }
    Ok(if surprises.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
