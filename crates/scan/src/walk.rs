//! Which files to read: files, folders, globs and standard input, one after the other, without ever
//! holding a list of all.

use std::fs;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use crate::summary::io_reason;

/// One input of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Standard input, `-`.
    Stdin,
    /// A file, a folder or a glob.
    Path(PathBuf),
}

/// What the walk found.
#[derive(Debug)]
pub(crate) enum Found {
    /// A file to read. `named` when the user named it, false when it was found in a folder.
    File { path: PathBuf, named: bool },
    /// Standard input.
    Stdin,
    /// Something that cannot be read.
    Bad { path: PathBuf, reason: String },
}

/// Identifies a folder, whatever path leads to it.
#[cfg(unix)]
type FolderId = (u64, u64);
#[cfg(not(unix))]
type FolderId = PathBuf;

#[cfg(unix)]
fn folder_id(_: &Path, metadata: &fs::Metadata) -> FolderId {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn folder_id(path: &Path, _: &fs::Metadata) -> FolderId {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// A folder that is being walked: its remaining names, in reverse order.
struct Folder {
    path: PathBuf,
    id: FolderId,
    left: Vec<std::ffi::OsString>,
}

/// Deepest nesting of folders.
const FOLDERS_DEEP_MAX: usize = 128;

/// Walks the inputs in order, each folder's names in order.
pub(crate) struct Walk {
    inputs: std::vec::IntoIter<Input>,
    folders: Vec<Folder>,
    /// Of the input that is being walked, only files whose path matches.
    glob: Option<GlobMatcher>,
}

impl Walk {
    pub(crate) fn new(inputs: Vec<Input>) -> Self {
        Self { inputs: inputs.into_iter(), folders: Vec::new(), glob: None }
    }

    /// The next thing, or `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Found> {
        loop {
            if let Some(folder) = self.folders.last_mut() {
                let Some(name) = folder.left.pop() else {
                    self.folders.pop();
                    continue;
                };
                let path = folder.path.join(name);
                if let Some(found) = self.enter(path, false) {
                    return Some(found);
                }
                continue;
            }
            self.glob = None;
            match self.inputs.next()? {
                Input::Stdin => return Some(Found::Stdin),
                Input::Path(path) => {
                    if let Some(found) = self.begin(path) {
                        return Some(found);
                    }
                }
            }
        }
    }

    /// Begins with a path that the user gave. A path that does not exist may be a glob.
    fn begin(&mut self, path: PathBuf) -> Option<Found> {
        let text = path.to_string_lossy().into_owned();
        if path.exists() || !text.contains(['*', '?', '[', '{']) {
            return self.enter(path, true);
        }
        let glob = GlobBuilder::new(&text).literal_separator(true).build();
        match glob {
            Ok(glob) => self.glob = Some(glob.compile_matcher()),
            Err(error) => return Some(Found::Bad { path, reason: error.kind().to_string() }),
        }
        // Walk from the last folder before the first wildcard.
        let fixed: PathBuf = path
            .components()
            .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']))
            .collect();
        let root = if fixed.as_os_str().is_empty() { PathBuf::from(".") } else { fixed };
        self.enter(root, false)
    }

    /// Returns a file. Enters a folder, and returns nothing yet.
    fn enter(&mut self, path: PathBuf, named: bool) -> Option<Found> {
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) => {
                let is_loop = error.raw_os_error().is_some_and(is_link_loop);
                let reason = if is_loop {
                    "symbolic links form a circle".to_owned()
                } else {
                    io_reason(&error)
                };
                return Some(Found::Bad { path, reason });
            }
        };
        if metadata.is_dir() {
            return self.enter_folder(path, &metadata).err();
        }
        let is_wanted = self.glob.as_ref().is_none_or(|glob| {
            glob.is_match(path.strip_prefix("./").unwrap_or(&path)) || glob.is_match(&path)
        });
        if !is_wanted {
            return None;
        }
        // A pipe that the user named is read like a file. A pipe in a folder could block the scan for
        // ever.
        if !metadata.is_file() && !named {
            return Some(Found::Bad { path, reason: "not a regular file".to_owned() });
        }
        Some(Found::File { path, named })
    }

    fn enter_folder(&mut self, path: PathBuf, metadata: &fs::Metadata) -> Result<(), Found> {
        let id = folder_id(&path, metadata);
        if self.folders.iter().any(|folder| folder.id == id) {
            let reason = "the folder contains itself by a symbolic link".to_owned();
            return Err(Found::Bad { path, reason });
        }
        if self.folders.len() >= FOLDERS_DEEP_MAX {
            let reason = format!("folders nest deeper than {FOLDERS_DEEP_MAX}");
            return Err(Found::Bad { path, reason });
        }
        let mut left = Vec::new();
        let entries = fs::read_dir(&path)
            .and_then(|entries| {
                for entry in entries {
                    left.push(entry?.file_name());
                }
                Ok(())
            })
            .map_err(|error| (path.clone(), io_reason(&error)));
        left.sort_unstable_by(|a, b| b.cmp(a));
        // The entries that could be listed are still walked.
        self.folders.push(Folder { path, id, left });
        entries.map_err(|(path, reason)| Found::Bad { path, reason })
    }
}

/// ELOOP, which std has no stable name for.
fn is_link_loop(code: i32) -> bool {
    cfg!(target_os = "linux") && code == 40 || cfg!(target_os = "macos") && code == 62
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(inputs: Vec<Input>, root: &Path) -> Vec<String> {
        let mut walk = Walk::new(inputs);
        let mut out = Vec::new();
        while let Some(found) = walk.next() {
            out.push(match found {
                Found::File { path, .. } => {
                    path.strip_prefix(root).unwrap_or(&path).display().to_string()
                }
                Found::Stdin => "-".to_owned(),
                Found::Bad { path, reason } => {
                    format!("{}: {reason}", path.strip_prefix(root).unwrap_or(&path).display())
                }
            });
        }
        out
    }

    #[test]
    fn folders_are_walked_in_order_and_globs_select() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::create_dir_all(root.join("b/c")).expect("a folder");
        for name in ["a.json", "b/z.json", "b/c/y.json.gz", "b/x.txt"] {
            fs::write(root.join(name), "").expect("a file");
        }
        let all = |path: PathBuf| names(vec![Input::Path(path)], root);
        assert_eq!(all(root.into()), ["a.json", "b/c/y.json.gz", "b/x.txt", "b/z.json"]);
        assert_eq!(all(root.join("b/*.json")), ["b/z.json"]);
        assert_eq!(all(root.join("**/*.json*")), ["a.json", "b/c/y.json.gz", "b/z.json"]);
        assert_eq!(all(root.join("none.json")), ["none.json: no such file or folder"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_contains_itself_is_reported_and_the_rest_is_walked() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::create_dir(root.join("sub")).expect("a folder");
        fs::write(root.join("sub/a.json"), "").expect("a file");
        std::os::unix::fs::symlink("..", root.join("sub/loop")).expect("a link");
        std::os::unix::fs::symlink("self", root.join("self")).expect("a link");
        assert_eq!(
            names(vec![Input::Path(root.into())], root),
            [
                "self: symbolic links form a circle",
                "sub/a.json",
                "sub/loop: the folder contains itself by a symbolic link",
            ]
        );
    }
}
