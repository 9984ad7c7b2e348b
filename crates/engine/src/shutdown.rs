//! The one signal by which tasks learn that the process ends.

use tokio::sync::watch;

/// Waits until a shutdown is requested. A dropped sender counts as a request: nobody is left to send one.
pub async fn requested(shutdown: &mut watch::Receiver<bool>) {
    // The guard in the result would block the sender while it is held.
    let _ = shutdown.wait_for(|is_requested| *is_requested).await;
}
