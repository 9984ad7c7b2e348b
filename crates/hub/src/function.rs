//! The hub as a function: no socket, no clock of its own, and nothing that runs between two calls.
//!
//! AWS Lambda freezes a process once it has responded, so nothing is left to background tasks. Records
//! are decided and saved before the response. Deliveries are sent in the remaining time; the rest is
//! leased again by a later call: the next messages, or the tick of a schedule. Many such processes share
//! one store.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use axum::Router;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use rootwatch_engine::{EngineHandle, RecordSource};
use rootwatch_notify::worker::Round;
use rootwatch_notify::{AwsAccess, Worker};
use rootwatch_scan::ScanOptions;
use rootwatch_scan::objects::ObjectScanner;
use rootwatch_store::StoreError;
use rootwatch_web::{AppState, Tokens};
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::assembly::{Assembled, HubError, HubParts, assemble};
use crate::config::LambdaConfig;
use crate::sources::{self, MessageHandler, MessageResult, Objects, SourceContext};

/// Objects that one process reads at once. It spends most of the time waiting for S3.
const OBJECTS_AT_ONCE_MAX: usize = 16;
/// Longest pause for which a call waits to retry a delivery.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// One message of a queue.
#[derive(Debug, Clone, Copy)]
pub struct QueueMessage<'a> {
    /// Its id in the queue.
    pub id: &'a str,
    /// Its text.
    pub body: &'a str,
}

/// A message that failed: its queue keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotDone {
    /// The message.
    pub id: String,
    /// Why: lower case, no full stop.
    pub reason: String,
}

/// A hub that is called instead of running.
pub struct Function {
    ingest: EngineHandle,
    handler: MessageHandler,
    app: AppState,
    worker: Mutex<Worker>,
    enqueued: Arc<Notify>,
    engine: JoinHandle<()>,
    /// Dropped, these end what runs.
    _ends: [watch::Sender<bool>; 2],
}

impl Function {
    /// Assembles the hub. `sdk` has the credentials, region and endpoints for S3.
    ///
    /// # Errors
    /// When the configuration is wrong, or the store cannot be read.
    pub async fn start(parts: HubParts, sdk: &SdkConfig) -> Result<Self, HubError> {
        let config = &parts.config;
        let rate = config.source.http.requests_per_second_max;
        let tokens = Tokens::remote_only(&config.token, rate);
        let LambdaConfig { buckets, bucket_owner } = config.source.lambda.clone();
        // All calls to AWS share credentials and connections.
        let aws = AwsAccess::of(sdk.clone());
        let assembled = assemble(parts, tokens, false, &aws).await?;
        let Assembled { engine, ingest, store, rules, worker, app, status } = assembled;
        let (incoming, stop_incoming) = watch::channel(false);
        let (deciding, stop_deciding) = watch::channel(false);
        let context = SourceContext {
            intake: Arc::new(sources::EngineIntake { ingest: ingest.clone(), store }),
            scanner: Arc::new(ObjectScanner::new(rules, ScanOptions::default())),
            status,
            shutdown: stop_incoming,
        };
        let client = sources::s3_client(sdk, None, None);
        let objects = Objects::new(client, &buckets, bucket_owner, OBJECTS_AT_ONCE_MAX);
        let handler =
            MessageHandler { objects, context, record_source: RecordSource::live("lambda") };
        let engine = tokio::spawn(engine.run(stop_deciding));
        let enqueued = worker.waker();
        Ok(Self {
            ingest,
            handler,
            app,
            worker: Mutex::new(worker),
            enqueued,
            engine,
            _ends: [incoming, deciding],
        })
    }

    /// The HTTP service.
    pub fn router(&self) -> Router {
        rootwatch_web::router(self.app.clone())
    }

    /// Handles a batch of messages concurrently; returns those that failed or were not done by `until`. All
    /// others are on disk.
    pub async fn messages(&self, messages: &[QueueMessage<'_>], until: Instant) -> Vec<NotDone> {
        let all = messages.iter().map(async |message| {
            let done = self.message(message.body, until).await;
            done.err().map(|reason| NotDone { id: message.id.to_owned(), reason })
        });
        join_all(all).await.into_iter().flatten().collect()
    }

    /// Handles one message or event.
    ///
    /// # Errors
    /// Why it failed: lower case, no full stop.
    pub async fn message(&self, body: &str, until: Instant) -> Result<(), String> {
        if self.engine.is_finished() {
            return Err("the engine has ended".to_owned());
        }
        match tokio::time::timeout_at(until, self.handler.handle(body)).await {
            Ok(MessageResult::Done) => Ok(()),
            Ok(MessageResult::Leave { kind, reason }) => Err(format!("{kind}: {reason}")),
            Ok(MessageResult::GiveBack(error)) => Err(error.to_string()),
            Err(_) => Err("not enough time left".to_owned()),
        }
    }

    /// Applies what time alone changes: see [`EngineHandle::tick`].
    ///
    /// # Errors
    /// When the store cannot be read or cannot save.
    pub async fn tick(&self, until: Instant) -> Result<(), StoreError> {
        let in_time = tokio::time::timeout_at(until, self.ingest.tick()).await;
        let slow = || StoreError::Unavailable { reason: "not enough time left".to_owned() };
        in_time.unwrap_or_else(|_| Err(slow()))
    }

    /// Sends deliveries if any were enqueued since the last call: see [`Function::deliver`].
    pub async fn deliver_new(&self, until: Instant) -> Round {
        // The engine leaves a permit when it enqueues deliveries.
        match self.enqueued.notified().now_or_never() {
            Some(()) => self.deliver(until).await,
            None => Round::default(),
        }
    }

    /// Sends deliveries until none is due soon or the time is over. Those in progress then finish in a
    /// later call, or are sent again when their lease expires.
    pub async fn deliver(&self, until: Instant) -> Round {
        let mut sum = Round::default();
        let Some(mut worker) = in_time(until, self.worker.lock()).await else { return sum };
        while let Some(round) = in_time(until, worker.tick()).await {
            sum.leased += round.leased;
            sum.delivered += round.delivered;
            sum.again += round.again;
            sum.failed += round.failed;
            match round.pause {
                Some(pause)
                    if round.leased > 0 && pause <= WAIT_MAX && Instant::now() + pause < until =>
                {
                    tokio::time::sleep(pause).await;
                }
                _ => break,
            }
        }
        sum
    }
}

async fn in_time<T>(until: Instant, what: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(until, what).await.ok()
}
