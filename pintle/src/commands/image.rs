//! `pintle image`: the image store of this node. Its words are rootfs's own.

use crate::failure::Code;
use anyhow::{Context as _, Result};
use clap::Args;
use pintle_rootfs::Store;
use pintle_rootfs::cli::{self, ImageCommand};
use std::path::PathBuf;

/// List, import, export, build and remove the images of this node
#[derive(Args, Debug)]
pub struct Arguments {
    /// The cluster's state; images are in agent/images below it
    #[arg(long, global = true, default_value = "/var/lib/pintle", env = "PINTLE_STATE_DIR", value_name = "DIR")]
    state_dir: PathBuf,
    #[command(subcommand)]
    command: ImageCommand,
}

impl Arguments {
    /// Runs it.
    pub fn run(self) -> Result<Code> {
        let dir = self.state_dir.join("agent/images");
        // The state directory holds keys: nobody else may look into it, whoever makes it first.
        crate::flags::make_private_dir(&self.state_dir)?;
        let store = Store::open(&dir).with_context(|| format!("cannot open the image store {}", dir.display()))?;
        cli::run(self.command, &store)?;
        Ok(Code::Done)
    }
}
