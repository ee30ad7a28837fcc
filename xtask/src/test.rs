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
    /// Unit tests and real-kernel tests of every crate, without the end-to-end runs
    Unit,
    /// The end-to-end runs: the whole product with the real kubectl (needs `make build`)
    E2e,
    /// Unit and e2e in one run of the test runner
    All,
}

const DEFAULT: &[Step] = &[Step::Fmt, Step::Clippy, Step::All];

/// Runs the steps asked for. The output ends with the test runner's own summary line.
pub fn run(repository: &Path, only: &[Step]) -> Result<()> {
    let steps = if only.is_empty() { DEFAULT } else { only };
    for step in steps {
        eprintln!("== {step:?}");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(repository);
        match step {
            Step::Fmt => execute(cargo.args(["fmt", "--all", "--check"]))?,
            Step::Clippy => {
                execute(cargo.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
            }
            Step::Unit => test(cargo, repository, &["--workspace", "--exclude", "pintle-tests"])?,
            Step::E2e => test(cargo, repository, &["--package", "pintle-tests"])?,
            Step::All => test(cargo, repository, &["--workspace"])?,
        }
    }
    Ok(())
}

fn test(mut cargo: Command, repository: &Path, what: &[&str]) -> Result<()> {
    tools::install(repository)?;
    cargo.env("PINTLE_BIN", repository.join("bin"));
    execute(nextest(&mut cargo, repository).args(what))
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
