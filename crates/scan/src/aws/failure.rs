//! How calls fail, and what to do then: ask again, after a pause, or not.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

/// Seconds for which something that AWS does not give is asked for again.
const TRY_SECS_MAX: u64 = 120;
/// First pause between two tries, in milliseconds; it doubles.
const PAUSE_MILLIS: u64 = 200;
/// Longest pause between two tries, in milliseconds.
const PAUSE_MILLIS_MAX: u64 = 20_000;

/// What S3 says when an object will not be had by asking again.
const REFUSALS: [&str; 9] = [
    "AccessDenied",
    "AllAccessDisabled",
    "InvalidBucketName",
    "InvalidObjectState",
    "InvalidRange",
    "KeyTooLongError",
    "NoSuchBucket",
    "NoSuchKey",
    "NotFound",
];

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
        let codes = [
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidToken",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
        ];
        matches!(self, Self::Again { code: Some(code), .. } if codes.contains(&code.as_str()))
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
    let is_refused = match error {
        SdkError::ServiceError(_) => {
            status == Some(404)
                || code.as_deref().is_some_and(|code| REFUSALS.contains(&code))
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

/// An error with its causes, each once.
#[must_use]
pub fn chained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

/// Pauses that double, each cut by chance to between half of it and all, so that many who failed
/// together do not come back together.
#[derive(Debug)]
pub struct BackOff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl BackOff {
    /// From `first` to `max`.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.max);
        // A hasher with random keys is all the chance that this needs.
        let chance = RandomState::new().build_hasher().finish() % 1024;
        let half = whole / 2;
        half + half.mul_f64(f64::from(u32::try_from(chance).unwrap_or(0)) / 1024.0)
    }

    /// Begins again with the first.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// How long a failure is borne.
#[derive(Debug)]
pub(super) struct Patience {
    since: Option<Instant>,
    back_off: BackOff,
}

impl Patience {
    pub(super) fn new() -> Self {
        let millis = Duration::from_millis;
        Self { since: None, back_off: BackOff::new(millis(PAUSE_MILLIS), millis(PAUSE_MILLIS_MAX)) }
    }

    /// Something came: what was before is forgotten.
    pub(super) fn reset(&mut self) {
        self.since = None;
        self.back_off.reset();
    }

    /// Waits; false, at once, when it is time to give up.
    pub(super) async fn bear(&mut self) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        let pause = self.back_off.pause();
        if since.elapsed() + pause > Duration::from_secs(TRY_SECS_MAX) {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_limit_and_vary() {
        let mut back_off = BackOff::new(Duration::from_secs(1), Duration::from_secs(5));
        for whole in [1, 2, 4, 5, 5] {
            let pause = back_off.pause();
            assert!(pause >= Duration::from_millis(whole * 500), "{pause:?} of {whole}");
            assert!(pause <= Duration::from_secs(whole), "{pause:?} of {whole}");
        }
        back_off.reset();
        assert!(back_off.pause() <= Duration::from_secs(1));
    }
}
