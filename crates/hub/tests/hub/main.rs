//! The hub over its real state: a real store, real HTTP, a clock that the test sets.

mod drill;
mod history;
mod incidents;
mod refusals;
mod stage;
#[path = "../sources/standin.rs"]
#[allow(dead_code, reason = "these tests need a part of it")]
mod standin;
mod upkeep;
