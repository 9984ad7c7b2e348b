//! A fan-out to the end: the hub's stack with its function scans what the queue names, and finds what
//! a scan of the same files finds here.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rootwatch_store::dynamo::{DynamoOptions, DynamoStore};
use rootwatch_store::{DeliveryFilter, FindingFilter, IncidentFilter, PageRequest, Store as _};
use serde_json::{Value, json};

use crate::stage::{HUB, HUB_REGION, hub, package, put_package};
use crate::standin::{Standin, free_port, sdk_at};
use crate::{archive, program, root, run};

/// The bucket of the trail.
const TRAIL: &str = "example-org-trail";
/// Longest wait for the functions.
const WAIT: Duration = Duration::from_secs(150);

/// Event ids of all lines of a scan.
fn ids(lines: &[Value]) -> BTreeSet<String> {
    lines.iter().filter_map(|line| line["event_id"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_find_what_a_local_scan_finds_and_wake_nobody() {
    let standin =
        tokio::task::spawn_blocking(|| Standin::start_with_iam(free_port())).await.expect("one");
    put_package(&standin, package()).await;
    let plan = json!([hub(&[("LogBuckets", TRAIL)])]);
    let outputs = standin.stacks(plan).await.swap_remove(0);

    let sdk = sdk_at(standin.port(), (HUB, HUB_REGION));
    let config = aws_sdk_s3::config::Builder::from(&sdk).force_path_style(true).build();
    let s3 = aws_sdk_s3::Client::from_conf(config);
    let place = aws_sdk_s3::types::CreateBucketConfiguration::builder()
        .location_constraint(HUB_REGION.into())
        .build();
    let bucket = s3.create_bucket().bucket(TRAIL).create_bucket_configuration(place);
    bucket.send().await.expect("a bucket");
    let story = root().join("fixtures/story");
    for path in archive::files(&story) {
        let key = path.strip_prefix(&story).expect("a path").to_str().expect("UTF-8");
        let body = std::fs::read(&path).expect("a file");
        let put = s3.put_object().bucket(TRAIL).key(key).body(body.into());
        put.send().await.expect("an object");
    }

    let ask = |args: &[&str]| {
        let mut command = program(&standin.endpoint(), None);
        command.env("AWS_REGION", HUB_REGION).args(args);
        run(command)
    };
    let queue = outputs["QueueUrl"].as_str();
    let prefix = format!("s3://{TRAIL}/AWSLogs");
    let sent = ask(&["scan", "--format", "jsonl", "--fan-out", queue, &prefix]).await;
    assert_eq!(sent.code, 0, "{}", sent.err);
    assert!(sent.lines()[0]["objects"].as_u64().is_some_and(|objects| objects > 100));
    let begin = Instant::now();
    loop {
        let status = ask(&["scan", "status", queue]).await;
        if status.code == 0 {
            break;
        }
        assert_eq!(
            status.code, 1,
            "not the end, and no dead letters: {}{}",
            status.out, status.err
        );
        assert!(begin.elapsed() < WAIT, "{}", status.out);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    let all = "direct,privileged,derived,on_behalf,possible,no";
    let local = ask(&["scan", "--format", "jsonl", "--root-use", all, "fixtures/story"]).await;
    let options = DynamoOptions::of_table(outputs["TableName"].as_str());
    let store = DynamoStore::open(&sdk, &options).await.expect("a store");
    let page = PageRequest { items_max: 500, after: None };
    let found = store.findings(&FindingFilter::default(), &page).await.expect("findings").items;
    let found: BTreeSet<String> =
        found.into_iter().filter_map(|one| one.finding.event_id).collect();
    assert_eq!(found, ids(&local.lines()));
    let incidents = store.incidents(&IncidentFilter::default(), &page).await.expect("incidents");
    assert!(incidents.items.len() >= 3);
    assert!(incidents.items.iter().all(|stored| stored.told.history));
    let owed = store.deliveries(&DeliveryFilter::default(), &page).await.expect("deliveries");
    assert_eq!(owed.items, []);
}
