//! The files of the repository, and the little that the checks need to know about their formats.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;

/// Folders that hold nothing of ours.
const NOT_OURS: [&str; 5] = ["target", "node_modules", "artifacts", "corpus", "__pycache__"];
/// Bytes of a file that is looked into.
const TEXT_BYTES_MAX: u64 = 8 << 20;

/// Paths, with `/` on every system, and texts; a file that is no text is there without one.
pub(super) struct Tree {
    files: BTreeMap<String, Option<String>>,
}

impl Tree {
    /// Reads everything below a folder. What begins with a dot is left out, but for `.ci` and
    /// `.cargo`.
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut files = BTreeMap::new();
        read_folder(root, "", &mut files)?;
        Ok(Self { files })
    }

    #[cfg(test)]
    pub(super) fn of(files: Vec<(&str, &str)>) -> Self {
        let own = |(path, text): (&str, &str)| (path.to_owned(), Some(text.to_owned()));
        Self { files: files.into_iter().map(own).collect() }
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Paths and texts of the files below `folder` that end in `ending`.
    pub(super) fn texts<'t>(
        &'t self,
        folder: &'t str,
        ending: &'t str,
    ) -> impl Iterator<Item = (&'t str, &'t str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.starts_with(folder) && path.ends_with(ending))
            .filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }
}

fn read_folder(
    folder: &Path,
    name: &str,
    files: &mut BTreeMap<String, Option<String>>,
) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        let own = entry.file_name().to_string_lossy().into_owned();
        let is_hidden = own.starts_with('.') && !matches!(own.as_str(), ".ci" | ".cargo");
        if is_hidden || NOT_OURS.contains(&own.as_str()) {
            continue;
        }
        let path = if name.is_empty() { own } else { format!("{name}/{own}") };
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            read_folder(&entry.path(), &path, files)?;
        } else if metadata.is_file() {
            let is_small = metadata.len() <= TEXT_BYTES_MAX;
            let bytes = if is_small { fs::read(entry.path())? } else { Vec::new() };
            files.insert(path, String::from_utf8(bytes).ok().filter(|_| is_small));
        }
    }
    Ok(())
}

/// Names of the crates that a manifest depends on, those for one system included; not those for
/// tests and build scripts.
pub(super) fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = section == "dependencies" || section.ends_with(".dependencies");
            if let Some(name) = section.strip_prefix("dependencies.") {
                names.push(name.to_owned());
            }
        } else if inside && !line.starts_with('#') && line.contains('=') {
            let end = line.find(['.', '=', ' ']).unwrap_or(line.len());
            names.push(line[..end].trim_matches('"').to_owned());
        }
    }
    names
}

/// The words in `line` that follow `prefix`, up to the next character that no name has.
pub(super) fn words_after<'l>(line: &'l str, prefix: &'l str) -> impl Iterator<Item = &'l str> {
    line.match_indices(prefix).filter_map(move |(at, _)| {
        let rest = &line[at + prefix.len()..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
        Some(&rest[..end.unwrap_or(rest.len())]).filter(|word| !word.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_in_every_spelling() {
        let manifest = "[package]\nname = \"a\"\n[dependencies]\nb.workspace = true\nc = \"1\"\n\
                        \"d\" = { version = \"1\" }\n[target.'cfg(unix)'.dependencies]\ne = \"1\"\n\
                        [dependencies.f]\nversion = \"1\"\n[dev-dependencies]\ng = \"1\"\n\
                        [build-dependencies]\nh = \"1\"\n";
        assert_eq!(dependencies(manifest), ["b", "c", "d", "e", "f"]);
    }

    #[test]
    fn words_end_where_names_do() {
        let words: Vec<_> =
            words_after("`crates/core/` crates/* (crates/a-b)", "crates/").collect();
        assert_eq!(words, ["core", "a-b"]);
    }
}
