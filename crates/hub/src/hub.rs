//! A running hub: start, run, shut down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rootwatch_engine::EngineHandle;
use rootwatch_engine::status::Status;
use rootwatch_notify::AwsAccess;
use rootwatch_scan::ScanOptions;
use rootwatch_scan::objects::ObjectScanner;
use rootwatch_store::Store;
use rootwatch_web::Tokens;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::assembly::{Assembled, HubError, HubParts, assemble};
use crate::sources::{self, SourceContext};

/// Starts hubs.
#[derive(Debug)]
pub struct Hub;

impl Hub {
    /// Starts everything. When this returns, the HTTP service accepts requests.
    ///
    /// # Errors
    /// When the configuration is wrong, the address is taken, or the store cannot be read.
    pub async fn start(parts: HubParts) -> Result<RunningHub, HubError> {
        let config = parts.config.clone();
        let address = config.hub.listen;
        if config.token.is_empty() && !address.ip().is_loopback() {
            return Err(HubError::Open { address });
        }
        sources::check(&config.source.sqs, &config.source.directory)?;
        let tokens = Tokens::new(&config.token, config.source.http.requests_per_second_max);
        let assembled = assemble(parts, tokens, true, &AwsAccess::default()).await?;
        let Assembled { engine, ingest, store, rules, worker, app, status } = assembled;

        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| HubError::Listen { address, source })?;
        let address =
            listener.local_addr().map_err(|source| HubError::Listen { address, source })?;

        let grace = Duration::from_secs(u64::from(config.hub.shutdown_secs));
        let (incoming, stop_incoming) = watch::channel(false);
        let (deciding, stop_deciding) = watch::channel(false);
        let (sending, stop_sending) = watch::channel(false);
        let context = SourceContext {
            intake: Arc::new(sources::EngineIntake {
                ingest: ingest.clone(),
                store: store.clone(),
            }),
            scanner: Arc::new(ObjectScanner::new(rules, ScanOptions::default())),
            status: status.clone(),
            shutdown: stop_incoming.clone(),
        };

        let mut incoming_tasks = JoinSet::new();
        let sources =
            sources::start(&config.source.sqs, &config.source.directory, &context).await?;
        for source in sources {
            incoming_tasks.spawn(watched("a source", source));
        }
        let serve = tokio::spawn(rootwatch_web::serve(listener, app, stop_incoming, grace));
        incoming_tasks.spawn(watched("web", serve));
        let engine = tokio::spawn(noted(status.clone(), "engine", engine.run(stop_deciding)));
        let worker = tokio::spawn(noted(status, "notify", worker.run(stop_sending)));
        Ok(RunningHub {
            address,
            ingest,
            store,
            incoming,
            deciding,
            sending,
            incoming_tasks,
            engine,
            worker,
            grace,
        })
    }
}

/// Runs a task and records in the status when it ends, for whatever reason.
async fn noted(status: Status, part: &'static str, run: impl Future<Output = ()>) {
    struct Note(Status, &'static str);
    impl Drop for Note {
        fn drop(&mut self) {
            self.0.task_ended(self.1);
        }
    }
    let _note = Note(status, part);
    run.await;
}

/// Returns the name of the task when it ends.
async fn watched(part: &'static str, task: JoinHandle<()>) -> &'static str {
    if let Err(error) = task.await {
        tracing::error!(part, %error, "a task of the hub failed");
    }
    part
}

/// A hub that runs. Dropping it aborts it; [`RunningHub::shutdown`] ends it in order.
#[derive(Debug)]
pub struct RunningHub {
    address: SocketAddr,
    ingest: EngineHandle,
    store: Arc<dyn Store>,
    incoming: watch::Sender<bool>,
    deciding: watch::Sender<bool>,
    sending: watch::Sender<bool>,
    incoming_tasks: JoinSet<&'static str>,
    engine: JoinHandle<()>,
    worker: JoinHandle<()>,
    grace: Duration,
}

impl RunningHub {
    /// The address of the HTTP service.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle to the engine.
    #[must_use]
    pub fn ingest(&self) -> EngineHandle {
        self.ingest.clone()
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Waits until a task of the hub ends that should not.
    ///
    /// # Errors
    /// Always: a hub does not end by itself.
    pub async fn finished(&mut self) -> Result<(), HubError> {
        let part = tokio::select! {
            ended = self.incoming_tasks.join_next() => match ended {
                Some(Ok(part)) => part,
                _ => "web",
            },
            _ = &mut self.engine => "engine",
            _ = &mut self.worker => "notify",
        };
        Err(HubError::Ended { part })
    }

    /// Shuts down in order: open requests finish, and pending deliveries stay in the outbox.
    pub async fn shutdown(mut self) {
        // In the order of the data: first what receives, then what sends, then what decides.
        self.incoming.send_replace(true);
        let all = async { while self.incoming_tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.grace + GRACE_EXTRA, all).await.is_err() {
            tracing::warn!("a source did not end in time and was aborted");
            self.incoming_tasks.abort_all();
        }
        self.sending.send_replace(true);
        end("notify", &mut self.worker, self.grace + GRACE_EXTRA).await;
        self.deciding.send_replace(true);
        end("engine", &mut self.engine, self.grace + GRACE_EXTRA).await;
    }
}

/// How much longer than the tasks themselves the hub waits for them.
const GRACE_EXTRA: Duration = Duration::from_secs(1);

async fn end(part: &'static str, task: &mut JoinHandle<()>, grace: Duration) {
    if task.is_finished() {
        return;
    }
    if tokio::time::timeout(grace, &mut *task).await.is_err() {
        tracing::warn!(part, "a task did not end in time and was aborted");
        task.abort();
    }
}
