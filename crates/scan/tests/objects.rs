//! An object gives the same findings as a scan of the same bytes, in batches.

#[allow(dead_code, reason = "another test uses the rest")]
mod texts;

use std::fs;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use rootwatch_core::decode::Limits;
use rootwatch_core::detect::Detected;
use rootwatch_core::rules::Ruleset;
use rootwatch_scan::objects::{BATCH_FINDINGS_MAX, ObjectScanner, holds_no_records};
use rootwatch_scan::summary::Summary;
use rootwatch_scan::{Input, Progress, ScanOptions, scan, scan_bytes};
use texts::{Tape, damage, sound};

static RULES: LazyLock<Arc<Ruleset>> = LazyLock::new(|| Arc::new(Ruleset::built_in()));

const LOG_NAME: &str =
    "AWSLogs/222233334444/222233334444_CloudTrail_us-east-1_20260504T1405Z_Ab12.json.gz";

fn line(detected: &Detected) -> String {
    let Detected { finding, deferred: waiting } = detected;
    format!("{} {} {} {waiting:?}", finding.key.0, finding.root_use, finding.rules.join(","))
}

fn scanned(reader: impl Read, name: &str, options: &ScanOptions) -> (Vec<String>, Summary) {
    let mut lines = Vec::new();
    let scanner = ObjectScanner::new(Arc::clone(&RULES), options.clone());
    let summary = scanner.scan(reader, name, &mut |batch| {
        assert!(!batch.is_empty() && batch.len() <= BATCH_FINDINGS_MAX);
        lines.extend(batch.iter().map(line));
        ControlFlow::Continue(())
    });
    lines.sort();
    (lines, summary)
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

/// A record of the root user with a number as its name.
fn record(number: usize) -> String {
    format!(
        r#"{{"eventVersion":"1.11","eventID":"{number:08}","eventName":"GetUser","eventSource":"iam.amazonaws.com","eventTime":"2026-05-04T14:00:00Z","userIdentity":{{"type":"Root","accountId":"222233334444"}}}}"#
    )
}

/// Gives a byte count at a time, then ends or fails.
struct Slow<'b> {
    bytes: &'b [u8],
    step: usize,
    fails: bool,
}

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() && self.fails {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let length = self.step.min(buffer.len()).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.bytes = later;
        Ok(length)
    }
}

fn files_below(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_below(&path, into);
        } else {
            into.push(path);
        }
    }
}

#[test]
fn every_file_of_the_story_gives_the_findings_of_a_scan() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/story");
    let mut files = Vec::new();
    files_below(&folder, &mut files);
    let options = ScanOptions { threads: 1, ..ScanOptions::default() };
    let (mut lines, mut records, mut passed_over) = (Vec::new(), 0, 0);
    for file in &files {
        let name = file.to_str().expect("UTF-8");
        let (found, summary) = scanned(fs::File::open(file).expect("a file"), name, &options);
        assert_eq!(summary.skipped, [], "{name}");
        assert_eq!(summary.files_passed_over == 1, holds_no_records(name), "{name}");
        lines.extend(found);
        records += summary.records;
        passed_over += summary.files_passed_over + summary.documents;
    }
    lines.sort();
    let whole = scan(vec![Input::Path(folder)], &RULES, &options, &Progress::default());
    let mut expected: Vec<String> =
        whole.findings.iter().map(|located| line(&located.detected)).collect();
    expected.sort();
    assert!(expected.len() > 20, "{} findings", expected.len());
    assert_eq!(lines, expected);
    assert_eq!(records, whole.summary.records);
    assert_eq!(passed_over, whole.summary.files_passed_over + whole.summary.documents);
}

#[test]
fn findings_come_in_batches_and_a_sink_that_breaks_ends_the_reading() {
    let many = BATCH_FINDINGS_MAX * 3 + 7;
    let records: Vec<String> = (0..many).map(record).collect();
    let text = format!("{{\"Records\":[{}]}}", records.join(","));
    let scanner = ObjectScanner::new(Arc::clone(&RULES), ScanOptions::default());
    let mut sizes = Vec::new();
    scanner.scan(text.as_bytes(), LOG_NAME, &mut |batch| {
        sizes.push(batch.len());
        ControlFlow::Continue(())
    });
    assert_eq!(sizes, [BATCH_FINDINGS_MAX, BATCH_FINDINGS_MAX, BATCH_FINDINGS_MAX, 7]);
    let mut batches = 0;
    scanner.scan(text.as_bytes(), LOG_NAME, &mut |_| {
        batches += 1;
        ControlFlow::Break(())
    });
    assert_eq!(batches, 1);
}

#[test]
fn findings_before_the_damage_are_passed_on_and_the_damage_is_reported() {
    let records: Vec<String> = (0..4000).map(record).collect();
    let text = format!("{{\"Records\":[{}]}}", records.join(","));
    let whole = gzip(text.as_bytes());
    let options = ScanOptions::default();
    let cut = &whole[..whole.len() - whole.len() / 4];
    let (found, summary) = scanned(cut, LOG_NAME, &options);
    assert!(found.len() > 1000 && found.len() < 4000, "{}", found.len());
    assert_eq!(summary.skipped_total, 1, "{:?}", summary.skipped);
    let skipped = &summary.skipped[0];
    assert_eq!(skipped.place, None);
    assert!(skipped.reason.starts_with("gzip ends early after "), "{}", skipped.reason);
    let broken = Slow { bytes: cut, step: 1000, fails: true };
    let (again, summary) = scanned(broken, LOG_NAME, &options);
    assert_eq!(again, found);
    assert_eq!(summary.skipped[0].place, None);
    let (none, summary) = scanned(Slow { bytes: b"", step: 1, fails: true }, LOG_NAME, &options);
    assert_eq!((none.len(), summary.skipped_total, summary.files), (0, 1, 0));
}

#[test]
fn one_scanner_reads_one_object_after_the_other_with_the_same_buffers() {
    let scanner = ObjectScanner::new(Arc::clone(&RULES), ScanOptions::default());
    let count = |object: &[u8]| {
        let mut findings = 0;
        let summary = scanner.scan(object, LOG_NAME, &mut |batch| {
            findings += batch.len();
            ControlFlow::Continue(())
        });
        (findings, summary.records, summary.skipped_total)
    };
    let two = gzip(format!("{{\"Records\":[{},{}]}}", record(1), record(2)).as_bytes());
    assert_eq!(count(&two), (2, 2, 0));
    assert_eq!(count(&two[..two.len() - 9]), (2, 2, 1));
    // Larger than what is read in one go, so that it goes through the window.
    let many: Vec<String> = (0..12_000).map(record).collect();
    assert_eq!(count(many.join("\n").as_bytes()), (12_000, 12_000, 0));
    assert_eq!(count(record(1).as_bytes()), (1, 1, 0));
}

#[test]
fn a_bomb_is_cut_off_and_documents_are_passed_over() {
    let options = ScanOptions { file_bytes_max: 1 << 20, ..ScanOptions::default() };
    let (_, summary) = scanned(&gzip(&[b' '; 3 << 20])[..], LOG_NAME, &options);
    let bomb = summary.skipped.last().expect("a bomb");
    assert!(bomb.reason.starts_with("decompresses to more than 1048576 bytes"), "{bomb:?}");
    let (_, summary) = scanned(&b"# Log files"[..], "AWSLogs/README.md", &options);
    assert_eq!((summary.documents, summary.files, summary.skipped_total), (1, 0, 0));
    let (found, _) = scanned(record(1).as_bytes(), "AWSLogs/notes.txt", &options);
    assert_eq!(found.len(), 1);
}

proptest! {
    #![proptest_config(Config {
        cases: 400,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/objects.regressions"),
        ))),
        ..Config::default()
    })]

    #[test]
    fn hostile_texts_give_the_findings_and_the_damage_of_a_scan(
        tape in prop::collection::vec(any::<u8>(), 0..600),
        blows in prop::collection::vec(any::<u8>(), 0..24),
        step in prop::sample::select(&[1_usize, 7, 64, 4096, 1 << 20][..]),
        record_bytes_max in prop::sample::select(&[1_usize << 20, 2000, 300][..]),
        compressed in any::<bool>(),
    ) {
        let mut text = sound(&mut Tape::new(&tape)).text;
        for blow in blows.chunks(6) {
            damage(&mut Tape::new(blow), &mut text);
        }
        let bytes = if compressed { gzip(&text) } else { text };
        let limits = Limits { record_bytes_max, ..Limits::default() };
        let options = ScanOptions { limits, threads: 1, ..ScanOptions::default() };
        let reader = Slow { bytes: &bytes, step, fails: false };
        let (found, summary) = scanned(reader, "events", &options);
        let whole = scan_bytes(&bytes, &RULES, &options);
        let mut expected: Vec<String> =
            whole.findings.iter().map(|located| line(&located.detected)).collect();
        expected.sort();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(summary.records, whole.summary.records);
        let skipped = |summary: &Summary| -> Vec<_> {
            summary.skipped.iter().map(|one| (one.place, one.reason.clone())).collect()
        };
        prop_assert_eq!(skipped(&summary), skipped(&whole.summary));
        prop_assert_eq!(summary.passed_over, whole.summary.passed_over);
    }
}
