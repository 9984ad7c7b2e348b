//! Limits of patterns and events.

/// Levels of objects and lists in a pattern, counting the outermost.
pub const PATTERN_DEPTH_MAX: usize = 64;
/// Levels of objects and lists of an event that are read, counting the outermost. Fields that no
/// pattern mentions are skipped at any depth.
pub const EVENT_DEPTH_MAX: usize = 256;
/// Combinations that the `$or` of one pattern may multiply out to.
pub const WAYS_MAX: usize = 1000;
/// Comparisons per event for keeping fields to one list element. Only patterns with several fields
/// inside lists make any; a list of ten thousand elements takes some tens of thousands.
pub const CONSISTENCY_STEPS_MAX: usize = 4_000_000;
