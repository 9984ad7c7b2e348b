//! What any store has to promise: one function for each promise, each over a fresh store. A function
//! panics where its promise is broken.

mod commits;
mod deliveries;
mod follows;
mod maintenance;
mod pages;
mod shared;

pub use commits::*;
pub use deliveries::*;
pub use follows::*;
pub use maintenance::*;
pub use pages::*;
pub use shared::*;

use jiff::Timestamp;

use rootwatch_store::{Batch, Store, StoredIncident};

/// Everything that correlation may need, by id.
async fn all(store: &dyn Store) -> Vec<StoredIncident> {
    let found = store.incidents_within(Timestamp::MIN, Timestamp::MAX, true).await;
    let mut found = found.expect("incidents");
    found.sort_by(|one, other| one.incident.id.cmp(&other.incident.id));
    found
}

async fn save(store: &dyn Store, batch: Batch) {
    store.commit(batch).await.expect("a commit");
}
