//! The id of each request, the log line of an internal error, and headers that keep browsers from
//! interpreting a response.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;

use crate::problem::InternalError;

/// Gives the request an id for logs and traces, logs an internal error, and adds the headers.
pub(crate) async fn security_headers(request: Request, next: Next) -> Response {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let id = format!("{:08x}-{number:08x}", std::process::id());
    let path = request.extensions().get::<MatchedPath>().cloned();
    let path = path.as_ref().map_or("", MatchedPath::as_str);
    let span = tracing::info_span!("request", id, method = request.method().as_str(), path);
    let mut response = next.run(request).instrument(span).await;
    if let Some(InternalError(error)) = response.extensions_mut().remove() {
        let status = response.status().as_u16();
        tracing::error!(id, path, status, error, "a request failed");
    }
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
