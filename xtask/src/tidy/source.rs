//! The little of Rust's syntax that checks of source files need: tokens, `mod` lines, and the files
//! that a target of Cargo reaches.
//!
//! This is not a parser. It reads items until the next one begins, and never looks into macros,
//! which is exactly what rustfmt does.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::Tree;

/// One token. Comments and white space are none; `::` is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'t> {
    Word(&'t str),
    /// A string without its quotes, escapes as written; other literals are [`Token::Word`].
    Text(&'t str),
    Mark(&'t str),
}

impl<'t> Token<'t> {
    pub(super) fn word(self) -> Option<&'t str> {
        match self {
            Self::Word(word) => Some(word),
            _ => None,
        }
    }

    pub(super) fn is(self, text: &str) -> bool {
        matches!(self, Self::Word(own) | Self::Mark(own) if own == text)
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Splits a source text into tokens.
pub(super) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_whitespace() {
            first.len_utf8()
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some((start, end, length)) = string(rest) {
            tokens.push(Token::Text(&rest[start..end]));
            length
        } else if first == '\'' {
            let length = quote(rest);
            tokens.push(Token::Word(&rest[..length]));
            length
        } else {
            let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            if word > 0 {
                let word = match rest.strip_prefix("r#") {
                    Some(raw) => 2 + raw.find(|c| !is_word(c)).unwrap_or(raw.len()),
                    None => word,
                };
                tokens.push(Token::Word(rest[..word].trim_start_matches("r#")));
                word
            } else {
                let length = if rest.starts_with("::") { 2 } else { first.len_utf8() };
                tokens.push(Token::Mark(&rest[..length]));
                length
            }
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of the comment that `rest` begins with; these may be nested.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Where the text of the string that `rest` begins with starts and ends, and the string's length.
fn string(rest: &str) -> Option<(usize, usize, usize)> {
    let prefix = rest.find(|c| !matches!(c, 'b' | 'c' | 'r')).filter(|length| *length <= 2)?;
    let is_raw = rest[..prefix].contains('r');
    let hashes = rest[prefix..].find(|c| c != '#')?;
    if hashes > 0 && !is_raw || !rest[prefix + hashes..].starts_with('"') {
        return None;
    }
    let start = prefix + hashes + 1;
    if is_raw {
        let end = format!("\"{}", "#".repeat(hashes));
        let length = rest[start..].find(&end).unwrap_or(rest.len() - start);
        return Some((start, start + length, (start + length + end.len()).min(rest.len())));
    }
    let mut is_escaped = false;
    for (at, c) in rest[start..].char_indices() {
        match c {
            '"' if !is_escaped => return Some((start, start + at, start + at + 1)),
            _ => is_escaped = c == '\\' && !is_escaped,
        }
    }
    Some((start, rest.len(), rest.len()))
}

/// The length of the character or the lifetime that `rest` begins with.
fn quote(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[3.min(rest.len())..].find('\'').map_or(rest.len(), |at| at + 4),
        Some(_) if matches!(chars.next(), Some((_, '\''))) => {
            rest.char_indices().nth(3).map_or(rest.len(), |(at, _)| at)
        }
        _ => 1 + rest[1..].find(|c| !is_word(c)).unwrap_or(rest.len() - 1),
    }
}

/// The end of the group that opens at `at`, one past its closing bracket.
pub(super) fn group_end(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token {
            Token::Mark("(" | "[" | "{") => depth += 1,
            Token::Mark(")" | "]" | "}") => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index + 1;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// One item of a module: its attributes and everything else, as ranges of tokens.
pub(super) struct Item<'t, 's> {
    pub(super) attributes: &'t [Token<'s>],
    pub(super) tokens: &'t [Token<'s>],
}

impl<'s> Item<'_, 's> {
    pub(super) fn has_attribute(&self, words: &[&str]) -> bool {
        self.attributes
            .windows(words.len())
            .any(|window| window.iter().zip(words).all(|(token, word)| token.is(word)))
    }

    /// True for what only tests contain.
    pub(super) fn is_test(&self) -> bool {
        self.has_attribute(&["#", "[", "cfg", "(", "test", ")", "]"])
            || self.has_attribute(&["#", "[", "test", "]"])
    }

    /// The item's tokens after its visibility.
    pub(super) fn bare(&self) -> &[Token<'s>] {
        match self.tokens {
            [Token::Word("pub"), Token::Mark("("), ..] => &self.tokens[group_end(self.tokens, 1)..],
            [Token::Word("pub"), rest @ ..] => rest,
            tokens => tokens,
        }
    }

    fn path_attribute(&self) -> Option<&'s str> {
        self.attributes.windows(3).find_map(|window| match window {
            [Token::Word("path"), Token::Mark("="), Token::Text(path)] => Some(*path),
            _ => None,
        })
    }
}

/// Splits the tokens of a module into its items.
pub(super) fn items<'t, 's>(tokens: &'t [Token<'s>]) -> Vec<Item<'t, 's>> {
    let mut items = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let start = at;
        while let [Token::Mark("#"), Token::Mark("!"), Token::Mark("["), ..]
        | [Token::Mark("#"), Token::Mark("["), ..] = &tokens[at..]
        {
            let is_of_module = tokens[at + 1].is("!");
            at = group_end(tokens, if is_of_module { at + 2 } else { at + 1 });
        }
        let body = at;
        let ends_at_brace = !ends_at_semicolon(&tokens[body..]);
        while at < tokens.len() {
            match tokens[at] {
                Token::Mark(";") => {
                    at += 1;
                    break;
                }
                Token::Mark("{") if ends_at_brace => {
                    at = group_end(tokens, at);
                    break;
                }
                Token::Mark("(" | "[" | "{") => at = group_end(tokens, at),
                _ => at += 1,
            }
        }
        if at == start {
            at += 1;
        }
        items.push(Item { attributes: &tokens[start..body], tokens: &tokens[body..at] });
    }
    items
}

/// True for items that may hold a block before their end: `const A: [u8; 1] = { … };`.
fn ends_at_semicolon(item: &[Token<'_>]) -> bool {
    let bare = Item { attributes: &[], tokens: item };
    match bare.bare() {
        [Token::Word("use" | "static" | "type"), ..] => true,
        [Token::Word("const"), next, ..] => {
            !matches!(next, Token::Word("fn" | "unsafe" | "extern" | "async"))
        }
        _ => false,
    }
}

/// One file of a target, as `mod` lines reach it.
pub(super) struct SourceFile {
    /// The module's path from the root, without the target's name.
    pub(super) module: Vec<String>,
    pub(super) path: String,
}

/// Which modules a walk leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    /// Everything that rustfmt formats.
    AsRustfmt,
    /// Everything but tests.
    WithoutTests,
}

/// The files that the root of a target reaches by `mod` lines, as rustfmt follows them: no macro is
/// looked into, and `#[path]` counts.
pub(super) fn reached(tree: &Tree, root: &str, walk: Walk) -> Vec<SourceFile> {
    let mut files = Vec::new();
    let mut seen = BTreeSet::new();
    let own = SourceFile { module: Vec::new(), path: root.to_owned() };
    let mut waiting = vec![(own, true)];
    while let Some((file, is_folder_root)) = waiting.pop() {
        let Some(text) = tree.text(&file.path) else { continue };
        if !seen.insert(file.path.clone()) {
            continue;
        }
        let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let below = if is_folder_root || name == "mod.rs" {
            folder.to_owned()
        } else {
            format!("{folder}/{}", name.trim_end_matches(".rs"))
        };
        let mut inner = Vec::new();
        let place = Place { folder, below: &below, module: &file.module };
        modules(tree, &tokens(text), &place, walk, &mut inner);
        waiting.extend(inner);
        files.push(file);
    }
    files
}

/// Where a `mod` line stands.
struct Place<'p> {
    /// The folder that `#[path]` counts from.
    folder: &'p str,
    /// The folder of plain `mod` lines.
    below: &'p str,
    module: &'p [String],
}

fn modules(
    tree: &Tree,
    tokens: &[Token<'_>],
    place: &Place<'_>,
    walk: Walk,
    found: &mut Vec<(SourceFile, bool)>,
) {
    for item in items(tokens) {
        let is_left_out = match walk {
            Walk::AsRustfmt => item.has_attribute(&["rustfmt", "::", "skip"]),
            Walk::WithoutTests => item.is_test(),
        };
        let [Token::Word("mod"), Token::Word(name), rest @ ..] = item.bare() else { continue };
        if is_left_out {
            continue;
        }
        let mut module = place.module.to_vec();
        module.push((*name).to_owned());
        match (rest.first(), item.path_attribute()) {
            (Some(Token::Mark("{")), path) => {
                let below = format!("{}/{}", place.below, path.unwrap_or(name));
                let inner = Place { folder: &below, below: &below, module: &module };
                modules(tree, &rest[1..rest.len() - 1], &inner, walk, found);
            }
            (_, Some(path)) => {
                let path = joined(place.folder, path);
                found.push((SourceFile { module, path }, true));
            }
            (_, None) => {
                let plain = format!("{}/{name}.rs", place.below);
                let path = match tree.text(&plain) {
                    Some(_) => plain,
                    None => format!("{}/{name}/mod.rs", place.below),
                };
                found.push((SourceFile { module, path }, false));
            }
        }
    }
}

/// `path` as seen from `folder`, without `..`.
fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The roots of the targets of all packages, as Cargo finds them.
pub(super) fn roots(tree: &Tree) -> Vec<String> {
    let mut roots = BTreeSet::new();
    let manifests: BTreeMap<&str, &str> = tree
        .texts("", "Cargo.toml")
        .filter_map(|(path, text)| Some((path.strip_suffix("/Cargo.toml")?, text)))
        .collect();
    for (package, manifest) in &manifests {
        for line in manifest.lines() {
            let value = line.strip_prefix("path").map(|rest| rest.trim_start_matches([' ', '=']));
            roots.extend(value.map(|path| joined(package, path.trim_matches('"'))));
        }
    }
    for path in tree.paths().filter(|path| path.ends_with(".rs")) {
        let package = manifests.keys().filter(|package| {
            path.strip_prefix(**package).is_some_and(|rest| rest.starts_with('/'))
        });
        let Some(package) = package.max_by_key(|package| package.len()) else { continue };
        let parts: Vec<&str> = path[package.len() + 1..].split('/').collect();
        let is_root = matches!(
            parts.as_slice(),
            ["build.rs"]
                | ["src", "lib.rs" | "main.rs"]
                | ["src", "bin", _]
                | ["tests" | "benches" | "examples", _]
                | ["src", "bin", _, "main.rs"]
                | ["tests" | "benches" | "examples", _, "main.rs"]
        );
        if is_root {
            roots.insert(path.to_owned());
        }
    }
    roots.into_iter().collect()
}

/// Every source file is formatted, since a `mod` line or a target's root leads rustfmt to it.
pub(super) fn formatted(tree: &Tree) -> Vec<String> {
    let mut reachable = BTreeSet::new();
    for root in roots(tree) {
        reachable.extend(reached(tree, &root, Walk::AsRustfmt).into_iter().map(|file| file.path));
    }
    let is_ours =
        |path: &&str| ["crates/", "xtask/", "fuzz/"].iter().any(|folder| path.starts_with(folder));
    tree.paths()
        .filter(|path| path.ends_with(".rs"))
        .filter(is_ours)
        .filter(|path| !reachable.contains(*path))
        .map(|path| format!("{path}: rustfmt does not reach this file: write a plain `mod` line"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_quotes_are_no_code() {
        let source =
            "a /* mod b; /* c */ */ // mod d;\n'\"' '\\'' 'static r#\"mod \"e\";\"# b\"f\" g::h";
        let words: Vec<_> = tokens(source).into_iter().filter_map(Token::word).collect();
        assert_eq!(words, ["a", "'\"'", "'\\''", "'static", "g", "h"]);
        assert!(tokens(source).contains(&Token::Text("mod \"e\";")));
        assert!(tokens(source).contains(&Token::Text("f")));
    }

    #[test]
    fn items_end_where_the_next_begins() {
        let source = "#![allow(x)]\nuse a::{b, c};\nconst D: [u8; 2] = { [1, 2] };\n\
                      pub(crate) const fn e() -> [u8; 2] { D }\nstruct F { g: u8 }\nmod h;";
        let tokens = tokens(source);
        let items = items(&tokens);
        let firsts: Vec<_> = items.iter().filter_map(|item| item.bare()[0].word()).collect();
        assert_eq!(firsts, ["use", "const", "const", "struct", "mod"]);
    }

    #[test]
    fn files_are_found_as_the_compiler_finds_them() {
        let tree = Tree::of(vec![
            ("crates/a/Cargo.toml", "[[bin]]\npath = \"odd/tool.rs\"\n"),
            ("crates/a/src/lib.rs", "mod b; mod c { mod d; } #[path = \"../x/e.rs\"] mod e;"),
            ("crates/a/src/b.rs", "mod f; #[cfg(test)] mod tests;"),
            ("crates/a/src/b/f.rs", ""),
            ("crates/a/src/b/tests.rs", ""),
            ("crates/a/src/c/d.rs", ""),
            ("crates/a/x/e.rs", "mod g;"),
            ("crates/a/x/g.rs", ""),
            ("crates/a/odd/tool.rs", ""),
            ("crates/a/tests/t/main.rs", "mod u;"),
            ("crates/a/tests/t/u/mod.rs", ""),
        ]);
        assert_eq!(formatted(&tree), Vec::<String>::new());
        let code = reached(&tree, "crates/a/src/lib.rs", Walk::WithoutTests);
        assert!(code.iter().any(|file| file.module == ["b", "f"]));
        assert!(!code.iter().any(|file| file.path.ends_with("tests.rs")));
    }
}
