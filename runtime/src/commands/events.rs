//! `events`: statistics at intervals, and every kill for memory, one JSON object per line.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pintle_sys::Errno;
use serde_json::{Value, json};

use super::args::{Order, switch, value};
use super::{Command, Invocation, say};
use crate::cgroup::{Cgroups, Kills};
use crate::container::open_init;
use crate::error::{Doing as _, Error, Result};
use crate::state::{Status, Stored};

/// `events`.
pub const COMMAND: Command = Command {
    name: "events",
    arguments: "<container-id>",
    about: "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
    flags: &[
        value("interval", "set the stats collection interval (default: 5s)"),
        switch("stats", "display the container's stats then exit"),
    ],
    order: Order::Mixed,
    exposed: false,
    run,
};

fn run(invocation: &Invocation) -> Result<i32> {
    let id = invocation.id("events")?;
    let interval = invocation.own.get("interval").map_or(Ok(Duration::from_secs(5)), duration)?;
    if interval.is_zero() {
        return Err(Error::Usage("duration interval must be greater than 0".to_owned()));
    }
    let env = invocation.env()?;
    let dir = env.root.container(id)?;
    let stored = dir.load()?;
    if dir.status(&stored) == Status::Stopped {
        return Err(Error::WrongState(format!("container with id {id} is not running")));
    }
    let cgroups = Cgroups::known(stored.cgroup_paths.clone());
    if invocation.own.has("stats") {
        return tell("stats", id, Some(&stats(&stored, &cgroups))).map(|()| 0);
    }
    let kills = Kills::since(cgroups.oom_kills(), cgroups.clone());
    let kills = if stored.systemd.is_some() { kills.of_unit(env.layout()?) } else { kills };
    follow(id, &stored, kills, interval).map(|()| 0)
}

/// Until init's end.
fn follow(id: &str, stored: &Stored, mut kills: Kills, interval: Duration) -> Result<()> {
    let init = open_init(stored)?;
    let cgroups = &Cgroups::known(stored.cgroup_paths.clone());
    let watch = cgroups.watch_oom()?;
    let mut due = Instant::now() + interval;
    loop {
        let left = due.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(watch.as_fd(), watch.flags()), PollFd::new(init.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).doing(|| "wait for events".to_owned()),
        }
        let [told, ended] = fds.map(|fd| fd.any().unwrap_or(false));
        if told {
            watch.consume()?;
        }
        // Counted also at the end: the kill may be what ended init.
        if kills.more() {
            tell("oom", id, None)?;
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= due {
            tell("stats", id, Some(&stats(stored, cgroups)))?;
            due = Instant::now() + interval;
        }
    }
}

fn stats(stored: &Stored, cgroups: &Cgroups) -> Value {
    let mut all = cgroups.stats();
    if let Some(groups) = &stored.intel_rdt {
        all["intel_rdt"] = groups.stats();
    }
    all
}

fn tell(kind: &str, id: &str, data: Option<&Value>) -> Result<()> {
    let mut event = json!({"type": kind, "id": id});
    if let Some(data) = data {
        event["data"] = data.clone();
    }
    say(event)
}

/// Go's durations: `5s`, `100ms`, `1m30s`.
fn duration(text: &str) -> Result<Duration> {
    let refused = || Error::Usage(format!("invalid value {text:?} for flag -interval: parse error"));
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refused)?;
        let number: f64 = rest[..digits].parse().map_err(|_not_a_number| refused())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(refused()),
        };
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_out_of_range| refused())?;
        rest = &rest[unit..];
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let table =
            [("5s", Some(5000)), ("100ms", Some(100)), ("1m30s", Some(90_000)), ("1.5s", Some(1500)), ("5", None)];
        for (text, ms) in table {
            assert_eq!(duration(text).ok(), ms.map(Duration::from_millis), "{text}");
        }
    }
}
