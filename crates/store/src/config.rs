//! `[store]` of the configuration.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where findings, incidents and deliveries are kept, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// The database file; it is made when it is not there. SQLite keeps two more files beside it,
    /// with `-wal` and `-shm` at the end. A relative path in the configuration file
    /// begins at the file's folder.
    pub path: PathBuf,
    /// The DynamoDB table to use instead of a file; `rootwatch store init` makes it. Several hubs
    /// may share one. Credentials and region are found as the AWS SDK finds them. `path`,
    /// `busy_timeout_secs` and `size_bytes_max` mean nothing then.
    pub table: Option<String>,
    /// Days that incidents which are over are kept, with their findings and deliveries, 1 to
    /// 36500. What is pruned is counted in the log.
    #[schemars(range(min = 1, max = 36_500))]
    pub retention_days: u32,
    /// Seconds to wait when another program has the database locked, 0 to 60. Then senders are
    /// asked to come again.
    #[schemars(range(min = 0, max = 60))]
    pub busy_timeout_secs: u32,
    /// Bytes that the database may take at most, at least 1048576. When it is full nothing more is
    /// acknowledged until it is pruned or the limit is raised. By default the disk is the limit.
    #[schemars(range(min = 1_048_576))]
    pub size_bytes_max: Option<u64>,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("rootwatch.db"),
            table: None,
            retention_days: 400,
            busy_timeout_secs: 5,
            size_bytes_max: None,
        }
    }
}
