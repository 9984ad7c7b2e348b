//! Puts the parts of a hub together, for a process that runs and for a function that is called.

use std::net::SocketAddr;
use std::sync::Arc;

use rootwatch_core::alert::{AccountName, Clock};
use rootwatch_core::rules::Ruleset;
use rootwatch_engine::status::Status;
use rootwatch_engine::{Engine, EngineHandle, EngineParts, EngineSettings, StoreOutbox, Trust};
use rootwatch_notify::{AwsAccess, ConfigProblem, LogSink, Notifier, Worker};
use rootwatch_store::{Store, StoreError};
use rootwatch_web::{AppState, Sns, Tokens};

use crate::config::Config;
use crate::config::secrets::Resolver;
use crate::metrics;
use crate::sources::SourceError;

/// What a hub is assembled from.
pub struct HubParts {
    /// The configuration.
    pub config: Config,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The detection rules.
    pub rules: Ruleset,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where the channel `log` writes.
    pub log: LogSink,
    /// Resolves the secrets that the configuration refers to.
    pub secrets: Arc<Resolver>,
}

/// Why a hub cannot start or continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Destinations or routes are wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Notify(Vec<ConfigProblem>),
    /// A source is wrong.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The hub would accept requests from other machines without a token.
    #[error("{address} accepts requests from other machines, but no [[token]] is configured")]
    Open {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The HTTP client cannot be created.
    #[error("cannot create the HTTP client: {0}")]
    Client(String),
    /// A task of the hub ended that should not.
    #[error("{part} ended unexpectedly")]
    Ended {
        /// `engine`, `web`, `notify` or `a source`.
        part: &'static str,
    },
}

impl HubError {
    /// True if the configuration must be fixed before a retry makes sense.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Notify(_) | Self::Open { .. } => true,
            Self::Source(error) => !matches!(error, SourceError::Store { .. }),
            _ => false,
        }
    }
}

/// The parts of a hub before they run.
pub(crate) struct Assembled {
    pub(crate) engine: Engine,
    pub(crate) ingest: EngineHandle,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) rules: Arc<Ruleset>,
    pub(crate) worker: Worker,
    pub(crate) app: AppState,
    pub(crate) status: Status,
}

/// Assembles a hub. `ticks` is true for one that runs: its engine applies what time changes, and metrics
/// are recorded. A function, whose processes are short-lived, has no metrics of its own.
pub(crate) async fn assemble(
    parts: HubParts,
    tokens: Tokens,
    ticks: bool,
    aws: &AwsAccess,
) -> Result<Assembled, HubError> {
    let HubParts { config, store, rules, clock, log, secrets } = parts;
    let metrics = if ticks { metrics::install() } else { None };
    // If a provider is already installed, it stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    secrets.fetch(&config.notify, aws).await;
    let resolve = |at: &_| secrets.resolve(at);
    let notifier = Notifier::with_aws(&config.notify, &resolve, Arc::clone(&clock), log, aws)
        .map_err(HubError::Notify)?
        .with_public_url(config.hub.public_url.as_deref());
    let notifier = Arc::new(notifier);
    let rules = Arc::new(rules);
    let engine_parts = EngineParts {
        store: Arc::clone(&store),
        rules: Arc::clone(&rules),
        notifier: Arc::clone(&notifier),
        clock: Arc::clone(&clock),
        wake: Arc::default(),
    };
    let settings = EngineSettings { ticks, ..settings(&config) };
    let (mut engine, ingest) = Engine::new(engine_parts, settings).await?;
    let status = Status::default();
    let app = AppState {
        engine: ingest.clone(),
        store: Arc::clone(&store),
        tokens,
        clock: Arc::clone(&clock),
        sns: Sns::new(&config.source.sns.topics, ingest.clone(), store.clone(), Arc::clone(&clock))
            .map_err(HubError::Client)?,
        limits: config.source.http.clone(),
        status: status.clone(),
        metrics,
    };
    let outbox = StoreOutbox::new(Arc::clone(&store), ingest.clone(), Arc::clone(&clock));
    let worker = Worker::new(notifier, Arc::new(outbox), clock);
    engine.wakes(worker.waker());
    Ok(Assembled { engine, ingest, store, rules, worker, app, status })
}

/// The engine's part of the configuration.
fn settings(config: &Config) -> EngineSettings {
    let named = config.account.iter().map(|account| {
        let name = AccountName {
            id: account.id.clone(),
            name: account.name.clone(),
            unit: account.unit.clone(),
        };
        (account.id.clone(), name)
    });
    let mut accounts: std::collections::BTreeSet<String> =
        config.hub.organization.accounts.iter().cloned().collect();
    if !accounts.is_empty() {
        accounts.extend(config.account.iter().map(|account| account.id.clone()));
    }
    EngineSettings {
        queue_requests_max: config.hub.queue_requests_max,
        queue_bytes_max: config.hub.queue_bytes_max,
        body_bytes_max: config.hub.body_bytes_max,
        memory_days: config.hub.memory_days,
        quiet_after_secs: config.hub.quiet_after_secs,
        retention_days: config.store.retention_days,
        digest: config.notify.digest.clone(),
        accounts: named.collect(),
        windows: config.window.iter().filter_map(|window| window.read().ok()).collect(),
        trust: Trust { accounts },
        ticks: true,
    }
}
