//! The store on DynamoDB keeps what a store promises, whatever befalls its writers and its network.
//!
//! MiniStack's index is never behind its table, as DynamoDB's is for a moment: that lists for people
//! show at once what was saved holds here, and a moment later there.

#[path = "dynamo/adversity.rs"]
mod adversity;
#[path = "dynamo/promises.rs"]
mod promises;
#[path = "dynamo/proxy.rs"]
mod proxy;
#[path = "dynamo/shared.rs"]
mod shared;
#[allow(dead_code, reason = "shared with the tests of sources, which need more of it")]
#[path = "../../hub/tests/sources/standin.rs"]
mod standin;

use std::sync::atomic::{AtomicUsize, Ordering};

use rootwatch_store::dynamo::{DynamoOptions, DynamoStore};

/// A table of a test's own, in the stand-in that all of them share.
async fn table() -> (String, u16) {
    static TABLES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("rootwatch-{}", TABLES.fetch_add(1, Ordering::Relaxed));
    let standin = standin::shared().await;
    let is_new = DynamoStore::create_table(&standin.sdk(), &name).await.expect("a table");
    assert!(is_new);
    (name, standin.port())
}

/// A handle of its own, as another process has.
async fn open(name: &str, port: u16) -> DynamoStore {
    let options = DynamoOptions::of_table(name);
    DynamoStore::open(&standin::sdk(port), &options).await.expect("a store")
}

async fn fresh() -> DynamoStore {
    let (name, port) = table().await;
    open(&name, port).await
}

/// The table agrees with itself.
async fn sound(store: &DynamoStore) {
    assert_eq!(store.check().await.expect("a look"), Vec::<String>::new());
}
