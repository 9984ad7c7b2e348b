//! Routing, wording, channels and the worker, against a scripted server and an outbox in memory.

mod channels;
mod common;
mod email;
mod routes;
pub(crate) mod words;
mod worker;
