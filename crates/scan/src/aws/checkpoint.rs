//! A file that says how far a scan has come, and what it has found: a scan that was killed resumes
//! from it, with the same result.
//!
//! Lines of JSON, appended and flushed to disk. The first describes the scan; each further one holds
//! what was done since the line before, up to a [`Mark`]: objects are listed in the order of their
//! keys, and results are written in that order, so that one key stands for all before it. A last line
//! that was cut off by the kill is removed, and its work is done again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read as _, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rootwatch_core::detect::Detected;
use rootwatch_core::finding::Finding;
use rootwatch_core::hex;
use rootwatch_core::rules::Ruleset;
use serde::{Deserialize, Serialize};

use super::failure::CloudError;
use super::mark::Mark;
use crate::options::ScanOptions;
use crate::scanned::{Located, Scanned};
use crate::summary::{Summary, io_reason};

/// Version of the file's format.
const FORMAT: u32 = 1;
/// Objects after which a line is written.
pub const CHECKPOINT_EVERY_OBJECTS: u64 = 1_000;
/// Milliseconds after which a line is written, however few objects were done.
const EVERY_MILLIS: u64 = 500;
/// Bytes of a line when reading.
const LINE_BYTES_MAX: u64 = 1 << 30;

/// Which file, and the scan that it belongs to.
#[derive(Debug, Clone)]
pub struct CheckpointPlan {
    /// The file.
    pub path: PathBuf,
    /// The arguments by option, as they were given: `90d` stays `90d`.
    pub asked: BTreeMap<String, String>,
}

impl CheckpointPlan {
    /// Everything besides the paths that influences the result: the rules, the limits, this program's
    /// version.
    ///
    /// # Errors
    /// The rules cannot be hashed.
    pub(super) fn arguments(
        &self,
        rules: Option<&Ruleset>,
        options: &ScanOptions,
    ) -> Result<BTreeMap<String, String>, CloudError> {
        let mut asked = self.asked.clone();
        let mut note = |name: &str, value: String| {
            asked.insert(name.to_owned(), value);
        };
        let joined = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(",");
        note("version of rootwatch", env!("CARGO_PKG_VERSION").to_owned());
        note("--account", joined(&options.accounts));
        note("--region", joined(&options.regions));
        if let Some(rules) = rules {
            let version = version_of(rules).map_err(|error| CloudError::Checkpoint {
                path: self.path.display().to_string(),
                reason: format!("cannot hash the rules: {error}"),
            })?;
            note("rules", version);
            note("--root-use no", options.rule_only.to_string());
            note("--no-prefilter", (!options.prefilter).to_string());
            note("--record-bytes-max", options.limits.record_bytes_max.to_string());
            note("--file-bytes-max", options.file_bytes_max.to_string());
            note("--findings-max", options.findings_max.to_string());
        }
        Ok(asked)
    }
}

/// A hash of all rules, with their patterns and texts.
fn version_of(rules: &Ruleset) -> serde_json::Result<String> {
    let text = serde_json::to_vec(rules.rules())?;
    let hash = ring::digest::digest(&ring::digest::SHA256, &text);
    Ok(hex::encode(&hash.as_ref()[..8]))
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct CheckpointHead {
    rootwatch_checkpoint: u32,
    arguments: BTreeMap<String, String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// Identifies a backfill; the same in all of its messages.
    history: String,
}

/// A further line: what was done since the line before.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct CheckpointLine {
    mark: Option<Mark>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    complete: bool,
    #[serde(flatten)]
    summary: Summary,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<SavedFinding>,
    /// Of a fan-out: objects and messages that are in the queue.
    #[serde(skip_serializing_if = "is_nothing")]
    sent: (u64, u64),
}

fn is_nothing(sent: &(u64, u64)) -> bool {
    *sent == (0, 0)
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedFinding {
    finding: Finding,
    waiting: Vec<usize>,
    file: String,
}

impl From<Located> for SavedFinding {
    fn from(located: Located) -> Self {
        let Detected { finding, deferred: waiting } = located.detected;
        Self { finding, waiting, file: located.file.to_string() }
    }
}

impl From<SavedFinding> for Located {
    fn from(saved: SavedFinding) -> Self {
        let SavedFinding { finding, waiting, file } = saved;
        Self { detected: Detected { finding, deferred: waiting }, file: Arc::from(file) }
    }
}

/// The work that a checkpoint holds.
#[derive(Debug, Default)]
pub(super) struct Restored {
    pub(super) mark: Option<Mark>,
    pub(super) scanned: Scanned,
    pub(super) sent: (u64, u64),
    pub(super) complete: bool,
    /// The times that an age such as `90d` meant when the scan began.
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    pub(super) history: String,
}

impl Restored {
    fn add(&mut self, done: CheckpointLine) {
        self.complete |= done.complete;
        self.sent.0 += done.sent.0;
        self.sent.1 += done.sent.1;
        if done.mark.is_some() {
            self.mark = done.mark;
        }
        let findings = done.findings.into_iter().map(Located::from).collect();
        self.scanned.add(Scanned { findings, summary: done.summary });
    }
}

/// An open checkpoint. No other process can write to it.
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
    /// Opens a checkpoint, or creates one.
    ///
    /// # Errors
    /// It belongs to another scan, is damaged or in use, or cannot be read or written.
    pub(super) fn open(
        path: &Path,
        arguments: BTreeMap<String, String>,
        options: &ScanOptions,
        history: String,
    ) -> Result<(Self, Restored), CloudError> {
        let refused =
            |reason: String| CloudError::Checkpoint { path: path.display().to_string(), reason };
        let failed = |error: io::Error| refused(io_reason(&error));
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
                    return Err(refused("this is not a checkpoint".to_owned()));
                }
            }
            Some(first) => {
                let head: CheckpointHead = serde_json::from_str(&first)
                    .map_err(|_| refused("this is not a checkpoint".to_owned()))?;
                if head.rootwatch_checkpoint != FORMAT {
                    let reason = "it was written by another version of rootwatch".to_owned();
                    return Err(refused(reason));
                }
                if let Some(reason) = difference(&head.arguments, &arguments) {
                    return Err(refused(reason));
                }
                (restored.since, restored.until) = (head.since, head.until);
                restored.history = head.history;
                for (index, line) in lines.enumerate() {
                    let done: CheckpointLine = serde_json::from_str(&line).map_err(|error| {
                        refused(format!("line {} is damaged: {error}", index + 2))
                    })?;
                    restored.add(done);
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
            let head = CheckpointHead {
                rootwatch_checkpoint: FORMAT,
                arguments,
                since: options.since,
                until: options.until,
                history,
            };
            checkpoint.write(&head)?;
        }
        Ok((checkpoint, restored))
    }

    /// Notes that everything up to `mark` is done, with the result since the last mark.
    pub(super) fn add(&mut self, mark: Mark, part: &Scanned) -> Result<(), CloudError> {
        self.pending.add(part.clone());
        self.mark = Some(mark);
        self.objects += 1;
        let is_due = self.objects >= CHECKPOINT_EVERY_OBJECTS
            || self.written_at.elapsed() >= Duration::from_millis(EVERY_MILLIS);
        if is_due { self.flush(false) } else { Ok(()) }
    }

    /// Notes that so many objects, in so many messages, are in the queue. `counts` are those of the
    /// keys meanwhile.
    pub(super) fn add_sent(
        &mut self,
        mark: Mark,
        counts: &Summary,
        objects: u64,
        messages: u64,
    ) -> Result<(), CloudError> {
        self.pending.summary.add(counts.clone());
        self.sent.0 += objects;
        self.sent.1 += messages;
        self.mark = Some(mark);
        // Messages in the queue cannot be taken back: they are noted at once.
        self.flush(false)
    }

    /// Writes the last line. `is_whole` says that everything is done; `rest` counts the keys after the
    /// last mark.
    pub(super) fn finish(&mut self, rest: &Summary, is_whole: bool) -> Result<(), CloudError> {
        if is_whole {
            self.pending.summary.add(rest.clone());
        }
        self.flush(is_whole)
    }

    fn flush(&mut self, complete: bool) -> Result<(), CloudError> {
        let Scanned { findings, summary } = std::mem::take(&mut self.pending);
        let line = CheckpointLine {
            mark: self.mark.take(),
            complete,
            summary,
            findings: findings.into_iter().map(SavedFinding::from).collect(),
            sent: std::mem::take(&mut self.sent),
        };
        self.objects = 0;
        self.written_at = Instant::now();
        self.write(&line)
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), CloudError> {
        let failed = |error: io::Error| CloudError::Checkpoint {
            path: self.path.display().to_string(),
            reason: io_reason(&error),
        };
        let mut text = serde_json::to_vec(line).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        self.file.write_all(&text).and_then(|()| self.file.sync_data()).map_err(failed)
    }
}

/// True if a file without a complete line is empty, or the torn beginning of a checkpoint.
fn is_empty_or_ours(file: &mut File) -> io::Result<bool> {
    const BEGINNING: &[u8] = b"{\"rootwatch_checkpoint\":";
    file.rewind()?;
    let mut text = Vec::new();
    io::Read::take(file, BEGINNING.len() as u64).read_to_end(&mut text)?;
    Ok(BEGINNING.starts_with(&text))
}

/// Complete lines, and the length of the file up to their end.
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
            io::Error::new(io::ErrorKind::InvalidData, "not text, and therefore not a checkpoint")
        })?;
        length += read as u64;
        lines.push(line);
    }
}

/// The first argument in which two scans differ.
fn difference(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Option<String> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let name = names.into_iter().find(|name| old.get(*name) != new.get(*name))?;
    let value = |map: &BTreeMap<String, String>| match map.get(name).map(String::as_str) {
        None | Some("") => "not set".to_owned(),
        Some(value) => format!("`{value}`"),
    };
    Some(format!("it belongs to another scan: {name} was {}, now it is {}", value(old), value(new)))
}

#[cfg(test)]
mod tests {
    use rootwatch_core::decode::{PassedOver, Place};

    use super::*;
    use crate::summary::SkippedAt;

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
    fn finished_work_is_restored_and_a_torn_line_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("scan.checkpoint");
        let (mut checkpoint, restored) = open(&path, "s3://b").expect("begun");
        assert_eq!((restored.mark, restored.complete), (None, false));
        let mark = |key: &str| Mark { input: 0, key: key.to_owned() };
        checkpoint.add(mark("a"), &part(1)).expect("written");
        checkpoint.add(mark("b"), &part(2)).expect("written");
        assert!(open(&path, "s3://b").is_err(), "two scans must not write one checkpoint");
        checkpoint.finish(&Summary::default(), false).expect("written");
        drop(checkpoint);
        let mut file = OpenOptions::new().append(true).open(&path).expect("a file");
        file.write_all(b"{\"mark\":{\"input\":0,\"key\":\"c\"},\"rec").expect("written");
        drop(file);

        let (checkpoint, restored) = open(&path, "s3://b").expect("resumed");
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
        let error = open(&path, "s3://c").expect_err("refused").to_string();
        assert!(error.contains("paths was `s3://b`, now it is `s3://c`"), "{error}");
        let notes = folder.path().join("notes");
        for text in ["mine", "mine\n"] {
            std::fs::write(&notes, text).expect("a file");
            let error = open(&notes, "s3://b").expect_err("refused").to_string();
            assert!(error.contains("not a checkpoint"), "{error}");
            assert_eq!(std::fs::read_to_string(&notes).expect("text"), text);
        }
    }

    /// As release 0.1.0 wrote it: a checkpoint must outlive the program that wrote it.
    const OF_THE_FIRST_RELEASE: &str = concat!(
        r#"{"rootwatch_checkpoint":1,"arguments":{"paths":"s3://b"},"since":"2026-05-01T00:00:00Z","until":null,"history":"h-0"}"#,
        "\n",
        r#"{"mark":{"input":0,"key":"a"},"files":2,"files_filtered":3,"files_passed_over":1,"documents":1,"records":9,"passed_over":{"Insights event":1,"digest file":2,"object without an API record":3},"bytes_read":10,"bytes_scanned":100,"skipped":[{"path":"s3://b/a","record":[7,70],"reason":"damaged"},{"path":"s3://b/c","record":null,"reason":"gone"}],"skipped_total":2,"span":["2026-05-04T14:00:00Z","2026-05-04T15:00:00Z"],"accounts":["111122223333"],"regions":["eu-west-1"]}"#,
        "\n",
        r#"{"mark":null,"complete":true,"files":1,"records":1,"bytes_read":1,"bytes_scanned":1,"span":null,"accounts":[],"regions":["us-east-1"],"sent":[25,1]}"#,
        "\n",
    );

    #[test]
    fn a_checkpoint_of_the_first_release_resumes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("scan.checkpoint");
        std::fs::write(&path, OF_THE_FIRST_RELEASE).expect("a file");
        let (_, restored) = open(&path, "s3://b").expect("resumed");
        assert_eq!(restored.mark, Some(Mark { input: 0, key: "a".to_owned() }));
        assert_eq!((restored.complete, restored.sent), (true, (25, 1)));
        assert_eq!(restored.history, "h-0");
        assert_eq!(restored.since, "2026-05-01T00:00:00Z".parse().ok());
        let at = |text: &str| text.parse().expect("a time");
        let skipped = |path: &str, place, reason: &str| SkippedAt {
            path: path.into(),
            place,
            reason: reason.to_owned(),
        };
        let expected = Summary {
            files: 3,
            files_filtered: 3,
            files_passed_over: 1,
            documents: 1,
            records: 10,
            passed_over: BTreeMap::from([
                (PassedOver::Digest, 2),
                (PassedOver::Insight, 1),
                (PassedOver::NotCloudTrail, 3),
            ]),
            bytes_read: 11,
            bytes_scanned: 101,
            skipped: vec![
                skipped("s3://b/a", Some(Place { record: 7, offset: 70 }), "damaged"),
                skipped("s3://b/c", None, "gone"),
            ],
            skipped_total: 2,
            span: Some((at("2026-05-04T14:00:00Z"), at("2026-05-04T15:00:00Z"))),
            accounts: BTreeSet::from(["111122223333".to_owned()]),
            regions: BTreeSet::from(["eu-west-1".to_owned(), "us-east-1".to_owned()]),
            ..Summary::default()
        };
        assert_eq!(restored.scanned.summary, expected);
    }

    #[test]
    fn a_line_is_written_as_the_first_release_wrote_it() {
        let mut summary = Summary { files: 1, records: 3, ..Summary::default() };
        summary.passed_over.insert(PassedOver::NotCloudTrail, 1);
        summary.skip(Path::new("s3://b/k"), Some(Place { record: 1, offset: 2 }), "damaged".into());
        let mark = Some(Mark { input: 0, key: "k".to_owned() });
        let line = CheckpointLine { mark, summary, ..CheckpointLine::default() };
        assert_eq!(
            serde_json::to_value(&line).expect("JSON"),
            serde_json::json!({
                "mark": {"input": 0, "key": "k"}, "files": 1, "records": 3,
                "passed_over": {"object without an API record": 1},
                "bytes_read": 0, "bytes_scanned": 0,
                "skipped": [{"path": "s3://b/k", "record": [1, 2], "reason": "damaged"}],
                "skipped_total": 1, "span": null, "accounts": [], "regions": [],
            })
        );
    }
}
