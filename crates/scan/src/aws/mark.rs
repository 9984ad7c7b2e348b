//! A position in the order of a listing.

use serde::{Deserialize, Serialize};

/// How far a scan has come: everything up to this key of this input is done.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Index of the input, in the order of the arguments.
    pub(super) input: usize,
    /// The last key.
    pub(super) key: String,
}
