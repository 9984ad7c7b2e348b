//! What a scan looked at, and what it could not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rootwatch_core::decode::{PassedOver, Place};

/// Something that a scan could not read or decode, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedAt {
    /// The file; `-` for standard input.
    pub path: PathBuf,
    /// The record, where the file itself could be read.
    pub place: Option<Place>,
    /// Why: lower case, no full stop.
    pub reason: String,
}

/// What a scan looked at.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Files that were read, standard input included.
    pub files: u64,
    /// Files that were not opened because their name rules them out by a filter.
    pub files_filtered: u64,
    /// Files that were not opened because their name says digest or Insights.
    pub files_passed_over: u64,
    /// Files in folders that are no log files by their name nor by their first bytes: a README.
    pub documents: u64,
    /// Records that were looked at.
    pub records: u64,
    /// Objects in log files that hold no API record, by kind.
    pub passed_over: BTreeMap<PassedOver, u64>,
    /// Findings that were delivered more than once; each was counted as one.
    pub repeats: u64,
    /// Filters that were set, as they were given: `--min-severity high`.
    pub filters: Vec<String>,
    /// Findings that a filter on class or severity left out.
    pub hidden: u64,
    /// Bytes read from disk or standard input, compressed.
    pub bytes_read: u64,
    /// Bytes after decompression.
    pub bytes_scanned: u64,
    /// Everything that could not be read or decoded, sorted by path and place; at most
    /// [`Summary::SKIPPED_LISTED_MAX`] entries.
    pub skipped: Vec<SkippedAt>,
    /// How many could not be read or decoded, listed or not.
    pub skipped_total: u64,
    /// Earliest and latest moment of which log-file names or decoded records speak.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Accounts named by log-file names or decoded records.
    pub accounts: BTreeSet<String>,
    /// Regions named by log-file names or decoded records.
    pub regions: BTreeSet<String>,
    /// Wall time.
    pub elapsed: Duration,
}

impl Summary {
    /// How many skipped places are listed one by one.
    pub const SKIPPED_LISTED_MAX: usize = 1000;

    /// True when everything could be read and decoded.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.skipped_total == 0
    }
}
