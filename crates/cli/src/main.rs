//! The `rootwatch` program: arguments in, rooms called, output out.

mod args;
mod output;
mod pattern;
mod reference;
mod rules;
mod scan;

use std::io;
use std::process::ExitCode;

use anstyle::Style;
use clap::Parser;

use crate::args::{Cli, Command, PatternCommand};

/// Exit code for usage and configuration errors.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Scan(args) => scan::run(&args),
        Command::Rules(command) => rules::run(command),
        Command::Pattern(PatternCommand::Match) => pattern::run(),
        Command::Completions { shell } => reference::completions(shell),
        Command::Man { dir } => reference::man(dir.as_deref()),
        Command::Reference => reference::markdown(),
    };
    match result {
        Ok(code) => code,
        // Whoever reads our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(&error);
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// What went wrong, its causes, and advice on a line of its own.
fn say_error(error: &anyhow::Error) {
    let strong = Style::new().bold();
    let mut hint = None;
    let mut text = Vec::new();
    for cause in error.chain() {
        match cause.downcast_ref::<Hint>() {
            Some(Hint { message, hint: advice }) => {
                text.push(message.clone());
                hint = Some(advice.clone());
            }
            None => text.push(cause.to_string()),
        }
    }
    // Standard error may be closed; there is nobody left to tell.
    use std::io::Write;
    let mut err = anstream::stderr();
    let _ = writeln!(err, "{strong}error:{strong:#} {}", text.join(": "));
    if let Some(hint) = hint {
        let _ = writeln!(err, "{strong}hint:{strong:#} {hint}");
    }
}

/// An error with advice.
#[derive(Debug)]
pub(crate) struct Hint {
    message: String,
    hint: String,
}

impl Hint {
    /// An error that says what to do about it.
    pub(crate) fn error(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { message: message.into(), hint: hint.into() })
    }
}

impl std::fmt::Display for Hint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Hint {}
