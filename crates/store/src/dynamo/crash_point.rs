//! Where a test may end a writer in the middle of a commit, as if its process had died. Without the
//! feature `testkit` there is nothing here that could fail.

/// Asked before every request.
#[derive(Debug)]
pub(super) struct CrashPoint {
    /// Writes until every request fails; negative for never.
    #[cfg(feature = "testkit")]
    writes_left: std::sync::atomic::AtomicI64,
}

#[cfg(not(feature = "testkit"))]
impl CrashPoint {
    pub(super) fn new() -> Self {
        Self {}
    }

    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "fails with `testkit`")]
    pub(super) fn pass(&self, _writes: bool) -> Result<(), crate::StoreError> {
        Ok(())
    }
}

#[cfg(feature = "testkit")]
mod testkit {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::CrashPoint;
    use crate::StoreError;

    impl CrashPoint {
        pub(in super::super) fn new() -> Self {
            Self { writes_left: AtomicI64::new(-1) }
        }

        /// Lets this many writes pass and fails every request after them.
        pub(in super::super) fn fail_after(&self, writes: u32) {
            self.writes_left.store(i64::from(writes), Ordering::Relaxed);
        }

        /// Fails once the writes that a test allowed are used up.
        pub(in super::super) fn pass(&self, writes: bool) -> Result<(), StoreError> {
            let left = self.writes_left.load(Ordering::Relaxed);
            if left < 0 {
                return Ok(());
            }
            if left == 0 {
                return Err(StoreError::Unavailable { reason: "this writer has died".to_owned() });
            }
            if writes {
                self.writes_left.fetch_sub(1, Ordering::Relaxed);
            }
            Ok(())
        }
    }
}
