//! Watched folders.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use rootwatch_hub::sources::{DirectoryConfig, start};
use tokio::task::JoinHandle;

use super::fake::Fake;
use super::{gzip, log_file, record, until};

async fn watch(fake: &Fake, root: &Path) -> Vec<JoinHandle<()>> {
    let config = DirectoryConfig { poll_secs: 1, ..DirectoryConfig::new("drop", root) };
    start(&[], &[config], &fake.surroundings()).await.expect("a source")
}

/// A file that has been there for a while.
fn write_old(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, bytes).expect("a file");
    let file = fs::File::options().write(true).open(path).expect("a file");
    file.set_modified(SystemTime::now() - Duration::from_secs(7_200)).expect("a time");
}

/// Waits until a whole look has begun and ended after this: the second of two new files is read in a
/// look after that of the first. Gives the ids that were saved besides.
async fn look_again(fake: &Fake, root: &Path) -> Vec<String> {
    for _ in 0..2 {
        let number = fs::read_dir(root).expect("a folder").count();
        let id = format!("look-{number}");
        write_old(&root.join(format!("{id}.json")), record(&id).as_bytes());
        until("a look", async || fake.seen.has(&[&id])).await;
    }
    fake.seen.ids().into_iter().filter(|id| !id.starts_with("look-")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_once_and_a_restart_reads_only_what_is_new() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let day = root.join("AWSLogs/222233334444/CloudTrail/us-east-1/2026/05/04");
    let name = "222233334444_CloudTrail_us-east-1_20260504T1405Z_Ab12.json.gz";
    write_old(&day.join(name), &gzip(log_file(&["archived"]).as_bytes()));
    write_old(&day.join("222233334444_CloudTrail-Digest_us-east-1_x_20260504T1405Z.json.gz"), b"");
    write_old(&root.join("README.md"), b"# Log files");
    write_old(&root.join("nothing.json"), b"{\"Records\":[]}");
    let fake = Fake::new();
    let tasks = watch(&fake, root).await;
    until("the archive", async || fake.seen.has(&["archived"])).await;
    // New ones: read when they are settled.
    fs::write(root.join("new.json"), record("new")).expect("a file");
    fs::create_dir(root.join("later")).expect("a folder");
    fs::write(root.join("later/new.json"), record("newer")).expect("a file");
    until("the new ones", async || fake.seen.has(&["new", "newer"])).await;
    // Grown: read whole.
    let grown = format!("{}\n{}\n", record("new"), record("grown"));
    fs::write(root.join("new.json"), grown).expect("a file");
    until("what was added", async || fake.seen.has(&["grown"])).await;
    look_again(&fake, root).await;
    assert_eq!(fake.seen.times("archived"), 1);
    assert_eq!(fake.seen.times("newer"), 1);
    fake.close();
    for task in tasks {
        task.await.expect("no panic");
    }

    write_old(&day.join("late.json"), record("late").as_bytes());
    let next = Fake::with_positions(fake.seen.positions());
    watch(&next, root).await;
    until("the late one", async || next.seen.has(&["late"])).await;
    assert_eq!(look_again(&next, root).await, ["late"]);
    assert_eq!(next.status.sources(), [("directory:drop".to_owned(), None)]);
    next.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_ends_early_is_read_again_when_it_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let ids: Vec<String> = (0..500).map(|number| format!("{number:03}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let whole = gzip(log_file(&ids).as_bytes());
    fs::write(root.join("copied.json.gz"), &whole[..whole.len() / 2]).expect("a file");
    let fake = Fake::new();
    let tasks = watch(&fake, root).await;
    until("the sound part", async || !fake.seen.ids().is_empty()).await;
    assert!(fake.seen.ids().len() < 500);
    let saved = look_again(&fake, root).await.len();
    assert_eq!(fake.seen.times("000"), 1, "not read again as long as it does not change");
    fs::write(root.join("copied.json.gz"), &whole).expect("a file");
    until("all", async || fake.seen.has(&ids)).await;
    assert!(saved < 500, "{saved}");
    fake.close();
    for task in tasks {
        task.await.expect("no panic");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_saved_is_not_remembered_as_read() {
    let folder = tempfile::tempdir().expect("a folder");
    write_old(&folder.path().join("one.json"), record("one").as_bytes());
    let fake = Fake::new();
    fake.seen.fails.store(true, Ordering::SeqCst);
    let tasks = watch(&fake, folder.path()).await;
    until("some tries", async || fake.seen.calls() > 3).await;
    assert!(fake.seen.positions().is_empty());
    fake.seen.fails.store(false, Ordering::SeqCst);
    until("the file", async || fake.seen.has(&["one"])).await;
    assert_eq!(fake.seen.positions().len(), 1);
    fake.close();
    for task in tasks {
        task.await.expect("no panic");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_there_is_trouble_until_it_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("mounted");
    let fake = Fake::new();
    watch(&fake, &root).await;
    until("trouble", async || {
        fake.status.sources().iter().any(|(_, trouble)| {
            trouble.as_deref().is_some_and(|reason| reason.contains("no such file"))
        })
    })
    .await;
    write_old(&root.join("one.json"), record("one").as_bytes());
    until("the file", async || fake.seen.has(&["one"])).await;
    until("no trouble", async || fake.status.sources().iter().all(|(_, why)| why.is_none())).await;
    fake.close();
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn links_in_a_circle_and_pipes_do_not_hold_the_watch_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    fs::create_dir(root.join("sub")).expect("a folder");
    std::os::unix::fs::symlink("..", root.join("sub/up")).expect("a link");
    std::os::unix::fs::symlink("self", root.join("self")).expect("a link");
    let pipe = std::process::Command::new("mkfifo").arg(root.join("pipe.json")).status();
    assert!(pipe.expect("mkfifo").success());
    write_old(&root.join("sub/one.json"), record("one").as_bytes());
    let fake = Fake::new();
    watch(&fake, root).await;
    until("the file", async || fake.seen.has(&["one"])).await;
    assert_eq!(look_again(&fake, root).await, ["one"]);
    assert_eq!(fake.seen.times("one"), 1);
    fake.close();
}
