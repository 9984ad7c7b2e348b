//! The result of a scan: findings with their files, and a summary of the input.

use std::sync::Arc;

use rootwatch_core::detect::Detected;

use crate::summary::Summary;

/// A finding and the file that it came from.
#[derive(Debug, Clone)]
pub struct Located {
    /// The finding, before rules that need other findings are decided.
    pub detected: Detected,
    /// Path of the file, as walked; `-` for standard input.
    pub file: Arc<str>,
}

/// The result of a scan.
#[derive(Debug, Clone, Default)]
pub struct Scanned {
    /// In no particular order.
    pub findings: Vec<Located>,
    /// What was read, and what could not be read.
    pub summary: Summary,
}

impl Scanned {
    /// Adds the result of scanning other inputs.
    pub fn add(&mut self, part: Self) {
        self.findings.extend(part.findings);
        self.summary.add(part.summary);
    }
}
