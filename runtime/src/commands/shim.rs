//! `shim`.

use std::path::Path;

use super::Command;
use super::args::{Order, value};
use crate::error::Error;
use crate::log;

/// `shim`.
pub const COMMAND: Command = Command {
    name: "shim",
    arguments: "--config <shim.json>",
    about: "supervise the containers of one pod, in the background",
    flags: &[value("config", "what to supervise")],
    order: Order::Mixed,
    exposed: true,
    run: |invocation| {
        let config = invocation.own.get("config").ok_or_else(|| Error::Usage("--config is required".to_owned()))?;
        log::set(log::Settings { verbosity: log::Verbosity::Everything, ..log::Settings::default() });
        crate::shim::run(Path::new(config)).map(|()| 0)
    },
};
