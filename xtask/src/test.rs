//! What `make test` and CI run, in the order in which failures are cheapest to learn of.

use crate::{run as execute, tools};
use anyhow::Result;
use clap::ValueEnum;
use std::path::Path;
use std::process::Command;

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Step {
    /// `cargo fmt --check`
    Fmt,
    /// `cargo clippy -D warnings`
    Clippy,
    /// Unit tests and real-kernel tests of every crate
    Unit,
    /// The whole product with the real kubectl (needs `make build`)
    E2e,
}

const ALL: &[Step] = &[Step::Fmt, Step::Clippy, Step::Unit, Step::E2e];

/// Runs the steps asked for, all of them when none is named. Ends with the test runner's own summary line.
fn run_steps(repository: &Path, steps: &[Step]) -> Result<()> {
    for step in steps {
        eprintln!("== {step:?}");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(repository);
        match step {
            Step::Fmt => execute(cargo.args(["fmt", "--all", "--check"]))?,
            Step::Clippy => {
                execute(cargo.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?
            }
            Step::Unit => execute(nextest(&mut cargo, repository).args(["--workspace", "--exclude", "pintle-tests"]))?,
            Step::E2e => {
                tools::install(repository)?;
                cargo.env("PINTLE_BIN", repository.join("bin"));
                execute(nextest(&mut cargo, repository).args(["-p", "pintle-tests"]))?;
            }
        }
    }
    Ok(())
}

/// See [`run_steps`].
pub fn run(repository: &Path, only: &[Step]) -> Result<()> {
    run_steps(repository, if only.is_empty() { ALL } else { only })
}

/// nextest, from the project's own tools when `make deps` had to install it there.
fn nextest<'a>(cargo: &'a mut Command, repository: &Path) -> &'a mut Command {
    let local = repository.join(".cache/tools/bin");
    if local.is_dir() {
        let path = std::env::var("PATH").unwrap_or_default();
        cargo.env("PATH", format!("{}:{path}", local.display()));
    }
    cargo.args(["nextest", "run", "--locked", "--no-fail-fast"])
}
