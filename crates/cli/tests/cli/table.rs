//! `rootwatch serve` and `rootwatch store` over a DynamoDB table.

use std::process::Command;

use crate::hub::{Going, ask, file, hub_program, token_block};
use crate::standin::{ACCOUNT, Standin, free_port};
use crate::{Ran, ran, record};

fn program(standin: &Standin) -> Command {
    let mut command = hub_program();
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", ACCOUNT)
        .env("AWS_SECRET_ACCESS_KEY", "none")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ENDPOINT_URL", standin.endpoint());
    command
}

#[test]
fn a_hub_keeps_its_store_in_a_table() {
    let standin = Standin::start(free_port());
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "[hub]\nlisten = \"127.0.0.1:0\"\n[store]\ntable = \"rootwatch\"\n{}",
        token_block()
    );
    let config = file(folder.path(), &text);
    let store = |args: &[&str]| -> Ran {
        let mut command = program(&standin);
        command.arg("store").args(args).args(["--config", &config]);
        ran(command.output().expect("the program"))
    };

    let early = program(&standin).args(["serve", "--config", &config]).output();
    let early = ran(early.expect("the program"));
    assert_ne!(early.code, 0);
    assert!(early.err.contains("rootwatch store init"), "{}", early.err);
    let made = store(&["init"]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert_eq!(made.out, "DynamoDB table rootwatch: created\n");
    let again = store(&["init"]);
    assert_eq!((again.code, &*again.out), (0, "DynamoDB table rootwatch: exists already\n"));

    for round in 0..2 {
        let mut hub = Going::start(program(&standin).args(["serve", "--config", &config]));
        let address = hub.address();
        let event = record("00000000-0000-4000-8000-000000000002");
        let (status, answer) = ask(address, "POST", "/v1/events", &event);
        assert_eq!(status, 200, "{answer}");
        let word = if round == 0 { "\"saved\"" } else { "\"known\"" };
        assert!(answer.contains(word), "{answer}");
        let (status, answer) = ask(address, "GET", "/v1/incidents", "");
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer.matches("\"findings_total\"").count(), 1, "{answer}");
        hub.terminate();
        assert_eq!(hub.end().0, 0);
    }
    let checked = store(&["check"]);
    assert_eq!(checked.code, 0, "{}{}", checked.out, checked.err);
    assert!(
        checked.out.contains("table rootwatch: no problem found; 1 finding"),
        "{}",
        checked.out
    );
    let refused = store(&["backup", "copy.db"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("point-in-time recovery"), "{}", refused.err);
    let refused = store(&["check", "--store", "hub.db"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("store.table"), "{}", refused.err);
    let pruned = store(&["prune", "--before", "2020-01-01"]);
    assert_eq!(pruned.code, 0, "{}", pruned.err);
    assert!(pruned.out.starts_with("DynamoDB table rootwatch: deleted"), "{}", pruned.out);
}
