//! Embeds the built-in rules: `rules/*.yaml` become two JSON texts, the rules themselves and their
//! tests with the records in them, so that the program reads no YAML when it starts and
//! `rootwatch rules test` needs no source tree.

use std::path::Path;
use std::{env, fs};

use serde_json::{Value, json};

fn main() {
    println!("cargo:rerun-if-changed=rules");
    println!("cargo:rerun-if-changed=../../fixtures/cloudtrail");
    let mut paths: Vec<_> = fs::read_dir("rules")
        .expect("the folder of rules")
        .map(|entry| entry.expect("a rule file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    paths.sort();
    let (mut rules, mut tests) = (Vec::new(), Vec::new());
    for path in paths {
        let name = path.display().to_string();
        let text = fs::read_to_string(&path).expect("a readable rule file");
        let mut rule: Value = serde_saphyr::from_str(&text)
            .unwrap_or_else(|error| panic!("{name} is not YAML: {error}"));
        let id = rule["id"].as_str().unwrap_or_else(|| panic!("{name} has no id")).to_owned();
        let own = rule.as_object_mut().and_then(|fields| fields.remove("tests"));
        for test in own.as_ref().and_then(Value::as_array).into_iter().flatten() {
            let mut records = Vec::new();
            records.extend(test.get("record").map(|record| record_text(&name, record)));
            for record in test.get("records").and_then(Value::as_array).into_iter().flatten() {
                records.push(record_text(&name, record));
            }
            tests.push(json!({
                "rule": id, "name": test["name"], "records": records, "match": test["match"],
            }));
        }
        rules.push(rule);
    }
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let write = |file: &str, value: &Value| {
        fs::write(Path::new(&out).join(file), value.to_string()).expect("OUT_DIR is writable");
    };
    write("rules.json", &Value::Array(rules));
    write("rule_tests.json", &Value::Array(tests));
}

/// A test's record: the text of the file that it names, or itself.
fn record_text(rule: &str, record: &Value) -> String {
    match record {
        Value::String(path) => fs::read_to_string(Path::new("../..").join(path))
            .unwrap_or_else(|error| panic!("{rule} tests with `{path}`: {error}")),
        inline => inline.to_string(),
    }
}
