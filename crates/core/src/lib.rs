//! The pure centre of Rootwatch.
//!
//! Bytes become records ([`decode`]), a record is judged ([`judge`]), event patterns ([`pattern`])
//! and rules ([`rules`]) name what was done ([`detect`]), and findings of one root session become
//! one incident ([`incident`]). [`narrative`] puts an incident into words, [`timeline`] into rows, [`text`]
//! formats what both show.
//!
//! Nothing here does I/O, reads a clock or the environment, is async or knows AWS's SDK: time is
//! an argument, and everything can be tested as a function.

pub mod access_path;
pub mod alert;
pub mod correlate;
pub mod decode;
pub mod detect;
pub mod error_chain;
pub mod finding;
pub mod fnv;
pub mod forwarding;
pub mod hex;
pub mod incident;
pub mod judge;
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
