//! `state`.

use super::args::Order;
use super::{Command, say};
use crate::error::{Error, Result};
use crate::state::{OCI_VERSION, Published, Root, Status, annotations};

/// `state`.
pub const COMMAND: Command = Command {
    name: "state",
    arguments: "<container-id>",
    about: "output the state of a container",
    flags: &[],
    order: Order::Mixed,
    exposed: false,
    run: |invocation| {
        let text = describe(&Root(invocation.root()?), invocation.id("state")?)?;
        say(text).map(|()| 0)
    },
};

fn describe(root: &Root, id: &str) -> Result<String> {
    let dir = root.container(id)?;
    let stored = dir.load()?;
    let status = dir.status(&stored);
    let published = Published {
        oci_version: OCI_VERSION,
        id: &stored.id,
        pid: Some(if status == Status::Stopped { 0 } else { stored.init_process_pid }),
        status: status.as_str(),
        bundle: &stored.bundle,
        rootfs: Some(&stored.rootfs),
        created: Some(&stored.created),
        annotations: annotations(&stored.config),
        owner: Some(""),
    };
    serde_json::to_string_pretty(&published).map_err(|error| Error::WrongState(error.to_string()))
}
