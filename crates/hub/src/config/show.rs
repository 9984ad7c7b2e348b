//! The configuration in effect, for people.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::loaded::Loaded;
use super::tree::Provenance;

/// The configuration in effect as TOML, with where each value came from as a comment. Secrets that
/// the file itself holds are `***`.
#[must_use]
pub fn show(loaded: &Loaded) -> String {
    let mut out = match &loaded.file {
        Some(file) => format!("# {}\n", file.display()),
        None => "# no file\n".to_owned(),
    };
    if let Ok(Value::Object(config)) = serde_json::to_value(&loaded.config) {
        show_table(&mut out, loaded, &config, "", "");
    }
    out
}

/// `header` is the path as TOML writes it, `key` as we do.
fn show_table(
    out: &mut String,
    loaded: &Loaded,
    table: &Map<String, Value>,
    header: &str,
    key: &str,
) {
    let join = |to: &str, name: &str| {
        if to.is_empty() { name.to_owned() } else { format!("{to}.{name}") }
    };
    let is_tables =
        |value: &Value| value.as_array().is_some_and(|list| list.iter().any(Value::is_object));
    for (name, value) in table {
        if value.is_null() || value.is_object() || is_tables(value) {
            continue;
        }
        let place = match loaded.place(&join(key, name)) {
            Provenance::Nowhere => "default".to_owned(),
            Provenance::File { line, .. } => format!("line {line}"),
            place => place.to_string(),
        };
        let _ = writeln!(out, "{} = {}  # {place}", bare(name), toml_text(value));
    }
    for (name, value) in table {
        let (header, key) = (join(header, &bare(name)), join(key, name));
        if let Some(inner) = value.as_object().filter(|inner| !inner.is_empty()) {
            if inner.values().any(|one| !one.is_object() && !is_tables(one) && !one.is_null()) {
                let _ = writeln!(out, "\n[{header}]");
            }
            show_table(out, loaded, inner, &header, &key);
        } else if is_tables(value) {
            for (index, inner) in value.as_array().into_iter().flatten().enumerate() {
                let _ = writeln!(out, "\n[[{header}]]");
                if let Some(inner) = inner.as_object() {
                    show_table(out, loaded, inner, &header, &format!("{key}[{index}]"));
                }
            }
        }
    }
}

/// A key as TOML writes it.
fn bare(name: &str) -> String {
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    if !name.is_empty() && name.chars().all(is_bare) {
        name.to_owned()
    } else {
        toml_text(&Value::from(name))
    }
}

/// A value as TOML writes it.
pub(super) fn toml_text(value: &Value) -> String {
    toml::Value::try_from(value).map_or_else(|_| value.to_string(), |value| value.to_string())
}
