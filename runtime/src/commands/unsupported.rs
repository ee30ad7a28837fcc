//! Commands of runc that are not here yet: they say so.

use super::Command;
use super::args::{Order, switch, value};
use crate::error::Error;

/// `events`.
pub const EVENTS: Command = Command {
    name: "events",
    arguments: "<container-id>",
    about: "display container events (not supported yet)",
    flags: &[
        value("interval", "set the stats collection interval"),
        switch("stats", "display the container's stats then exit"),
    ],
    order: Order::Mixed,
    exposed: false,
    run: |_invocation| Err(Error::Usage("events is not supported yet".to_owned())),
};

/// `checkpoint`.
pub const CHECKPOINT: Command = Command {
    name: "checkpoint",
    arguments: "<container-id>",
    about: "checkpoint a running container (not supported yet)",
    flags: &[],
    order: Order::Mixed,
    exposed: false,
    run: |_invocation| Err(Error::Usage("checkpoint is not supported yet".to_owned())),
};

/// `restore`.
pub const RESTORE: Command = Command {
    name: "restore",
    arguments: "<container-id>",
    about: "restore a container (not supported yet)",
    flags: &[],
    order: Order::Mixed,
    exposed: false,
    run: |_invocation| Err(Error::Usage("restore is not supported yet".to_owned())),
};
