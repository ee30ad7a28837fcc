//! `list`.

use std::os::unix::fs::MetadataExt as _;

use pintle_sys::out;
use serde::Serialize;

use super::args::{Order, switch, value};
use super::{Command, Invocation, say};
use crate::error::{Doing as _, Error, Result};
use crate::state::{OCI_VERSION, Root, Status, annotations};

/// `list`.
pub const COMMAND: Command = Command {
    name: "list",
    arguments: "",
    about: "list containers started with the given root",
    flags: &[value("format", "table (default) or json").or("f"), switch("quiet", "display only container ids").or("q")],
    order: Order::Mixed,
    exposed: false,
    run,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    oci_version: &'static str,
    id: String,
    pid: i32,
    status: &'static str,
    bundle: String,
    rootfs: String,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<serde_json::Value>,
    owner: String,
}

fn run(invocation: &Invocation) -> Result<i32> {
    let root = Root(invocation.root()?);
    let ids = match root.ids() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && invocation.global.get("root").is_none() => {
            Vec::new()
        }
        other => other.doing(|| format!("list {}", root.0.display()))?,
    };
    let mut rows = Vec::new();
    for id in ids {
        match row(&root, &id) {
            Ok(row) => rows.push(row),
            // One broken container must not hide the others.
            Err(error) => out::note(format!("load container {id}: {error}")),
        }
    }
    print(invocation, &rows)?;
    Ok(0)
}

fn print(invocation: &Invocation, rows: &[Row]) -> Result<()> {
    if invocation.own.has("quiet") {
        return rows.iter().try_for_each(|row| say(&row.id));
    }
    match invocation.own.get("format").unwrap_or("table") {
        "json" if rows.is_empty() => say("null"),
        "json" => say(serde_json::to_string(rows).unwrap_or_default()),
        "table" => table(rows),
        _ => Err(Error::Usage("invalid format option".to_owned())),
    }
}

fn table(rows: &[Row]) -> Result<()> {
    let cells = |row: &Row| {
        [
            row.id.clone(),
            row.pid.to_string(),
            row.status.to_owned(),
            row.bundle.clone(),
            row.created.clone(),
            row.owner.clone(),
        ]
    };
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let lines: Vec<[String; 6]> = std::iter::once(header).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0).max(9) + 3;
    lines.iter().try_for_each(|line| {
        let cells: String = (0..5).map(|column| format!("{:<width$}", line[column], width = width(column))).collect();
        say(format!("{cells}{}", line[5]))
    })
}

fn row(root: &Root, id: &str) -> Result<Row> {
    let dir = root.container(id)?;
    let stored = dir.load()?;
    let status = dir.status(&stored);
    let uid = std::fs::metadata(dir.path()).map_or(0, |meta| meta.uid());
    Ok(Row {
        oci_version: OCI_VERSION,
        id: stored.id.clone(),
        pid: if status == Status::Stopped { 0 } else { stored.init_process_pid },
        status: status.as_str(),
        bundle: stored.bundle.to_string_lossy().into_owned(),
        rootfs: stored.rootfs.to_string_lossy().into_owned(),
        created: stored.created.clone(),
        annotations: annotations(&stored.config).and_then(|map| serde_json::to_value(map).ok()),
        owner: if uid == 0 { "root".to_owned() } else { format!("#{uid}") },
    })
}
