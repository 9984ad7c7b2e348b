//! A configuration that passed its checks.

use std::path::PathBuf;

use super::problem::Problem;
use super::tree::{Node, Provenance};
use super::types::Config;

/// A sound configuration.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration. Paths that the file states relatively are joined to the file's folder.
    pub config: Config,
    /// What should be mended.
    pub warnings: Vec<Problem>,
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// Where relative paths of the file begin.
    pub folder: PathBuf,
    pub(super) tree: Node,
}

impl Loaded {
    /// Where the value at a key came from.
    #[must_use]
    pub fn place(&self, key: &str) -> &Provenance {
        self.tree.get(key).map_or(&Provenance::Nowhere, |node| &node.at)
    }

    /// A problem at a key.
    #[must_use]
    pub fn problem(&self, key: &str, message: impl Into<String>) -> Problem {
        Problem::new(self.tree.nearest(key).at.clone(), key, message)
    }
}
