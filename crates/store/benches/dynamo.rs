//! Commits in a second, and requests for each, on the stand-in of DynamoDB: by the size of a commit
//! and the number of hubs. `cargo bench -p rootwatch-store --bench dynamo`. What counts are the
//! requests and how they grow; the stand-in answers some hundred of them in a second.
#![allow(clippy::print_stdout, reason = "a measurement is there to be read")]

#[allow(dead_code, reason = "shared with the tests of sources, which need more of it")]
#[path = "../../hub/tests/sources/standin.rs"]
mod standin;

use std::time::{Duration, Instant};

use rootwatch_store::Decisions as _;
use rootwatch_store::dynamo::{DynamoOptions, DynamoStore};
use rootwatch_testkit::sample::{at, delivery, lonely, opening};

const SIZES: [usize; 4] = [1, 10, 100, 500];
const HUBS: [usize; 2] = [1, 4];
/// How long each is measured.
const MEASURED: Duration = Duration::from_secs(3);

fn main() {
    // `cargo test` runs benchmarks too, without this word or with one of its own.
    let given: Vec<String> = std::env::args().collect();
    let has = |word: &str| given.iter().any(|one| one == word);
    if !has("--bench") || has("--test") || has("--list") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        println!(
            "{:>5} {:>9} {:>11} {:>10} {:>17}",
            "hubs", "a commit", "findings/s", "commits/s", "requests/commit"
        );
        for hubs in HUBS {
            for size in SIZES {
                let (commits, requests) = measure(hubs, size).await;
                let findings = commits * size as f64;
                println!("{hubs:>5} {size:>9} {findings:>11.0} {commits:>10.1} {requests:>17.1}");
            }
        }
    });
}

/// Commits in a second, and requests for each.
async fn measure(hubs: usize, size: usize) -> (f64, f64) {
    let sdk = standin::shared().await.sdk();
    let name = format!("bench-{hubs}-{size}");
    DynamoStore::create_table(&sdk, &name).await.expect("a table");
    let begin = Instant::now();
    let mut work = Vec::new();
    for hub in 0..hubs {
        let store =
            DynamoStore::open(&sdk, &DynamoOptions::of_table(&name)).await.expect("a store");
        work.push(tokio::spawn(async move {
            let mut commits = 0_u32;
            let mut next = hub * 1_000_000;
            while begin.elapsed() < MEASURED {
                let mut batch = opening((next..next + size).map(lonely).collect());
                batch.deliveries.push(delivery(
                    &format!("A{next}.1"),
                    &format!("A{next}"),
                    "chat",
                    at(0),
                ));
                next += size;
                store.commit(batch).await.expect("saved");
                commits += 1;
            }
            (commits, store.requests())
        }));
    }
    let (mut commits, mut requests) = (0, 0);
    for one in work {
        let (some, asked) = one.await.expect("it ends");
        commits += some;
        requests += asked;
    }
    (f64::from(commits) / begin.elapsed().as_secs_f64(), requests as f64 / f64::from(commits))
}
