//! `pintle-bench cluster`: what a whole cluster costs, seen from outside: times by the API, memory and CPU by /proc.
//!
//! Starts its own cluster with `pintle up` in the namespaces it was started in (`make bench-cluster` makes fresh ones),
//! with directories of its own, and takes it down again. It measures no peer: no other distribution can be had offline;
//! docs/benchmarks.md sets the published figures of others beside ours.

mod processes;
mod workload;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use workload::Workload;

/// What to run and how often.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Directory with `pintle` and `pintle-runc`.
    #[arg(long, default_value = "bin")]
    bin: PathBuf,
    /// Fresh clusters started for the time to a Ready node.
    #[arg(long, default_value_t = 5)]
    starts: u32,
    /// Pods created one after the other for the time to Running.
    #[arg(long, default_value_t = 100)]
    pods: u32,
    /// Pods that run while memory and idle CPU are taken.
    #[arg(long, default_value_t = 30)]
    resident: i32,
    /// How long idle CPU is watched, in seconds.
    #[arg(long, default_value_t = 60)]
    idle_s: u64,
}

struct Site<'a> {
    arguments: &'a Arguments,
    root: &'a Path,
}

impl Site<'_> {
    fn state_dir(&self) -> PathBuf {
        self.root.join("state")
    }

    fn pintle(&self, command: &[&str], more: &[&str]) -> Result<()> {
        let program = self.arguments.bin.join("pintle");
        let output = Command::new(&program)
            .args(command)
            .args(["--state-dir".as_ref(), self.state_dir().as_os_str()])
            .args(more)
            .output()
            .with_context(|| format!("run {}", program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "pintle {command:?} ended with {}:\n{said}", output.status);
        Ok(())
    }

    fn up(&self) -> Result<Duration> {
        let run_dir = self.root.join("run").display().to_string();
        let logs = self.root.join("pod-logs").display().to_string();
        let start = Instant::now();
        self.pintle(&["up"], &["--run-dir", &run_dir, "--pod-logs-dir", &logs, "--cgroup-root", "/pintle-bench"])?;
        Ok(start.elapsed())
    }

    fn down(&self, more: &[&str]) -> Result<()> {
        let run_dir = self.root.join("run").display().to_string();
        self.pintle(&["down", "--run-dir", &run_dir], more)
    }

    fn build_image(&self) {
        let mut build = Command::new(self.arguments.bin.join("pintle"));
        build.args(["image", "build", "--state-dir"]).arg(self.state_dir());
        pintle_testkit::build_busybox(build);
    }
}

/// Runs everything and prints a Markdown table.
pub fn run(arguments: &Arguments) -> Result<()> {
    let root = tempfile::tempdir()?;
    let site = Site { arguments, root: root.path() };
    println!("| figure | median | p99 | runs |\n|---|---|---|---|");
    sizes(arguments)?;

    let mut starts = Vec::new();
    for _ in 0..arguments.starts {
        starts.push(site.up()?);
        site.down(&["--purge"])?;
    }
    row("`pintle up`, nothing there before, to a Ready node", &mut starts);

    site.build_image();
    site.up()?;
    let result = running(&site);
    // The cluster goes whatever came of the measurement; the measurement's error is the one to report.
    let down = site.down(&["--purge"]);
    result.and(down)
}

fn sizes(arguments: &Arguments) -> Result<()> {
    for name in ["pintle", "pintle-runc"] {
        let bytes = std::fs::metadata(arguments.bin.join(name)).with_context(|| format!("look at {name}"))?.len();
        println!("| size of `{name}` | {:.2} MiB | | |", mib(bytes));
    }
    Ok(())
}

fn running(site: &Site<'_>) -> Result<()> {
    let kubeconfig = site.state_dir().join("kubeconfig");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = pintle_client::Client::from_kubeconfig(&kubeconfig)?;
        let workload = Workload::new(&client, pintle_testkit::BUSYBOX_IMAGE).await?;

        let mut waits = Vec::new();
        for run in 0..20 {
            waits.push(workload.deployment(&format!("three-{run}"), 3).await?);
            workload.clear().await?;
        }
        row("Deployment of 3 applied, to 3 Ready pods (image present, readiness probe)", &mut waits);

        let mut running = Vec::new();
        for run in 0..site.arguments.pods {
            running.push(workload.pod(&format!("one-{run}")).await?);
        }
        row("one pod created, to Running (image present)", &mut running);
        workload.clear().await?;

        settle().await;
        processes::report(site.root, "no pods")?;
        idle(site, "no pods").await?;
        workload.deployment("resident", site.arguments.resident).await?;
        settle().await;
        let label = format!("{} pods", site.arguments.resident);
        processes::report(site.root, &label)?;
        idle(site, &label).await
    })
}

async fn idle(site: &Site<'_>, label: &str) -> Result<()> {
    let window = Duration::from_secs(site.arguments.idle_s);
    let before = processes::cpu(site.root)?;
    tokio::time::sleep(window).await;
    let used = processes::cpu(site.root)?.saturating_sub(before);
    let percent = 100.0 * used.as_secs_f64() / window.as_secs_f64();
    println!("| idle CPU of all processes over {} s, {label} | {percent:.2} % of a core | | 1 |", window.as_secs());
    Ok(())
}

/// What follows a change (leases, statuses, freed memory) is over after this.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(12)).await;
}

fn row(what: &str, runs: &mut [Duration]) {
    runs.sort_unstable();
    let at = |share: f64| {
        let index = ((runs.len() as f64 * share).ceil() as usize).clamp(1, runs.len()) - 1;
        runs[index].as_secs_f64() * 1e3
    };
    println!("| {what} | {:.1} ms | {:.1} ms | {} |", at(0.5), at(0.99), runs.len());
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
