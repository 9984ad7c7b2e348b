//! Errors of the API: who sees which text.
//!
//! * A client gets a [`Problem`] as JSON: `status`, `title` and `detail`. These are public. They name what
//!   was refused and what to do, and never hold paths, addresses or texts of the store.
//! * The operator gets `internal` in the log, once, with the request's id, which the client has in
//!   `X-Request-Id`. [`security_headers`](crate::security_headers) writes that line; conversions write none.
//! * A refusal that is the client's own fault has no `internal` text: it is counted
//!   (`rootwatch_requests_refused_total`), not logged, so that strangers cannot fill the log.
//! * Statuses say what to do: 4xx fix the request, 429 and 503 retry after `Retry-After`, 500 look into
//!   the hub's log.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rootwatch_engine::IngestError;
use serde::Serialize;

use crate::metrics;

/// An error of the API, sent as `application/problem+json`.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// The HTTP status, for clients that keep only the body.
    pub status: u16,
    /// The name of the status.
    pub title: String,
    /// What was refused and why.
    pub detail: String,
    /// For the log, not for the client.
    #[serde(skip)]
    internal: Option<String>,
    #[serde(skip)]
    pub(crate) retry_after_secs: Option<u64>,
    #[serde(skip)]
    authenticate: bool,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or("Refused").to_owned(),
            detail: detail.into(),
            internal: None,
            retry_after_secs: None,
            authenticate: false,
        }
    }

    pub(crate) fn after(mut self, secs: u64) -> Self {
        self.retry_after_secs = Some(secs);
        self
    }

    /// Adds what the operator should know and the client should not.
    pub(crate) fn with_internal(mut self, internal: Option<String>) -> Self {
        self.internal = internal;
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
        if let Some(internal) = self.internal {
            response.extensions_mut().insert(InternalError(internal));
        }
        response
    }
}

/// What went wrong inside, on its way to the log.
#[derive(Debug, Clone)]
pub(crate) struct InternalError(pub(crate) String);

impl From<rootwatch_store::StoreError> for Problem {
    fn from(error: rootwatch_store::StoreError) -> Self {
        use rootwatch_store::StoreError::{BadCursor, NotFound};
        match error {
            NotFound { .. } => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            BadCursor => Self::new(StatusCode::BAD_REQUEST, "`after` is not a cursor of this hub"),
            other => {
                // The store's own text may hold paths.
                let problem =
                    Self::new(StatusCode::SERVICE_UNAVAILABLE, "the store is unavailable");
                problem.after(5).with_internal(Some(other.to_string()))
            }
        }
    }
}

/// Turns an error of the engine into a problem, and counts it.
pub(crate) fn refusal(endpoint: &'static str, error: IngestError) -> Problem {
    let (reason, problem) = match error {
        IngestError::Busy { retry_after_secs } => (
            "busy",
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "hub overloaded").after(retry_after_secs),
        ),
        IngestError::TooLarge { .. } => {
            ("too_large", Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()))
        }
        IngestError::Damaged { .. } => {
            ("damaged", Problem::new(StatusCode::BAD_REQUEST, error.to_string()))
        }
        IngestError::Store(error) => ("store", Problem::from(error)),
        IngestError::Closing => (
            "closing",
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the hub is shutting down").after(5),
        ),
    };
    metrics::refused(endpoint, reason);
    problem
}
