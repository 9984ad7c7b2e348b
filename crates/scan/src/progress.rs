//! How far a scan has come, for a progress bar in another thread.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far a scan has come; read it from another thread.
#[derive(Debug, Default)]
pub struct Progress {
    /// Files done.
    pub files: AtomicU64,
    /// Compressed bytes done.
    pub bytes: AtomicU64,
    /// Findings so far.
    pub findings: AtomicU64,
}

impl Progress {
    pub(crate) fn file_done(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
