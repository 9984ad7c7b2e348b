//! The async runtime of a scan of AWS.

use super::failure::CloudError;

/// Threads of the async side. It waits for the network and decrypts TLS; the scan's threads do the
/// work.
const RUNTIME_THREADS_MAX: usize = 2;

/// A runtime for one scan.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, CloudError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.min(RUNTIME_THREADS_MAX))
        .enable_all()
        .build()
        .map_err(|error| CloudError::Machine { what: "start the runtime", source: error })
}
