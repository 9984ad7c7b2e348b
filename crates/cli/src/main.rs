//! The `rootwatch` program: arguments in, rooms called, output out.

mod args;
mod config;
mod demo;
#[cfg(test)]
mod documented;
mod interrupt;
mod notify;
mod output;
mod pattern;
mod reference;
mod rules;
mod scan;
mod serve;
mod since;
mod store;
mod token;

use std::io;
use std::process::ExitCode;

use anstyle::Style;
use anyhow::Context as _;
use clap::Parser;

use crate::args::{Cli, Command, PatternCommand};

/// Exit code for what fails at run time.
const EXIT_FAILED: u8 = 1;
/// Exit code for usage and configuration errors.
const EXIT_USAGE: u8 = 2;

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
        // Whoever reads our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(&error);
            // Seen through contexts, too.
            ExitCode::from(if error.is::<Failed>() { EXIT_FAILED } else { EXIT_USAGE })
        }
    }
}

/// Marks an error as one of run time, beside those of usage and configuration.
#[derive(Debug)]
pub(crate) struct Failed(String);

impl Failed {
    /// What was attempted, before its cause.
    pub(crate) fn to(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {}", self.0)
    }
}

/// A runtime for the commands that need one, and the one provider of cryptography that all TLS of
/// this program uses.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use_ring();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context(Failed::to("start the runtime"))
}

/// Makes ring the provider of cryptography of all TLS.
pub(crate) fn use_ring() {
    // A second call finds it there already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
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
