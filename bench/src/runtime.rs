//! `pintle-bench runtime`: what containers cost with runc, crun and pintle-runc, and how far each is from the floor.
//!
//! Everything is interleaved: each round does the same with every runtime, in an order that rotates, so that a busy
//! moment of the machine hits all of them. `make bench-runtime` runs it in fresh namespaces.

mod bundle;
mod cost;
mod cycle;
mod many;
mod samples;
mod site;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use samples::Samples;
use site::Site;

/// What to run and how often.
#[derive(Args, Debug)]
pub struct Arguments {
    /// pintle-runc
    #[arg(long, default_value = "bin/pintle-runc")]
    pintle: PathBuf,
    /// Another pintle-runc to compare with, while working on it
    #[arg(long)]
    other: Option<PathBuf>,
    /// Where `cargo xtask peers` put Debian's packages; without it, pintle-runc runs alone
    #[arg(long)]
    peers: Option<PathBuf>,
    /// Life cycles per runtime
    #[arg(long, default_value_t = 50)]
    rounds: usize,
    /// Quiet before each sample, in milliseconds
    #[arg(long, default_value_t = 50)]
    quiet_ms: u64,
    /// Only these parts: quiet, back-to-back, seccomp, many, cost
    #[arg(long, value_delimiter = ',', default_value = "quiet,back-to-back,seccomp,many,cost")]
    parts: Vec<String>,
    /// Set by the program itself: orphans are being reaped
    #[arg(long, hide = true)]
    reaped: Option<PathBuf>,
}

const FLOOR: &str = include_str!("../floor.c");

/// Runs everything and prints Markdown.
pub fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.reaped {
        Some(work) => {
            let _roots = site::Tmpfs::mount(&work.join("roots"))?;
            measure(arguments, &Site::new(arguments, work)?)
        }
        None => below_a_reaper(),
    }
}

/// Compiles the floor and starts this program again under it: a container's first process, orphaned once `create` has
/// ended, is then reaped at once, as init would, and no runtime waits for a zombie.
fn below_a_reaper() -> Result<()> {
    let work = tempfile::tempdir()?;
    let (source, floor) = (work.path().join("floor.c"), work.path().join("floor"));
    std::fs::write(&source, FLOOR)?;
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-static", "-o"]).arg(&floor).arg(&source);
    ensure!(compiler.status().context("run cc (package gcc)")?.success(), "cannot compile bench/floor.c");
    let mut again = Command::new(&floor);
    again.arg("reap").arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    let status = again.arg("--reaped").arg(work.path()).status().context("run the floor")?;
    ensure!(status.success(), "the measurement ended with {status}");
    Ok(())
}

fn measure(arguments: &Arguments, site: &Site) -> Result<()> {
    let wants = |part: &str| arguments.parts.iter().any(|one| one == part);
    for runtime in &site.runtimes {
        println!("- {}: {}", runtime.name, runtime.version()?);
    }
    let quiet = Duration::from_millis(arguments.quiet_ms);
    if wants("quiet") {
        let title = format!("{} ms of quiet before each sample", arguments.quiet_ms);
        rounds(arguments, site, &title, bundle::Seccomp::None, quiet)?;
    }
    if wants("back-to-back") {
        rounds(arguments, site, "back to back", bundle::Seccomp::None, Duration::ZERO)?;
    }
    if wants("seccomp") {
        let title = format!("{} ms of quiet, with the containers' usual seccomp profile", arguments.quiet_ms);
        rounds(arguments, site, &title, bundle::Seccomp::Usual, quiet)?;
        rounds(arguments, site, "back to back, with that profile", bundle::Seccomp::Usual, Duration::ZERO)?;
    }
    if wants("many") {
        many::report(site, 50, 5)?;
        many::report(site, 200, 3)?;
    }
    if wants("cost") {
        cost::report(site)?;
    }
    Ok(())
}

fn rounds(arguments: &Arguments, site: &Site, title: &str, seccomp: bundle::Seccomp, quiet: Duration) -> Result<()> {
    let mut samples = Samples::default();
    let host = cycle::Host::new(site, seccomp)?;
    // One round unseen: caches are warm for everybody.
    for round in 0..=arguments.rounds {
        let mut kept = Samples::default();
        for at in 0..=site.runtimes.len() {
            let turn = (at + round) % (site.runtimes.len() + 1);
            match site.runtimes.get(turn) {
                Some(runtime) => cycle::one(site, runtime, seccomp, quiet, &mut kept)?,
                None => host.floor(site, quiet, &mut kept)?,
            }
        }
        if round > 0 {
            samples.extend(kept);
        }
    }
    println!("\n### {title}, {} rounds\n", arguments.rounds);
    samples.print(&site.names());
    Ok(())
}
