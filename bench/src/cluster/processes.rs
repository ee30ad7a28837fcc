//! Memory and CPU of a cluster's processes, from /proc.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// One of our processes.
struct Process {
    pid: u32,
    /// Subcommand: `up`, `server`, `agent`, `shim`.
    role: String,
}

/// All processes whose command line names a path below `root` and whose program is ours.
fn all(root: &Path) -> Result<Vec<Process>> {
    let root = root.to_string_lossy();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse().ok()) else { continue };
        // A process that ended meanwhile is none.
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut words = line.split('\0');
        let program = words.next().unwrap_or_default();
        let ours = ["pintle", "pintle-runc"].iter().any(|n| Path::new(program).file_name() == Some(n.as_ref()));
        if ours && line.contains(&*root) {
            found.push(Process { pid, role: words.next().unwrap_or_default().to_owned() });
        }
    }
    ensure!(!found.is_empty(), "no process of the cluster was found");
    Ok(found)
}

/// (resident, proportional) bytes.
fn memory(pid: u32) -> Result<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).with_context(|| format!("memory of {pid}"))?;
    let field = |name: &str| -> u64 {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    Ok((field("Rss:"), field("Pss:")))
}

/// Prints resident and proportional memory per role and in all.
pub fn report(root: &Path, label: &str) -> Result<()> {
    let mut processes = all(root)?;
    processes.sort_by(|a, b| a.role.cmp(&b.role));
    let mut sum = (0, 0);
    for group in processes.chunk_by(|a, b| a.role == b.role) {
        let mut part = (0, 0);
        for process in group {
            let (rss, pss) = memory(process.pid)?;
            part = (part.0 + rss, part.1 + pss);
        }
        sum = (sum.0 + part.0, sum.1 + part.1);
        line(&format!("{} × {}", group.len(), group[0].role), label, part);
    }
    line("all our processes", label, sum);
    Ok(())
}

fn line(what: &str, label: &str, (rss, pss): (u64, u64)) {
    let (rss, pss) = (super::mib(rss), super::mib(pss));
    println!("| memory of {what}, {label} | {rss:.2} MiB resident, {pss:.2} MiB proportional | | 1 |");
}

/// CPU time all processes have used so far, user and system.
pub fn cpu(root: &Path) -> Result<Duration> {
    let mut ticks = 0;
    for process in all(root)? {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid))?;
        // Fields are counted behind the name, which may hold spaces (proc_pid_stat(5): utime is 14, stime 15).
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        ticks += rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum::<u64>();
    }
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("clock ticks")?;
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}
