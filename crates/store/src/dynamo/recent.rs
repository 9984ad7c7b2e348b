//! What this process wrote last of deliveries and their threads, so that it need not read it again.
//!
//! Everything that is written goes under the condition that the item is still of the version that was
//! read: what was remembered and has changed since is refused, and read then.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rootwatch_core::delivery::DeliveryId;

use super::outbox::{StoredDelivery, Thread};

/// Deliveries, and threads, that are remembered.
const REMEMBERED_MAX: usize = 512;
/// How long the list of destinations counts as new. Whoever finds nothing in those that it names reads
/// it anew before saying so.
const DESTINATIONS_FRESH: Duration = Duration::from_secs(30);

/// Recently written items.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    kept: HashMap<DeliveryId, StoredDelivery>,
    threads: HashMap<String, Thread>,
    destinations: Option<(Instant, Vec<String>)>,
}

impl Recent {
    fn with<T>(&self, what: impl FnOnce(&mut Remembered) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A delivery as it was written. Returned once: a change to it writes it again.
    pub(super) fn take(&self, id: &DeliveryId) -> Option<StoredDelivery> {
        self.with(|all| all.kept.remove(id))
    }

    /// Remembers a delivery as it was written.
    pub(super) fn wrote(&self, kept: StoredDelivery) {
        self.with(|all| {
            if all.kept.len() >= REMEMBERED_MAX {
                all.kept.clear();
            }
            all.kept.insert(kept.delivery.id.clone(), kept);
        });
    }

    /// A thread, as it was written.
    pub(super) fn thread(&self, pk: &str) -> Option<Thread> {
        self.with(|all| all.threads.remove(pk))
    }

    /// Remembers a thread as it was written, or forgets a deleted one.
    pub(super) fn wrote_thread(&self, pk: String, thread: Option<Thread>) {
        self.with(|all| {
            if all.threads.len() >= REMEMBERED_MAX {
                all.threads.clear();
            }
            match thread {
                Some(thread) => _ = all.threads.insert(pk, thread),
                None => _ = all.threads.remove(&pk),
            }
        });
    }

    /// The destinations that have ever had a delivery, if they were read recently.
    pub(super) fn destinations(&self) -> Option<Vec<String>> {
        self.with(|all| {
            let (read_at, names) = all.destinations.as_ref()?;
            (read_at.elapsed() < DESTINATIONS_FRESH).then(|| names.clone())
        })
    }

    /// Remembers the destinations as read now.
    pub(super) fn read_destinations(&self, names: &[String]) {
        self.with(|all| all.destinations = Some((Instant::now(), names.to_vec())));
    }

    pub(super) fn forget_destinations(&self) {
        self.with(|all| all.destinations = None);
    }
}
