//! Errors with their causes, in one line.

use std::error::Error;

/// An error with its causes, each once: outer errors often repeat the inner one.
#[must_use]
pub fn joined(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

/// The innermost cause alone. For errors of HTTP clients, whose outermost error names the URL, which
/// may be a secret.
#[must_use]
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn each_cause_stands_once() {
        let inner = Layer { text: "refused", source: None };
        let middle = Layer { text: "connect: refused", source: Some(Box::new(inner)) };
        let outer = Layer { text: "https://hook.test/hush", source: Some(Box::new(middle)) };
        assert_eq!(joined(&outer), "https://hook.test/hush: connect: refused");
        assert_eq!(innermost(&outer), "refused");
    }
}
