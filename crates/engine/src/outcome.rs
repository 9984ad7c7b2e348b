//! Where records come from, the outcome of each, and why a request fails.

use rootwatch_core::incident::IncidentId;
use rootwatch_store::StoreError;
use serde::Serialize;

/// How many times larger than sent a body may become when it is inflated.
pub(crate) const EXPANSION_MAX: usize = 200;
/// Seconds after which a sender that finds the queue full should retry.
const BUSY_SECS: u64 = 1;

/// Where records come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSource {
    /// `http:<token name>`, `sns`, `sqs:<name>`, `directory:<name>` or `lambda`.
    pub source: String,
    /// True for records from a scan of old log files. Their incidents are saved and shown as history and
    /// raise no alert.
    pub history: bool,
}

impl RecordSource {
    /// Live records from this source.
    #[must_use]
    pub fn live(source: impl Into<String>) -> Self {
        Self { source: source.into(), history: false }
    }

    /// The same source with records of old log files.
    #[must_use]
    pub fn as_history(&self) -> Self {
        Self { history: true, ..self.clone() }
    }

    /// The kind of source, for metrics: the part before the colon.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.source.split(':').next().unwrap_or_default()
    }
}

/// The outcome of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum IntakeOutcome {
    /// A finding, on disk.
    Saved {
        /// The incident that holds it.
        incident: IncidentId,
    },
    /// A finding that was saved before.
    Known,
    /// No root use, and no rule matched: nothing to save.
    NoFinding,
    /// Not trusted: saved apart from incidents.
    Unverified {
        /// Why it is not trusted.
        reason: String,
    },
    /// A drill: a test alert is enqueued, on disk.
    Drill {
        /// The account from which it came.
        account: String,
        /// The region from which it came.
        region: String,
    },
    /// Valid, but not an API record.
    PassedOver {
        /// What it is.
        what: &'static str,
    },
    /// It could not be decoded.
    Skipped {
        /// Why.
        reason: String,
        /// Number of the record in its text, from 1; 0 where none had begun.
        record: u64,
        /// Byte offset in the (decompressed) text.
        offset: u64,
    },
}

/// Why a request fails. Nothing of it was saved: the sender keeps its records and may retry.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The queue is full.
    #[error("hub overloaded: retry in {retry_after_secs} s")]
    Busy {
        /// Seconds to wait before the retry.
        retry_after_secs: u64,
    },
    /// The body is too large, as sent or inflated.
    #[error(
        "the body is larger than {bytes_max} bytes, or inflates to more than {EXPANSION_MAX} times its size"
    )]
    TooLarge {
        /// Bytes at most.
        bytes_max: usize,
    },
    /// The body cannot be inflated.
    #[error("the body is not valid gzip: {reason}")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// The store could not save.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The hub shuts down.
    #[error("the hub is shutting down")]
    Closing,
}

impl IngestError {
    /// The queue is full.
    pub(crate) fn busy() -> Self {
        Self::Busy { retry_after_secs: BUSY_SECS }
    }
}
