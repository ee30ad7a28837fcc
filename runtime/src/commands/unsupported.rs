//! Commands of runc that are not here yet: they say so.

use super::Command;
use super::args::Order;
use crate::error::Error;

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
