//! The hub as a function: no socket, no clock of its own, and nothing that runs between two calls.
//!
//! AWS Lambda freezes a process once it has answered. So nothing is left to a task in the background
//! here: what an invocation brings is decided and saved before it is answered, what is owed is sent
//! within the time that is left, and whatever was not is leased again by a later call: the next
//! messages, or the tick of a scheduler. Many such processes share one store.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use axum::Router;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use rootwatch_engine::{Ingest, Origin};
use rootwatch_notify::worker::Round;
use rootwatch_notify::{AwsAccess, Worker};
use rootwatch_scan::ScanOptions;
use rootwatch_scan::objects::ObjectScanner;
use rootwatch_store::StoreError;
use rootwatch_web::{Doors, Tokens};
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::assembly::{Assembled, HubError, Parts, assemble};
use crate::config::LambdaConfig;
use crate::sources::{self, Desk, Objects, Surroundings, Verdict};

/// Objects that one process reads at once: most of the time S3 is waited for.
const OBJECTS_AT_ONCE_MAX: usize = 16;
/// Longest pause in which a call waits for a delivery that is to be tried again soon.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// One message of a queue.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// What the queue calls it.
    pub id: &'a str,
    /// Its text.
    pub body: &'a str,
}

/// A message that is not done: its queue has to keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotDone {
    /// The message.
    pub id: String,
    /// Why: lower case, no full stop.
    pub reason: String,
}

/// A hub that is called.
pub struct Function {
    ingest: Ingest,
    desk: Desk,
    doors: Doors,
    worker: Mutex<Worker>,
    owed: Arc<Notify>,
    engine: JoinHandle<()>,
    /// Dropped, these end what runs.
    _ends: [watch::Sender<bool>; 2],
}

impl Function {
    /// Puts the hub together. `sdk` says where S3 is and who asks.
    ///
    /// # Errors
    /// When the configuration is wrong, or the store cannot be read.
    pub async fn start(parts: Parts, sdk: &SdkConfig) -> Result<Self, HubError> {
        let config = &parts.config;
        let rate = config.source.http.requests_per_second_max;
        let tokens = Tokens::of_nowhere(&config.token, rate);
        let LambdaConfig { buckets, bucket_owner } = config.source.lambda.clone();
        // One set of credentials and one way out for all that asks AWS.
        let aws = AwsAccess::of(sdk.clone());
        let assembled = assemble(parts, tokens, false, &aws).await?;
        let Assembled { engine, ingest, store, rules, worker, doors, status } = assembled;
        let (incoming, stop_incoming) = watch::channel(false);
        let (deciding, stop_deciding) = watch::channel(false);
        let around = Surroundings {
            intake: Arc::new(sources::Engine { ingest: ingest.clone(), store }),
            scanner: Arc::new(ObjectScanner::new(rules, ScanOptions::default())),
            status,
            shutdown: stop_incoming,
        };
        let client = sources::s3_client(sdk, None, None);
        let objects = Objects::new(client, &buckets, bucket_owner, OBJECTS_AT_ONCE_MAX);
        let desk = Desk { objects, around, origin: Origin::live("lambda") };
        let engine = tokio::spawn(engine.run(stop_deciding));
        let owed = worker.waker();
        Ok(Self {
            ingest,
            desk,
            doors,
            worker: Mutex::new(worker),
            owed,
            engine,
            _ends: [incoming, deciding],
        })
    }

    /// The HTTP doors.
    pub fn router(&self) -> Router {
        rootwatch_web::router(self.doors.clone())
    }

    /// Does a batch of messages, all at once; gives those that are not done by `until`, or cannot be
    /// done. All others are on disk.
    pub async fn messages(&self, messages: &[Message<'_>], until: Instant) -> Vec<NotDone> {
        let all = messages.iter().map(async |message| {
            let done = self.message(message.body, until).await;
            done.err().map(|reason| NotDone { id: message.id.to_owned(), reason })
        });
        join_all(all).await.into_iter().flatten().collect()
    }

    /// Does one message or event.
    ///
    /// # Errors
    /// Why it is not done: lower case, no full stop.
    pub async fn message(&self, body: &str, until: Instant) -> Result<(), String> {
        if self.engine.is_finished() {
            return Err("the engine has ended".to_owned());
        }
        match tokio::time::timeout_at(until, self.desk.judge(body)).await {
            Ok(Verdict::Done) => Ok(()),
            Ok(Verdict::Leave { kind, reason }) => Err(format!("{kind}: {reason}")),
            Ok(Verdict::GiveBack(error)) => Err(error.to_string()),
            Err(_) => Err("there was not enough time".to_owned()),
        }
    }

    /// What time alone asks for: see [`Ingest::tick`].
    ///
    /// # Errors
    /// When the store cannot be read or cannot save.
    pub async fn tick(&self, until: Instant) -> Result<(), StoreError> {
        let in_time = tokio::time::timeout_at(until, self.ingest.tick()).await;
        let slow = || StoreError::Unavailable { reason: "there was not enough time".to_owned() };
        in_time.unwrap_or_else(|_| Err(slow()))
    }

    /// Sends what is owed if something became so since the last call: see [`Function::deliver`].
    pub async fn deliver_news(&self, until: Instant) -> Round {
        // The engine leaves a permit when a batch owes something.
        match self.owed.notified().now_or_never() {
            Some(()) => self.deliver(until).await,
            None => Round::default(),
        }
    }

    /// Sends what is owed until nothing is due soon or the time is over. What is being sent then
    /// comes to its end in a later call, or is sent again once its lease has run out.
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
