//! Memory and system calls: of each command, of the waiting first process, of a pod's supervisor.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
        let calls: Vec<String> = cost.calls.iter().map(u64::to_string).collect();
        println!("| {} | {} |", runtime.name, calls.join(" | "));
    }
    println!("| floor |{} {} |", " |".repeat(COMMANDS.len() - 1), floor_calls(site, &strace)?);
    Ok(())
}

/// Of the floor's `run`.
fn floor_calls(site: &Site, strace: &str) -> Result<u64> {
    let (out, rootfs) = (site.work.join("counted").display().to_string(), site.work.join("rootfs"));
    let mut command = Command::new(strace);
    command.args(["-f", "-c", "-o", &out]).arg(site.floor()).arg("run").arg(rootfs);
    command.args([&format!("{}/floor", site.cgroup), "/bin/true"]).env_clear().stdin(Stdio::null());
    timed(command)?;
    total_calls(&out)
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
    // -I2: it ends when it is told to.
    let counting = [strace, "-I2", "-f", "-c", "-o", &out];
    cost.calls = life(site, runtime, &counting, &mut traced_init, || total_calls(&out))?;
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
    let create = ["create", "--bundle", &sleeper, "--pid-file", &pid_file, "c"];
    if wrapper[0].ends_with("strace") {
        let _there_may_be_none = fs::remove_file(&pid_file);
        numbers.push(traced_create(runtime, wrapper, &create, &pid_file).and_then(|()| number())?);
    } else {
        numbers.push(timed(runtime.command_below(wrapper, &create)).and_then(|_| number())?);
    }
    let mut step = |arguments: &[&str]| -> Result<()> {
        timed(runtime.command_below(wrapper, arguments))?;
        numbers.push(number()?);
        Ok(())
    };
    let process = Init::open(&pid_file)?;
    *init = resident(process.pid())?;
    step(&["start", "c"])?;
    step(&["exec", "c", "/bin/true"])?;
    step(&["state", "c"])?;
    step(&["kill", "c", "KILL"])?;
    process.wait()?;
    step(&["delete", "c"])?;
    step(&["run", "--bundle", &brief, "c"])?;
    Ok(numbers)
}

/// strace would stay with the first process as long as that lives. Once the command itself has ended it is told to end: it
/// lets the rest go and counts what it saw.
fn traced_create(runtime: &Runtime, strace: &[&str], arguments: &[&str], pid_file: &str) -> Result<()> {
    let mut tracer = runtime.command_below(strace, arguments).spawn().context("start strace")?;
    let pid = i32::try_from(tracer.id())?;
    let children = format!("/proc/{pid}/task/{pid}/children");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        // A command that has written the pid is strace's child until it ends: a container's first process goes to its new
        // reaper. Before, strace may have had children of its own, to try what ptrace can do.
        let written = Path::new(pid_file).exists();
        let list = fs::read_to_string(&children).with_context(|| format!("read {children} (CONFIG_PROC_CHILDREN)"))?;
        if written && list.trim().is_empty() {
            break;
        }
        ensure!(Instant::now() < deadline, "{} has not made a container below strace after 30 s", runtime.name);
        std::thread::sleep(Duration::from_millis(2));
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
    tracer.wait().context("wait for strace").map(drop)
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
    // It settles: half a second after the last event it gives back what it needed to start.
    std::thread::sleep(Duration::from_secs(1));
    let found = resident(mine[0]);
    // Only a call over its socket ends it in good order; it has no containers to look after.
    let process = Init::of(mine[0])?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(mine[0]), nix::sys::signal::Signal::SIGKILL)?;
    process.wait()?;
    found
}
