//! The end that is told: a webhook receiver on loopback that misbehaves as asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use crate::traffic::Dice;

/// How the receiver behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mood {
    /// Takes everything.
    Kind,
    /// One request in four fails, in one of five ways.
    Moody,
    /// It is not there: everything is answered with 503.
    Away,
}

#[derive(Debug)]
struct Inner {
    mood: Mutex<Mood>,
    dice: Mutex<Dice>,
    /// How often each delivery was taken, by its idempotency key.
    taken: Mutex<HashMap<String, u64>>,
    refused: AtomicU64,
}

/// The receiver, for as long as it lives.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    inner: Arc<Inner>,
    pub(crate) address: SocketAddr,
}

impl Receiver {
    pub(crate) async fn start(seed: u64, mood: Mood) -> Self {
        let inner = Arc::new(Inner {
            mood: Mutex::new(mood),
            dice: Mutex::new(Dice::new(seed)),
            taken: Mutex::default(),
            refused: AtomicU64::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let routes = Router::new().route("/hook", post(take)).with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { inner, address }
    }

    pub(crate) fn behave(&self, mood: Mood) {
        *self.inner.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// How often each delivery was taken.
    pub(crate) fn taken(&self) -> HashMap<String, u64> {
        self.inner.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests that were answered with a failure, or not at all.
    pub(crate) fn refused(&self) -> u64 {
        self.inner.refused.load(Ordering::Relaxed)
    }
}

async fn take(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    let whole: Result<serde_json::Value, _> = serde_json::from_slice(&body);
    if whole.is_err() {
        return (StatusCode::BAD_REQUEST, "this is no JSON").into_response();
    }
    let mood = *inner.mood.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(mood, Mood::Away) {
        inner.refused.fetch_add(1, Ordering::Relaxed);
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let roll = inner.dice.lock().unwrap_or_else(PoisonError::into_inner).below(20);
    if matches!(mood, Mood::Moody) && roll < 5 {
        inner.refused.fetch_add(1, Ordering::Relaxed);
        return match roll {
            0 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            1 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response(),
            2 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            3 => {
                // Longer than the sender is willing to wait.
                tokio::time::sleep(Duration::from_secs(4)).await;
                StatusCode::OK.into_response()
            }
            // A body that ends early: the connection is closed in the middle of the answer.
            _ => Response::builder()
                .header("content-length", "1000")
                .body(axum::body::Body::from_stream(futures_util::stream::iter([
                    Ok(Bytes::from_static(b"{")),
                    Err(std::io::Error::other("closed early")),
                ])))
                .map_or_else(
                    |_| StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                    IntoResponse::into_response,
                ),
        };
    }
    let Some(id) = headers.get("webhook-id").and_then(|id| id.to_str().ok()) else {
        return (StatusCode::BAD_REQUEST, "no webhook-id").into_response();
    };
    *inner
        .taken
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(id.to_owned())
        .or_default() += 1;
    StatusCode::OK.into_response()
}
