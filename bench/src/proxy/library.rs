//! Planner and kernel: from API objects to installed rules, without an API server in between.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pintle_nft::Family;
use pintle_proxy::backend::{Backend, Report};
use pintle_proxy::forward::Limits;
use pintle_proxy::kernel::Netlink;
use pintle_proxy::limits::raise_open_files;
use pintle_proxy::nft_backend::NftBackend;
use pintle_proxy::userspace_backend::UserspaceBackend;
use pintle_proxy_cases::synthetic::{RANGES, service, slice};
use pintle_proxy_plan::{Change, Config};
use pintle_testkit::Netns;
use serde_json::{Value, json};

use super::kernel_memory::KernelMemory;
use super::{memory_mb, percentile};

/// Changes of each kind.
const CHANGES: u32 = 200;

/// A backend of the calling thread's namespace.
pub fn backend() -> Result<NftBackend<Netlink>> {
    Ok(NftBackend::new(config()?, &[Family::V4], Netlink::open()?))
}

/// The one of mode userspace, within a runtime of that namespace.
pub fn userspace_backend() -> Result<UserspaceBackend> {
    Ok(UserspaceBackend::new(config()?, &[Family::V4], Limits::alone(raise_open_files()))?)
}

fn config() -> Result<Config> {
    let [pods, services] = RANGES.map(|range| range.parse().map(|r| vec![r]));
    Ok(Config::new("node-0", pods?, services?))
}

/// Installs so many Services; the time is that of noting, planning and committing them, not of making the objects.
pub fn load(backend: &mut dyn Backend, services: u32, endpoints: u32) -> Result<(Duration, Report)> {
    let mut took = Duration::ZERO;
    for n in 0..services {
        let (service, slice) = (service(n), slice(n, endpoints, 0));
        let begin = Instant::now();
        backend.note(Change::Service(&service));
        backend.note(Change::Slice(&slice));
        took += begin.elapsed();
    }
    let (synced, report) = sync(backend)?;
    Ok((took + synced, report))
}

/// The time until all is in effect; removing what is not needed any more waits for packets under way.
fn sync(backend: &mut dyn Backend) -> Result<(Duration, Report)> {
    let report = backend.sync();
    let took = report.families.iter().map(|f| f.took).sum();
    for family in &report.families {
        ensure!(family.outcome.is_ok() && family.refused.is_empty(), "refused: {family:?}");
    }
    Ok((took, report))
}

/// Takes the reading.
pub fn measure(services: u32, endpoints: u32) -> Result<Value> {
    let _netns = Netns::fresh();
    let mut first = backend()?;
    let kernel = KernelMemory::own()?;
    let before_mb = kernel.mb()?;
    let (loaded, report) = load(&mut first, services, endpoints)?;
    let longest = report.families.iter().map(|f| f.longest).max().unwrap_or_default();
    let (peak_mb, kernel_mb) = (memory_mb("self", "VmHWM")?, kernel.mb()? - before_mb);
    drop(first);
    // As a restart does it: everything is installed, and nothing is known of it.
    let mut backend = backend()?;
    let (again, _) = load(&mut backend, services, endpoints)?;
    let (mut adds, mut changes) = (Vec::new(), Vec::new());
    for n in 0..CHANGES {
        let (service, slice_new) = (service(services + n), slice(services + n, endpoints, 0));
        adds.push(one(&mut backend, &[Change::Service(&service), Change::Slice(&slice_new)])?);
        let changed = slice(n % services, endpoints, 1 + n / services);
        changes.push(one(&mut backend, &[Change::Slice(&changed)])?);
    }
    // What was added is fresh still; the proxy settles it once a second.
    backend.settle();
    let (settled, _) = sync(&mut backend)?;
    ensure!(backend.is_settled(), "something is fresh still");
    Ok(json!({
        "load_ms": loaded.as_secs_f64() * 1e3,
        "longest_ms": longest.as_secs_f64() * 1e3,
        "again_ms": again.as_secs_f64() * 1e3,
        "add_ms": percentile(&mut adds, 0.5),
        "change_ms": percentile(&mut changes, 0.5),
        "settle_ms": settled.as_secs_f64() * 1e3,
        "peak_mb": peak_mb,
        "kernel_mb": kernel_mb,
    }))
}

/// Notes and installs changes; milliseconds.
pub fn one(backend: &mut dyn Backend, changes: &[Change<'_>]) -> Result<f64> {
    let begin = Instant::now();
    changes.iter().for_each(|change| backend.note(*change));
    let noted = begin.elapsed();
    let (synced, report) = sync(backend)?;
    ensure!(report.families.iter().all(|f| f.ops > 0), "a change changed nothing");
    Ok((noted + synced).as_secs_f64() * 1e3)
}
