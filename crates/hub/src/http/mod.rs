//! The HTTP doors: events in, incidents out, and how the hub stands.
//!
//! Everything that a stranger can influence is bounded: heads and bodies in bytes and in time,
//! connections in number, requests in rate. A refusal says what was refused and why in public
//! words, is counted, and changes nothing.

pub mod api;
pub mod auth;
mod events;
mod health;
mod serve;
pub mod sns;
mod types;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRef, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use rootwatch_core::alert::Clock;
use rootwatch_store::Store;
use serde::Serialize;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument as _;
use utoipa_axum::router::OpenApiRouter;

use crate::config::HttpConfig;
use crate::engine::{Ingest, Room};
use crate::metrics;
use crate::sources::Health;
use auth::Tokens;
pub use serve::serve;
use sns::Sns;

/// Bytes that are set aside for a body at once; the rest as it comes.
const BODY_BYTES_AT_ONCE: usize = 256 << 10;
/// Bytes of a body that is no records: a note on an incident.
const SMALL_BODY_BYTES_MAX: usize = 16 << 10;

/// What the doors work with.
#[derive(Debug, Clone)]
pub struct Doors {
    /// Where records go.
    pub ingest: Ingest,
    /// What is shown.
    pub store: Arc<dyn Store>,
    /// Who may come in.
    pub tokens: Tokens,
    /// How the sources stand.
    pub health: Health,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The door for SNS.
    pub sns: Sns,
    /// Limits of all doors.
    pub limits: HttpConfig,
    /// Whether the tasks of the hub run.
    pub board: Board,
}

/// Which of the hub's own tasks have ended, for readiness.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<BTreeSet<&'static str>>>);

impl Board {
    /// A task has ended.
    pub fn ended(&self, task: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(task);
    }

    /// Whether a task has ended.
    #[must_use]
    pub fn has_ended(&self, task: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(task)
    }
}

impl FromRef<Doors> for Tokens {
    fn from_ref(doors: &Doors) -> Self {
        doors.tokens.clone()
    }
}

/// A refusal, as `application/problem+json`: public words only.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// The status again, for those who keep only the body.
    pub status: u16,
    /// The status in words.
    pub title: String,
    /// What was refused and why.
    pub detail: String,
    #[serde(skip)]
    retry_after_secs: Option<u64>,
    #[serde(skip)]
    authenticate: bool,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or("Refused").to_owned(),
            detail: detail.into(),
            retry_after_secs: None,
            authenticate: false,
        }
    }

    pub(crate) fn after(mut self, secs: u64) -> Self {
        self.retry_after_secs = Some(secs);
        self
    }

    pub(crate) fn authenticate(mut self) -> Self {
        self.authenticate = true;
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(secs) = self.retry_after_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        if self.authenticate {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"rootwatch\""),
            );
        }
        response
    }
}

impl From<rootwatch_store::StoreError> for Problem {
    fn from(error: rootwatch_store::StoreError) -> Self {
        use rootwatch_store::StoreError::{BadCursor, NotFound};
        match error {
            NotFound { .. } => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            BadCursor => {
                Self::new(StatusCode::BAD_REQUEST, "`after` is not a cursor that this hub gave out")
            }
            other => {
                // What the store says may hold paths: it goes to the log.
                tracing::error!(error = %other, "a request found the store out of order");
                let detail = "the store cannot be used now";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).after(5)
            }
        }
    }
}

/// All routes, and their description.
fn described() -> OpenApiRouter<Doors> {
    OpenApiRouter::with_openapi(api::description())
        .merge(api::routes())
        .merge(events::routes())
        .merge(sns::routes())
        .merge(health::routes())
}

/// The OpenAPI description of the doors, as JSON.
#[must_use]
pub fn openapi() -> String {
    let (_, description) = described().split_for_parts();
    description.to_pretty_json().unwrap_or_default()
}

/// The doors as a router.
pub fn router(doors: Doors) -> Router {
    let (routes, _) = described().split_for_parts();
    routes
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this is not done here")
        })
        .layer(DefaultBodyLimit::max(SMALL_BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(doors.clone(), calm))
        .layer(middleware::from_fn_with_state(doors.clone(), hurry))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(guard))
        .with_state(doors)
}

/// Slows down those whom no token names, each by their address.
async fn calm(State(doors): State<Doors>, request: Request, next: Next) -> Response {
    if request.uri().path() == sns::PATH {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        if let Err(problem) = doors.tokens.admit_stranger(peer) {
            return problem.into_response();
        }
    }
    next.run(request).await
}

/// Ends a request that takes too long; what it was about to save is saved or not, as a whole.
async fn hurry(State(doors): State<Doors>, request: Request, next: Next) -> Response {
    let time = Duration::from_secs(u64::from(doors.limits.request_timeout_secs));
    match tokio::time::timeout(time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            metrics::refused("http", "timeout");
            let detail = "the request took too long; send it again";
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail).into_response()
        }
    }
}

fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> Response {
    tracing::error!("a request ended in a panic");
    let detail = "the hub made a mistake with this request; its log says more";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
}

/// Names the request, for logs and traces, and adds headers that keep a browser from making
/// anything of an answer.
async fn guard(request: Request, next: Next) -> Response {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let id = format!("{:08x}-{number:08x}", std::process::id());
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let span = tracing::info_span!("request", id, method = request.method().as_str(), path);
    let mut response = next.run(request).instrument(span).await;
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("content-security-policy"), "default-src 'none'"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Reads a body within bounds: its own, and those of all that is held at one time.
pub(crate) async fn read_body(
    door: &'static str,
    ingest: &Ingest,
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<(Bytes, Room), Problem> {
    let too_large = || {
        metrics::refused(door, "too_large");
        let detail = format!("the body is larger than {bytes_max} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    let stated = headers.get(header::CONTENT_LENGTH).and_then(|text| text.to_str().ok());
    let stated: usize = stated.and_then(|text| text.parse().ok()).unwrap_or(0);
    if stated > bytes_max {
        return Err(too_large());
    }
    let room = if door == sns::DOOR { ingest.room_for_strangers() } else { ingest.room(0) };
    let mut room = room.map_err(|error| events::refusal(door, error))?;
    let mut bytes = BytesMut::with_capacity(stated.min(BODY_BYTES_AT_ONCE));
    let mut frames = body.into_data_stream();
    while let Some(frame) = frames.next().await {
        let Ok(frame) = frame else {
            metrics::refused(door, "unreadable");
            return Err(Problem::new(StatusCode::BAD_REQUEST, "the body ended early"));
        };
        if bytes.len() + frame.len() > bytes_max {
            return Err(too_large());
        }
        room.grow(frame.len()).map_err(|error| events::refusal(door, error))?;
        bytes.extend_from_slice(&frame);
    }
    Ok((bytes.freeze(), room))
}
