//! The hub over its real doors: a real store, real HTTP, a clock that the test sets.

mod history;
mod incidents;
mod refusals;
mod stage;
mod upkeep;
