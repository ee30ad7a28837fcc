//! `pintle check`.

use crate::check::{Context, Finding, all};
use crate::failure::Code;
use crate::flags::{Cluster, Dirs};
use crate::out;
use anyhow::Result;
use clap::Args;

/// Say what this machine lacks, and what that costs
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    dirs: Dirs,
    #[command(flatten)]
    cluster: Cluster,
    /// Check for `up --host-network`, `server` and `agent`, which use the machine's own network
    #[arg(long)]
    host_network: bool,
}

impl Arguments {
    /// Runs it. Data is the table on standard output; the exit code is 3 when something needed is missing.
    pub fn run(self) -> Result<Code> {
        let context = Context { dirs: self.dirs, host_network: self.host_network };
        let mut code = Code::Done;
        for (check, finding) in all(&context) {
            match finding {
                Finding::Good(what) => out::line(format!("ok    {:<22} {what}", check.name))?,
                Finding::Costs { what, cost, hint } => {
                    out::line(format!(
                        "warn  {:<22} {what}\n{:28} cost: {cost}\n{:28} hint: {hint}",
                        check.name, "", ""
                    ))?;
                }
                Finding::Missing { what, hint } => {
                    out::line(format!("FAIL  {:<22} {what}\n{:28} hint: {hint}", check.name, ""))?;
                    code = Code::Unfit;
                }
            }
        }
        Ok(code)
    }
}
