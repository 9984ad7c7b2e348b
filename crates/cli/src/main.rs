//! The `rootwatch` program: parses arguments, calls the libraries, prints results.
//!
//! Results go to standard output, messages to standard error. `args.rs` declares all commands and
//! options; each command has a file of its own, which returns an exit code or an error. `report.rs`
//! prints errors: an error marked [`report::Failed`] exits with 1, every other with 2. A scan also
//! exits with 3 if some input could not be read, which takes precedence over 1.
//!
//! * `scan` fills an `output` view from the findings and writes it in one of five formats.
//! * `serve`, `demo` and `notify test` start the same hub; `demo` and `notify test` use a temporary
//!   store, and `demo` also its own clock.
//! * `config` and `store` work on the configuration and the store without a running hub.
//! * `reference` prints the generated pages of `docs/reference/`.

mod args;
mod config;
mod demo;
#[cfg(test)]
mod documented;
#[cfg(test)]
mod hinted;
mod interrupt;
mod notify;
mod output;
mod pattern;
mod reference;
mod report;
mod rules;
mod run;
mod scan;
mod serve;
mod since;
mod store;
mod token;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command, PatternCommand};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Scan(args) => scan::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Config(command) => config::run(command),
        Command::Store(command) => store::run(command),
        Command::Notify(command) => notify::run(command),
        Command::Token(command) => token::run(command),
        Command::Rules(command) => rules::run(command),
        Command::Pattern(PatternCommand::Match) => pattern::run(),
        Command::Completions { shell } => reference::completions(shell),
        Command::Man { dir } => reference::man(dir.as_deref()),
        Command::Reference { of } => reference::markdown(of),
    };
    match result {
        Ok(code) => code,
        Err(error) if report::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report::print_error(&error);
            ExitCode::from(report::exit_code(&error))
        }
    }
}
