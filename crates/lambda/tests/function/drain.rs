//! Many processes at one queue.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::Mutex;

use crate::runtime::Instance;
use crate::{CALLER, Stage, answered, batch, failed, request};

/// Messages of a batch.
const BATCH: usize = 20;
/// Times that a message may be received before this counts as lost.
const RECEIVED_MAX: u32 = 20;

/// The records of the story, in the order of files and as often as they are there.
fn story() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/story/AWSLogs");
    let mut files = Vec::new();
    list(&root, &mut files);
    files.sort();
    let mut records = Vec::new();
    for file in files.iter().filter(|file| !file.to_string_lossy().contains("Digest")) {
        let bytes = std::fs::read(file).expect("a log file");
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("gzip");
        let log: BTreeMap<String, Vec<Box<RawValue>>> =
            serde_json::from_str(&text).expect("a log file");
        records.extend(log["Records"].iter().map(|record| record.get().to_owned()));
    }
    records
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            list(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// Sends batches to one process until the queue is empty; what fails goes back to its end.
async fn work(mut instance: Instance, queue: Arc<Mutex<VecDeque<(String, u32)>>>) -> Instance {
    loop {
        let messages: Vec<(String, u32)> = {
            let mut queue = queue.lock().await;
            let end = queue.len().min(BATCH);
            queue.drain(..end).collect()
        };
        if messages.is_empty() {
            return instance;
        }
        let bodies: Vec<String> = messages.iter().map(|(body, _)| body.clone()).collect();
        let answer = instance.invoke(batch(&bodies)).await.expect("an answer");
        let again = failed(&answer);
        for (place, (body, times)) in messages.into_iter().enumerate() {
            if again.contains(&format!("m-{place}")) {
                assert!(times < RECEIVED_MAX, "a sound message would be dead: {body}");
                queue.lock().await.push_back((body, times + 1));
            }
        }
    }
}

/// The event ids of each incident.
async fn gathered(instance: &mut Instance) -> BTreeSet<BTreeSet<String>> {
    let mut incidents: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut after = String::new();
    loop {
        let query = format!("limit=100{after}");
        let answer = instance.invoke(request("GET", "/v1/findings", &query, Some(CALLER))).await;
        let (status, page) = answered(&answer.expect("an answer"));
        assert_eq!(status, 200, "{page}");
        for finding in page["items"].as_array().expect("a list") {
            let text = |name: &str| finding[name].as_str().expect("text").to_owned();
            let incident = incidents.entry(text("incident_id")).or_default();
            assert!(incident.insert(text("event_id")), "a finding is twice");
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return incidents.into_values().collect(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_two_and_four_processes_drain_a_queue_to_the_same_end() {
    let mut ends: Vec<BTreeSet<BTreeSet<String>>> = Vec::new();
    for processes in [1, 2, 4] {
        let stage = Stage::new().await;
        // Each message comes twice, the second time from the other end.
        let records = story();
        let both = records.iter().chain(records.iter().rev());
        let queue: VecDeque<(String, u32)> = both.map(|record| (record.clone(), 1)).collect();
        let queue = Arc::new(Mutex::new(queue));
        let mut tasks = Vec::new();
        for _ in 0..processes {
            let instance = stage.instance().await;
            tasks.push(tokio::spawn(work(instance, Arc::clone(&queue))));
        }
        let mut done = Vec::new();
        for task in tasks {
            done.push(task.await.expect("drained"));
        }
        let mut instance = done.pop().expect("a process");
        ends.push(gathered(&mut instance).await);
        // Whoever is to be told has been told once.
        instance.invoke(serde_json::json!({ "rootwatch": "tick" })).await.expect("a tick");
        let heard = stage.heard().await;
        let ids: Vec<&Value> = heard.iter().map(|alert| &alert["id"]).collect();
        let once: BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
        assert_eq!(once.len(), ids.len(), "an alert is twice: {ids:?}");
    }
    assert!(ends[0].len() >= 3, "{}", ends[0].len());
    assert_eq!(ends[0], ends[1]);
    assert_eq!(ends[0], ends[2]);
}
