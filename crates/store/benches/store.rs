//! Findings that are saved in a second: by the size of a commit, by one writer and by many at
//! once, on a real file with everything flushed. `cargo bench -p rootwatch-store`.
#![allow(clippy::print_stdout, reason = "a measurement is there to be read")]

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rootwatch_core::correlate::Change;
use rootwatch_core::incident::IncidentId;
use rootwatch_store::sqlite::{SqliteOptions, SqliteStore};
use rootwatch_store::{Batch, Decisions as _};
use rootwatch_testkit::sample::{at, delivery, lonely, opening};

const SIZES: [usize; 4] = [1, 10, 100, 500];
const WRITERS: [usize; 2] = [1, 64];
/// How long each is measured.
const MEASURED: Duration = Duration::from_secs(2);

fn main() {
    // `cargo test` runs benchmarks too, without this word or with one of its own.
    let given: Vec<String> = std::env::args().collect();
    let has = |word: &str| given.iter().any(|one| one == word);
    if !has("--bench") || has("--test") || has("--list") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        println!("{:>8} {:>8} {:>12} {:>12}", "writers", "a commit", "findings/s", "commits/s");
        for writers in WRITERS {
            for size in SIZES {
                let commits = measure(writers, size).await;
                println!("{writers:>8} {size:>8} {:>12.0} {commits:>12.0}", commits * size as f64);
            }
        }
    });
}

/// Commits in a second.
async fn measure(writers: usize, size: usize) -> f64 {
    let root =
        option_env!("CARGO_TARGET_TMPDIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    std::fs::create_dir_all(&root).expect("a folder");
    let folder = tempfile::tempdir_in(root).expect("a folder");
    let store = SqliteStore::open(&SqliteOptions::at(folder.path().join("store.db")));
    let store = Arc::new(store.expect("a store"));
    // Decided beforehand: only the store is measured.
    let each = (20_000 / size / writers).clamp(8, 2_000);
    let mut batches = batches(size).take(each * writers).collect::<Vec<Batch>>();
    let deadline = Arc::new(std::sync::OnceLock::new());
    let ready = Arc::new(tokio::sync::Barrier::new(writers + 1));
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let batches = batches.split_off(batches.len() - each);
            let (store, ready) = (Arc::clone(&store), Arc::clone(&ready));
            let deadline: Arc<std::sync::OnceLock<Instant>> = Arc::clone(&deadline);
            tokio::spawn(async move {
                ready.wait().await;
                let mut saved = 0;
                for batch in batches {
                    if deadline.get().is_some_and(|end| Instant::now() > *end) {
                        break;
                    }
                    store.commit(batch).await.expect("saved");
                    saved += 1;
                }
                saved
            })
        })
        .collect();
    ready.wait().await;
    let begin = Instant::now();
    deadline.get_or_init(|| begin + MEASURED);
    let mut saved = 0;
    for task in tasks {
        saved += task.await.expect("it ends");
    }
    f64::from(saved) / begin.elapsed().as_secs_f64()
}

/// Commits of so many findings, each an incident of its own, with one delivery as most that are
/// told have. No two incidents have one name: a hub would name one of them anew.
fn batches(size: usize) -> impl Iterator<Item = Batch> {
    let mut names = HashSet::new();
    (0..).filter_map(move |nth| {
        let mut batch = opening((nth * size..(nth + 1) * size).map(lonely).collect());
        batch.deliveries.push(delivery(&format!("A{nth}.1"), &format!("A{nth}"), "chat", at(0)));
        let opened = batch.changes.iter().filter_map(|change| match change {
            Change::Opened(incident) => Some(incident.id.clone()),
            _ => None,
        });
        let opened: Vec<IncidentId> = opened.collect();
        let is_new = opened.iter().all(|id| !names.contains(id));
        names.extend(opened);
        is_new.then_some(batch)
    })
}
