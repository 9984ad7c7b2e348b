//! `rootwatch config` and `rootwatch token`.

use crate::hub::{file, hub_program, token_block};
use crate::{Ran, ran, root};

fn config(args: &[&str]) -> Ran {
    ran(hub_program().arg("config").args(args).output().expect("the program"))
}

/// What a check of this text prints, with the folder left out.
fn checked(text: &str) -> (i32, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let told = config(&["check", "--config", &file(folder.path(), text)]);
    let place = format!("{}/", folder.path().display());
    (told.code, format!("{}{}", told.out, told.err).replace(&place, ""))
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_name_and_its_place() {
    let (code, told) = checked("[hub]\nlisten = \"127.0.0.1:0\"\n\n[stroe]\npath = \"a\"\n");
    assert_eq!(code, 2);
    insta::assert_snapshot!(told, @"error: rootwatch.toml:4:2: `stroe` is not a known key (did you mean `store`?)");
}

#[test]
fn a_wrong_type_is_told_in_plain_words() {
    let (code, told) = checked("[store]\nretention_days = \"ninety\"\n");
    assert_eq!(code, 2);
    insta::assert_snapshot!(told, @"error: rootwatch.toml:2:18: `store.retention_days` must be an integer, not a string");
}

#[test]
fn all_problems_are_told_at_once() {
    let text = "[hub]\nlisten = \"0.0.0.0:8321\"\n[notify.destination.team]\nchannel = \"slack\"\n\
                url = \"env:ROOTWATCH_NOT_SET\"\nescalate_to = \"nobody\"\n";
    let (code, told) = checked(text);
    assert_eq!(code, 2);
    insta::assert_snapshot!(told, @r#"
    error: rootwatch.toml:2:10: `hub.listen` accepts requests from other machines, but no [[token]] is configured (create one with `rootwatch token new NAME --scope ingest`, or listen on 127.0.0.1)
    error: rootwatch.toml:6:15: `notify.destination.team.escalate_to` `nobody` is not a configured destination (team)
    "#);
}

#[test]
fn a_file_that_is_no_toml_is_refused_without_showing_it() {
    let (code, told) = checked("[notify]\nurl = hush-hush\n");
    assert_eq!(code, 2);
    assert!(told.starts_with("error: rootwatch.toml:2:") && !told.contains("hush"), "{told}");
}

#[test]
fn secrets_that_are_not_there_are_told_unless_nobody_asks() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "[notify.destination.team]\nchannel = \"slack\"\nurl = \"env:NOT_SET_ANYWHERE\"\n";
    let file = file(folder.path(), text);
    let told = config(&["check", "--config", &file]);
    assert_eq!(told.code, 2);
    assert!(
        told.err.contains("env:NOT_SET_ANYWHERE: is not set in the environment"),
        "{}",
        told.err
    );
    assert_eq!(config(&["check", "--no-secrets", "--config", &file]).code, 0);
}

#[test]
fn a_variable_that_is_no_key_is_refused() {
    let told = hub_program()
        .args(["config", "check"])
        .env("ROOTWATCH_HUB__LISTEM", "127.0.0.1:0")
        .output()
        .expect("the program");
    let told = ran(told);
    assert_eq!(told.code, 2);
    let wanted =
        "error: ROOTWATCH_HUB__LISTEM: `hub.listem` is not a known key (did you mean `listen`?)\n";
    assert_eq!((told.out.as_str(), told.err.as_str()), ("", wanted));
}

#[test]
fn show_prints_what_is_in_effect_with_its_origin_and_no_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "{}\n[notify.destination.siem]\nchannel = \"webhook\"\n\
         url = \"https://siem.example.com/hush-hush\"\nsecrets = [\"file:key\"]\n",
        token_block()
    );
    let file = file(folder.path(), &text);
    let told = hub_program()
        .args(["config", "show", "--config", &file])
        .env("ROOTWATCH_HUB__MEMORY_DAYS", "7")
        .output()
        .expect("the program");
    let told = ran(told);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    assert!(!told.out.contains("hush"), "{}", told.out);
    for line in [
        "memory_days = 7  # ROOTWATCH_HUB__MEMORY_DAYS",
        "url = \"***\"  # line 8",
        "secrets = [\"file:key\"]  # line 9",
        "retention_days = 400  # default",
    ] {
        assert!(told.out.lines().any(|one| one == line), "{line}\n{}", told.out);
    }
}

#[test]
fn the_schema_is_one_and_the_example_obeys_it_and_loads() {
    let told = config(&["schema"]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    let schema: serde_json::Value = serde_json::from_str(&told.out).expect("JSON");
    assert!(jsonschema::meta::is_valid(&schema));
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    let example = root().join("docs/reference/rootwatch.example.toml");
    let text = std::fs::read_to_string(&example).expect("the example");
    let value: serde_json::Value = toml::from_str(&text).expect("TOML");
    let problems: Vec<String> =
        schema.iter_errors(&value).map(|error| format!("{error}")).collect();
    assert!(problems.is_empty(), "{problems:?}");
    let wrong = serde_json::json!({ "hub": { "listn": "" } });
    assert!(!schema.is_valid(&wrong));
    let told = config(&["check", "--no-secrets", "--config", example.to_str().expect("UTF-8")]);
    assert_eq!(told.code, 0, "{}{}", told.out, told.err);
    assert!(
        told.out.contains("valid (sources: http, sns, sqs:trail, directory:drop;"),
        "{}",
        told.out
    );
}

#[test]
fn a_new_token_is_shown_once_with_a_block_that_loads() {
    let make = || {
        let args = ["token", "new", "forwarder", "--scope", "ingest,read", "--scope", "read"];
        ran(hub_program().args(args).output().expect("the program"))
    };
    let (one, other) = (make(), make());
    assert_eq!(one.code, 0);
    assert_ne!(one.out, other.out);
    assert!(one.out.contains("scopes = [\"ingest\", \"read\"]"), "{}", one.out);
    assert_eq!(checked(&one.out).0, 0);
    let bad =
        ran(hub_program().args(["token", "new", "a b", "--scope", "read"]).output().expect("it"));
    assert_eq!(bad.code, 2);
}
