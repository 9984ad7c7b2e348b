//! Lists: pages that stay where they are while rows are added, filters, cursors.

use std::collections::HashSet;

use rootwatch_core::delivery::DeliveryState;
use rootwatch_core::finding::{Finding, RootUse, Severity};
use rootwatch_core::incident::{IncidentId, IncidentKind, IncidentState};

use super::{all, save};
use crate::sample::{PROD, at, call, delivery, lonely, opening, unverified};
use rootwatch_core::attempt::Attempt;
use rootwatch_store::{
    Batch, DeliveryFilter, FindingFilter, IncidentFilter, PAGE_ITEMS_MAX, Page, PageRequest, Store,
    StoreError,
};

/// One of the lists, as names in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Incidents,
    Findings,
    Deliveries,
    Unverified,
}

const LISTS: [List; 4] = [List::Incidents, List::Findings, List::Deliveries, List::Unverified];

async fn ask(
    store: &dyn Store,
    list: List,
    page: &PageRequest,
) -> Result<(Vec<String>, Option<String>), StoreError> {
    fn names<T>(page: Page<T>, name: impl Fn(T) -> String) -> (Vec<String>, Option<String>) {
        (page.items.into_iter().map(name).collect(), page.next)
    }
    Ok(match list {
        List::Incidents => {
            let found = store.incidents(&IncidentFilter::default(), page).await?;
            names(found, |one| one.incident.head.id.0)
        }
        List::Findings => {
            let found = store.findings(&FindingFilter::default(), page).await?;
            names(found, |one| one.finding.key.0)
        }
        List::Deliveries => {
            let found = store.deliveries(&DeliveryFilter::default(), page).await?;
            names(found, |one| one.id.0)
        }
        List::Unverified => names(store.unverified(page).await?, |one| one.key.0),
    })
}

/// Something for each list: incidents of one finding each, deliveries, unverified records.
async fn add(store: &dyn Store, numbers: std::ops::Range<usize>) {
    let mut batch = opening(numbers.clone().map(lonely).collect());
    for nth in numbers {
        batch.deliveries.push(delivery(&format!("A{nth}.1"), &format!("A{nth}"), "chat", at(0)));
        batch.unverified.push(unverified(nth));
    }
    save(store, batch).await;
}

/// All pages together are the whole list, each item once, and what is added while somebody reads
/// neither moves nor repeats anything.
pub async fn pages_stay_where_they_are(store: &dyn Store) {
    for list in LISTS {
        let none = ask(store, list, &PageRequest::default()).await.expect("a page");
        assert_eq!(none, (Vec::new(), None));
    }
    add(store, 0..23).await;
    let mut added = 100;
    for list in LISTS {
        let whole = PageRequest { items_max: PAGE_ITEMS_MAX, after: None };
        let (wanted, end) = ask(store, list, &whole).await.expect("a page");
        assert!(end.is_none());
        for size in [1, 5, 23] {
            let mut page = PageRequest { items_max: size, after: None };
            let mut found: Vec<String> = Vec::new();
            loop {
                let (items, next) = ask(store, list, &page).await.expect("a page");
                assert!(items.len() <= size && !items.is_empty(), "{list:?}");
                found.extend(items);
                let Some(next) = next else { break };
                page.after = Some(next);
            }
            assert_eq!(found, wanted, "{list:?} by {size}");
        }
        // Newer ones come in front, where the reader has been.
        let first = PageRequest { items_max: 10, after: None };
        let (mut found, next) = ask(store, list, &first).await.expect("a page");
        add(store, added..added + 3).await;
        added += 3;
        let rest = PageRequest { items_max: PAGE_ITEMS_MAX, after: next };
        found.extend(ask(store, list, &rest).await.expect("a page").0);
        assert_eq!(found, wanted, "{list:?}");
    }
}

/// Sizes out of bounds are put right; what is no cursor of this list is refused.
pub async fn a_forged_cursor_is_refused(store: &dyn Store) {
    add(store, 0..4).await;
    let mut cursors: Vec<(List, String)> = Vec::new();
    for list in LISTS {
        let none = PageRequest { items_max: 0, after: None };
        let (items, next) = ask(store, list, &none).await.expect("a page");
        assert_eq!(items.len(), 1);
        let huge = PageRequest { items_max: usize::MAX, after: None };
        assert_eq!(ask(store, list, &huge).await.expect("a page").0.len(), 4);
        cursors.push((list, next.expect("there is more")));
    }
    for list in LISTS {
        let mut forged: Vec<String> =
            ["", "1", "%", "x' OR 1=1 --", "\u{fffd}", "0000", "11ff"].map(str::to_owned).to_vec();
        forged.push("1".repeat(100_000));
        for (of, cursor) in &cursors {
            forged.push(cursor[..cursor.len() - 1].to_owned());
            if *of != list {
                forged.push(cursor.clone());
            }
        }
        for after in forged {
            let page = PageRequest { items_max: 5, after: Some(after.clone()) };
            let answer = ask(store, list, &page).await;
            assert!(matches!(answer, Err(StoreError::BadCursor)), "{list:?} {after:.40}");
        }
    }
}

/// Incidents, by everything that they are asked for.
pub async fn incidents_are_filtered(store: &dyn Store) {
    let mut grave = lonely(1);
    grave.severity = Severity::Critical;
    let mut watched = call(PROD, at(30_000), "StopLogging");
    watched.root_use = RootUse::No;
    watched.severity = Severity::High;
    watched.actor = Some("eve".to_owned());
    watched.session.principal_type = Some("IAMUser".to_owned());
    watched.session.principal_arn = Some("eve".to_owned());
    let mut small = lonely(3);
    small.severity = Severity::Informational;
    save(store, opening(vec![grave, watched, small, lonely(4)])).await;
    let ids = |severity: Severity| async move {
        let found = all(store).await.into_iter().find(|one| one.incident.severity == severity);
        found.expect("one of each").incident.head.id
    };
    let (grave, watched) = (ids(Severity::Critical).await, ids(Severity::High).await);
    let (low, small) = (ids(Severity::Low).await, ids(Severity::Informational).await);
    let closed = rootwatch_core::correlate::Change::Closed { id: low.clone(), at: at(90_000) };
    save(store, Batch { changes: vec![closed], ..Batch::default() }).await;
    let any = IncidentFilter::default;
    let cases: [(IncidentFilter, &[&IncidentId]); 11] = [
        (any(), &[&watched, &low, &small, &grave]),
        (IncidentFilter { states: vec![IncidentState::Quiet], ..any() }, &[&low]),
        (
            IncidentFilter { states: vec![IncidentState::Open, IncidentState::Quiet], ..any() },
            &[&watched, &low, &small, &grave],
        ),
        (IncidentFilter { states: vec![IncidentState::Resolved], ..any() }, &[]),
        (IncidentFilter { kinds: vec![IncidentKind::RuleMatch], ..any() }, &[&watched]),
        (IncidentFilter { min_severity: Some(Severity::High), ..any() }, &[&watched, &grave]),
        (
            IncidentFilter { account: Some(format!("{:012}", 100_000_000_001_u64)), ..any() },
            &[&grave],
        ),
        (IncidentFilter { account: Some("%".to_owned()), ..any() }, &[]),
        (IncidentFilter { since: Some(at(28)), ..any() }, &[&watched, &low]),
        (IncidentFilter { until: Some(at(21)), ..any() }, &[&grave]),
        (IncidentFilter { undigested: true, ..any() }, &[&small]),
    ];
    for (filter, wanted) in cases {
        let found = store.incidents(&filter, &PageRequest::default()).await.expect("a page");
        let found: Vec<&IncidentId> = found.items.iter().map(|one| &one.incident.id).collect();
        assert_eq!(found, wanted, "{filter:?}");
    }
}

/// Findings, by everything that they are asked for.
pub async fn findings_are_filtered(store: &dyn Store) {
    let mut grave = lonely(1);
    grave.severity = Severity::Critical;
    grave.rules = vec!["key-made".to_owned(), "key".to_owned()];
    let mut derived = lonely(2);
    derived.root_use = RootUse::Derived;
    derived.rules = vec!["key-made-twice".to_owned()];
    let mut timeless = lonely(3);
    timeless.event_time = None;
    let mut batch = opening(vec![grave.clone(), derived.clone(), timeless.clone(), lonely(4)]);
    batch.received.insert(grave.key.clone(), at(77));
    save(store, batch).await;
    let id = |one: &Finding| {
        let key = one.key.clone();
        async move {
            let found = all(store).await.into_iter().find(|one| one.incident.holds(&key));
            found.expect("its incident").incident.head.id
        }
    };
    let last = lonely(4);
    let any = FindingFilter::default;
    let rule = |id: &str| FindingFilter { rule: Some(id.to_owned()), ..any() };
    let cases: [(FindingFilter, &[&Finding]); 11] = [
        (any(), &[&last, &derived, &grave, &timeless]),
        (FindingFilter { incident: Some(id(&grave).await), ..any() }, &[&grave]),
        (FindingFilter { account: last.account_id.clone(), ..any() }, &[&last]),
        (FindingFilter { root_use: vec![RootUse::Derived, RootUse::No], ..any() }, &[&derived]),
        (FindingFilter { min_severity: Some(Severity::High), ..any() }, &[&grave]),
        (rule("key-made"), &[&grave]),
        (rule("key"), &[&grave]),
        (rule("made"), &[]),
        (rule(""), &[]),
        (FindingFilter { since: Some(at(14)), ..any() }, &[&last, &derived]),
        (FindingFilter { since: Some(at(7)), until: Some(at(14)), ..any() }, &[&grave]),
    ];
    for (filter, wanted) in cases {
        let found = store.findings(&filter, &PageRequest::default()).await.expect("a page");
        let findings: Vec<&Finding> = found.items.iter().map(|one| &one.finding).collect();
        assert_eq!(findings, wanted, "{filter:?}");
        for one in &found.items {
            let received = if one.finding.key == grave.key { at(77) } else { at(100_000) };
            assert_eq!(one.received_at, received);
        }
    }
}

/// Deliveries, by everything that they are asked for; newest first.
pub async fn deliveries_are_filtered(store: &dyn Store) {
    let deliveries = vec![
        delivery("X.1", "X", "chat", at(0)),
        delivery("X.1", "X", "mail", at(0)),
        delivery("Y.1", "Y", "chat", at(0)),
    ];
    save(store, Batch { deliveries, ..Batch::default() }).await;
    for one in store.lease(at(1), at(2), 9, &["mail".to_owned()]).await.expect("a lease") {
        if one.id.0 == "X.1@chat" {
            let delivered = Attempt::Delivered { receipt: "ok".to_owned() };
            store.record_attempt(&one.id, delivered, at(1)).await.expect("noted");
        }
    }
    let any = DeliveryFilter::default;
    let cases: [(DeliveryFilter, &[&str]); 6] = [
        (any(), &["Y.1@chat", "X.1@mail", "X.1@chat"]),
        (DeliveryFilter { states: vec![DeliveryState::Due], ..any() }, &["Y.1@chat", "X.1@mail"]),
        (DeliveryFilter { states: vec![DeliveryState::Failed], ..any() }, &[]),
        (DeliveryFilter { destination: Some("mail".to_owned()), ..any() }, &["X.1@mail"]),
        (DeliveryFilter { destination: Some("mai".to_owned()), ..any() }, &[]),
        (
            DeliveryFilter { incident: Some(IncidentId("X".to_owned())), ..any() },
            &["X.1@mail", "X.1@chat"],
        ),
    ];
    for (filter, wanted) in cases {
        let found = store.deliveries(&filter, &PageRequest::default()).await.expect("a page");
        let found: Vec<&str> = found.items.iter().map(|one| one.id.0.as_str()).collect();
        assert_eq!(found, wanted, "{filter:?}");
    }
}

/// An unverified record is kept as it came, once, and is never known as a finding.
pub async fn unverified_records_are_listed_apart(store: &dyn Store) {
    let mut again = unverified(2);
    again.reason = "another reason".to_owned();
    let records = vec![unverified(1), unverified(2), again.clone()];
    save(store, Batch { unverified: records, ..Batch::default() }).await;
    save(store, Batch { unverified: vec![again], ..Batch::default() }).await;
    let found = store.unverified(&PageRequest::default()).await.expect("a page");
    assert_eq!(found.items, [unverified(2), unverified(1)]);
    let keys: Vec<_> = found.items.iter().map(|one| one.key.clone()).collect();
    assert_eq!(store.known(&keys).await.expect("known"), HashSet::new());
    assert!(all(store).await.is_empty());
    let stats = store.stats().await.expect("stats");
    assert_eq!((stats.unverified, stats.findings), (2, 0));
}
