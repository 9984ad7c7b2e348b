//! The store holds what correlation holds.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rootwatch_core::correlate::{
    Change, CorrelatePolicy, OpenIncidents, close_quiet, correlate_batch,
};
use rootwatch_core::finding::{Finding, FindingKey};
use rootwatch_core::incident::{Incident, IncidentId, IncidentState};

use super::all;
use crate::random::Random;
use crate::sample::at;
use rootwatch_store::{Batch, FindingFilter, PageRequest, Resolution, Store};

/// The revisions that changes build on, and what they are afterwards: as a hub keeps them.
fn step(revisions: &mut BTreeMap<IncidentId, u64>, changes: &[Change]) -> Vec<(IncidentId, u64)> {
    let mut touched: BTreeSet<IncidentId> = BTreeSet::new();
    let mut expected: BTreeMap<IncidentId, u64> = BTreeMap::new();
    let mut after = revisions.clone();
    for change in changes {
        let id = match change {
            Change::Opened(incident) => &incident.id,
            Change::Grew(growth) => &growth.id,
            Change::Closed { id, .. } => id,
            Change::Joined { from, .. } => from,
            _ => continue,
        };
        if let Some(revision) = revisions.get(id) {
            expected.insert(id.clone(), *revision);
        }
        match change {
            Change::Joined { from, .. } => {
                touched.remove(from);
                after.remove(from);
            }
            _ => _ = touched.insert(id.clone()),
        }
    }
    for id in touched {
        *after.entry(id).or_default() += 1;
    }
    *revisions = after;
    expected.into_iter().collect()
}

/// The store has the incidents that memory has, with the same totals.
async fn agrees(
    store: &dyn Store,
    open: &OpenIncidents,
    revisions: &BTreeMap<IncidentId, u64>,
    seed: u64,
) {
    let stored = all(store).await;
    let held: Vec<&Incident> = open.incidents().collect();
    // One by one they are the same, each once, and what is not there is left out.
    let mut names: Vec<IncidentId> = held.iter().map(|one| one.id.clone()).collect();
    names.extend(names.first().cloned());
    names.push(IncidentId("000-000".to_owned()));
    let mut named = store.incidents_of(&names).await.expect("incidents");
    named.sort_by(|one, other| one.incident.id.cmp(&other.incident.id));
    assert_eq!(named, stored, "seed {seed}");
    let ids = |incidents: &[&Incident]| -> Vec<String> {
        incidents.iter().map(|one| one.id.0.clone()).collect()
    };
    let loaded: Vec<&Incident> = stored.iter().map(|one| &one.incident).collect();
    assert_eq!(ids(&loaded), ids(&held), "seed {seed}");
    for (stored, held) in stored.iter().zip(held) {
        let id = &held.id;
        assert_eq!(stored.incident, *held, "{id}, seed {seed}");
        assert_eq!(stored.findings_total, held.findings_total(), "{id}, seed {seed}");
        assert_eq!(Some(&stored.revision), revisions.get(id), "{id}, seed {seed}");
    }
}

/// Whatever comes, in whatever order and batches, with incidents closed and taken over in between,
/// the store holds exactly what correlation holds; and correlation that begins anew with what the
/// store has goes on as if nothing had happened.
pub async fn holds_what_correlation_holds(store: &dyn Store, findings: &[Finding], seed: u64) {
    let mut random = Random::of(seed);
    let mut policy = CorrelatePolicy::default();
    policy.redundant_secs = [0, 1, 60, 60][random.below(4)];
    let mut left = findings.to_vec();
    // Some come again.
    let again: Vec<Finding> = left.iter().filter(|_| random.one_in(5)).cloned().collect();
    left.extend(again);
    random.shuffle(&mut left);
    let mut open = OpenIncidents::new(policy.clone());
    let mut seen: HashSet<FindingKey> = HashSet::new();
    let mut revisions: BTreeMap<IncidentId, u64> = BTreeMap::new();
    let size_max = [1, 7, 40, 400][random.below(4)];
    while !left.is_empty() {
        let size = (1 + random.below(size_max)).min(left.len());
        let batch: Vec<Finding> = left.drain(..size).collect();
        let keys: Vec<FindingKey> = batch.iter().map(|one| one.key.clone()).collect();
        let known = store.known(&keys).await.expect("what is known");
        let wanted = keys.iter().filter(|key| seen.contains(key)).cloned().collect();
        assert_eq!(known, wanted, "seed {seed}");
        let fresh: Vec<Finding> =
            batch.into_iter().filter(|one| !known.contains(&one.key)).collect();
        seen.extend(keys);
        let mut changes = correlate_batch(&mut open, fresh);
        if random.one_in(8) {
            let over = close_quiet(&open, at(random.below(20_000) as i64)).into_iter();
            let timed = |change: &Change| {
                let Change::Closed { id, .. } = change else { return false };
                open.get(id).is_some_and(|incident| incident.last_at.is_some())
            };
            let over: Vec<Change> = over.filter(timed).collect();
            open.apply(&over);
            changes.extend(over);
        }
        let expected = step(&mut revisions, &changes);
        let batch = Batch { changes, expected, now: Some(at(0)), ..Batch::default() };
        store.commit(batch).await.unwrap_or_else(|error| panic!("{error}, seed {seed}"));
        if random.one_in(6) {
            let timed = open.incidents().filter(|one| one.last_at.is_some()).map(|one| &one.id);
            let ids: Vec<IncidentId> = timed.cloned().collect();
            if !ids.is_empty() {
                let state = [IncidentState::Acknowledged, IncidentState::Resolved];
                let (id, state) = (&ids[random.below(ids.len())], state[random.below(2)]);
                let resolution =
                    Resolution { state, by: "maria".to_owned(), at: at(1), note: None };
                let stored =
                    store.resolve(id, &resolution, None, Vec::new()).await.expect("handled");
                open.set_state(id, state);
                revisions.insert(id.clone(), stored.revision);
            }
        }
        agrees(store, &open, &revisions, seed).await;
        if random.one_in(4) {
            let loaded = all(store).await.into_iter().map(|one| one.incident);
            let anew = OpenIncidents::from_incidents(policy.clone(), loaded);
            let mut steady = open;
            open = anew.clone();
            // The next batch means the same to both.
            let next: Vec<Finding> = left.iter().take(20).cloned().collect();
            let fresh = next.into_iter().filter(|one| !seen.contains(&one.key)).collect::<Vec<_>>();
            let mut anew = anew;
            correlate_batch(&mut steady, fresh.clone());
            correlate_batch(&mut anew, fresh);
            let held = |open: &OpenIncidents| open.incidents().cloned().collect::<Vec<_>>();
            assert_eq!(held(&anew), held(&steady), "seed {seed}");
        }
    }
    all_are_listed(store, seen.len(), seed).await;
}

/// Lists agree with the incidents.
async fn all_are_listed(store: &dyn Store, seen: usize, seed: u64) {
    let stats = store.stats().await.expect("the stats");
    assert_eq!(stats.findings, seen as u64, "seed {seed}");
    for stored in all(store).await {
        let id = &stored.incident.id;
        let whole = store.incident(id, usize::MAX).await.expect("it is there");
        assert_eq!(whole.incident.findings.len() as u64, stored.findings_total, "seed {seed}");
        let filter = FindingFilter { incident: Some(id.clone()), ..FindingFilter::default() };
        let mut page = PageRequest { items_max: 7, after: None };
        let mut listed: Vec<Finding> = Vec::new();
        loop {
            let found = store.findings(&filter, &page).await.expect("a page");
            listed.extend(found.items.into_iter().map(|one| one.finding));
            page.after = found.next;
            if page.after.is_none() {
                break;
            }
        }
        let keys = |findings: &[Finding]| -> BTreeSet<FindingKey> {
            findings.iter().map(|one| one.key.clone()).collect()
        };
        assert_eq!(listed.len(), whole.incident.findings.len(), "seed {seed}");
        assert_eq!(keys(&listed), keys(&whole.incident.findings), "seed {seed}");
        let some = store.incident(id, 2).await.expect("it is there").incident.findings;
        let first = whole.incident.findings.iter().take(2).cloned().collect::<Vec<_>>();
        assert_eq!(some, first, "the first ones, seed {seed}");
    }
}
