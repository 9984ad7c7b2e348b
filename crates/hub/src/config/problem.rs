//! What is wrong with a configuration, and where.

use std::fmt;

use super::tree::Provenance;

/// Something about the configuration that must be mended, or should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub place: Provenance,
    /// The key: `source.sqs[0].queue_url`. Empty for the file as a whole.
    pub key: String,
    /// What is wrong: lower case, no full stop, without values that could be secrets.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// True if the hub can start anyway.
    pub is_warning: bool,
}

impl Problem {
    pub(crate) fn new(
        place: Provenance,
        key: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { place, key: key.into(), message: message.into(), hint: None, is_warning: false }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "`{}` ", self.key)?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

/// Why a configuration cannot be used: everything that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be used:\n{}", problems.iter().map(|one| format!("  {one}")).collect::<Vec<_>>().join("\n"))]
pub struct Refused {
    /// Errors, and warnings among them, in the order of the file.
    pub problems: Vec<Problem>,
}
