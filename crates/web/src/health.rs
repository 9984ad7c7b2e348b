//! Liveness, readiness and metrics.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Scraper;
use crate::problem::Problem;
use crate::state::AppState;

/// The state of one part of the hub.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Part {
    /// `engine`, `store`, `notify`, or a source such as `sqs:trail`.
    part: String,
    /// Whether it works.
    ready: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The state of the hub.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// True when all parts work.
    ready: bool,
    /// Each part.
    parts: Vec<Part>,
}

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready)).routes(routes!(numbers))
}

/// Is the process alive?
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, description = "Yes")))]
async fn live() -> &'static str {
    "ok\n"
}

/// Can the hub do its work?
///
/// A source that cannot be reached makes the hub not ready, and stops nothing else.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses(
        (status = 200, description = "All parts work", body = Readiness),
        (status = 503, description = "A part does not", body = Readiness),
    ),
)]
async fn ready(State(app): State<AppState>) -> Response {
    let part = |part: &str, reason: Option<String>| Part {
        part: part.to_owned(),
        ready: reason.is_none(),
        reason,
    };
    // The engine itself checks a failed store; this endpoint, which needs no token, costs nothing.
    let ended = |task: &str| app.status.has_task_ended(task).then(|| "it has ended".to_owned());
    let cannot_save = app.engine.trouble().map(|_| "it cannot save now".to_owned());
    let mut parts = vec![
        part("engine", ended("engine")),
        part("store", cannot_save),
        part("notify", ended("notify")),
    ];
    parts.extend(app.status.sources().into_iter().map(|(name, reason)| part(&name, reason)));
    let ready = parts.iter().all(|part| part.ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, parts })).into_response()
}

/// The hub's numbers, for Prometheus
///
/// From this machine without a token, from elsewhere with one of scope `read`.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    responses(
        (status = 200, description = "Prometheus text format"),
        (status = 401, description = "No token, or an unknown one", body = Problem),
        (status = 404, description = "A function counts nothing: see CloudWatch", body = Problem),
    ),
    security((), ("token" = [])),
)]
async fn numbers(_: Scraper, State(app): State<AppState>) -> Result<Response, Problem> {
    let Some(render) = app.metrics else {
        let why = "no metrics here: those of a function are in CloudWatch";
        return Err(Problem::new(StatusCode::NOT_FOUND, why));
    };
    rootwatch_engine::metrics::stats(&app.store.stats().await?, app.clock.now());
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, render()).into_response())
}
