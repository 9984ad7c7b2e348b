//! Home-made words in texts that users read: counted, with ceilings that may only fall.
//!
//! Users read the Markdown pages, the rules, and the strings of the program. A word that the field
//! does not use makes a sentence hard to understand and impossible to search for. Each kind lists the
//! words and what to write instead. The ceilings are in [`CEILINGS`]; one above the count would let the
//! words return, so it fails as well, and `cargo xtask tidy --lower` lowers it.

use std::collections::BTreeMap;

use super::source::{Token, tokens};
use super::tree::Tree;

/// Words of one kind, how often they may still occur, and what to write instead.
struct Kind {
    name: &'static str,
    /// In lower case. A phrase is matched as whole words, in any case.
    words: &'static [&'static str],
    instead: &'static str,
}

/// Ceilings by kind: in Markdown pages, in rules, in the program's strings. A kind without a row may
/// not occur.
pub(super) const CEILINGS: &str = "xtask/src/tidy/ceilings.tsv";

const AREAS: [&str; 3] = ["pages", "rules", "strings"];

const KINDS: [Kind; 18] = [
    Kind {
        name: "tell",
        words: &["tell", "tells", "told", "telling", "untold"],
        instead: "notify, alert, print, report, show",
    },
    Kind { name: "owe", words: &["owe", "owes", "owed"], instead: "pending, queued, enqueue" },
    Kind { name: "door", words: &["door", "doors"], instead: "endpoint, HTTP API" },
    Kind {
        name: "hall",
        words: &["hall", "room", "rooms", "lane", "lanes"],
        instead: "service, library, track",
    },
    Kind { name: "speak", words: &["speak", "speaks", "spoken", "rule spoke"], instead: "match" },
    Kind {
        name: "judge",
        words: &[
            "judge",
            "judges",
            "judged",
            "judgement",
            "settle",
            "settles",
            "vouch",
            "overtaken",
        ],
        instead: "classify, finalize, imply, conflict",
    },
    Kind {
        name: "is no",
        words: &["is no", "are no", "was no", "it looks like"],
        instead: "is not a; expected X, for example …",
    },
    Kind {
        name: "has to be",
        words: &["has to be", "have to be"],
        instead: "must be, with value, range and unit",
    },
    Kind {
        name: "whoever",
        words: &["whoever", "of which", "what is owed"],
        instead: "a noun as subject",
    },
    Kind {
        name: "go on",
        words: &["goes on", "go on", "going on", "went on"],
        instead: "continue, resume",
    },
    Kind {
        name: "come again",
        words: &[
            "come again",
            "comes again",
            "came again",
            "come through",
            "comes through",
            "came through",
        ],
        instead: "retry, arrive, succeed",
    },
    Kind { name: "mend", words: &["mend", "mends", "mended", "mending"], instead: "fix, recover" },
    Kind {
        name: "for good",
        words: &["for good", "given up", "gave up", "left alone", "taken away", "take away"],
        instead: "permanently, failed, paused, deleted",
    },
    Kind {
        name: "the watch",
        words: &["the watch", "watchers", "quiet door", "front door", "hang on", "hangs on"],
        instead: "monitoring; say what stops working",
    },
    Kind { name: "passed over", words: &["passed over"], instead: "ignored" },
    Kind {
        name: "of yours",
        words: &["of yours", "of ours", "of theirs", "stand-in", "stand-ins", "bears", "bear"],
        instead: "your own; emulator; has, supports",
    },
    Kind {
        name: "seldom",
        words: &["hardly", "seldom", "of late", "meddle", "meddles", "all the same"],
        instead: "rarely, recently, change, still",
    },
    Kind {
        name: "British",
        words: &[
            "organisation",
            "organisations",
            "organisational",
            "colour",
            "colours",
            "honoured",
            "resynchronised",
            "recognised",
            "licence",
            "e-mail",
            "e-mails",
        ],
        instead: "American spelling: organization, color, email",
    },
];

/// No kind of word occurs more often than its ceiling, or less often.
pub(super) fn words(tree: &Tree) -> Vec<String> {
    let ceilings = ceilings(tree);
    let mut problems = Vec::new();
    for (kind, places) in KINDS.iter().zip(places(tree)) {
        let ceilings = ceilings.get(kind.name).copied().unwrap_or_default();
        for ((area, places), ceiling) in AREAS.iter().zip(&places).zip(ceilings) {
            problems.extend(verdict(kind, area, places, ceiling));
        }
    }
    problems
}

/// The text of [`CEILINGS`] with every ceiling lowered to the count; none is raised.
pub(super) fn lowered(tree: &Tree) -> String {
    let ceilings = ceilings(tree);
    let mut text = String::from("kind\tpages\trules\tstrings\n");
    for (kind, places) in KINDS.iter().zip(places(tree)) {
        let old = ceilings.get(kind.name).copied().unwrap_or_default();
        let new = [0, 1, 2].map(|area| old[area].min(places[area].len()));
        if new != [0; 3] {
            text.push_str(&format!("{}\t{}\t{}\t{}\n", kind.name, new[0], new[1], new[2]));
        }
    }
    text
}

fn ceilings(tree: &Tree) -> BTreeMap<&str, [usize; 3]> {
    let text = tree.text(CEILINGS).unwrap_or_default();
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut cells = line.split('\t');
            let name = cells.next()?;
            let mut number = || cells.next()?.parse().ok();
            Some((name, [number()?, number()?, number()?]))
        })
        .collect()
}

/// Where words of each kind occur, by area.
fn places(tree: &Tree) -> Vec<[Vec<String>; 3]> {
    let texts = [pages(tree), rules(tree), strings(tree)];
    let of_kind = |kind: &Kind| {
        texts.each_ref().map(|texts| {
            let times =
                |(place, text): &(String, String)| vec![place.clone(); count(text, kind.words)];
            texts.iter().flat_map(times).collect()
        })
    };
    KINDS.iter().map(of_kind).collect()
}

fn verdict(kind: &Kind, area: &str, places: &[String], ceiling: usize) -> Option<String> {
    let (name, found) = (kind.name, places.len());
    if found > ceiling {
        let listed = places.iter().rev().take(12).cloned().collect::<Vec<_>>().join(", ");
        let instead = kind.instead;
        Some(format!(
            "`{name}` in {area}: {found}, at most {ceiling}; write: {instead}; among them {listed}"
        ))
    } else if found < ceiling {
        Some(format!(
            "`{name}` in {area}: {found}; lower the ceiling of {ceiling}: `cargo xtask tidy --lower`"
        ))
    } else {
        None
    }
}

/// Lines of Markdown pages, but for pages that are made of the rules.
fn pages(tree: &Tree) -> Vec<(String, String)> {
    let is_wanted = |path: &str| {
        let is_root = !path.contains('/');
        let is_docs = path.starts_with("docs/") && !path.starts_with("docs/reference/rules/");
        is_root || is_docs || path.starts_with("deploy/")
    };
    lines(tree.texts("", ".md").filter(|(path, _)| is_wanted(path)))
}

fn rules(tree: &Tree) -> Vec<(String, String)> {
    lines(tree.texts("crates/core/rules/", ".yaml"))
}

fn lines<'t>(texts: impl Iterator<Item = (&'t str, &'t str)>) -> Vec<(String, String)> {
    let numbered = |(path, text): (&str, &'t str)| {
        let path = path.to_owned();
        let line = move |(index, line): (usize, &'t str)| {
            (format!("{path}:{}", index + 1), line.to_owned())
        };
        text.lines().enumerate().map(line)
    };
    texts.flat_map(numbered).collect()
}

/// Strings of the crates' sources, tests left out, and their templates.
fn strings(tree: &Tree) -> Vec<(String, String)> {
    let is_tests = |path: &str| {
        path.contains("/tests/")
            || path.ends_with("/tests.rs")
            || path.starts_with("crates/testkit/")
    };
    let mut found = Vec::new();
    for (path, text) in tree.texts("crates/", ".rs").filter(|(path, _)| path.contains("/src/")) {
        if is_tests(path) {
            continue;
        }
        // Tests stand at the end of a file.
        let code = text.split_once("#[cfg(test)]\nmod ").map_or(text, |(code, _)| code);
        for token in tokens(code) {
            if let Token::Text(text) = token {
                // A line of a long string ends in a backslash and is indented below.
                let text = text.split_whitespace().filter(|word| *word != "\\");
                found.push((path.to_owned(), text.collect::<Vec<_>>().join(" ")));
            }
        }
    }
    let templates = tree.texts("crates/", ".html").filter(|(path, _)| !is_tests(path));
    found.extend(templates.map(|(path, text)| (path.to_owned(), shown(text))));
    found
}

/// What a template shows: its text without tags, styles and expressions.
fn shown(template: &str) -> String {
    let mut text = template.to_owned();
    for (open, close) in
        [("<style", "</style>"), ("{%", "%}"), ("{{", "}}"), ("{#", "#}"), ("<", ">")]
    {
        let mut rest = text.as_str();
        let mut kept = String::with_capacity(text.len());
        while let Some(at) = rest.find(open) {
            kept.push_str(&rest[..at]);
            kept.push(' ');
            rest = rest[at..].find(close).map_or("", |end| &rest[at + end + close.len()..]);
        }
        kept.push_str(rest);
        text = kept;
    }
    text
}

/// How often one of `words` occurs in a text, as whole words.
fn count(text: &str, words: &[&str]) -> usize {
    let text = text.to_ascii_lowercase();
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    words
        .iter()
        .flat_map(|word| text.match_indices(word).map(|(at, word)| (at, at + word.len())))
        .filter(|&(at, end)| {
            let is_whole = !text[..at].ends_with(is_word) && !text[end..].starts_with(is_word);
            // "There is no TLS" and "is no longer open" are plain English.
            let is_plain = text[..at].ends_with("there ") || text[end..].starts_with(" longer");
            is_whole && !(text[at..end].ends_with(" no") && is_plain)
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Home-made words, in halves: this file is not read by the check, but others copy from it.
    const TOLD: &str = concat!("to", "ld");

    #[test]
    fn whole_words_are_counted_in_any_case() {
        let tell = &KINDS[0];
        for (text, expected) in [
            (format!("Nobody is {TOLD}."), 1),
            (format!("{} twice: {TOLD}", TOLD.to_uppercase()), 2),
            (format!("{TOLD}-off, un{TOLD}ed, {TOLD}_at"), 0),
            ("an alert was sent".to_owned(), 0),
        ] {
            assert_eq!(count(&text, tell.words), expected, "{text}");
        }
        let text = "There is no TLS; it is no longer open; this is no URL";
        assert_eq!(count(text, &["is no"]), 1);
    }

    #[test]
    fn pages_rules_and_strings_are_read_and_tests_and_comments_are_not() {
        let code = format!(
            "// {TOLD}\nconst A: &str = \"{TOLD}\";\n#[cfg(test)]\nmod tests {{ \"{TOLD}\" }}"
        );
        let line = format!("one\n{TOLD}\n");
        let tree = Tree::of(vec![
            ("crates/a/src/a.rs", &code),
            ("crates/a/tests/a.rs", &code),
            ("docs/how-to/a.md", &line),
            ("docs/reference/rules/a.md", &line),
            ("crates/core/rules/a.yaml", &line),
        ]);
        let found = |texts: Vec<(String, String)>| -> Vec<String> {
            texts
                .into_iter()
                .filter(|(_, text)| count(text, KINDS[0].words) > 0)
                .map(|(place, _)| place)
                .collect()
        };
        assert_eq!(found(pages(&tree)), ["docs/how-to/a.md:2"]);
        assert_eq!(found(rules(&tree)), ["crates/core/rules/a.yaml:2"]);
        assert_eq!(found(strings(&tree)), ["crates/a/src/a.rs"]);
    }

    #[test]
    fn templates_count_for_what_they_show() {
        let template =
            "<style>.a{}</style>{% for told in x %}<p class=\"lane\">{{ told }} two</p>{% end %}";
        assert_eq!(shown(template).split_whitespace().collect::<Vec<_>>(), ["two"]);
    }

    #[test]
    fn a_count_above_or_below_its_ceiling_is_a_problem_and_lowering_never_raises() {
        let line = format!("{TOLD} {TOLD}\n");
        let problems = |ceiling: usize| {
            let table = format!("kind\tpages\trules\tstrings\ntell\t{ceiling}\t0\t0\n");
            let tree = Tree::of(vec![("docs/a.md", line.as_str()), (CEILINGS, table.as_str())]);
            (words(&tree), lowered(&tree))
        };
        assert_eq!(problems(2).0, Vec::<String>::new());
        let (above, lowered) = problems(1);
        assert!(above[0].contains("at most 1") && above[0].contains("docs/a.md:1"), "{above:?}");
        assert!(lowered.contains("tell\t1\t0\t0"), "{lowered}");
        let (below, lowered) = problems(3);
        assert!(below[0].contains("lower the ceiling of 3"), "{below:?}");
        assert!(lowered.contains("tell\t2\t0\t0"), "{lowered}");
    }
}
