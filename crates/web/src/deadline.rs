//! Ends requests that take too long.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::metrics;
use crate::problem::Problem;
use crate::state::Doors;

/// Ends a request that takes too long; what it was about to save is saved or not, as a whole.
pub(crate) async fn hurry(State(doors): State<Doors>, request: Request, next: Next) -> Response {
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
