//! A commit is all or nothing, and no writer overwrites another.

use std::collections::HashSet;

use jiff::Timestamp;
use rootwatch_core::alert::NotifiedState;
use rootwatch_core::correlate::{
    Change, CorrelatePolicy, OpenIncidents, correlate, correlate_batch,
};
use rootwatch_core::finding::{Finding, FindingKey, Outcome, RootUse, Severity};
use rootwatch_core::incident::{Incident, IncidentId};

use super::{all, save};
use crate::random::Random;
use crate::sample::{self, PROD, SANDBOX, at, delivery, in_session, lonely, opening, unverified};
use rootwatch_store::{Batch, DeliveryFilter, LookBack, PageRequest, Store, StoreError};

/// Everything that a store can show.
async fn everything(store: &dyn Store) -> String {
    let page = PageRequest { items_max: 500, after: None };
    format!(
        "{:?} {:?} {:?} {:?} {:?}",
        all(store).await,
        store.deliveries(&DeliveryFilter::default(), &page).await,
        store.unverified(&page).await,
        store.positions("").await,
        store.look_back(Timestamp::MIN, None).await,
    )
}

/// A batch that fails in the middle leaves no trace.
pub async fn a_commit_is_all_or_nothing(store: &dyn Store) {
    save(store, opening(vec![lonely(1)])).await;
    let before = everything(store).await;
    let mut batch = opening(vec![lonely(2)]);
    batch.deliveries.push(delivery("X.1", "X", "log", at(0)));
    batch.unverified.push(unverified(3));
    batch.positions.push(("folder:".to_owned(), "7".to_owned()));
    let nowhere = IncidentId("222-222".to_owned());
    batch.changes.push(Change::Closed { id: nowhere.clone(), at: at(5) });
    let failed = store.commit(batch.clone()).await;
    // Another writer took it away.
    assert!(matches!(&failed, Err(StoreError::Conflict { id }) if *id == nowhere), "{failed:?}");
    assert_eq!(everything(store).await, before);
    assert!(store.known(&[lonely(2).key]).await.expect("known").is_empty());
    batch.changes.pop();
    save(store, batch).await;
    assert_ne!(everything(store).await, before);
}

/// An incident that another writer changed meanwhile is a conflict, and nothing is saved.
pub async fn another_revision_is_a_conflict(store: &dyn Store) {
    let mut open = OpenIncidents::new(CorrelatePolicy::default());
    let first = in_session(PROD, at(10), "ListUsers", at(0));
    let changes = correlate_batch(&mut open, vec![first]);
    save(store, Batch { changes, ..Batch::default() }).await;
    let id = all(store).await[0].incident.id.clone();
    assert_eq!(all(store).await[0].revision, 1);
    let changes = correlate_batch(&mut open, vec![in_session(PROD, at(20), "GetUser", at(0))]);
    let before = everything(store).await;
    for wrong in [0, 2, 9] {
        let batch = Batch {
            changes: changes.clone(),
            expected: vec![(id.clone(), wrong)],
            deliveries: vec![delivery("X.1", "X", "log", at(0))],
            ..Batch::default()
        };
        let failed = store.commit(batch).await;
        assert!(matches!(&failed, Err(StoreError::Conflict { id: one }) if *one == id));
        assert_eq!(everything(store).await, before);
    }
    let expected = vec![(id.clone(), 1)];
    save(store, Batch { changes, expected, ..Batch::default() }).await;
    assert_eq!(all(store).await[0].revision, 2);
    let nowhere = IncidentId("222-222".to_owned());
    let batch = Batch { expected: vec![(nowhere, 1)], ..Batch::default() };
    assert!(matches!(store.commit(batch).await, Err(StoreError::Conflict { .. })));
}

/// Data that is saved twice is stored once: an existing incident is not opened again, and a batch takes
/// no finding from an incident that it does not name.
pub async fn existing_data_is_not_overwritten(store: &dyn Store) {
    let one = in_session(PROD, at(10), "ListUsers", at(0));
    let other = in_session(PROD, at(5), "GetUser", at(0));
    let batch = opening(vec![one.clone()]);
    save(store, batch.clone()).await;
    let before = everything(store).await;
    let failed = store.commit(batch).await;
    assert!(matches!(failed, Err(StoreError::Conflict { .. })), "{failed:?}");
    // Another name for an incident of the same finding: it opens with the earlier one.
    let failed = store.commit(opening(vec![one, other])).await;
    assert!(matches!(failed, Err(StoreError::Conflict { .. })), "{failed:?}");
    assert_eq!(everything(store).await, before);
}

/// The notified state stays until another is saved, whatever happens to the incident.
pub async fn the_notified_state_stays(store: &dyn Store) {
    let mut open = OpenIncidents::new(CorrelatePolicy::default());
    let changes = correlate_batch(&mut open, vec![in_session(PROD, at(10), "A", at(0))]);
    let id = open.incidents().next().expect("an incident").id.clone();
    let told =
        NotifiedState { alerts: 1, severity: Some(Severity::Low), closed: false, history: false };
    save(store, Batch { changes, notified: vec![(id.clone(), told)], ..Batch::default() }).await;
    let changes = correlate_batch(&mut open, vec![in_session(PROD, at(11), "B", at(0))]);
    save(store, Batch { changes, ..Batch::default() }).await;
    let stored = store.incident(&id, 0).await.expect("it is there");
    assert_eq!((stored.notified, stored.revision, stored.findings_total), (told, 2, 2));
    assert!(stored.incident.findings.is_empty());
}

/// Repeats one writer's part until it is saved or there is nothing to save.
async fn write_all(store: &dyn Store, findings: &[Finding], size: usize) -> usize {
    let mut conflicts = 0;
    for batch in findings.chunks(size) {
        loop {
            let loaded = all(store).await;
            let keys: Vec<FindingKey> = batch.iter().map(|one| one.key.clone()).collect();
            let known = store.known(&keys).await.expect("known");
            let expected = loaded.iter().map(|one| (one.incident.id.clone(), one.revision));
            let expected = expected.collect();
            let incidents = loaded.into_iter().map(|one| one.incident);
            let mut open = OpenIncidents::from_incidents(CorrelatePolicy::default(), incidents);
            let fresh = batch.iter().filter(|one| !known.contains(&one.key)).cloned().collect();
            let changes = correlate_batch(&mut open, fresh);
            match store.commit(Batch { changes, expected, ..Batch::default() }).await {
                Ok(()) => break,
                Err(StoreError::Conflict { .. }) => conflicts += 1,
                Err(error) => panic!("{error}"),
            }
            assert!(conflicts < 10_000, "the writers never finish");
        }
    }
    conflicts
}

/// Two writers that decide at once lose nothing and double nothing.
pub async fn two_writers_lose_nothing_and_double_nothing(store: &dyn Store) {
    let mut random = Random::of(7);
    let mut findings = sample::findings(&mut random, 120);
    random.shuffle(&mut findings);
    // A third of them reaches both.
    let (one, other) = (&findings[..80], &findings[40..]);
    let conflicts = tokio::join!(write_all(store, one, 3), write_all(store, other, 4));
    let stored = all(store).await;
    let mut keys: HashSet<FindingKey> = HashSet::new();
    let mut counted = 0;
    for one in &stored {
        counted += one.incident.echoes.values().map(|echoes| echoes.count).sum::<u64>();
        for original in one.incident.originals() {
            assert!(keys.insert(original.key.clone()), "{} twice, {conflicts:?}", original.key.0);
        }
    }
    assert_eq!(keys.len() as u64 + counted, findings.len() as u64, "{conflicts:?}");
    assert_eq!(store.stats().await.expect("stats").findings, findings.len() as u64);
    let all: Vec<FindingKey> = findings.iter().map(|one| one.key.clone()).collect();
    assert_eq!(store.known(&all).await.expect("known").len(), findings.len());
}

/// Findings are known by their keys: shown, corrected and echoed ones.
pub async fn saved_findings_are_known(store: &dyn Store) {
    assert!(store.known(&[]).await.expect("known").is_empty());
    let mut open = OpenIncidents::new(CorrelatePolicy::default());
    let first = in_session(PROD, at(0), "ListUsers", at(0));
    let mut corrected = first.clone();
    corrected.key.0.push_str(" corrected");
    corrected.event_id = Some("another".to_owned());
    corrected.addendum = Some(rootwatch_core::finding::Addendum {
        reason: "UPDATED_DATA".to_owned(),
        original_event_id: first.event_id.clone(),
        updated_fields: None,
    });
    let mut findings = vec![first, corrected];
    for nth in 0..40 {
        let mut one = in_session(SANDBOX, at(nth), "ListUsers", at(0));
        one.event_id = None;
        findings.push(one);
    }
    let mut echoes = 0;
    for finding in &findings {
        let changes = correlate(&open, finding);
        open.apply(&changes);
        echoes += changes
            .iter()
            .filter(
                |change| matches!(change, Change::Grew(growth) if growth.redundant_to.is_some()),
            )
            .count();
        save(store, Batch { changes, ..Batch::default() }).await;
    }
    assert!(echoes > 10, "{echoes}");
    assert!(open.incidents().any(|one| !one.superseded.is_empty()));
    let mut keys: Vec<FindingKey> = findings.iter().map(|one| one.key.clone()).collect();
    let all: HashSet<FindingKey> = keys.iter().cloned().collect();
    keys.push(FindingKey("never seen".to_owned()));
    assert_eq!(store.known(&keys).await.expect("known"), all);
    let totals: u64 = super::all(store).await.iter().map(|one| one.findings_total).sum();
    // The corrected one is not shown.
    assert_eq!(totals, findings.len() as u64 - 1);
}

/// The history that rules refer to: keys, addresses of successful calls by the root user, matches.
pub async fn history_is_returned(store: &dyn Store) {
    assert_eq!(store.look_back(Timestamp::MIN, None).await.expect("past"), LookBack::default());
    let with_key = |secs: i64, key: &str, address: &str, outcome: Outcome| {
        let mut one = in_session(PROD, at(secs), "ListUsers", at(0));
        one.access_key_id = Some(key.to_owned());
        one.source_ip = Some(address.to_owned());
        one.outcome = outcome;
        one
    };
    let mut spoke = with_key(200, "ASIA1", "192.0.2.10", Outcome::Success);
    spoke.rules = vec!["first".to_owned(), "second".to_owned()];
    let findings = vec![
        with_key(10, "ASIA1", "192.0.2.10", Outcome::Success),
        with_key(100, "ASIA2", "203.0.113.77", Outcome::Failure),
        with_key(150, "ASIA2", "autoscaling.amazonaws.com", Outcome::Success),
        spoke,
    ];
    save(store, opening(findings)).await;
    let sorted = |mut past: LookBack| {
        past.keys.sort();
        past.addresses.sort();
        past.matches.sort();
        past
    };
    let pair = |one: &str| (PROD.to_owned(), one.to_owned());
    let spoken = |rule: &str| (PROD.to_owned(), rule.to_owned(), at(200));
    let mut wanted = LookBack {
        keys: vec![pair("ASIA1"), pair("ASIA2")],
        addresses: vec![pair("192.0.2.10")],
        matches: vec![spoken("first"), spoken("second")],
    };
    assert_eq!(sorted(store.look_back(at(200), None).await.expect("past")), wanted);
    let ours = [PROD.to_owned()];
    assert_eq!(sorted(store.look_back(at(200), Some(&ours)).await.expect("past")), wanted);
    let others = ["333344445555".to_owned()];
    let nothing = store.look_back(at(200), Some(&others)).await.expect("past");
    assert_eq!(nothing, LookBack::default());
    wanted.matches.clear();
    assert_eq!(sorted(store.look_back(at(201), None).await.expect("past")), wanted);
}

/// What is loaded for a span has a finding in it; what has not ended comes along when asked for.
pub async fn incidents_are_found_by_their_time(store: &dyn Store) {
    let mut timeless = lonely(0);
    timeless.event_time = None;
    let findings = vec![timeless, lonely(10), lonely(20), lonely(30)];
    save(store, opening(findings)).await;
    let found = |from: i64, to: i64, unended: bool| async move {
        let found = store.incidents_within(at(from), at(to), unended).await.expect("incidents");
        let mut at: Vec<_> = found
            .iter()
            .map(|one: &rootwatch_store::StoredIncident| one.incident.first_at)
            .collect();
        at.sort();
        at
    };
    let (ten, twenty, thirty) = (Some(at(70)), Some(at(140)), Some(at(210)));
    assert_eq!(found(70, 140, false).await, [ten, twenty]);
    assert_eq!(found(71, 139, false).await, []);
    assert_eq!(found(0, 1_000, false).await, [ten, twenty, thirty]);
    assert_eq!(found(71, 139, true).await, [None, ten, twenty, thirty]);
    let held: Vec<Incident> = all(store).await.into_iter().map(|one| one.incident).collect();
    let ended = held.iter().filter(|one| one.first_at == ten);
    let changes = ended.map(|one| Change::Closed { id: one.id.clone(), at: at(9_999) }).collect();
    save(store, Batch { changes, ..Batch::default() }).await;
    assert_eq!(found(71, 139, true).await, [None, twenty, thirty]);
    assert_eq!(found(70, 70, true).await, [None, ten, twenty, thirty]);
}

/// What a later record corrected stays with its incident, even when a writer that does not know
/// of it goes on with the incident.
pub async fn corrected_findings_are_not_lost(store: &dyn Store) {
    let first = in_session(PROD, at(0), "ListUsers", at(0));
    let mut correction = first.clone();
    correction.key.0.push_str(" corrected");
    correction.event_id = Some("another".to_owned());
    correction.addendum = Some(rootwatch_core::finding::Addendum {
        reason: "UPDATED_DATA".to_owned(),
        original_event_id: first.event_id.clone(),
        updated_fields: None,
    });
    save(store, opening(vec![first.clone(), correction])).await;
    let loaded = all(store).await;
    assert_eq!(loaded[0].incident.superseded, std::slice::from_ref(&first));
    let whole = store.incident(&loaded[0].incident.id, usize::MAX).await.expect("it is there");
    let incidents = [whole.incident];
    assert!(incidents[0].superseded.is_empty());
    let mut open = OpenIncidents::from_incidents(CorrelatePolicy::default(), incidents);
    let changes = correlate_batch(&mut open, vec![in_session(PROD, at(9), "GetUser", at(0))]);
    save(store, Batch { changes, ..Batch::default() }).await;
    let loaded = all(store).await;
    assert_eq!(loaded[0].incident.superseded, std::slice::from_ref(&first));
    assert_eq!((loaded[0].incident.findings.len(), loaded[0].findings_total), (2, 2));
    assert_eq!(store.known(std::slice::from_ref(&first.key)).await.expect("known").len(), 1);
}

/// A finding that its incident judges otherwise, and that a later record corrects, is held as
/// correlation holds it, in whatever order they come.
pub async fn reclassified_findings_may_be_corrected(store: &dyn Store) {
    let mut open = OpenIncidents::new(CorrelatePolicy::default());
    let mut revised = false;
    for (nth, order) in
        [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].into_iter().enumerate()
    {
        // Each order on a day of its own.
        let begin = nth as i64 * 500_000;
        let key = format!("ASIAAUDIT{nth}");
        let mut asked = in_session(sample::MGMT, at(begin), "AssumeRoot", at(begin));
        asked.root_use = RootUse::Privileged;
        asked.severity = Severity::Informational;
        asked.actor = Some("maria".to_owned());
        asked.session.principal_type = Some("AssumedRole".to_owned());
        asked.session.principal_arn = Some("maria".to_owned());
        asked.session.target_account_id = Some(PROD.to_owned());
        asked.session.task_policy = Some("IAMAuditRootUserCredentials".to_owned());
        asked.session.issued_key_id = Some(key.clone());
        let mut did = in_session(PROD, at(begin + 2), "GetAccountSummary", at(begin));
        did.access_key_id = Some(key);
        did.severity = Severity::Medium;
        let mut correction = did.clone();
        correction.key.0.push_str(" corrected");
        correction.event_id = Some(format!("another {nth}"));
        correction.addendum = Some(rootwatch_core::finding::Addendum {
            reason: "UPDATED_DATA".to_owned(),
            original_event_id: did.event_id.clone(),
            updated_fields: None,
        });
        let findings = [asked, did, correction];
        for place in order {
            let changes = correlate_batch(&mut open, vec![findings[place].clone()]);
            save(store, Batch { changes, ..Batch::default() }).await;
            let held: Vec<Incident> = open.incidents().cloned().collect();
            let loaded: Vec<Incident> =
                all(store).await.into_iter().map(|one| one.incident).collect();
            assert_eq!(loaded, held, "{order:?}");
            let is_both = |one: &Incident| {
                one.findings.iter().any(|finding| one.original(&finding.key).is_some())
            };
            revised |= held.iter().any(is_both);
        }
    }
    assert!(revised, "nothing is judged otherwise");
}
