//! Extractors that check the scope of a caller before a handler runs.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;

use crate::config::Scope;
use crate::problem::Problem;
use crate::state::AppState;
use crate::tokens::Caller;

/// Headers that proxies add to forwarded requests.
const PASSED_ON: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];

/// A caller that AWS IAM authenticated, for a function URL. The function adds it to the request. Such a
/// caller may do everything; the function's policy decides who is one.
#[derive(Debug, Clone)]
pub struct IamCaller {
    /// The ARN of the caller.
    pub name: Arc<str>,
}

/// The caller of a request, if it has the scope.
fn admit(parts: &Parts, app: &AppState, scope: Scope) -> Result<Caller, Problem> {
    match parts.extensions.get::<IamCaller>() {
        Some(caller) => Ok(Caller { name: Arc::clone(&caller.name) }),
        None => app.tokens.admit(&parts.headers, scope),
    }
}

/// A caller with the scope `read`.
#[derive(Debug, Clone)]
pub(crate) struct Reader;

/// A caller with the scope `write`.
#[derive(Debug, Clone)]
pub(crate) struct Writer(pub Caller);

/// A caller with the scope `ingest`.
#[derive(Debug, Clone)]
pub(crate) struct Sender(pub Caller);

impl FromRequestParts<AppState> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        admit(parts, app, Scope::Read).map(|_| Self)
    }
}

impl FromRequestParts<AppState> for Writer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        admit(parts, app, Scope::Write).map(Self)
    }
}

impl FromRequestParts<AppState> for Sender {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        admit(parts, app, Scope::Ingest).map(Self)
    }
}

/// A request for metrics: from this machine, or with the scope `read`.
#[derive(Debug, Clone)]
pub(crate) struct Scraper;

impl FromRequestParts<AppState> for Scraper {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        // A proxy on this machine forwards requests of others.
        let is_passed_on = PASSED_ON.iter().any(|name| parts.headers.contains_key(*name));
        if peer.is_some_and(|ip| ip.is_loopback()) && !is_passed_on {
            return Ok(Self);
        }
        admit(parts, app, Scope::Read).map(|_| Self)
    }
}
