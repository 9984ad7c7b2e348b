//! A store that many deciders share says what the others did, and refuses what was decided before.
//! Only for stores that are shared; one that one process has for itself says so.

use rootwatch_core::correlate::{Change, CorrelatePolicy, OpenIncidents, correlate_batch};
use rootwatch_core::incident::{IncidentId, IncidentState};

use super::{all, save};
use crate::sample::{PROD, SANDBOX, at, delivery, in_session, lonely, opening};
use rootwatch_store::{Batch, CaughtUp, Resolution, Store, StoreError};

async fn generation(store: &dyn Store) -> u64 {
    match store.catch_up(None).await.expect("the generation") {
        CaughtUp::Anew { generation } => generation,
        other => panic!("{other:?}"),
    }
}

async fn moved(store: &dyn Store, since: u64) -> Vec<IncidentId> {
    match store.catch_up(Some(since)).await.expect("what moved") {
        CaughtUp::Moved { generation: now, incidents } => {
            assert_eq!(now, generation(store).await);
            incidents
        }
        other => panic!("{other:?}"),
    }
}

/// Whoever was away learns which incidents changed, opened or went, each once; whoever knows
/// nothing, or claims to come from the future, begins anew.
pub async fn a_shared_store_says_what_moved(store: &dyn Store) {
    let begin = generation(store).await;
    assert!(moved(store, begin).await.is_empty());
    let mut open = OpenIncidents::new(CorrelatePolicy::default());
    let changes = correlate_batch(&mut open, vec![in_session(PROD, at(10), "A", at(0))]);
    save(store, Batch { changes, ..Batch::default() }).await;
    let prod = all(store).await[0].incident.id.clone();
    assert_eq!(moved(store, begin).await, std::slice::from_ref(&prod));
    let one = generation(store).await;
    assert!(moved(store, one).await.is_empty());
    // What is only owed or noted moves no incident.
    let owed = vec![delivery("X.1", "X", "log", at(0))];
    save(store, Batch { deliveries: owed, ..Batch::default() }).await;
    store.put_note("digest", Some("now")).await.expect("put");
    store.lease(at(1), at(2), 9, &[]).await.expect("a lease");
    assert!(moved(store, one).await.is_empty());
    let positions = vec![("folder:a".to_owned(), "7".to_owned())];
    save(store, Batch { positions, ..Batch::default() }).await;
    assert!(moved(store, one).await.is_empty());

    let changes = correlate_batch(
        &mut open,
        vec![in_session(PROD, at(11), "B", at(0)), in_session(SANDBOX, at(11), "B", at(0))],
    );
    save(store, Batch { changes, ..Batch::default() }).await;
    let resolution = Resolution {
        state: IncidentState::Acknowledged,
        by: "maria".to_owned(),
        at: at(50),
        note: None,
    };
    store.resolve(&prod, &resolution, None, Vec::new()).await.expect("handled");
    let found = moved(store, one).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.contains(&prod));
    let before = generation(store).await;
    let over = Resolution { state: IncidentState::Resolved, ..resolution };
    store.resolve(&prod, &over, None, Vec::new()).await.expect("handled");
    store.prune(at(1_000)).await.expect("pruned");
    assert!(moved(store, before).await.contains(&prod), "what is gone has moved, too");
    let future = generation(store).await + 5;
    assert!(matches!(store.catch_up(Some(future)).await, Ok(CaughtUp::Anew { .. })));
}

/// A batch that was decided on an earlier generation is refused completely. One on the current
/// generation, or without one, is saved.
pub async fn a_decision_on_an_earlier_generation_is_refused(store: &dyn Store) {
    let early = generation(store).await;
    let on = |nth: usize, generation: Option<u64>| Batch {
        generation,
        deliveries: vec![delivery(&format!("A{nth}.1"), &format!("A{nth}"), "chat", at(0))],
        ..opening(vec![lonely(nth)])
    };
    save(store, on(1, Some(early))).await;
    for stale in [Some(early), Some(early + 7)] {
        let refused = store.commit(on(2, stale)).await;
        assert!(matches!(refused, Err(StoreError::Overtaken)), "{refused:?}");
    }
    assert!(store.known(&[lonely(2).key]).await.expect("known").is_empty());
    assert_eq!(store.stats().await.expect("stats").deliveries.values().sum::<u64>(), 1);
    save(store, on(2, Some(generation(store).await))).await;
    save(store, on(3, None)).await;
    assert_eq!(all(store).await.len(), 3);
    // A person, or pruning, overtakes too.
    let before = generation(store).await;
    let id = all(store).await[0].incident.id.clone();
    let resolution = Resolution {
        state: IncidentState::Resolved,
        by: "maria".to_owned(),
        at: at(9),
        note: None,
    };
    store.resolve(&id, &resolution, None, Vec::new()).await.expect("handled");
    let changes = vec![Change::Closed { id, at: at(10) }];
    let late = Batch { changes, generation: Some(before), ..Batch::default() };
    let refused = store.commit(late).await;
    assert!(matches!(refused, Err(StoreError::Overtaken)), "{refused:?}");
    assert_eq!(generation(store).await, before + 1);
}
