//! Log files to findings, at the speed of decompression.
//!
//! Threads share one walk over the inputs. Each takes a file, inflates it into a buffer of its own
//! (or streams it through a window if it is large), runs one pass over the text that finds where
//! records end and which of them deserve a look ([`prefilter`] says why that is safe), and decodes
//! and judges only those. Memory is bounded by the buffers, whatever the archive's size; findings
//! are kept until the end, because incidents need all of them.
//!
//! What cannot be read or decoded is counted and listed with its place, and everything else is
//! still scanned.

#[cfg(feature = "aws")]
pub mod aws;
mod file;
mod inflate;
mod kernel;
mod names;
pub mod permissions;
mod prefilter;
pub mod stream;
pub mod summary;
mod text;
mod walk;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use rootwatch_core::decode::Limits;
use rootwatch_core::detect::Detected;
use rootwatch_core::rules::Ruleset;

use crate::file::{LargeText, Worker};
use crate::kernel::Kernel;
use crate::names::LogName;
use crate::prefilter::Prefilter;
use crate::summary::{SkippedAt, Summary};
pub use crate::walk::Input;
use crate::walk::{Found, Walk};

/// Bytes that one file may decompress to before it is called a bomb: 4 GiB. CloudTrail's own files
/// stay below 50 MB.
pub const FILE_BYTES_MAX: u64 = 4 << 30;
/// Times that a compressed file may grow before it is called a bomb, once it has grown beyond
/// [`EXPANSION_FREE_BYTES`]. Log files grow about tenfold.
pub const EXPANSION_MAX: u64 = 200;
/// Bytes to which any file may grow, however small it was.
pub const EXPANSION_FREE_BYTES: u64 = 64 << 20;
/// Findings that a scan keeps. An archive with more has one root user too many; the rest is
/// counted as skipped.
pub const FINDINGS_MAX: u64 = 1_000_000;

/// A file is named after the time of its delivery; its records may be said to be this much later
/// (clocks, and writers that name a file after the time of its first record).
pub(crate) const NAMED_EARLY_MAX: SignedDuration = SignedDuration::from_mins(15);
/// Records may be delivered this long after they happened: minutes usually, days after an outage
/// (CloudTrail's `addendum`).
pub(crate) const DELIVERED_LATE_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How to scan.
#[derive(Debug, Clone)]
pub struct ScanOptions {
    /// How many threads read; at least one.
    pub threads: usize,
    /// Only records from this moment on.
    pub since: Option<Timestamp>,
    /// Only records before this moment.
    pub until: Option<Timestamp>,
    /// Only records delivered to these accounts; empty for all.
    pub accounts: BTreeSet<String>,
    /// Only records of these regions; empty for all.
    pub regions: BTreeSet<String>,
    /// Whether records without root use matter, on which only a rule can speak.
    pub rule_only: bool,
    /// False decodes every record: slower, finds the same, and reports damage inside records that
    /// the prefilter would have discarded.
    pub prefilter: bool,
    /// Bounds of one record.
    pub limits: Limits,
    /// Bytes that one file may decompress to.
    pub file_bytes_max: u64,
    /// How many findings are kept.
    pub findings_max: u64,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            since: None,
            until: None,
            accounts: BTreeSet::new(),
            regions: BTreeSet::new(),
            rule_only: true,
            prefilter: true,
            limits: Limits::default(),
            file_bytes_max: FILE_BYTES_MAX,
            findings_max: FINDINGS_MAX,
        }
    }
}

impl ScanOptions {
    /// True when a log file's name says that a filter leaves nothing of it.
    pub(crate) fn rules_out(&self, name: &LogName<'_>) -> bool {
        let at = name.delivered_at;
        self.since.is_some_and(|since| at + NAMED_EARLY_MAX < since)
            || self.until.is_some_and(|until| at - DELIVERED_LATE_MAX > until)
            || (!self.accounts.is_empty() && !self.accounts.contains(name.account))
            || (!self.regions.is_empty() && !self.regions.contains(name.region))
    }
}

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

/// A finding and the file that it came from.
#[derive(Debug, Clone)]
pub struct Located {
    /// The finding, before it is settled.
    pub detected: Detected,
    /// Path of the file, as walked; `-` for standard input.
    pub file: Arc<str>,
}

/// What a scan brings home.
#[derive(Debug, Default)]
pub struct Scanned {
    /// In no particular order.
    pub findings: Vec<Located>,
    /// What was looked at, and what could not be.
    pub summary: Summary,
}

/// Scans the inputs. Never fails as a whole: see [`Summary::skipped`].
#[must_use]
pub fn scan(
    inputs: Vec<Input>,
    rules: &Ruleset,
    options: &ScanOptions,
    progress: &Progress,
) -> Scanned {
    let begin = Instant::now();
    let prefilter = Prefilter::new(rules, options.rule_only);
    let prefilter = (options.prefilter && prefilter.unguarded().is_empty()).then_some(&prefilter);
    let named = inputs.clone();
    let walk = Mutex::new(Walk::new(inputs));
    let large = LargeText::default();
    let work = || {
        let mut worker = Worker::new(rules, options, prefilter, Kernel::detect(), progress, &large);
        while let Some(found) = next(&walk) {
            worker.take(found);
        }
        worker.finish()
    };
    let mut scanned = Scanned::default();
    on_threads(options.threads, work, |part| merge(&mut scanned, part));
    let summary = &mut scanned.summary;
    let came_to = summary.files + summary.files_filtered + summary.files_passed_over;
    if came_to == 0 && summary.skipped_total == 0 {
        // To have looked at nothing is not to have found nothing.
        for input in named {
            if let Input::Path(path) = input {
                summary.skip(&path, None, "no log file is there".to_owned());
            }
        }
    }
    summary.shorten();
    summary.elapsed = begin.elapsed();
    scanned
}

/// Scans a text in memory, plain or compressed, on the same path as a file of which the name
/// promises nothing: for tests and fuzzing.
#[doc(hidden)]
#[must_use]
pub fn scan_bytes(bytes: &[u8], rules: &Ruleset, options: &ScanOptions) -> Scanned {
    scan_memory(rules, options, |worker| worker.take_bytes(bytes))
}

/// Inflates deflate data by libdeflate and by our own code, in so much room; gives what comes out: for
/// tests and fuzzing.
///
/// # Panics
/// When the two do not say the same, or something is written beyond the room.
#[doc(hidden)]
#[must_use]
pub fn inflate_both_ways(data: &[u8], room: usize) -> Option<Vec<u8>> {
    inflate::both_ways(data, room)
}

/// Scans a plain text in memory as a delivered log file is streamed, `step_bytes` more at a time:
/// for tests and fuzzing.
#[doc(hidden)]
#[must_use]
pub fn scan_in_steps(
    text: &[u8],
    step_bytes: usize,
    rules: &Ruleset,
    options: &ScanOptions,
) -> Scanned {
    scan_memory(rules, options, |worker| worker.take_in_steps(text, step_bytes))
}

fn scan_memory(
    rules: &Ruleset,
    options: &ScanOptions,
    take: impl FnOnce(&mut Worker<'_>),
) -> Scanned {
    let progress = Progress::default();
    let prefilter = Prefilter::new(rules, options.rule_only);
    let prefilter = (options.prefilter && prefilter.unguarded().is_empty()).then_some(&prefilter);
    let large = LargeText::default();
    let mut worker = Worker::new(rules, options, prefilter, Kernel::detect(), &progress, &large);
    take(&mut worker);
    worker.finish()
}

/// Ids of the rules that make the prefilter useless, because nothing in a record's bytes tells
/// whether they speak: with them, every record is decoded.
#[must_use]
pub fn unguarded_rules(rules: &Ruleset) -> Vec<String> {
    Prefilter::new(rules, true).unguarded().to_vec()
}

/// Files and compressed bytes below the inputs, as far as they can be listed: for a progress bar.
#[must_use]
pub fn measure(inputs: Vec<Input>) -> (u64, u64) {
    let mut walk = Walk::new(inputs);
    let (mut files, mut bytes) = (0, 0);
    while let Some(found) = walk.next() {
        if let Found::File { path, .. } = found {
            files += 1;
            bytes += std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        }
    }
    (files, bytes)
}

/// Reads the inputs, decompresses them by libdeflate and throws the text away: the yardstick for
/// [`scan`] in benchmarks. Returns how many bytes came out.
#[must_use]
pub fn decompress_only(inputs: Vec<Input>, threads: usize) -> u64 {
    let walk = Mutex::new(Walk::new(inputs));
    let large = LargeText::default();
    let work = || {
        let mut buffers = file::Buffers::new(&large);
        let mut bytes = 0;
        while let Some(found) = next(&walk) {
            if let Found::File { path, .. } = found {
                bytes += buffers.decompressed_bytes(&path).unwrap_or(0);
            }
        }
        bytes
    };
    let mut total = 0;
    on_threads(threads, work, |bytes| total += bytes);
    total
}

fn next(walk: &Mutex<Walk>) -> Option<Found> {
    walk.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// Runs `work` on this thread and on `threads - 1` others, and hands on what each gives.
fn on_threads<T: Send>(threads: usize, work: impl Fn() -> T + Sync, mut take: impl FnMut(T)) {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.max(1)).map(|_| scope.spawn(&work)).collect();
        take(work());
        for other in others {
            match other.join() {
                Ok(part) => take(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
}

/// Adds what another look at other inputs brought home.
pub fn merge(into: &mut Scanned, part: Scanned) {
    into.findings.extend(part.findings);
    let (into, part) = (&mut into.summary, part.summary);
    into.files += part.files;
    into.files_filtered += part.files_filtered;
    into.files_passed_over += part.files_passed_over;
    into.documents += part.documents;
    into.records += part.records;
    for (kind, count) in part.passed_over {
        *into.passed_over.entry(kind).or_default() += count;
    }
    into.bytes_read += part.bytes_read;
    into.bytes_scanned += part.bytes_scanned;
    into.skipped_total += part.skipped_total;
    into.skipped.extend(part.skipped);
    if let Some((first, last)) = part.span {
        into.widen(first);
        into.widen(last);
    }
    into.accounts.extend(part.accounts);
    into.regions.extend(part.regions);
    // Both parts list the first of their places; the first of all are among them.
    if into.skipped.len() > 2 * Summary::SKIPPED_LISTED_MAX {
        into.shorten();
    }
}

impl Summary {
    pub(crate) fn widen(&mut self, at: Timestamp) {
        self.span = Some(self.span.map_or((at, at), |(a, b)| (a.min(at), b.max(at))));
    }

    /// Sorts the list of skipped places and cuts it to its length.
    pub(crate) fn shorten(&mut self) {
        self.skipped.sort_by(|a, b| (&a.path, a.place).cmp(&(&b.path, b.place)));
        self.skipped.truncate(Self::SKIPPED_LISTED_MAX);
    }

    pub(crate) fn skip(
        &mut self,
        path: &Path,
        place: Option<rootwatch_core::decode::Place>,
        reason: String,
    ) {
        self.skipped_total += 1;
        if self.skipped.len() < Self::SKIPPED_LISTED_MAX {
            self.skipped.push(SkippedAt { path: path.to_owned(), place, reason });
        }
    }
}

impl Progress {
    pub(crate) fn done(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// An operating system's error in our words.
pub(crate) fn io_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or folder".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => {
            let text = error.to_string();
            let words = text.split(" (os error").next().unwrap_or(&text);
            words.to_lowercase()
        }
    }
}
