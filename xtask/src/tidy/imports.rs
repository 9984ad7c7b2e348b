//! Who may import whom: arrows between crates, and no circles among the files of a crate.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{self, Item, SourceFile, Token, Walk, group_end};
use super::tree::{Tree, dependencies};

/// The layers of the crates, the lowest first. A crate may depend on crates of lower layers only.
///
/// `aws` makes the signed calls of the libraries above it, which do not know each other.
const LAYERS: [&[&str]; 7] = [
    &["core"],
    &["aws"],
    &["scan", "store", "notify", "audit"],
    &["engine"],
    &["web"],
    &["hub"],
    &["cli", "lambda"],
];
/// Builders and servers for tests: only a dev-dependency, and free to use everything itself.
const FOR_TESTS: &str = "testkit";

/// Dependencies between crates point down the layers.
pub(super) fn arrows(tree: &Tree) -> Vec<String> {
    let layer = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    let mut problems = Vec::new();
    for (path, manifest) in tree.texts("crates/", "/Cargo.toml") {
        let Some(own) = path.strip_prefix("crates/").and_then(|path| path.split('/').next()) else {
            continue;
        };
        if own == FOR_TESTS {
            continue;
        }
        let Some(own_layer) = layer(own) else {
            problems.push(format!("{path}: the crate `{own}` has no place among the layers"));
            continue;
        };
        for name in dependencies(manifest) {
            let Some(used) = name.strip_prefix("rootwatch-") else { continue };
            let problem = if used == FOR_TESTS {
                "is for tests: write it below [dev-dependencies]".to_owned()
            } else {
                match layer(used) {
                    Some(used_layer) if used_layer < own_layer => continue,
                    Some(_) => format!("is not in a layer below `{own}`"),
                    None => "has no place among the layers".to_owned(),
                }
            };
            problems.push(format!("{path}: `{name}` {problem}"));
        }
    }
    problems
}

/// No two files of a crate import each other, directly or through others.
///
/// A module and its own parts are one: `wording.rs` may call `wording/redact.rs`, which may use the
/// types of `wording.rs`. Such a call is no import here; everything between other files is.
pub(super) fn circles(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for root in source::roots(tree) {
        // Every file of `tests/` and the like is a program of its own, read from top to bottom.
        if !root.contains("/src/") {
            continue;
        }
        let files = Program::read(tree, &root).imports();
        for circle in components(&files) {
            let first = circle.iter().next().map_or("", String::as_str);
            let mut names = circle.iter().map(|path| format!("`{}`", short(&root, path)));
            let (count, arrows) = (circle.len(), arrows_within(&root, &files, &circle));
            problems.push(format!(
                "{first}: {count} files import each other: {}; {arrows}",
                names.by_ref().collect::<Vec<_>>().join(", ")
            ));
        }
    }
    problems
}

/// The path from the root's folder.
fn short<'p>(root: &str, path: &'p str) -> &'p str {
    let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
    path.strip_prefix(folder).map_or(path, |path| path.trim_start_matches('/'))
}

fn arrows_within(root: &str, files: &Imports, circle: &BTreeSet<String>) -> String {
    let mut arrows = Vec::new();
    for from in circle {
        for (to, name) in files.get(from).into_iter().flatten() {
            if circle.contains(to) {
                arrows.push(format!("{} -> {} ({name})", short(root, from), short(root, to)));
            }
        }
    }
    arrows.join(", ")
}

/// What each file imports: the file, and one name that it has from there.
type Imports = BTreeMap<String, BTreeMap<String, String>>;

/// One module: where it is, what it defines and what it brings into view.
#[derive(Default)]
struct Module {
    file: String,
    defined: BTreeSet<String>,
    children: BTreeSet<String>,
    /// Names that `use` brings in, with the path that they stand for.
    used: BTreeMap<String, Vec<String>>,
    /// Paths of `use …::*`.
    globs: Vec<Vec<String>>,
}

/// A path in the code of a module, and the module.
struct Mention {
    module: Vec<String>,
    path: Vec<String>,
    /// False for what is only passed on, by `pub use`.
    is_import: bool,
}

#[derive(Default)]
struct Program {
    modules: BTreeMap<Vec<String>, Module>,
    mentions: Vec<Mention>,
    /// Words in the code of a module: what it may have by a glob or by its own `pub use`.
    words: BTreeMap<Vec<String>, BTreeSet<String>>,
}

const DEFINING: [&str; 10] =
    ["struct", "enum", "union", "trait", "type", "const", "static", "fn", "mod", "macro_rules"];

impl Program {
    fn read(tree: &Tree, root: &str) -> Self {
        let mut program = Self::default();
        for SourceFile { module, path } in source::reached(tree, root, Walk::WithoutTests) {
            let tokens = source::tokens(tree.text(&path).unwrap_or_default());
            program.module(&module, &path, &tokens);
        }
        program
    }

    fn module(&mut self, module: &[String], file: &str, tokens: &[Token<'_>]) {
        self.modules.entry(module.to_vec()).or_default().file = file.to_owned();
        for item in source::items(tokens) {
            if !item.is_test() {
                self.item(module, file, &item);
            }
        }
    }

    fn item(&mut self, module: &[String], file: &str, item: &Item<'_, '_>) {
        let bare = item.bare();
        let name = bare.iter().zip(bare.iter().skip(1)).find_map(|(word, name)| {
            let is_defining = word.word().is_some_and(|word| DEFINING.contains(&word));
            let name = if name.is("!") || name.is("mut") { None } else { name.word() };
            is_defining.then_some(name)
        });
        match bare {
            [Token::Word("mod"), Token::Word(name), rest @ ..] => {
                let own = self.modules.entry(module.to_vec()).or_default();
                own.children.insert((*name).to_owned());
                if rest.first().is_some_and(|token| token.is("{")) {
                    let mut inner = module.to_vec();
                    inner.push((*name).to_owned());
                    self.module(&inner, file, &rest[1..rest.len() - 1]);
                }
            }
            [Token::Word("use"), tree @ ..] => {
                let is_passed_on = item.tokens[0].is("pub");
                self.uses(module, tree, !is_passed_on);
            }
            _ => {
                if let Some(Some(name)) = name
                    && !bare[0].is("impl")
                {
                    let own = self.modules.entry(module.to_vec()).or_default();
                    own.defined.insert(name.to_owned());
                }
                if let [Token::Word("macro_rules"), _, Token::Word(name), ..] = bare {
                    let own = self.modules.entry(module.to_vec()).or_default();
                    own.defined.insert((*name).to_owned());
                }
                self.code(module, item.attributes);
                self.code(module, item.tokens);
            }
        }
    }

    /// Paths in a body, `use` inside of functions included.
    fn code(&mut self, module: &[String], tokens: &[Token<'_>]) {
        let mut at = 0;
        while at < tokens.len() {
            let Some(word) = tokens[at].word() else {
                at += 1;
                continue;
            };
            if word == "use" {
                let rest = &tokens[at + 1..];
                let end = rest.iter().position(|token| token.is(";")).unwrap_or(rest.len());
                self.uses(module, &rest[..end], true);
                at += 1 + end;
                continue;
            }
            let mut path = vec![word.to_owned()];
            let start = at;
            at += 1;
            while let [Token::Mark("::"), Token::Word(next), ..] = &tokens[at..] {
                path.push((*next).to_owned());
                at += 2;
            }
            let before = start.checked_sub(1).map(|before| tokens[before]);
            if before.is_some_and(|token| token.is("::") || token.is(".")) {
                continue;
            }
            self.words.entry(module.to_vec()).or_default().insert(path[0].clone());
            if path.len() > 1 {
                let module = module.to_vec();
                self.mentions.push(Mention { module, path, is_import: true });
            }
        }
    }

    fn uses(&mut self, module: &[String], tree: &[Token<'_>], is_import: bool) {
        let mut found = Vec::new();
        use_tree(tree, &[], &mut found);
        let own = self.modules.entry(module.to_vec()).or_default();
        for (path, name) in found {
            match name {
                Some(name) => drop(own.used.insert(name, path.clone())),
                None => own.globs.push(path.clone()),
            }
            self.mentions.push(Mention { module: module.to_vec(), path, is_import });
        }
    }

    /// The files that define what each file mentions.
    fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        let mut modules: BTreeMap<&str, &Vec<String>> = BTreeMap::new();
        for (module, own) in self.modules.iter().rev() {
            modules.insert(&own.file, module);
        }
        let is_part = |part: &str, of: &str| match (modules.get(part), modules.get(of)) {
            (Some(part), Some(of)) => part.starts_with(of),
            _ => false,
        };
        let mut add = |from: &str, to: &str, name: &str| {
            if !is_part(to, from) {
                let own = imports.entry(from.to_owned()).or_default();
                own.entry(to.to_owned()).or_insert_with(|| name.to_owned());
            }
        };
        for mention in self.mentions.iter().filter(|mention| mention.is_import) {
            let Some(from) = self.modules.get(&mention.module) else { continue };
            // A module that is only named says nothing: what is used of it does.
            if let Some(Found::Item(file)) = self.find(&mention.module, &mention.path, 0) {
                add(&from.file, &file, &mention.path.join("::"));
            }
        }
        for (module, words) in &self.words {
            let Some(own) = self.modules.get(module) else { continue };
            let brought = |word: &&String| !own.defined.contains(*word);
            for word in words.iter().filter(brought) {
                if let Some(Found::Item(file)) = self.within(module, word, 0) {
                    add(&own.file, &file, word);
                }
            }
        }
        imports
    }

    /// What a path means in a module; `None` for what other crates define.
    fn find(&self, module: &[String], path: &[String], depth: usize) -> Option<Found> {
        let mut at = module.to_vec();
        let mut rest = path;
        let mut is_inside = false;
        while let [first, others @ ..] = rest {
            match first.as_str() {
                "crate" => at.clear(),
                "super" => drop(at.pop()),
                "self" => {}
                _ => break,
            }
            is_inside = true;
            rest = others;
        }
        let mut found = Found::Module(at);
        for (index, name) in rest.iter().enumerate() {
            let Found::Module(at) = found else { return Some(found) };
            match self.within(&at, name, depth) {
                Some(next) => found = next,
                // A name that a macro defines.
                None if is_inside || index > 0 => {
                    return Some(Found::Item(self.modules.get(&at)?.file.clone()));
                }
                None => return None,
            }
        }
        Some(found)
    }

    /// What a name means in a module, through its imports.
    fn within(&self, module: &[String], name: &str, depth: usize) -> Option<Found> {
        const DEPTH_MAX: usize = 16;
        if depth > DEPTH_MAX {
            return None;
        }
        let own = self.modules.get(module)?;
        if own.children.contains(name) {
            let mut child = module.to_vec();
            child.push(name.to_owned());
            if self.modules.contains_key(&child) {
                return Some(Found::Module(child));
            }
        }
        if own.defined.contains(name) {
            return Some(Found::Item(own.file.clone()));
        }
        if let Some(path) = own.used.get(name) {
            // `use a::a;` must not find itself.
            let is_same = path.first().is_some_and(|first| first == name);
            return if is_same { None } else { self.find(module, path, depth + 1) };
        }
        own.globs.iter().find_map(|path| match self.find(module, path, depth + 1)? {
            Found::Module(globbed) if globbed != module => self.within(&globbed, name, depth + 1),
            _ => None,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Module(Vec<String>),
    /// Something that this file defines.
    Item(String),
}

/// Splits `a::{b, c as d, e::*}` into paths and the names that they bring in; a glob has none.
fn use_tree(
    tokens: &[Token<'_>],
    before: &[String],
    found: &mut Vec<(Vec<String>, Option<String>)>,
) {
    let mut path = before.to_vec();
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at] {
            Token::Word("as") => {
                let name = tokens.get(at + 1).and_then(|token| token.word());
                // `as _` brings in a trait's methods only.
                found.push((path, Some(name.unwrap_or("_").to_owned())));
                return;
            }
            Token::Word("self") if at > 0 || !before.is_empty() => at += 1,
            Token::Word(word) => {
                path.push(word.to_owned());
                at += 1;
            }
            Token::Mark("*") => {
                found.push((path, None));
                return;
            }
            Token::Mark("{") => {
                let end = group_end(tokens, at);
                for part in parts(&tokens[at + 1..end - 1]) {
                    use_tree(part, &path, found);
                }
                return;
            }
            Token::Mark(";") => break,
            _ => at += 1,
        }
    }
    if let Some(name) = path.last().cloned() {
        found.push((path, Some(name)));
    }
}

/// Splits at the commas that stand in no inner group.
fn parts<'t, 's>(tokens: &'t [Token<'s>]) -> Vec<&'t [Token<'s>]> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < tokens.len() {
        if tokens[at].is("{") {
            at = group_end(tokens, at);
            continue;
        }
        if tokens[at].is(",") {
            parts.push(&tokens[start..at]);
            start = at + 1;
        }
        at += 1;
    }
    parts.push(&tokens[start..]);
    parts.retain(|part| !part.is_empty());
    parts
}

/// Groups of files of which each reaches each other one: a file alone is none.
fn components(files: &Imports) -> Vec<BTreeSet<String>> {
    let reach = |from: &String| {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![from];
        while let Some(file) = waiting.pop() {
            for next in files.get(file).into_iter().flat_map(BTreeMap::keys) {
                if seen.insert(next.clone()) {
                    waiting.push(next);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> =
        files.keys().map(|file| (file, reach(file))).collect();
    let mut circles = BTreeSet::new();
    for (file, own) in &reached {
        let is_mutual = |other: &&String| reached.get(other).is_some_and(|far| far.contains(*file));
        let circle: BTreeSet<String> = own.iter().filter(is_mutual).cloned().collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&'static str, &'static str)]) -> Vec<String> {
        circles(&Tree::of(files.to_vec()))
    }

    #[test]
    fn files_that_import_each_other_are_found() {
        let problems = found(&[
            ("crates/a/Cargo.toml", ""),
            ("crates/a/src/lib.rs", "mod b;\nmod c;\nmod d;\n"),
            ("crates/a/src/b.rs", "use crate::c::C;\npub struct B(C);\n"),
            ("crates/a/src/c.rs", "use super::d;\npub struct C(d::D);\n"),
            ("crates/a/src/d.rs", "pub struct D;\nfn e() { let f = crate::b::B; }\n"),
        ]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("3 files import each other: `b.rs`, `c.rs`, `d.rs`"));
        assert!(problems[0].contains("d.rs -> b.rs (crate::b::B)"), "{problems:?}");
    }

    #[test]
    fn a_parent_that_passes_on_what_its_children_define_is_no_import() {
        let sound = [
            ("crates/a/Cargo.toml", ""),
            (
                "crates/a/src/lib.rs",
                "mod b;\nmod c;\npub use self::b::B;\npub use c::{C, D as E};\n",
            ),
            ("crates/a/src/b.rs", "pub struct B;\n// crate::C\n"),
            ("crates/a/src/c.rs", "use crate::B;\npub struct C(B);\npub struct D;\n"),
        ];
        assert_eq!(found(&sound), Vec::<String>::new());
        let mut through_a_glob = sound;
        through_a_glob[2].1 = "use crate::c::*;\npub struct B(Box<C>);\n";
        assert_eq!(found(&through_a_glob).len(), 1);
    }

    #[test]
    fn a_module_and_its_own_parts_are_one() {
        let mut files = vec![
            ("crates/a/Cargo.toml", ""),
            ("crates/a/src/lib.rs", "mod b;\nmod d;\n"),
            ("crates/a/src/b.rs", "mod c;\npub struct B(Vec<c::C>);\n"),
            ("crates/a/src/b/c.rs", "use super::B;\npub struct C(B);\n"),
            ("crates/a/src/d.rs", "use crate::b::B;\npub struct D(B);\n"),
        ];
        assert_eq!(found(&files), Vec::<String>::new());
        files[3].1 = "use crate::d::D;\npub struct C(D);\n";
        assert_eq!(found(&files), Vec::<String>::new());
        files[2].1 = "mod c;\npub struct B(crate::d::D);\n";
        assert_eq!(found(&files).len(), 1);
    }

    #[test]
    fn tests_may_import_what_they_test() {
        let files = [
            ("crates/a/Cargo.toml", ""),
            ("crates/a/src/lib.rs", "mod b;\nmod c;\n"),
            (
                "crates/a/src/b.rs",
                "pub struct B;\n#[cfg(test)]\nmod tests {\n use crate::c::C;\n}\n",
            ),
            ("crates/a/src/c.rs", "use crate::b::B;\npub struct C(B);\n#[cfg(test)]\nmod tests;\n"),
            ("crates/a/src/c/tests.rs", "use super::*;\n"),
        ];
        assert_eq!(found(&files), Vec::<String>::new());
    }

    #[test]
    fn arrows_between_crates_point_down() {
        let problems = |path: &'static str, manifest: &'static str| {
            arrows(&Tree::of(vec![(path, manifest)])).len()
        };
        let hub = "crates/hub/Cargo.toml";
        let notify = "crates/notify/Cargo.toml";
        assert_eq!(problems(hub, "[dependencies]\nrootwatch-store.workspace = true\n"), 0);
        assert_eq!(problems(hub, "[dependencies]\nrootwatch-cli.workspace = true\n"), 1);
        assert_eq!(problems(notify, "[dependencies]\nrootwatch-store.workspace = true\n"), 1);
        assert_eq!(problems(notify, "[dependencies]\nrootwatch-testkit.workspace = true\n"), 1);
        assert_eq!(problems(notify, "[dev-dependencies]\nrootwatch-testkit.workspace = true\n"), 0);
        assert_eq!(problems(notify, "[dev-dependencies]\nrootwatch-store.workspace = true\n"), 0);
        assert_eq!(problems("crates/new/Cargo.toml", ""), 1);
    }
}
