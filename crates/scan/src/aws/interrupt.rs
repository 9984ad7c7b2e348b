//! The request to end a scan early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The request to end a scan early. The program that owns the process decides what requests it, such
/// as Ctrl-C: this library installs no signal handler. A scan that is interrupted still returns its
/// findings so far, and its summary says that it is incomplete.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Asks all scans that were given this, or a clone, to end.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True once it was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reaches_all_clones() {
        let interrupt = Interrupt::default();
        let clone = interrupt.clone();
        assert!(!clone.is_requested());
        interrupt.request();
        assert!(clone.is_requested());
    }
}
