//! `create`, and `run`, which is create, start, wait and delete.

use super::args::{Flag, Order, Parsed, switch, value};
use super::{Command, Invocation, options, relay};
use crate::container::{self, Begins, CreateRequest, Created, Env, Force};
use crate::error::{Doing as _, Result};

const CREATE_FLAGS: &[Flag] = &[
    value("bundle", "path to the root of the bundle directory, defaults to the current directory").or("b"),
    value("console-socket", "path to an AF_UNIX socket which will receive the console's master"),
    value("pidfd-socket", "path to an AF_UNIX socket which will receive a pidfd of init"),
    value("pid-file", "specify the file to write the process id to"),
    switch("no-pivot", "do not use pivot root to jail process inside rootfs"),
    switch("no-new-keyring", "do not create a new session keyring for the container"),
    value("preserve-fds", "pass N additional file descriptors to the container"),
];

const RUN_FLAGS: &[Flag] = &[
    CREATE_FLAGS[0],
    CREATE_FLAGS[1],
    CREATE_FLAGS[2],
    CREATE_FLAGS[3],
    CREATE_FLAGS[4],
    CREATE_FLAGS[5],
    CREATE_FLAGS[6],
    switch("detach", "detach from the container's process").or("d"),
    switch("keep", "do not delete the container after it exits"),
    switch("no-subreaper", "disable the use of the subreaper used to reap reparented processes"),
];

/// `create`.
pub const CREATE: Command = Command {
    name: "create",
    arguments: "<container-id>",
    about: "create a container",
    flags: CREATE_FLAGS,
    order: Order::Mixed,
    exposed: true,
    run: |invocation| {
        let env = invocation.env()?;
        make(invocation, &env, Attachment::Detached, "create").map(|_created| 0)
    },
};

/// `run`.
pub const RUN: Command = Command {
    name: "run",
    arguments: "<container-id>",
    about: "create and run a container",
    flags: RUN_FLAGS,
    order: Order::Mixed,
    exposed: true,
    run,
};

/// Whether we stay with the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attachment {
    Detached,
    Foreground,
}

/// `run` would start it next. It waits for that only where something happens in between: its terminal or its seccomp
/// listener is handed on, or startContainer hooks run for a time in which signals are forwarded.
fn begins(command: &str, spec: &oci_spec::runtime::Spec, terminal: bool) -> Begins {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.start_container().as_ref());
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let listener = seccomp.is_some_and(|seccomp| seccomp.listener_path().is_some());
    let between = terminal || listener || hooks.is_some_and(|hooks| !hooks.is_empty());
    if command == "run" && !between { Begins::AtOnce } else { Begins::WhenTold }
}

fn make(invocation: &Invocation, env: &Env, attachment: Attachment, command: &str) -> Result<Created> {
    let own: &Parsed = &invocation.own;
    let id = invocation.id(command)?.to_owned();
    let pid_file = options::absolute(own.get("pid-file"))?;
    let bundle = options::bundle(own)?;
    let preserve_fds = options::preserved(own)?;
    let spec = container::load_spec(&bundle)?;
    let terminal = spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal).unwrap_or(false);
    let console = options::check_console(terminal, attachment == Attachment::Detached, own)?;
    std::env::set_current_dir(&bundle).doing(|| format!("chdir to {}", bundle.display()))?;
    let request = CreateRequest {
        id: id.clone(),
        bundle,
        stdio: None,
        no_pivot: own.has("no-pivot"),
        no_new_keyring: own.has("no-new-keyring"),
        preserve_fds,
        driver: options::driver(&invocation.global),
        begins: begins(command, &spec, terminal),
    };
    let mut created = container::create_from(env, request, spec)?;
    let pid = created.launched.pid;
    let finish = options::hand_over(&mut created.launched, console.as_deref(), own)
        .and_then(|()| pid_file.map_or(Ok(()), |path| options::write_pid_file(&path, pid)));
    if let Err(error) = finish {
        // Nobody could reach this container: it goes, and the first failure is the one to tell.
        let _left_for_delete = container::delete(env, &id, Force::Yes);
        return Err(error);
    }
    Ok(created)
}

fn run(invocation: &Invocation) -> Result<i32> {
    let env = invocation.env()?;
    let own = &invocation.own;
    let detach = own.has("detach");
    if !detach && !own.has("no-subreaper") {
        pintle_sys::process::become_subreaper().doing(|| "become the reaper of orphans".to_owned())?;
    }
    let attachment = if detach { Attachment::Detached } else { Attachment::Foreground };
    let forwarder = if detach { None } else { Some(relay::Forwarder::new()?) };
    let created = make(invocation, &env, attachment, "run")?;
    let id = invocation.id("run")?;
    if let Err(error) = container::start_created(&env, &created) {
        let _left_for_delete = container::delete(&env, id, Force::Yes);
        return Err(error);
    }
    let Some(forwarder) = forwarder else { return Ok(0) };
    let code = forwarder.wait(&created.launched)?;
    if !own.has("keep") {
        container::delete_created(&env, &created)?;
    }
    Ok(code)
}
