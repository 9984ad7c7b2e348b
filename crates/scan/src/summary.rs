//! What a scan read, and what it could not read.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rootwatch_core::decode::{PassedOver, Place};

use crate::names::LogName;

/// Something that a scan could not read or decode, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "aws", derive(serde::Serialize, serde::Deserialize))]
pub struct SkippedAt {
    /// The file; `-` for standard input.
    #[cfg_attr(feature = "aws", serde(with = "saved::path"))]
    pub path: PathBuf,
    /// The record, where the file itself could be read.
    #[cfg_attr(feature = "aws", serde(rename = "record", with = "saved::place"))]
    pub place: Option<Place>,
    /// Why: lower case, no full stop.
    pub reason: String,
}

/// What a scan read, and what it could not read.
///
/// A checkpoint saves it, as far as it describes the input. The names of the saved fields are part of
/// that file's format: a checkpoint of an earlier release must still be readable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "aws", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct Summary {
    /// Files that were read, standard input included.
    pub files: u64,
    /// Files that were not opened because a filter excludes them by their name.
    #[cfg_attr(feature = "aws", serde(skip_serializing_if = "saved::is_zero"))]
    pub files_filtered: u64,
    /// Files that were not opened because their name says digest or Insights.
    #[cfg_attr(feature = "aws", serde(skip_serializing_if = "saved::is_zero"))]
    pub files_passed_over: u64,
    /// Files in folders that are not log files, neither by their name nor by their first bytes: a
    /// README.
    #[cfg_attr(feature = "aws", serde(skip_serializing_if = "saved::is_zero"))]
    pub documents: u64,
    /// Records that were checked.
    pub records: u64,
    /// Objects in log files that hold no API record, by kind.
    #[cfg_attr(
        feature = "aws",
        serde(skip_serializing_if = "BTreeMap::is_empty", with = "saved::passed_over")
    )]
    pub passed_over: BTreeMap<PassedOver, u64>,
    /// Findings that were delivered more than once; each counts as one finding.
    #[cfg_attr(feature = "aws", serde(skip))]
    pub repeats: u64,
    /// Filters that were set, as they were given: `--min-severity high`.
    #[cfg_attr(feature = "aws", serde(skip))]
    pub filters: Vec<String>,
    /// Findings that a filter on class or severity left out.
    #[cfg_attr(feature = "aws", serde(skip))]
    pub hidden: u64,
    /// Bytes read from disk or standard input, compressed.
    pub bytes_read: u64,
    /// Bytes after decompression.
    pub bytes_scanned: u64,
    /// Everything that could not be read or decoded, sorted by path and place; at most
    /// [`Summary::SKIPPED_LISTED_MAX`] entries.
    #[cfg_attr(feature = "aws", serde(skip_serializing_if = "Vec::is_empty"))]
    pub skipped: Vec<SkippedAt>,
    /// How many places could not be read or decoded, listed or not.
    #[cfg_attr(feature = "aws", serde(skip_serializing_if = "saved::is_zero"))]
    pub skipped_total: u64,
    /// Earliest and latest time in the names of log files and in decoded records.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Accounts in the names of log files and in decoded records.
    pub accounts: BTreeSet<String>,
    /// Regions in the names of log files and in decoded records.
    pub regions: BTreeSet<String>,
    /// Regions of log files that a filter excluded by their name.
    #[cfg_attr(feature = "aws", serde(skip_serializing_if = "BTreeSet::is_empty"))]
    pub regions_filtered: BTreeSet<String>,
    /// Wall time.
    #[cfg_attr(feature = "aws", serde(skip))]
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

    /// Adds the summary of other inputs.
    pub fn add(&mut self, part: Self) {
        self.files += part.files;
        self.files_filtered += part.files_filtered;
        self.files_passed_over += part.files_passed_over;
        self.documents += part.documents;
        self.records += part.records;
        for (kind, count) in part.passed_over {
            *self.passed_over.entry(kind).or_default() += count;
        }
        self.bytes_read += part.bytes_read;
        self.bytes_scanned += part.bytes_scanned;
        self.skipped_total += part.skipped_total;
        self.skipped.extend(part.skipped);
        if let Some((first, last)) = part.span {
            self.widen(first);
            self.widen(last);
        }
        self.accounts.extend(part.accounts);
        self.regions.extend(part.regions);
        self.regions_filtered.extend(part.regions_filtered);
        // Both parts list the first of their places, so the first of all are among them.
        if self.skipped.len() > 2 * Self::SKIPPED_LISTED_MAX {
            self.shorten();
        }
    }

    /// Counts a log file that a filter excludes by its name.
    pub(crate) fn filter_out(&mut self, name: &LogName<'_>) {
        self.files_filtered += 1;
        insert(&mut self.regions_filtered, name.region);
    }

    /// Adds what the name of a log file says about its records.
    pub(crate) fn add_name(&mut self, name: &LogName<'_>) {
        self.widen(name.delivered_at);
        insert(&mut self.accounts, name.account);
        insert(&mut self.regions, name.region);
    }

    pub(crate) fn widen(&mut self, at: Timestamp) {
        self.span = Some(self.span.map_or((at, at), |(a, b)| (a.min(at), b.max(at))));
    }

    /// Sorts the list of skipped places and cuts it to its length.
    pub fn shorten(&mut self) {
        self.skipped.sort_by(|a, b| (&a.path, a.place).cmp(&(&b.path, b.place)));
        self.skipped.truncate(Self::SKIPPED_LISTED_MAX);
    }

    pub(crate) fn skip(&mut self, path: &Path, place: Option<Place>, reason: String) {
        self.skipped_total += 1;
        if self.skipped.len() < Self::SKIPPED_LISTED_MAX {
            self.skipped.push(SkippedAt { path: path.to_owned(), place, reason });
        }
    }
}

/// Inserts a name, and copies it only when it is new: it almost never is.
pub(crate) fn insert(names: &mut BTreeSet<String>, name: &str) {
    if !names.contains(name) {
        names.insert(name.to_owned());
    }
}

/// An error of the operating system as a reason in a summary.
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

/// How a checkpoint writes what serde would write in another form.
#[cfg(feature = "aws")]
mod saved {
    pub(super) fn is_zero(number: &u64) -> bool {
        *number == 0
    }

    /// A path as text, also when it is not UTF-8.
    pub(super) mod path {
        use std::path::{Path, PathBuf};

        use serde::{Deserialize, Deserializer, Serializer};

        pub(in crate::summary) fn serialize<S: Serializer>(
            path: &Path,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            to.serialize_str(&path.to_string_lossy())
        }

        pub(in crate::summary) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<PathBuf, D::Error> {
            String::deserialize(from).map(PathBuf::from)
        }
    }

    /// A place as `[record, offset]`.
    pub(super) mod place {
        use rootwatch_core::decode::Place;
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        pub(in crate::summary) fn serialize<S: Serializer>(
            place: &Option<Place>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            place.map(|place| (place.record, place.offset)).serialize(to)
        }

        pub(in crate::summary) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Place>, D::Error> {
            let place = Option::<(u64, u64)>::deserialize(from)?;
            Ok(place.map(|(record, offset)| Place { record, offset }))
        }
    }

    /// Counts by the names that the first release wrote, whatever people call the kinds now.
    pub(super) mod passed_over {
        use std::collections::BTreeMap;

        use rootwatch_core::decode::PassedOver;
        use serde::de::Error as _;
        use serde::{Deserialize, Deserializer, Serializer};

        const KINDS: [PassedOver; 3] =
            [PassedOver::Digest, PassedOver::Insight, PassedOver::NotCloudTrail];

        fn name(kind: PassedOver) -> &'static str {
            match kind {
                PassedOver::Digest => "digest file",
                PassedOver::Insight => "Insights event",
                PassedOver::NotCloudTrail => "object without an API record",
            }
        }

        pub(in crate::summary) fn serialize<S: Serializer>(
            counts: &BTreeMap<PassedOver, u64>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            to.collect_map(counts.iter().map(|(kind, count)| (name(*kind), count)))
        }

        pub(in crate::summary) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<BTreeMap<PassedOver, u64>, D::Error> {
            let counts = BTreeMap::<String, u64>::deserialize(from)?;
            let kind = |(text, count): (String, u64)| {
                KINDS
                    .into_iter()
                    .find(|kind| name(*kind) == text)
                    .map(|kind| (kind, count))
                    .ok_or_else(|| D::Error::custom(format!("unknown kind `{text}`")))
            };
            counts.into_iter().map(kind).collect()
        }
    }
}
