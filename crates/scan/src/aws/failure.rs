//! How calls fail, and whether to retry them.

use std::time::{Duration, Instant};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use rootwatch_aws::{Advice, codes};
use rootwatch_core::retry::BackOff;

/// Seconds for which a call is retried.
const RETRY_SECS_MAX: u64 = 120;
/// First pause between two attempts, in milliseconds; it doubles.
const PAUSE_MILLIS: u64 = 200;
/// Longest pause between two attempts, in milliseconds.
const PAUSE_MILLIS_MAX: u64 = 20_000;

/// Why nothing could be begun. What goes wrong later is skipped and counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloudError {
    /// An address cannot be meant: correct it.
    #[error("`{text}`: {reason}")]
    Address {
        /// As it was given.
        text: String,
        /// Lower case, no full stop.
        reason: String,
        /// What to write instead.
        hint: &'static str,
    },
    /// There are no credentials, or a role is refused: mend the environment or the role.
    #[error("no AWS credentials{whose}: {reason}")]
    Credentials {
        /// ` of the role …`, or nothing.
        whose: String,
        /// Lower case, no full stop.
        reason: String,
    },
    /// A checkpoint cannot be used: name another file, or the arguments with which it was begun.
    #[error("checkpoint {path}: {reason}")]
    Checkpoint {
        /// The file.
        path: String,
        /// Lower case, no full stop.
        reason: String,
    },
    /// The queue cannot be used.
    #[error("queue {url}: {reason}")]
    Queue {
        /// Its URL.
        url: String,
        /// Lower case, no full stop.
        reason: String,
    },
    /// AWS does not say what has to be known first.
    #[error("{what}: {reason}")]
    Refused {
        /// What was asked.
        what: String,
        /// Lower case, no full stop.
        reason: String,
    },
    /// This machine does not do it.
    #[error("cannot {what}")]
    Machine {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl CloudError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Address { hint, .. } => Some(hint),
            Self::Credentials { .. } => Some(
                "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `aws sts \
                 get-caller-identity` says who you are",
            ),
            Self::Checkpoint { .. } => {
                Some("give the arguments of the scan that wrote it, or name a new file")
            }
            _ => None,
        }
    }
}

/// How a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Asking again gives the same: it is not there, or not for us.
    Refused(String),
    /// It is another object now than the one that was begun with.
    Changed,
    /// It may be had later.
    Again {
        /// AWS's name for it, where there is one.
        code: Option<String>,
        /// What was answered.
        reason: String,
    },
}

impl Failure {
    /// True when AWS does not take the credentials, which no pause changes.
    #[must_use]
    pub fn is_about_credentials(&self) -> bool {
        let Self::Again { code: Some(code), .. } = self else { return false };
        codes::advice(code) == Some(Advice::FixCredentials)
    }

    /// The same, with what was attempted before it.
    pub(super) fn on(self, what: &str) -> Self {
        match self {
            Self::Refused(reason) => Self::Refused(format!("{what}: {reason}")),
            Self::Again { code, reason } => {
                Self::Again { code, reason: format!("{what}: {reason}") }
            }
            Self::Changed => Self::Changed,
        }
    }

    /// Why, in words.
    #[must_use]
    pub fn reason(self) -> String {
        match self {
            Self::Refused(reason) | Self::Again { reason, .. } => reason,
            Self::Changed => "it changed while it was read".to_owned(),
        }
    }
}

/// What a call of S3 came to.
pub fn failure_of<E>(error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let code = error.code().map(str::to_owned);
    let reason = match &code {
        Some(code) => match error.message() {
            Some(message) => format!("S3 answers {code}: {message}"),
            None => format!("S3 answers {code}"),
        },
        None => chained(error),
    };
    let status = match error {
        SdkError::ServiceError(service) => Some(service.raw().status().as_u16()),
        _ => None,
    };
    // A code that is not known may be had later: a retry costs a pause, a refusal would leave a gap.
    let is_refused = match error {
        SdkError::ServiceError(_) => {
            let advice = code.as_deref().and_then(codes::advice);
            status == Some(404)
                || matches!(advice, Some(Advice::GiveUp | Advice::FixPermissions))
                || (status == Some(403) && code.is_none())
        }
        SdkError::ConstructionFailure(_) => true,
        _ => false,
    };
    if status == Some(412) {
        Failure::Changed
    } else if is_refused {
        Failure::Refused(reason)
    } else {
        Failure::Again { code, reason }
    }
}

pub use rootwatch_core::error_chain::joined as chained;

/// How long a call is retried.
#[derive(Debug)]
pub(super) struct RetryBudget {
    since: Option<Instant>,
    back_off: BackOff,
}

impl RetryBudget {
    pub(super) fn new() -> Self {
        let millis = Duration::from_millis;
        Self { since: None, back_off: BackOff::new(millis(PAUSE_MILLIS), millis(PAUSE_MILLIS_MAX)) }
    }

    /// Begins anew after a success.
    pub(super) fn reset(&mut self) {
        self.since = None;
        self.back_off.reset();
    }

    /// Waits before the next attempt; false, at once, when the budget is used up.
    pub(super) async fn wait(&mut self) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        let pause = self.back_off.pause();
        if since.elapsed() + pause > Duration::from_secs(RETRY_SECS_MAX) {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }
}
