//! Retries while the engine cannot save, until the hub shuts down.

use std::time::Duration;

use bytes::Bytes;
use rootwatch_core::detect::Detected;
pub(super) use rootwatch_core::retry::BackOff;
use tokio::sync::watch;
use tokio::time::Instant;

use super::context::Intake;
use rootwatch_engine::{IngestError, IntakeOutcome, RecordSource, shutdown};

/// Seconds for which the hub holds and retries what it cannot save, before it returns it to its source. A
/// returned message uses up one of the receives of its redrive policy; a store that is unavailable for a
/// while must not move valid messages to the dead-letter queue.
const HOLD_SECS_MAX: u64 = 3600;
/// Pause after the first failure to save, in milliseconds; it doubles.
const PAUSE_MILLIS: u64 = 100;
/// Longest pause between two tries to save, in milliseconds.
const PAUSE_MILLIS_MAX: u64 = 10_000;

/// Waits. Returns false at once if the hub shuts down.
pub(super) async fn pause(time: Duration, shutdown: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = shutdown::requested(shutdown) => false,
        () = tokio::time::sleep(time) => true,
    }
}

/// Hands a body to the intake, and retries while it cannot be saved.
///
/// # Errors
/// When the hub shuts down, after [`HOLD_SECS_MAX`], or when the body itself is refused.
pub(super) async fn take(
    intake: &dyn Intake,
    record_source: &RecordSource,
    body: &Bytes,
    shutdown: &mut watch::Receiver<bool>,
) -> Result<Vec<IntakeOutcome>, IngestError> {
    let mut budget = RetryBudget::new();
    loop {
        match intake.take(record_source, body.clone()).await {
            Err(error) => budget.wait(record_source, error, shutdown).await?,
            saved => return saved,
        }
    }
}

/// Hands findings to the intake, and retries while they cannot be saved.
///
/// # Errors
/// When the hub shuts down, or after [`HOLD_SECS_MAX`].
pub(super) async fn take_detected(
    intake: &dyn Intake,
    record_source: &RecordSource,
    detected: Vec<Detected>,
    position: Option<(String, String)>,
    shutdown: &mut watch::Receiver<bool>,
) -> Result<Vec<IntakeOutcome>, IngestError> {
    let mut budget = RetryBudget::new();
    loop {
        match intake.take_detected(record_source, detected.clone(), position.clone()).await {
            Err(error) => budget.wait(record_source, error, shutdown).await?,
            saved => return saved,
        }
    }
}

struct RetryBudget {
    begin: Instant,
    back_off: BackOff,
    is_logged: bool,
}

impl RetryBudget {
    fn new() -> Self {
        let millis = Duration::from_millis;
        Self {
            begin: Instant::now(),
            back_off: BackOff::new(millis(PAUSE_MILLIS), millis(PAUSE_MILLIS_MAX)),
            is_logged: false,
        }
    }

    /// Waits before the next attempt, or returns the failure if no further attempt should be made.
    async fn wait(
        &mut self,
        record_source: &RecordSource,
        error: IngestError,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<(), IngestError> {
        let mut time = self.back_off.pause();
        match &error {
            // A retry cannot succeed.
            IngestError::Closing | IngestError::TooLarge { .. } | IngestError::Damaged { .. } => {
                return Err(error);
            }
            IngestError::Busy { retry_after_secs } => {
                let asked = Duration::from_secs(*retry_after_secs);
                time = time.max(asked.min(Duration::from_millis(PAUSE_MILLIS_MAX)));
            }
            _ if !self.is_logged => {
                self.is_logged = true;
                tracing::warn!(source = %record_source.source, %error, "cannot save: holding the item and retrying");
            }
            _ => {}
        }
        if self.begin.elapsed() + time > Duration::from_secs(HOLD_SECS_MAX)
            || !pause(time, shutdown).await
        {
            return Err(error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pause_ends_when_the_hub_shuts_down() {
        let (sender, mut receiver) = watch::channel(false);
        assert!(pause(Duration::from_millis(1), &mut receiver).await);
        sender.send(true).expect("a receiver");
        assert!(!pause(Duration::from_secs(3600), &mut receiver).await);
        drop(sender);
        assert!(!pause(Duration::from_secs(3600), &mut receiver).await);
    }
}
