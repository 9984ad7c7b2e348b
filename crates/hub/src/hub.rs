//! A hub, from its configuration to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rootwatch_core::alert::{AccountName, Clock};
use rootwatch_core::rules::Ruleset;
use rootwatch_notify::{AwsAccess, ConfigProblem, LogSink, Notifier, Worker};
use rootwatch_store::{Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::config::Config;
use crate::config::secrets::Resolver;
use crate::engine::{self, Engine, Ingest, Settings};
use crate::http::auth::Tokens;
use crate::http::sns::Sns;
use crate::http::{self, Board, Doors};
use crate::intake::Trust;
use crate::metrics;
use crate::sources::{self, Health, SourceError, Surroundings};
use crate::telling::StoreOutbox;

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

/// Makes hubs.
#[derive(Debug)]
pub struct Hub;

impl Hub {
    /// Starts everything: when this returns, the doors are open.
    ///
    /// # Errors
    /// When the configuration is wrong, the address is taken, or the store cannot be read.
    pub async fn start(parts: Parts) -> Result<Running, HubError> {
        let config = parts.config.clone();
        let address = config.hub.listen;
        if config.token.is_empty() && !address.ip().is_loopback() {
            return Err(HubError::Open { address });
        }
        sources::check(&config.source.sqs, &config.source.directory)?;
        let tokens = Tokens::new(&config.token, config.source.http.requests_per_second_max);
        let assembled = assemble(parts, tokens, true, &AwsAccess::default()).await?;
        let Assembled { engine, ingest, store, rules, worker, doors, health, board } = assembled;

        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| HubError::Listen { address, source })?;
        let address =
            listener.local_addr().map_err(|source| HubError::Listen { address, source })?;

        let patience = Duration::from_secs(u64::from(config.hub.shutdown_secs));
        let (incoming, stop_incoming) = watch::channel(false);
        let (deciding, stop_deciding) = watch::channel(false);
        let (telling, stop_telling) = watch::channel(false);
        let around = Surroundings {
            intake: Arc::new(sources::Engine { ingest: ingest.clone(), store: Arc::clone(&store) }),
            rules,
            health,
            shutdown: stop_incoming.clone(),
        };

        let mut incoming_tasks = JoinSet::new();
        let sources = sources::start(&config.source.sqs, &config.source.directory, &around).await?;
        for source in sources {
            incoming_tasks.spawn(watched("a source", source));
        }
        let serve = tokio::spawn(http::serve(listener, doors, stop_incoming, patience));
        incoming_tasks.spawn(watched("doors", serve));
        let engine = tokio::spawn(noted(board.clone(), "engine", engine.run(stop_deciding)));
        let worker = tokio::spawn(noted(board, "notify", worker.run(stop_telling)));
        Ok(Running {
            address,
            ingest,
            store,
            incoming,
            deciding,
            telling,
            incoming_tasks,
            engine,
            worker,
            patience,
        })
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
    pub(crate) health: Health,
    pub(crate) board: Board,
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
    if ticks {
        metrics::install();
    }
    // Whoever was first has made the choice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    secrets.fetch(&config.notify, aws).await;
    let resolve = |at: &_| secrets.resolve(at);
    let notifier = Notifier::with_aws(&config.notify, &resolve, Arc::clone(&clock), log, aws)
        .map_err(HubError::Notify)?
        .with_public_url(config.hub.public_url.as_deref());
    let notifier = Arc::new(notifier);
    let rules = Arc::new(rules);
    let engine_parts = engine::Parts {
        store: Arc::clone(&store),
        rules: Arc::clone(&rules),
        notifier: Arc::clone(&notifier),
        clock: Arc::clone(&clock),
        wake: Arc::default(),
    };
    let settings = Settings { ticks, ..settings(&config) };
    let (mut engine, ingest) = Engine::new(engine_parts, settings).await?;
    let health = Health::default();
    let board = Board::default();
    let doors = Doors {
        ingest: ingest.clone(),
        store: Arc::clone(&store),
        tokens,
        health: health.clone(),
        clock: Arc::clone(&clock),
        sns: Sns::new(
            &config.source.sns.topics,
            ingest.clone(),
            Arc::clone(&store),
            Arc::clone(&clock),
        )
        .map_err(HubError::Client)?,
        limits: config.source.http.clone(),
        board: board.clone(),
    };
    let outbox = StoreOutbox::new(Arc::clone(&store), ingest.clone(), Arc::clone(&clock));
    let worker = Worker::new(notifier, Arc::new(outbox), clock);
    engine.wakes(worker.waker());
    Ok(Assembled { engine, ingest, store, rules, worker, doors, health, board })
}

/// Runs a part and notes on the board that it ended, however it did.
async fn noted(board: Board, part: &'static str, run: impl Future<Output = ()>) {
    struct Note(Board, &'static str);
    impl Drop for Note {
        fn drop(&mut self) {
            self.0.ended(self.1);
        }
    }
    let _note = Note(board, part);
    run.await;
}

/// Says which part it was that ended.
async fn watched(part: &'static str, task: JoinHandle<()>) -> &'static str {
    if let Err(error) = task.await {
        tracing::error!(part, %error, "a part of the hub broke");
    }
    part
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

/// A hub that runs. Dropping it ends it without care; [`Running::shutdown`] ends it well.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    ingest: Ingest,
    store: Arc<dyn Store>,
    incoming: watch::Sender<bool>,
    deciding: watch::Sender<bool>,
    telling: watch::Sender<bool>,
    incoming_tasks: JoinSet<&'static str>,
    engine: JoinHandle<()>,
    worker: JoinHandle<()>,
    patience: Duration,
}

impl Running {
    /// Where the doors are.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle to the engine.
    #[must_use]
    pub fn ingest(&self) -> Ingest {
        self.ingest.clone()
    }

    /// What the hub remembers.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Waits until the hub cannot go on: a part of it ended that should not have.
    ///
    /// # Errors
    /// Always: a hub does not end by itself.
    pub async fn finished(&mut self) -> Result<(), HubError> {
        let part = tokio::select! {
            ended = self.incoming_tasks.join_next() => match ended {
                Some(Ok(part)) => part,
                _ => "doors",
            },
            _ = &mut self.engine => "engine",
            _ = &mut self.worker => "notify",
        };
        Err(HubError::Ended { part })
    }

    /// Ends the hub well: what was begun is finished, what is owed and not sent stays owed.
    pub async fn shutdown(mut self) {
        // From the front to the back, so that nothing is cut off on its way.
        self.incoming.send_replace(true);
        let all = async { while self.incoming_tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.patience + PATIENCE_MORE, all).await.is_err() {
            tracing::warn!("a source did not end in time");
            self.incoming_tasks.abort_all();
        }
        self.telling.send_replace(true);
        end("notify", &mut self.worker, self.patience + PATIENCE_MORE).await;
        self.deciding.send_replace(true);
        end("engine", &mut self.engine, self.patience + PATIENCE_MORE).await;
    }
}

/// How much longer than the parts themselves the hub waits for them.
const PATIENCE_MORE: Duration = Duration::from_secs(1);

async fn end(part: &'static str, task: &mut JoinHandle<()>, patience: Duration) {
    if task.is_finished() {
        return;
    }
    if tokio::time::timeout(patience, &mut *task).await.is_err() {
        tracing::warn!(part, "did not end in time");
        task.abort();
    }
}
