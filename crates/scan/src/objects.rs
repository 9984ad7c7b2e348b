//! Objects one by one: findings are passed on as they are found, and nothing is kept.
//!
//! A scan of an archive keeps its findings, because correlation needs all of them. A hub keeps them
//! in its store: it reads any number of objects, of any size, in the memory of the buffers and one
//! batch for each object that is read at the same time.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rootwatch_core::rules::Ruleset;

use crate::buffers::{LargeText, OwnBuffers};
use crate::names::FileKind;
use crate::options::ScanOptions;
use crate::prefilter::Prefilter;
use crate::progress::Progress;
pub use crate::reader::{BATCH_FINDINGS_MAX, BatchSink};
use crate::reader::{Shared, Worker, prefilter};
use crate::summary::Summary;

/// Unused buffers that are kept for the next objects. More objects at the same time are possible;
/// their buffers are freed afterwards.
const IDLE_BUFFERS_MAX: usize = 4;

/// True for names of objects that CloudTrail delivers beside its log files and that hold no records:
/// digests, Insights. `name` may have folders before it.
#[must_use]
pub fn holds_no_records(name: &str) -> bool {
    FileKind::of(last_part(name)) == FileKind::NoRecords
}

/// Scans objects, from any number of threads, with buffers that are used again.
#[derive(Debug)]
pub struct ObjectScanner {
    rules: Arc<Ruleset>,
    options: ScanOptions,
    prefilter: Option<Arc<Prefilter>>,
    large: Arc<LargeText>,
    idle: Mutex<Vec<OwnBuffers>>,
}

impl ObjectScanner {
    /// A scanner for these rules. Of the options, the number of threads and of findings to keep have
    /// no effect.
    #[must_use]
    pub fn new(rules: Arc<Ruleset>, options: ScanOptions) -> Self {
        let prefilter = prefilter(&rules, &options);
        Self { rules, options, prefilter, large: Arc::default(), idle: Mutex::default() }
    }

    /// Scans one object, plain or compressed as its first bytes say, and passes its findings on in
    /// batches of at most [`BATCH_FINDINGS_MAX`], in the order of the text. When the sink breaks, the
    /// rest is not read.
    ///
    /// Damage costs only what it damages: [`Summary::skipped`] lists it, with the place of a record,
    /// or without a place when the object itself ended early, was damaged or could not be read. The
    /// findings before it are passed on. An object whose name says that it holds no records is passed
    /// over unread; so is a document, unless it looks like a log.
    pub fn scan(&self, object: impl Read, name: &str, sink: &mut BatchSink<'_>) -> Summary {
        let begin = Instant::now();
        let progress = Progress::default();
        let (prefilter, large) = (self.prefilter.clone(), Arc::clone(&self.large));
        let shared = Shared::with(&self.rules, &self.options, &progress, prefilter, large);
        let own = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut worker = Worker::passing_on(&shared, own.unwrap_or_default(), sink);
        worker.take_object(Path::new(name), last_part(name), false, object);
        let (scanned, own) = worker.finish();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_BUFFERS_MAX {
            idle.push(own);
        }
        Summary { elapsed: begin.elapsed(), ..scanned.summary }
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit(['/', std::path::MAIN_SEPARATOR]).next().unwrap_or(name)
}
