//! `pintle completion`.

use crate::cli::Cli;
use crate::failure::Code;
use crate::out;
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
        // The generator panics when it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "pintle", &mut script);
        out::line(String::from_utf8_lossy(&script).trim_end())?;
        Ok(Code::Done)
    }
}
