//! Refusals, as users see them.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rootwatch_engine::IngestError;
use serde::Serialize;

use crate::metrics;

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

/// Why records were not taken, in public words.
pub(crate) fn refusal(door: &'static str, error: IngestError) -> Problem {
    let (reason, problem) = match error {
        IngestError::Busy { retry_after_secs } => (
            "busy",
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the hub is busy")
                .after(retry_after_secs),
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
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the hub is closing").after(5),
        ),
    };
    metrics::refused(door, reason);
    problem
}
