//! The router: all routes, and what every request passes through.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;

use crate::body::SMALL_BODY_BYTES_MAX;
use crate::deadline::deadline;
use crate::openapi::described;
use crate::problem::Problem;
use crate::rate_limit::rate_limit;
use crate::security_headers::security_headers;
use crate::state::AppState;

/// The HTTP service as a router.
pub fn router(app: AppState) -> Router {
    let (routes, _) = described().split_for_parts();
    routes
        .fallback(|| async {
            Problem::new(
                StatusCode::NOT_FOUND,
                "no such path; the API is described at /v1/openapi.json",
            )
        })
        .method_not_allowed_fallback(|method: Method| async move {
            let detail = format!("method {method} is not allowed for this path");
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        })
        .layer(DefaultBodyLimit::max(SMALL_BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(app.clone(), rate_limit))
        .layer(middleware::from_fn_with_state(app.clone(), deadline))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(security_headers))
        .with_state(app)
}

fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let detail = "internal error; search the hub's log for the id in `X-Request-Id`";
    let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail);
    problem.with_internal(Some("the handler panicked".to_owned())).into_response()
}
