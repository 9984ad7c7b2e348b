//! What all endpoints share.

use std::sync::Arc;

use rootwatch_core::alert::Clock;
use rootwatch_engine::EngineHandle;
use rootwatch_engine::status::Status;
use rootwatch_store::Store;

use crate::config::HttpConfig;
use crate::sns::Sns;
use crate::tokens::Tokens;

/// What all endpoints share; cheap to clone.
#[derive(Debug, Clone)]
pub struct AppState {
    /// The engine: where records go and incidents are changed.
    pub engine: EngineHandle,
    /// Where lists are read.
    pub store: Arc<dyn Store>,
    /// Who may send requests.
    pub tokens: Tokens,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The SNS endpoint.
    pub sns: Sns,
    /// Limits of all endpoints.
    pub limits: HttpConfig,
    /// What works and what does not.
    pub status: Status,
    /// Renders the metrics in Prometheus text format; `None` where nothing is counted.
    pub metrics: Option<fn() -> String>,
}
