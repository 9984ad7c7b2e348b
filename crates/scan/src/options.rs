//! How to scan, and the limits that apply unless an option says otherwise.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use rootwatch_core::decode::Limits;

use crate::names::LogName;

/// Bytes that one compressed file may decompress to: 4 GiB. CloudTrail's own files stay below 50 MB.
pub const FILE_BYTES_MAX: u64 = 4 << 30;
/// How many times its size a compressed file may grow to, once the text is larger than
/// [`EXPANSION_FREE_BYTES`]. Log files grow about tenfold.
pub const EXPANSION_MAX: u64 = 200;
/// Bytes to which any compressed file may grow, however small it is.
pub const EXPANSION_FREE_BYTES: u64 = 64 << 20;
/// Findings that a scan keeps in memory; the rest counts as skipped. An archive with more findings
/// has a root user who works every day: narrow the scan by time or account.
pub const FINDINGS_MAX: u64 = 1_000_000;

/// A log file is named after the time of its delivery. Its records may be this much later (clock
/// differences, and programs that name a file after the time of its first record).
pub(crate) const NAMED_EARLY_MAX: SignedDuration = SignedDuration::from_mins(15);
/// Records may be delivered this long after they happened: minutes usually, days after an outage
/// (CloudTrail's `addendum`).
pub(crate) const DELIVERED_LATE_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How to scan.
#[derive(Debug, Clone)]
pub struct ScanOptions {
    /// Reader threads; at least one.
    pub threads: usize,
    /// Only records at or after this time.
    pub since: Option<Timestamp>,
    /// Only records before this time.
    pub until: Option<Timestamp>,
    /// Only records delivered to these accounts; empty for all.
    pub accounts: BTreeSet<String>,
    /// Only records of these regions; empty for all.
    pub regions: BTreeSet<String>,
    /// Also report records without root use that a rule matches.
    pub rule_only: bool,
    /// False decodes every record: slower, finds the same, and reports damage inside records that
    /// the prefilter would have discarded.
    pub prefilter: bool,
    /// Limits of one record.
    pub limits: Limits,
    /// Bytes that one compressed file may decompress to.
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
    /// True when the name of a log file shows that the filters exclude all of its records.
    pub(crate) fn rules_out(&self, name: &LogName<'_>) -> bool {
        let at = name.delivered_at;
        self.since.is_some_and(|since| at + NAMED_EARLY_MAX < since)
            || self.until.is_some_and(|until| at - DELIVERED_LATE_MAX > until)
            || (!self.accounts.is_empty() && !self.accounts.contains(name.account))
            || (!self.regions.is_empty() && !self.regions.contains(name.region))
    }
}
