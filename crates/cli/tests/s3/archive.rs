//! An archive in CloudTrail's layout: every file has one use of the root user among other records.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

pub(crate) const ACCOUNTS: [&str; 3] = ["111122223333", "222233334444", "333344445555"];
pub(crate) const REGIONS: [&str; 3] = ["ap-southeast-2", "eu-west-1", "us-east-1"];

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// A record of the root user.
pub(crate) fn root_record(id: &str, account: &str, region: &str, time: &str) -> String {
    format!(
        r#"{{"eventVersion":"1.11","userIdentity":{{"type":"Root","accountId":"{account}","arn":"arn:aws:iam::{account}:root"}},"eventTime":"{time}","eventSource":"s3.amazonaws.com","eventName":"ListBuckets","awsRegion":"{region}","sourceIPAddress":"192.0.2.7","eventID":"{id}","readOnly":true,"eventType":"AwsApiCall","recipientAccountId":"{account}"}}"#
    )
}

fn other_record(number: usize, account: &str, region: &str, time: &str) -> String {
    format!(
        r#"{{"eventVersion":"1.11","userIdentity":{{"type":"AssumedRole","accountId":"{account}","arn":"arn:aws:sts::{account}:assumed-role/app/{number}"}},"eventTime":"{time}","eventSource":"ec2.amazonaws.com","eventName":"DescribeInstances","awsRegion":"{region}","sourceIPAddress":"198.51.100.9","eventID":"other-{number}","readOnly":true,"eventType":"AwsApiCall","recipientAccountId":"{account}"}}"#
    )
}

/// A log file with one root record and some others.
pub(crate) fn log(id: &str, account: &str, region: &str, time: &str, others: usize) -> Vec<u8> {
    let mut records: Vec<String> =
        (0..others).map(|number| other_record(number, account, region, time)).collect();
    records.insert(others / 2, root_record(id, account, region, time));
    gzip(format!("{{\"Records\":[{}]}}", records.join(",")).as_bytes())
}

/// Letters that do not compress.
pub(crate) fn noise(bytes: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let letters: Vec<u8> = (b'a'..=b'z').chain(b'A'..=b'Z').chain(b'0'..=b'9').collect();
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(letters[(state % letters.len() as u64) as usize])
    };
    (0..bytes).map(next).collect()
}

/// A log file of so many bytes, compressed, at least.
pub(crate) fn large_log(id: &str, bytes: usize) -> Vec<u8> {
    let record = |number: usize| {
        let text = noise(100_000 + number);
        format!(
            r#"{{"eventID":"pad-{number}","eventName":"PutObject","requestParameters":"{text}"}}"#
        )
    };
    let mut records: Vec<String> = (0..bytes / 70_000).map(record).collect();
    records.push(root_record(id, ACCOUNTS[0], REGIONS[2], "2026-05-04T12:00:00Z"));
    gzip(format!("{{\"Records\":[{}]}}", records.join(",")).as_bytes())
}

/// The key of a log file that was delivered at noon of a day of May 2026, or some minutes later.
pub(crate) fn key(account: &str, region: &str, day: u32, minute: u32) -> String {
    format!(
        "AWSLogs/{account}/CloudTrail/{region}/2026/05/{day:02}/\
         {account}_CloudTrail_{region}_202605{day:02}T12{minute:02}Z_Ab12Cd34Ef56Gh{minute:02}.json.gz"
    )
}

/// Writes a log file for each account, region and day, and a digest beside them.
pub(crate) fn write(folder: &Path, days: u32) {
    for account in ACCOUNTS {
        for region in REGIONS {
            for day in 1..=days {
                let time = format!("2026-05-{day:02}T11:55:00Z");
                let id = format!("{account}-{region}-{day:02}");
                put(folder, &key(account, region, day, 0), &log(&id, account, region, &time, 20));
            }
        }
        let digest = format!(
            "AWSLogs/{account}/CloudTrail-Digest/us-east-1/2026/05/01/{account}_CloudTrail-Digest_\
             us-east-1_t_us-east-1_20260501T130000Z.json.gz"
        );
        put(folder, &digest, &gzip(b"{}"));
    }
}

pub(crate) fn put(folder: &Path, key: &str, body: &[u8]) {
    let path = folder.join(key);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, body).expect("a file");
}

/// All files below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}
