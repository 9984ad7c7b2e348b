//! The HTTP service: the API, the endpoint for SNS, authentication, limits and health. It translates
//! between HTTP and the engine and decides nothing about records, incidents or alerts.

mod api;
mod auth;
mod body;
mod config;
mod deadline;
mod events;
mod health;
mod metrics;
mod openapi;
mod problem;
mod rate_limit;
mod router;
mod security_headers;
mod serve;
mod sns;
mod sns_endpoint;
mod state;
mod tokens;
mod types;

pub use auth::IamCaller;
pub use config::{HttpConfig, Scope, SnsConfig, TokenConfig};
pub use openapi::openapi;
pub use router::router;
pub use serve::serve;
pub use sns::{Hosts, Sns, SnsAnswer};
pub use state::AppState;
pub use tokens::Tokens;
