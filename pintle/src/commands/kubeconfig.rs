//! `pintle kubeconfig`.

use crate::failure::Code;
use crate::flags::Dirs;
use crate::out;
use anyhow::{Context as _, Result};
use clap::Args;

/// Print the administrator's kubeconfig
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    dirs: Dirs,
}

impl Arguments {
    /// Runs it.
    pub fn run(self) -> Result<Code> {
        let path = self.dirs.kubeconfig();
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))
            .context(crate::failure::Failure::new("there is no cluster here", "start one: `pintle up`"))?;
        out::line(text.trim_end())?;
        Ok(Code::Done)
    }
}
