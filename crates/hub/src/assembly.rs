//! Puts the parts of a hub together, for a process that runs and for a function that is called.

use std::net::SocketAddr;
use std::sync::Arc;

use rootwatch_core::alert::{AccountName, Clock};
use rootwatch_core::rules::Ruleset;
use rootwatch_engine::status::Status;
use rootwatch_engine::{Engine, Ingest, Parts as EngineParts, Settings, StoreOutbox, Trust};
use rootwatch_notify::{AwsAccess, ConfigProblem, LogSink, Notifier, Worker};
use rootwatch_store::{Store, StoreError};
use rootwatch_web::{Doors, Sns, Tokens};

use crate::config::Config;
use crate::config::secrets::Resolver;
use crate::metrics;
use crate::sources::SourceError;

/// What a hub is made of.
pub struct Parts {
    /// Its configuration.
    pub config: Config,
    /// Where it keeps things.
    pub store: Arc<dyn Store>,
    /// What it looks for.
    pub rules: Ruleset,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where the channel `log` writes.
    pub log: LogSink,
    /// Who knows the secrets that the configuration names.
    pub secrets: Arc<Resolver>,
}

/// Why a hub cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Destinations or routes are wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Notify(Vec<ConfigProblem>),
    /// A source is wrong.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The hub would listen to everybody, and ask nobody for a token.
    #[error("{address} can be reached from elsewhere, and no [[token]] is configured")]
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
    /// The HTTP client could not be made.
    #[error("no HTTP client: {0}")]
    Client(String),
    /// A part of the hub ended that should not have.
    #[error("{part} ended unexpectedly")]
    Ended {
        /// `engine`, `doors`, `notify` or `a source`.
        part: &'static str,
    },
}

impl HubError {
    /// True when the configuration has to be mended before another try makes sense.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Notify(_) | Self::Open { .. } => true,
            Self::Source(error) => !matches!(error, SourceError::Store { .. }),
            _ => false,
        }
    }
}

/// The parts of a hub, put together, before any of them runs.
pub(crate) struct Assembled {
    pub(crate) engine: Engine,
    pub(crate) ingest: Ingest,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) rules: Arc<Ruleset>,
    pub(crate) worker: Worker,
    pub(crate) doors: Doors,
    pub(crate) status: Status,
}

/// Puts a hub together. `ticks` says whether it runs by itself: whether its engine has a clock, and
/// whether it counts what it does. What is only called, in processes that come and go, has no numbers
/// of its own to show.
pub(crate) async fn assemble(
    parts: Parts,
    tokens: Tokens,
    ticks: bool,
    aws: &AwsAccess,
) -> Result<Assembled, HubError> {
    let Parts { config, store, rules, clock, log, secrets } = parts;
    let metrics = if ticks { metrics::install() } else { None };
    // Whoever was first has made the choice.
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
    let settings = Settings { ticks, ..settings(&config) };
    let (mut engine, ingest) = Engine::new(engine_parts, settings).await?;
    let status = Status::default();
    let doors = Doors {
        ingest: ingest.clone(),
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
    Ok(Assembled { engine, ingest, store, rules, worker, doors, status })
}

/// What the engine needs to know of the configuration.
fn settings(config: &Config) -> Settings {
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
    Settings {
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
