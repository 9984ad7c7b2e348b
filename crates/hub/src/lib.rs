//! The hub: its configuration and secrets, its sources, and the assembly of engine, store, notifier and
//! HTTP service into one process or one function.

mod assembly;
pub mod config;
mod function;
mod hub;
pub mod metrics;
pub mod permissions;
pub mod sources;
mod store;
pub mod telemetry;

pub use assembly::{HubError, HubParts};
pub use function::{Function, NotDone, QueueMessage};
pub use hub::{Hub, RunningHub};
pub use rootwatch_engine::clock::SystemClock;
pub use store::{create_table, open_table};
