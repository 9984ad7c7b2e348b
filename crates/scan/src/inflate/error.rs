//! Why inflating a whole file failed.

/// Why a gzip file was not inflated in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WholeError {
    /// It needs more room than there is.
    TooLarge,
    /// It is damaged: read it as a stream, which gives the text before the damage.
    Damaged,
}
