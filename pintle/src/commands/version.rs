//! `pintle version`.

use crate::failure::Code;
use crate::out;
use anyhow::Result;
use clap::Args;

/// Print the version, and that of the Kubernetes API
#[derive(Args, Debug)]
pub struct Arguments {}

impl Arguments {
    /// Runs it.
    pub fn run(self) -> Result<Code> {
        out::line(format!("pintle {} (Kubernetes v1.37)", env!("CARGO_PKG_VERSION")))?;
        Ok(Code::Done)
    }
}
