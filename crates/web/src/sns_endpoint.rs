//! `POST /v1/sns`: the endpoint of [`crate::sns`].

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::body::read_body;
use crate::problem::Problem;
use crate::sns::ENDPOINT;
use crate::state::AppState;

/// Largest request in bytes: a message of SNS has up to 256 KiB, and JSON may write each byte as six.
const BODY_BYTES_MAX: usize = 2 << 20;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(post_sns))
}

/// Receives what an SNS topic sends to an HTTPS subscription: notifications with records, and the
/// question whether the subscription is wanted, which is answered with yes for the topics of the
/// configuration.
///
/// There is no token: the signature of SNS is checked. Raw message delivery has to be off.
#[utoipa::path(
    post,
    path = "/v1/sns",
    tag = "events",
    request_body(content = String, content_type = "text/plain", description = "A message of SNS"),
    responses(
        (status = 200, description = "Done, and on disk", body = String),
        (status = 400, description = "No message of SNS", body = Problem),
        (status = 403, description = "Another topic, too old, or not signed by SNS", body = Problem),
        (status = 404, description = "The configuration names no topic", body = Problem),
        (status = 413, description = "Too large", body = Problem),
        (status = 502, description = "SNS did not confirm the subscription", body = Problem),
        (status = 503, description = "Not now; Retry-After says when to come again", body = Problem),
    ),
)]
async fn post_sns(
    State(app): State<AppState>,
    headers: HeaderMap,
    body: Body,
) -> Result<String, Problem> {
    // A disabled endpoint reads no body.
    let (body, _permit) = if app.sns.is_disabled() {
        (Bytes::new(), None)
    } else {
        let bytes_max = app.engine.body_bytes_max().min(BODY_BYTES_MAX);
        let (body, permit) = read_body(ENDPOINT, &app.engine, &headers, body, bytes_max).await?;
        (body, Some(permit))
    };
    let answer = app.sns.take(body).await;
    if answer.status == StatusCode::OK {
        return Ok(answer.text);
    }
    let problem = Problem::new(answer.status, answer.text).with_internal(answer.internal);
    Err(match answer.retry_after_secs {
        Some(secs) => problem.after(secs),
        None => problem,
    })
}
