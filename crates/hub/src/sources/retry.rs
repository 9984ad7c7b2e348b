//! Waiting: pauses that grow, an intake that cannot save now, a hub that closes.

use std::time::Duration;

use bytes::Bytes;
use rootwatch_core::detect::Detected;
pub(super) use rootwatch_core::retry::BackOff;
use tokio::sync::watch;
use tokio::time::Instant;

use super::context::Intake;
use rootwatch_engine::{IngestError, Origin, Outcome, shutdown};

/// Seconds for which something is held that cannot be saved, before it is given back to where it
/// came from. Giving back costs a message one of the receptions that its redrive policy allows, so
/// a store that is out of reach for a while must not send sound messages to the dead-letter queue.
const HOLD_SECS_MAX: u64 = 3600;
/// Pause after the first failure to save, in milliseconds; it doubles.
const PAUSE_MILLIS: u64 = 100;
/// Longest pause between two tries to save, in milliseconds.
const PAUSE_MILLIS_MAX: u64 = 10_000;

/// Waits, or not, when the hub closes. Says whether to go on.
pub(super) async fn pause(time: Duration, shutdown: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = shutdown::requested(shutdown) => false,
        () = tokio::time::sleep(time) => true,
    }
}

/// Hands a body to the intake, again and again while it cannot be saved.
///
/// # Errors
/// When the hub closes, after [`HOLD_SECS_MAX`], or when the body itself is refused.
pub(super) async fn take(
    intake: &dyn Intake,
    origin: &Origin,
    body: &Bytes,
    shutdown: &mut watch::Receiver<bool>,
) -> Result<Vec<Outcome>, IngestError> {
    let mut patience = Patience::new();
    loop {
        match intake.take(origin, body.clone()).await {
            Err(error) => patience.bear(origin, error, shutdown).await?,
            saved => return saved,
        }
    }
}

/// Hands findings to the intake, again and again while they cannot be saved.
///
/// # Errors
/// When the hub closes, or after [`HOLD_SECS_MAX`].
pub(super) async fn take_detected(
    intake: &dyn Intake,
    origin: &Origin,
    detected: Vec<Detected>,
    position: Option<(String, String)>,
    shutdown: &mut watch::Receiver<bool>,
) -> Result<Vec<Outcome>, IngestError> {
    let mut patience = Patience::new();
    loop {
        match intake.take_detected(origin, detected.clone(), position.clone()).await {
            Err(error) => patience.bear(origin, error, shutdown).await?,
            saved => return saved,
        }
    }
}

struct Patience {
    begin: Instant,
    back_off: BackOff,
    is_told: bool,
}

impl Patience {
    fn new() -> Self {
        let millis = Duration::from_millis;
        Self {
            begin: Instant::now(),
            back_off: BackOff::new(millis(PAUSE_MILLIS), millis(PAUSE_MILLIS_MAX)),
            is_told: false,
        }
    }

    /// Waits after a failure, or gives the failure back when it is time to give up.
    async fn bear(
        &mut self,
        origin: &Origin,
        error: IngestError,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<(), IngestError> {
        let mut time = self.back_off.pause();
        match &error {
            // The first has no later; the others are the body's own fault.
            IngestError::Closing | IngestError::TooLarge { .. } | IngestError::Damaged { .. } => {
                return Err(error);
            }
            IngestError::Busy { retry_after_secs } => {
                let asked = Duration::from_secs(*retry_after_secs);
                time = time.max(asked.min(Duration::from_millis(PAUSE_MILLIS_MAX)));
            }
            _ if !self.is_told => {
                self.is_told = true;
                tracing::warn!(source = %origin.source, %error, "cannot be saved now: it is held");
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
    async fn a_pause_ends_when_the_hub_closes() {
        let (sender, mut receiver) = watch::channel(false);
        assert!(pause(Duration::from_millis(1), &mut receiver).await);
        sender.send(true).expect("a receiver");
        assert!(!pause(Duration::from_secs(3600), &mut receiver).await);
        drop(sender);
        assert!(!pause(Duration::from_secs(3600), &mut receiver).await);
    }
}
