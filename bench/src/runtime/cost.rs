//! Memory and system calls: of each command, of the waiting first process, of a pod's supervisor.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::bundle;
use super::cycle::Init;
use super::site::{Runtime, Site, timed};

const COMMANDS: &[&str] = &["create", "start", "exec", "state", "kill", "delete", "run"];

/// What one runtime took.
#[derive(Default)]
struct Cost {
    peaks_kib: Vec<u64>,
    init: Resident,
    calls: Vec<u64>,
}

/// Of one process, in KiB.
#[derive(Default)]
struct Resident {
    rss: u64,
    pss: u64,
}

/// Prints the tables.
pub fn report(site: &Site) -> Result<()> {
    let strace = site.tool("strace")?.display().to_string();
    let mut costs = Vec::new();
    for runtime in &site.runtimes {
        costs.push(cost(site, runtime, &strace).with_context(|| format!("memory and calls of {}", runtime.name))?);
    }
    println!(
        "\n### Memory\n\nMiB: the largest resident set of the command and the children it waited for (3 runs), and what a first\nprocess that waits for `start` keeps (proportional).\n"
    );
    println!("| | {} | waiting init |\n|---|{}---|", COMMANDS.join(" | "), "---|".repeat(COMMANDS.len()));
    for (runtime, cost) in site.runtimes.iter().zip(&costs) {
        let peaks: Vec<String> = cost.peaks_kib.iter().map(|kib| mib(*kib)).collect();
        println!("| {} | {} | {} ({}) |", runtime.name, peaks.join(" | "), mib(cost.init.rss), mib(cost.init.pss));
    }
    let pintle = site.runtimes.last().context("no runtime")?;
    let supervisor = supervisor(site, pintle)?;
    println!(
        "\nA pod's supervisor (`pintle-runc shim`) without containers: {} MiB ({} proportional).",
        mib(supervisor.rss),
        mib(supervisor.pss)
    );
    println!(
        "\n### System calls\n\nOf the command and all its children, by `strace -f -c`; `exec` and `run` include those of the program, /bin/true.\n"
    );
    println!("| | {} |\n|---|{}", COMMANDS.join(" | "), "---|".repeat(COMMANDS.len()));
    for (runtime, cost) in site.runtimes.iter().zip(&costs) {
        let calls: Vec<String> = cost
            .calls
            .iter()
            .map(|calls| match calls {
                0 => "–".to_owned(),
                n => n.to_string(),
            })
            .collect();
        println!("| {} | {} |", runtime.name, calls.join(" | "));
    }
    Ok(())
}

fn mib(kib: u64) -> String {
    format!("{:.2}", kib as f64 / 1024.0)
}

fn cost(site: &Site, runtime: &Runtime, strace: &str) -> Result<Cost> {
    let floor = site.floor().display().to_string();
    let out = site.work.join("counted").display().to_string();
    let mut cost = Cost { peaks_kib: vec![0; COMMANDS.len()], ..Cost::default() };
    for _ in 0..3 {
        let peaks = life(site, runtime, &[&floor, "peak", &out], &mut cost.init, || {
            fs::read_to_string(&out)?.trim().parse().context("read the peak")
        })?;
        for (most, one) in cost.peaks_kib.iter_mut().zip(peaks) {
            *most = one.max(*most);
        }
    }
    let mut traced_init = Resident::default();
    cost.calls = life(site, runtime, &[strace, "-f", "-c", "-o", &out], &mut traced_init, || total_calls(&out))?;
    Ok(cost)
}

/// One life cycle below a program that leaves a number after each command.
fn life(
    site: &Site,
    runtime: &Runtime,
    wrapper: &[&str],
    init: &mut Resident,
    number: impl Fn() -> Result<u64>,
) -> Result<Vec<u64>> {
    let sleeper =
        bundle::make(&site.work, "sleeper", &site.cgroup, &["/bin/sleep", "1000"], None)?.display().to_string();
    let brief = bundle::make(&site.work, "brief", &site.cgroup, &["/bin/true"], None)?.display().to_string();
    let pid_file = site.work.join("pid").display().to_string();
    let mut numbers = Vec::new();
    let mut step = |arguments: &[&str]| -> Result<()> {
        timed(runtime.command_below(wrapper, arguments))?;
        numbers.push(number()?);
        Ok(())
    };
    // strace stays with the first process as long as it lives: its creation is counted by run alone.
    let tracing = wrapper[0].ends_with("strace");
    if tracing {
        timed(runtime.command(&["create", "--bundle", &sleeper, "--pid-file", &pid_file, "c"]))?;
    } else {
        step(&["create", "--bundle", &sleeper, "--pid-file", &pid_file, "c"])?;
    }
    let process = Init::open(&pid_file)?;
    *init = resident(process.pid())?;
    step(&["start", "c"])?;
    step(&["exec", "c", "/bin/true"])?;
    step(&["state", "c"])?;
    step(&["kill", "c", "KILL"])?;
    process.wait()?;
    step(&["delete", "c"])?;
    step(&["run", "--bundle", &brief, "c"])?;
    Ok(if tracing { std::iter::once(0).chain(numbers).collect() } else { numbers })
}

fn resident(pid: i32) -> Result<Resident> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let of = |field: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|rest| rest.split_whitespace().next())
            .and_then(|kib| kib.parse().ok())
            .with_context(|| format!("no {field}"))
    };
    Ok(Resident { rss: of("Rss:")?, pss: of("Pss:")? })
}

/// The line of strace's summary that ends in `total`: percent, seconds, microseconds per call, calls, errors.
fn total_calls(file: &str) -> Result<u64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find(|line| line.ends_with(" total")).context("strace printed no total")?;
    line.split_whitespace().nth(3).and_then(|calls| calls.parse().ok()).with_context(|| format!("no calls in {line:?}"))
}

/// Starts a supervisor, looks at it, ends it.
fn supervisor(site: &Site, runtime: &Runtime) -> Result<Resident> {
    let dir = site.work.join("pod");
    fs::create_dir_all(&dir)?;
    let config = site.work.join("shim.json");
    let text = json!({
        "podUid": "bench", "dir": dir, "runtimeRoot": runtime.root, "netns": null, "hostname": "bench", "hostIpc": false,
        "sharePid": false, "sysctls": [], "podCgroup": format!("{}/pod", site.cgroup), "podResources": {}
    });
    fs::write(&config, text.to_string())?;
    timed(runtime.command(&["shim", "--config", &config.display().to_string()]))?;
    let needle = config.display().to_string();
    let of_it = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&needle))
    };
    let pids = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mine: Vec<i32> = pids.filter(of_it).collect();
    ensure!(mine.len() == 1, "there should be one supervisor, not {mine:?}");
    // It settles: what it needed to start is given back.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let found = resident(mine[0]);
    // Only a call over its socket ends it in good order; it has no containers to look after.
    let process = Init::of(mine[0])?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(mine[0]), nix::sys::signal::Signal::SIGKILL)?;
    process.wait()?;
    found
}
