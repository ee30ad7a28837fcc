//! Where errors and warnings go: stderr in runc's format, and the file of --log.
//!
//! Callers parse this (runtime.md, section 1): on failure exactly one error line is written; warnings only with
//! --debug, because some callers read stdout and stderr as one stream.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;

use crate::clock;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// logrus text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verbosity {
    /// Errors.
    #[default]
    Errors,
    /// Warnings too.
    Everything,
}

/// Where and how to log.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// --log.
    pub file: Option<PathBuf>,
    /// --log-format.
    pub format: Format,
    /// --debug, and the supervisor.
    pub verbosity: Verbosity,
}

thread_local! {
    static SETTINGS: RefCell<Settings> = RefCell::default();
    static SAID: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

/// Sets where and how to log.
pub fn set(settings: Settings) {
    SETTINGS.set(settings);
}

/// Says a warning, if asked to.
pub fn warn(message: &str) {
    SETTINGS.with_borrow(|settings| {
        if settings.verbosity == Verbosity::Everything {
            write(settings, "warning", message);
        }
    });
}

/// Says a warning the first time: some are true of the machine, not of a container.
pub fn warn_once(message: &str) {
    if SAID.with_borrow_mut(|said| said.insert(message.to_owned())) {
        warn(message);
    }
}

/// Says why the program fails.
pub fn error(message: &str) {
    SETTINGS.with_borrow(|settings| {
        write(settings, "error", message);
        if settings.file.is_some() {
            let _stderr_may_be_closed = writeln!(std::io::stderr(), "{message}");
        }
    });
}

fn write(settings: &Settings, level: &str, message: &str) {
    let time = clock::rfc3339(clock::now_ns());
    let line = match settings.format {
        Format::Json => format!("{}\n", serde_json::json!({"level": level, "msg": message, "time": time})),
        Format::Text => format!("time={time:?} level={level} msg={message:?}\n"),
    };
    let _nowhere_left_to_say_it = match &settings.file {
        Some(path) => std::fs::File::options()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes())),
        None => std::io::stderr().write_all(line.as_bytes()),
    };
}
