//! Sources in AWS: log files in S3, queues of their notifications, and the events that CloudTrail
//! itself remembers for 90 days. The only part of this crate that uses the network and an async
//! runtime, and only when it is asked for `s3://`, `lookup://` or a queue.
//!
//! The async side lists and fetches, within bounds that do not depend on what is there; the threads
//! of the scan take what it has, by the same way as files ([`crate::file`]).

mod access;
mod checkpoint;
mod commit;
mod failure;
mod fan_out;
mod lookup;
mod queue;
mod ready;
mod s3;
mod usage;

pub use self::access::Roles;
pub use self::checkpoint::{CHECKPOINT_EVERY_OBJECTS, CheckpointPlan};
pub use self::failure::{CloudError, Failure, chained, failure_of};
pub use self::fan_out::{FannedOut, fan_out};
pub use self::lookup::{LOOKUP_DAYS_MAX, LookupPlaces, scan_lookup};
pub use self::queue::{QueueCounts, QueueFollower};
pub use self::s3::{S3_CONCURRENCY, S3_CONCURRENCY_MAX, S3Address, S3Options, scan_s3};
pub use self::usage::{PRICES_AS_OF, Usage};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Threads of the async side. It waits, and undoes TLS; the work is done by the scan's threads.
const RUNTIME_THREADS_MAX: usize = 2;
/// Exit code of a program that was interrupted a second time.
const EXIT_INTERRUPTED: i32 = 130;

/// A runtime for one look at AWS.
fn runtime() -> Result<tokio::runtime::Runtime, CloudError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.min(RUNTIME_THREADS_MAX))
        .enable_all()
        .build()
        .map_err(|error| CloudError::Machine { what: "start the runtime", source: error })
}

/// Said when somebody asks the program to end: what was found until then is still told, as an
/// incomplete look.
#[derive(Debug, Clone, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Becomes true at the first SIGINT. At the second the program ends.
    fn on_interrupt(runtime: &tokio::runtime::Runtime) -> Self {
        let stop = Self::default();
        let told = stop.clone();
        runtime.spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                told.0.store(true, Ordering::Relaxed);
                if tokio::signal::ctrl_c().await.is_ok() {
                    std::process::exit(EXIT_INTERRUPTED);
                }
            }
        });
        stop
    }

    fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
