//! The user's rules, from folders.

use std::io;
use std::path::{Path, PathBuf};

use rootwatch_core::rules::{RuleFile, Ruleset};

/// Bytes of one rule file at most.
const RULE_BYTES_MAX: u64 = 1 << 20;
/// Levels of nested folders of rules at most.
const FOLDERS_DEEP_MAX: usize = 32;

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// A file or folder cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is larger than a rule can be.
    #[error("{}: more than {RULE_BYTES_MAX} bytes are too many for a rule", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// There is no `*.yaml` in the folder.
    #[error("{}: no rules there; a rule is a file that ends in .yaml", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// Rules are refused: what is wrong with each.
    #[error("{}", .0.join("; "))]
    Refused(Vec<String>),
}

/// The built-in rules together with those in folders.
///
/// # Errors
/// Everything that is wrong with the rules, or the first file that cannot be read.
pub fn load(folders: &[PathBuf]) -> Result<Ruleset, RulesError> {
    let mut files = Vec::new();
    for folder in folders {
        files.extend(read(folder)?);
    }
    if files.is_empty() {
        return Ok(Ruleset::built_in());
    }
    Ruleset::built_in_and(&files)
        .map_err(|errors| RulesError::Refused(errors.iter().map(ToString::to_string).collect()))
}

/// The rule files below a folder, sorted.
pub(super) fn read(folder: &Path) -> Result<Vec<RuleFile>, RulesError> {
    let mut paths = Vec::new();
    find(folder, &mut paths, 0)?;
    paths.sort();
    if paths.is_empty() {
        return Err(RulesError::Empty { path: folder.to_owned() });
    }
    paths.into_iter().map(|path| read_one(&path)).collect()
}

fn find(folder: &Path, paths: &mut Vec<PathBuf>, depth: usize) -> Result<(), RulesError> {
    let fail = |source| RulesError::Read { path: folder.to_owned(), source };
    if depth == FOLDERS_DEEP_MAX {
        return Err(fail(io::Error::other("too many nested folders")));
    }
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let path = entry.path();
        // Links are not followed: a folder of rules has no business elsewhere.
        if entry.file_type().map_err(fail)?.is_dir() {
            find(&path, paths, depth + 1)?;
        } else if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
            paths.push(path);
        }
    }
    Ok(())
}

fn read_one(path: &Path) -> Result<RuleFile, RulesError> {
    let fail = |source| RulesError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(fail)?.len() > RULE_BYTES_MAX {
        return Err(RulesError::TooLarge { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(fail)?;
    Ok(RuleFile { name: path.display().to_string(), text })
}
