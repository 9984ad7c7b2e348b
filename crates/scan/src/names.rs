//! What the name of a log file says about its records.
//!
//! CloudTrail names a delivered file
//! `<account>_CloudTrail_<region>_<YYYYMMDDTHHmmZ>_<16 characters>.json.gz` (CloudTrail user guide,
//! "Finding your CloudTrail log files"). The time is that of delivery.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rootwatch_core::account::AccountId;

/// What the name of a delivered log file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogName<'a> {
    pub(crate) account: &'a str,
    pub(crate) region: &'a str,
    pub(crate) delivered_at: Timestamp,
}

/// The kind of file, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileKind<'a> {
    /// A delivered CloudTrail log file.
    Log(LogName<'a>),
    /// CloudTrail delivers it, but it holds no API records: a digest, Insights.
    NoRecords,
    /// A document: certainly not a log file by its name.
    Document,
    /// The name says nothing.
    Unknown,
}

/// Extensions of files that are often beside log files and hold none. A file with such a name is still
/// scanned if its first bytes look like a log.
const DOCUMENTS: [&str; 24] = [
    "asc", "bak", "cfg", "conf", "csv", "css", "html", "lock", "md", "md5", "pdf", "png", "py",
    "rs", "sh", "sha256", "sig", "svg", "toml", "tsv", "txt", "xml", "yaml", "yml",
];

impl<'a> FileKind<'a> {
    /// Reads a file's name, without its folders.
    pub(crate) fn of(name: &'a str) -> Self {
        let mut parts = name.split('_');
        if let (Some(account), Some(kind), Some(region), Some(stamp)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
            && is_account(account)
        {
            match kind {
                "CloudTrail" => {
                    if let Some(delivered_at) = stamp_time(stamp) {
                        return Self::Log(LogName { account, region, delivered_at });
                    }
                }
                "CloudTrail-Digest" | "CloudTrail-Insight" => return Self::NoRecords,
                _ => {}
            }
        }
        let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
        let is_document = name.starts_with('.')
            || ending.as_deref().is_some_and(|ending| DOCUMENTS.contains(&ending))
            || matches!(name, "README" | "LICENSE" | "Makefile" | "SHA256SUMS");
        if is_document { Self::Document } else { Self::Unknown }
    }
}

fn is_account(text: &str) -> bool {
    AccountId::is_valid(text)
}

/// `20260504T1405Z`, to the minute.
fn stamp_time(stamp: &str) -> Option<Timestamp> {
    let at = DateTime::strptime("%Y%m%dT%H%MZ", stamp).ok()?;
    Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivered_log_file_says_account_region_and_time() {
        let kind = FileKind::of("222233334444_CloudTrail_us-east-1_20260504T1405Z_Ab12.json.gz");
        let FileKind::Log(name) = kind else { panic!("{kind:?}") };
        assert_eq!((name.account, name.region), ("222233334444", "us-east-1"));
        assert_eq!(name.delivered_at.to_string(), "2026-05-04T14:05:00Z");
    }

    #[test]
    fn digests_and_insights_are_known_by_name_and_other_names_say_nothing() {
        for (name, kind) in [
            (
                "222233334444_CloudTrail-Digest_us-east-1_t_us-east-1_20260504T140000Z.json.gz",
                FileKind::NoRecords,
            ),
            (
                "222233334444_CloudTrail-Insight_us-east-1_20260504T1405Z_Ab12.json.gz",
                FileKind::NoRecords,
            ),
            ("222233334444_CloudTrail_us-east-1_yesterday_Ab12.json.gz", FileKind::Unknown),
            ("events.json", FileKind::Unknown),
            ("part-0000", FileKind::Unknown),
            ("README.md", FileKind::Document),
            (".DS_Store", FileKind::Document),
        ] {
            assert_eq!(FileKind::of(name), kind, "{name}");
        }
    }
}
