//! `rootwatch serve` and `rootwatch notify`.

use serde_json::Value;

use crate::hub::{Going, ask, file, hub_program, token_block};
use crate::{ran, record};

/// A hub's configuration in a folder: a free port, a token, alerts on standard output.
fn sound(folder: &std::path::Path) -> String {
    let text =
        format!("[hub]\nlisten = \"127.0.0.1:0\"\n[store]\npath = \"hub.db\"\n{}", token_block());
    file(folder, &text)
}

#[test]
fn it_takes_an_event_tells_of_it_and_ends_when_it_is_asked_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = sound(folder.path());
    let mut hub = Going::start(hub_program().args(["serve", "--config", &config]));
    let address = hub.address();
    let event = record("00000000-0000-4000-8000-000000000001");
    let (status, answer) =
        ask(address, "POST", "/v1/events", &format!("{{\"Records\":[{event}]}}"));
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("saved"), "{answer}");
    let alert = hub.line_with("222233334444");
    let alert: Value = serde_json::from_str(&alert).expect("an alert a line");
    assert!(alert.to_string().contains("opened"), "{alert}");
    let (status, listed) = ask(address, "GET", "/v1/incidents", "");
    assert_eq!(status, 200, "{listed}");
    assert!(listed.contains("222233334444"), "{listed}");
    hub.terminate();
    let (code, said) = hub.end();
    assert_eq!(code, 0, "{}", said.join("\n"));

    // What it knew, it still knows.
    let mut hub = Going::start(hub_program().args(["serve", "--config", &config]));
    let address = hub.address();
    let (status, answer) =
        ask(address, "POST", "/v1/events", &format!("{{\"Records\":[{event}]}}"));
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("known"), "{answer}");
    hub.terminate();
    assert_eq!(hub.end().0, 0);
}

#[test]
fn a_port_that_is_taken_is_a_failure_and_a_wrong_key_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = sound(folder.path());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let run = |args: &[&str]| {
        let command = hub_program().args(["serve", "--config", &config]).args(args).output();
        ran(command.expect("the program"))
    };
    let told = run(&["--listen", &address]);
    assert_eq!(told.code, 1, "{}", told.err);
    assert!(told.err.contains(&address), "{}", told.err);
    let told = run(&["--listen", "everywhere"]);
    assert_eq!(told.code, 2, "{}", told.err);
    assert!(told.err.contains("--listen: `hub.listen`"), "{}", told.err);
}

#[test]
fn a_test_alert_goes_the_way_of_real_ones_and_failure_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = closed.local_addr().expect("bound");
    drop(closed);
    let text = format!(
        "[store]\npath = \"hub.db\"\n[notify.destination.out]\nchannel = \"log\"\nformat = \"text\"\n\
         [notify.destination.hook]\nchannel = \"webhook\"\nurl = \"http://{address}/\"\n\
         allow_private = true\ntimeout_secs = 2\n"
    );
    let config = file(folder.path(), &text);
    let test = |args: &[&str]| {
        let command =
            hub_program().args(["notify", "test", "--config", &config]).args(args).output();
        ran(command.expect("the program"))
    };
    let told = test(&["out"]);
    assert_eq!(told.code, 0, "{}{}", told.out, told.err);
    assert!(told.out.contains("out: delivered"), "{}", told.out);
    assert!(told.out.to_lowercase().contains("test"), "{}", told.out);
    let told = test(&["--all"]);
    assert_eq!(told.code, 1, "{}{}", told.out, told.err);
    assert!(told.out.contains("hook: failed: "), "{}", told.out);
    assert!(told.out.contains("out: delivered"), "{}", told.out);
    let told = test(&["nobody"]);
    assert_eq!(told.code, 2);
    assert!(told.err.contains("configured destinations: hook, out ("), "{}", told.err);
    // The hub's own store was not touched.
    assert!(!folder.path().join("hub.db").exists());
}

#[test]
fn a_check_asks_each_destination_and_says_which_does_not_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = closed.local_addr().expect("bound");
    drop(closed);
    let text = format!(
        "[store]\npath = \"hub.db\"\n[notify.destination.out]\nchannel = \"log\"\nformat = \"text\"\n\
         [notify.destination.hook]\nchannel = \"webhook\"\nurl = \"http://{address}/\"\n\
         allow_private = true\ntimeout_secs = 2\n"
    );
    let config = file(folder.path(), &text);
    let check = |args: &[&str]| {
        let command =
            hub_program().args(["notify", "check", "--config", &config]).args(args).output();
        ran(command.expect("the program"))
    };
    let ran = check(&["out", "out"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "out: ok: written\n", ""));
    let ran = check(&["--all"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(ran.out.starts_with("hook: failed: cannot connect"), "{}", ran.out);
    assert!(ran.out.ends_with("out: ok: written\n"), "{}", ran.out);
    let ran = check(&["nobody"]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("unknown destination `nobody`"), "{}", ran.err);
    assert!(!folder.path().join("hub.db").exists());
}

#[test]
fn a_preview_prints_what_would_be_sent_asks_for_no_secret_and_sends_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "[notify.destination.chat]\nchannel = \"slack\"\nurl = \"env:ROOTWATCH_TEST_UNSET\"\n\
                template = \"ours\"\n[notify.template.ours]\ntitle = \"OURS {{ severity }}\"\n";
    let config = file(folder.path(), text);
    let preview = |args: &[&str]| {
        let command =
            hub_program().args(["notify", "preview", "--config", &config]).args(args).output();
        ran(command.expect("the program"))
    };
    let told = preview(&["--destination", "chat", "--incident", "escalated"]);
    assert_eq!(told.code, 0, "{}", told.err);
    let body: serde_json::Value = serde_json::from_str(&told.out).expect("the body of a request");
    let head = body["blocks"][0]["text"]["text"].as_str().expect("a header");
    assert!(head.ends_with("OURS critical"), "{head}");
    // A file of records, and a channel without any configuration.
    let record = r#"{"eventVersion":"1.11","userIdentity":{"type":"Root","accountId":"111122223333",
        "arn":"arn:aws:iam::111122223333:root"},"eventTime":"2026-05-04T14:03:00Z",
        "eventSource":"iam.amazonaws.com","eventName":"CreateAccessKey","awsRegion":"us-east-1",
        "sourceIPAddress":"203.0.113.77","eventID":"one","eventType":"AwsApiCall",
        "recipientAccountId":"111122223333"}"#;
    let records = folder.path().join("records.json");
    std::fs::write(&records, format!("{{\"Records\":[{record}]}}")).expect("written");
    let records = records.to_str().expect("a path");
    let told = preview(&["--channel", "webhook", "--incident", records]);
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(
        told.out.contains("111122223333") && told.out.contains("CreateAccessKey"),
        "{}",
        told.out
    );
    std::fs::write(records, r#"{"Records":[]}"#).expect("written");
    for (args, code, word) in [
        (["--channel", "pigeon", "--incident", "escalated"], 2, "channels: email, "),
        (
            ["--destination", "nobody", "--incident", "escalated"],
            2,
            "configured destinations: chat (",
        ),
        (["--channel", "log", "--incident", "nothing-there"], 2, "samples: opened, "),
        (["--channel", "log", "--incident", records], 2, "there is no root use in it"),
    ] {
        let told = preview(&args);
        assert_eq!(told.code, code, "{args:?}: {}", told.err);
        assert!(told.err.contains(word), "{args:?}: {}", told.err);
        assert!(told.out.is_empty(), "{args:?}");
    }
}
