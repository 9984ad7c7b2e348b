//! From a reader to the intake: the scan runs on a blocking thread, findings cross to the async
//! side in batches, and at most two batches are in memory.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rootwatch_core::detect::Detected;
pub(super) use rootwatch_scan::aws::chained;
use rootwatch_scan::summary::Summary;
use tokio::sync::mpsc;

use super::context::SourceContext;
use super::retry;
use rootwatch_engine::{IngestError, RecordSource, shutdown};

/// What came of reading one object or file. Its findings are saved.
#[derive(Debug)]
pub(super) struct Reading {
    /// What was looked at, and what could not be.
    pub(super) summary: Summary,
    /// The input itself failed: not damage, but a connection or a disk. Trying again may help.
    pub(super) broken: Option<String>,
    /// How many findings there were.
    pub(super) findings: u64,
}

/// Why findings are not saved.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadingError {
    /// The intake does not take them, or the hub closes.
    #[error(transparent)]
    NotSaved(#[from] IngestError),
    /// The scan itself failed, which is a fault of this program.
    #[error("the scan of {name:?} failed")]
    Failed {
        /// The object or file.
        name: String,
    },
}

/// Scans a reader and saves what it finds. `mark` is asked at the end, with the summary, why the
/// input failed if it did, and the number of findings, for the position that is saved with the
/// last findings (or alone, when there are none).
///
/// # Errors
/// When something could not be saved; batches before it were. Reading it again is safe.
pub(super) async fn read_into(
    reader: impl Read + Send + 'static,
    name: String,
    context: &SourceContext,
    record_source: &RecordSource,
    mark: impl FnOnce(&Summary, Option<&str>, u64) -> Option<(String, String)>,
) -> Result<Reading, ReadingError> {
    let (sender, mut receiver) = mpsc::channel::<Vec<Detected>>(1);
    let watched = Arc::new(Watched::default());
    let _stops = StopOnDrop(Arc::clone(&watched));
    let scanner = Arc::clone(&context.scanner);
    let scan = {
        let (name, watched) = (name.clone(), Arc::clone(&watched));
        tokio::task::spawn_blocking(move || {
            let reader = WatchedReader { inner: reader, watched };
            scanner.scan(reader, &name, &mut |batch| match sender.blocking_send(batch) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            })
        })
    };
    let intake = context.intake.as_ref();
    let mut shutdown = context.shutdown.clone();
    let mut findings = 0;
    // One batch is held back, so that the last one can take the position with it.
    let mut held: Option<Vec<Detected>> = None;
    loop {
        let batch = tokio::select! {
            biased;
            () = shutdown::requested(&mut shutdown) => return Err(IngestError::Closing.into()),
            batch = receiver.recv() => batch,
        };
        let Some(batch) = batch else { break };
        findings += batch.len() as u64;
        if let Some(before) = held.replace(batch) {
            retry::take_detected(intake, record_source, before, None, &mut shutdown).await?;
        }
    }
    let summary = scan.await.map_err(|_| ReadingError::Failed { name })?;
    let broken = watched.error.lock().unwrap_or_else(PoisonError::into_inner).take();
    let position = mark(&summary, broken.as_deref(), findings);
    if held.is_some() || position.is_some() {
        let last = held.unwrap_or_default();
        retry::take_detected(intake, record_source, last, position, &mut shutdown).await?;
    }
    count(record_source, &summary);
    Ok(Reading { summary, broken, findings })
}

/// Findings are counted by the intake; what else a scan saw is counted here.
fn count(record_source: &RecordSource, summary: &Summary) {
    let source = record_source.kind().to_owned();
    metrics::counter!("rootwatch_scanned_records_total", "source" => source.clone())
        .increment(summary.records);
    metrics::counter!("rootwatch_scanned_bytes_total", "source" => source.clone())
        .increment(summary.bytes_scanned);
    if summary.skipped_total > 0 {
        metrics::counter!(
            "rootwatch_records_skipped_total", "source" => source, "reason" => "damaged",
        )
        .increment(summary.skipped_total);
    }
}

/// What both sides know of a reader.
#[derive(Debug, Default)]
struct Watched {
    /// Nobody waits for the scan any more.
    stop: AtomicBool,
    /// The input's own failure.
    error: Mutex<Option<String>>,
}

struct StopOnDrop(Arc<Watched>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Notes failures of the input, which the scan cannot tell from damage, and ends when nobody waits.
struct WatchedReader<R> {
    inner: R,
    watched: Arc<Watched>,
}

impl<R: Read> Read for WatchedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.watched.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("no longer wanted"));
        }
        self.inner.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                let mut noted = self.watched.error.lock().unwrap_or_else(PoisonError::into_inner);
                noted.get_or_insert_with(|| chained(error));
            }
        })
    }
}

/// What a scan could not read, in one line: the first place, and how many more.
pub(super) fn damage(summary: &Summary) -> Option<String> {
    let first = summary.skipped.first()?;
    let place = first.place.map(|place| format!("record {}: ", place.record)).unwrap_or_default();
    let more = match summary.skipped_total - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Some(format!("{place}{}{more}", first.reason))
}
