//! What hand-written pages show as files: configurations and rules that are valid.

use std::fs;

use crate::hub::hub_program;
use crate::{ran, root, run};

/// The code blocks of a page in one language, joined.
fn blocks(page: &str, language: &str) -> String {
    let page = fs::read_to_string(root().join("docs").join(page)).expect("a page");
    let mut text = String::new();
    let mut is_wanted = false;
    for line in page.lines() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            is_wanted = info == language;
        } else if is_wanted {
            text.push_str(line);
            text.push('\n');
        }
    }
    assert!(!text.is_empty(), "no {language} in {page}");
    text
}

#[test]
fn the_configurations_that_pages_show_are_valid() {
    for page in ["how-to/server.md", "how-to/notify.md", "tutorial/first-alert.md"] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("rootwatch.toml");
        fs::write(&file, blocks(page, "toml")).expect("a file");
        let args = ["config", "check", "--no-secrets", "--config", crate::path(&file)];
        let checked = ran(hub_program().args(args).output().expect("the program"));
        assert_eq!(checked.code, 0, "{page}: {}{}", checked.out, checked.err);
    }
}

#[test]
fn the_rule_that_a_page_shows_passes_its_tests() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("payments-table-deleted.yaml");
    fs::write(&file, blocks("how-to/write-rules.md", "yaml")).expect("a file");
    let tested = run(&["rules", "test", crate::path(folder.path())]);
    assert_eq!(tested.code, 0, "{}{}", tested.out, tested.err);
    assert!(tested.out.contains("2 passed"), "{}", tested.out);
}
