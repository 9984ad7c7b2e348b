//! The router: all routes, and what every request passes through.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;

use crate::body::SMALL_BODY_BYTES_MAX;
use crate::deadline::hurry;
use crate::openapi::described;
use crate::problem::Problem;
use crate::rate_limit::calm;
use crate::security_headers::guard;
use crate::state::Doors;

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

fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> Response {
    tracing::error!("a request ended in a panic");
    let detail = "the hub made a mistake with this request; its log says more";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
}
