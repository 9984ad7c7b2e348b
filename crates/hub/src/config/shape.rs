//! Holds what was read to the schema of [`Config`](super::types::Config), and says all that is wrong: an
//! unknown key with the nearest known one, a wrong type in plain words.

use serde_json::{Map, Value};

use super::problem::Problem;
use super::tree::{Kind, Node, Provenance, parse_value};

/// How alike two names have to be for one to be offered instead of the other, of 1.
const ALIKE_MIN: f64 = 0.8;

/// Follows references and drops the `null` of what may be left out.
pub(crate) fn resolve<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    loop {
        if let Some(reference) = schema["$ref"].as_str() {
            let pointer = reference.trim_start_matches('#');
            match root.pointer(pointer) {
                Some(inner) => schema = inner,
                None => return schema,
            }
        } else if let Some(inner) =
            only_one(&schema["anyOf"]).or_else(|| only_one(&schema["allOf"]))
        {
            schema = inner;
        } else {
            return schema;
        }
    }
}

/// The one schema of a list that is not `null`.
fn only_one(list: &Value) -> Option<&Value> {
    let mut others = list.as_array()?.iter().filter(|one| one["type"] != "null");
    let first = others.next()?;
    others.next().is_none().then_some(first)
}

/// Types that a schema allows, without `null`.
pub(crate) fn types(schema: &Value) -> Vec<&str> {
    let all: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ if schema["enum"].is_array() || schema["const"].is_string() => vec!["string"],
        _ if words(schema).is_some() => vec!["string"],
        _ => Vec::new(),
    };
    all.into_iter().filter(|one| *one != "null").collect()
}

/// The texts that an enumeration allows.
pub(crate) fn words(schema: &Value) -> Option<Vec<&str>> {
    if let Some(word) = schema["const"].as_str() {
        return Some(vec![word]);
    }
    if let Some(list) = schema["enum"].as_array() {
        return Some(list.iter().filter_map(Value::as_str).collect());
    }
    let mut all = Vec::new();
    for one in schema["oneOf"].as_array()? {
        if one["properties"].is_object() {
            return None;
        }
        all.extend(words(one)?);
    }
    Some(all)
}

/// Checks a tree, and gives texts of the environment the type that is asked for.
pub(crate) fn check(root: &Value, tree: &mut Node) -> Vec<Problem> {
    let mut checker = Checker { root, problems: Vec::new() };
    checker.node(root, tree, &mut String::new());
    checker.problems
}

struct Checker<'a> {
    root: &'a Value,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn problem(&mut self, place: &Provenance, key: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(place.clone(), key, message));
    }

    fn node(&mut self, schema: &Value, node: &mut Node, key: &mut String) {
        let schema = resolve(self.root, schema);
        if let Kind::Raw(text) = &node.kind {
            *node = read_raw(schema, text, &node.at);
        }
        let schema = match variant(schema, node) {
            Ok(schema) => resolve(self.root, schema),
            Err((field, message)) => {
                let place = match &node.kind {
                    Kind::Table(table) => table.get(field).map_or(&node.at, |inner| &inner.at),
                    _ => &node.at,
                };
                let place = place.clone();
                return self.problem(&place, &join(key, field), message);
            }
        };
        let types = types(schema);
        if !types.is_empty() && !types.iter().any(|one| fits(one, &node.kind)) {
            let message = format!("must be {}, not {}", expected(schema), said(&node.kind));
            let place = node.at.clone();
            return self.problem(&place, key, message);
        }
        match &mut node.kind {
            Kind::Table(table) => {
                let at = node.at.clone();
                self.table(schema, table, &at, key);
            }
            Kind::Array(items) => {
                let unwanted = Value::Bool(true);
                let item_schema = schema.get("items").unwrap_or(&unwanted);
                for (index, item) in items.iter_mut().enumerate() {
                    let length = key.len();
                    key.push_str(&format!("[{index}]"));
                    self.node(item_schema, item, key);
                    key.truncate(length);
                }
            }
            Kind::Text(text) => {
                if let Some(words) = words(schema)
                    && !words.contains(&text.as_str())
                {
                    let listed = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>();
                    let mut problem = Problem::new(
                        node.at.clone(),
                        key.as_str(),
                        format!("must be one of {}", listed.join(", ")),
                    );
                    if let Some(near) = nearest(text, words.iter().copied()) {
                        problem.hint = Some(format!("did you mean `{near}`?"));
                    }
                    self.problems.push(problem);
                }
            }
            Kind::Integer(number) => {
                let number = *number as f64;
                self.range(schema, number, &node.at.clone(), key);
            }
            Kind::Float(number) => {
                let number = *number;
                self.range(schema, number, &node.at.clone(), key);
            }
            Kind::Bool(_) | Kind::Date(_) | Kind::Raw(_) => {}
        }
    }

    fn range(&mut self, schema: &Value, number: f64, place: &Provenance, key: &str) {
        let low = schema["minimum"].as_f64();
        let high = schema["maximum"].as_f64().or(match schema["format"].as_str() {
            Some("uint16") => Some(f64::from(u16::MAX)),
            Some("uint32") => Some(f64::from(u32::MAX)),
            _ => None,
        });
        if low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high) {
            let message = match (low, high) {
                (Some(low), Some(high)) => format!("must be between {low} and {high}"),
                (Some(low), None) => format!("must be at least {low}"),
                (None, Some(high)) => format!("must be at most {high}"),
                (None, None) => return,
            };
            self.problem(place, key, message);
        }
    }

    fn table(
        &mut self,
        schema: &Value,
        table: &mut std::collections::BTreeMap<String, Node>,
        at: &Provenance,
        key: &mut String,
    ) {
        let nothing = Map::new();
        let known = schema["properties"].as_object().unwrap_or(&nothing);
        for (name, node) in table.iter_mut() {
            let inner_key = join(key, name);
            if let Some(inner) = known.get(name) {
                let length = key.len();
                key.clone_from(&inner_key);
                self.node(inner, node, key);
                key.truncate(length);
            } else if let Some(inner @ Value::Object(_)) = schema.get("additionalProperties") {
                let length = key.len();
                key.clone_from(&inner_key);
                self.node(inner, node, key);
                key.truncate(length);
            } else if schema["additionalProperties"] == false {
                let mut problem =
                    Problem::new(node.key_at.clone(), inner_key.as_str(), "is not a known key");
                problem.hint = self.instead(known, name, key);
                self.problems.push(problem);
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !table.contains_key(name) {
                self.problem(at, &join(key, name), "is missing");
            }
        }
    }

    /// What somebody who wrote this unknown key may have meant.
    fn instead(&self, known: &Map<String, Value>, name: &str, key: &str) -> Option<String> {
        let lower = name.to_ascii_lowercase();
        if let Some(near) = nearest(&lower, known.keys().map(String::as_str)) {
            return Some(format!("did you mean `{near}`?"));
        }
        // The key may be there, but in another table.
        let tables = self.root["properties"].as_object()?;
        for (table, schema) in tables {
            let inner = resolve(self.root, schema);
            if table != key && inner["properties"].get(&lower).is_some() {
                return Some(format!("`{lower}` is a key of `[{table}]`"));
            }
        }
        let names: Vec<String> = known.keys().map(|name| format!("`{name}`")).collect();
        Some(format!("known names: {}", names.join(", ")))
    }
}

/// The variant of a schema with several kinds of tables that the one text key decides, which each
/// of them fixes.
fn variant<'a>(schema: &'a Value, node: &Node) -> Result<&'a Value, (&'a str, String)> {
    let Some(variants) = schema["oneOf"].as_array() else { return Ok(schema) };
    let Some((field, _)) = variants.first().and_then(fixed) else { return Ok(schema) };
    let Kind::Table(table) = &node.kind else { return Ok(&variants[0]) };
    let names: Vec<&str> = variants.iter().filter_map(fixed).map(|(_, name)| name).collect();
    let listed = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let said = match table.get(field).map(|node| &node.kind) {
        Some(Kind::Text(said) | Kind::Raw(said)) => said,
        Some(_) => return Err((field, format!("must be one of {listed}"))),
        None => return Err((field, format!("is missing: one of {listed}"))),
    };
    variants
        .iter()
        .find(|one| fixed(one).is_some_and(|(_, name)| name == said))
        .ok_or_else(|| (field, format!("must be one of {listed}")))
}

/// The key of a variant whose text is fixed, and the text.
pub(crate) fn fixed(variant: &Value) -> Option<(&str, &str)> {
    variant["properties"]
        .as_object()?
        .iter()
        .find_map(|(name, schema)| Some((name.as_str(), schema["const"].as_str()?)))
}

/// A text of the environment as what is asked for.
fn read_raw(schema: &Value, text: &str, place: &Provenance) -> Node {
    let plain =
        || Node { kind: Kind::Text(text.to_owned()), key_at: place.clone(), at: place.clone() };
    let is_text = types(schema).contains(&"string");
    match parse_value(text, place) {
        Some(node) if !is_text || matches!(node.kind, Kind::Text(_)) => node,
        _ => plain(),
    }
}

fn fits(wanted: &str, kind: &Kind) -> bool {
    matches!(
        (wanted, kind),
        ("object", Kind::Table(_))
            | ("array", Kind::Array(_))
            | ("string", Kind::Text(_))
            | ("integer", Kind::Integer(_))
            | ("number", Kind::Integer(_) | Kind::Float(_))
            | ("boolean", Kind::Bool(_))
    )
}

/// What is asked for, in words.
fn expected(schema: &Value) -> String {
    let all: Vec<&str> = types(schema)
        .into_iter()
        .map(|one| match one {
            "object" => "a table",
            "array" => "a list",
            "string" => "a string",
            "integer" => "an integer",
            "number" => "a number",
            "boolean" => "`true` or `false`",
            other => other,
        })
        .collect();
    all.join(" or ")
}

/// What is there, in words; never the value, which may be a secret.
fn said(kind: &Kind) -> &'static str {
    match kind {
        Kind::Table(_) => "a table",
        Kind::Array(_) => "a list",
        Kind::Text(_) | Kind::Raw(_) => "a string",
        Kind::Integer(_) => "an integer",
        Kind::Float(_) => "a number with a fraction",
        Kind::Bool(_) => "`true` or `false`",
        Kind::Date(_) => "a date",
    }
}

fn join(key: &str, name: &str) -> String {
    if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") }
}

/// The most similar name, if any is similar.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|one| (strsim::jaro_winkler(name, one), one))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, one)| one)
}
