//! The reference of all configuration keys, generated from the schema.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::shape::{fixed, resolve, types, words};
use super::show::toml_text;
use super::types::schema;

/// `docs/reference/config.md`: every key with its type, default and effect, from the schema.
#[must_use]
pub fn reference() -> String {
    let schema = schema();
    let mut text = String::from(
        "# The configuration\n\n\
         Generated from the program (`cargo xtask docs`); do not edit.\n\n\
         One TOML file, `rootwatch serve --config rootwatch.toml`. Flags go before the environment, \
         the environment before the file, the file before the defaults. In the environment two \
         underscores part the levels: `ROOTWATCH_HUB__LISTEN=127.0.0.1:9000`, \
         `ROOTWATCH_TOKEN__0__NAME=forwarder`. Relative paths in the file begin at the file's \
         folder.\n\n\
         Secrets are best kept elsewhere: `env:NAME`, `file:PATH`, `aws-secret:ID` and \
         `aws-ssm:NAME` name where. `rootwatch config check` says all that is wrong, \
         `rootwatch config show` what is in effect, and `rootwatch config schema` prints the JSON \
         Schema, which is also in [`rootwatch.schema.json`](rootwatch.schema.json). \
         [`rootwatch.example.toml`](rootwatch.example.toml) is a whole file with comments.\n",
    );
    section(&mut text, &schema, &schema, "", false);
    text
}

fn section(text: &mut String, root: &Value, schema: &Value, path: &str, is_list: bool) {
    let schema = resolve(root, schema);
    let nothing = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&nothing);
    if !path.is_empty() {
        heading(text, path, is_list);
        // What the table says of itself, without the examples of the code.
        let words = prose(schema["description"].as_str().unwrap_or_default());
        if !words.is_empty() {
            let _ = writeln!(text, "\n{words}");
        }
        keys(text, root, properties, schema);
    }
    tables(text, root, properties, path);
}

/// The tables below a table.
fn tables(text: &mut String, root: &Value, properties: &Map<String, Value>, path: &str) {
    for (name, property) in properties {
        let inner = resolve(root, property);
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let items = resolve(root, &inner["items"]);
        if inner["properties"].is_object() {
            section(text, root, inner, &path, false);
        } else if items["properties"].is_object() {
            section(text, root, items, &path, true);
        } else if inner["additionalProperties"].is_object() {
            let one = resolve(root, &inner["additionalProperties"]);
            variants(text, root, one, &format!("{path}.<name>"), property);
        }
    }
}

/// The table of a channel's own keys, those that every channel has left out.
pub(super) fn channel_keys(text: &mut String, channel: &str) {
    let schema = schema();
    let notify = resolve(&schema, &schema["properties"]["notify"]);
    let destinations = &notify["properties"]["destination"]["additionalProperties"];
    let all = resolve(&schema, destinations)["oneOf"].as_array().cloned().unwrap_or_default();
    for one in all.iter().filter(|one| fixed(one).is_some_and(|(_, name)| name == channel)) {
        let own: Map<String, Value> = one["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, property)| {
                name.as_str() != "channel"
                    && !all.iter().all(|other| other["properties"].get(*name) == Some(*property))
            })
            .map(|(name, property)| (name.clone(), property.clone()))
            .collect();
        keys(text, &schema, &own, one);
    }
}

/// A table of which one key says what the others are: what all have first, then each.
fn variants(text: &mut String, root: &Value, schema: &Value, path: &str, of: &Value) {
    let Some(all) = schema["oneOf"].as_array() else {
        return section(text, root, schema, path, false);
    };
    heading(text, path, false);
    let words = prose(of["description"].as_str().unwrap_or_default());
    if !words.is_empty() {
        let _ = writeln!(text, "\n{words}");
    }
    let nothing = Map::new();
    let first = all.first().and_then(|one| one["properties"].as_object()).unwrap_or(&nothing);
    let is_common = |name: &str, property: &Value| {
        all.iter().all(|one| one["properties"].get(name) == Some(property))
    };
    let common: Map<String, Value> = first
        .iter()
        .filter(|(name, property)| is_common(name, property))
        .map(|(name, property)| (name.clone(), property.clone()))
        .collect();
    keys(text, root, &common, &Value::Null);
    for one in all {
        let Some((field, kind)) = fixed(one) else { continue };
        let _ = writeln!(text, "\n### `{path}` with `{field} = \"{kind}\"`");
        let words = prose(one["description"].as_str().unwrap_or_default());
        if !words.is_empty() {
            let _ = writeln!(text, "\n{words}");
        }
        let own: Map<String, Value> = one["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| !common.contains_key(*name))
            .map(|(name, property)| (name.clone(), property.clone()))
            .collect();
        keys(text, root, &own, one);
    }
}

fn heading(text: &mut String, path: &str, is_list: bool) {
    let level = if path.contains('.') { "###" } else { "##" };
    let name = if is_list { format!("[[{path}]]") } else { format!("[{path}]") };
    let _ = writeln!(text, "\n{level} `{name}`");
}

/// The keys of one table that are no tables themselves.
fn keys(text: &mut String, root: &Value, properties: &Map<String, Value>, table: &Value) {
    let required: Vec<&str> =
        table["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut rows = String::new();
    for (name, property) in properties {
        let inner = resolve(root, property);
        let is_tables = resolve(root, &inner["items"])["properties"].is_object();
        if inner["additionalProperties"].is_object() || is_tables {
            continue;
        }
        if inner["properties"].is_object() && !property["default"].is_null() {
            continue;
        }
        let words = property["description"].as_str().or(inner["description"].as_str());
        let default = property.get("default").or(inner.get("default"));
        let default = match default {
            _ if required.contains(&name.as_str()) => "required".to_owned(),
            None | Some(Value::Null) => "none".to_owned(),
            Some(value) => format!("`{}`", toml_text(value)),
        };
        let effect = prose(words.unwrap_or_default());
        let cells = [format!("`{name}`"), kind(root, property), default, effect];
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(rows, "| {} |", cells.join(" | "));
    }
    if !rows.is_empty() {
        let _ = write!(text, "\n| Key | Type | Default | Effect |\n|---|---|---|---|\n{rows}");
    }
}

/// A type in words.
fn kind(root: &Value, schema: &Value) -> String {
    let inner = resolve(root, schema);
    if let Some(words) = words(inner) {
        let all: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
        return all.join(", ");
    }
    let all: Vec<String> = types(inner)
        .into_iter()
        .map(|one| match one {
            "string" => "text".to_owned(),
            "integer" | "number" => {
                let name = if one == "integer" { "whole number" } else { "number" };
                let bounds = [schema, inner].map(|one| (&one["minimum"], &one["maximum"]));
                match bounds.iter().find(|(low, high)| low.is_number() && high.is_number()) {
                    Some((low, high)) => format!("{name}, {low} to {high}"),
                    None => name.to_owned(),
                }
            }
            "boolean" => "`true` or `false`".to_owned(),
            "array" => format!("list of {}", kind(root, &inner["items"])),
            "object" => "table".to_owned(),
            other => other.to_owned(),
        })
        .collect();
    all.join(" or ")
}

/// A doc comment as one line of Markdown: links to code become names. Angle brackets are escaped
/// outside of code spans only, since Markdown shows entities inside of them literally.
fn prose(comment: &str) -> String {
    let text = comment.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.replace("[`", "`").replace("`]", "`");
    let parts = text.split('`').enumerate().map(|(index, part)| {
        let is_code = index % 2 == 1;
        if is_code { part.to_owned() } else { part.replace('<', "&lt;").replace('>', "&gt;") }
    });
    parts.collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angle_brackets_are_escaped_outside_of_code_spans_only() {
        let shown = prose("Write `[a.<name>]`,\n or <b> as in [`c`].");
        assert_eq!(shown, "Write `[a.<name>]`, or &lt;b&gt; as in `c`.");
    }
}
