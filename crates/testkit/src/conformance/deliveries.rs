//! Deliveries are enqueued once, leased in turn and to one worker, and end once.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use rootwatch_core::delivery::{Delivery, DeliveryId, DeliveryState};

use super::save;
use crate::random::Random;
use crate::sample::{at, delivery};
use rootwatch_core::attempt::Attempt;
use rootwatch_store::{Batch, DeliveryFilter, PageRequest, Store, StoreError};

async fn enqueue(store: &dyn Store, deliveries: Vec<Delivery>) {
    save(store, Batch { deliveries, ..Batch::default() }).await;
}

/// The alerts that are leased then, until a minute later.
async fn lease(store: &dyn Store, secs: i64, max: usize, busy: &[&str]) -> Vec<String> {
    let busy: Vec<String> = busy.iter().map(|&name| name.to_owned()).collect();
    let leased = store.lease(at(secs), at(secs + 60), max, &busy).await.expect("a lease");
    for one in &leased {
        assert_eq!(one.leased_until, Some(at(secs + 60)));
        assert_eq!(one.state, DeliveryState::Due);
    }
    leased.into_iter().map(|one| one.id.0).collect()
}

async fn get(store: &dyn Store, id: &str) -> Delivery {
    let page = PageRequest { items_max: 500, after: None };
    let found = store.deliveries(&DeliveryFilter::default(), &page).await.expect("deliveries");
    found.items.into_iter().find(|one| one.id.0 == id).expect("it is there")
}

async fn attempted(store: &dyn Store, id: &str, attempt: Attempt, secs: i64) -> bool {
    store.record_attempt(&DeliveryId(id.to_owned()), attempt, at(secs)).await.expect("noted")
}

fn delivered() -> Attempt {
    Attempt::Delivered { receipt: "ok".to_owned() }
}

fn again(secs: i64, not_begun: bool) -> Attempt {
    Attempt::Again { at: at(secs), error: "no route to host".to_owned(), not_begun }
}

/// A delivery that exists stays unchanged and is returned as it was saved.
pub async fn a_delivery_is_enqueued_once(store: &dyn Store) {
    let mut one = delivery("X.1", "X", "chat", at(0));
    one.stands_in_for = Some(DeliveryId("X.1@pager".to_owned()));
    enqueue(store, vec![one.clone()]).await;
    assert_eq!(get(store, "X.1@chat").await, one);
    assert_eq!(lease(store, 5, 9, &[]).await, ["X.1@chat"]);
    let leased = get(store, "X.1@chat").await;
    let mut later = one.clone();
    later.due_at = at(500);
    enqueue(store, vec![later.clone(), one]).await;
    assert_eq!(get(store, "X.1@chat").await, leased);
    attempted(store, "X.1@chat", delivered(), 6).await;
    enqueue(store, vec![later]).await;
    let ended = get(store, "X.1@chat").await;
    assert_eq!((ended.state, ended.ended_at), (DeliveryState::Delivered, Some(at(6))));
    assert_eq!((ended.receipt.as_deref(), ended.leased_until), (Some("ok"), None));
    assert_eq!(ended.attempts, 1);
    assert!(lease(store, 1_000, 9, &[]).await.is_empty());
}

/// The oldest first; of a thread and destination one at a time; a thread waits for its own only.
pub async fn a_thread_is_delivered_in_order(store: &dyn Store) {
    enqueue(
        store,
        vec![
            delivery("X.1", "X", "chat", at(10)),
            delivery("X.1", "X", "pager", at(10)),
            delivery("X.2", "X", "chat", at(11)),
            delivery("Y.1", "Y", "chat", at(5)),
            delivery("Z.1", "Z", "chat", at(900)),
        ],
    )
    .await;
    assert!(lease(store, 4, 9, &[]).await.is_empty());
    assert_eq!(lease(store, 20, 1, &[]).await, ["Y.1@chat"]);
    assert_eq!(lease(store, 20, 9, &[]).await, ["X.1@chat", "X.1@pager"]);
    assert!(lease(store, 20, 9, &[]).await.is_empty());
    // What waits to be tried again holds back what comes after it, and nothing else.
    attempted(store, "X.1@chat", again(300, false), 21).await;
    assert!(!attempted(store, "X.1@pager", delivered(), 21).await);
    assert!(lease(store, 79, 9, &["nobody"]).await.is_empty());
    attempted(store, "Y.1@chat", delivered(), 22).await;
    assert!(lease(store, 299, 9, &[]).await.is_empty());
    assert_eq!(lease(store, 300, 9, &[]).await, ["X.1@chat"]);
    assert!(attempted(store, "X.1@chat", delivered(), 301).await, "X.2 is in turn");
    assert_eq!(lease(store, 302, 9, &[]).await, ["X.2@chat"]);
    attempted(store, "X.2@chat", delivered(), 303).await;
    assert_eq!(lease(store, 900, 9, &[]).await, ["Z.1@chat"]);
}

/// A long thread whose first delivery waits for a retry does not delay other threads.
pub async fn a_long_thread_delays_no_other(store: &dyn Store) {
    let mut deliveries: Vec<Delivery> =
        (0..400).map(|nth| delivery(&format!("X.{nth}"), "X", "chat", at(0))).collect();
    deliveries.push(delivery("Y.1", "Y", "chat", at(1)));
    enqueue(store, deliveries).await;
    assert_eq!(lease(store, 10, 1, &[]).await, ["X.0@chat"]);
    attempted(store, "X.0@chat", again(600, false), 11).await;
    assert_eq!(store.next_due().await.expect("due"), Some(at(1)));
    assert_eq!(lease(store, 20, 1, &[]).await, ["Y.1@chat"]);
    assert!(lease(store, 20, 1, &[]).await.is_empty());
}

/// An expired lease is free again; attempts are counted, except those that were not begun.
pub async fn a_lease_runs_out(store: &dyn Store) {
    enqueue(store, vec![delivery("X.1", "X", "chat", at(0))]).await;
    assert_eq!(lease(store, 0, 9, &[]).await, ["X.1@chat"]);
    assert!(lease(store, 59, 9, &[]).await.is_empty());
    assert_eq!(lease(store, 60, 9, &[]).await, ["X.1@chat"]);
    assert_eq!(get(store, "X.1@chat").await.attempts, 2);
    attempted(store, "X.1@chat", again(100, true), 61).await;
    let one = get(store, "X.1@chat").await;
    assert_eq!((one.attempts, one.due_at, one.leased_until), (1, at(100), None));
    assert_eq!(one.last_error.as_deref(), Some("no route to host"));
    assert_eq!(lease(store, 100, 9, &[]).await, ["X.1@chat"]);
    attempted(store, "X.1@chat", again(200, false), 101).await;
    assert_eq!(get(store, "X.1@chat").await.attempts, 2);
    // Nothing is below none.
    for secs in [102, 103, 104] {
        attempted(store, "X.1@chat", again(200, true), secs).await;
    }
    assert_eq!(get(store, "X.1@chat").await.attempts, 0);
}

/// Busy destinations are skipped; the others may use the whole limit.
pub async fn busy_destinations_are_left_out(store: &dyn Store) {
    let mut deliveries = Vec::new();
    for nth in 0..40 {
        deliveries.push(delivery(&format!("A{nth:02}.1"), &format!("A{nth}"), "stuck", at(nth)));
    }
    deliveries.push(delivery("B.1", "B", "chat", at(100)));
    deliveries.push(delivery("C.1", "C", "pager", at(101)));
    enqueue(store, deliveries).await;
    assert_eq!(lease(store, 200, 1, &["stuck"]).await, ["B.1@chat"]);
    assert_eq!(lease(store, 200, 9, &["chat", "stuck"]).await, ["C.1@pager"]);
    assert!(lease(store, 200, 9, &["stuck"]).await.is_empty());
    let all = lease(store, 200, 3, &[]).await;
    assert_eq!(all, ["A00.1@stuck", "A01.1@stuck", "A02.1@stuck"]);
    assert!(lease(store, 200, 0, &[]).await.is_empty());
}

/// A delivery ends once: later outcomes change nothing and enqueue nothing.
pub async fn a_delivery_ends_once(store: &dyn Store) {
    enqueue(store, vec![delivery("X.1", "X", "chat", at(0)), delivery("X.2", "X", "chat", at(0))])
        .await;
    assert_eq!(lease(store, 0, 9, &[]).await, ["X.1@chat"]);
    attempted(store, "X.1@chat", delivered(), 1).await;
    let ended = get(store, "X.1@chat").await;
    let mut instead = delivery("X.1", "X", "chat@mail", at(2));
    instead.destination = "mail".to_owned();
    let failed = || Attempt::Failed { error: "gone".to_owned(), instead: vec![instead.clone()] };
    for attempt in [again(9, false), again(9, true), failed(), delivered()] {
        attempted(store, "X.1@chat", attempt, 3).await;
        assert_eq!(get(store, "X.1@chat").await, ended);
    }
    let page = PageRequest::default();
    let all = store.deliveries(&DeliveryFilter::default(), &page).await.expect("deliveries");
    assert_eq!(all.items.len(), 2, "nothing replaces a delivered message");

    // What fails is stood in for, in the same step, and its thread goes on.
    assert_eq!(lease(store, 4, 9, &[]).await, ["X.2@chat"]);
    let stands_in = Attempt::Failed { error: "gone".to_owned(), instead: vec![instead.clone()] };
    assert!(
        attempted(store, "X.2@chat", stands_in.clone(), 5).await,
        "another is enqueued instead"
    );
    assert!(!attempted(store, "X.2@chat", stands_in, 6).await, "it ended before");
    let failed = get(store, "X.2@chat").await;
    assert_eq!((failed.state, failed.ended_at), (DeliveryState::Failed, Some(at(5))));
    assert_eq!(failed.last_error.as_deref(), Some("gone"));
    assert_eq!(lease(store, 6, 9, &[]).await, [instead.id.0]);
    let missing = store.record_attempt(&DeliveryId("nobody".to_owned()), delivered(), at(7)).await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "delivery", .. })), "{missing:?}");
}

/// At the next due time something can be leased, and nothing before it, whatever happens in any order.
pub async fn the_next_due_time_is_exact(store: &dyn Store) {
    let mut random = Random::of(11);
    assert_eq!(store.next_due().await.expect("due"), None);
    let mut leased: Vec<String> = Vec::new();
    let (mut now, mut enqueued) = (0, 0);
    for _ in 0..150 {
        match random.below(4) {
            0 => {
                let thread = ["X", "Y", "Z"][random.below(3)];
                let to = ["chat", "pager"][random.below(2)];
                let mut one = delivery(&format!("{thread}.{enqueued}"), thread, to, at(now));
                one.due_at = at(now + random.below(100) as i64);
                enqueue(store, vec![one]).await;
                enqueued += 1;
            }
            1 if !leased.is_empty() => {
                let id = leased.remove(random.below(leased.len()));
                let attempt = match random.below(4) {
                    0 | 1 => delivered(),
                    2 => again(now + random.below(200) as i64, random.one_in(2)),
                    _ => Attempt::Failed { error: "gone".to_owned(), instead: Vec::new() },
                };
                attempted(store, &id, attempt, now).await;
            }
            _ => {
                let due = store.next_due().await.expect("due");
                let Some(due) = due else {
                    assert!(lease(store, now + 100_000, 9, &[]).await.is_empty());
                    continue;
                };
                let secs = due.as_second() - at(0).as_second();
                assert!(lease(store, secs - 1, 9, &[]).await.is_empty(), "before {secs}");
                now = now.max(secs);
                let found = lease(store, now, 1 + random.below(2), &[]).await;
                assert!(!found.is_empty(), "nothing at {now}, said to be due at {secs}");
                leased.retain(|id| !found.contains(id));
                leased.extend(found);
            }
        }
        // Only the oldest of its thread and destination is with anybody.
        let filter = DeliveryFilter { states: vec![DeliveryState::Due], ..Default::default() };
        let page = PageRequest { items_max: 500, after: None };
        let due = store.deliveries(&filter, &page).await.expect("deliveries").items;
        let mut oldest: BTreeMap<(String, String), DeliveryId> = BTreeMap::new();
        for one in due.iter().rev() {
            let thread = (one.destination.clone(), one.alert.thread());
            let first = oldest.entry(thread).or_insert_with(|| one.id.clone());
            assert!(one.leased_until.is_none() || *first == one.id, "{}", one.id.0);
        }
    }
    assert!(enqueued > 20);
}

/// Among concurrent workers each delivery is leased to one.
pub async fn each_is_leased_to_one(store: &dyn Store) {
    let deliveries: Vec<Delivery> = (0..120)
        .map(|nth| delivery(&format!("A{nth}.1"), &format!("A{nth}"), "chat", at(0)))
        .collect();
    enqueue(store, deliveries).await;
    let ask = || async {
        let mut all = Vec::new();
        loop {
            let some = store.lease(at(1), at(60), 7, &[]).await.expect("a lease");
            if some.is_empty() {
                break all;
            }
            all.extend(some.into_iter().map(|one| one.id));
        }
    };
    let (one, two, three, four) = tokio::join!(ask(), ask(), ask(), ask());
    let all: Vec<DeliveryId> = [one, two, three, four].concat();
    let distinct: HashSet<&DeliveryId> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (120, 120));
}

/// Counts by destination and state, and when the oldest pending delivery was enqueued.
pub async fn deliveries_are_counted(store: &dyn Store) {
    enqueue(
        store,
        vec![
            delivery("X.1", "X", "chat", at(10)),
            delivery("X.2", "X", "chat", at(20)),
            delivery("X.1", "X", "mail", at(30)),
        ],
    )
    .await;
    let oldest = |secs: i64| -> Option<Timestamp> { Some(at(secs)) };
    assert_eq!(store.stats().await.expect("stats").oldest_due, oldest(10));
    lease(store, 40, 9, &[]).await;
    attempted(store, "X.1@chat", delivered(), 41).await;
    let failed = Attempt::Failed { error: "gone".to_owned(), instead: Vec::new() };
    attempted(store, "X.1@mail", failed, 41).await;
    let stats = store.stats().await.expect("stats");
    let of = |to: &str, state| (to.to_owned(), state);
    let wanted = BTreeMap::from([
        (of("chat", DeliveryState::Delivered), 1),
        (of("chat", DeliveryState::Due), 1),
        (of("mail", DeliveryState::Failed), 1),
    ]);
    assert_eq!(stats.deliveries, wanted);
    assert_eq!(stats.oldest_due, oldest(20));
}
