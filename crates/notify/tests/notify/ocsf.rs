//! The channel `ocsf`: files that turn over and are mended, objects in S3, lines that the schema
//! takes.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::LazyLock;

use rootwatch_core::alert::{Alert, Clock as _};
use rootwatch_core::delivery::Delivery;
use rootwatch_notify::Sent;
use rootwatch_notify::channels::ocsf::LINES_BYTES_MAX;
use serde_json::{Value, json};

use crate::aws::{
    NOW, judges_answers, ok, probe, probe_of_standin, sent, sent_to_standin, xml_error,
};
use crate::common::{Manual, Memory, Server, config, notifier, opened};
use crate::standin::shared;
use crate::words::{alerts, rendered};

fn schema(text: &str) -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(text).expect("JSON");
    jsonschema::validator_for(&schema).expect("a schema")
}

static DETECTION: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| schema(include_str!("../../../cli/tests/schemas/ocsf-2004.schema.json")));
static INCIDENT: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| schema(include_str!("../schemas/ocsf-2005.schema.json")));

fn lines(bytes: &[u8]) -> Vec<Value> {
    assert_eq!(bytes.last(), Some(&b'\n'), "the last line is whole");
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn validator(line: &Value) -> &'static jsonschema::Validator {
    match line["class_uid"].as_u64() {
        Some(2004) => &DETECTION,
        Some(2005) => &INCIDENT,
        other => panic!("a class {other:?}"),
    }
}

async fn to_file(keys: Value, alert: Alert) -> Sent {
    let clock = Manual::new(NOW);
    let config = config(&json!({ "destination": { "a": keys } }).to_string());
    let delivery = Delivery::new(alert, "a", clock.now());
    notifier(&config, &clock).send(&delivery, &Memory::default()).await
}

fn keys(path: &Path) -> Value {
    json!({ "channel": "ocsf", "path": path })
}

#[test]
fn every_line_follows_the_published_schema() {
    for (name, alert) in alerts() {
        let lines = lines(&rendered("ocsf", &alert));
        for line in &lines {
            let faults: Vec<String> = validator(line)
                .iter_errors(line)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(faults.is_empty(), "{name}: {faults:?} {line:#}");
        }
        assert_eq!(lines[0]["class_uid"], 2005, "{name}");
    }
    let lines = lines(&rendered("ocsf", &opened()));
    let listed = lines[0]["finding_info_list"].as_array().expect("a list");
    assert_eq!(lines.len(), 1 + listed.len(), "the incident, and each finding");
    for (found, line) in listed.iter().zip(&lines[1..]) {
        assert_eq!(found["uid"], line["finding_info"]["uid"]);
        assert_eq!(line["metadata"]["correlation_uid"], lines[0]["metadata"]["correlation_uid"]);
    }
    for (wrong, at) in [
        (json!(6), "/status_id"),
        (json!("x"), "/time"),
        (json!([]), "/finding_info_list"),
        (Value::Null, "/assignee_group"),
    ] {
        let mut line = lines[0].clone();
        *line.pointer_mut(at).expect("there") = wrong;
        assert!(!INCIDENT.is_valid(&line), "{at}");
    }
}

#[test]
fn lines_keep_their_limit_and_say_what_was_left_out() {
    let mut alert = opened();
    let finding = alert.findings[0].clone();
    for number in 0..39 {
        let mut one = finding.clone();
        one.key.0 = format!("{}-{number}", one.key.0);
        one.error_message = Some("x".repeat(40 << 10));
        alert.fresh.push(one.key.clone());
        alert.findings.push(one);
    }
    let bytes = rendered("ocsf", &alert);
    assert!(bytes.len() <= LINES_BYTES_MAX && bytes.len() > LINES_BYTES_MAX / 2, "{}", bytes.len());
    let lines = lines(&bytes);
    let last = lines.last().expect("lines");
    let told = lines.iter().filter(|line| line["class_uid"] == 2004).count() as u64;
    let left_out = last["unmapped"]["findings_left_out"].as_u64().expect("a count");
    assert_eq!(told + left_out, alert.fresh.len() as u64);
    assert!(INCIDENT.is_valid(last), "{last}");
}

#[tokio::test]
async fn lines_are_appended_for_its_owner_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.jsonl");
    let first = to_file(keys(&path), opened()).await;
    let Sent::Delivered { receipt } = &first else { panic!("{first:?}") };
    assert!(receipt.ends_with("appended"), "{receipt}");
    to_file(keys(&path), opened()).await;
    let once = rendered("ocsf", &opened());
    let bytes = std::fs::read(&path).expect("a file");
    assert_eq!(lines(&bytes).len(), 2 * lines(&once).len());
    let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_line_that_a_crash_cut_off_is_taken_away() {
    let folder = tempfile::tempdir().expect("a folder");
    for torn in [&b"{\"class_uid\":20"[..], &vec![b'x'; 200_000]] {
        for whole in ["", "{\"kept\":true}\n"] {
            let path = folder.path().join("a.jsonl");
            let mut file = std::fs::File::create(&path).expect("a file");
            file.write_all(whole.as_bytes()).and_then(|()| file.write_all(torn)).expect("room");
            let result = to_file(keys(&path), opened()).await;
            assert!(matches!(result, Sent::Delivered { .. }), "{result:?}");
            let bytes = std::fs::read(&path).expect("a file");
            let found = lines(&bytes);
            assert_eq!(
                found.len(),
                whole.lines().count() + lines(&rendered("ocsf", &opened())).len()
            );
            assert_eq!(found[0].get("kept").is_some(), !whole.is_empty());
        }
    }
}

#[tokio::test]
async fn a_file_turns_over_one_byte_beyond_its_limit_and_the_oldest_goes() {
    let limit = 64 << 10;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.jsonl");
    let aside = |number: u32| folder.path().join(format!("a.jsonl.{number}"));
    let mut keys = keys(&path);
    keys["bytes_max"] = json!(limit);
    keys["files_max"] = json!(3);
    to_file(keys.clone(), opened()).await;
    let length = std::fs::read(&path).expect("a file").len();
    for (beyond, turns) in [(-1_i64, false), (0, false), (1, true)] {
        let filled = (limit as i64 - length as i64 + beyond) as usize;
        std::fs::write(&path, format!("{}\n", "y".repeat(filled - 1))).expect("room");
        let result = to_file(keys.clone(), opened()).await;
        assert!(matches!(result, Sent::Delivered { .. }), "{result:?}");
        assert_eq!(aside(1).exists(), turns, "{beyond}");
    }
    assert_eq!(std::fs::read(&path).expect("a file").len(), length, "a new file");
    for round in 0..4 {
        std::fs::write(&path, format!("{round}{}\n", "y".repeat(limit))).expect("room");
        to_file(keys.clone(), opened()).await;
    }
    let first = |path: &Path| std::fs::read(path).expect("a file")[0];
    assert_eq!((first(&aside(1)), first(&aside(2))), (b'3', b'2'));
    assert!(!aside(3).exists(), "three files in all");
}

#[tokio::test]
async fn what_the_file_system_refuses_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let result = to_file(keys(&folder.path().join("none/a.jsonl")), opened()).await;
    assert!(matches!(result, Sent::RetryAfter { .. }), "{result:?}");
    let result = to_file(keys(folder.path()), opened()).await;
    assert!(matches!(result, Sent::Misconfigured { .. }), "{result:?}");
    // A device that is always full.
    let result = to_file(keys(Path::new("/dev/full")), opened()).await;
    assert!(matches!(result, Sent::RetryAfter { .. }), "{result:?}");
}

#[tokio::test]
async fn answers_of_s3_mean_what_they_mean() {
    let keys = json!({ "channel": "ocsf", "s3": "s3://example-lake/a", "region": "us-east-1" });
    judges_answers(&keys, &opened(), "").await;
    for name in ["NoSuchBucket", "AccessDenied", "AuthorizationHeaderMalformed"] {
        let server = Server::new(&[xml_error(400, name)]).await;
        let result = sent(&keys, &server, opened(), &Memory::default()).await;
        assert!(matches!(result, Sent::Misconfigured { .. }), "{name}: {result:?}");
        let result = probe(&keys, &server).await;
        assert!(matches!(result, Sent::Misconfigured { .. }), "{name}: {result:?}");
    }
    // A retry goes to the same place, so that nothing is there twice.
    let server = Server::new(&[ok(""), ok("")]).await;
    for _ in 0..2 {
        sent(&keys, &server, opened(), &Memory::default()).await;
    }
    let line = |place: usize| {
        let request = server.request(place);
        request.head.lines().next().expect("a line").to_owned()
    };
    assert_eq!(line(0), line(1));
    assert!(line(0).contains("/example-lake/a/2026/05/04/"), "{}", line(0));
}

#[tokio::test]
async fn an_object_is_put_and_read_back() {
    let aws = shared().await;
    aws.call("s3", "create_bucket", json!({ "Bucket": "notify-lake" })).await;
    let keys = json!({ "channel": "ocsf", "s3": "s3://notify-lake/source=rootwatch/v1",
        "region": "us-east-1" });
    let result = sent_to_standin(&keys, opened()).await;
    let Sent::Delivered { receipt } = &result else { panic!("{result:?}") };
    let key = receipt.strip_prefix("s3://notify-lake/").expect("a place");
    assert!(key.starts_with("source=rootwatch/v1/2026/05/04/"), "{key}");
    let listed = aws.call("s3", "list_objects_v2", json!({ "Bucket": "notify-lake" })).await;
    assert_eq!(listed["Contents"][0]["Key"], key);
    let url = format!("{}/notify-lake/{}", aws.endpoint(), key.replace('=', "%3D"));
    let packed = reqwest::get(url).await.expect("an answer").bytes().await.expect("a body");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut bytes).expect("gzip");
    assert_eq!(lines(&bytes)[0]["class_uid"], 2005);
    for line in lines(&bytes) {
        assert!(validator(&line).is_valid(&line));
    }
    let result = probe_of_standin(&keys).await;
    assert!(matches!(result, Sent::Delivered { .. }), "{result:?}");
    let gone = json!({ "channel": "ocsf", "s3": "s3://notify-nowhere", "region": "us-east-1" });
    let result = sent_to_standin(&gone, opened()).await;
    assert!(matches!(result, Sent::Misconfigured { .. }), "{result:?}");
}

#[test]
fn what_is_no_place_is_found_offline() {
    for (keys, faults) in [
        (json!({}), 1),
        (json!({ "path": "a", "s3": "s3://abc" }), 1),
        (json!({ "path": "a/" }), 1),
        (json!({ "path": "a", "region": "eu-west-1" }), 1),
        (json!({ "path": "a", "bytes_max": 10, "files_max": 0 }), 2),
        (json!({ "s3": "https://example.com/a" }), 1),
        (json!({ "s3": "s3://Bucket/a" }), 1),
        (json!({ "s3": "s3://bucket/a/../b" }), 1),
        (json!({ "s3": "s3://bucket/a b?c" }), 1),
        (json!({ "s3": "s3://bucket" }), 0),
        (json!({ "path": "a.jsonl" }), 0),
    ] {
        let mut all = json!({ "channel": "ocsf" });
        all.as_object_mut().expect("keys").extend(keys.as_object().expect("keys").clone());
        let text = json!({ "destination": { "a": all } }).to_string();
        let found = rootwatch_notify::Notifier::check(&config(&text));
        assert_eq!(found.len(), faults, "{keys}: {found:?}");
    }
}
