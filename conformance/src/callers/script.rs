//! Lives that are shell scripts, which print `ok` or `not ok` for every step.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::{Scene, Step};

const PRELUDE: &str = include_str!("../../callers/prelude.sh");
/// Turns into the user, and goes on with its arguments.
const AS_USER: &str = include_str!("../../callers/user.sh");
/// Where a user can go who cannot go to ours: in the mount namespace of his script our directory is here too.
const PLACE: &str = "/mnt";

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Root.
    Root,
    /// An ordinary user with subordinate ids, in mount and pid namespaces that end with his script.
    User,
}

/// Runs a script to its end.
pub fn run(scene: &Scene<'_>, life: &str, who: Who) -> Result<Vec<Step>> {
    let mut command = match who {
        Who::Root => Command::new("/bin/sh"),
        Who::User => as_user(),
    };
    command.arg("-c").arg([PRELUDE, life].concat()).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("HOME", &scene.work).env("B", &scene.work).env("PLACE", PLACE);
    command.env("PEERS", scene.peers).env("RT", scene.runtime);
    let output = command.stdin(Stdio::null()).output().context("start a shell")?;
    let steps = parse(&String::from_utf8_lossy(&output.stdout));
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(!steps.is_empty(), "the script took no step: {errors}");
    Ok(steps)
}

fn as_user() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["/bin/sh", "-c", AS_USER, "sh", "/bin/sh"]);
    command
}

fn parse(text: &str) -> Vec<Step> {
    let step = |line: &str| match (line.strip_prefix("ok "), line.strip_prefix("not ok ")) {
        (Some(what), _) => Some(Step { what: what.to_owned(), seen: None }),
        (None, Some(rest)) => {
            let (what, seen) = rest.split_once(": ").unwrap_or((rest, ""));
            Some(Step { what: what.to_owned(), seen: Some(seen.trim().to_owned()) })
        }
        (None, None) => None,
    };
    text.lines().filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_script_become_steps() {
        let steps = parse("ok create\nnoise\nnot ok start: it is: broken \n");
        let step = |what: &str, seen: Option<&str>| Step { what: what.to_owned(), seen: seen.map(str::to_owned) };
        assert_eq!(steps, [step("create", None), step("start", Some("it is: broken"))]);
    }
}
