//! The whole line: sources bring records, the engine judges, correlates and saves them, and people
//! are told.
//!
//! One process is one hub: [`engine`] is the only writer, so that all decisions are made in one
//! order and one transaction saves many of them. A source is told that its records are safe when,
//! and only when, that transaction is on disk.

pub mod clock;
pub mod config;
mod drill;
pub mod engine;
pub mod function;
pub mod http;
pub mod hub;
pub mod intake;
pub mod metrics;
pub mod permissions;
pub mod sources;
pub mod store;
pub mod telemetry;
pub mod telling;

/// Waits until a shutdown was asked for; who could ask being gone is one too.
pub(crate) async fn ended(shutdown: &mut tokio::sync::watch::Receiver<bool>) {
    // The guard that this gives must not be held while others wait.
    let _ = shutdown.wait_for(|end| *end).await;
}
