//! An archive in the layout of S3, generated here together with the truth about it. A scan finds exactly
//! that, with and without the prefilter, on one thread and on two.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rootwatch_core::finding::RootUse;
use rootwatch_core::rules::Ruleset;
use rootwatch_scan::{Input, Progress, ScanOptions, Scanned, scan};

const ACCOUNTS: [&str; 3] = ["111122223333", "222233334444", "333344445555"];
const REGIONS: [&str; 2] = ["us-east-1", "eu-central-1"];
const FILES: usize = 60;
const RECORDS_PER_FILE: usize = 200;

/// A small random number generator, the same on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next()).expect("31 bits") % n
    }
}

struct Archive {
    folder: tempfile::TempDir,
    /// Ids of the records with root use and their class.
    truth: BTreeSet<(String, &'static str)>,
    files: Vec<PathBuf>,
}

/// A moment of the archive's day.
fn at(minute: usize) -> Timestamp {
    let midnight: Timestamp = "2026-05-04T00:00:00Z".parse().expect("a time");
    midnight + SignedDuration::from_mins(i64::try_from(minute).expect("a day has few minutes"))
}

/// Members of a record: how the root user was involved, and the record without braces.
fn record(
    numbers: &mut Numbers,
    id: &str,
    minute: usize,
    place: (&str, &str),
) -> (Option<&'static str>, Vec<String>) {
    let (account, region) = place;
    let arn = format!("arn:aws:iam::{account}:root");
    let member = |name: &str, value: &str| format!("\"{name}\":{value}");
    let mut named = "GetObject";
    let mut kind = "AwsApiCall";
    let mut parameters = "null".to_owned();
    let (class, identity) = match numbers.below(150) {
        0 => (Some("direct"), format!(r#"{{"type":"Root","arn":"{arn}"}}"#)),
        1 => (Some("direct"), format!(r#"{{"accountId":"{account}","arn":"{arn}"}}"#)),
        2 => (
            Some("derived"),
            r#"{"type":"FederatedUser","sessionContext":{"sessionIssuer":{"type":"Root"}}}"#
                .to_owned(),
        ),
        3 => (
            Some("privileged"),
            r#"{"type":"AssumedRole","sessionContext":{"assumedRoot":"true"}}"#.to_owned(),
        ),
        4 => (
            Some("on_behalf"),
            r#"{"type":"Root","invokedBy":"autoscaling.amazonaws.com"}"#.to_owned(),
        ),
        5 => {
            kind = "AwsConsoleAction";
            (Some("possible"), format!(r#"{{"accountId":"{account}"}}"#))
        }
        6..20 => {
            parameters = format!(r#"{{"policy":"{{\"AWS\":\"{arn}\"}}","name":"Root"}}"#);
            (None, r#"{"type":"AssumedRole","userName":"root","sessionContext":{"sessionIssuer":{"type":"Role","userName":"Root"}}}"#.to_owned())
        }
        20..30 => {
            parameters = r#"{"userIdentity":{"type":"Root"},"eventName":"AssumeRoot"}"#.to_owned();
            (None, r#"{"type":"IAMUser","userName":"root"}"#.to_owned())
        }
        other => {
            named = ["DescribeInstances", "Decrypt", "PutObject", "ListRoots"][other % 4];
            (None, r#"{"type":"IAMUser","userName":"ana"}"#.to_owned())
        }
    };
    let members = vec![
        member("eventVersion", "\"1.11\""),
        member("userIdentity", &identity),
        member("eventTime", &format!("\"{}\"", at(minute))),
        member("eventSource", "\"s3.amazonaws.com\""),
        member("eventName", &format!("\"{named}\"")),
        member("awsRegion", &format!("\"{region}\"")),
        member("requestParameters", &parameters),
        member("eventID", &format!("\"{id}\"")),
        member("eventType", &format!("\"{kind}\"")),
        member("recipientAccountId", &format!("\"{account}\"")),
    ];
    (class, members)
}

/// The records of a file as text, in one of five manners.
fn text(numbers: &mut Numbers, manner: usize, records: &mut [Vec<String>]) -> String {
    let object = |members: &[String], open: &str, between: &str| {
        format!("{{{open}{}}}", members.join(&format!(",{between}")))
    };
    match manner {
        0 => {
            let list: Vec<_> = records.iter().map(|one| object(one, "", "")).collect();
            format!("{{\"Records\":[{}]}}", list.join(","))
        }
        1 => {
            let list: Vec<_> = records.iter().map(|one| object(one, "\n    ", "\n    ")).collect();
            format!("{{\n  \"Records\": [\n  {}\n]\n}}\n", list.join(",\n  "))
        }
        2 => {
            for record in &mut *records {
                for last in (1..record.len()).rev() {
                    record.swap(last, numbers.below(last + 1));
                }
            }
            let list: Vec<_> = records.iter().map(|one| object(one, "", "")).collect();
            format!("{{\"Records\":[{}]}}", list.join(","))
        }
        3 => {
            let spaced = |one: &Vec<String>| object(one, " ", " ").replace("\":", "\" : ");
            let list: Vec<_> = records.iter().map(spaced).collect();
            format!("[ {} ]", list.join(" , "))
        }
        _ => records.iter().map(|one| object(one, "", "") + "\n").collect(),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn packed(text: &[u8], packing: usize) -> (Vec<u8>, &'static str) {
    match packing {
        0 | 1 => (gzip(text), "json.gz"),
        2 => {
            let (one, two) = text.split_at(text.len() / 3);
            ([gzip(one), gzip(two), gzip(b"")].concat(), "json.gz")
        }
        3 => (zstd::stream::encode_all(text, 1).expect("memory"), "json.zst"),
        _ => (text.to_vec(), "json"),
    }
}

impl Archive {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut numbers = Numbers(7);
        let (mut truth, mut files) = (BTreeSet::new(), Vec::new());
        for index in 0..FILES {
            let place = (ACCOUNTS[index % 3], REGIONS[index / 3 % 2]);
            let minute = index * 20;
            let mut records = Vec::new();
            for number in 0..RECORDS_PER_FILE {
                let id = format!("{index}-{number}");
                let (class, members) = record(&mut numbers, &id, minute + number % 5, place);
                truth.extend(class.map(|class| (id, class)));
                records.push(members);
            }
            let text = text(&mut numbers, index % 5, &mut records);
            let (bytes, ending) = packed(text.as_bytes(), index / 2 % 5);
            let path = folder.path().join(name(place, at(minute + 7), index, ending));
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(&path, bytes).expect("a file");
            files.push(path);
        }
        // A digest, which CloudTrail delivers beside the log files, and a README.
        let digests = folder.path().join("AWSLogs/111122223333/CloudTrail-Digest/us-east-1");
        fs::create_dir_all(&digests).expect("a folder");
        let digest =
            "111122223333_CloudTrail-Digest_us-east-1_trail_us-east-1_20260504T140000Z.json.gz";
        fs::write(digests.join(digest), gzip(b"{\"digestStartTime\":1}")).expect("a file");
        fs::write(folder.path().join("README.md"), "log files").expect("a file");
        Self { folder, truth, files }
    }

    fn scan(&self, change: impl FnOnce(&mut ScanOptions)) -> Scanned {
        let mut options = ScanOptions { threads: 1, ..ScanOptions::default() };
        change(&mut options);
        let inputs = vec![Input::Path(self.folder.path().to_owned())];
        scan(inputs, &Ruleset::built_in(), &options, &Progress::default())
    }
}

/// `AWSLogs/<account>/CloudTrail/<region>/<year>/<month>/<day>/<file>`.
fn name(place: (&str, &str), delivered: Timestamp, index: usize, ending: &str) -> PathBuf {
    let (account, region) = place;
    let stamp = delivered.strftime("%Y%m%dT%H%MZ");
    let day = delivered.strftime("%Y/%m/%d");
    Path::new("AWSLogs").join(format!(
        "{account}/CloudTrail/{region}/{day}/\
         {account}_CloudTrail_{region}_{stamp}_{index:016}.{ending}"
    ))
}

/// Ids and classes of the findings with root use.
fn found(scanned: &Scanned) -> BTreeSet<(String, &'static str)> {
    let with_root_use: Vec<_> = scanned
        .findings
        .iter()
        .map(|located| &located.detected.finding)
        .filter(|finding| finding.root_use != RootUse::No)
        .map(|finding| (finding.event_id.clone().expect("an id"), finding.root_use.name()))
        .collect();
    let count = with_root_use.len();
    let set: BTreeSet<_> = with_root_use.into_iter().collect();
    assert_eq!(set.len(), count, "something was found twice");
    set
}

#[test]
fn a_scan_finds_the_truth_with_and_without_prefilter_on_one_thread_and_on_two() {
    let archive = Archive::new();
    assert!(archive.truth.len() > 300, "{}", archive.truth.len());
    for (prefilter, threads) in [(true, 1), (true, 2), (false, 1), (false, 2), (true, 5)] {
        let scanned = archive.scan(|options| {
            options.prefilter = prefilter;
            options.threads = threads;
        });
        let summary = &scanned.summary;
        let way = format!("prefilter {prefilter}, {threads} threads");
        assert_eq!(summary.skipped, [], "{way}");
        assert_eq!(found(&scanned), archive.truth, "{way}");
        assert_eq!(summary.records, (FILES * RECORDS_PER_FILE) as u64, "{way}");
        assert_eq!(summary.files, FILES as u64, "{way}");
        assert_eq!((summary.files_passed_over, summary.documents), (1, 1), "{way}");
        assert_eq!(summary.files_filtered, 0, "{way}");
        assert!(summary.accounts.iter().eq(ACCOUNTS), "{way}: {:?}", summary.accounts);
        assert_eq!(summary.regions.len(), 2, "{way}");
        let packed: u64 =
            archive.files.iter().map(|file| fs::metadata(file).expect("it").len()).sum();
        assert_eq!(summary.bytes_read, packed, "{way}");
        assert!(summary.bytes_scanned > packed, "{way}");
        for located in &scanned.findings {
            let id = located.detected.finding.event_id.as_deref().expect("an id");
            let index: usize = id.split('-').next().and_then(|n| n.parse().ok()).expect("a number");
            assert_eq!(Path::new(&*located.file), archive.files[index], "{way}: {id}");
        }
    }
}

#[test]
fn files_that_a_filter_excludes_by_name_are_counted_and_not_opened() {
    let archive = Archive::new();
    let scanned = archive.scan(|options| {
        options.accounts = [ACCOUNTS[1].to_owned()].into();
    });
    assert_eq!(scanned.summary.files, FILES as u64 / 3);
    assert_eq!(scanned.summary.files_filtered, FILES as u64 * 2 / 3);
    let of = |index: usize, id: &str| id.starts_with(&format!("{index}-"));
    let truth = |wanted: &dyn Fn(usize) -> bool| -> BTreeSet<_> {
        let is_wanted =
            |(id, _): &&(String, _)| (0..FILES).any(|index| wanted(index) && of(index, id));
        archive.truth.iter().filter(is_wanted).cloned().collect()
    };
    assert_eq!(found(&scanned), truth(&|index| index % 3 == 1));

    let scanned = archive.scan(|options| {
        options.regions = [REGIONS[1].to_owned()].into();
    });
    assert_eq!(scanned.summary.files, FILES as u64 / 2);
    assert_eq!(found(&scanned), truth(&|index| index / 3 % 2 == 1));

    // Files are delivered up to 15 minutes before, and records up to 7 days after, what they say.
    let scanned = archive.scan(|options| {
        options.since = Some(at(30 * 20));
        options.threads = 2;
    });
    assert_eq!(found(&scanned), truth(&|index| index >= 30));
    assert!(scanned.summary.files_filtered >= 28, "{}", scanned.summary.files_filtered);
    let scanned = archive.scan(|options| options.until = Some(at(30 * 20)));
    assert_eq!(found(&scanned), truth(&|index| index < 30));
    assert_eq!(scanned.summary.files_filtered, 0);
    let week_before = at(0) - SignedDuration::from_hours(7 * 24 + 1);
    let scanned = archive.scan(|options| options.until = Some(week_before));
    assert_eq!(scanned.findings.len(), 0);
    assert_eq!(scanned.summary.files, 0);
    assert_eq!(scanned.summary.files_filtered, FILES as u64);
}

/// A folder with one log file that was delivered then, with one root call.
fn one_file(delivered: &str, event_time: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let delivered: Timestamp = delivered.parse().expect("a time");
    let place = (ACCOUNTS[0], REGIONS[0]);
    let path = folder.path().join(name(place, delivered, 0, "json"));
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let record = format!(
        r#"{{"eventName":"X","eventID":"1","userIdentity":{{"type":"Root"}},"eventTime":"{event_time}"}}"#
    );
    fs::write(path, format!("{{\"Records\":[{record}]}}")).expect("a file");
    folder
}

/// How many findings there are, and how many files a name ruled out.
fn between(folder: &Path, since: Option<&str>, until: Option<&str>) -> (usize, u64) {
    let time = |text: &str| -> Timestamp { text.parse().expect("a time") };
    let options =
        ScanOptions { since: since.map(time), until: until.map(time), ..ScanOptions::default() };
    let inputs = vec![Input::Path(folder.to_owned())];
    let scanned = scan(inputs, &Ruleset::empty(), &options, &Progress::default());
    (scanned.findings.len(), scanned.summary.files_filtered)
}

#[test]
fn since_is_inclusive_and_until_is_not() {
    let folder = one_file("2026-05-04T14:10:00Z", "2026-05-04T14:03:12Z");
    let (since, until) = (
        |since| between(folder.path(), Some(since), None),
        |until| between(folder.path(), None, Some(until)),
    );
    assert_eq!(since("2026-05-04T14:03:12Z"), (1, 0));
    assert_eq!(since("2026-05-04T14:03:12.001Z"), (0, 0));
    assert_eq!(until("2026-05-04T14:03:12Z"), (0, 0));
    assert_eq!(until("2026-05-04T14:03:12.001Z"), (1, 0));
    assert_eq!(since("2026-05-04T14:25:00Z"), (0, 0), "names may be a quarter of an hour early");
    assert_eq!(since("2026-05-04T14:25:01Z"), (0, 1));
}

#[test]
fn records_that_were_delivered_days_late_are_kept() {
    let folder = one_file("2026-05-11T14:00:00Z", "2026-05-04T14:03:12Z");
    let (since, until) = (Some("2026-05-04T14:00:00Z"), Some("2026-05-04T15:00:00Z"));
    assert_eq!(between(folder.path(), since, until), (1, 0));
    assert_eq!(between(folder.path(), None, Some("2026-05-04T13:59:59Z")), (0, 1));
}

#[test]
fn a_record_without_a_time_is_kept_whatever_the_filter() {
    let folder = one_file("2026-05-04T14:10:00Z", "yesterday");
    let (since, until) = (Some("2026-05-04T14:00:00Z"), Some("2026-05-04T15:00:00Z"));
    assert_eq!(between(folder.path(), since, until), (1, 0));
}

#[test]
fn findings_beyond_the_limit_count_as_skipped_and_are_not_dropped_silently() {
    let archive = Archive::new();
    let scanned = archive.scan(|options| options.findings_max = 10);
    assert_eq!(scanned.findings.len(), 10);
    let summary = &scanned.summary;
    assert!(!summary.is_complete());
    assert!(summary.skipped[0].reason.starts_with("more than 10 findings"), "{summary:?}");
}

#[test]
fn a_text_longer_than_the_window_loses_nothing_where_windows_meet() {
    const RECORDS: usize = 9_000;
    let folder = tempfile::tempdir().expect("a folder");
    let mut numbers = Numbers(11);
    let (mut truth, mut records) = (BTreeSet::new(), Vec::new());
    for number in 0..RECORDS {
        let id = format!("0-{number}");
        let (class, mut members) =
            record(&mut numbers, &id, number % 60, (ACCOUNTS[0], REGIONS[0]));
        truth.extend(class.map(|class| (id, class)));
        members.push(format!("\"pad\":\"{}\"", "é".repeat(numbers.below(400))));
        records.push(members);
    }
    for manner in 0..5 {
        let text = text(&mut numbers, manner, &mut records);
        assert!(text.len() > 3 * (2 << 20), "{}", text.len());
        for (bytes, name) in [
            (text.clone().into_bytes(), "long.json"),
            (gzip(text.as_bytes()), "long.json.gz"),
            (zstd::stream::encode_all(text.as_bytes(), 1).expect("memory"), "long.json.zst"),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, bytes).expect("a file");
            for prefilter in [true, false] {
                let options = ScanOptions { prefilter, threads: 1, ..ScanOptions::default() };
                let inputs = vec![Input::Path(path.clone())];
                let scanned = scan(inputs, &Ruleset::empty(), &options, &Progress::default());
                assert_eq!(scanned.summary.skipped, [], "{name} in manner {manner}");
                assert_eq!(found(&scanned), truth, "{name} in manner {manner}");
                assert_eq!(scanned.summary.records, RECORDS as u64, "{name} in manner {manner}");
                if manner != 1 {
                    break;
                }
            }
        }
    }
}

/// What a scan says of a delivered log file with these records, packed and then changed.
fn said_of(records: &[String], change: impl Fn(&mut Vec<u8>), prefilter: bool) -> Scanned {
    let folder = tempfile::tempdir().expect("a folder");
    let place = (ACCOUNTS[0], REGIONS[0]);
    let path = folder.path().join(name(place, at(10), 0, "json.gz"));
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let mut file = gzip(format!("{{\"Records\":[{}]}}", records.join(",")).as_bytes());
    change(&mut file);
    fs::write(path, file).expect("a file");
    let inputs = vec![Input::Path(folder.path().to_owned())];
    let options = ScanOptions { threads: 1, prefilter, ..ScanOptions::default() };
    scan(inputs, &Ruleset::empty(), &options, &Progress::default())
}

#[test]
fn a_wrong_checksum_is_reported_and_neither_loses_nor_doubles_a_finding() {
    let record = |index: usize, kind: &str| {
        format!(
            r#"{{"eventVersion":"1.11","userIdentity":{{"type":"{kind}"}},"eventName":"GetObject","eventID":"{index}","fill":"{}"}}"#,
            "x".repeat(index % 300)
        )
    };
    // None, some, and more than may wait for the checksum.
    for (count, every) in [(1, 1), (300, 301), (300, 7), (5_000, 1)] {
        let records: Vec<String> = (1..=count)
            .map(|index| record(index, if index % every == 0 { "Root" } else { "IAMUser" }))
            .collect();
        for prefilter in [true, false] {
            let sound = said_of(&records, |_| {}, prefilter);
            assert!(sound.summary.is_complete(), "{:?}", sound.summary);
            assert_eq!(sound.findings.len(), count / every);
            assert_eq!(sound.summary.records, count as u64);
            // A byte of the checksum, and one of the size.
            for from_end in [8, 1] {
                let change = |file: &mut Vec<u8>| {
                    let at = file.len() - from_end;
                    file[at] ^= 1;
                };
                let damaged = said_of(&records, change, prefilter);
                assert_eq!(found(&damaged), found(&sound));
                assert_eq!(damaged.findings.len(), sound.findings.len());
                let (summary, expected) = (&damaged.summary, &sound.summary);
                assert_eq!(summary.records, expected.records);
                assert_eq!(summary.bytes_scanned, expected.bytes_scanned);
                assert_eq!(summary.bytes_read, expected.bytes_read);
                assert_eq!(summary.files, 1);
                assert_eq!(summary.skipped_total, 1, "{summary:?}");
                let noun = if count == 1 { "record" } else { "records" };
                assert_eq!(
                    summary.skipped[0].reason,
                    format!("gzip checksum does not match after {count} {noun}")
                );
            }
        }
    }
}
