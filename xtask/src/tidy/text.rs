//! Checks that look at texts line by line.

use super::tree::Tree;

/// Lines of a source file, tests not counted.
const LINES_MAX: usize = 700;

/// What no source may hold. Written in two halves, so that this file does not hold them.
const MARKERS: [&str; 7] = [
    concat!("#[igno", "re"),
    concat!("tod", "o!("),
    concat!("unimplement", "ed!("),
    concat!("db", "g!("),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("XX", "X"),
];

/// Folders that exist on somebody's machine.
const MACHINE: [&str; 4] =
    [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

/// Account ids that AWS's documentation uses, or that cannot be anybody's.
const ACCOUNTS: [&str; 11] = [
    "000000000000",
    "111111111111",
    "111122223333",
    "123456789012",
    "222222222222",
    "222233334444",
    "333333333333",
    "333344445555",
    "444455556666",
    "555555555555",
    "999999999999",
];

fn is_source(path: &str) -> bool {
    const ENDINGS: [&str; 9] =
        [".rs", ".py", ".toml", ".yaml", ".yml", ".html", ".css", ".js", ".ts"];
    ENDINGS.iter().any(|ending| path.ends_with(ending)) || path.starts_with(".ci/")
}

fn each_line<'t>(
    tree: &'t Tree,
    is_wanted: impl Fn(&str) -> bool + 't,
) -> impl Iterator<Item = (&'t str, usize, &'t str)> {
    tree.texts("", "").filter(move |(path, _)| is_wanted(path)).flat_map(|(path, text)| {
        text.lines().enumerate().map(move |(number, line)| (path, number + 1, line))
    })
}

pub(super) fn markers(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, number, line) in each_line(tree, is_source) {
        for marker in MARKERS {
            let is_there = line.match_indices(marker).any(|(at, _)| {
                let is_word = |c: char| c.is_alphanumeric() || c == '_';
                let ends_open = marker.ends_with(is_word);
                !(line[..at].ends_with(is_word)
                    || ends_open && line[at + marker.len()..].starts_with(is_word))
            });
            if is_there {
                problems.push(format!("{path}:{number}: `{marker}`"));
            }
        }
    }
    problems
}

pub(super) fn length(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in tree.texts("", ".rs") {
        if path.contains("/tests/") || path.ends_with("/tests.rs") {
            continue;
        }
        // Tests stand beside the code, and there may be many.
        let is_tests = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ");
        let lines: Vec<&str> = text.lines().collect();
        let is_inline = |pair: &[&str]| is_tests(pair) && pair[1].ends_with('{');
        let count = lines.windows(2).position(is_inline).unwrap_or(lines.len());
        if count > LINES_MAX {
            problems.push(format!("{path}: {count} lines, at most {LINES_MAX}"));
        }
    }
    problems
}

pub(super) fn machine(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, number, line) in each_line(tree, |_| true) {
        for folder in MACHINE {
            // `assumed-role/…` goes on from a word and is no absolute path.
            let is_absolute = |(at, _): (usize, &str)| {
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || "-_.~*}$>".contains(c))
            };
            if line.match_indices(folder).any(is_absolute) {
                problems.push(format!("{path}:{number}: `{folder}`"));
            }
        }
    }
    problems
}

pub(super) fn accounts(tree: &Tree) -> Vec<String> {
    let holds_accounts = |path: &str| {
        let folders = ["fixtures/", "crates/", "docs/", "fuzz/seeds/", "deploy/"];
        // Tests of patterns need an id that is almost another.
        folders.iter().any(|folder| path.starts_with(folder)) && !path.contains("/tests/pattern_")
            || path.ends_with(".md")
    };
    let mut problems = Vec::new();
    for (path, number, line) in each_line(tree, holds_accounts) {
        for id in account_ids(line) {
            if !ACCOUNTS.contains(&id.as_str()) {
                problems.push(format!("{path}:{number}: account id {id}"));
            }
        }
    }
    problems
}

/// Runs of twelve digits, with or without dashes, that stand alone.
fn account_ids(line: &str) -> Vec<String> {
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let mut ids = Vec::new();
    for word in line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
        let parts: Vec<&str> = word.split('-').collect();
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        // The end of a UUID may be all digits.
        let is_uuid = lengths.ends_with(&[4, 4, 4, 12]);
        if lengths == [4, 4, 4] && parts.iter().all(|part| is_digits(part)) {
            ids.push(parts.concat());
        } else if !is_uuid {
            let is_id = |part: &&&str| part.len() == 12 && is_digits(part);
            ids.extend(parts.iter().filter(is_id).map(|part| (*part).to_owned()));
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(check: fn(&Tree) -> Vec<String>, path: &str, text: &str) -> usize {
        check(&Tree::of(vec![(path, text)])).len()
    }

    #[test]
    fn markers_are_found_in_sources_only_and_as_words() {
        for marker in MARKERS {
            let text = format!("fn a() {{\n    // {marker}\n}}\n");
            assert_eq!(problems(markers, "crates/core/src/a.rs", &text), 1, "{marker}");
            assert_eq!(problems(markers, "docs/a.md", &text), 0, "{marker}");
        }
        assert_eq!(problems(markers, "a.rs", "#[ignored]"), 0);
        assert_eq!(problems(markers, "a.rs", "let MASTODONS = 1;"), 0);
    }

    #[test]
    fn long_files_are_found_and_their_tests_do_not_count() {
        let long = "x\n".repeat(LINES_MAX + 1);
        assert_eq!(problems(length, "crates/a/src/a.rs", &long), 1);
        assert_eq!(problems(length, "crates/a/src/a.rs", &long[2..]), 0);
        assert_eq!(problems(length, "crates/a/tests/a.rs", &long), 0);
        let tested = format!("x\n#[cfg(test)]\nmod tests {{\n{long}");
        assert_eq!(problems(length, "crates/a/src/a.rs", &tested), 0);
        let beside = format!("x\n#[cfg(test)]\nmod tests;\n{long}");
        assert_eq!(problems(length, "crates/a/src/a.rs", &beside), 1);
    }

    #[test]
    fn absolute_paths_of_machines_are_found() {
        for folder in MACHINE {
            for line in
                [format!("in {folder}x"), format!("\"{folder}\""), format!("file://{folder}x")]
            {
                assert_eq!(problems(machine, "docs/a.md", &line), 1, "{line}");
            }
            let arn = format!("arn:aws:sts::222233334444:assumed-role{folder}x");
            assert_eq!(problems(machine, "docs/a.md", &arn), 0);
        }
    }

    #[test]
    fn account_ids_are_found_in_both_spellings_and_uuids_are_not() {
        let real = ["4111", "2222", "3333"];
        for line in [
            format!("\"{}\"", real.concat()),
            format!("arn:aws:iam::{}:root", real.concat()),
            real.join("-"),
            format!("trail-{}", real.concat()),
        ] {
            assert_eq!(problems(accounts, "fixtures/a.json", &line), 1, "{line}");
        }
        for line in [
            "arn:aws:iam::222233334444:root, 1111-2222-3333",
            "8e048143-ccad-444a-b111-575968592549",
            "1234567890123 and AKIA123456789012",
        ] {
            assert_eq!(problems(accounts, "fixtures/a.json", line), 0, "{line}");
        }
    }
}
