//! What a commit acknowledged is there after the process was killed at any instant.
//!
//! This test starts itself again as a child that commits and says so, and kills it.
#![allow(clippy::print_stdout, reason = "the seed, to see a run again")]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rootwatch_core::finding::FindingKey;
use rootwatch_store::sqlite::{SqliteOptions, SqliteStore};
use rootwatch_store::{Decisions as _, Maintenance as _};
use rootwatch_testkit::random::Random;
use rootwatch_testkit::sample::{at, delivery, lonely, opening, unverified};

/// For the child: the database.
const STORE: &str = "ROOTWATCH_CRASH_STORE";
/// For the child: the first number to commit.
const FIRST: &str = "ROOTWATCH_CRASH_FIRST";
const TEST: &str = "what_was_acknowledged_survives_being_killed";
/// Begins a line in which the child says what is saved.
const SAVED: &str = "saved ";
const ROUNDS: usize = 12;
/// Findings of one commit.
const FINDINGS: usize = 5;
/// Commits that the child makes at once, so that some share a transaction.
const TASKS: usize = 4;

fn findings(batch: usize) -> impl Iterator<Item = usize> {
    batch * FINDINGS..(batch + 1) * FINDINGS
}

/// Commits one batch after the other, until it is killed.
async fn commit_for_ever(path: PathBuf, first: usize) {
    let store = SqliteStore::open(&SqliteOptions::at(path)).expect("a store");
    let store = std::sync::Arc::new(store);
    let tasks = (0..TASKS).map(|task| {
        let store = std::sync::Arc::clone(&store);
        tokio::spawn(async move {
            for nth in (first + task..).step_by(TASKS) {
                let mut batch = opening(findings(nth).map(lonely).collect());
                let alert = format!("A{nth}.1");
                batch.deliveries.push(delivery(&alert, &format!("A{nth}"), "chat", at(0)));
                batch.unverified.push(unverified(nth));
                batch.positions.push((format!("at:{nth}"), "done".to_owned()));
                store.commit(batch).await.expect("saved");
                // One write of one line: a line is whole or not there.
                let line = format!("\n{SAVED}{nth}\n");
                std::io::stdout().write_all(line.as_bytes()).expect("somebody listens");
                std::io::stdout().flush().expect("somebody listens");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("it goes on for ever");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_being_killed() {
    if let Ok(path) = std::env::var(STORE) {
        let first = std::env::var(FIRST).expect("a number").parse().expect("a number");
        commit_for_ever(path.into(), first).await;
        return;
    }
    let given = std::env::var("ROOTWATCH_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.expect("after 1970").as_nanos() as u64
    });
    println!("ROOTWATCH_SEED={seed}");
    let mut random = Random::of(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let mut acknowledged: Vec<usize> = Vec::new();
    for round in 0..ROUNDS {
        // Numbers of earlier rounds that were not acknowledged may be there or not.
        let first = round * 1_000_000;
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args([TEST, "--exact", "--nocapture"])
            .env(STORE, &path)
            .env(FIRST, first.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let patience = random.below(60);
        let instant = Duration::from_micros(random.below(3_000) as u64);
        let mut heard = 0;
        for line in lines {
            let Some(nth) = line.ok().and_then(|line| line.strip_prefix(SAVED)?.parse().ok())
            else {
                continue;
            };
            acknowledged.push(nth);
            if heard == patience {
                // Anywhere in the middle of what it does next; what it still says is heard too.
                std::thread::sleep(instant);
                child.kill().expect("it lives");
            }
            heard += 1;
        }
        let ended = child.wait().expect("it ends");
        assert!(!ended.success() && heard > patience, "round {round}, seed {seed}: {ended}");

        let store = SqliteStore::open(&SqliteOptions::at(&path)).expect("it opens again");
        assert_eq!(store.check().expect("a look"), Vec::<String>::new(), "seed {seed}");
        let keys: Vec<FindingKey> =
            acknowledged.iter().flat_map(|&nth| findings(nth)).map(|one| lonely(one).key).collect();
        let known = store.known(&keys).await.expect("known");
        let lost: Vec<&FindingKey> = keys.iter().filter(|key| !known.contains(key)).collect();
        assert!(lost.is_empty(), "round {round}, seed {seed}: {lost:?}");
        // A batch is there as a whole or not at all.
        let stats = store.stats().await.expect("the stats");
        let batches = store.positions("at:").await.expect("positions").len() as u64;
        assert!(batches >= acknowledged.len() as u64);
        assert_eq!(stats.findings, batches * FINDINGS as u64, "seed {seed}");
        assert_eq!(stats.unverified, batches, "seed {seed}");
        assert_eq!(stats.deliveries.values().sum::<u64>(), batches, "seed {seed}");
    }
}
