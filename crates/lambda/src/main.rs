//! The hub on AWS Lambda: passes invocations to [`rootwatch_hub::Function`].
//!
//! Every failure is returned as one, so that AWS retries and finally moves what keeps failing to a
//! dead-letter queue: messages of a queue one by one, anything else as a whole.

mod invocation;
mod metrics;
mod start;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use lambda_http::request::LambdaRequest;
use lambda_runtime::{Error, LambdaEvent, Service as _, service_fn};
use rootwatch_hub::{Function, QueueMessage};
use rootwatch_web::IamCaller;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::invocation::Invocation;

/// Time that is reserved for the response to an invocation, in milliseconds.
const ANSWER_MILLIS: u64 = 1_500;
/// Seconds for sending deliveries after a batch. The next tick sends the rest, so that the next batch does
/// not wait for a slow destination.
const DELIVER_SECS_MAX: u64 = 15;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Lambda shows this line and starts another process.
            #[allow(clippy::print_stderr, reason = "logging may not have begun")]
            {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    // A function of this size has one processor.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    runtime.block_on(async {
        let function = Arc::new(start::function().await?);
        let handler = service_fn(move |event: LambdaEvent<Value>| {
            let function = Arc::clone(&function);
            async move { invoke(&function, event).await }
        });
        lambda_runtime::run(handler).await.map_err(|error| anyhow::anyhow!("{error}"))
    })
}

/// Handles one invocation.
async fn invoke(function: &Function, event: LambdaEvent<Value>) -> Result<Value, Error> {
    let LambdaEvent { payload, context } = event;
    let until = Instant::now() + left(context.deadline());
    match Invocation::of(&payload)? {
        Invocation::Queue(messages) => {
            let messages: Vec<QueueMessage<'_>> =
                messages.iter().map(|one| QueueMessage { id: &one.id, body: &one.body }).collect();
            let failed = function.messages(&messages, until).await;
            for one in &failed {
                tracing::warn!(
                    message = one.id,
                    reason = one.reason,
                    "message not done: its queue keeps it"
                );
            }
            deliver(function, until, failed.len()).await;
            let failures: Vec<Value> =
                failed.iter().map(|one| json!({ "itemIdentifier": one.id })).collect();
            Ok(json!({ "batchItemFailures": failures }))
        }
        Invocation::Bodies(bodies) => {
            let bodies: Vec<QueueMessage<'_>> =
                bodies.iter().map(|body| QueueMessage { id: "", body }).collect();
            let failed = function.messages(&bodies, until).await;
            deliver(function, until, failed.len()).await;
            match failed.into_iter().next() {
                None => Ok(Value::Null),
                Some(first) => Err(first.reason.into()),
            }
        }
        Invocation::Tick => {
            let done = function.tick(until).await;
            // Deliveries are sent even if the store failed just now.
            let round = function.deliver(until).await;
            metrics::ticked(done.is_ok(), &round);
            done.map_err(|error| error.to_string())?;
            Ok(
                json!({ "delivered": round.delivered, "again": round.again, "failed": round.failed }),
            )
        }
        Invocation::Request => request(function, payload, context).await,
    }
}

async fn deliver(function: &Function, until: Instant, not_done: usize) {
    let soon = Instant::now() + Duration::from_secs(DELIVER_SECS_MAX);
    let round = function.deliver_new(until.min(soon)).await;
    metrics::worked(not_done, &round);
}

/// A request to the function URL. The caller was authenticated by IAM or needs a token.
async fn request(
    function: &Function,
    payload: Value,
    context: lambda_runtime::Context,
) -> Result<Value, Error> {
    let caller = payload.pointer("/requestContext/authorizer/iam/userArn").and_then(Value::as_str);
    let iam_caller = caller.map(|arn| IamCaller { name: arn.into() });
    let mut router = function.router();
    if let Some(iam_caller) = iam_caller {
        router = router.layer(axum::Extension(iam_caller));
    }
    let payload: LambdaRequest = serde_json::from_value(payload)?;
    let mut service = lambda_http::Adapter::from(router);
    let response = service.call(LambdaEvent { payload, context }).await?;
    Ok(serde_json::to_value(response)?)
}

/// The time until an invocation must be answered.
fn left(deadline: std::time::SystemTime) -> Duration {
    let left = deadline.duration_since(std::time::SystemTime::now()).unwrap_or_default();
    left.saturating_sub(Duration::from_millis(ANSWER_MILLIS))
}
