//! What the tests of several crates share, compiled once: builders of findings, deliveries and
//! batches ([`sample`]), seeded numbers ([`random`]), and what any store has to promise
//! ([`conformance`]).
//!
//! For tests and benchmarks only: nothing but dev-dependencies names this crate. A helper that one
//! test program alone uses stays beside that program.

#![allow(clippy::unwrap_used, reason = "in a test a panic is how a failure shows")]

pub mod conformance;
pub mod random;
pub mod sample;
