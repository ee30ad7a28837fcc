//! `start`.

use super::Command;
use super::args::Order;
use crate::container;

/// `start`.
pub const COMMAND: Command = Command {
    name: "start",
    arguments: "<container-id>",
    about: "execute the user-defined process in a created container",
    flags: &[],
    order: Order::Mixed,
    exposed: false,
    run: |invocation| {
        let id = invocation.id("start")?;
        container::start(&invocation.env()?, id).map(|()| 0)
    },
};
