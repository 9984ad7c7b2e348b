//! A small HTTP server that hears everything: in front of the stand-in, or in its place. One request
//! a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// `GET /bucket/key HTTP/1.1`
    pub(crate) line: String,
    /// Header lines, in lower case.
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
}

impl Heard {
    pub(crate) fn is_list(&self) -> bool {
        self.line.contains("list-type=2")
    }

    pub(crate) fn is_get_of(&self, part: &str) -> bool {
        self.line.starts_with("GET ") && !self.is_list() && self.line.contains(part)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let line = self.headers.iter().find(|line| line.starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim())
    }
}

/// A server that runs as long as the test's process.
pub(crate) struct Server {
    port: u16,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Server {
    /// Answers each request with the bytes that `answer` gives; the connection is closed after them.
    pub(crate) fn start(answer: impl Fn(&Heard) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let (answer, told) = (Arc::new(answer), Arc::clone(&heard));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, told) = (Arc::clone(&answer), Arc::clone(&told));
                std::thread::spawn(move || {
                    let Some(heard) = hear(&stream) else { return };
                    told.lock().unwrap_or_else(PoisonError::into_inner).push(heard.clone());
                    // The program may have been killed meanwhile.
                    let _ = (&stream).write_all(&answer(&heard));
                });
            }
        });
        Self { port, heard }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many objects were asked for so far.
    pub(crate) fn gets(&self) -> usize {
        self.heard().iter().filter(|heard| heard.is_get_of("")).count()
    }
}

fn hear(stream: &TcpStream) -> Option<Heard> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim_end();
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':')?;
        headers.push(format!("{}:{value}", name.to_ascii_lowercase()));
    }
    let mut heard =
        Heard { line: line.trim_end().to_owned(), headers, body: Vec::new(), at: Instant::now() };
    let length = heard.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    heard.body = vec![0; length];
    reader.read_exact(&mut heard.body).ok()?;
    Some(heard)
}

/// What the stand-in answers.
pub(crate) fn relay(port: u16, heard: &Heard) -> Vec<u8> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the stand-in");
    let headers: String = heard
        .headers
        .iter()
        .filter(|line| !line.starts_with("connection:"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let head = format!("{}\r\n{headers}connection: close\r\n\r\n", heard.line);
    stream.write_all(head.as_bytes()).expect("a request");
    stream.write_all(&heard.body).expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    answer
}

/// An answer of our own.
pub(crate) fn answer(status: &str, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// An error as S3 words it.
pub(crate) fn s3_error(status: &str, code: &str) -> Vec<u8> {
    let body = format!("<Error><Code>{code}</Code><Message>said by the test</Message></Error>");
    answer(status, "application/xml", &body)
}
