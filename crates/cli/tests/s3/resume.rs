//! A scan that is killed or interrupted resumes from its checkpoint.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::server::{Server, relay};
use crate::{Bucket, Ran, archive, as_in_bucket, program, run, scan};

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_was_killed_goes_on_and_finds_the_same() {
    let bucket = Bucket::new("resume").await;
    let folder = tempfile::tempdir().expect("a folder");
    archive::write(folder.path(), 20);
    archive::put(folder.path(), "AWSLogs/damaged.json", b"{\"Records\":[{\"eventName\":");
    bucket.put_folder(folder.path()).await;
    let port = bucket.standin.port();
    let server = Server::start(move |heard| {
        if heard.is_get_of("") {
            std::thread::sleep(Duration::from_millis(40));
        }
        relay(port, heard)
    });
    let checkpoint = folder.path().join("scan.checkpoint");
    let checkpoint_path = checkpoint.to_str().expect("UTF-8").to_owned();
    let url = bucket.url("");
    // An age, which is another moment at every run.
    let args =
        ["scan", "--format", "jsonl", &url, "--since", "4000d", "--checkpoint", &checkpoint_path];
    let command = |more: &[&str]| {
        let mut command = program(&bucket.standin.endpoint(), Some(&server.url()));
        command.args(args).args(more);
        command
    };

    let mut child = command(&["--s3-concurrency", "4"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program");
    let begin = Instant::now();
    // The head, and two times that something was done.
    while std::fs::read_to_string(&checkpoint).unwrap_or_default().lines().count() < 3 {
        assert!(begin.elapsed() < Duration::from_secs(60), "nothing is written down");
        assert!(child.try_wait().expect("a process").is_none(), "it ended before it was killed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("a process");
    let before = server.gets();
    assert!(before < 180, "killed too late: {before}");

    let gone_on = run(command(&[])).await;
    let after = server.gets() - before;
    let whole = scan(bucket.standin, None, &[&url]).await;
    assert_eq!(whole.lines().len(), 180);
    assert_eq!((gone_on.code, &gone_on.out), (3, &whole.out), "{}", gone_on.err);
    assert!(gone_on.err.contains("damaged.json"), "told, whoever came to it: {}", gone_on.err);
    assert!(after < 181, "it began anew: {after} objects after {before}");
    std::fs::remove_file(folder.path().join("scan.checkpoint")).ok();
    let local = scan(bucket.standin, None, &[folder.path().to_str().expect("UTF-8")]).await;
    assert_eq!(gone_on.out, as_in_bucket(&local.out, folder.path(), "resume"));
}

/// All objects are listed long before they are fetched: the rest of the listing must not count as done.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_scan_says_that_it_is_incomplete_and_resumes() {
    let bucket = Bucket::new("interrupted").await;
    let folder = tempfile::tempdir().expect("a folder");
    archive::write(folder.path(), 20);
    bucket.put_folder(folder.path()).await;
    let port = bucket.standin.port();
    let server = Server::start(move |heard| {
        if heard.is_get_of("") {
            std::thread::sleep(Duration::from_millis(40));
        }
        relay(port, heard)
    });
    let checkpoint = folder.path().join("scan.checkpoint").to_str().expect("UTF-8").to_owned();
    let url = bucket.url("");
    let mut command = program(&bucket.standin.endpoint(), Some(&server.url()));
    command.args(["scan", "--format", "jsonl", &url, "--checkpoint", &checkpoint]);
    let child = command
        .args(["--s3-concurrency", "4"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let begin = Instant::now();
    while server.gets() < 8 {
        assert!(begin.elapsed() < Duration::from_secs(60), "nothing is fetched");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let pid = child.id().to_string();
    let sent = std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill");
    assert!(sent.success());
    let first = crate::ran(child.wait_with_output().expect("the program"));
    let before = server.gets();
    assert!(before < 180, "interrupted too late: {before}");
    assert_eq!(first.code, 3, "{}", first.err);
    assert!(first.err.contains("interrupted: not all objects were read"), "{}", first.err);

    let whole = scan(bucket.standin, None, &[&url]).await;
    let args = [url.as_str(), "--checkpoint", &checkpoint];
    let resumed = scan(bucket.standin, Some(&server.url()), &args).await;
    assert_eq!((resumed.code, &resumed.out), (0, &whole.out), "{}", resumed.err);
    assert_eq!(whole.lines().len(), 180);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_done_asks_nothing_and_one_of_another_scan_is_refused() {
    let bucket = Bucket::new("resumed").await;
    let folder = tempfile::tempdir().expect("a folder");
    archive::write(folder.path(), 2);
    bucket.put_folder(folder.path()).await;
    let port = bucket.standin.port();
    let server = Server::start(move |heard| relay(port, heard));
    let checkpoint = folder.path().join("scan.checkpoint").to_str().expect("UTF-8").to_owned();
    let url = bucket.url("AWSLogs");
    let again = async |more: &[&str]| -> Ran {
        let args = [&[url.as_str(), "--checkpoint", &checkpoint], more].concat();
        scan(bucket.standin, Some(&server.url()), &args).await
    };
    let first = again(&[]).await;
    assert_eq!((first.code, first.lines().len()), (0, 18), "{}", first.err);
    let asked = server.heard().len();
    let second = again(&[]).await;
    assert_eq!((second.code, &second.out), (0, &first.out), "{}", second.err);
    assert_eq!(server.heard().len(), asked, "all was done");
    for (more, what) in [
        (&["--account", "111122223333"][..], "--account was not set"),
        (&["--since", "2026-05-01"], "--since was not set"),
        (&["s3://another"], "paths was"),
        (&["--record-bytes-max", "2048"], "--record-bytes-max was"),
    ] {
        let refused = again(more).await;
        assert_eq!((refused.code, refused.out.as_str()), (2, ""), "{}", refused.err);
        assert!(refused.err.contains(what), "{what}: {}", refused.err);
        assert!(refused.err.contains("hint: "), "{}", refused.err);
    }
}
