//! A hub, from its configuration to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rootwatch_engine::Ingest;
use rootwatch_engine::status::Status;
use rootwatch_notify::AwsAccess;
use rootwatch_scan::ScanOptions;
use rootwatch_scan::objects::ObjectScanner;
use rootwatch_store::Store;
use rootwatch_web::Tokens;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::assembly::{Assembled, HubError, Parts, assemble};
use crate::sources::{self, Surroundings};

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
        let Assembled { engine, ingest, store, rules, worker, doors, status } = assembled;

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
            intake: Arc::new(sources::Engine { ingest: ingest.clone(), store: store.clone() }),
            scanner: Arc::new(ObjectScanner::new(rules, ScanOptions::default())),
            status: status.clone(),
            shutdown: stop_incoming.clone(),
        };

        let mut incoming_tasks = JoinSet::new();
        let sources = sources::start(&config.source.sqs, &config.source.directory, &around).await?;
        for source in sources {
            incoming_tasks.spawn(watched("a source", source));
        }
        let serve = tokio::spawn(rootwatch_web::serve(listener, doors, stop_incoming, patience));
        incoming_tasks.spawn(watched("doors", serve));
        let engine = tokio::spawn(noted(status.clone(), "engine", engine.run(stop_deciding)));
        let worker = tokio::spawn(noted(status, "notify", worker.run(stop_telling)));
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

/// Runs a part and notes on the board that it ended, however it did.
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

/// Says which part it was that ended.
async fn watched(part: &'static str, task: JoinHandle<()>) -> &'static str {
    if let Err(error) = task.await {
        tracing::error!(part, %error, "a part of the hub broke");
    }
    part
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
