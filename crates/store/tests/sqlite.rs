//! What is particular to the store in one file: its disk, its file, its copies.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rootwatch_core::alert::AlertKind;
use rootwatch_core::correlate::Change;
use rootwatch_core::finding::{FindingKey, Severity};
use rootwatch_core::incident::{IncidentId, IncidentKind};
use rootwatch_store::sqlite::{SqliteOptions, SqliteStore};
use rootwatch_store::{
    Batch, Decisions as _, DeliveryFilter, IncidentFilter, Lists as _, Maintenance as _,
    Outbox as _, PageRequest, StoreError,
};
use rootwatch_testkit::sample::{at, delivery, lonely, opening};
use rusqlite::Connection;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(&SqliteOptions::at(path)).expect("a store")
}

async fn findings(store: &SqliteStore) -> u64 {
    store.stats().await.expect("the stats").findings
}

/// A finding alone, large enough to fill pages.
fn large(nth: usize) -> Batch {
    let mut finding = lonely(nth);
    finding.user_agent = Some("x".repeat(3_000));
    opening(vec![finding])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_spoils_nothing_and_goes_on_when_there_is_room() {
    let folder = folder();
    let path = folder.path().join("store.db");
    let mut options = SqliteOptions::at(&path);
    options.pages_max = Some(100);
    let store = SqliteStore::open(&options).expect("a store");
    let mut saved = 0;
    let refused = loop {
        match store.commit(large(saved)).await {
            Ok(()) => saved += 1,
            Err(error) => break error,
        }
        assert!(saved < 1_000, "it is never full");
    };
    assert!(matches!(&refused, StoreError::Unavailable { reason } if reason.contains("full")));
    assert!(saved > 10, "{saved}");
    // Many at once, some of which would fit: whoever is told yes finds it, whoever is told no not.
    let store = Arc::new(store);
    let tasks: Vec<_> = (saved..saved + 40)
        .map(|nth| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { (nth, store.commit(large(nth)).await) })
        })
        .collect();
    let mut told_yes: Vec<usize> = (0..saved).collect();
    for task in tasks {
        let (nth, answer) = task.await.expect("an answer");
        match answer {
            Ok(()) => told_yes.push(nth),
            Err(StoreError::Unavailable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(told_yes.len() < saved + 40);
    let keys: Vec<FindingKey> = (0..saved + 40).map(|nth| lonely(nth).key).collect();
    let known = store.known(&keys).await.expect("known");
    let wanted = told_yes.iter().map(|&nth| lonely(nth).key).collect();
    assert_eq!(known, wanted);
    assert_eq!(store.check().expect("a look"), Vec::<String>::new());
    drop(store);

    // With more room the same goes in.
    options.pages_max = Some(1_000);
    let store = SqliteStore::open(&options).expect("a store");
    for nth in (0..saved + 40).filter(|nth| !told_yes.contains(nth)) {
        store.commit(large(nth)).await.expect("room");
    }
    assert_eq!(store.known(&keys).await.expect("known").len(), keys.len());
    assert_eq!(store.check().expect("a look"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_harms_none_that_are_saved_with_it() {
    let folder = folder();
    let store = Arc::new(open(&folder.path().join("store.db")));
    let tasks: Vec<_> = (0..300)
        .map(|nth| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut batch = opening(vec![lonely(nth)]);
                if nth % 3 == 0 {
                    // Fails when the rest of it is written already.
                    let nowhere = IncidentId("222-222".to_owned());
                    batch.changes.push(Change::Closed { id: nowhere, at: at(0) });
                }
                (nth, store.commit(batch).await)
            })
        })
        .collect();
    for task in tasks {
        let (nth, answer) = task.await.expect("an answer");
        assert_eq!(answer.is_ok(), nth % 3 != 0, "{answer:?}");
    }
    assert_eq!(findings(&store).await, 200);
    assert_eq!(store.check().expect("a look"), Vec::<String>::new());
}

/// Changes the file behind the store's back.
fn behind(path: &Path, sql: &str) {
    let connection = Connection::open(path).expect("a database");
    connection.execute_batch(sql).expect("it does so");
}

fn damaged(path: &Path) -> String {
    let mut reasons = Vec::new();
    for open in [SqliteStore::open, SqliteStore::open_beside] {
        match open(&SqliteOptions::at(path)) {
            Err(StoreError::Damaged { reason }) => reasons.push(reason),
            other => panic!("{other:?}"),
        }
    }
    reasons.swap_remove(0)
}

#[tokio::test]
async fn a_newer_version_is_refused_and_left_alone() {
    let folder = folder();
    let path = folder.path().join("store.db");
    drop(open(&path));
    behind(&path, "PRAGMA user_version=99");
    assert!(damaged(&path).contains("newer"));
    behind(&path, "PRAGMA user_version=1");
    assert_eq!(findings(&open(&path)).await, 0);
}

#[tokio::test]
async fn another_programs_database_is_refused_and_left_alone() {
    let folder = folder();
    let path = folder.path().join("store.db");
    behind(&path, "CREATE TABLE songs (title TEXT); INSERT INTO songs VALUES ('Ohio')");
    let before = std::fs::read(&path).expect("a file");
    assert!(damaged(&path).contains("another program"));
    assert_eq!(std::fs::read(&path).expect("a file"), before);
    let empty = folder.path().join("empty.db");
    behind(&empty, "PRAGMA application_id=7; PRAGMA user_version=3");
    assert!(damaged(&empty).contains("another program"));
}

#[tokio::test]
async fn a_damaged_file_is_said_to_be_damaged() {
    let folder = folder();
    let path = folder.path().join("garbage.db");
    std::fs::write(&path, "not a database at all, and long enough to be one ".repeat(100))
        .expect("written");
    damaged(&path);
    let path = folder.path().join("store.db");
    let store = open(&path);
    store.commit(opening((0..300).map(lonely).collect())).await.expect("saved");
    drop(store);
    let mut bytes = std::fs::read(&path).expect("a file");
    let pages = bytes.len() / 4_096;
    for page in (2..pages).step_by(2) {
        bytes[page * 4_096..page * 4_096 + 64].fill(0xee);
    }
    std::fs::write(&path, bytes).expect("written");
    damaged(&path);
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_reads_its_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let path = folder.path().join("store.db");
    let store = open(&path);
    store.commit(opening(vec![lonely(1)])).await.expect("saved");
    store.backup(&folder.path().join("copy.db"), false).expect("a copy");
    let files: Vec<PathBuf> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("a file").path())
        .collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let mode = std::fs::metadata(&file).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn one_hub_has_it_open_and_others_work_beside_it() {
    let folder = folder();
    let path = folder.path().join("store.db");
    let missing = SqliteStore::open_beside(&SqliteOptions::at(&path));
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
    assert!(!path.exists());
    std::fs::write(&path, "").expect("written");
    let empty = SqliteStore::open_beside(&SqliteOptions::at(&path));
    assert!(matches!(empty, Err(StoreError::Damaged { .. })), "{empty:?}");
    let first = open(&path);
    let second = SqliteStore::open(&SqliteOptions::at(&path));
    assert!(matches!(&second, Err(StoreError::Unavailable { reason }) if reason.contains("hub")));
    let beside = SqliteStore::open_beside(&SqliteOptions::at(&path)).expect("beside");
    first.commit(opening(vec![lonely(1)])).await.expect("saved");
    beside.commit(opening(vec![lonely(2)])).await.expect("saved");
    assert_eq!(findings(&first).await, 2);
    assert_eq!(findings(&beside).await, 2);
    beside.prune(at(0)).await.expect("pruned");
    drop(first);
    let third = open(&path);
    drop(beside);
    assert_eq!(findings(&third).await, 2);
    assert!(third.size_bytes().expect("a size") > 4_096);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_whole_while_others_write() {
    let folder = folder();
    let store = Arc::new(open(&folder.path().join("store.db")));
    // Many times what is copied at once, so that there is always a write in between.
    for nth in 0..8 {
        let mut findings: Vec<_> = (nth * 500..(nth + 1) * 500).map(lonely).collect();
        findings.iter_mut().for_each(|one| one.user_agent = Some("x".repeat(6_000)));
        store.commit(opening(findings)).await.expect("saved");
    }
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        tokio::spawn(async move {
            let mut nth = 10_000;
            while !done.load(Ordering::Relaxed) {
                assert!(nth < 30_000, "the copy never ends while others write");
                store.commit(opening(vec![lonely(nth)])).await.expect("saved");
                nth += 1;
            }
            nth as u64 - 10_000
        })
    };
    let to = folder.path().join("copy.db");
    let copy = {
        let (store, to) = (Arc::clone(&store), to.clone());
        tokio::task::spawn_blocking(move || store.backup(&to, false))
    };
    let copied = copy.await.expect("it ends");
    done.store(true, Ordering::Relaxed);
    let meanwhile = writer.await.expect("it ends");
    copied.expect("a copy");
    let restored = open(&to);
    assert_eq!(restored.check().expect("a look"), Vec::<String>::new());
    let there = findings(&restored).await;
    assert!((4_000..=4_000 + meanwhile).contains(&there), "{there} of {meanwhile} more");
    drop(restored);

    // It is not written over, unless told to; and then it is what the store is.
    let before = std::fs::read(&to).expect("a file");
    let refused = store.backup(&to, false);
    assert!(
        matches!(&refused, Err(StoreError::Unavailable { reason }) if reason.contains("there"))
    );
    assert_eq!(std::fs::read(&to).expect("a file"), before);
    store
        .commit(Batch { deliveries: vec![delivery("X.1", "X", "chat", at(0))], ..Batch::default() })
        .await
        .expect("saved");
    store.backup(&to, true).expect("a copy");
    assert!(!folder.path().join("copy.db.part").exists());
    let restored = open(&to);
    let (from, until) = (jiff::Timestamp::MIN, jiff::Timestamp::MAX);
    let all = |store: Arc<SqliteStore>| async move {
        let page = PageRequest::default();
        (
            store.incidents_within(from, until, true).await.expect("incidents"),
            store.deliveries(&DeliveryFilter::default(), &page).await.expect("deliveries"),
            store.stats().await.expect("the stats"),
        )
    };
    assert_eq!(all(Arc::new(restored)).await, all(Arc::clone(&store)).await);
    let nowhere = folder.path().join("no/such/folder/copy.db");
    assert!(matches!(store.backup(&nowhere, false), Err(StoreError::Unavailable { .. })));
}

#[tokio::test]
async fn a_check_finds_what_does_not_agree() {
    let planted = [
        ("DELETE FROM incidents WHERE rowid = 1", "not there"),
        ("DELETE FROM findings WHERE rowid = 1", "without findings"),
        ("UPDATE incidents SET findings_total = 7 WHERE rowid = 2", "miscounts"),
        ("UPDATE incidents SET state = 'resolved' WHERE rowid = 2", "columns differ"),
        ("UPDATE deliveries SET state = 'failed' WHERE number = 1", "does not look so"),
        ("UPDATE deliveries SET in_turn = 1 WHERE number = 2", "out of its turn"),
        ("UPDATE deliveries SET ready_at = 0 WHERE number = 1", "another time"),
        ("UPDATE findings SET shown = NULL WHERE rowid = 1", "without content"),
        ("UPDATE findings SET echo_of = 'nobody' WHERE rowid = 1", "echoes none"),
    ];
    for (sql, problem) in planted {
        let folder = folder();
        let path = folder.path().join("store.db");
        let store = open(&path);
        let mut batch = opening((0..5).map(lonely).collect());
        batch.deliveries = ["X.1", "X.2"].map(|alert| delivery(alert, "X", "chat", at(0))).to_vec();
        store.commit(batch).await.expect("saved");
        assert_eq!(store.check().expect("a look"), Vec::<String>::new());
        behind(&path, sql);
        let found = store.check().expect("a look");
        assert!(found.iter().any(|one| one.contains(problem)), "{sql}: {found:?}");
    }
}

/// The head of an incident as version 0.1 before the rename of its kinds wrote it.
const OLD_HEAD: &str = r#"{"id":"7K2-MPX","kind":"KIND","state":"open","severity":"high",
    "title":"Trail stopped","accounts":["222233334444"],"root_use":"no",
    "reasons":[{"code":"telling_broken","text":"no alert is delivered"}],
    "first_at":"2026-05-04T10:00:00Z","last_at":"2026-05-04T10:00:00Z","addresses":[],
    "related":[],"findings":[],"superseded":[],"echoes":{}}"#;

#[tokio::test]
async fn a_database_with_the_former_names_of_kinds_means_the_same() {
    let kinds = [("watch", IncidentKind::RuleMatch), ("telling", IncidentKind::DeliveryOutage)];
    for (former, kind) in kinds {
        let folder = folder();
        let path = folder.path().join("store.db");
        drop(open(&path));
        let head = OLD_HEAD.replace("KIND", former);
        behind(
            &path,
            &format!(
                "INSERT INTO incidents (id, revision, kind, state, severity, first_at, last_at,
                     head, told, findings_total, changed_at)
                 VALUES ('7K2-MPX', 1, '{former}', 'open', 3, 0, 0, '{head}',
                     '{{\"alerts\":1,\"severity\":\"high\",\"closed\":false,\"history\":false}}', 0, 0)"
            ),
        );
        let store = open(&path);
        let filter = IncidentFilter { kinds: vec![kind], ..IncidentFilter::default() };
        let listed = store.incidents(&filter, &PageRequest::default()).await.expect("a page");
        assert_eq!(listed.items.len(), 1, "{former}");
        assert_eq!(listed.items[0].incident.kind, kind);
        assert_eq!(listed.items[0].notified.severity, Some(Severity::High));
        let id = IncidentId("7K2-MPX".to_owned());
        let loaded = store.incidents_of(&[id]).await.expect("incidents");
        assert_eq!(loaded[0].incident.title, "Trail stopped");
    }
}

#[tokio::test]
async fn pending_deliveries_with_the_former_names_of_alerts_are_still_sent() {
    let kinds = [
        (r#""kind":"rose","from":"low""#, AlertKind::Escalated { from: Severity::Low }),
        (r#""kind":"reopened""#, AlertKind::Continued),
        (
            r#""kind":"left_window","window":"CHG-1""#,
            AlertKind::OutsideWindow { window: "CHG-1".to_owned() },
        ),
        (
            r#""kind":"telling_broken","destination":"chat""#,
            AlertKind::DeliveryFailing { destination: "chat".to_owned() },
        ),
        (
            r#""kind":"telling_mended","destination":"chat""#,
            AlertKind::DeliveryRecovered { destination: "chat".to_owned() },
        ),
    ];
    for (former, kind) in kinds {
        let folder = folder();
        let path = folder.path().join("store.db");
        let store = open(&path);
        let deliveries = vec![delivery("X.1", "X", "chat", at(0))];
        store.commit(Batch { deliveries, ..Batch::default() }).await.expect("saved");
        drop(store);
        let replace = format!(
            r#"UPDATE deliveries SET alert = replace(alert, '"kind":"opened"', '{former}')"#
        );
        behind(&path, &replace);
        let leased = open(&path).lease(at(1), at(60), 9, &[]).await.expect("a lease");
        assert_eq!(leased.len(), 1, "{former}");
        assert_eq!(leased[0].alert.kind, kind);
    }
}
