//! Writers that die, answers that are lost, a table that is busy.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use rootwatch_core::attempt::Attempt;
use rootwatch_core::correlate::{Change, CorrelatePolicy, OpenIncidents, correlate_batch};
use rootwatch_core::delivery::DeliveryId;
use rootwatch_core::finding::{Finding, FindingKey};
use rootwatch_core::incident::Incident;
use rootwatch_store::dynamo::DynamoStore;
use rootwatch_store::{
    Batch, Decisions as _, DeliveryFilter, FindingFilter, Lists as _, Maintenance as _,
    Outbox as _, PageRequest, StoreError, StoredIncident,
};
use rootwatch_testkit::sample::{PROD, at, delivery, in_session, lonely, opening, unverified};

use super::{fresh, open, proxy, sound, table};

async fn all(store: &DynamoStore) -> Vec<StoredIncident> {
    let found = store.incidents_within(Timestamp::MIN, Timestamp::MAX, true).await;
    found.expect("incidents")
}

/// Calls of one session: one incident, whatever their number.
fn session(numbers: std::ops::Range<usize>) -> Vec<Finding> {
    let call = |nth: usize| {
        let secs = i64::try_from(nth).expect("small");
        in_session(PROD, at(secs / 4), &format!("Call{nth}"), at(0))
    };
    numbers.map(call).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_three_thousand_findings_is_one_commit() {
    let store = fresh().await;
    let findings = session(0..3_000);
    let mut batch = opening(findings.clone());
    batch.deliveries = (0..60)
        .map(|nth| delivery(&format!("A{nth}.1"), &format!("A{}", nth % 50), "chat", at(0)))
        .collect();
    batch.generation = Some(0);
    store.commit(batch.clone()).await.expect("saved");
    let held = all(&store).await;
    assert_eq!(held.len(), 1);
    let [Change::Opened(incident)] = &batch.changes[..1] else {
        panic!("{:?}", batch.changes.len())
    };
    // What came behind the opening is a growth of it.
    let mut wanted: Incident = (**incident).clone();
    for change in &batch.changes[1..] {
        if let Change::Grew(growth) = change {
            (**growth).clone().apply_to(&mut wanted);
        }
    }
    assert_eq!(held[0].incident, wanted);
    let keys: Vec<FindingKey> = findings.iter().map(|one| one.key.clone()).collect();
    assert_eq!(store.known(&keys).await.expect("known").len(), 3_000);
    assert!(matches!(store.commit(batch).await, Err(StoreError::Overtaken)));
    let stats = store.stats().await.expect("stats");
    assert_eq!((stats.findings, stats.deliveries.values().sum::<u64>()), (3_000, 60));
    sound(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_too_large_for_an_item_is_kept_whole() {
    let store = fresh().await;
    let mut one = lonely(1);
    one.title = "Root user called ListUsers".to_owned();
    let mut batch = opening(vec![one]);
    let [Change::Opened(incident)] = &mut batch.changes[..] else { panic!("one opens") };
    // Not to be compressed: some 700 KB of addresses.
    let mut random = rootwatch_testkit::random::Random::of(3);
    incident.addresses = (0..40_000).map(|_| format!("2001:db8::{:x}", random.number())).collect();
    let (id, wanted) = (incident.id.clone(), incident.addresses.clone());
    store.commit(batch).await.expect("saved");
    let held = all(&store).await;
    assert_eq!(held[0].incident.addresses, wanted);
    assert_eq!(store.incident(&id, 5).await.expect("it is there").incident.addresses, wanted);
    // It shrinks, and what was beside it goes.
    let mut open = OpenIncidents::from_incidents(
        CorrelatePolicy::default(),
        held.into_iter().map(|one| one.incident),
    );
    let mut more = lonely(1);
    more.key.0.push_str(" more");
    more.event_name = Some("GetUser".to_owned());
    let changes = correlate_batch(&mut open, vec![more]);
    // All but the findings follows from the findings.
    assert!(matches!(changes.first(), Some(Change::Grew(growth)) if growth.addresses.is_empty()));
    store.commit(Batch { changes, ..Batch::default() }).await.expect("saved");
    let after = store.incident(&id, 5).await.expect("it is there");
    assert!(after.incident.addresses.is_empty());
    sound(&store).await;
}

/// A commit on what was before: findings that join two incidents, deliveries, a position.
fn second(open: &mut OpenIncidents) -> Batch {
    let changes = correlate_batch(open, session(20..60));
    Batch {
        changes,
        deliveries: (0..30)
            .map(|nth| delivery(&format!("B{nth}.1"), &format!("B{}", nth % 4), "chat", at(0)))
            .collect(),
        unverified: (0..3).map(unverified).collect(),
        positions: vec![("folder:".to_owned(), "7".to_owned())],
        now: Some(at(100_000)),
        ..Batch::default()
    }
}

/// Everything that a store can show, but for when somebody looked.
async fn everything(store: &DynamoStore) -> String {
    let page = PageRequest { items_max: 500, after: None };
    let findings = store.findings(&FindingFilter::default(), &page).await.expect("findings");
    let deliveries = store.deliveries(&DeliveryFilter::default(), &page).await.expect("deliveries");
    let mut owed: Vec<String> = deliveries.items.iter().map(|one| format!("{one:?}")).collect();
    owed.sort();
    format!(
        "{:?} {owed:?} {findings:?} {:?} {:?} {:?}",
        all(store).await,
        store.unverified(&page).await,
        store.positions("").await,
        store.stats().await,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_dies_at_any_step_leaves_all_or_nothing() {
    let (mut nothing, mut whole, mut told_so) = (0, 0, 0);
    for steps in 0_u32.. {
        assert!(steps < 200, "it never gets through");
        let (name, port) = table().await;
        let mut open_incidents = OpenIncidents::new(CorrelatePolicy::default());
        let changes = correlate_batch(&mut open_incidents, session(0..5));
        let other = open(&name, port).await;
        other.commit(Batch { changes, ..Batch::default() }).await.expect("saved");
        let before = everything(&other).await;
        let batch = second(&mut open_incidents);

        let writer = open(&name, port).await;
        writer.dies_after(steps);
        let committed = writer.commit(batch.clone()).await;
        let survived = writer.ping().await.is_ok();
        drop(writer);

        let after = everything(&other).await;
        sound(&other).await;
        if after == before {
            nothing += 1;
            assert!(committed.is_err(), "after {steps} writes");
            // Whoever comes again saves it.
            other.commit(batch).await.expect("saved");
        } else {
            whole += 1;
            told_so += usize::from(committed.is_ok());
        }
        let held: Vec<Incident> = all(&other).await.into_iter().map(|one| one.incident).collect();
        let wanted: Vec<Incident> = open_incidents.incidents().cloned().collect();
        assert_eq!(held, wanted, "after {steps} writes");
        let stats = other.stats().await.expect("stats");
        assert_eq!((stats.findings, stats.unverified), (60 - 15, 3), "after {steps} writes");
        assert_eq!(stats.deliveries.values().sum::<u64>(), 30, "after {steps} writes");
        assert_eq!(other.positions("").await.expect("positions").len(), 1);
        // Of a thread in its order, as if nothing had happened.
        let leased = other.lease(at(1), at(2), 9, &[]).await.expect("a lease");
        let mut ids: Vec<String> = leased.into_iter().map(|one| one.id.0).collect();
        ids.sort();
        assert_eq!(ids, ["B0.1@chat", "B1.1@chat", "B2.1@chat", "B3.1@chat"]);
        sound(&other).await;
        if survived {
            break;
        }
    }
    assert!(nothing >= 3 && whole >= 4 && told_so >= 3, "{nothing} {whole} {told_so}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_writer_left_behind_is_cleared_away() {
    let (name, port) = table().await;
    let writer = open(&name, port).await;
    writer.dies_after(2);
    writer.commit(opening((0..40).map(lonely).collect())).await.expect_err("it died");
    let other = open(&name, port).await;
    assert!(all(&other).await.is_empty());
    assert_eq!(other.journals().await.expect("journals"), 1);
    // Too young: its writer may be alive.
    other.prune(at(0)).await.expect("pruned");
    assert_eq!(other.journals().await.expect("journals"), 1);
    other.clear_journals_of(Timestamp::now()).await.expect("cleared");
    assert_eq!(other.journals().await.expect("journals"), 0);
    // What is saved leaves none.
    other.commit(opening((0..40).map(lonely).collect())).await.expect("saved");
    assert_eq!(other.journals().await.expect("journals"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_double_nothing_and_are_no_conflicts() {
    let (name, port) = table().await;
    let (through, whims) = proxy::start(port).await;
    let store = open(&name, through).await;
    whims.loses_one_in.store(2, Ordering::Relaxed);
    let mut open_incidents = OpenIncidents::new(CorrelatePolicy::default());
    for nth in 0..12_usize {
        let generation = match store.catch_up(None).await.expect("the generation") {
            rootwatch_store::CaughtUp::Anew { generation } => generation,
            other => panic!("{other:?}"),
        };
        let size = if nth == 7 { 60 } else { 2 };
        let changes = correlate_batch(&mut open_incidents, session(nth * 100..nth * 100 + size));
        let owed = vec![delivery(&format!("A{nth}.1"), "A", "chat", at(0))];
        let generation = Some(generation);
        let batch = Batch { changes, generation, deliveries: owed, ..Batch::default() };
        store.commit(batch).await.unwrap_or_else(|error| panic!("{error}, commit {nth}"));
    }
    for nth in 0..12 {
        let leased = store.lease(at(1), at(60), 9, &[]).await.expect("a lease");
        let ids: Vec<&str> = leased.iter().map(|one| one.id.0.as_str()).collect();
        assert_eq!(ids, [format!("A{nth}.1@chat")]);
        assert_eq!(leased[0].attempts, 1);
        let delivered = Attempt::Delivered { receipt: "ok".to_owned() };
        store.record_attempt(&leased[0].id, delivered, at(2)).await.expect("noted");
    }
    assert!(whims.lost.load(Ordering::Relaxed) > 15);
    let held: Vec<Incident> = all(&store).await.into_iter().map(|one| one.incident).collect();
    let wanted: Vec<Incident> = open_incidents.incidents().cloned().collect();
    assert_eq!(held, wanted);
    sound(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_throttles_is_asked_again_and_one_that_never_stops_is_unavailable() {
    let (name, port) = table().await;
    let (through, whims) = proxy::start(port).await;
    let store = open(&name, through).await;
    for nth in 0..4 {
        whims.throttles.store(3, Ordering::Relaxed);
        store.commit(opening(vec![lonely(nth)])).await.expect("saved");
    }
    assert_eq!(whims.throttled.load(Ordering::Relaxed), 12);
    assert_eq!(all(&store).await.len(), 4);
    whims.throttles.store(1_000_000, Ordering::Relaxed);
    let before = whims.throttled.load(Ordering::Relaxed);
    let refused = store.commit(opening(vec![lonely(9)])).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    let asked = whims.throttled.load(Ordering::Relaxed) - before;
    assert!(asked < 20, "asked {asked} times");
    whims.throttles.store(0, Ordering::Relaxed);
    assert_eq!(all(&store).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_there_or_not_known_is_refused_in_words() {
    let (name, port) = table().await;
    let options = rootwatch_store::dynamo::DynamoOptions::of_table("nowhere");
    let refused = DynamoStore::open(&super::standin::sdk(port), &options).await.err();
    let text = refused.expect("refused").to_string();
    assert!(text.contains("nowhere") && text.contains("rootwatch store init"), "{text}");
    assert!(!DynamoStore::create_table(&super::standin::sdk(port), &name).await.expect("there"));

    open(&name, port).await.commit(opening(vec![lonely(1)])).await.expect("saved");
    let standin = super::standin::shared().await;
    let update = serde_json::json!({
        "TableName": name,
        "Key": {"pk": {"S": "HEAD"}, "sk": {"S": "HEAD"}},
        "UpdateExpression": "SET #s = :s",
        "ExpressionAttributeNames": {"#s": "schema"},
        "ExpressionAttributeValues": {":s": {"N": "9"}},
    });
    standin.call("dynamodb", "update_item", update).await;
    let options = rootwatch_store::dynamo::DynamoOptions::of_table(&name);
    let refused = DynamoStore::open(&super::standin::sdk(port), &options).await.err();
    let text = refused.expect("refused").to_string();
    assert!(text.contains("version 9"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn four_workers_lease_each_delivery_once() {
    let (name, port) = table().await;
    let first = open(&name, port).await;
    let deliveries = (0..60)
        .map(|nth| delivery(&format!("A{nth:02}.1"), &format!("A{}", nth / 3), "chat", at(0)))
        .collect();
    first.commit(Batch { deliveries, ..Batch::default() }).await.expect("owed");
    let work = |store: DynamoStore| async move {
        let mut done: Vec<DeliveryId> = Vec::new();
        loop {
            let some = store.lease(at(1), at(600), 3, &[]).await.expect("a lease");
            for one in &some {
                let delivered = Attempt::Delivered { receipt: "ok".to_owned() };
                store.record_attempt(&one.id, delivered, at(2)).await.expect("noted");
            }
            if some.is_empty() && store.next_due().await.expect("due").is_none() {
                break done;
            }
            done.extend(some.into_iter().map(|one| one.id));
        }
    };
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(tokio::spawn(work(open(&name, port).await)));
    }
    let mut done = Vec::new();
    for worker in workers {
        done.extend(worker.await.expect("it ends"));
    }
    let distinct: HashSet<&DeliveryId> = done.iter().collect();
    assert_eq!((done.len(), distinct.len()), (60, 60));
    sound(&first).await;
}
