//! Settings of a watched folder.

use std::path::PathBuf;

use globset::{Glob, GlobSet, GlobSetBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sources::context::check_name;

/// A folder in which log files appear: a synchronised bucket, a network mount, a drop folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectoryConfig {
    /// Names the source in logs, metrics and findings, and what was read in the store: letters,
    /// digits, `-` and `_`. With a new name, everything is read again.
    pub name: String,
    /// The folder; folders in it are watched as well.
    pub path: PathBuf,
    /// Polling interval in seconds, 1 to 86400. If a poll takes long, the pause is nine times its duration.
    /// Default 5.
    #[serde(default = "poll_secs")]
    #[schemars(range(min = 1, max = 86400))]
    pub poll_secs: u32,
    /// Seconds after which a folder's files are all looked at again even if nothing seems to have
    /// changed in it, 10 to 604800: a file that grows does not change its folder. Files that
    /// changed lately are looked at each time. Default 3600.
    #[serde(default = "recheck_secs")]
    #[schemars(range(min = 10, max = 604_800))]
    pub recheck_secs: u32,
    /// Only files whose path below `path` matches one of these globs (`**/CloudTrail/**/*.json.gz`);
    /// `*` does not cross `/`. By default all files; digests, Insights files and documents are
    /// passed over in any case.
    #[serde(default)]
    pub include: Vec<String>,
}

fn poll_secs() -> u32 {
    5
}

fn recheck_secs() -> u32 {
    3600
}

impl DirectoryConfig {
    /// What every setting but these two has by default.
    #[must_use]
    pub fn new(name: &str, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            path: path.into(),
            poll_secs: poll_secs(),
            recheck_secs: recheck_secs(),
            include: Vec::new(),
        }
    }

    /// Checks what types cannot, without looking at the folder.
    ///
    /// # Errors
    /// What is wrong: lower case, no full stop.
    pub fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        if self.path.as_os_str().is_empty() {
            return Err("path is empty".to_owned());
        }
        if !(1..=86_400).contains(&self.poll_secs) {
            return Err("poll_secs must be between 1 and 86400".to_owned());
        }
        if !(10..=604_800).contains(&self.recheck_secs) {
            return Err("recheck_secs must be between 10 and 604800".to_owned());
        }
        self.globs().map(|_| ())
    }

    /// The globs, compiled; `None` when all files are wanted.
    pub(super) fn globs(&self) -> Result<Option<GlobSet>, String> {
        if self.include.is_empty() {
            return Ok(None);
        }
        let mut set = GlobSetBuilder::new();
        for text in &self.include {
            let glob = globset::GlobBuilder::new(text)
                .literal_separator(true)
                .build()
                .map_err(|error| format!("include {text:?}: {}", error.kind()))?;
            set.add(Glob::clone(&glob));
        }
        set.build().map(Some).map_err(|error| format!("include: {}", error.kind()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_choose_and_wrong_settings_are_named() {
        let good = DirectoryConfig::new("drop", "/var/log/cloudtrail");
        assert_eq!(good.check(), Ok(()));
        let chosen = DirectoryConfig {
            include: vec!["**/CloudTrail/**/*.json.gz".to_owned()],
            ..good.clone()
        };
        let globs = chosen.globs().expect("globs").expect("some");
        assert!(globs.is_match("AWSLogs/111122223333/CloudTrail/eu-west-1/2026/05/04/a.json.gz"));
        assert!(!globs.is_match("AWSLogs/111122223333/CloudTrail-Digest/a.json.gz"));
        for (bad, setting) in [
            (DirectoryConfig { poll_secs: 0, ..good.clone() }, "poll_secs"),
            (DirectoryConfig { include: vec!["a[".to_owned()], ..good.clone() }, "include"),
            (DirectoryConfig { path: PathBuf::new(), ..good }, "path"),
        ] {
            let reason = bad.check().expect_err(setting);
            assert!(reason.starts_with(setting), "{reason}");
        }
    }
}
