//! The command line: one variant per subcommand, one file per variant under `commands/`.

use crate::commands::{
    agent, apiserver, check, completion, controller_manager, down, image, kubeconfig, kubelet, man, proxy, scheduler,
    server, token, up, version,
};
use crate::failure::Code;
use crate::logging::{Format, Settings, USUAL};
use anyhow::Result;
use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  failed; the error says what, why and what to do
  2  wrong usage
  3  this machine lacks something that is needed (see `pintle check`)
  4  the cluster is not running, or was not ready in time";

/// Turns Linux machines into a Kubernetes cluster.
#[derive(Parser, Debug)]
#[command(name = "pintle", version, about, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Cli {
    /// Log verbosity, as in Kubernetes components: 0 notable, 2 usual, 4 debug, 6 trace
    /// [default: 2]
    #[arg(long = "v", short = 'v', global = true, value_name = "LEVEL", env = "PINTLE_V")]
    pub verbosity: Option<u32>,
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    Up(up::Arguments),
    Down(down::Arguments),
    Check(check::Arguments),
    Server(server::Arguments),
    Agent(agent::Arguments),
    Token(token::Arguments),
    Kubeconfig(kubeconfig::Arguments),
    Image(image::Arguments),
    Apiserver(apiserver::Arguments),
    Scheduler(scheduler::Arguments),
    ControllerManager(controller_manager::Arguments),
    Kubelet(kubelet::Arguments),
    Proxy(Box<proxy::Arguments>),
    Completion(completion::Arguments),
    #[command(hide = true)]
    Man(man::Arguments),
    Version(version::Arguments),
}

impl Command {
    /// How it logs, at the verbosity that was asked for.
    pub fn logging(&self, verbosity: Option<u32>) -> Settings {
        let usual = Settings { verbosity: verbosity.unwrap_or(USUAL), format: Format::Text };
        if let Command::Proxy(a) = self { a.logging(verbosity) } else { usual }
    }

    /// Runs the subcommand to its end.
    pub fn run(self) -> Result<Code> {
        match self {
            Command::Up(a) => a.run(),
            Command::Down(a) => a.run(),
            Command::Check(a) => a.run(),
            Command::Server(a) => a.run(),
            Command::Agent(a) => a.run(),
            Command::Token(a) => a.run(),
            Command::Kubeconfig(a) => a.run(),
            Command::Image(a) => a.run(),
            Command::Apiserver(a) => a.run(),
            Command::Scheduler(a) => a.run(),
            Command::ControllerManager(a) => a.run(),
            Command::Kubelet(a) => a.run(),
            Command::Proxy(a) => a.run(),
            Command::Completion(a) => a.run(),
            Command::Man(a) => a.run(),
            Command::Version(a) => a.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_and_flag_explains_itself() {
        let cli = Cli::command();
        for command in cli.get_subcommands() {
            assert!(command.get_about().is_some(), "{} has no description", command.get_name());
            for argument in command.get_arguments().filter(|a| a.get_id() != "help" && a.get_id() != "version") {
                assert!(argument.get_help().is_some(), "{} --{} has no help", command.get_name(), argument.get_id());
            }
        }
    }
}
