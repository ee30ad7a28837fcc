//! The build's own commands: `cargo xtask tools | peers | test`. `make` wraps them.
//!
//! Does not own: how the product is built (Makefile), what it does.

mod peers;
mod test;
mod tools;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Parser)]
#[command(about = "Commands of the build", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install the real clients that tests and `make up` use, under .cache/kubectl
    Tools,
    /// Download Debian's runc, crun, Podman and containerd into .cache/peers, to compare with
    Peers,
    /// Everything CI runs: formatting, lints, all tests, the end-to-end run
    Test {
        /// Only these steps
        #[arg(value_enum)]
        only: Vec<test::Step>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Tools => tools::install(&repository()),
        Task::Peers => peers::install(&repository()),
        Task::Test { only } => test::run(&repository(), &only),
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Runs a command, showing it, and fails when it does.
fn run(command: &mut Command) -> Result<()> {
    let words: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
    eprintln!("+ {} {}", command.get_program().to_string_lossy(), words.join(" "));
    let status = command.status()?;
    anyhow::ensure!(status.success(), "{} {}: {status}", command.get_program().to_string_lossy(), words.join(" "));
    Ok(())
}
