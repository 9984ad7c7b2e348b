//! What the tests of the hub's commands share: the program as a child whose lines are waited for.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::program;

/// Longest wait for anything: on a machine that is busy with other tests.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// The token `hub-test` in the clear.
pub(crate) const TOKEN: &str = "hub-test";

/// A `[[token]]` block for [`TOKEN`] that may do everything.
pub(crate) fn token_block() -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, TOKEN.as_bytes());
    let sha256: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "[[token]]\nname = \"test\"\nsha256 = \"{sha256}\"\nscopes = [\"ingest\", \"read\", \"write\"]\n"
    )
}

/// The program, without what the caller's environment says of a hub.
pub(crate) fn hub_program() -> Command {
    let mut command = program();
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROOTWATCH_") {
            command.env_remove(name);
        }
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true").stdin(Stdio::null());
    command
}

/// A configuration file in a folder.
pub(crate) fn file(folder: &Path, text: &str) -> String {
    let path = folder.join("rootwatch.toml");
    std::fs::write(&path, text).expect("a temporary folder");
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// A program that goes on, with its lines as they come.
#[derive(Debug)]
pub(crate) struct Going {
    child: Child,
    lines: Receiver<String>,
    /// All lines so far.
    pub(crate) said: Vec<String>,
}

impl Going {
    /// Starts it; lines of both outputs come together.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
        let (sender, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("a pipe")),
            Box::new(child.stderr.take().expect("a pipe")),
        ];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    // Nobody may be waiting any more.
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines, said: Vec::new() }
    }

    /// Waits for a line that holds this text, also among those that came.
    pub(crate) fn line_with(&mut self, text: &str) -> String {
        if let Some(line) = self.said.iter().find(|line| line.contains(text)) {
            return line.clone();
        }
        let begin = Instant::now();
        loop {
            match self.lines.recv_timeout(WAIT_MAX.saturating_sub(begin.elapsed())) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("no line with {text:?}:\n{}", self.said.join("\n")),
            }
        }
    }

    /// The address in the line that says where it listens.
    pub(crate) fn address(&mut self) -> SocketAddr {
        let line = self.line_with("http://127.0.0.1:");
        let rest = line.split("http://").nth(1).expect("an address");
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
        let address = rest[..end.unwrap_or(rest.len())].trim_end_matches(['.', ':']);
        address.parse().expect("an address")
    }

    /// Asks it to end, as a service manager does.
    pub(crate) fn terminate(&self) {
        let id = self.child.id().to_string();
        let killed = Command::new("kill").args(["-s", "TERM", &id]).status();
        assert!(killed.expect("kill").success());
    }

    /// Waits for the end; the exit code, and all that it said.
    pub(crate) fn end(mut self) -> (i32, Vec<String>) {
        let begin = Instant::now();
        // The lines end when the program does.
        while let Ok(line) = self.lines.recv_timeout(WAIT_MAX.saturating_sub(begin.elapsed())) {
            self.said.push(line);
        }
        assert!(begin.elapsed() < WAIT_MAX, "it goes on:\n{}", self.said.join("\n"));
        let status = self.child.wait().expect("our own child");
        (status.code().expect("no signal"), std::mem::take(&mut self.said))
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One HTTP request with the token; the status and the body.
pub(crate) fn ask(hub: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(hub).expect("the hub listens");
    stream.set_read_timeout(Some(WAIT_MAX)).expect("a socket");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {hub}\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("a socket");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (status.expect("a status"), body.unwrap_or_default())
}
