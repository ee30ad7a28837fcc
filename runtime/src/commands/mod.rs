//! The subcommands, one file each, and what they share: global flags, help, exit codes.

pub mod args;
mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod freezer;
mod kill;
mod list;
mod options;
mod ps;
mod relay;
mod shim;
mod spec;
mod start;
mod state;
mod update;

use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;

use args::{Flag, Order, Parsed, switch, value};

use crate::container::{Env, Rootless};
use crate::error::{Doing as _, Error, Result};
use crate::log;

/// A subcommand.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// Its arguments, for help.
    pub arguments: &'static str,
    /// One line, for help.
    pub about: &'static str,
    /// Its flags.
    pub flags: &'static [Flag],
    /// Where flags end.
    pub order: Order,
    /// Whether it touches containers from inside, and so must not be overwritten.
    pub exposed: bool,
    /// Does it; gives the exit code.
    pub run: fn(&Invocation) -> Result<i32>,
}

const COMMANDS: &[&Command] = &[
    &create::CREATE,
    &create::RUN,
    &start::COMMAND,
    &state::COMMAND,
    &kill::COMMAND,
    &delete::COMMAND,
    &exec::COMMAND,
    &ps::COMMAND,
    &list::COMMAND,
    &freezer::PAUSE,
    &freezer::RESUME,
    &update::COMMAND,
    &spec::COMMAND,
    &features::COMMAND,
    &shim::COMMAND,
    &events::COMMAND,
    &checkpoint::CHECKPOINT,
    &checkpoint::RESTORE,
];

const GLOBAL: &[Flag] = &[
    value("root", "root directory for storage of container state (default: /run/runc, or $XDG_RUNTIME_DIR/runc)"),
    value("log", "set the log file path where internal messages are written"),
    value("log-format", "set the format used by logs: text (default) or json"),
    switch("debug", "enable debug output"),
    switch("systemd-cgroup", "enable systemd cgroup support"),
    value("rootless", "ignore cgroup permission errors: true, false or auto (default)"),
    value("criu", "ignored; criu is found in $PATH"),
    switch("version", "print the version").or("v"),
    switch("help", "show help").or("h"),
];

/// Whose default --root is: a user who is not root has a directory of his own, if he is logged in; so has who is called
/// root in a user namespace alone, unless his variables are root's too ($USER).
fn default_root() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let ordinary = || {
        let called_so = || crate::caller::observe().is_ok_and(|caller| caller.in_user_namespace());
        !nix::unistd::geteuid().is_root() || called_so() && std::env::var_os("USER").is_none_or(|user| user != "root")
    };
    own.filter(|_| ordinary()).map_or_else(|| PathBuf::from("/run/runc"), |dir| PathBuf::from(dir).join("runc"))
}

/// One call of the program.
pub struct Invocation {
    /// Flags before the command.
    pub global: Parsed,
    /// Flags and arguments of the command.
    pub own: Parsed,
}

impl Invocation {
    /// --root.
    pub fn root(&self) -> Result<PathBuf> {
        let root = self.global.get("root").map_or_else(default_root, PathBuf::from);
        match std::path::absolute(&root) {
            Ok(root) if root != std::path::Path::new("/") => Ok(root),
            _ => Err(Error::Usage("the root directory must not be /".to_owned())),
        }
    }

    /// The surroundings of operations.
    pub fn env(&self) -> Result<Env> {
        let rootless = match self.global.get("rootless") {
            Some("true") => Rootless::Yes,
            Some("false") => Rootless::No,
            _auto => Rootless::Auto,
        };
        Env::new(self.root()?, rootless)
    }

    /// The one argument.
    pub fn id(&self, command: &str) -> Result<&str> {
        self.ids(command, 1, 1).map(|ids| ids[0].as_str())
    }

    /// Arguments, of which there must be so many.
    pub fn ids(&self, command: &str, least: usize, most: usize) -> Result<&[String]> {
        let count = self.own.rest.len();
        if count < least || count > most {
            let wanted = if least == most { format!("exactly {least}") } else { format!("a minimum of {least}") };
            return Err(Error::Usage(format!("{command:?} requires {wanted} argument(s)")));
        }
        Ok(&self.own.rest)
    }
}

/// Runs the program; gives its exit code.
pub fn run(args: &[OsString]) -> i32 {
    let words: Vec<String> = args.iter().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let global = match args::parse(&words, GLOBAL, Order::FlagsFirst) {
        Ok(global) => global,
        Err(error) => {
            return said(help(), fail(&error));
        }
    };
    if global.has("version") {
        return said(version(), 0);
    }
    let Some((name, rest)) = global.rest.split_first().filter(|(name, _)| !global.has("help") && *name != "help")
    else {
        return said(help(), 0);
    };
    if let Err(error) = configure_log(&global) {
        return fail(&error);
    }
    match COMMANDS.iter().find(|command| command.name == *name) {
        Some(command) => call(command, args, &global, rest),
        None => said(say(format!("No help topic for '{name}'")), 3),
    }
}

/// Data and help: the only way to stdout. A reader that is gone ends the program.
fn say(text: impl Display) -> Result<()> {
    pintle_sys::out::line(text).doing(|| "write to stdout".to_owned())
}

/// The exit code once something was said, or could not be.
fn said(done: Result<()>, code: i32) -> i32 {
    match done {
        Ok(()) => code,
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> i32 {
    log::error(&error.to_string());
    1
}

fn call(command: &Command, args: &[OsString], global: &Parsed, rest: &[String]) -> i32 {
    let own = match args::parse(rest, &[command.flags, &[switch("help", "show help").or("h")]].concat(), command.order)
    {
        Ok(own) => own,
        Err(error) => {
            return said(command_help(command), fail(&error));
        }
    };
    if own.has("help") {
        return said(command_help(command), 0);
    }
    let invocation = Invocation { global: global.clone(), own };
    let protected = if command.exposed { crate::protect::protect(args) } else { Ok(()) };
    match protected.and_then(|()| (command.run)(&invocation)) {
        Ok(code) => code,
        Err(error) => {
            log::error(&prefixed(command.name, &error));
            if command.name == "exec" { 255 } else { 1 }
        }
    }
}

/// Callers recognise failures of these commands by their prefix.
fn prefixed(command: &str, error: &Error) -> String {
    match command {
        "create" | "run" => format!("runc {command} failed: {error}"),
        "exec" => format!("exec failed: {error}"),
        _ => error.to_string(),
    }
}

fn configure_log(global: &Parsed) -> Result<()> {
    if let Some(other) = global.get("rootless").filter(|word| !["auto", "true", "false"].contains(word)) {
        return Err(Error::Usage(format!("--rootless: {other:?} is not auto, true or false")));
    }
    let format = match global.get("log-format").unwrap_or("text") {
        "text" => log::Format::Text,
        "json" => log::Format::Json,
        other => return Err(Error::Usage(format!("invalid log-format: {other}"))),
    };
    let verbosity = if global.has("debug") { log::Verbosity::Everything } else { log::Verbosity::Errors };
    let file = global.get("log").filter(|path| !path.is_empty()).map(PathBuf::from);
    log::set(log::Settings { file, format, verbosity });
    Ok(())
}

/// The first word is what callers check; the rest follows runc's layout.
fn version() -> Result<()> {
    say(format!("runc version {} (pintle-runc)\nspec: {}", env!("CARGO_PKG_VERSION"), crate::state::OCI_VERSION))
}

fn help() -> Result<()> {
    say("pintle-runc - run containers by the OCI runtime specification\n")?;
    say("usage: pintle-runc [global options] command [options] [arguments]\n\ncommands:")?;
    COMMANDS.iter().try_for_each(|command| say(format!("   {:<12} {}", command.name, command.about)))?;
    say("\nglobal options:")?;
    say_flags(GLOBAL)
}

fn command_help(command: &Command) -> Result<()> {
    say(format!("{}\n\nusage: pintle-runc {} [options] {}\n", command.about, command.name, command.arguments))?;
    say_flags(command.flags)
}

fn say_flags(flags: &[Flag]) -> Result<()> {
    flags.iter().try_for_each(|flag| {
        let short = flag.short.map(|short| format!(", -{short}")).unwrap_or_default();
        say(format!("   --{}{short}   {}", flag.name, flag.help))
    })
}
