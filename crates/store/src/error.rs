//! Why a store could not do what it was asked.

use rootwatch_core::incident::IncidentId;

/// Why a store could not do what it was asked. Each variant says what the caller should do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another writer changed an incident since it was loaded: load it again, decide again.
    #[error("incident {id} was changed by another writer")]
    Conflict {
        /// The incident.
        id: IncidentId,
    },
    /// Another writer committed since the generation that the decision was made on: catch up
    /// ([`crate::Decisions::catch_up`]), decide again.
    #[error("another writer committed first")]
    Overtaken,
    /// The store cannot write at the moment (disk full, locked for too long, out of reach). Nothing
    /// was saved: retry later.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// The error of the database.
        reason: String,
    },
    /// The data is damaged or of a version that this program does not know: an operator has to
    /// look at it.
    #[error("the store is damaged: {reason}")]
    Damaged {
        /// What is wrong, and where.
        reason: String,
    },
    /// There is no item of this name.
    #[error("there is no {what} {name}")]
    NotFound {
        /// `incident`, `delivery` …
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A page cursor that this store did not give out.
    #[error("this is not a page cursor of this store")]
    BadCursor,
}
