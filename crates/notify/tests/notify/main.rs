//! Routing, wording, channels and the worker, against a scripted server and an outbox in memory.

mod aws;
mod channels;
mod common;
mod email;
mod eventbridge;
mod ocsf;
mod pagerduty;
mod routes;
mod securityhub;
mod servicenow;
mod ses;
mod slack;
mod sms;
mod sns;
#[path = "../../../hub/tests/sources/standin.rs"]
#[allow(dead_code, reason = "only a part of it is needed here")]
mod standin;
mod teams;
mod tls;
pub(crate) mod words;
mod worker;
mod zendesk;
