//! `rootwatch scan` on S3, on queues and on LookupEvents: the built program against an emulator of
//! AWS's API over the wire, and through a server that misbehaves.
//!
//! The stand-in has no `LookupEvents` with root use and throttles nobody: that part is played by a
//! server of our own, in AWS's published shapes.

#![cfg(unix)]

mod archive;
mod deployed;
mod fan_out;
mod listing;
mod lookup;
mod resume;
mod server;
#[path = "../../../hub/tests/deploy/stage.rs"]
#[allow(dead_code, reason = "other crates' tests need the rest of it")]
mod stage;
#[path = "../../../hub/tests/sources/standin.rs"]
#[allow(dead_code, reason = "other crates' tests need the rest of it")]
mod standin;
mod trouble;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use futures_util::StreamExt as _;

use crate::standin::{ACCOUNT, Standin};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What a run of the program came to.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn lines(&self) -> Vec<serde_json::Value> {
        let parse = |line| serde_json::from_str(line).expect("a line of JSON");
        self.out.lines().map(parse).collect()
    }
}

/// The program, with an environment in which AWS is at these places and nowhere else.
fn program(endpoint: &str, s3: Option<&str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rootwatch"));
    command.current_dir(root()).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command
        .env("AWS_ACCESS_KEY_ID", ACCOUNT)
        .env("AWS_SECRET_ACCESS_KEY", "none")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/nonexistent")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        .env("AWS_ENDPOINT_URL", endpoint);
    if let Some(s3) = s3 {
        command.env("AWS_ENDPOINT_URL_S3", s3);
    }
    command
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().expect("no signal"),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Runs it beside the test's own tasks.
async fn run(mut command: Command) -> Ran {
    let output = tokio::task::spawn_blocking(move || command.output());
    ran(output.await.expect("a task").expect("the program"))
}

async fn scan(standin: &Standin, s3: Option<&str>, args: &[&str]) -> Ran {
    let mut command = program(&standin.endpoint(), s3);
    command.args(["scan", "--format", "jsonl"]).args(args);
    run(command).await
}

/// A bucket of the stand-in's.
struct Bucket {
    standin: &'static Standin,
    s3: aws_sdk_s3::Client,
    name: String,
}

impl Bucket {
    async fn new(name: &str) -> Self {
        let standin = standin::shared().await;
        let config = aws_sdk_s3::config::Builder::from(&standin.sdk()).force_path_style(true);
        let s3 = aws_sdk_s3::Client::from_conf(config.build());
        s3.create_bucket().bucket(name).send().await.expect("a bucket");
        Self { standin, s3, name: name.to_owned() }
    }

    async fn put(&self, key: &str, body: Vec<u8>) {
        let request = self.s3.put_object().bucket(&self.name).key(key).body(body.into());
        request.send().await.expect("an object");
    }

    /// Uploads a folder; keys are the paths in it.
    async fn put_folder(&self, folder: &Path) {
        let files = archive::files(folder);
        futures_util::stream::iter(files)
            .for_each_concurrent(8, async |path| {
                let key = path.strip_prefix(folder).expect("a path").to_str().expect("UTF-8");
                self.put(key, std::fs::read(&path).expect("a file")).await;
            })
            .await;
    }

    fn url(&self, prefix: &str) -> String {
        format!("s3://{}/{prefix}", self.name)
    }
}

/// The output of a scan of a local folder, as a scan of the same files in a bucket has to be.
fn as_in_bucket(out: &str, folder: &Path, bucket: &str) -> String {
    let folder = format!("{}/", folder.to_str().expect("UTF-8"));
    out.replace(&folder, &format!("s3://{bucket}/"))
}
