//! Saves findings, incidents and pending deliveries.
//!
//! A store is described by domain operations, not by tables. Each reader takes the narrowest trait
//! that it needs:
//!
//! | Trait | For | Operations |
//! |---|---|---|
//! | [`Decisions`] | the engine | what a decision is made on, and [`Decisions::commit`], which saves it |
//! | [`Outbox`] | the delivery worker | leases, attempts, and [`Notes`] that survive restarts |
//! | [`Lists`] | the HTTP API and the command line | incidents, findings, deliveries and unverified records in pages |
//! | [`Maintenance`] | metrics, health checks, pruning | counts, [`Maintenance::prune`], [`Maintenance::ping`] |
//!
//! [`Store`] is all four. `sqlite` keeps the data in one file on one machine, `dynamo` in a DynamoDB
//! table that several hubs may share; each module describes its format.
//!
//! # Guarantees
//!
//! One [`Decisions::commit`] is one transaction: findings, incidents, enqueued deliveries and source
//! positions. Afterwards all of it is on disk, or none of it, whenever the process dies. Only then
//! may a source acknowledge its records.
//!
//! An incident has a revision, so that a second writer's decision is a [`StoreError::Conflict`]
//! instead of lost data. *Redundant* findings repeat what an incident's latest findings say; they
//! are stored, and left out when the incident is loaded for correlation.
//!
//! Deliveries are leased. Of each destination and thread only the oldest pending delivery is leased
//! at any time, so that no destination receives the end of an incident before its beginning. When a
//! lease expires, any worker may take the delivery: a process that dies while sending causes a
//! repeated message, never a lost one.
//!
//! The tests of both stores are the `conformance` module of `rootwatch-testkit`. After any sequence
//! of changes it compares what the store returns with what
//! [`rootwatch_core::correlate::OpenIncidents`] holds in memory.

mod config;
mod decisions;
#[cfg(feature = "aws")]
pub mod dynamo;
mod error;
mod lists;
mod maintenance;
mod outbox;
pub mod permissions;
#[cfg(any(feature = "sqlite", feature = "aws"))]
mod rows;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod stored_incident;

pub use config::StoreConfig;
pub use decisions::{Batch, CaughtUp, Decisions, LookBack, Unverified};
pub use error::StoreError;
pub use lists::{
    DeliveryFilter, FindingFilter, IncidentFilter, Lists, PAGE_ITEMS_MAX, Page, PageRequest,
    StoredFinding,
};
pub use maintenance::{Maintenance, Pruned, Stats};
pub use outbox::{Notes, Outbox};
pub use stored_incident::{NOTE_BYTES_MAX, Resolution, StoredIncident};

/// A complete store.
pub trait Store: Decisions + Outbox + Lists + Maintenance {}

impl<T: Decisions + Outbox + Lists + Maintenance> Store for T {}
