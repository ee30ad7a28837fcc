//! Many containers up, then down, by eight workers.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::bundle;
use super::samples::{ms, share};
use super::site::{Runtime, Site, timed};

const WORKERS: usize = 8;

/// Prints one table: create and start of all, then `delete --force` of all.
pub fn report(site: &Site, count: usize, rounds: usize) -> Result<()> {
    let bundles: Vec<PathBuf> = (0..count)
        .map(|n| bundle::make(&site.work, &format!("many-{n}"), &site.cgroup, &["/bin/sleep", "1000"], None))
        .collect::<Result<_>>()?;
    let mut times: Vec<(Vec<Duration>, Vec<Duration>)> = vec![Default::default(); site.runtimes.len()];
    for round in 0..rounds {
        for at in 0..site.runtimes.len() {
            let turn = (at + round) % site.runtimes.len();
            let runtime = &site.runtimes[turn];
            std::thread::sleep(Duration::from_millis(200));
            times[turn].0.push(all(count, |n| up(runtime, n, &bundles[n]))?);
            std::thread::sleep(Duration::from_millis(200));
            times[turn].1.push(all(count, |n| down(runtime, n))?);
        }
    }
    println!(
        "\n### {count} containers with {WORKERS} workers, {rounds} rounds\n\nMilliseconds for all: median (min).\n"
    );
    println!("| | up: create, start | down: delete --force |\n|---|---|---|");
    for (runtime, (up, down)) in site.runtimes.iter().zip(&mut times) {
        let [up, down] = [up, down].map(|times| {
            times.sort_unstable();
            format!("{:.0} ({:.0})", ms(share(times, 0.5)), ms(share(times, 0.0)))
        });
        println!("| {} | {up} | {down} |", runtime.name);
    }
    Ok(())
}

fn up(runtime: &Runtime, n: usize, bundle: &std::path::Path) -> Result<()> {
    let (id, bundle) = (format!("many-{n}"), bundle.display().to_string());
    timed(runtime.command(&["create", "--bundle", &bundle, &id]))
        .with_context(|| format!("{} create", runtime.name))?;
    timed(runtime.command(&["start", &id])).with_context(|| format!("{} start", runtime.name)).map(drop)
}

fn down(runtime: &Runtime, n: usize) -> Result<()> {
    let id = format!("many-{n}");
    timed(runtime.command(&["delete", "--force", &id])).with_context(|| format!("{} delete", runtime.name)).map(drop)
}

/// Runs `0..count` by the workers; gives the time until the last has ended.
fn all(count: usize, one: impl Fn(usize) -> Result<()> + Sync) -> Result<Duration> {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    let work = || -> Result<()> {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count {
                return Ok(());
            }
            one(n)?;
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(start.elapsed())
}
