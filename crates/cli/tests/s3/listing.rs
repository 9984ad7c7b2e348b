//! What is found, what is listed and fetched for it, and in how much memory.

#[cfg(target_os = "linux")]
use crate::program;
use crate::server::{Server, relay};
use crate::{Bucket, Ran, archive, as_in_bucket, root, scan, standin};

#[tokio::test(flavor = "multi_thread")]
async fn the_story_in_a_bucket_gives_the_findings_of_the_story_on_disk() {
    let bucket = Bucket::new("story").await;
    let folder = root().join("fixtures/story");
    bucket.put_folder(&folder).await;
    let folder = std::path::Path::new("fixtures/story");
    for filters in [
        &[][..],
        &["--account", "222233334444"],
        &["--region", "us-east-1,eu-west-1", "--since", "2026-05-04T13:00:00Z"],
        &["--until", "2026-05-04T14:00:00Z", "--min-severity", "high"],
        &["--since", "2027-01-01"],
    ] {
        let local =
            scan(bucket.standin, None, &[&["fixtures/story/AWSLogs"], filters].concat()).await;
        let url = bucket.url("AWSLogs");
        let away = scan(bucket.standin, None, &[&[url.as_str()], filters].concat()).await;
        assert_eq!(
            away.out,
            as_in_bucket(&local.out, folder, "story"),
            "{filters:?}: {}",
            away.err
        );
        assert_eq!((local.code, away.code), (0, 0), "{filters:?}: {}", away.err);
        assert!(away.err.contains(" LIST") && away.err.contains("list price"), "{}", away.err);
    }
    let url = bucket.url("AWSLogs/");
    let both = scan(bucket.standin, None, &["fixtures/story/AWSLogs", &url]).await;
    let once = scan(bucket.standin, None, &["fixtures/story/AWSLogs"]).await;
    assert_eq!((both.code, both.out), (0, once.out), "what is read twice counts once");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_filters_allow_is_listed_and_fetched() {
    let bucket = Bucket::new("filters").await;
    let folder = tempfile::tempdir().expect("a folder");
    archive::write(folder.path(), 20);
    bucket.put_folder(folder.path()).await;
    let port = bucket.standin.port();
    let server = Server::start(move |heard| relay(port, heard));
    let filters = [
        "--account",
        "222233334444",
        "--region",
        "eu-west-1",
        "--since",
        "2026-05-05T00:00:00Z",
        "--until",
        "2026-05-07T00:00:00Z",
    ];
    let url = bucket.url("");
    let args = [&[url.as_str()], &filters[..]].concat();
    let away = scan(bucket.standin, Some(&server.url()), &args).await;
    let path = folder.path().to_str().expect("UTF-8");
    let local = scan(bucket.standin, None, &[&[path], &filters[..]].concat()).await;
    assert_eq!(away.out, as_in_bucket(&local.out, folder.path(), "filters"), "{}", away.err);
    assert_eq!((away.code, away.lines().len()), (0, 2), "{}", away.err);

    let heard = server.heard();
    let lists: Vec<&str> =
        heard.iter().filter(|one| one.is_list()).map(|one| one.line.as_str()).collect();
    let is_below_an_account = |line: &str, account: &str| line.contains(&format!("{account}%2F"));
    assert!(lists.iter().any(|line| is_below_an_account(line, "222233334444")), "{lists:?}");
    for account in ["111122223333", "333344445555"] {
        assert!(!lists.iter().any(|line| is_below_an_account(line, account)), "{lists:?}");
    }
    let deep: Vec<&&str> = lists.iter().filter(|line| line.contains("CloudTrail%2F")).collect();
    assert_eq!(deep.len(), 1, "one range of keys is one request: {lists:?}");
    assert!(deep[0].contains("eu-west-1%2F") && deep[0].contains("start-after="), "{deep:?}");
    assert!(deep[0].contains("2026%2F05%2F04%2F"), "{deep:?}");
    // 5 and 6 May, and a week in which records of them may still have been delivered.
    let mut days: Vec<String> = heard
        .iter()
        .filter(|one| one.is_get_of(""))
        .map(|one| one.line.split("/2026/05/").nth(1).expect("a day")[..2].to_owned())
        .collect();
    days.sort();
    let expected: Vec<String> = (5..=14).map(|day| format!("{day:02}")).collect();
    assert!(days == expected[..9] || days == expected, "{days:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_without_the_layout_are_read_too_and_names_are_as_exact_as_they_are_given() {
    let bucket = Bucket::new("plain").await;
    let record = |id| archive::log(id, "111122223333", "us-east-1", "2026-05-04T12:00:00Z", 1);
    for (key, id) in
        [("exports/a b+c/é.json.gz", "1"), ("exports/deep/er/x", "2"), ("exports2/x", "3")]
    {
        bucket.put(key, record(id)).await;
    }
    bucket.put("exports/README.md", b"# notes".to_vec()).await;
    bucket.put("exports/folder/", Vec::new()).await;
    let ids = |ran: &Ran| -> Vec<String> {
        ran.lines()
            .iter()
            .map(|line| line["event_id"].as_str().expect("an id").to_owned())
            .collect()
    };
    for (prefix, found) in [
        ("exports", &["1", "2"][..]),
        ("exports/", &["1", "2"]),
        ("exports*", &["1", "2", "3"]),
        ("exports/deep/er/x", &["2"]),
        ("", &["1", "2", "3"]),
    ] {
        let ran = scan(bucket.standin, None, &[&bucket.url(prefix)]).await;
        assert_eq!(
            (ran.code, ids(&ran)),
            (0, found.iter().map(|id| (*id).to_owned()).collect()),
            "{prefix}: {}",
            ran.err
        );
    }
    for (url, reason) in [
        (bucket.url("none/"), "no object is there"),
        ("s3://no-such-bucket/".to_owned(), "NoSuchBucket"),
    ] {
        let ran = scan(bucket.standin, None, &[&url]).await;
        assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{}", ran.err);
        assert!(ran.err.contains(reason) && ran.err.contains(&url), "{}", ran.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_another_account_is_read_with_a_role() {
    let standin = standin::shared().await;
    let role = "arn:aws:iam::222233334444:role/audit";
    let as_owner = async |operation: &str, parameters| {
        standin.call_as(role, "s3", operation, parameters).await;
    };
    as_owner("create_bucket", serde_json::json!({"Bucket": "theirs"})).await;
    let text = format!(
        "{{\"Records\":[{}]}}",
        archive::root_record("theirs-1", "222233334444", "us-east-1", "2026-05-04T12:00:00Z")
    );
    as_owner(
        "put_object",
        serde_json::json!({"Bucket": "theirs", "Key": "log.json", "Body": text}),
    )
    .await;
    let without = scan(standin, None, &["s3://theirs"]).await;
    assert_eq!((without.code, without.out.as_str()), (3, ""), "{}", without.err);
    let with = scan(standin, None, &["s3://theirs", "--role-arn", role, "--requester-pays"]).await;
    assert_eq!((with.code, with.lines().len()), (0, 1), "{}", with.err);
    assert_eq!(with.lines()[0]["file"], "s3://theirs/log.json");
}

/// Most memory that a scan ever had, in KiB, and what it printed.
#[cfg(target_os = "linux")]
async fn peak_of(bucket: &Bucket, prefix: &str) -> (u64, usize) {
    use std::process::Stdio;
    let mut command = program(&bucket.standin.endpoint(), None);
    command.args(["scan", "--format", "jsonl", "--quiet", &bucket.url(prefix)]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the program");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let reader = {
        let mut out = child.stdout.take().expect("a pipe");
        std::thread::spawn(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut out, &mut text).expect("UTF-8");
            text.lines().count()
        })
    };
    while child.try_wait().expect("a process").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok());
        peak = peak.max(now.unwrap_or(0));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    (peak, reader.join().expect("output"))
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn ten_times_the_objects_take_no_more_memory() {
    use futures_util::StreamExt as _;
    let bucket = Bucket::new("memory").await;
    let many = 60_u32;
    let body = archive::log("same", "111122223333", "us-east-1", "2026-05-01T12:00:00Z", 400);
    futures_util::stream::iter(0..11 * many)
        .for_each_concurrent(8, async |number| {
            let folder = if number < many { "few" } else { "many" };
            bucket.put(&format!("{folder}/{number:05}.json.gz"), body.clone()).await;
        })
        .await;
    let (few, found) = peak_of(&bucket, "few/").await;
    let (ten_times, found_in_many) = peak_of(&bucket, "many/").await;
    println!("peak of {many} objects {few} KiB, of {} objects {ten_times} KiB", 10 * many);
    assert_eq!((found, found_in_many), (1, 1), "the same record everywhere");
    assert!(few > 0 && ten_times < few + (24 << 10), "{few} KiB, then {ten_times} KiB");
}
