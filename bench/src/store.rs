//! `pintle-bench store`: embedded databases as the control plane's memory.
//!
//! Every candidate gets the same work: 1 KiB values through one group-commit thread that takes all waiting puts into one
//! durable transaction, then a list of 10,000 keys and an opening with 20,000. Each runs in a process of its own, so
//! that its memory is its own. The store that ships (`pintle-store`) runs beside them through its own interface.
//!
//! LMDB (`heed`) is not among them: opening it is `unsafe` for the caller, which this repository allows in `sys` only.

#[cfg(feature = "candidate-fjall")]
mod fjall;
mod ours;
#[cfg(feature = "candidate-redb")]
mod redb;
#[cfg(feature = "candidate-sqlite")]
mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

const VALUE_BYTES: usize = 1024;
const BATCH_MAX: usize = 1024;
const WRITERS: [usize; 3] = [1, 8, 64];
const KEYS: usize = 20_000;
const LISTED: usize = 10_000;

/// What to measure.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Where the databases are made; a directory on the disk that counts
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Seconds of writing per number of writers
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Measure this candidate in this process and print JSON
    #[arg(long, hide = true)]
    only: Option<String>,
}

/// An embedded database, as the group-commit thread uses it.
pub trait Candidate: Send {
    /// Writes all of it durably, or fails.
    fn commit(&mut self, batch: &[(String, Vec<u8>)]) -> Result<()>;
    /// Reads keys and values below a prefix, in order. Gives the sum of bytes, so that nothing can be left unread.
    fn list(&self, prefix: &str, limit: usize) -> Result<usize>;
}

type Open = fn(&Path) -> Result<Box<dyn Candidate>>;

const CANDIDATES: &[(&str, Open)] = &[
    #[cfg(feature = "candidate-redb")]
    ("redb 4", redb::open),
    #[cfg(feature = "candidate-fjall")]
    ("fjall 3", fjall::open),
    #[cfg(feature = "candidate-sqlite")]
    ("SQLite 3 (WAL, FULL)", sqlite::open),
];

const OURS: &str = "pintle-store";

#[derive(Debug, Serialize, Deserialize)]
struct Figures {
    /// Per number of writers: puts a second, median and 99th percentile of one put in microseconds.
    puts: Vec<(usize, f64, u64, u64)>,
    list_ms: f64,
    open_ms: f64,
    rss_kib: u64,
    peak_kib: u64,
    disk_kib: u64,
}

/// Measures and prints Markdown.
pub fn run(arguments: &Arguments) -> Result<()> {
    if let Some(only) = &arguments.only {
        println!("{}", serde_json::to_string(&measure(only, arguments)?)?);
        return Ok(());
    }
    if CANDIDATES.is_empty() {
        eprintln!("only {OURS} is measured; build with --features store-candidates for the others");
    }
    println!(
        "| store | writers | puts/s | p50 µs | p99 µs | list 10k ms | open 20k ms | RSS MiB | peak MiB | disk MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for name in CANDIDATES.iter().map(|(name, _)| *name).chain([OURS]) {
        let figures = measure_in_child(name, arguments).with_context(|| format!("measure {name}"))?;
        print_rows(name, &figures);
    }
    Ok(())
}

fn measure_in_child(name: &str, arguments: &Arguments) -> Result<Figures> {
    let output = std::process::Command::new(std::env::current_exe()?)
        .args(["store", "--only", name, "--seconds", &arguments.seconds.to_string(), "--dir"])
        .arg(&arguments.dir)
        .output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn print_rows(name: &str, figures: &Figures) {
    for (number, (writers, puts, p50, p99)) in figures.puts.iter().enumerate() {
        print!("| {} | {writers} | {puts:.0} | {p50} | {p99} |", if number == 0 { name } else { "" });
        if number == 0 {
            let mib = |kib: u64| kib as f64 / 1024.0;
            println!(
                " {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
                figures.list_ms,
                figures.open_ms,
                mib(figures.rss_kib),
                mib(figures.peak_kib),
                mib(figures.disk_kib)
            );
        } else {
            println!(" | | | | |");
        }
    }
}

fn measure(name: &str, arguments: &Arguments) -> Result<Figures> {
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let duration = Duration::from_secs(arguments.seconds);
    let mut puts = Vec::new();
    for writers in WRITERS {
        let place = dir.path().join(format!("puts-{writers}"));
        std::fs::create_dir(&place)?;
        puts.push(if name == OURS {
            summary(writers, ours::puts(&place, writers, duration)?, duration)
        } else {
            summary(writers, group_commit(find(name)?(&place)?, writers, duration)?, duration)
        });
    }
    let place = dir.path().join("keys");
    std::fs::create_dir(&place)?;
    let (open, list) = if name == OURS { ours::reads(&place)? } else { reads(find(name)?, &place)? };
    Ok(Figures {
        puts,
        list_ms: list.as_secs_f64() * 1000.0,
        open_ms: open.as_secs_f64() * 1000.0,
        rss_kib: memory("VmRSS:")?,
        peak_kib: memory("VmHWM:")?,
        disk_kib: disk_kib(&place)?,
    })
}

fn find(name: &str) -> Result<Open> {
    let found = CANDIDATES.iter().find(|(known, _)| *known == name);
    found.map(|(_, open)| *open).with_context(|| format!("no candidate is called {name:?}"))
}

/// One put on its way: answered when it is durable.
struct Put {
    key: String,
    value: Vec<u8>,
    done: SyncSender<bool>,
}

/// Runs the writers against one committing thread. Gives the latency of every put.
fn group_commit(mut candidate: Box<dyn Candidate>, writers: usize, duration: Duration) -> Result<Vec<Duration>> {
    let (send, receive) = channel::<Put>();
    let committing = std::thread::spawn(move || commit_all(candidate.as_mut(), &receive));
    let latencies = write_all(writers, duration, || {
        let (send, (done, wait)) = (send.clone(), sync_channel(1));
        move |key| put(&send, &done, &wait, key)
    })?;
    drop(send);
    committing.join().map_err(|_| anyhow::anyhow!("the committing thread died"))??;
    Ok(latencies)
}

fn put(send: &Sender<Put>, done: &SyncSender<bool>, wait: &Receiver<bool>, key: String) -> Result<()> {
    send.send(Put { key, value: value(), done: done.clone() }).context("the committing thread ended")?;
    if wait.recv()? { Ok(()) } else { bail!("a commit failed") }
}

fn commit_all(candidate: &mut dyn Candidate, puts: &Receiver<Put>) -> Result<()> {
    while let Ok(first) = puts.recv() {
        let (mut batch, mut waiting) = (vec![(first.key, first.value)], vec![first.done]);
        while batch.len() < BATCH_MAX
            && let Ok(put) = puts.try_recv()
        {
            batch.push((put.key, put.value));
            waiting.push(put.done);
        }
        let result = candidate.commit(&batch);
        for done in waiting {
            // A writer whose time is up may be gone.
            let _ = done.send(result.is_ok());
        }
        result?;
    }
    Ok(())
}

/// Starts writers, each with its own `put`, and lets them write until the time is up.
fn write_all<P: FnMut(String) -> Result<()> + Send>(
    writers: usize,
    duration: Duration,
    mut writer: impl FnMut() -> P,
) -> Result<Vec<Duration>> {
    let end = Instant::now() + duration;
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..writers)
            .map(|number| {
                let mut put = writer();
                scope.spawn(move || -> Result<Vec<Duration>> {
                    let mut latencies = Vec::new();
                    for count in 0.. {
                        let begin = Instant::now();
                        if begin >= end {
                            break;
                        }
                        put(format!("/registry/pods/ns-{number}/pod-{count:08}"))?;
                        latencies.push(begin.elapsed());
                    }
                    Ok(latencies)
                })
            })
            .collect();
        let mut all = Vec::new();
        for writer in running {
            all.extend(writer.join().map_err(|_| anyhow::anyhow!("a writer died"))??);
        }
        Ok(all)
    })
}

fn summary(writers: usize, mut latencies: Vec<Duration>, duration: Duration) -> (usize, f64, u64, u64) {
    latencies.sort_unstable();
    let at = |part: f64| {
        let last = latencies.len().saturating_sub(1);
        let micros = latencies.get((last as f64 * part) as usize).map_or(0, Duration::as_micros);
        u64::try_from(micros).unwrap_or(u64::MAX)
    };
    (writers, latencies.len() as f64 / duration.as_secs_f64(), at(0.5), at(0.99))
}

fn reads(open: Open, place: &Path) -> Result<(Duration, Duration)> {
    let mut candidate = open(place)?;
    let keys: Vec<(String, Vec<u8>)> = (0..KEYS).map(|number| (key(number), value())).collect();
    for batch in keys.chunks(BATCH_MAX) {
        candidate.commit(batch)?;
    }
    drop(candidate);
    let begin = Instant::now();
    let candidate = open(place)?;
    // Opening lazily is no merit: the first read belongs to it.
    candidate.list(&key(0), 1)?;
    let opened = begin.elapsed();
    let begin = Instant::now();
    let read = candidate.list("/registry/pods/", LISTED)?;
    if read < LISTED * VALUE_BYTES {
        bail!("only {read} bytes were listed");
    }
    Ok((opened, begin.elapsed()))
}

fn key(number: usize) -> String {
    format!("/registry/pods/ns-{:02}/pod-{number:08}", number % 50)
}

/// A value that does not compress to nothing.
fn value() -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        b' ' + (state % 95) as u8
    };
    (0..VALUE_BYTES).map(|_| next()).collect()
}

fn memory(field: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn disk_kib(dir: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut blocks = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        blocks += if metadata.is_dir() { disk_kib(&entry.path())? * 2 } else { metadata.blocks() };
    }
    Ok(blocks / 2)
}
