//! Several hubs over one table.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use rootwatch_core::attempt::Attempt;
use rootwatch_core::correlate::{Change, CorrelatePolicy, OpenIncidents, correlate_batch};
use rootwatch_core::finding::{Finding, FindingKey};
use rootwatch_core::incident::{Incident, IncidentId};
use rootwatch_store::dynamo::DynamoStore;
use rootwatch_store::{
    Batch, CaughtUp, Decisions as _, Lists as _, Maintenance as _, Outbox as _, StoreError,
};
use rootwatch_testkit::random::Random;
use rootwatch_testkit::sample;

use super::{open, sound, table};

/// What a hub has in memory, as it catches up with the others.
struct Hub {
    store: DynamoStore,
    held: BTreeMap<IncidentId, (Incident, u64)>,
    generation: Option<u64>,
    overtaken: usize,
}

impl Hub {
    /// Reads what the others did since, and only that.
    async fn catch_up(&mut self) {
        let caught = self.store.catch_up(self.generation).await.expect("what moved");
        self.generation = Some(match caught {
            CaughtUp::Moved { generation, incidents } => {
                for id in incidents {
                    self.held.remove(&id);
                    // Of all that there is only these are read: by a span that holds everything
                    // it would be the whole table.
                    match self.store.incident(&id, 0).await {
                        Ok(stored) => {
                            let at = |moment: Option<Timestamp>| moment.unwrap_or(Timestamp::MIN);
                            let incident = &stored.incident;
                            let (from, to) = (at(incident.first_at), at(incident.last_at));
                            let found = self.store.incidents_within(from, to, true).await;
                            let found = found.expect("incidents").into_iter();
                            if let Some(one) = found.into_iter().find(|one| one.incident.id == id) {
                                self.held.insert(id, (one.incident, one.revision));
                            }
                        }
                        Err(StoreError::NotFound { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                generation
            }
            CaughtUp::Anew { generation } => {
                let found = self.store.incidents_within(Timestamp::MIN, Timestamp::MAX, true).await;
                self.held = found
                    .expect("incidents")
                    .into_iter()
                    .map(|one| (one.incident.id.clone(), (one.incident, one.revision)))
                    .collect();
                generation
            }
            CaughtUp::Alone => panic!("others share it"),
        });
    }

    async fn save(&mut self, findings: &[Finding]) {
        loop {
            self.catch_up().await;
            let keys: Vec<FindingKey> = findings.iter().map(|one| one.key.clone()).collect();
            let known = self.store.known(&keys).await.expect("known");
            let fresh: Vec<Finding> =
                findings.iter().filter(|one| !known.contains(&one.key)).cloned().collect();
            let incidents = self.held.values().map(|(incident, _)| incident.clone());
            let mut open = OpenIncidents::from_incidents(CorrelatePolicy::default(), incidents);
            let changes = correlate_batch(&mut open, fresh);
            let mut expected = Vec::new();
            for change in &changes {
                let id = match change {
                    Change::Grew(growth) => &growth.id,
                    Change::Joined { from, .. } => from,
                    _ => continue,
                };
                if let Some((_, revision)) = self.held.get(id) {
                    expected.push((id.clone(), *revision));
                }
            }
            let batch =
                Batch { changes, expected, generation: self.generation, ..Batch::default() };
            match self.store.commit(batch).await {
                Ok(()) => return,
                // Memory is as it was: catching up brings it to where the store is.
                Err(StoreError::Overtaken) => self.overtaken += 1,
                Err(error) => panic!("{error}"),
            }
            assert!(self.overtaken < 2_000, "it never gets through");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn four_hubs_over_one_table_lose_nothing_and_double_nothing() {
    let (name, port) = table().await;
    let mut random = Random::of(7);
    let mut findings = sample::findings(&mut random, 90);
    random.shuffle(&mut findings);
    let mut hubs = Vec::new();
    for nth in 0..4 {
        let store = open(&name, port).await;
        let mut hub = Hub { store, held: BTreeMap::new(), generation: None, overtaken: 0 };
        // Each has a part to itself, and a third of it in common with the next.
        let mut part: Vec<Finding> =
            findings.iter().cycle().skip(nth * 22).take(32).cloned().collect();
        random.shuffle(&mut part);
        hubs.push(tokio::spawn(async move {
            for some in part.chunks(4) {
                hub.save(some).await;
            }
            hub.overtaken
        }));
    }
    let mut overtaken = 0;
    for hub in hubs {
        overtaken += hub.await.expect("it ends");
    }
    assert!(overtaken > 0, "they were never in each other's way");
    let store = open(&name, port).await;
    let stored = store.incidents_within(Timestamp::MIN, Timestamp::MAX, true).await.expect("them");
    let mut keys: HashSet<FindingKey> = HashSet::new();
    let mut counted = 0;
    for one in &stored {
        counted += one.incident.echoes.values().map(|echoes| echoes.count).sum::<u64>();
        for original in one.incident.originals() {
            assert!(keys.insert(original.key.clone()), "{} twice", original.key.0);
        }
    }
    assert_eq!(keys.len() as u64 + counted, 90, "overtaken {overtaken} times");
    assert_eq!(store.stats().await.expect("stats").findings, 90);
    sound(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_commit_is_two_requests_and_catching_up_one() {
    let (name, port) = table().await;
    let store = open(&name, port).await;
    let mut open_incidents = OpenIncidents::new(CorrelatePolicy::default());
    for nth in 0..4 {
        let call =
            sample::in_session(sample::PROD, sample::at(nth), &format!("Call{nth}"), sample::at(0));
        let changes = correlate_batch(&mut open_incidents, vec![call]);
        let owed =
            vec![sample::delivery(&format!("A{nth}.1"), &format!("A{nth}"), "chat", sample::at(0))];
        let CaughtUp::Anew { generation } = store.catch_up(None).await.expect("a generation")
        else {
            panic!("nothing was asked about")
        };
        // What the batch speaks of, the transaction; one that names no generation reads the head.
        let (generation, requests) = if nth == 3 { (None, 3) } else { (Some(generation), 2) };
        let before = store.requests();
        let batch = Batch { changes, deliveries: owed, generation, ..Batch::default() };
        store.commit(batch).await.expect("saved");
        assert_eq!(store.requests() - before, requests);
    }
    let CaughtUp::Anew { generation } = store.catch_up(None).await.expect("the generation") else {
        panic!("nothing was asked about")
    };
    for (since, requests) in [(generation, 1), (generation - 3, 2)] {
        let before = store.requests();
        store.catch_up(Some(since)).await.expect("what moved");
        assert_eq!(store.requests() - before, requests);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sending_what_was_just_owed_reads_next_to_nothing_and_sees_what_others_did() {
    let (name, port) = table().await;
    let (store, other) = (open(&name, port).await, open(&name, port).await);
    let at = sample::at;
    let delivered = || Attempt::Delivered { receipt: "ok".to_owned() };
    let owe = async |nth: usize| {
        let owed = sample::delivery(&format!("A{nth}.1"), &format!("A{nth}"), "chat", at(0));
        store.commit(Batch { deliveries: vec![owed], ..Batch::default() }).await.expect("owed");
    };
    // The destinations, what is ready, the lease; the second time the destinations are known.
    for (nth, requests) in [(0, 3), (1, 2)] {
        owe(nth).await;
        let before = store.requests();
        let leased = store.lease(at(1), at(60), 9, &[]).await.expect("a lease");
        assert_eq!(store.requests() - before, requests);
        let before = store.requests();
        let readies = store.record_attempt(&leased[0].id, delivered(), at(2)).await.expect("noted");
        assert!(!readies);
        assert_eq!(store.requests() - before, 1);
    }
    // What this process remembers is old: another has leased it, given it back, and sent it.
    owe(2).await;
    let theirs = other.lease(at(3), at(60), 9, &[]).await.expect("a lease");
    assert_eq!(theirs.len(), 1);
    assert_eq!(store.lease(at(3), at(60), 9, &[]).await.expect("a lease"), []);
    let again = Attempt::Again { at: at(4), error: "busy".to_owned(), not_begun: false };
    other.record_attempt(&theirs[0].id, again, at(4)).await.expect("noted");
    let ours = store.lease(at(5), at(65), 9, &[]).await.expect("a lease");
    assert_eq!((ours.len(), ours[0].attempts), (1, 2));
    other.record_attempt(&theirs[0].id, delivered(), at(6)).await.expect("noted");
    store.record_attempt(&ours[0].id, delivered(), at(7)).await.expect("noted");
    // To a destination that nobody knew of before, owed by another.
    let owed = sample::delivery("B.1", "B", "pager", at(8));
    other.commit(Batch { deliveries: vec![owed], ..Batch::default() }).await.expect("owed");
    let leased = store.lease(at(9), at(69), 9, &[]).await.expect("a lease");
    assert_eq!(leased.len(), 1);
    sound(&store).await;
}
