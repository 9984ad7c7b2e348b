//! `rootwatch store`, beside a hub that runs.

use crate::hub::{Going, ask, file, hub_program, token_block};
use crate::{Ran, ran, record};

fn store(args: &[&str]) -> Ran {
    ran(hub_program().arg("store").args(args).output().expect("the program"))
}

#[test]
fn a_store_is_backed_up_checked_and_pruned() {
    let folder = tempfile::tempdir().expect("a folder");
    let text =
        format!("[hub]\nlisten = \"127.0.0.1:0\"\n[store]\npath = \"hub.db\"\n{}", token_block());
    let config = file(folder.path(), &text);
    let missing = store(&["check", "--config", &config]);
    assert_eq!(missing.code, 2);
    assert!(missing.err.contains("there is no store"), "{}", missing.err);

    let mut hub = Going::start(hub_program().args(["serve", "--config", &config]));
    let address = hub.address();
    let event = record("00000000-0000-4000-8000-000000000002");
    let (status, answer) = ask(address, "POST", "/v1/events", &event);
    assert_eq!(status, 200, "{answer}");

    // While the hub runs.
    let copy = folder.path().join("copy.db");
    let copy = copy.to_str().expect("UTF-8");
    let told = store(&["backup", copy, "--config", &config]);
    assert_eq!(told.code, 0, "{}", told.err);
    assert_eq!(store(&["backup", copy, "--config", &config]).code, 2);
    let told = store(&["check", "--config", &config]);
    assert_eq!(told.code, 0, "{}{}", told.out, told.err);
    assert!(told.out.contains("no problem found; 1 finding"), "{}", told.out);
    hub.terminate();
    assert_eq!(hub.end().0, 0);

    let told = store(&["check", "--store", copy]);
    assert_eq!(told.code, 0, "{}{}", told.out, told.err);
    assert!(told.out.contains("no problem found; 1 finding"), "{}", told.out);
    let told = store(&["prune", "--before", "2020-01-01", "--store", copy]);
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(told.out.contains("deleted what ended before 2020-01-01"), "{}", told.out);
    // The log has it, too.
    assert!(told.err.contains("\"message\":\"pruned\""), "{}", told.err);

    // A damaged file is said to be one.
    std::fs::write(folder.path().join("bad.db"), b"no database".repeat(1000)).expect("written");
    let bad = folder.path().join("bad.db");
    let told = store(&["check", "--store", bad.to_str().expect("UTF-8")]);
    assert_eq!(told.code, 1, "{}{}", told.out, told.err);
}
