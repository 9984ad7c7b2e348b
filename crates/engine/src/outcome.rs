//! Who sent records, what became of each, and why a request failed.

use rootwatch_core::incident::IncidentId;
use rootwatch_store::StoreError;
use serde::Serialize;

/// Times that a compressed body may grow.
pub(crate) const EXPANSION_MAX: usize = 200;
/// Seconds after which a sender that finds the queue full should retry.
const BUSY_SECS: u64 = 1;

/// Who brought records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `http:<token name>`, `sns`, `sqs:<name>`, `directory:<name>` or `lambda`.
    pub source: String,
    /// True for records of the past that somebody has looked for: what they tell is kept and shown
    /// as history, and wakes nobody.
    pub history: bool,
}

impl Origin {
    /// Records as they happen, from this source.
    #[must_use]
    pub fn live(source: impl Into<String>) -> Self {
        Self { source: source.into(), history: false }
    }

    /// The same source, bringing records of the past.
    #[must_use]
    pub fn of_the_past(&self) -> Self {
        Self { history: true, ..self.clone() }
    }

    /// The kind of source, for metrics: what stands before the colon.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.source.split(':').next().unwrap_or_default()
    }
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It is a finding, and on disk.
    Saved {
        /// The incident that holds it.
        incident: IncidentId,
    },
    /// It was saved before.
    Known,
    /// No root use, and no rule speaks: nothing to keep.
    NoFinding,
    /// It says what it may not: kept apart.
    Unverified {
        /// Why it is not trusted.
        reason: String,
    },
    /// Somebody tries the way: a test alert is owed, and on disk.
    Drill {
        /// The account from which it came.
        account: String,
        /// The region from which it came.
        region: String,
    },
    /// Sound, and no API record.
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

/// Why records were not taken. Nothing of the request was saved: the sender still has it.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Too much is waiting already.
    #[error("the hub is busy: come again in {retry_after_secs} s")]
    Busy {
        /// When to come again, in seconds.
        retry_after_secs: u64,
    },
    /// The body is larger than is taken, as sent or inflated.
    #[error(
        "the body is larger than {bytes_max} bytes, or grows by more than {EXPANSION_MAX} times"
    )]
    TooLarge {
        /// Bytes at most.
        bytes_max: usize,
    },
    /// The body cannot be inflated.
    #[error("the body is not sound gzip: {reason}")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// The store could not save.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The hub is closing.
    #[error("the hub is closing")]
    Closing,
}

impl IngestError {
    /// The queue is full.
    pub(crate) fn busy() -> Self {
        Self::Busy { retry_after_secs: BUSY_SECS }
    }
}
