//! The core of Rootwatch: detection and correlation as pure functions.
//!
//! ```text
//! bytes ─ split ─ decode ─► record ─ classify ─┐
//!                             └ rules (pattern) ┴─ detect ─► finding ─ correlate ─► incident ─► alert
//! ```
//!
//! | Module | What it does |
//! |---|---|
//! | [`split`], [`decode`], [`record`] | divide a text into units, decode each, and parse records leniently |
//! | [`classify`] | how the root user was involved; MFA used, not used or not stated; denied or not |
//! | [`pattern`], [`rules`] | event patterns as EventBridge defines them; rules with texts and tests |
//! | [`detect`] | root use or a matching rule makes a finding; its severity and the reasons |
//! | [`correlate`], [`incident`] | which findings belong together, and what they mean together |
//! | [`window`], [`alert`], [`delivery`] | approved root use; when a change to an incident is worth an alert; alerts to send |
//! | [`narrative`], [`timeline`], [`access_path`], [`text`] | an incident in words, as rows, and the formats of both |
//! | [`ocsf`] | findings and incidents in the Open Cybersecurity Schema Framework |
//! | [`forwarding`] | the event patterns that spokes forward |
//!
//! No module does I/O, reads a clock or the environment, is async or uses AWS's SDK: time is an
//! argument, and everything can be tested as a function. A test checks the dependencies.
//!
//! Three rules hold everywhere:
//!
//! - Root use is always a finding. Rules name it and raise its severity; nothing removes it.
//! - Input that cannot be decided is reported, never dropped: [`decode::Skipped`] for records, the
//!   reason `rules_undecided` for rules.
//! - Results are functions of the *set* of records. Their order, and duplicates, do not matter.

pub mod access_path;
pub mod account;
pub mod alert;
pub mod attempt;
pub mod cis;
pub mod classify;
pub mod correlate;
pub mod decode;
pub mod delivery;
pub mod detect;
pub mod error_chain;
pub mod finding;
pub mod fnv;
pub mod forwarding;
pub mod hex;
pub mod incident;
pub mod narrative;
pub mod ocsf;
pub mod pattern;
pub mod permissions;
pub mod record;
pub mod retry;
pub mod rules;
#[cfg(any(test, feature = "testkit"))]
pub mod sample;
pub mod secret;
pub mod split;
pub mod text;
pub mod timeline;
pub mod window;
