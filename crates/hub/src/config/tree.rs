//! What file, environment and flags say, put together, with where each value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provenance {
    /// Nowhere in particular: a default, or the file as a whole where there is one.
    Nowhere,
    /// The configuration file.
    File {
        /// Its path, as it was given.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// An environment variable of this name.
    Environment(String),
    /// A flag of the command line, such as `--listen`.
    Flag(String),
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("configuration"),
            Self::File { path, line, column } => {
                write!(f, "{}:{line}:{column}", path.display())
            }
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A value, and where it and its key came from.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) key_at: Provenance,
    pub(crate) at: Provenance,
}

/// A value.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Table(BTreeMap<String, Node>),
    Array(Vec<Node>),
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// TOML's dates and times, as written.
    Date(String),
    /// A text from the environment or a flag; what it means depends on what is asked for.
    Raw(String),
}

impl Node {
    pub(crate) fn empty() -> Self {
        Self {
            kind: Kind::Table(BTreeMap::new()),
            key_at: Provenance::Nowhere,
            at: Provenance::Nowhere,
        }
    }

    /// The node at a key such as `source.sqs[0].name`, or the nearest one above it.
    pub(crate) fn nearest(&self, key: &str) -> &Self {
        let mut node = self;
        for step in steps(key) {
            let inner = match &node.kind {
                Kind::Table(table) => table.get(step),
                Kind::Array(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
                _ => None,
            };
            match inner {
                Some(inner) => node = inner,
                None => break,
            }
        }
        node
    }

    /// The node exactly at a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let mut node = self;
        for step in steps(key) {
            node = match &node.kind {
                Kind::Table(table) => table.get(step)?,
                Kind::Array(items) => items.get(step.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(node)
    }

    /// Puts a text at a key, over what is there. Names of the environment are matched to the keys
    /// that are there already, which may be written with lowercase letters and dashes.
    pub(crate) fn put(
        &mut self,
        steps: &[String],
        text: &str,
        place: &Provenance,
    ) -> Result<(), String> {
        let Some((step, rest)) = steps.split_first() else {
            self.kind = Kind::Raw(text.to_owned());
            self.key_at = place.clone();
            self.at = place.clone();
            return Ok(());
        };
        let fresh = || Self { key_at: place.clone(), at: place.clone(), ..Self::empty() };
        match &mut self.kind {
            Kind::Array(items) => {
                let index: usize = step
                    .parse()
                    .map_err(|_| format!("`{step}` must be the number of a list's entry"))?;
                if index > items.len() {
                    return Err(format!("the list has {} entries", items.len()));
                }
                if index == items.len() {
                    items.push(fresh());
                }
                items[index].put(rest, text, place)
            }
            Kind::Table(table) => {
                let same = |key: &&String| key.replace('-', "_").eq_ignore_ascii_case(step);
                let key = table.keys().find(same).unwrap_or(step).clone();
                let is_first = rest.first().is_some_and(|next| next == "0");
                let inner = table.entry(key).or_insert_with(|| {
                    let kind = if is_first { Kind::Array(Vec::new()) } else { fresh().kind };
                    Self { kind, ..fresh() }
                });
                inner.put(rest, text, place)
            }
            _ => {
                *self = fresh();
                self.put(steps, text, place)
            }
        }
    }

    /// The value without its places.
    pub(crate) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Table(table) => {
                table.iter().map(|(key, node)| (key.clone(), node.to_json())).collect()
            }
            Kind::Array(items) => items.iter().map(Self::to_json).collect(),
            Kind::Text(text) | Kind::Date(text) | Kind::Raw(text) => text.clone().into(),
            Kind::Integer(number) => (*number).into(),
            Kind::Float(number) => (*number).into(),
            Kind::Bool(value) => (*value).into(),
        }
    }
}

/// `a.b[0].c` in steps: `a`, `b`, `0`, `c`.
fn steps(key: &str) -> impl Iterator<Item = &str> {
    key.split(['.', '[', ']']).filter(|step| !step.is_empty())
}

/// A fault of the file's grammar: where, and what.
pub(crate) type SyntaxFault = (Provenance, String);

/// Reads a configuration file's text. Faults do not quote the text: it may hold secrets.
pub(crate) fn parse(path: &std::path::Path, text: &str) -> (Node, Vec<SyntaxFault>) {
    let lines = Lines::new(path, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut faults: Vec<SyntaxFault> = errors
        .iter()
        .map(|error| {
            let at = error.span().map_or(Provenance::Nowhere, |span| lines.place(span.start));
            (at, error.message().lines().collect::<Vec<_>>().join("; "))
        })
        .collect();
    let mut node = Node::empty();
    node.kind = Kind::Table(read_table(table.get_ref(), &lines, &mut faults));
    (node, faults)
}

/// Reads one value, as TOML writes it; `None` when it is none.
pub(crate) fn parse_value(text: &str, place: &Provenance) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    let mut faults = Vec::new();
    let lines = Lines { path: PathBuf::new(), starts: Vec::new(), text: "", fixed: Some(place) };
    let node = read_value(&value, place.clone(), &lines, &mut faults);
    faults.is_empty().then_some(node)
}

fn read_table(
    table: &DeTable<'_>,
    lines: &Lines<'_>,
    faults: &mut Vec<SyntaxFault>,
) -> BTreeMap<String, Node> {
    table
        .iter()
        .map(|(key, value)| {
            let key_at = lines.place(key.span().start);
            (key.get_ref().to_string(), read_value(value, key_at, lines, faults))
        })
        .collect()
}

fn read_value(
    value: &Spanned<DeValue<'_>>,
    key_at: Provenance,
    lines: &Lines<'_>,
    faults: &mut Vec<SyntaxFault>,
) -> Node {
    let at = lines.place(value.span().start);
    let kind = match value.get_ref() {
        DeValue::String(text) => Kind::Text(text.to_string()),
        DeValue::Boolean(value) => Kind::Bool(*value),
        DeValue::Datetime(date) => Kind::Date(date.to_string()),
        DeValue::Integer(number) => {
            match i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()) {
                Ok(number) => Kind::Integer(number),
                Err(_) => {
                    faults.push((at.clone(), "the number is too large".to_owned()));
                    Kind::Integer(0)
                }
            }
        }
        DeValue::Float(number) => match number.as_str().replace('_', "").parse::<f64>() {
            Ok(number) if number.is_finite() => Kind::Float(number),
            _ => {
                faults.push((at.clone(), "the number must be finite".to_owned()));
                Kind::Float(0.0)
            }
        },
        DeValue::Array(items) => Kind::Array(
            items
                .iter()
                .map(|item| {
                    let at = lines.place(item.span().start);
                    read_value(item, at, lines, faults)
                })
                .collect(),
        ),
        DeValue::Table(table) => Kind::Table(read_table(table, lines, faults)),
    };
    Node { kind, key_at, at }
}

/// Finds the line and column of a byte.
struct Lines<'a> {
    path: PathBuf,
    text: &'a str,
    /// Where each line begins.
    starts: Vec<usize>,
    /// The one place of everything, for a value that is in no file.
    fixed: Option<&'a Provenance>,
}

impl<'a> Lines<'a> {
    fn new(path: &std::path::Path, text: &'a str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(starts.map(|(at, _)| at + 1)).collect();
        Self { path: path.to_owned(), text, starts, fixed: None }
    }

    fn place(&self, byte: usize) -> Provenance {
        if let Some(place) = self.fixed {
            return place.clone();
        }
        let line = self.starts.partition_point(|start| *start <= byte).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..byte).unwrap_or("");
        Provenance::File { path: self.path.clone(), line, column: before.chars().count() + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: usize, column: usize) -> Provenance {
        Provenance::File { path: "hub.toml".into(), line, column }
    }

    #[test]
    fn every_value_knows_its_line_and_column() {
        let text =
            "[hub]\nlisten = \"127.0.0.1:1\"\n\n[[token]]\nname = \"ä\" # x\nscopes = [1,\n 2]\n";
        let (tree, faults) = parse("hub.toml".as_ref(), text);
        assert!(faults.is_empty());
        assert_eq!(tree.nearest("hub.listen").key_at, place(2, 1));
        assert_eq!(tree.nearest("hub.listen").at, place(2, 10));
        assert_eq!(tree.nearest("token[0].scopes[1]").at, place(7, 2));
        // What is not there is where it would be.
        assert_eq!(tree.nearest("token[0].sha256").at, tree.nearest("token.0").at);
    }

    #[test]
    fn all_faults_of_grammar_are_told_without_the_text() {
        let (_, faults) = parse("hub.toml".as_ref(), "a = \nb = hush-hush\n[c\n");
        assert!(faults.len() >= 2, "{faults:?}");
        assert!(faults.iter().all(|(_, fault)| !fault.contains("hush")), "{faults:?}");
    }

    #[test]
    fn names_of_the_environment_find_keys_with_dashes_and_entries_of_lists() {
        let (mut tree, _) = parse("hub.toml".as_ref(), "[destination.on-call]\nurl = \"a\"\n");
        let env = Provenance::Environment("X".into());
        let words = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        tree.put(&words("destination.on_call.url"), "b", &env).expect("put");
        tree.put(&words("token.0.name"), "c", &env).expect("put");
        let wanted = serde_json::json!({
            "destination": { "on-call": { "url": "b" } }, "token": [{ "name": "c" }]
        });
        assert_eq!(tree.to_json(), wanted);
        assert!(tree.put(&words("token.7.name"), "c", &env).is_err());
    }
}
