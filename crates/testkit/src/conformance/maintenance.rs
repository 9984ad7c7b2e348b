//! Notes, positions, operators, digests and pruning.

use rootwatch_core::alert::NotifiedState;
use rootwatch_core::correlate::{Change, CorrelatePolicy, OpenIncidents, correlate_batch};
use rootwatch_core::delivery::DeliveryId;
use rootwatch_core::finding::{FindingKey, Severity};
use rootwatch_core::incident::{Incident, IncidentId, IncidentState};

use super::{all, save};
use crate::sample::{PROD, at, delivery, in_session, lonely, opening, unverified};
use rootwatch_core::attempt::Attempt;
use rootwatch_store::{
    Batch, DeliveryFilter, IncidentFilter, NOTE_BYTES_MAX, PageRequest, Pruned, Resolution, Stats,
    Store, StoreError,
};

/// Notes and positions are there until they are replaced or cleared.
pub async fn notes_and_positions_stay(store: &dyn Store) {
    store.ping().await.expect("it works");
    assert_eq!(store.note("breaker:chat").await.expect("a note"), None);
    for value in ["open", "half", "Ünï\u{0}x"] {
        store.put_note("breaker:chat", Some(value)).await.expect("put");
        assert_eq!(store.note("breaker:chat").await.expect("a note").as_deref(), Some(value));
    }
    store.put_note("breaker:chat", None).await.expect("cleared");
    store.put_note("never:there", None).await.expect("cleared");
    assert_eq!(store.note("breaker:chat").await.expect("a note"), None);

    for name in ["seen:one", "thread:chat:7K2-MPX", "telling:chat"] {
        store.put_note(name, Some("kept")).await.expect("put");
    }
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    store.prune(later).await.expect("pruned");
    for (name, stays) in
        [("seen:one", false), ("thread:chat:7K2-MPX", false), ("telling:chat", true)]
    {
        let note = store.note(name).await.expect("a note");
        assert_eq!(note.is_some(), stays, "{name}");
    }

    let positions = |some: &[(&str, &str)]| -> Vec<(String, String)> {
        some.iter().map(|(name, mark)| ((*name).to_owned(), (*mark).to_owned())).collect()
    };
    let first = positions(&[("dir:b", "1"), ("dir:a", "2"), ("dir%", "3"), ("dis", "4")]);
    save(store, Batch { positions: first, ..Batch::default() }).await;
    save(store, Batch { positions: positions(&[("dir:b", "9")]), ..Batch::default() }).await;
    let cases: [(&str, &[(&str, &str)]); 5] = [
        ("dir:", &[("dir:a", "2"), ("dir:b", "9")]),
        ("dir%", &[("dir%", "3")]),
        ("dir_", &[]),
        ("", &[("dir%", "3"), ("dir:a", "2"), ("dir:b", "9"), ("dis", "4")]),
        ("z", &[]),
    ];
    for (prefix, wanted) in cases {
        let found = store.positions(prefix).await.expect("positions");
        assert_eq!(found, positions(wanted), "{prefix}");
    }
}

/// The resolution of an incident is saved with it; a long note is cut at the end of a character.
pub async fn operators_resolve_incidents(store: &dyn Store) {
    save(store, opening(vec![lonely(1)])).await;
    let id = all(store).await[0].incident.id.clone();
    let told =
        NotifiedState { alerts: 2, severity: Some(Severity::Low), closed: false, history: false };
    let resolution = |state, note: Option<String>| Resolution {
        state,
        by: "maria".to_owned(),
        at: at(50),
        note,
    };
    let acknowledged = resolution(IncidentState::Acknowledged, Some("it was me".to_owned()));
    let owed = vec![delivery("A.2", "A", "chat", at(50))];
    let stored = store.resolve(&id, &acknowledged, Some(told), owed.clone()).await.expect("done");
    assert_eq!(stored.incident.state, IncidentState::Acknowledged);
    assert_eq!((stored.notified, stored.by.as_ref()), (told, Some(&acknowledged)));
    assert_eq!((stored.revision, stored.changed_at), (2, at(50)));
    assert_eq!((stored.findings_total, stored.incident.findings.len()), (1, 0));
    assert_eq!(store.incident(&id, 0).await.expect("it is there"), stored);
    // Once more: nothing is owed twice.
    store.resolve(&id, &acknowledged, None, owed).await.expect("done");
    let deliveries =
        store.deliveries(&DeliveryFilter::default(), &PageRequest::default()).await.expect("them");
    assert_eq!(deliveries.items.len(), 1);
    // Bytes that would be cut in the middle of a character.
    let long =
        resolution(IncidentState::Resolved, Some(format!("x{}", "ü".repeat(NOTE_BYTES_MAX))));
    let stored = store.resolve(&id, &long, None, Vec::new()).await.expect("done");
    let note = stored.by.expect("handled").note.expect("a note");
    assert_eq!(note.len(), NOTE_BYTES_MAX - 1);
    assert!(note.ends_with('ü'));
    assert_eq!((stored.notified, stored.revision), (told, 4));
    let loaded = all(store).await;
    assert_eq!(loaded[0].incident.state, IncidentState::Resolved);
    let nowhere = IncidentId("222-222".to_owned());
    let owed = vec![delivery("B.1", "B", "chat", at(50))];
    let missing = store.resolve(&nowhere, &acknowledged, None, owed).await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "incident", .. })));
    assert!(matches!(store.incident(&nowhere, 1).await, Err(StoreError::NotFound { .. })));
    let deliveries =
        store.deliveries(&DeliveryFilter::default(), &PageRequest::default()).await.expect("them");
    assert_eq!(deliveries.items.len(), 1);
}

/// A digest lists an incident once; one that escalated or was deleted meanwhile is ignored.
pub async fn a_digest_lists_once(store: &dyn Store) {
    let mut open = OpenIncidents::new(CorrelatePolicy::default());
    let mut small = in_session(PROD, at(0), "ListUsers", at(0));
    let mut other = lonely(9);
    small.severity = Severity::Informational;
    other.severity = Severity::Informational;
    let changes = correlate_batch(&mut open, vec![small.clone(), other]);
    save(store, Batch { changes, ..Batch::default() }).await;
    let undigested = IncidentFilter { undigested: true, ..IncidentFilter::default() };
    let page = PageRequest::default();
    let listed = store.incidents(&undigested, &page).await.expect("a page").items;
    assert_eq!(listed.len(), 2);
    let mut ids: Vec<IncidentId> = listed.iter().map(|one| one.incident.id.clone()).collect();
    // It rises before the digest is noted.
    let mut worse = in_session(PROD, at(5), "CreateAccessKey", at(0));
    worse.severity = Severity::Critical;
    let changes = correlate_batch(&mut open, vec![worse]);
    save(store, Batch { changes, ..Batch::default() }).await;
    ids.push(IncidentId("222-222".to_owned()));
    let owed = vec![delivery("digest-1", "digest-1", "chat", at(10))];
    store.mark_digested(&ids, owed.clone()).await.expect("noted");
    store.mark_digested(&ids, owed).await.expect("noted");
    assert!(store.incidents(&undigested, &page).await.expect("a page").items.is_empty());
    let grave = IncidentFilter { min_severity: Some(Severity::High), ..IncidentFilter::default() };
    assert_eq!(store.incidents(&grave, &page).await.expect("a page").items.len(), 1);
    let held: Vec<Incident> = open.incidents().cloned().collect();
    let loaded: Vec<Incident> = all(store).await.into_iter().map(|one| one.incident).collect();
    assert_eq!(loaded, held);
    let due = store.deliveries(&DeliveryFilter::default(), &page).await.expect("them").items;
    assert_eq!(due.len(), 1);
    // What comes to it while it stays small does not list it again.
    let mut open = OpenIncidents::from_incidents(CorrelatePolicy::default(), loaded);
    let mut more = lonely(9);
    more.key.0.push_str(" more");
    more.event_id = None;
    more.severity = Severity::Informational;
    let changes = correlate_batch(&mut open, vec![more]);
    save(store, Batch { changes, ..Batch::default() }).await;
    let stats = store.stats().await.expect("stats");
    assert_eq!(stats.open_incidents.get(&Severity::Critical), Some(&1));
}

/// Pruning deletes everything that ended before, and nothing that is pending or open.
pub async fn only_ended_items_are_pruned(store: &dyn Store) {
    assert_eq!(store.prune(at(1_000_000)).await.expect("pruned"), Pruned::default());
    let mut batch = opening((0..260).map(lonely).collect());
    batch.now = Some(at(2_000));
    batch.deliveries = (0..40)
        .map(|nth| delivery(&format!("A{nth}.1"), &format!("A{nth}"), "chat", at(0)))
        .collect();
    batch.unverified = (0..10).map(unverified).collect();
    save(store, batch).await;
    let stored = all(store).await;
    let first = |nth: usize| stored.iter().find(|one| one.incident.holds(&lonely(nth).key));
    let open: Vec<IncidentId> =
        [3, 4].iter().filter_map(|&nth| first(nth)).map(|one| one.incident.id.clone()).collect();
    let over = stored.iter().map(|one| &one.incident.id).filter(|id| !open.contains(id));
    let changes = over.map(|id| Change::Closed { id: id.clone(), at: at(2_000) }).collect();
    save(store, Batch { changes, now: Some(at(2_000)), ..Batch::default() }).await;
    let taken = Resolution {
        state: IncidentState::Acknowledged,
        by: "maria".to_owned(),
        at: at(2_000),
        note: None,
    };
    store.resolve(&open[0], &taken, None, Vec::new()).await.expect("handled");
    for nth in 0..30 {
        let id = DeliveryId(format!("A{nth}.1@chat"));
        let attempt = if nth % 2 == 0 {
            Attempt::Delivered { receipt: "ok".to_owned() }
        } else {
            Attempt::Failed { error: "gone".to_owned(), instead: Vec::new() }
        };
        store.record_attempt(&id, attempt, at(100 + nth)).await.expect("noted");
    }
    // Written too lately, whatever they speak of.
    assert_eq!(store.prune(at(2_000)).await.expect("pruned").incidents, 0);
    let pruned = store.prune(at(3_000)).await.expect("pruned");
    let known: Vec<FindingKey> = (0..260).map(|nth| lonely(nth).key).collect();
    let left = store.known(&known).await.expect("known");
    assert_eq!(left, [lonely(3).key, lonely(4).key].into_iter().collect());
    assert_eq!((pruned.incidents, pruned.findings), (258, 258));
    let Stats { deliveries, unverified, findings, .. } = store.stats().await.expect("stats");
    assert_eq!(deliveries.values().sum::<u64>(), 10);
    assert_eq!((unverified, findings), (0, 2));
    let ids: Vec<IncidentId> =
        all(store).await.into_iter().map(|one| one.incident.head.id).collect();
    assert_eq!(ids.len(), 2);
    assert!(open.iter().all(|id| ids.contains(id)));
    assert_eq!(store.prune(at(9_000)).await.expect("pruned"), Pruned::default());
}
