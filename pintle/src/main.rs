//! The `pintle` command: arguments, configuration and wiring. Every decision about pods, objects and rules is made in
//! the crates it starts.

#![warn(clippy::print_stdout, clippy::print_stderr)] // They panic when nobody reads; `out` does not.

mod check;
mod cli;
mod commands;
mod daemon;
mod failure;
mod flags;
mod join;
mod lock;
mod logging;
mod monitor;
mod notify;
mod out;
mod process;
mod token;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    logging::start(cli.command.logging(cli.verbosity));
    match cli.command.run() {
        Ok(code) => code.into(),
        Err(error) => {
            out::note(failure::render(&error).trim_end());
            failure::code(&error).into()
        }
    }
}
