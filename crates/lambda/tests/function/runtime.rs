//! Lambda's side of a function: the runtime API that a custom runtime asks for work.
//!
//! Source: Lambda developer guide, "Using the Lambda runtime API for custom runtimes".

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::routing::{get, post};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

/// Longest wait for an answer.
const ANSWER_SECS_MAX: u64 = 60;

type Answer = Result<Value, Value>;

struct Work {
    payload: Value,
    time: Duration,
    answer: oneshot::Sender<Answer>,
}

struct Api {
    work: tokio::sync::Mutex<mpsc::Receiver<Work>>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Answer>>>,
    number: AtomicU64,
    /// What a function said that could not start.
    broken: Mutex<Option<Value>>,
}

/// One instance of a function: a process that is sent one invocation after the other.
pub(crate) struct Instance {
    process: Child,
    work: mpsc::Sender<Work>,
    api: Arc<Api>,
}

impl Instance {
    /// Starts a program as Lambda would, with this environment and nothing of ours.
    pub(crate) async fn start(mut command: Command, environment: &[(&str, &str)]) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        let api = Arc::new(Api {
            work: tokio::sync::Mutex::new(receiver),
            waiting: Mutex::default(),
            number: AtomicU64::new(1),
            broken: Mutex::default(),
        });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(broken))
            .with_state(Arc::clone(&api));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        let process = command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "rootwatch")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/rootwatch")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "stream")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        Self { process, work: sender, api }
    }

    /// Sends an event and waits for the answer: what the function returns, or its error.
    pub(crate) async fn invoke(&mut self, payload: Value) -> Answer {
        self.invoke_within(payload, Duration::from_secs(30)).await
    }

    /// The same with so much time until the deadline.
    pub(crate) async fn invoke_within(&mut self, payload: Value, time: Duration) -> Answer {
        let (answer, wait) = oneshot::channel();
        self.work.send(Work { payload, time, answer }).await.expect("an API");
        let begin = Instant::now();
        tokio::pin!(wait);
        loop {
            tokio::select! {
                answer = &mut wait => return answer.expect("an answer"),
                ended = self.process.wait() => {
                    let broken = self.api.broken.lock().unwrap_or_else(PoisonError::into_inner);
                    panic!("the function ended ({ended:?}): {broken:?}");
                }
                () = tokio::time::sleep(Duration::from_millis(500)) => {
                    assert!(begin.elapsed().as_secs() < ANSWER_SECS_MAX, "no answer");
                }
            }
        }
    }

    /// The most memory that it had, in KiB, as Linux counts it.
    #[allow(dead_code, reason = "the bench asks")]
    pub(crate) fn peak_kib(&self) -> Option<u64> {
        let status = format!("/proc/{}/status", self.process.id()?);
        let text = std::fs::read_to_string(status).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    }

    /// Waits until a process that cannot start has ended, and gives what it said.
    #[allow(dead_code, reason = "the bench does not ask")]
    pub(crate) async fn end(mut self) -> bool {
        let ended = tokio::time::timeout(Duration::from_secs(30), self.process.wait()).await;
        ended.expect("it ends").expect("a process").success()
    }
}

async fn next(State(api): State<Arc<Api>>) -> (HeaderMap, String) {
    let Some(work) = api.work.lock().await.recv().await else {
        // Nobody will send any more: the process is about to be ended.
        return std::future::pending().await;
    };
    let id = format!("request-{}", api.number.fetch_add(1, Ordering::Relaxed));
    let deadline = SystemTime::now() + work.time;
    let millis = deadline.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis();
    let arn = "arn:aws:lambda:us-east-1:111122223333:function:rootwatch";
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("lambda-runtime-aws-request-id", id.clone()),
        ("lambda-runtime-deadline-ms", millis.to_string()),
        ("lambda-runtime-invoked-function-arn", arn.to_owned()),
        ("content-type", "application/json".to_owned()),
    ] {
        headers.insert(name, HeaderValue::from_str(&value).expect("a header"));
    }
    api.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, work.answer);
    (headers, work.payload.to_string())
}

fn answer(api: &Api, id: &str, answer: Answer) -> StatusCode {
    let waiting = api.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    match waiting.map(|waiting| waiting.send(answer)) {
        Some(Ok(())) => StatusCode::ACCEPTED,
        _ => StatusCode::BAD_REQUEST,
    }
}

fn json(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()))
}

async fn response(State(api): State<Arc<Api>>, Path(id): Path<String>, body: String) -> StatusCode {
    answer(&api, &id, Ok(json(&body)))
}

async fn error(State(api): State<Arc<Api>>, Path(id): Path<String>, body: String) -> StatusCode {
    answer(&api, &id, Err(json(&body)))
}

async fn broken(State(api): State<Arc<Api>>, body: String) -> StatusCode {
    *api.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(json(&body));
    StatusCode::ACCEPTED
}
