//! `cargo bench -p rootwatch-lambda`: how fast a function starts and answers, and what it needs for
//! that, beside the smallest useful one in Python that does without a memory.
//!
//! Both are real processes that a runtime API sends the same events, one after the other, and both
//! publish to a topic of the same AWS stand-in. Ours also decides, and keeps what it decided in
//! DynamoDB. Python runs with AWS's own runtime client for it.

#![allow(clippy::print_stdout, reason = "this is a program for developers")]

#[path = "../tests/function/runtime.rs"]
mod runtime;
#[path = "../../hub/tests/sources/standin.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod standin;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command as Blocking;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rootwatch_store::dynamo::DynamoStore;
use runtime::Instance;
use serde_json::{Value, json};
use standin::Standin;
use tokio::process::Command;
use tokio::sync::Mutex;

/// Processes that are started of each.
const STARTS: usize = 11;
/// Invocations of one process after its first.
const WARM: usize = 50;
/// Root sessions that were of late where that is measured.
const SESSIONS: usize = 10;
/// Events of the queue that is drained, and of one batch.
const DRAINED: u32 = 600;
const DRAIN_BATCH: u32 = 50;
/// AWS's runtime client for Python, pinned.
const CLIENT: &str = "awslambdaric==4.2.2";

/// The program that is measured: this build's, or one that the environment names, such as that of the
/// package.
fn function() -> PathBuf {
    let named = std::env::var_os("ROOTWATCH_BENCH_FUNCTION").map(PathBuf::from);
    named.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_bootstrap")))
}

/// What was measured of one function.
#[derive(Default)]
struct Measured {
    first: Vec<f64>,
    warm: Vec<f64>,
    peak_kib: Vec<f64>,
}

fn main() {
    // `cargo test --benches` asks whether it compiles and runs; this one takes long.
    if std::env::args().any(|word| word == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(run());
}

async fn run() {
    let standin = standin::shared().await;
    let topic = standin.call("sns", "create_topic", json!({ "Name": "bench" })).await;
    let topic = topic["TopicArn"].as_str().expect("an ARN").to_owned();
    let python = python(standin);
    let endpoint = standin.endpoint();
    let aws = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", standin::ACCOUNT),
        ("AWS_SECRET_ACCESS_KEY", "none"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    let ours: Vec<(&str, &str)> = aws
        .iter()
        .copied()
        .chain([
            ("ROOTWATCH_STORE__TABLE", "bench"),
            ("ROOTWATCH_NOTIFY__DESTINATION__SNS__CHANNEL", "sns"),
            ("ROOTWATCH_NOTIFY__DESTINATION__SNS__TOPIC", &topic),
            ("ROOTWATCH_LOG", "info"),
        ])
        .collect();
    let task_root = concat!(env!("CARGO_MANIFEST_DIR"), "/benches");
    let theirs: Vec<(&str, &str)> = aws
        .iter()
        .copied()
        .chain([("TOPIC", topic.as_str()), ("LAMBDA_TASK_ROOT", task_root)])
        .collect();
    let mut rootwatch = Measured::default();
    let mut sample = Measured::default();
    let mut number = 0;
    for start in 0..=STARTS {
        // In turn, so that a machine that slows down slows both down; the first warms the file cache.
        let table = format!("start-{start}");
        let found = measure(ours_program(), &over(standin, &ours, &table).await, &mut number).await;
        let mut other = Command::new(&python);
        other.args(["-m", "awslambdaric", "one_message.handler"]).current_dir(task_root);
        other.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let of_sample = measure(other, &theirs, &mut number).await;
        if start > 0 {
            rootwatch.add(found);
            sample.add(of_sample);
        }
    }
    let size = std::fs::metadata(function()).map_or(0, |file| file.len());
    println!("{STARTS} starts of each in turn, {WARM} more invocations after each");
    println!("                               ours            Python, keeps nothing   ratio");
    row("start to first answer, ms", &rootwatch.first, &sample.first);
    row("next answers, ms", &rootwatch.warm, &sample.warm);
    row("peak memory, MB", &rootwatch.peak_kib, &sample.peak_kib);
    println!("program, MB                    {:.1}", size as f64 / 1e6);

    // What was of late is read when a process begins, for a record may belong to it.
    let crowded = over(standin, &ours, "crowded").await;
    let mut among = Measured::default();
    for session in 0..SESSIONS + STARTS {
        let found = measure(ours_program(), &crowded, &mut number).await;
        if session >= SESSIONS {
            among.add(found);
        }
    }
    let calls = WARM + 1;
    println!(
        "\nthe same, where {SESSIONS} to {} sessions of {calls} calls were of late",
        SESSIONS + STARTS
    );
    row("start to first answer, ms", &among.first, &sample.first);
    row("peak memory, MB", &among.peak_kib, &sample.peak_kib);

    println!(
        "\n{DRAINED} events of {DRAIN_BATCH} a batch, each an incident of its own, drained by"
    );
    for processes in [1, 2, 4] {
        let table = format!("drain-{processes}");
        let environment = over(standin, &ours, &table).await;
        let (secs, again) = drain(processes, &environment, &mut number).await;
        let rate = f64::from(DRAINED) / secs;
        println!(
            "{processes} processes: {secs:6.1} s, {rate:7.0} events/s, {again} batches sent again"
        );
    }
}

/// The environment with a new table.
async fn over<'a>(
    standin: &Standin,
    environment: &[(&'a str, &'a str)],
    table: &'a str,
) -> Vec<(&'a str, &'a str)> {
    DynamoStore::create_table(&standin.sdk(), table).await.expect("a table");
    let of_table = |(name, value): &(&'a str, &'a str)| match *name {
        "ROOTWATCH_STORE__TABLE" => (*name, table),
        _ => (*name, *value),
    };
    environment.iter().map(of_table).collect()
}

fn ours_program() -> Command {
    let mut program = Command::new(function());
    program.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    program
}

/// Drains a queue of events with so many processes at once; gives the seconds, and how many batches
/// were not done at the first time.
async fn drain(processes: usize, environment: &[(&str, &str)], number: &mut u32) -> (f64, u32) {
    let batches = DRAINED / DRAIN_BATCH;
    let queue: VecDeque<Value> = (0..batches)
        .map(|_| {
            let records: Vec<Value> = (0..DRAIN_BATCH)
                .map(|place| {
                    json!({
                        "messageId": format!("m-{place}"), "eventSource": "aws:sqs",
                        "body": event(number).to_string(),
                    })
                })
                .collect();
            json!({ "Records": records })
        })
        .collect();
    let queue = Arc::new(Mutex::new(queue));
    let mut instances = Vec::new();
    for _ in 0..processes {
        let mut instance = Instance::start(ours_program(), environment).await;
        // Started before the clock is.
        instance.invoke(json!({ "rootwatch": "tick" })).await.expect("an answer");
        instances.push(instance);
    }
    let begin = Instant::now();
    let mut tasks = Vec::new();
    for mut instance in instances {
        let queue = Arc::clone(&queue);
        tasks.push(tokio::spawn(async move {
            let mut again = 0;
            loop {
                let next = queue.lock().await.pop_front();
                let Some(batch) = next else { return again };
                let answer = instance.invoke(batch.clone()).await.expect("an answer");
                if answer["batchItemFailures"].as_array().is_none_or(|failed| !failed.is_empty()) {
                    again += 1;
                    queue.lock().await.push_back(batch);
                }
            }
        }));
    }
    let mut again = 0;
    for task in tasks {
        again += task.await.expect("drained");
    }
    (begin.elapsed().as_secs_f64(), again)
}

impl Measured {
    fn add(&mut self, other: Self) {
        self.first.extend(other.first);
        self.warm.extend(other.warm);
        self.peak_kib.extend(other.peak_kib);
    }
}

/// Median, and the range.
fn row(what: &str, ours: &[f64], theirs: &[f64]) {
    let sorted = |numbers: &[f64]| {
        let mut numbers = numbers.to_vec();
        numbers.sort_by(f64::total_cmp);
        numbers
    };
    let (ours, theirs) = (sorted(ours), sorted(theirs));
    let middle = |numbers: &[f64]| numbers[numbers.len() / 2];
    let shown = |numbers: &[f64]| {
        let last = numbers[numbers.len() - 1];
        format!("{:.1} ({:.1}..{last:.1})", middle(numbers), numbers[0])
    };
    let ratio = middle(&theirs) / middle(&ours);
    println!("{what:28} {:>20} {:>24} {ratio:8.1}", shown(&ours), shown(&theirs));
}

/// One root session: a sign-in is the first that the process hears of it, and then come its calls.
async fn measure(program: Command, environment: &[(&str, &str)], number: &mut u32) -> Measured {
    let begin = Instant::now();
    let mut instance = Instance::start(program, environment).await;
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let sign_in = event(number);
    instance.invoke(sign_in.clone()).await.expect("an answer");
    let first = vec![millis(begin.elapsed())];
    let mut warm = Vec::new();
    for place in 0..WARM {
        let mut call = sign_in.clone();
        call["source"] = "aws.iam".into();
        call["detail"]["eventSource"] = "iam.amazonaws.com".into();
        call["detail"]["eventName"] = format!("List{place}").into();
        call["detail"]["eventType"] = "AwsApiCall".into();
        call["detail"]["readOnly"] = true.into();
        call["detail"]["eventID"] = format!("{}-{place}", sign_in["id"]).into();
        let begin = Instant::now();
        instance.invoke(call).await.expect("an answer");
        warm.push(millis(begin.elapsed()));
    }
    let peak = instance.peak_kib().map(|kib| kib as f64 / 1024.0);
    Measured { first, warm, peak_kib: peak.into_iter().collect() }
}

/// A root sign-in; each is another incident, of an account and an hour of its own.
fn event(number: &mut u32) -> Value {
    *number += 1;
    let account = format!("{:012}", 111_122_223_333_u64 + u64::from(*number % 400));
    let at = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(i64::from(*number % 1000));
    json!({
        "version": "0", "id": format!("event-{number}"), "source": "aws.signin",
        "detail-type": "AWS Console Sign In via CloudTrail", "account": account,
        "time": at.to_string(), "region": "us-east-1", "resources": [],
        "detail": {
            "eventVersion": "1.11", "eventTime": at.to_string(),
            "userIdentity": {
                "type": "Root", "principalId": account, "accountId": account,
                "arn": format!("arn:aws:iam::{account}:root"),
            },
            "eventSource": "signin.amazonaws.com", "eventName": "ConsoleLogin",
            "awsRegion": "us-east-1", "sourceIPAddress": format!("203.0.113.{}", *number % 250),
            "userAgent": "Mozilla/5.0", "requestParameters": null,
            "responseElements": { "ConsoleLogin": "Success" },
            "additionalEventData": { "MFAUsed": "No", "MobileVersion": "No" },
            "eventID": format!("00000000-0000-4000-8000-{number:012}"), "readOnly": false,
            "eventType": "AwsConsoleSignIn", "managementEvent": true,
            "recipientAccountId": account, "eventCategory": "Management",
        },
    })
}

/// The stand-in's Python with the runtime client beside it.
fn python(standin: &Standin) -> PathBuf {
    let python = standin.python().to_owned();
    let asks = format!(
        "import importlib.metadata as m; assert m.version('awslambdaric') == '{}'",
        &CLIENT[14..]
    );
    let is_there = Blocking::new(&python).args(["-c", &asks]).output();
    if !is_there.is_ok_and(|output| output.status.success()) {
        let pip = ["-m", "pip", "install", "--quiet", CLIENT];
        let status = Blocking::new(&python).args(pip).status().expect("pip");
        assert!(status.success(), "cannot install {CLIENT}");
    }
    assert!(Path::new(&python).exists());
    python
}
