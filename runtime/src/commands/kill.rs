//! `kill`.

use nix::sys::signal::Signal;

use super::args::{Order, switch};
use super::{Command, Invocation};
use crate::container::{self, Whom};
use crate::error::{Error, Result};

/// `kill`.
pub const COMMAND: Command = Command {
    name: "kill",
    arguments: "<container-id> [signal]",
    about: "send a signal (default SIGTERM) to the container's init process",
    flags: &[switch("all", "send the signal to all processes of the container").or("a")],
    order: Order::Mixed,
    exposed: false,
    run,
};

fn run(invocation: &Invocation) -> Result<i32> {
    let args = invocation.ids("kill", 1, 2)?;
    let signal = number(args.get(1).map_or("SIGTERM", String::as_str))?;
    let all = invocation.own.has("all");
    let whom = if all { Whom::All } else { Whom::Init };
    match container::kill(&invocation.env()?, &args[0], signal, whom) {
        // Callers of --all clean up after containers that have stopped by themselves.
        Err(Error::NotRunning) if all => Ok(0),
        other => other.map(|()| 0),
    }
}

/// A signal by number or name, with or without SIG, in any case.
pub fn number(text: &str) -> Result<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return Ok(number);
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = bare.strip_prefix("RTMIN") {
        let offset = if offset.is_empty() { Ok(0) } else { offset.trim_start_matches('+').parse::<i32>() };
        return offset.map(|n| 34 + n).map_err(|_not_a_number| Error::Usage(format!("unknown signal {text:?}")));
    }
    let found = Signal::iterator().find(|signal| signal.as_str() == format!("SIG{bare}"));
    found.map(|signal| signal as i32).ok_or_else(|| Error::Usage(format!("unknown signal {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_many_names() {
        for name in ["9", "KILL", "SIGKILL", "sigkill", "Kill"] {
            assert!(matches!(number(name), Ok(9)), "{name}");
        }
        assert!(matches!(number("RTMIN+3"), Ok(37)));
        assert!(number("NOPE").is_err_and(|error| error.to_string() == "unknown signal \"NOPE\""));
    }
}
