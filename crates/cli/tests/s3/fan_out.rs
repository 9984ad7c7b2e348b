//! Objects on the hub's queue, and following it.

use std::collections::BTreeMap;

use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};

use crate::standin::ACCOUNT;
use crate::{Bucket, archive, program, run, scan};

struct Queue {
    sqs: aws_sdk_sqs::Client,
    url: String,
    dead: String,
}

impl Queue {
    async fn new(bucket: &Bucket, name: &str) -> Self {
        let sqs = aws_sdk_sqs::Client::new(&bucket.standin.sdk());
        let made = sqs.create_queue().queue_name(format!("{name}-dead")).send().await;
        let dead = made.expect("a queue").queue_url.expect("a URL");
        let redrive = json!({
            "deadLetterTargetArn": format!("arn:aws:sqs:us-east-1:{ACCOUNT}:{name}-dead"),
            "maxReceiveCount": 2,
        });
        let made = sqs
            .create_queue()
            .queue_name(name)
            .attributes(QueueAttributeName::RedrivePolicy, redrive.to_string());
        let url = made.send().await.expect("a queue").queue_url.expect("a URL");
        Self { sqs, url, dead }
    }

    /// Takes everything out.
    async fn drain(&self) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let request =
                self.sqs.receive_message().queue_url(&self.url).max_number_of_messages(10);
            let messages = request.send().await.expect("messages").messages.unwrap_or_default();
            if messages.is_empty() {
                return all;
            }
            for message in messages {
                let handle = message.receipt_handle.expect("a handle");
                let delete = self.sqs.delete_message().queue_url(&self.url).receipt_handle(handle);
                delete.send().await.expect("deleted");
                let body = message.body.expect("a body");
                all.push(serde_json::from_str(&body).expect("JSON"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_is_on_the_queue_once_and_the_queue_is_followed_to_its_end() {
    let bucket = Bucket::new("fan-out").await;
    let queue = Queue::new(&bucket, "fan-out").await;
    let folder = tempfile::tempdir().expect("a folder");
    archive::write(folder.path(), 10);
    archive::put(folder.path(), "AWSLogs/a b+c é.json", b"[]");
    bucket.put_folder(folder.path()).await;
    let status = async |more: &[&str]| {
        let mut command = program(&bucket.standin.endpoint(), None);
        command.args(["scan", "status", &queue.url]).args(more);
        run(command).await
    };
    let empty = status(&[]).await;
    assert_eq!(empty.code, 0, "{}", empty.err);

    let checkpoint = folder.path().join("c").to_str().expect("UTF-8").to_owned();
    let args = [&bucket.url(""), "--fan-out", &queue.url, "--checkpoint", &checkpoint];
    let told = scan(bucket.standin, None, &args).await;
    assert_eq!(told.code, 0, "{}", told.err);
    let told = &told.lines()[0];
    assert_eq!((&told["objects"], &told["skipped"]), (&json!(91), &json!(0)), "{told}");
    let history = told["history"].as_str().expect("a name").to_owned();
    let again = scan(bucket.standin, None, &args).await;
    assert_eq!(again.lines()[0], *told, "what is on the queue is not put there again");

    let waiting = status(&[]).await;
    assert_eq!(waiting.code, 1, "{}", waiting.err);
    assert_eq!(waiting.lines()[0]["visible"], told["messages"]);
    assert_eq!(waiting.lines()[0]["dead_letters"], 0);

    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for message in queue.drain().await {
        assert_eq!(message["rootwatch"]["history"], history.as_str());
        let records = message["Records"].as_array().expect("records");
        assert!(records.len() <= 25, "{}", records.len());
        for record in records {
            assert_eq!(record["eventSource"], "aws:s3");
            assert_eq!(record["s3"]["bucket"]["name"], "fan-out");
            let key = record["s3"]["object"]["key"].as_str().expect("a key").to_owned();
            *seen.entry(key).or_default() += 1;
        }
    }
    let mut expected: Vec<String> = archive::files(folder.path())
        .iter()
        .map(|path| path.strip_prefix(folder.path()).expect("a path").display().to_string())
        .filter(|key| !key.contains("Digest") && key != "c")
        .map(|key| if key.contains("a b") { "AWSLogs/a+b%2Bc+%C3%A9.json".to_owned() } else { key })
        .collect();
    expected.sort();
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), expected);

    let done = status(&["--watch", "--every", "1"]).await;
    assert_eq!((done.code, done.lines().len()), (0, 3), "{}", done.out);
    let dead = queue.sqs.send_message().queue_url(&queue.dead).message_body("unreadable");
    dead.send().await.expect("a message");
    let dead = status(&["--format", "table"]).await;
    assert_eq!(dead.code, 3, "{}", dead.out);
    assert!(dead.out.contains("fan-out-dead"), "{}", dead.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_not_there_is_an_error_and_not_an_empty_one() {
    let bucket = Bucket::new("no-queue").await;
    bucket.put("x.json", b"[]".to_vec()).await;
    let url = format!("{}/{ACCOUNT}/no-such-queue", bucket.standin.endpoint());
    let mut command = program(&bucket.standin.endpoint(), None);
    command.args(["scan", "status", "--watch", &url]);
    let status = run(command).await;
    let sent = scan(bucket.standin, None, &[&bucket.url(""), "--fan-out", &url]).await;
    for ran in [status, sent] {
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(ran.err.contains("no-such-queue"), "{}", ran.err);
    }
}
