//! Limits the rate of requests without a token.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::sns;
use crate::state::AppState;

/// Limits requests to the SNS endpoint, which needs no token, by the address of the sender.
pub(crate) async fn rate_limit(
    State(app): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    if request.uri().path() == sns::PATH {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        if let Err(problem) = app.tokens.admit_unauthenticated(peer) {
            return problem.into_response();
        }
    }
    next.run(request).await
}
