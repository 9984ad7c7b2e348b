//! What every source needs of the hub, and where it hands what it reads.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rootwatch_core::detect::Detected;
use rootwatch_engine::status::Status;
use rootwatch_engine::{EngineHandle, IngestError, IntakeOutcome, RecordSource};
use rootwatch_scan::objects::ObjectScanner;
use rootwatch_store::{Decisions, StoreError};
use tokio::sync::watch;

/// Why a source cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A setting is wrong: mend the configuration.
    #[error("source {name:?}: {reason}")]
    Setting {
        /// The source's name, as configured.
        name: String,
        /// Lower case, no full stop.
        reason: String,
    },
    /// Two sources of one kind have one name.
    #[error("two sources of kind {kind} are named {name:?}")]
    Twice {
        /// `sqs` or `directory`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// What was read before cannot be learnt from the store.
    #[error("source {name:?}: cannot load what was read before")]
    Store {
        /// The source's name.
        name: String,
        /// What the store said.
        source: StoreError,
    },
}

/// Where sources hand what they read: the engine, or a stand-in for it in tests.
#[async_trait]
pub trait Intake: Send + Sync + 'static {
    /// Any shape that `decode_log` knows; durable when it returns `Ok`.
    ///
    /// # Errors
    /// Nothing was saved: the source has to keep it.
    async fn take(
        &self,
        record_source: &RecordSource,
        body: Bytes,
    ) -> Result<Vec<IntakeOutcome>, IngestError>;

    /// What a scan found; `position` (name and mark) is saved in the same transaction.
    ///
    /// # Errors
    /// Nothing was saved: the source has to keep it.
    async fn take_detected(
        &self,
        record_source: &RecordSource,
        detected: Vec<Detected>,
        position: Option<(String, String)>,
    ) -> Result<Vec<IntakeOutcome>, IngestError>;

    /// Owes a test alert to everybody, since a drill came through from this account and region.
    ///
    /// # Errors
    /// Nothing was saved: the source has to keep it.
    async fn drill(&self, account: &str, region: &str) -> Result<(), IngestError>;

    /// Positions that were saved before, of which the name begins with `prefix`: names and marks.
    ///
    /// # Errors
    /// As the store has them.
    async fn positions(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError>;

    /// How full the queue to the engine is, 0 to 1.
    fn pressure(&self) -> f64;
}

/// The engine as an [`Intake`].
pub struct EngineIntake {
    /// Takes records and findings.
    pub ingest: EngineHandle,
    /// Knows positions.
    pub store: Arc<dyn Decisions>,
}

#[async_trait]
impl Intake for EngineIntake {
    async fn take(
        &self,
        record_source: &RecordSource,
        body: Bytes,
    ) -> Result<Vec<IntakeOutcome>, IngestError> {
        self.ingest.take(record_source, body).await
    }

    async fn take_detected(
        &self,
        record_source: &RecordSource,
        detected: Vec<Detected>,
        position: Option<(String, String)>,
    ) -> Result<Vec<IntakeOutcome>, IngestError> {
        self.ingest.take_detected(record_source, detected, position).await
    }

    async fn drill(&self, account: &str, region: &str) -> Result<(), IngestError> {
        Ok(self.ingest.drill(account, region).await?)
    }

    async fn positions(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        self.store.positions(prefix).await
    }

    fn pressure(&self) -> f64 {
        self.ingest.pressure()
    }
}

/// What every source needs of the hub.
#[derive(Clone)]
pub struct SourceContext {
    /// Where findings go.
    pub intake: Arc<dyn Intake>,
    /// Scans files and objects, with the rules of the hub.
    pub scanner: Arc<ObjectScanner>,
    /// Where a source reports whether it works.
    pub status: Status,
    /// True when the hub closes.
    pub shutdown: watch::Receiver<bool>,
}

/// Names are parts of origins, positions and metrics.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        return Err(format!("name must be 1 to {NAME_BYTES_MAX} letters, digits, `-` and `_`"));
    }
    Ok(())
}

/// Bytes of a source's name.
const NAME_BYTES_MAX: usize = 64;
