//! `delete`.

use super::args::{Order, switch};
use super::{Command, Invocation};
use crate::container::{self, Force};
use crate::error::Result;

/// `delete`.
pub const COMMAND: Command = Command {
    name: "delete",
    arguments: "<container-id>",
    about: "delete any resources held by the container",
    flags: &[switch("force", "kill the container first if it still runs; an unknown one is no error").or("f")],
    order: Order::Mixed,
    exposed: false,
    run,
};

fn run(invocation: &Invocation) -> Result<i32> {
    let id = invocation.id("delete")?;
    let force = if invocation.own.has("force") { Force::Yes } else { Force::No };
    container::delete(&invocation.env()?, id, force).map(|()| 0)
}
