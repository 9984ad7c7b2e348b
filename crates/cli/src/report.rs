//! Errors of commands: exit codes, advice, and how an error is printed.

use std::io::{self, Write as _};

use anstyle::Style;

/// Exit code for failures at run time.
pub(crate) const EXIT_FAILED: u8 = 1;
/// Exit code for usage and configuration errors.
pub(crate) const EXIT_USAGE: u8 = 2;

/// Marks an error as a failure at run time, not an error of usage or configuration.
#[derive(Debug)]
pub(crate) struct Failed(String);

impl Failed {
    /// What was attempted; the cause follows it.
    pub(crate) fn to(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {}", self.0)
    }
}

/// An error with advice.
#[derive(Debug)]
pub(crate) struct Hint {
    message: String,
    hint: String,
}

impl Hint {
    /// Creates an error that says what to do about it.
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

/// The exit code of an error. A failure is found under any context.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Failed>() { EXIT_FAILED } else { EXIT_USAGE }
}

/// True if the reader of our output has closed it: it has read enough.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// Prints an error with its causes, and advice on a separate line.
pub(crate) fn print_error(error: &anyhow::Error) {
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
    // If standard error is closed, nothing can be reported anywhere else.
    let mut err = anstream::stderr();
    let _ = writeln!(err, "{strong}error:{strong:#} {}", text.join(": "));
    if let Some(hint) = hint {
        let _ = writeln!(err, "{strong}hint:{strong:#} {hint}");
    }
}
