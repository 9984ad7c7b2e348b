//! The built program: exit code, standard output and standard error.

mod config;
#[cfg(unix)]
mod demo;
#[cfg(unix)]
mod docs;
mod hostile;
mod hub;
mod pattern;
mod rules;
mod scan;
#[cfg(unix)]
mod serve;
#[cfg(unix)]
#[path = "../../../hub/tests/sources/standin.rs"]
#[allow(dead_code, reason = "only a part of it is needed here")]
mod standin;
#[cfg(unix)]
mod store;
mod story;
#[cfg(unix)]
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What a run of the program came to.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    /// Standard output as one JSON value a line.
    fn lines(&self) -> Vec<serde_json::Value> {
        let parse = |line| serde_json::from_str(line).expect("a line of JSON");
        self.out.lines().map(parse).collect()
    }

    /// `event_id` of every line of `--format jsonl`, in order.
    fn ids(&self) -> Vec<String> {
        let id = |line: &serde_json::Value| line["event_id"].as_str().expect("an id").to_owned();
        self.lines().iter().map(id).collect()
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The program in the project's folder, with nothing of the caller's environment that changes what
/// it prints.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rootwatch"));
    command.current_dir(root());
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "COLUMNS"] {
        command.env_remove(name);
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

fn run(args: &[&str]) -> Ran {
    ran(program().args(args).stdin(Stdio::null()).output().expect("the program"))
}

fn run_with(args: &[&str], input: &[u8]) -> Ran {
    let mut child = program()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        // A program that stops reading early closes the pipe; that is its right.
        scope.spawn(move || drop(stdin.write_all(input)));
        ran(child.wait_with_output().expect("the program"))
    })
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// A record of the root user, found by its id.
fn record(id: &str) -> String {
    format!(
        r#"{{"eventVersion":"1.11","userIdentity":{{"type":"Root","accountId":"222233334444"}},"eventTime":"2026-05-04T14:00:00Z","eventSource":"s3.amazonaws.com","eventName":"ListBuckets","awsRegion":"us-east-1","eventID":"{id}","readOnly":true,"recipientAccountId":"222233334444"}}"#
    )
}

/// A log file of root records.
fn log(ids: &[&str]) -> String {
    let records: Vec<String> = ids.iter().map(|id| record(id)).collect();
    format!("{{\"Records\":[{}]}}", records.join(","))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).expect("memory")
}
