//! How the root user got in: the tracks of the timeline's chart, and the words for them.

use crate::finding::{Finding, RootUse};

/// How the root user got in, in the order of the chart's tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccessPath {
    /// The sign-in page: attempts, recoveries, MFA checks.
    SignIn,
    /// The console, or temporary keys of a console session.
    Console,
    /// A long-term access key.
    AccessKey,
    /// A privileged session.
    Privileged,
    /// A session that the root user issued.
    Derived,
    /// An AWS service for the root user.
    OnBehalf,
    /// Not the root user at all.
    NotRoot,
}

impl AccessPath {
    /// The access path of one finding.
    #[must_use]
    pub fn of(finding: &Finding) -> Self {
        match finding.root_use {
            RootUse::OnBehalf => Self::OnBehalf,
            RootUse::Derived => Self::Derived,
            RootUse::Privileged => Self::Privileged,
            RootUse::No => Self::NotRoot,
            RootUse::Direct | RootUse::Possible if finding.session.sign_in => Self::SignIn,
            RootUse::Direct | RootUse::Possible if finding.session.long_term_key => Self::AccessKey,
            RootUse::Direct | RootUse::Possible => Self::Console,
        }
    }

    /// The name of its track.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SignIn => "Sign-in",
            Self::Console => "Console",
            Self::AccessKey => "Access key",
            Self::Privileged => "Privileged",
            Self::Derived => "Derived",
            Self::OnBehalf => "AWS service",
            Self::NotRoot => "Not root",
        }
    }
}
