//! Routing, wording, channels and the worker, against a scripted server and an outbox in memory.

mod aws;
mod channels;
mod common;
mod eventbridge;
mod routes;
mod securityhub;
mod sms;
mod sns;
#[path = "../../../hub/tests/sources/standin.rs"]
#[allow(dead_code)]
mod standin;
pub(crate) mod words;
mod worker;
