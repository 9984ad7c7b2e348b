//! What all endpoints share.

use std::sync::Arc;

use rootwatch_core::alert::Clock;
use rootwatch_engine::Ingest;
use rootwatch_engine::status::Status;
use rootwatch_store::Store;

use crate::config::HttpConfig;
use crate::sns::Sns;
use crate::tokens::Tokens;

/// What the doors work with.
#[derive(Debug, Clone)]
pub struct Doors {
    /// Where records go.
    pub ingest: Ingest,
    /// What is shown.
    pub store: Arc<dyn Store>,
    /// Who may come in.
    pub tokens: Tokens,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The door for SNS.
    pub sns: Sns,
    /// Limits of all doors.
    pub limits: HttpConfig,
    /// What works and what does not.
    pub status: Status,
    /// Renders the metrics in Prometheus text format; `None` where nothing is counted.
    pub metrics: Option<fn() -> String>,
}
