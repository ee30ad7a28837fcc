//! `pintle completion`.

use crate::cli::Cli;
use crate::failure::Code;
use anyhow::Result;
use clap::{Args, CommandFactory as _};

/// Print a completion script for a shell
#[derive(Args, Debug)]
pub struct Arguments {
    /// Which shell
    shell: clap_complete::Shell,
}

impl Arguments {
    /// Runs it.
    pub fn run(self) -> Result<Code> {
        clap_complete::generate(self.shell, &mut Cli::command(), "pintle", &mut std::io::stdout());
        Ok(Code::Done)
    }
}
