//! Mail: against a mail server with TLS and sign-in, and against one that answers as it is told.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mail_parser::{MessageParser, MimeHeaders as _};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rootwatch_core::alert::{Alert, AlertKind, Clock as _, CloseReason};
use rootwatch_core::delivery::Delivery;
use rootwatch_core::finding::Severity;
use rootwatch_core::text::width;
use rootwatch_notify::channels::email::{HTML_BYTES_MAX, SUBJECT_COLUMNS_MAX, html};
use rootwatch_notify::channels::{ChannelConfig, Message};
use rootwatch_notify::{Notifier, Sent, Wording};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{Manual, Memory, at, config, notifier, opened, plain};
use crate::words::{alerts, rendered};

const NOW: &str = "2026-05-04T14:07:40Z";
const PASSWORD: &str = "hush-hush";

/// A mail as a snapshot shows it: its head as it goes over the line, and its parts as they are read.
pub(crate) fn shown(mail: &str) -> String {
    let (head, _) = mail.split_once("\r\n\r\n").expect("a head");
    let read = MessageParser::new().parse(mail.as_bytes()).expect("a mail");
    let html = read.body_html(0).expect("HTML").replace("&#847;&zwnj;&nbsp;", "");
    let text = read.body_text(0).expect("a text");
    format!("{head}\n\n{text}\n\n{html}").replace('\r', "")
}

/// Authority, certificate for `localhost` and its key, as files.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(authority, key).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let own = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        let own = own.signed_by(&key, &authority).expect("a certificate");
        let files = Self { folder };
        std::fs::write(files.path("ca.pem"), authority.pem()).expect("a file");
        std::fs::write(files.path("own.pem"), own.pem()).expect("a file");
        std::fs::write(files.path("key.pem"), key.serialize_pem()).expect("a file");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A mail server with TLS and sign-in. It ends when this is dropped.
struct Smtpd {
    process: Child,
    lines: BufReader<ChildStdout>,
    port: u16,
    files: Files,
}

impl Smtpd {
    fn start(mode: &str) -> Self {
        let files = Files::new();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/mail/smtpd.py");
        let mut process = Command::new(python())
            .arg(script)
            .arg(mode)
            .args([files.path("own.pem"), files.path("key.pem")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        let mut lines = BufReader::new(process.stdout.take().expect("its output"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("a port");
        Self { port: line.trim().parse().expect("a port"), process, lines, files }
    }

    /// The next mail that it took.
    fn mail(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).expect("JSON")
    }

    fn destination(&self, more: Value) -> Value {
        let mut keys = json!({
            "port": self.port, "tls": "starttls", "user": "rootwatch", "password": PASSWORD,
            "ca_file": self.files.path("ca.pem"),
        });
        merge(&mut keys, more);
        destination(keys)
    }
}

impl Drop for Smtpd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Python with what fixtures/aws/requirements.txt names; installed when it is not there.
fn python() -> PathBuf {
    let own = std::env::current_exe().expect("a program");
    // target/<profile>/deps/<this>
    let folder = own.ancestors().nth(3).expect("a target folder").join("aws-standin");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/aws/set_up.py");
    let mut tried = Vec::new();
    for name in ["python3", "python", "py"] {
        match Command::new(name).arg(&script).arg(&folder).output() {
            Ok(output) if output.status.success() => {
                return String::from_utf8(output.stdout).expect("UTF-8").trim().into();
            }
            Ok(output) => tried.push(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => tried.push(format!("{name}: {error}")),
        }
    }
    panic!("the mail server cannot be installed:\n{}", tried.join("\n"));
}

fn merge(keys: &mut Value, more: Value) {
    if let (Value::Object(keys), Value::Object(more)) = (keys, more) {
        keys.extend(more);
    }
}

fn destination(more: Value) -> Value {
    let mut keys = json!({
        "channel": "email", "host": "localhost", "allow_private": true, "timeout_secs": 5,
        "from": "Rootwatch <rootwatch@example.com>", "to": ["anna@example.com", "Bob <bob@example.com>"],
    });
    merge(&mut keys, more);
    keys
}

/// A notifier with this one destination, and what it remembers.
struct NotifiedState {
    notifier: Arc<Notifier>,
    clock: Arc<Manual>,
    memory: Memory,
}

impl NotifiedState {
    fn new(destination: Value) -> Self {
        let text = json!({ "destination": { "a": destination } }).to_string();
        let clock = Manual::new(NOW);
        Self { notifier: notifier(&config(&text), &clock), clock, memory: Memory::default() }
    }

    async fn send(&self, alert: &Alert) -> Sent {
        let delivery = Delivery::new(alert.clone(), "a", self.clock.now());
        self.notifier.send(&delivery, &self.memory).await
    }

    async fn probe(&self) -> Sent {
        self.notifier.probe("a").await.expect("a destination")
    }
}

/// An alert of the catalogue, with a number of its own.
fn of(name: &str, number: usize) -> Alert {
    let (_, mut alert) = alerts().into_iter().find(|one| one.0 == name).expect("an alert");
    alert.id = format!("{}.{number}", alert.thread());
    alert
}

fn header<'a>(mail: &'a Value, name: &str) -> &'a str {
    let all = mail["headers"].as_array().expect("headers");
    let found: Vec<&str> = all
        .iter()
        .filter(|pair| pair[0].as_str().is_some_and(|own| own.eq_ignore_ascii_case(name)))
        .filter_map(|pair| pair[1].as_str())
        .collect();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_of_one_incident_are_a_thread_and_both_parts_say_the_same() {
    let mut server = Smtpd::start("starttls");
    let told = NotifiedState::new(server.destination(json!({ "cc": ["boss@example.com"] })));
    let mut mails = Vec::new();
    for (number, name) in ["opened", "escalated", "taken", "closed"].into_iter().enumerate() {
        let alert = of(name, number + 1);
        let sent = told.send(&alert).await;
        assert!(
            matches!(&sent, Sent::Delivered { receipt } if receipt.contains("taken")),
            "{sent:?}"
        );
        mails.push(server.mail());
    }
    let thread = header(&mails[0], "References").to_owned();
    let mut ids: Vec<&str> = Vec::new();
    for mail in &mails {
        assert_eq!(mail["defects"], json!([]));
        assert_eq!(mail["encrypted"], true);
        assert_eq!(mail["from"], "rootwatch@example.com");
        assert_eq!(mail["to"], json!(["anna@example.com", "bob@example.com", "boss@example.com"]));
        assert_eq!(mail["type"], "multipart/alternative");
        assert_eq!(header(mail, "References"), thread);
        assert_eq!(header(mail, "In-Reply-To"), thread);
        assert_eq!(header(mail, "Auto-Submitted"), "auto-generated");
        assert_eq!(header(mail, "Date"), "Mon, 04 May 2026 14:07:40 +0000");
        let parts = mail["parts"].as_array().expect("parts");
        let kinds: Vec<&str> = parts.iter().filter_map(|part| part[0].as_str()).collect();
        assert_eq!(kinds, ["text/plain", "text/html"]);
        for part in parts {
            let text = part[1].as_str().expect("a text");
            assert!(text.contains("prod-payments (222233334444, Production)"), "{text}");
            // Its address asks for a token: it is named, and cannot be clicked on.
            assert!(text.contains("GET /v1/incidents/"), "{text}");
            assert!(!text.contains("hub.example.com"), "{text}");
        }
        ids.push(header(mail, "Message-ID"));
    }
    assert!(!ids.contains(&thread.as_str()));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    let subjects: Vec<&str> = mails.iter().map(|mail| header(mail, "Subject")).collect();
    let what = "Root user signed in without MFA · prod-payments (222233334444, Production)";
    assert_eq!(subjects[0], format!("CRITICAL · {what}"));
    assert_eq!(subjects[1], format!("CRITICAL (was high) · {what}"));
    assert_eq!(subjects[2], format!("Re: CRITICAL (was high) · {what}"));
    assert_eq!(subjects[3], subjects[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_begins_with_tls_is_used_as_well_and_a_retry_bears_the_same_id() {
    let mut server = Smtpd::start("tls");
    let told = NotifiedState::new(server.destination(json!({ "tls": "tls" })));
    assert!(matches!(told.send(&opened()).await, Sent::Delivered { .. }));
    let first = server.mail();
    assert_eq!(first["encrypted"], true);
    // Another program, which remembers nothing: the answer was lost.
    let other = NotifiedState::new(server.destination(json!({ "tls": "tls" })));
    assert!(matches!(other.send(&opened()).await, Sent::Delivered { .. }));
    assert_eq!(first["raw"], server.mail()["raw"]);
    // What is remembered is not sent again.
    let again = told.send(&opened()).await;
    assert_eq!(again, Sent::Delivered { receipt: "all recipients have it".to_owned() });
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_is_refused_does_not_lose_the_others_the_mail_and_is_named() {
    let mut server = Smtpd::start("starttls");
    let to = json!({ "to": ["gone@example.com", "bob@example.com"] });
    let told = NotifiedState::new(server.destination(to));
    let sent = told.send(&opened()).await;
    let Sent::Delivered { receipt } = &sent else { panic!("{sent:?}") };
    assert!(
        receipt.starts_with("not to gone@example.com: 550") && receipt.contains("no such user"),
        "{receipt}"
    );
    assert_eq!(server.mail()["to"], json!(["bob@example.com"]));
    let probe = told.probe().await;
    assert!(matches!(&probe, Sent::Rejected { error } if error.contains("gone@")), "{probe:?}");
    let nobody = NotifiedState::new(server.destination(json!({ "to": ["gone@example.com"] })));
    let sent = nobody.send(&opened()).await;
    assert!(
        matches!(&sent, Sent::Rejected { error } if error.contains("no such user")),
        "{sent:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_sends_nothing_and_a_wrong_password_or_certificate_is_named() {
    let mut server = Smtpd::start("starttls");
    let other = Files::new();
    let told = NotifiedState::new(server.destination(json!({})));
    assert!(matches!(told.probe().await, Sent::Delivered { .. }));
    for (more, words) in [
        (json!({ "password": "not-this-one" }), "sign-in"),
        (json!({ "ca_file": null }), "not trusted"),
        (json!({ "host": "127.0.0.1" }), "not trusted"),
        (json!({ "ca_file": other.path("ca.pem") }), "not trusted"),
    ] {
        let told = NotifiedState::new(server.destination(more));
        for sent in [told.probe().await, told.send(&opened()).await] {
            let Sent::Misconfigured { error } = &sent else { panic!("{sent:?}") };
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("not-this-one") && !error.contains(PASSWORD), "{error}");
        }
    }
    // The first mail that the server took is the one that was sent, not a probe.
    assert!(matches!(told.send(&opened()).await, Sent::Delivered { .. }));
    assert!(header(&server.mail(), "Subject").starts_with("CRITICAL"));
}

/// A mail server that says what it is told to a command that begins so; otherwise, what is right.
#[derive(Debug, Clone)]
struct Scripted {
    port: u16,
    /// Commands and answers: an empty answer hangs up, `hang` waits.
    answers: Vec<(&'static str, &'static str)>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    async fn new(answers: &[(&'static str, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let own = Self { port, answers: answers.to_vec(), said: Arc::default() };
        let server = own.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        own
    }

    async fn serve(self, mut stream: TcpStream) {
        let (read, mut write) = stream.split();
        let mut lines = tokio::io::BufReader::new(read).lines();
        let mut line = "GREETING".to_owned();
        let mut in_mail = false;
        loop {
            if in_mail {
                in_mail = line != ".";
                if in_mail {
                    let Ok(Some(next)) = lines.next_line().await else { return };
                    line = next;
                    continue;
                }
                line = "END".to_owned();
            }
            self.said.lock().expect("what was said").push(line.clone());
            let told = self.answers.iter().find(|(command, _)| line.starts_with(command));
            let answer = match told {
                Some((_, answer)) => *answer,
                None if line.starts_with("GREETING") => "220 ready",
                None if line.starts_with("EHLO") => {
                    "250-here\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN"
                }
                None if line.starts_with("DATA") => "354 go on",
                None if line.starts_with("AUTH") => "235 in",
                None if line.starts_with("QUIT") => "221 bye",
                None => "250 OK",
            };
            match answer {
                "" => return,
                "hang" => tokio::time::sleep(Duration::from_secs(60)).await,
                _ => {}
            }
            in_mail = answer.starts_with("354");
            if write.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
                return;
            }
            let Ok(Some(next)) = lines.next_line().await else { return };
            line = next;
        }
    }

    fn destination(&self, more: Value) -> Value {
        let mut keys = json!({ "port": self.port, "tls": "none", "timeout_secs": 2,
            "user": "rootwatch", "password": PASSWORD });
        merge(&mut keys, more);
        destination(keys)
    }

    /// How many of the commands begin so.
    fn count(&self, command: &str) -> usize {
        let said = self.said.lock().expect("what was said");
        said.iter().filter(|line| line.starts_with(command)).count()
    }
}

#[tokio::test]
async fn answers_mean_what_they_mean() {
    for (command, answer, is) in [
        ("GREETING", "421 too busy", "later"),
        ("GREETING", "554 no mail here", "rejected"),
        ("GREETING", "", "later"),
        ("GREETING", "no SMTP at all", "later"),
        ("EHLO", "502 what", "rejected"),
        ("EHLO", "hang", "later"),
        ("AUTH", "535 5.7.8 wrong AHJvb3R3YXRjaABodXNoLWh1c2g= hush-hush", "misconfigured"),
        ("AUTH", "534 too weak", "misconfigured"),
        ("AUTH", "504 no such way", "misconfigured"),
        ("AUTH", "454 not now", "later"),
        ("MAIL", "530 sign in first", "misconfigured"),
        ("MAIL", "451 not now", "later"),
        ("MAIL", "553 not yours", "rejected"),
        ("RCPT", "450 come back", "later"),
        ("RCPT", "421 leaving", "later"),
        ("RCPT", "550 nobody", "rejected"),
        ("DATA", "451 not now", "later"),
        ("DATA", "", "later"),
        ("END", "", "later"),
        ("END", "hang", "later"),
        ("END", "451 not now", "later"),
        ("END", "452 full", "later"),
        ("END", "552 too large", "rejected"),
        ("END", "554 spam", "rejected"),
        ("END", "250 2.0.0 taken as 7", "delivered"),
        ("QUIT", "", "delivered"),
    ] {
        let server = Scripted::new(&[(command, answer)]).await;
        let told = NotifiedState::new(server.destination(json!({})));
        let begin = Instant::now();
        let sent = told.send(&opened()).await;
        let was = match &sent {
            Sent::Delivered { .. } => "delivered",
            Sent::RetryAfter { after: None, .. } => "later",
            Sent::RetryAfter { .. } => "later, after a time",
            Sent::Rejected { .. } => "rejected",
            Sent::Misconfigured { .. } => "misconfigured",
        };
        assert_eq!(was, is, "{command} {answer}: {sent:?}");
        assert!(begin.elapsed() < Duration::from_secs(4), "{command} {answer}");
        if let Some(code) = answer.get(..3).filter(|code| code.parse::<u16>().is_ok()) {
            let shown = format!("{sent:?}");
            assert!(is == "delivered" || shown.contains(code), "{command} {answer}: {shown}");
        }
        for secret in [PASSWORD, "AHJvb3R3YXRjaABodXNoLWh1c2g="] {
            assert!(!format!("{sent:?}").contains(secret), "{sent:?}");
        }
    }
}

#[tokio::test]
async fn who_was_not_taken_is_tried_again_alone() {
    let server = Scripted::new(&[("RCPT TO:<anna", "450 4.2.0 greylisted")]).await;
    let told = NotifiedState::new(server.destination(json!({})));
    for round in 1..=2 {
        let sent = told.send(&opened()).await;
        let Sent::RetryAfter { error, .. } = &sent else { panic!("{sent:?}") };
        assert!(error.contains("not to anna@example.com: 450"), "{error}");
        assert_eq!(server.count("RCPT TO:<anna"), round);
        assert_eq!((server.count("RCPT TO:<bob"), server.count("END")), (1, 1));
    }
    // Another alert goes to both again.
    assert!(matches!(told.send(&of("escalated", 2)).await, Sent::RetryAfter { .. }));
    assert_eq!((server.count("RCPT TO:<bob"), server.count("END")), (2, 2));
}

#[tokio::test]
async fn nothing_goes_unencrypted_and_nobody_sends_who_cannot_sign_in() {
    let server = Scripted::new(&[]).await;
    let told = NotifiedState::new(server.destination(json!({ "tls": "starttls" })));
    let sent = told.send(&opened()).await;
    let Sent::Misconfigured { error } = &sent else { panic!("{sent:?}") };
    assert!(error.contains("STARTTLS"), "{error}");
    assert_eq!((server.count("AUTH"), server.count("MAIL"), server.count("DATA")), (0, 0, 0));
    let plain = Scripted::new(&[("EHLO", "250 here")]).await;
    let told = NotifiedState::new(plain.destination(json!({})));
    let sent = told.send(&opened()).await;
    assert!(matches!(&sent, Sent::Misconfigured { error } if error.contains("AUTH")), "{sent:?}");
    assert_eq!(plain.count("MAIL"), 0);
}

/// Somebody on the way, who slips answers in behind the one to STARTTLS: for all that follows.
async fn between(port: u16) -> u16 {
    const SLIPPED: &[u8] =
        b"250-evil\r\n250 AUTH PLAIN\r\n235 in\r\n250 a\r\n250 b\r\n250 c\r\n354 d\r\n250 taken\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let own = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("a client");
        let mut server = TcpStream::connect(("127.0.0.1", port)).await.expect("the server");
        let (mut asked, mut said) = ([0_u8; 4096], [0_u8; 4096]);
        let mut is_next = false;
        loop {
            tokio::select! {
                count = client.read(&mut asked) => {
                    let Ok(count @ 1..) = count else { return };
                    is_next = asked[..count].starts_with(b"STARTTLS");
                    let _ = server.write_all(&asked[..count]).await;
                }
                count = server.read(&mut said) => {
                    let Ok(count @ 1..) = count else { return };
                    let mut bytes = said[..count].to_vec();
                    if is_next {
                        bytes.extend_from_slice(SLIPPED);
                    }
                    let _ = client.write_all(&bytes).await;
                }
            }
        }
    });
    own
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_were_slipped_in_before_tls_are_not_believed() {
    let server = Smtpd::start("starttls");
    let port = between(server.port).await;
    // The server refuses everybody: to believe the others would be to lose the mail.
    let keys = json!({ "port": port, "to": ["gone@example.com", "gone-too@example.com"] });
    let sent = NotifiedState::new(server.destination(keys)).send(&opened()).await;
    assert!(matches!(&sent, Sent::RetryAfter { error, .. } if error.contains("TLS")), "{sent:?}");
}

#[tokio::test]
async fn servers_that_are_not_on_the_internet_are_refused_unless_allowed() {
    let server = Scripted::new(&[]).await;
    let keys = json!({ "tls": "starttls", "allow_private": false });
    let sent = NotifiedState::new(server.destination(keys)).send(&opened()).await;
    assert!(
        matches!(&sent, Sent::Misconfigured { error } if error.contains("not on the internet")),
        "{sent:?}"
    );
    assert_eq!(server.count(""), 0);
}

#[test]
fn faults_are_found_offline() {
    for (more, key) in [
        (json!({ "to": [] }), "to"),
        (json!({ "to": ["anna"] }), "to"),
        (json!({ "to": ["anna@example.com\r\nBcc: x@example.com"] }), "to"),
        (json!({ "cc": ["@"] }), "cc"),
        (json!({ "from": "nobody" }), "from"),
        (json!({ "reply_to": "" }), "reply_to"),
        (json!({ "host": "a b" }), "host"),
        (json!({ "port": 0 }), "port"),
        (json!({ "host": "10.0.0.7", "allow_private": false }), "host"),
        (json!({ "user": "x" }), "password"),
        (json!({ "tls": "none", "allow_private": false }), "tls"),
        (json!({ "to": vec!["anna@example.com"; 101] }), "to"),
    ] {
        let text = json!({ "destination": { "a": destination(more.clone()) } }).to_string();
        let problems = Notifier::check(&config(&text));
        let wanted = format!("notify.destination.a.{key}");
        assert!(
            problems.iter().any(|one| one.to_string().contains(&wanted)),
            "{more}: {problems:?}"
        );
    }
    let right = json!({ "to": vec!["anna@example.com"; 100] });
    let text = json!({ "destination": { "a": destination(right) } }).to_string();
    assert_eq!(Notifier::check(&config(&text)).len(), 0);
    let lost = destination(json!({ "ca_file": "/nowhere/ca.pem" }));
    let text = json!({ "destination": { "a": lost } }).to_string();
    let opened = Notifier::new(&config(&text), &plain, Manual::new(NOW));
    assert!(opened.expect_err("no file")[0].to_string().contains("ca_file"));
}

#[test]
fn mails_keep_their_limits_and_nothing_of_a_stranger_is_markup_or_a_header() {
    for (name, alert) in alerts() {
        let mail = rendered("email", &alert);
        assert_eq!(mail, rendered("email", &alert), "{name}: the same each time");
        let text = String::from_utf8(mail.clone()).expect("UTF-8");
        assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 998), "{name}");
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "{name}: CR LF only");
        let read = MessageParser::new().parse(&mail).expect("a mail");
        assert_eq!(read.parts.len(), 3, "{name}");
        assert_eq!(read.header_raw("Set-Cookie"), None, "{name}");
        let subject = read.subject().expect("a subject");
        assert!(width(subject) <= SUBJECT_COLUMNS_MAX && !subject.is_empty(), "{name}: {subject}");
        let html = read.body_html(0).expect("HTML");
        assert!(html.len() <= HTML_BYTES_MAX && html.contains("</html>"), "{name}: {}", html.len());
        for evil in [
            "<!channel>",
            "<https",
            "<&",
            "://evil",
            "\u{202e}",
            "\u{1b}",
            "<script",
            "<img",
            "src=",
        ] {
            assert!(!html.contains(evil), "{name}: {evil}");
        }
        let links = html.matches("href=").count();
        assert_eq!(links, 0, "{name}: without an address of the hub there is no link");
        assert!(!read.body_text(0).expect("a text").contains("://evil"), "{name}");
        assert!(read.parts.iter().all(|part| part.attachment_name().is_none()), "{name}");
    }
}

/// A message of this alert with other words.
fn with_words<T>(
    alert: &Alert,
    change: impl Fn(&mut Wording),
    look: impl Fn(&Message<'_>) -> T,
) -> T {
    let server = json!({ "tls": "starttls" });
    let told = NotifiedState::new(destination(server));
    let delivery = Delivery::new(alert.clone(), "a", told.clock.now());
    let mut wording = told.notifier.word(&delivery).expect("words");
    change(&mut wording);
    let thread = alert.thread();
    let message = Message {
        wording: &wording,
        alert,
        id: &delivery.id,
        thread: &thread,
        now: told.clock.now(),
    };
    look(&message)
}

#[test]
fn html_is_whole_up_to_its_limit_and_leaves_whole_parts_out_beyond_it() {
    let alert = of("escalated", 1);
    let padded = |count: usize| {
        with_words(&alert, |wording| wording.foot.push_str(&"x".repeat(count)), html)
    };
    let room = HTML_BYTES_MAX - padded(0).len();
    for (count, is_whole) in [(room - 1, true), (room, true), (room + 1, false)] {
        let html = padded(count);
        assert!(html.len() <= HTML_BYTES_MAX && html.ends_with("</html>"), "{}", html.len());
        assert_eq!(html.contains("What happened"), is_whole, "{count}");
        assert_eq!(html.contains("parts are left out"), !is_whole, "{count}");
        assert!(html.contains("Do first"), "{count}: only as much as has to go");
    }
    // Letters that HTML writes with five: everything that can go goes.
    let most = with_words(&alert, |wording| wording.next = vec!["<".repeat(HTML_BYTES_MAX)], html);
    assert!(most.len() <= HTML_BYTES_MAX && !most.contains("Do first"));
    assert!(most.contains("created a root access key"));
}

#[test]
fn a_subject_is_whole_up_to_its_limit() {
    let config = ChannelConfig::example("email").expect("a channel");
    for (count, is_whole) in [(159, true), (160, true), (161, false), (5_000, false)] {
        let title = "x".repeat(count);
        let change = |wording: &mut Wording| wording.title.clone_from(&title);
        let mail = with_words(&of("opened", 1), change, |message| config.render(message));
        let read = MessageParser::new().parse(&mail).expect("a mail");
        let subject = read.subject().expect("a subject");
        assert!(width(subject) <= SUBJECT_COLUMNS_MAX, "{count}");
        assert_eq!(subject == title, is_whole, "{count}: {subject}");
    }
}

#[test]
fn what_follows_bears_the_first_subject_and_a_test_says_that_it_is_one() {
    let subject = |alert: &Alert| {
        let mail = rendered("email", alert);
        let read = MessageParser::new().parse(&mail).expect("a mail");
        let urgent = read.header_raw("Importance").is_some();
        (read.subject().expect("a subject").to_owned(), urgent)
    };
    let (first, urgent) = subject(&of("opened", 1));
    assert!(urgent && first.starts_with("CRITICAL · "), "{first}");
    let mut again = of("opened", 2);
    again.kind = AlertKind::Continued;
    assert_eq!(subject(&again), (format!("Re: {first}"), true));
    assert_eq!(subject(&of("taken", 3)), (format!("Re: {first}"), false));
    assert_eq!(subject(&of("closed", 4)), (format!("Re: {first}"), false));
    let mut joined = of("closed", 5);
    joined.kind = AlertKind::Closed {
        why: CloseReason::Joined(rootwatch_core::incident::IncidentId("7K2-MPX".to_owned())),
    };
    assert_eq!(subject(&joined), (format!("Re: {first}"), false));
    let test = subject(&of("test", 1));
    assert_eq!(test, ("TEST: nothing happened · Test alert from Rootwatch".to_owned(), false));
    let mut low = of("opened", 6);
    low.severity = Severity::Low;
    low.incidents[0].severity = Severity::Low;
    low.decided_at = at(NOW);
    assert!(!subject(&low).1);
}
