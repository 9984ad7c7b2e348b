//! The built program, started, killed and started again on one store and one port.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::clock::Clock;
use super::standin::ACCOUNT;

/// Longest wait for the program to be ready.
const READY: Duration = Duration::from_secs(30);

/// A hub that can be killed.
#[derive(Debug)]
pub(crate) struct Program {
    /// Its wall clock.
    pub(crate) clock: Clock,
    config: PathBuf,
    address: SocketAddr,
    child: Option<Child>,
    client: reqwest::Client,
}

impl Program {
    pub(crate) fn new(config: &Path, address: SocketAddr) -> Self {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .build()
            .expect("a client without special wishes");
        let clock = Clock::new(config.parent().expect("a file in a folder"));
        Self { clock, config: config.to_owned(), address, child: None, client }
    }

    /// Starts the program and waits until `path` says that it is well: `/readyz`, or `/livez` where
    /// it cannot be ready.
    pub(crate) async fn start(&mut self, path: &str) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.config.with_extension("log"))
            .expect("a log file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_rootwatch"));
        self.clock.lend(&mut command);
        let child = command
            .args(["serve", "--config"])
            .arg(&self.config)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ACCESS_KEY_ID", ACCOUNT)
            .env("AWS_SECRET_ACCESS_KEY", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the built program");
        self.child = Some(child);
        let begin = Instant::now();
        loop {
            let ready = self.client.get(format!("http://{}{path}", self.address)).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            if let Some(child) = &mut self.child
                && let Ok(Some(status)) = child.try_wait()
            {
                panic!("the hub ended with {status}: {}", self.log_end());
            }
            assert!(begin.elapsed() < READY, "the hub is not ready: {}", self.log_end());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// `SIGKILL`: no time to do anything.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        }
    }

    /// The end of what the program said.
    pub(crate) fn log_end(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = std::fs::File::open(self.config.with_extension("log")) {
            let _ = file.read_to_string(&mut text);
        }
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
