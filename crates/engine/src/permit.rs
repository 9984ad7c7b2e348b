//! Bounds the bytes that wait for the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::outcome::IngestError;

/// Counts the bytes of all permits. All clones share one count.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryBudget(Arc<AtomicUsize>);

impl MemoryBudget {
    /// Bytes that are held now.
    pub(crate) fn used_bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// A permit for no bytes yet, which grows as long as all permits together hold at most `bytes_max`.
    pub(crate) fn permit(&self, bytes_max: usize) -> MemoryPermit {
        MemoryPermit { used: Arc::clone(&self.0), bytes: 0, bytes_max }
    }
}

/// Bytes that one request holds while it waits. Dropping the permit releases them.
#[derive(Debug)]
pub struct MemoryPermit {
    used: Arc<AtomicUsize>,
    bytes: usize,
    bytes_max: usize,
}

impl MemoryPermit {
    /// Adds bytes to the permit.
    ///
    /// # Errors
    /// [`IngestError::Busy`] when all permits together would exceed their bound.
    pub fn grow(&mut self, bytes: usize) -> Result<(), IngestError> {
        let bytes_max = self.bytes_max;
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= bytes_max)
        });
        if taken.is_err() {
            return Err(IngestError::busy());
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
