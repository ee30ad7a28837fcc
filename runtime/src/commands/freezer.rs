//! `pause` and `resume`.

use super::args::Order;
use super::{Command, Invocation};
use crate::cgroup::Cgroups;
use crate::error::{Error, Result};
use crate::state::Status;

/// `pause`.
pub const PAUSE: Command = Command {
    name: "pause",
    arguments: "<container-id>",
    about: "suspend all processes inside the container",
    flags: &[],
    order: Order::Mixed,
    exposed: false,
    run: |invocation| {
        let (status, cgroups) = look(invocation, "pause")?;
        match status {
            Status::Running | Status::Created => cgroups.freeze().map(|()| 0),
            Status::Paused | Status::Stopped => {
                Err(Error::WrongState("container not running or created: ".to_owned() + status.as_str()))
            }
        }
    },
};

/// `resume`.
pub const RESUME: Command = Command {
    name: "resume",
    arguments: "<container-id>",
    about: "resume all processes that have been previously paused",
    flags: &[],
    order: Order::Mixed,
    exposed: false,
    run: |invocation| {
        let (status, cgroups) = look(invocation, "resume")?;
        if status == Status::Paused { cgroups.thaw().map(|()| 0) } else { Err(Error::NotPaused) }
    },
};

fn look(invocation: &Invocation, command: &str) -> Result<(Status, Cgroups)> {
    let dir = invocation.env()?.root.container(invocation.id(command)?)?;
    let stored = dir.load()?;
    Ok((dir.status(&stored), Cgroups::known(stored.cgroup_paths.clone())))
}
