//! Where records come from without being sent: SQS queues (with the S3 objects of which they
//! speak) and watched folders.
//!
//! A source hands what it has to an [`Intake`] and acknowledges (deletes the message, remembers
//! the file) only when that says that it is on disk. Until then the sender still has it, and a
//! repeat costs nothing.

mod directory;
mod health;
mod patience;
mod reading;
mod s3;
mod sqs;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rootwatch_core::detect::Detected;
use rootwatch_core::rules::Ruleset;
use rootwatch_store::{Decisions, StoreError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::directory::DirectoryConfig;
pub use self::health::Health;
pub(crate) use self::s3::Objects;
pub(crate) use self::sqs::{Desk, Verdict, s3_client};
pub use self::sqs::{SqsConfig, start_with as start_sqs_with};
use crate::intake::{Ingest, IngestError, Origin, Outcome};

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
    async fn take(&self, origin: &Origin, body: Bytes) -> Result<Vec<Outcome>, IngestError>;

    /// What a scan found; `position` (name and mark) is saved in the same transaction.
    ///
    /// # Errors
    /// Nothing was saved: the source has to keep it.
    async fn take_detected(
        &self,
        origin: &Origin,
        detected: Vec<Detected>,
        position: Option<(String, String)>,
    ) -> Result<Vec<Outcome>, IngestError>;

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
pub struct Engine {
    /// Takes records and findings.
    pub ingest: Ingest,
    /// Knows positions.
    pub store: Arc<dyn Decisions>,
}

#[async_trait]
impl Intake for Engine {
    async fn take(&self, origin: &Origin, body: Bytes) -> Result<Vec<Outcome>, IngestError> {
        self.ingest.take(origin, body).await
    }

    async fn take_detected(
        &self,
        origin: &Origin,
        detected: Vec<Detected>,
        position: Option<(String, String)>,
    ) -> Result<Vec<Outcome>, IngestError> {
        self.ingest.take_detected(origin, detected, position).await
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
pub struct Surroundings {
    /// Where findings go.
    pub intake: Arc<dyn Intake>,
    /// What to look for in files and objects.
    pub rules: Arc<Ruleset>,
    /// Where a source tells how it stands.
    pub health: Health,
    /// True when the hub closes.
    pub shutdown: watch::Receiver<bool>,
}

/// Starts the configured sources. Each runs until `shutdown` is true, and its tasks end by
/// themselves then: what is in hand is finished or given back.
///
/// Only the configuration and the store are looked at here. A queue that cannot be reached, or a
/// folder that is not there, is reported by [`Health`] and tried again.
///
/// # Errors
/// When a setting is wrong or the store cannot be read.
pub async fn start(
    sqs: &[SqsConfig],
    directories: &[DirectoryConfig],
    around: &Surroundings,
) -> Result<Vec<JoinHandle<()>>, SourceError> {
    check(sqs, directories)?;
    let mut tasks = Vec::new();
    for config in sqs {
        tasks.extend(sqs::start(config.clone(), around.clone()).await?);
    }
    for config in directories {
        tasks.push(directory::start(config.clone(), around.clone()).await?);
    }
    Ok(tasks)
}

/// Checks the settings of all sources, offline.
///
/// # Errors
/// The first that is wrong.
pub fn check(sqs: &[SqsConfig], directories: &[DirectoryConfig]) -> Result<(), SourceError> {
    let names = |kind, mut names: Vec<&str>| {
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(SourceError::Twice { kind, name: pair[0].to_owned() }),
            None => Ok(()),
        }
    };
    names("sqs", sqs.iter().map(|config| config.name.as_str()).collect())?;
    names("directory", directories.iter().map(|config| config.name.as_str()).collect())?;
    for config in sqs {
        config.check().map_err(|reason| setting(&config.name, reason))?;
    }
    for config in directories {
        config.check().map_err(|reason| setting(&config.name, reason))?;
    }
    Ok(())
}

fn setting(name: &str, reason: String) -> SourceError {
    SourceError::Setting { name: name.to_owned(), reason }
}

/// Names are parts of origins, positions and metrics.
fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        return Err(format!("name has to be 1 to {NAME_BYTES_MAX} letters, digits, `-` and `_`"));
    }
    Ok(())
}

/// Bytes of a source's name.
const NAME_BYTES_MAX: usize = 64;
