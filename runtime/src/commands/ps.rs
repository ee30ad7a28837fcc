//! `ps`.

use super::args::{Order, value};
use super::{Command, Invocation, say};
use crate::container;
use crate::error::{Doing as _, Error, Result};

/// `ps`.
pub const COMMAND: Command = Command {
    name: "ps",
    arguments: "<container-id> [ps options]",
    about: "display the processes running inside a container",
    flags: &[value("format", "table (default) or json").or("f")],
    order: Order::FlagsFirst,
    exposed: false,
    run,
};

fn run(invocation: &Invocation) -> Result<i32> {
    let args = invocation.ids("ps", 1, usize::MAX)?;
    let stored = invocation.env()?.root.container(&args[0])?.load()?;
    let pids = container::members(&stored)?;
    match invocation.own.get("format").unwrap_or("table") {
        "json" if pids.is_empty() => say("null")?,
        "json" => say(serde_json::json!(pids))?,
        "table" => table(&args[1..], &pids)?,
        other => return Err(Error::Usage(format!("invalid format option: {other}"))),
    }
    Ok(0)
}

fn table(options: &[String], pids: &[i32]) -> Result<()> {
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() { &default[..] } else { options };
    let output = std::process::Command::new("ps").args(options).output().doing(|| "run ps".to_owned())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Error::WrongState("couldn't find PID field in ps output".to_owned()))?;
    say(header)?;
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse::<i32>().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            say(line)?;
        }
    }
    Ok(())
}
