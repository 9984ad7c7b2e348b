//! Settings of the function on AWS Lambda.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The hub on AWS Lambda. A hub that runs elsewhere ignores it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LambdaConfig {
    /// Buckets whose log files may be read when a notification names one. By default none.
    pub buckets: Vec<String>,
    /// Account id of 12 digits that must own these buckets. By default any.
    pub bucket_owner: Option<String>,
}
