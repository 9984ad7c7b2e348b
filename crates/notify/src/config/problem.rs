//! An error in the configuration, with the key that it concerns.

use std::fmt;

/// An error in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key: `notify.destination.oncall.escalate_to`.
    pub key: String,
    /// What is wrong, in lower case and without a full stop.
    pub problem: String,
}

impl ConfigProblem {
    pub(crate) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

impl std::error::Error for ConfigProblem {}
