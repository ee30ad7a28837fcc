//! `pintle man`: for `make install`.

use crate::cli::Cli;
use crate::failure::Code;
use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _};
use std::path::PathBuf;

/// Write the manual pages into a directory
#[derive(Args, Debug)]
pub struct Arguments {
    /// The directory
    dir: PathBuf,
}

impl Arguments {
    /// Runs it.
    pub fn run(self) -> Result<Code> {
        let dir = &self.dir;
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        clap_mangen::generate_to(Cli::command(), dir)
            .with_context(|| format!("cannot write manual pages to {}", dir.display()))?;
        Ok(Code::Done)
    }
}
