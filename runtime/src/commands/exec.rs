//! `exec`.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxCapabilities, Process, Spec};

use super::args::{Flag, Order, switch, value, values};
use super::{Command, Invocation, options, relay};
use crate::cgroup::{BESIDE, Cgroups};
use crate::error::{Doing as _, Error, Result};
use crate::exec::{ExecRequest, exec_in};
use crate::launch::{self, Launched};

const FLAGS: &[Flag] = &[
    value("process", "path to the process.json").or("p"),
    value("console-socket", "path to an AF_UNIX socket which will receive the console's master"),
    value("pidfd-socket", "path to an AF_UNIX socket which will receive a pidfd of the process"),
    value("pid-file", "specify the file to write the process id to"),
    value("cwd", "current working directory in the container"),
    values("env", "set environment variables").or("e"),
    switch("tty", "allocate a pseudo-TTY").or("t"),
    value("user", "UID (format: <uid>[:<gid>])").or("u"),
    values("additional-gids", "additional gids").or("g"),
    switch("detach", "detach from the process").or("d"),
    value("process-label", "set the asm process label for the process"),
    value("apparmor", "set the apparmor profile for the process"),
    switch("no-new-privs", "set the no new privileges value for the process"),
    values("cap", "add a capability to the bounding, effective and permitted sets").or("c"),
    value("preserve-fds", "pass N additional file descriptors to the container"),
    value("cgroup", "run the process in an (existing) sub-cgroup: [controller,...:]path"),
    switch("ignore-paused", "allow exec in a paused container"),
];

/// `exec`.
pub const COMMAND: Command = Command {
    name: "exec",
    arguments: "<container-id> <command> [arguments]",
    about: "execute a new process inside the container",
    flags: FLAGS,
    order: Order::FlagsFirst,
    exposed: true,
    run,
};

fn run(invocation: &Invocation) -> Result<i32> {
    let own = &invocation.own;
    let (id, command) =
        own.rest.split_first().ok_or_else(|| Error::Usage("\"exec\" requires a container id".to_owned()))?;
    let env = invocation.env()?;
    let stored = env.root.container(id)?.load()?;
    let process = describe(invocation, &stored.config, command)?;
    pintle_runtime_plan::spec::validate_process(&process)?;
    let detach = own.has("detach");
    let console = options::check_console(process.terminal().unwrap_or(false), detach, own)?;
    let pid_file = options::absolute(own.get("pid-file"))?;
    let forwarder = if detach { None } else { Some(relay::Forwarder::new()?) };
    let request = ExecRequest {
        id: id.clone(),
        process,
        stdio: None,
        preserve_fds: options::preserved(own)?,
        ignore_paused: own.has("ignore-paused"),
        join: own.get("cgroup").map(|below| sub_cgroup(&stored, below)).transpose()?,
    };
    let mut launched = exec_in(&env, request, &stored)?;
    finish(&mut launched, console.as_deref(), pid_file, invocation)?;
    forwarder.map_or(Ok(0), |forwarder| forwarder.wait(&launched))
}

fn finish(
    launched: &mut Launched,
    console: Option<&Path>,
    pid_file: Option<PathBuf>,
    invocation: &Invocation,
) -> Result<()> {
    let done = options::hand_over(launched, console, &invocation.own)
        .and_then(|()| pid_file.map_or(Ok(()), |path| options::write_pid_file(&path, launched.pid)));
    if done.is_err() {
        launch::abandon(launched);
    }
    done
}

/// The process of process.json, or the container's own with what the flags change.
fn describe(invocation: &Invocation, spec: &Spec, command: &[String]) -> Result<Process> {
    let own = &invocation.own;
    if let Some(path) = own.get("process") {
        let text = crate::container::read_json(Path::new(path)).doing(|| format!("read {path}"))?;
        let (process, warnings) = pintle_runtime_plan::parse_process(&text)?;
        warnings.iter().for_each(|warning| crate::log::warn_once(warning));
        return Ok(process);
    }
    if command.is_empty() {
        return Err(Error::Usage("process args cannot be empty".to_owned()));
    }
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(command.to_vec())).set_terminal(Some(own.has("tty")));
    if let Some(cwd) = own.get("cwd") {
        process.set_cwd(PathBuf::from(cwd));
    }
    let mut variables = process.env().clone().unwrap_or_default();
    variables.extend(own.all("env").map(str::to_owned));
    process.set_env(Some(variables));
    if let Some(label) = own.get("process-label") {
        process.set_selinux_label(Some(label.to_owned()));
    }
    if let Some(profile) = own.get("apparmor") {
        process.set_apparmor_profile(Some(profile.to_owned()));
    }
    if own.get("no-new-privs").is_some() {
        process.set_no_new_privileges(Some(own.has("no-new-privs")));
    }
    identify(invocation, &mut process)?;
    Ok(process)
}

fn identify(invocation: &Invocation, process: &mut Process) -> Result<()> {
    let own = &invocation.own;
    if let Some(user) = own.get("user") {
        let (uid, gid) = user.split_once(':').map_or((user, None), |(uid, gid)| (uid, Some(gid)));
        process.user_mut().set_uid(id(uid, "uid")?);
        if let Some(gid) = gid {
            process.user_mut().set_gid(id(gid, "gid")?);
        }
    }
    let groups: Vec<u32> = own.all("additional-gids").map(|gid| id(gid, "gid")).collect::<Result<_>>()?;
    if !groups.is_empty() {
        process.user_mut().set_additional_gids(Some(groups));
    }
    let caps: Vec<_> = own.all("cap").map(capability).collect::<Result<_>>()?;
    if !caps.is_empty() {
        let mut sets = process.capabilities().clone().unwrap_or_else(|| {
            let mut none = LinuxCapabilities::default();
            none.set_bounding(None).set_effective(None).set_permitted(None).set_inheritable(None).set_ambient(None);
            none
        });
        let add = |set: &Option<std::collections::HashSet<_>>| {
            Some(set.iter().flatten().copied().chain(caps.iter().copied()).collect())
        };
        let (bounding, effective, permitted) = (add(sets.bounding()), add(sets.effective()), add(sets.permitted()));
        sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
        process.set_capabilities(Some(sets));
    }
    Ok(())
}

fn id(text: &str, what: &str) -> Result<u32> {
    text.parse().map_err(|_not_a_number| Error::Usage(format!("parsing {text} as int for {what} failed")))
}

fn capability(name: &str) -> Result<oci_spec::runtime::Capability> {
    let quoted = serde_json::Value::String(name.to_ascii_uppercase());
    serde_json::from_value(quoted).map_err(|_unknown| Error::Usage(format!("unknown capability {name:?}")))
}

/// `[controller,…:]path` below the container's own cgroups; without controllers in all of them.
fn sub_cgroup(stored: &crate::state::Stored, argument: &str) -> Result<pintle_runtime_plan::CgroupJoin> {
    let (controllers, path) = argument.split_once(':').map_or((None, argument), |(list, path)| (Some(list), path));
    let below = Path::new(path.trim_start_matches('/'));
    if below.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(Error::Usage(format!("{path} is not a sub cgroup path")));
    }
    let chosen =
        |key: &str| controllers.is_none_or(|list| list.split(',').any(|one| key.split(',').any(|of| of == one)));
    // What systemd goes by on a hybrid host has no limits to be below of.
    let chosen = |key: &str| key != BESIDE && chosen(key);
    let paths = stored.cgroup_paths.iter().map(|(key, path)| {
        let path = if key.is_empty() || chosen(key) { path.join(below) } else { path.clone() };
        (key.clone(), path)
    });
    Ok(Cgroups::known(paths.collect()).join())
}
