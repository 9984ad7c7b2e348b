//! Scans of files and folders: threads share one walk over the inputs.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rootwatch_core::rules::Ruleset;

use crate::buffers::{Buffers, LargeText, OwnBuffers};
use crate::options::ScanOptions;
use crate::prefilter::Prefilter;
use crate::progress::Progress;
use crate::reader::{Shared, Worker};
use crate::scanned::Scanned;
use crate::threads::on_threads;
use crate::walk::{Found, Input, Walk};

/// Scans the inputs. It never fails as a whole: see [`crate::summary::Summary::skipped`].
#[must_use]
pub fn scan(
    inputs: Vec<Input>,
    rules: &Ruleset,
    options: &ScanOptions,
    progress: &Progress,
) -> Scanned {
    let begin = Instant::now();
    let shared = Shared::new(rules, options, progress);
    let named = inputs.clone();
    let walk = Mutex::new(Walk::new(inputs));
    let work = || {
        let mut worker = Worker::new(&shared);
        while let Some(found) = next(&walk) {
            worker.take(found);
        }
        worker.finish().0
    };
    let mut scanned = Scanned::default();
    on_threads(options.threads, work, |part| scanned.add(part));
    let summary = &mut scanned.summary;
    let found = summary.files + summary.files_filtered + summary.files_passed_over;
    if found == 0 && summary.skipped_total == 0 {
        // "No findings" would be wrong where nothing was read.
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

/// Ids of the rules that make the prefilter useless, because nothing in a record's bytes shows
/// whether they match: with them, every record is decoded.
#[must_use]
pub fn unguarded_rules(rules: &Ruleset) -> Vec<String> {
    Prefilter::new(rules, true).unguarded().to_vec()
}

/// Number of files below the inputs and their compressed bytes, as far as they can be listed: for a
/// progress bar. [`scan`] reports what cannot be listed.
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
/// [`scan`] in benchmarks. Returns the number of bytes after decompression; files that cannot be
/// read count as empty.
#[must_use]
pub fn decompress_only(inputs: Vec<Input>, threads: usize) -> u64 {
    let walk = Mutex::new(Walk::new(inputs));
    let large = LargeText::default();
    let work = || {
        let mut buffers = Buffers::new(OwnBuffers::default(), &large);
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

/// Scans a text in memory, plain or compressed, on the same path as a file whose name says nothing:
/// for tests and fuzzing.
#[doc(hidden)]
#[must_use]
pub fn scan_bytes(bytes: &[u8], rules: &Ruleset, options: &ScanOptions) -> Scanned {
    scan_memory(rules, options, |worker| worker.take_bytes(bytes))
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
    let shared = Shared::new(rules, options, &progress);
    let mut worker = Worker::new(&shared);
    take(&mut worker);
    worker.finish().0
}
