//! Ends requests that take too long.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::metrics;
use crate::problem::Problem;
use crate::state::AppState;

/// Ends a request that takes too long. What it is about to save is saved completely or not at all.
pub(crate) async fn deadline(
    State(app): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let time = Duration::from_secs(u64::from(app.limits.request_timeout_secs));
    match tokio::time::timeout(time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            metrics::refused("http", "timeout");
            let detail = "the request took too long; retry it";
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail).into_response()
        }
    }
}
