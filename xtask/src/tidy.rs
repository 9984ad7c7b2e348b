//! `cargo xtask tidy`: the conventions that matter, as tests. The rest is taste.
//!
//! Each check is a function of the [`Tree`], so that a test can show it a broken one.

mod imports;
mod limits;
mod links;
mod permissions;
mod rule_texts;
mod source;
mod templates;
mod text;
mod tree;
mod words;

use std::collections::BTreeSet;
use std::fs;

use anyhow::bail;

use crate::run::root;
use tree::{Tree, dependencies, words_after};

pub(crate) const HELP: &str = "\
cargo xtask tidy [--lower]

Checks the conventions that are tests:
  map           ARCHITECTURE.md names exactly the folders in crates/ ((planned) marks others)
  pure core     core depends on no I/O crate and uses no files, network, environment or clock
  rules         every rule's id is the name of its file
  fixtures      expected.tsv lists exactly the files of fixtures/cloudtrail/
  lints         every crate has the workspace's lints
  lock          every crate in Cargo.lock comes from crates.io
  markers       no ignored tests, no to-do marks, no debugging macros in sources
  formatted     rustfmt reaches every source file: plain `mod` lines, none made by a macro
  arrows        crates depend on crates of lower layers only; testkit is for tests only
  circles       no files of one crate import each other
  length        no source file above 700 lines, tests not counted
  machine       no absolute paths of somebody's machine
  accounts      only account ids that AWS's documentation uses
  templates     every template in deploy/ holds the event patterns that core defines
  links         relative links in Markdown name files and headings that exist
  permissions   crates declare the IAM permissions of their calls; the function's role grants no others
  limits        the constants that ARCHITECTURE.md names exist
  words         home-made words in pages, rules and strings: as many as their ceilings allow; --lower
                lowers ceilings to what is left
  rule texts    titles have at most 50 characters, steps 100, and no step repeats the alert";

/// Says what is wrong, a line each: the place and the fault.
type Check = fn(&Tree) -> Vec<String>;

const CHECKS: [(&str, Check); 19] = [
    ("map", map),
    ("pure core", pure_core),
    ("rules", rules),
    ("fixtures", fixtures),
    ("lints", lints),
    ("lock", lock),
    ("markers", text::markers),
    ("formatted", source::formatted),
    ("arrows", imports::arrows),
    ("circles", imports::circles),
    ("length", text::length),
    ("machine", text::machine),
    ("accounts", text::accounts),
    ("templates", templates::templates),
    ("links", links::links),
    ("permissions", permissions::permissions),
    ("limits", limits::limits),
    ("words", words::words),
    ("rule texts", rule_texts::rule_texts),
];

pub(crate) fn command(arguments: &[&str]) -> anyhow::Result<()> {
    let mut tree = Tree::read(&root())?;
    match arguments {
        [] => {}
        ["--lower"] => {
            fs::write(root().join(words::CEILINGS), words::lowered(&tree))?;
            tree = Tree::read(&root())?;
        }
        _ => bail!("unknown arguments: see `cargo xtask tidy --help`"),
    }
    let mut count = 0;
    for (name, check) in CHECKS {
        for problem in check(&tree) {
            count += 1;
            println!("{name}: {problem}");
        }
    }
    if count > 0 {
        bail!("{count} of the project's conventions do not hold; each line above names one place");
    }
    println!("{} conventions hold in {} files", CHECKS.len(), tree.paths().count());
    Ok(())
}

/// Crates that `core` may depend on: none of them does I/O as we use it.
const CORE_MAY_USE: [&str; 8] = [
    "jiff",
    "memchr",
    "serde",
    "serde_json",
    "serde-saphyr",
    "simdutf8",
    "thiserror",
    "unicode-width",
];

fn map(tree: &Tree) -> Vec<String> {
    let Some(map) = tree.text("ARCHITECTURE.md") else {
        return vec!["ARCHITECTURE.md is missing".to_owned()];
    };
    let there: BTreeSet<&str> = tree
        .paths()
        .filter_map(|path| path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml"))
        .filter(|name| !name.contains('/'))
        .collect();
    let mut problems = Vec::new();
    let mut named = BTreeSet::new();
    for (number, line) in map.lines().enumerate() {
        for name in words_after(line, "crates/") {
            named.insert(name);
            if !there.contains(name) && !line.contains("(planned)") {
                let number = number + 1;
                problems.push(format!("ARCHITECTURE.md:{number}: there is no `crates/{name}/`"));
            }
        }
    }
    for name in there.difference(&named) {
        problems.push(format!("ARCHITECTURE.md does not name `crates/{name}/`"));
    }
    problems
}

fn pure_core(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    let manifest = tree.text("crates/core/Cargo.toml").unwrap_or_default();
    let used = dependencies(manifest);
    if used.is_empty() {
        problems.push("crates/core/Cargo.toml states no dependencies".to_owned());
    }
    for name in used.iter().filter(|name| !CORE_MAY_USE.contains(&name.as_str())) {
        problems
            .push(format!("crates/core/Cargo.toml: `{name}` is not among the crates without I/O"));
    }
    for (path, source) in tree.texts("crates/core/src/", ".rs") {
        for (number, line) in source.lines().enumerate() {
            let code = line.split("//").next().unwrap_or(line);
            if let Some(word) = impure(code) {
                problems.push(format!("{path}:{}: core may not use `{word}`", number + 1));
            }
        }
    }
    problems
}

/// What in a line of code reaches outside of the program.
fn impure(code: &str) -> Option<String> {
    for clock in ["Timestamp::now", "Zoned::now", "SystemTime", "Instant"] {
        let is_word = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if code.match_indices(clock).any(|(at, _)| {
            is_word(&code[at + clock.len()..])
                && !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
        }) {
            return Some(clock.to_owned());
        }
    }
    for (at, _) in code.match_indices("std::") {
        let rest = &code[at + "std::".len()..];
        // `std::{fs, net::IpAddr}` names several.
        let inner = rest.strip_prefix('{').map(|inner| inner.split('}').next().unwrap_or(inner));
        for part in inner.map_or_else(|| vec![rest], |inner| inner.split(',').collect()) {
            let part = part.trim();
            let end = part.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(part.len());
            let module = &part[..end];
            // Addresses are only numbers; everything else in `net` talks to somebody.
            let after = part[end..].trim_start_matches("::");
            let names = match after.strip_prefix('{') {
                Some(inner) => inner.split('}').next().unwrap_or(inner).split(',').collect(),
                None => vec![after],
            };
            let is_address = names.iter().all(|name| {
                let addresses = ["IpAddr", "Ipv4Addr", "Ipv6Addr"];
                addresses.iter().any(|address| name.trim().starts_with(address))
            });
            let is_out = matches!(module, "fs" | "env" | "process" | "os")
                || (module == "net" && !is_address);
            if is_out {
                return Some(format!("std::{module}"));
            }
        }
    }
    None
}

fn rules(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    let mut count = 0;
    for (path, rule) in tree.texts("crates/core/rules/", "") {
        count += 1;
        let name = path.rsplit('/').next().unwrap_or(path);
        let id = rule.lines().find_map(|line| line.strip_prefix("id:")).unwrap_or_default().trim();
        if Some(id.trim_matches(['"', '\''])) != name.strip_suffix(".yaml") {
            problems.push(format!("{path}: the id `{id}` is not the name of the file"));
        }
    }
    if count == 0 {
        problems.push("crates/core/rules/ holds no rules".to_owned());
    }
    problems
}

fn fixtures(tree: &Tree) -> Vec<String> {
    const FOLDER: &str = "fixtures/cloudtrail/";
    let Some(list) = tree.text("fixtures/cloudtrail/expected.tsv") else {
        return vec!["fixtures/cloudtrail/expected.tsv is missing".to_owned()];
    };
    let mut problems = Vec::new();
    let mut listed = BTreeSet::new();
    for line in list.lines().skip(1) {
        let name = line.split('\t').next().unwrap_or_default();
        if !listed.insert(name) {
            problems.push(format!("{FOLDER}expected.tsv lists `{name}` twice"));
        }
    }
    let there: BTreeSet<&str> = tree
        .paths()
        .filter_map(|path| path.strip_prefix(FOLDER))
        .filter(|name| !matches!(*name, "README.md" | "expected.tsv"))
        .collect();
    let missing = listed.difference(&there);
    problems.extend(missing.map(|name| format!("{FOLDER}expected.tsv: there is no `{name}`")));
    let unlisted = there.difference(&listed);
    problems.extend(unlisted.map(|name| format!("{FOLDER}{name} is not in expected.tsv")));
    problems
}

fn lints(tree: &Tree) -> Vec<String> {
    let has_lints = |manifest: &str| {
        let mut lines = manifest.lines().map(str::trim);
        lines.by_ref().any(|line| line == "[lints]")
            && lines
                .take_while(|line| !line.starts_with('['))
                .any(|line| line == "workspace = true")
    };
    tree.texts("", "/Cargo.toml")
        .filter(|(_, manifest)| !has_lints(manifest))
        .map(|(path, _)| format!("{path} lacks `[lints] workspace = true`"))
        .collect()
}

fn lock(tree: &Tree) -> Vec<String> {
    const CRATES_IO: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    let Some(lock) = tree.text("Cargo.lock") else {
        return vec!["Cargo.lock is missing".to_owned()];
    };
    lock.lines()
        .enumerate()
        .filter(|(_, line)| line.starts_with("source = ") && *line != CRATES_IO)
        .map(|(number, line)| format!("Cargo.lock:{}: {line}", number + 1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[dependencies]\njiff.workspace = true\n\n[lints]\nworkspace = true\n";

    /// A small tree in which everything holds.
    fn sound() -> Vec<(&'static str, &'static str)> {
        let mut files = vec![
            ("ARCHITECTURE.md", "| `crates/core/` | the centre |\n`crates/hub/` (planned)\n"),
            ("Cargo.lock", "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n"),
            ("crates/core/Cargo.toml", MANIFEST),
            ("crates/core/src/lib.rs", "use std::net::IpAddr; // not std::fs\n"),
            ("crates/core/rules/a-rule.yaml", "id: a-rule\ntitle: t\n"),
            ("fixtures/cloudtrail/expected.tsv", "file\troot_use\na.json\tdirect\n"),
            ("fixtures/cloudtrail/README.md", "account 111122223333\n"),
            ("fixtures/cloudtrail/a.json", "{\"id\":\"a8d428f3-6573-4a46-a0fc-720564276064\"}"),
        ];
        files.extend(templates::sound());
        files
    }

    /// The names of the checks that fail when one file is other than it should be.
    fn failing(path: &'static str, text: &'static str) -> Vec<&'static str> {
        let mut files = sound();
        files.retain(|(known, _)| *known != path);
        files.push((path, text));
        let tree = Tree::of(files);
        CHECKS.iter().filter(|(_, check)| !check(&tree).is_empty()).map(|(name, _)| *name).collect()
    }

    #[test]
    fn a_sound_tree_has_no_problems() {
        let tree = Tree::of(sound());
        for (name, check) in CHECKS {
            assert_eq!(check(&tree), Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn the_map_names_exactly_the_folders() {
        assert_eq!(failing("ARCHITECTURE.md", "nothing"), ["map"]);
        assert_eq!(failing("ARCHITECTURE.md", "`crates/core/` `crates/gone/`"), ["map"]);
        assert_eq!(failing("crates/audit/Cargo.toml", MANIFEST), ["map"]);
        assert!(failing("crates/core/other/Cargo.toml", MANIFEST).is_empty());
    }

    #[test]
    fn core_stays_pure() {
        let with = "[dependencies]\nreqwest = \"1\"\n[lints]\nworkspace = true\n";
        assert_eq!(failing("crates/core/Cargo.toml", with), ["pure core"]);
        let table =
            "[dependencies]\njiff = \"1\"\n[dependencies.tokio]\n[lints]\nworkspace = true\n";
        assert_eq!(failing("crates/core/Cargo.toml", table), ["pure core"]);
        for line in [
            "use std::fs;",
            "use std::{collections, env};",
            "let now = Timestamp::now();",
            "use std::time::{Duration, Instant};",
            "let stream = std::net::TcpStream::connect(at);",
            "use std::net;",
            "use std::net::{IpAddr, TcpStream};",
            "std::process::exit(1)",
        ] {
            assert_eq!(failing("crates/core/src/lib.rs", line), ["pure core"], "{line}");
        }
        for line in [
            "use std::fmt;",
            "let is = std::net::IpAddr::V4(x);",
            "use std::net::{IpAddr, Ipv4Addr};",
            "struct Instantly;",
        ] {
            assert!(failing("crates/core/src/lib.rs", line).is_empty(), "{line}");
        }
    }

    #[test]
    fn rustfmt_reaches_every_source_file() {
        let by_macro = "macro_rules! list { ($($name:ident),+) => { $(pub mod $name;)+ } }\n\
                        list!(slack, email);\n";
        let with_root = |text| {
            let mut files = sound();
            files.retain(|(path, _)| *path != "crates/core/src/lib.rs");
            files.push(("crates/core/src/lib.rs", text));
            files.push(("crates/core/src/slack.rs", ""));
            files.push(("crates/core/src/email.rs", ""));
            source::formatted(&Tree::of(files))
        };
        let problems = with_root(by_macro);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("crates/core/src/email.rs: "), "{problems:?}");
        assert_eq!(with_root("pub mod slack;\nmod email;\n"), Vec::<String>::new());
        assert_eq!(with_root("pub mod slack;\n#[rustfmt::skip]\nmod email;\n").len(), 1);
    }

    #[test]
    fn rules_are_called_as_their_files() {
        assert_eq!(failing("crates/core/rules/b.yaml", "id: c\n"), ["rules"]);
        assert_eq!(failing("crates/core/rules/b.yml", "id: b\n"), ["rules"]);
        assert!(failing("crates/core/rules/b.yaml", "id: b\n").is_empty());
    }

    #[test]
    fn templates_hold_the_patterns_of_core() {
        let one = "deploy/hub/terraform/patterns/drill.json";
        assert_eq!(failing(one, "{\"source\":[\"my.app\"]}"), ["templates"]);
        assert_eq!(failing("deploy/spoke/rootwatch-spoke.yaml", "Resources: {}"), ["templates"]);
    }

    #[test]
    fn fixtures_are_listed_and_listed_ones_are_there() {
        assert_eq!(failing("fixtures/cloudtrail/b.json", "{}"), ["fixtures"]);
        let more = "file\na.json\tdirect\nb.json\tno\n";
        assert_eq!(failing("fixtures/cloudtrail/expected.tsv", more), ["fixtures"]);
        let twice = "file\na.json\tdirect\na.json\tno\n";
        assert_eq!(failing("fixtures/cloudtrail/expected.tsv", twice), ["fixtures"]);
    }

    #[test]
    fn crates_have_the_lints_and_come_from_one_place() {
        assert_eq!(failing("xtask/Cargo.toml", "[dependencies]\na = \"1\"\n"), ["lints"]);
        let other = "[lints]\n[features]\nworkspace = true\n";
        assert_eq!(failing("xtask/Cargo.toml", other), ["lints"]);
        assert_eq!(failing("Cargo.lock", "source = \"git+https://example.com/x\"\n"), ["lock"]);
    }
}
