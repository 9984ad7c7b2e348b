//! Where the channel `log` writes.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// Where the channel `log` writes.
pub type LogSink = Arc<Mutex<dyn Write + Send>>;

/// Standard output, for the channel `log`.
#[must_use]
pub fn standard_output() -> LogSink {
    Arc::new(Mutex::new(io::stdout()))
}
