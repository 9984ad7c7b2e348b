//! Limits the rate of requests that state no token.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::sns;
use crate::state::Doors;

/// Slows down those whom no token names, each by their address.
pub(crate) async fn calm(State(doors): State<Doors>, request: Request, next: Next) -> Response {
    if request.uri().path() == sns::PATH {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        if let Err(problem) = doors.tokens.admit_stranger(peer) {
            return problem.into_response();
        }
    }
    next.run(request).await
}
