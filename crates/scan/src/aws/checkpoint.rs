//! A file that says how far a scan has come, and what it has found: a scan that was killed goes on
//! from it, to the same result.
//!
//! Lines of JSON, appended and flushed to disk. The first says what is scanned; each further one
//! what was done since the line before, up to a [`Mark`]: objects are listed in the order of their
//! keys, and results are written in that order, so that one key stands for all before it. A last
//! line that was cut off by the kill is taken off: what it said is done again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read as _, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rootwatch_core::decode::{PassedOver, Place};
use rootwatch_core::detect::Detected;
use rootwatch_core::finding::Finding;
use rootwatch_core::hex;
use rootwatch_core::rules::Ruleset;
use serde::{Deserialize, Serialize};

use super::commit::Mark;
use super::failure::CloudError;
use crate::summary::SkippedAt;
use crate::{Located, ScanOptions, Scanned};

/// Version of the file's form.
const FORM: u32 = 1;
/// Objects after which what was done is written down.
pub const CHECKPOINT_EVERY_OBJECTS: u64 = 1_000;
/// Milliseconds after which it is, whatever was done.
const EVERY_MILLIS: u64 = 500;
/// Bytes of a line that is read back.
const LINE_BYTES_MAX: u64 = 1 << 30;

/// Which file, and what the scan is that it belongs to.
#[derive(Debug, Clone)]
pub struct CheckpointPlan {
    /// The file.
    pub path: PathBuf,
    /// What was asked, by option, as it was given: `90d` stays `90d`.
    pub asked: BTreeMap<String, String>,
}

impl CheckpointPlan {
    /// What decides about a result beside paths: the rules, the bounds, this program's version.
    pub(super) fn arguments(
        &self,
        rules: Option<&Ruleset>,
        options: &ScanOptions,
    ) -> BTreeMap<String, String> {
        let mut asked = self.asked.clone();
        let mut note = |name: &str, value: String| {
            asked.insert(name.to_owned(), value);
        };
        let joined = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(",");
        note("version of rootwatch", env!("CARGO_PKG_VERSION").to_owned());
        note("--account", joined(&options.accounts));
        note("--region", joined(&options.regions));
        if let Some(rules) = rules {
            note("rules", version_of(rules));
            note("--root-use no", options.rule_only.to_string());
            note("--no-prefilter", (!options.prefilter).to_string());
            note("--record-bytes-max", options.limits.record_bytes_max.to_string());
            note("--file-bytes-max", options.file_bytes_max.to_string());
            note("--findings-max", options.findings_max.to_string());
        }
        asked
    }
}

/// A hash of all rules, with their patterns and texts.
fn version_of(rules: &Ruleset) -> String {
    let text = serde_json::to_vec(rules.rules()).unwrap_or_default();
    let hash = ring::digest::digest(&ring::digest::SHA256, &text);
    hex::encode(&hash.as_ref()[..8])
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    rootwatch_checkpoint: u32,
    arguments: BTreeMap<String, String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// Names a backfill; the same for all of its messages.
    history: String,
}

/// What was done since the line before.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Entry {
    mark: Option<Mark>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    complete: bool,
    files: u64,
    #[serde(skip_serializing_if = "is_zero")]
    files_filtered: u64,
    #[serde(skip_serializing_if = "is_zero")]
    files_passed_over: u64,
    #[serde(skip_serializing_if = "is_zero")]
    documents: u64,
    records: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    passed_over: BTreeMap<String, u64>,
    bytes_read: u64,
    bytes_scanned: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<Bad>,
    #[serde(skip_serializing_if = "is_zero")]
    skipped_total: u64,
    span: Option<(Timestamp, Timestamp)>,
    accounts: BTreeSet<String>,
    regions: BTreeSet<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<Found>,
    /// Of a fan-out: objects and messages that are in the queue.
    #[serde(skip_serializing_if = "is_nothing")]
    sent: (u64, u64),
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_nothing(sent: &(u64, u64)) -> bool {
    *sent == (0, 0)
}

#[derive(Debug, Serialize, Deserialize)]
struct Bad {
    path: String,
    record: Option<(u64, u64)>,
    reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Found {
    finding: Finding,
    waiting: Vec<usize>,
    file: String,
}

const KINDS: [PassedOver; 3] = [PassedOver::Digest, PassedOver::Insight, PassedOver::NotCloudTrail];

impl Entry {
    fn of(scanned: &Scanned) -> Self {
        let summary = &scanned.summary;
        Self {
            files: summary.files,
            files_filtered: summary.files_filtered,
            files_passed_over: summary.files_passed_over,
            documents: summary.documents,
            records: summary.records,
            passed_over: summary
                .passed_over
                .iter()
                .map(|(kind, count)| (kind.name().to_owned(), *count))
                .collect(),
            bytes_read: summary.bytes_read,
            bytes_scanned: summary.bytes_scanned,
            skipped: summary
                .skipped
                .iter()
                .map(|at| Bad {
                    path: at.path.to_string_lossy().into_owned(),
                    record: at.place.map(|place| (place.record, place.offset)),
                    reason: at.reason.clone(),
                })
                .collect(),
            skipped_total: summary.skipped_total,
            span: summary.span,
            accounts: summary.accounts.clone(),
            regions: summary.regions.clone(),
            findings: scanned
                .findings
                .iter()
                .map(|located| Found {
                    finding: located.detected.finding.clone(),
                    waiting: located.detected.deferred.clone(),
                    file: located.file.to_string(),
                })
                .collect(),
            ..Self::default()
        }
    }

    fn into_scanned(self) -> Scanned {
        let mut scanned = Scanned::default();
        let summary = &mut scanned.summary;
        summary.files = self.files;
        summary.files_filtered = self.files_filtered;
        summary.files_passed_over = self.files_passed_over;
        summary.documents = self.documents;
        summary.records = self.records;
        for kind in KINDS {
            if let Some(count) = self.passed_over.get(kind.name()) {
                summary.passed_over.insert(kind, *count);
            }
        }
        summary.bytes_read = self.bytes_read;
        summary.bytes_scanned = self.bytes_scanned;
        let place = |(record, offset)| Place { record, offset };
        summary.skipped = self
            .skipped
            .into_iter()
            .map(|bad| SkippedAt {
                path: bad.path.into(),
                place: bad.record.map(place),
                reason: bad.reason,
            })
            .collect();
        summary.skipped_total = self.skipped_total;
        summary.span = self.span;
        summary.accounts = self.accounts;
        summary.regions = self.regions;
        scanned.findings = self
            .findings
            .into_iter()
            .map(|found| Located {
                detected: Detected { finding: found.finding, deferred: found.waiting },
                file: Arc::from(found.file),
            })
            .collect();
        scanned
    }
}

/// What a checkpoint gave back.
#[derive(Debug, Default)]
pub(super) struct Restored {
    pub(super) mark: Option<Mark>,
    pub(super) scanned: Scanned,
    pub(super) sent: (u64, u64),
    pub(super) complete: bool,
    /// The moments that were meant when it was begun: an age such as `90d` moves.
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    pub(super) history: String,
}

/// An open checkpoint. Nobody else can write to it.
#[derive(Debug)]
pub(super) struct Checkpoint {
    path: PathBuf,
    file: File,
    pending: Scanned,
    sent: (u64, u64),
    mark: Option<Mark>,
    objects: u64,
    written_at: Instant,
}

impl Checkpoint {
    /// Opens a checkpoint, or begins one.
    ///
    /// # Errors
    /// It is of another scan, damaged, in use, or the disk refuses.
    pub(super) fn open(
        path: &Path,
        arguments: BTreeMap<String, String>,
        options: &ScanOptions,
        history: String,
    ) -> Result<(Self, Restored), CloudError> {
        let refused =
            |reason: String| CloudError::Checkpoint { path: path.display().to_string(), reason };
        let failed = |error: io::Error| refused(crate::io_reason(&error));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        if file.try_lock().is_err() {
            return Err(refused("another scan is writing to it".to_owned()));
        }
        let (lines, length) = sound_lines(&mut file).map_err(failed)?;
        let mut restored = Restored {
            since: options.since,
            until: options.until,
            history: history.clone(),
            ..Restored::default()
        };
        let mut lines = lines.into_iter();
        match lines.next() {
            None => {
                if !is_empty_or_ours(&mut file).map_err(failed)? {
                    return Err(refused("this is no checkpoint".to_owned()));
                }
            }
            Some(first) => {
                let head: Head = serde_json::from_str(&first)
                    .map_err(|_| refused("this is no checkpoint".to_owned()))?;
                if head.rootwatch_checkpoint != FORM {
                    let reason = "it was written by another version of rootwatch".to_owned();
                    return Err(refused(reason));
                }
                if let Some(reason) = difference(&head.arguments, &arguments) {
                    return Err(refused(reason));
                }
                (restored.since, restored.until) = (head.since, head.until);
                restored.history = head.history;
                for (index, line) in lines.enumerate() {
                    let entry: Entry = serde_json::from_str(&line).map_err(|error| {
                        refused(format!("line {} is damaged: {error}", index + 2))
                    })?;
                    restored.complete |= entry.complete;
                    restored.sent.0 += entry.sent.0;
                    restored.sent.1 += entry.sent.1;
                    if entry.mark.is_some() {
                        restored.mark = entry.mark.clone();
                    }
                    crate::merge(&mut restored.scanned, entry.into_scanned());
                }
            }
        }
        file.set_len(length).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut checkpoint = Self {
            path: path.to_owned(),
            file,
            pending: Scanned::default(),
            sent: (0, 0),
            mark: None,
            objects: 0,
            written_at: Instant::now(),
        };
        if length == 0 {
            let head = Head {
                rootwatch_checkpoint: FORM,
                arguments,
                since: options.since,
                until: options.until,
                history,
            };
            checkpoint.write(&head)?;
        }
        Ok((checkpoint, restored))
    }

    /// Everything up to `mark` is done, and `part` is what came of it since the last time.
    pub(super) fn add(&mut self, mark: Mark, part: &Scanned) -> Result<(), CloudError> {
        let copy = Scanned { findings: part.findings.clone(), summary: part.summary.clone() };
        crate::merge(&mut self.pending, copy);
        self.mark = Some(mark);
        self.objects += 1;
        let is_due = self.objects >= CHECKPOINT_EVERY_OBJECTS
            || self.written_at.elapsed() >= Duration::from_millis(EVERY_MILLIS);
        if is_due { self.flush(false) } else { Ok(()) }
    }

    /// So many objects, in so many messages, are in the queue; `left` is what was passed over.
    pub(super) fn add_sent(
        &mut self,
        mark: Mark,
        left: &Scanned,
        objects: u64,
        messages: u64,
    ) -> Result<(), CloudError> {
        let copy = Scanned { findings: Vec::new(), summary: left.summary.clone() };
        crate::merge(&mut self.pending, copy);
        self.sent.0 += objects;
        self.sent.1 += messages;
        self.mark = Some(mark);
        // What is in the queue cannot be taken back: it is written down at once.
        self.flush(false)
    }

    /// The end. `is_whole` says that there is nothing left to do.
    pub(super) fn finish(&mut self, tail: &Scanned, is_whole: bool) -> Result<(), CloudError> {
        if is_whole {
            let copy = Scanned { findings: tail.findings.clone(), summary: tail.summary.clone() };
            crate::merge(&mut self.pending, copy);
        }
        self.flush(is_whole)
    }

    fn flush(&mut self, complete: bool) -> Result<(), CloudError> {
        let entry = Entry {
            mark: self.mark.take(),
            complete,
            sent: std::mem::take(&mut self.sent),
            ..Entry::of(&std::mem::take(&mut self.pending))
        };
        self.objects = 0;
        self.written_at = Instant::now();
        self.write(&entry)
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), CloudError> {
        let failed = |error: io::Error| CloudError::Checkpoint {
            path: self.path.display().to_string(),
            reason: crate::io_reason(&error),
        };
        let mut text = serde_json::to_vec(line).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        self.file.write_all(&text).and_then(|()| self.file.sync_data()).map_err(failed)
    }
}

/// True when a file without a whole line is empty, or the torn beginning of a checkpoint.
fn is_empty_or_ours(file: &mut File) -> io::Result<bool> {
    const BEGINNING: &[u8] = b"{\"rootwatch_checkpoint\":";
    file.rewind()?;
    let mut text = Vec::new();
    io::Read::take(file, BEGINNING.len() as u64).read_to_end(&mut text)?;
    Ok(BEGINNING.starts_with(&text))
}

/// Whole lines, and the length of the file up to their end.
fn sound_lines(file: &mut File) -> io::Result<(Vec<String>, u64)> {
    let mut reader = BufReader::new(file);
    let (mut lines, mut length) = (Vec::new(), 0);
    loop {
        let mut line = Vec::new();
        let read = io::Read::take(&mut reader, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Ok((lines, length));
        }
        let line = String::from_utf8(line).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, "it is not text, and so no checkpoint")
        })?;
        length += read as u64;
        lines.push(line);
    }
}

/// In what two scans differ, if they do.
fn difference(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Option<String> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let name = names.into_iter().find(|name| old.get(*name) != new.get(*name))?;
    let said = |map: &BTreeMap<String, String>| match map.get(name).map(String::as_str) {
        None | Some("") => "nothing".to_owned(),
        Some(value) => format!("`{value}`"),
    };
    Some(format!("it is of another scan: {name} was {}, and is {} now", said(old), said(new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(paths: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("paths".to_owned(), paths.to_owned())])
    }

    fn open(path: &Path, paths: &str) -> Result<(Checkpoint, Restored), CloudError> {
        Checkpoint::open(path, asked(paths), &ScanOptions::default(), "h-1".to_owned())
    }

    fn part(records: u64) -> Scanned {
        let mut part = Scanned::default();
        part.summary.records = records;
        part.summary.accounts.insert("111122223333".to_owned());
        part.summary.skip(Path::new("s3://b/k"), None, "damaged".to_owned());
        part
    }

    #[test]
    fn what_was_done_is_there_again_and_a_torn_line_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("scan.checkpoint");
        let (mut checkpoint, restored) = open(&path, "s3://b").expect("begun");
        assert_eq!((restored.mark, restored.complete), (None, false));
        let mark = |key: &str| Mark { input: 0, key: key.to_owned() };
        checkpoint.add(mark("a"), &part(1)).expect("written");
        checkpoint.add(mark("b"), &part(2)).expect("written");
        assert!(open(&path, "s3://b").is_err(), "two scans must not write one checkpoint");
        checkpoint.finish(&Scanned::default(), false).expect("written");
        drop(checkpoint);
        let mut file = OpenOptions::new().append(true).open(&path).expect("a file");
        file.write_all(b"{\"mark\":{\"input\":0,\"key\":\"c\"},\"rec").expect("written");
        drop(file);

        let (checkpoint, restored) = open(&path, "s3://b").expect("goes on");
        assert_eq!(restored.mark, Some(mark("b")));
        let summary = &restored.scanned.summary;
        assert_eq!((summary.records, summary.skipped_total), (3, 2));
        assert_eq!(restored.history, "h-1");
        assert!(!restored.complete);
        drop(checkpoint);
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(text.ends_with("}\n") && !text.contains("\"c\""), "{text}");
    }

    #[test]
    fn a_checkpoint_of_another_scan_and_a_file_of_another_kind_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("scan.checkpoint");
        drop(open(&path, "s3://b").expect("begun"));
        let told = open(&path, "s3://c").expect_err("refused").to_string();
        assert!(told.contains("paths was `s3://b`, and is `s3://c` now"), "{told}");
        let notes = folder.path().join("notes");
        for text in ["mine", "mine\n"] {
            std::fs::write(&notes, text).expect("a file");
            let told = open(&notes, "s3://b").expect_err("refused").to_string();
            assert!(told.contains("no checkpoint"), "{told}");
            assert_eq!(std::fs::read_to_string(&notes).expect("text"), text);
        }
    }
}
