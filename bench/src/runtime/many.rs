//! Many containers up, then down, by eight workers: how long it takes, and how much of the processors that is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::bundle;
use super::samples::{ms, share};
use super::site::{Runtime, Site, timed};

const WORKERS: usize = 8;

/// Whoever makes containers; each step by its number.
struct Maker<'a> {
    name: &'a str,
    up: Box<dyn Fn(usize) -> Result<()> + Sync + 'a>,
    down: Box<dyn Fn(usize) -> Result<()> + Sync + 'a>,
}

/// What all of them took.
#[derive(Debug, Default)]
struct Taken {
    elapsed: Vec<Duration>,
    busy: Vec<Duration>,
}

/// Prints one table: create and start of all, then `delete --force` of all.
pub fn report(site: &Site, count: usize, rounds: usize) -> Result<()> {
    let bundles: Vec<PathBuf> = (0..count)
        .map(|n| bundle::make(&site.work, &format!("many-{n}"), &site.cgroup, &["/bin/sleep", "1000"], None))
        .collect::<Result<_>>()?;
    let processor = Processor::new(&site.cgroup)?;
    let mut makers: Vec<Maker<'_>> = site.runtimes.iter().map(|one| Maker::runtime(one, &bundles)).collect();
    makers.push(Maker::floor(site));
    let mut times: Vec<[Taken; 2]> = makers.iter().map(|_| Default::default()).collect();
    // One round unseen: caches are warm for everybody.
    for round in 0..=rounds {
        for at in 0..makers.len() {
            let turn = (at + round) % makers.len();
            for (step, taken) in [&makers[turn].up, &makers[turn].down].into_iter().zip(&mut times[turn]) {
                std::thread::sleep(Duration::from_millis(200));
                let before = processor.used()?;
                let elapsed = all(count, step).with_context(|| makers[turn].name.to_owned())?;
                if round > 0 {
                    taken.elapsed.push(elapsed);
                    taken.busy.push(processor.used()?.saturating_sub(before));
                }
            }
        }
    }
    println!(
        "\n### {count} containers with {WORKERS} workers, {rounds} rounds\n\nMilliseconds for all: median (min); processor time of all processors.\n"
    );
    println!("| | up: create, start | processor | down: delete --force | processor |\n|---|---|---|---|---|");
    for (maker, [up, down]) in makers.iter().zip(&mut times) {
        println!("| {} | {} | {} |", maker.name, up.cells(), down.cells());
    }
    Ok(())
}

impl<'a> Maker<'a> {
    fn runtime(runtime: &'a Runtime, bundles: &'a [PathBuf]) -> Maker<'a> {
        let id = |n: usize| format!("many-{n}");
        let up = move |n: usize| {
            timed(runtime.command(&["create", "--bundle", &bundles[n].display().to_string(), &id(n)]))?;
            timed(runtime.command(&["start", &id(n)])).map(drop)
        };
        let down = move |n: usize| timed(runtime.command(&["delete", "--force", &id(n)])).map(drop);
        Maker { name: runtime.name, up: Box::new(up), down: Box::new(down) }
    }

    fn floor(site: &'a Site) -> Maker<'a> {
        let call = |arguments: &[&str]| {
            let mut command = Command::new(site.floor());
            command.args(arguments).env_clear().stdin(Stdio::null());
            timed(command).map(drop)
        };
        let cgroup = |n: usize| format!("{}/many-floor-{n}", site.cgroup);
        let up = move |n: usize| {
            let [rootfs, fifo] =
                ["rootfs".to_owned(), format!("roots/fifo-{n}")].map(|name| site.work.join(name).display().to_string());
            call(&["create", &rootfs, &cgroup(n), &fifo, "/bin/sleep", "1000"])?;
            call(&["start", &fifo])
        };
        let down = move |n: usize| call(&["delete", &cgroup(n)]);
        Maker { name: "floor", up: Box::new(up), down: Box::new(down) }
    }
}

impl Taken {
    fn cells(&mut self) -> String {
        let [elapsed, busy] = [&mut self.elapsed, &mut self.busy].map(|times| {
            times.sort_unstable();
            (ms(share(times, 0.5)), ms(share(times, 0.0)))
        });
        format!("{:.0} ({:.0}) | {:.0}", elapsed.0, elapsed.1, busy.0)
    }
}

/// What this program, everything it starts and its containers have used of the processors, as the kernel counts it (cpuacct,
/// cgroup v1): this program is in the parent of the containers' groups while this lives.
struct Processor(Option<PathBuf>);

const CPUACCT: &str = "/sys/fs/cgroup/cpuacct";

impl Processor {
    fn new(cgroup: &str) -> Result<Processor> {
        if !Path::new(CPUACCT).is_dir() {
            return Ok(Processor(None));
        }
        let group = Path::new(CPUACCT).join(cgroup.trim_start_matches('/'));
        fs::create_dir_all(&group)?;
        fs::write(group.join("cgroup.procs"), "0").context("enter the containers' parent cgroup")?;
        Ok(Processor(Some(group)))
    }

    /// Nothing where it is not counted.
    fn used(&self) -> Result<Duration> {
        let Some(group) = &self.0 else { return Ok(Duration::ZERO) };
        let text = fs::read_to_string(group.join("cpuacct.usage"))?;
        Ok(Duration::from_nanos(text.trim().parse().context("read cpuacct.usage")?))
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        if self.0.is_some()
            && let Err(error) = fs::write(Path::new(CPUACCT).join("cgroup.procs"), "0")
        {
            eprintln!("warning: cannot leave the containers' parent cgroup: {error}");
        }
    }
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
