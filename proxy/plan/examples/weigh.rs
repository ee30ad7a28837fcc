//! What planning costs, without a kernel: `cargo run --release -p pintle-proxy-plan --example weigh -- 10000 10`.
//! Prints milliseconds for each stage and the memory the process took. The full picture is `make bench-proxy`'s.
#![expect(clippy::unwrap_used, reason = "a measurement may panic")]

use std::time::Instant;

use pintle_proxy_cases::synthetic::{RANGES, service, slice};
use pintle_proxy_plan::nftables::{LOAD_BATCH, Part};
use pintle_proxy_plan::{Change, Config, Planner};

fn memory_kib(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<u32>().unwrap());
    let (services, endpoints) = (arguments.next().unwrap_or(10_000), arguments.next().unwrap_or(10));
    let [pods, vips] = RANGES.map(|r| vec![r.parse().unwrap()]);
    let mut planner = Planner::new(Config::new("node-0", pods, vips));
    let before = memory_kib("VmRSS");
    let (mut noting, mut making) = (0.0, 0.0);
    for n in 0..services {
        let at = Instant::now();
        let (service, slice) = (service(n), slice(n, endpoints, 0));
        making += at.elapsed().as_secs_f64();
        let at = Instant::now();
        planner.note(Change::Service(&service));
        planner.note(Change::Slice(&slice));
        noting += at.elapsed().as_secs_f64();
    }
    let at = Instant::now();
    planner.absorb();
    let resolved = at.elapsed().as_secs_f64();
    let settled = memory_kib("VmRSS");
    let at = Instant::now();
    let (mut ops, mut longest) = (0, 0);
    for batch in planner.load(LOAD_BATCH).map(Part::ops) {
        ops += batch.len();
        longest = longest.max(batch.len());
    }
    let loaded = at.elapsed().as_secs_f64();
    println!("{services} services x {endpoints}: objects made in {:.0} ms (not counted)", making * 1e3);
    println!(
        "read {:.1} ms, resolve {:.1} ms, load {:.1} ms: {ops} operations, largest batch {longest}",
        noting * 1e3,
        resolved * 1e3,
        loaded * 1e3
    );
    println!("planner {} KiB, peak {} KiB above the start", settled - before, memory_kib("VmHWM") - before);
    let mut changed = Vec::new();
    for n in 0..1000.min(services) {
        let slice = slice(n, endpoints, 1);
        let at = Instant::now();
        planner.note(Change::Slice(&slice));
        let update = planner.update();
        changed.push(at.elapsed().as_nanos());
        assert!(!update.transaction.is_empty());
    }
    changed.sort_unstable();
    println!(
        "one endpoint changed: median {} us, worst {} us",
        changed[changed.len() / 2] / 1000,
        changed[changed.len() - 1] / 1000
    );
}
