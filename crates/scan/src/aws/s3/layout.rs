//! The layout in which CloudTrail delivers, and which parts of it the filters allow.
//!
//! `[prefix/]AWSLogs/[o-…/]<account>/CloudTrail/<region>/YYYY/MM/DD/` (CloudTrail user guide,
//! "Finding your CloudTrail log files"). Days are of delivery. Keys of one region sort by time, so
//! the days that a filter allows are one range of keys: it is listed from its first key on, and no
//! further than its last, without a request for each day.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::options::{DELIVERED_LATE_MAX, NAMED_EARLY_MAX, ScanOptions};
use rootwatch_core::account::AccountId;

/// The level of a prefix in the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Level {
    /// Above `AWSLogs/`, or without such a layout.
    Above,
    /// `AWSLogs/`, or an organization's folder in it.
    Accounts,
    /// An account's folder.
    Account(String),
    /// An account's `CloudTrail/`.
    Trail,
    /// A region's folder, or something in it: the region's folder.
    Region { folder: String, region: String },
    /// In `AWSLogs/`, but unknown.
    Other,
}

impl Level {
    /// The level of a prefix that ends in a slash, or is empty.
    pub(super) fn of(prefix: &str) -> Self {
        let parts: Vec<&str> = prefix.split_terminator('/').collect();
        let Some(at) = parts.iter().rposition(|part| *part == "AWSLogs") else {
            return Self::Above;
        };
        let below = &parts[at + 1..];
        let below = match below {
            [first, rest @ ..] if first.starts_with("o-") => rest,
            all => all,
        };
        match below {
            [] => Self::Accounts,
            [account] if is_account(account) => Self::Account((*account).to_owned()),
            [account, "CloudTrail"] if is_account(account) => Self::Trail,
            [account, "CloudTrail", region, deeper @ ..] if is_account(account) => {
                let folder = format!("{}/", parts[..parts.len() - deeper.len()].join("/"));
                Self::Region { folder, region: (*region).to_owned() }
            }
            _ => Self::Other,
        }
    }
}

pub(super) fn is_account(text: &str) -> bool {
    AccountId::is_valid(text)
}

/// Keys that are listed together: those that begin with `prefix`, after one and before another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) prefix: String,
    pub(super) after: Option<String>,
    pub(super) before: Option<String>,
}

impl Leaf {
    /// All of a prefix.
    pub(super) fn whole(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), after: None, before: None }
    }

    /// The keys that the filters allow below a prefix in a region's folder.
    pub(super) fn in_region(prefix: &str, folder: &str, options: &ScanOptions) -> Self {
        let day = |at: Timestamp| at.to_zoned(TimeZone::UTC).strftime("%Y/%m/%d/").to_string();
        // The margin of names, to whole days. `0` is the next character after `/`: the end of a day.
        let first = options.since.and_then(|at| at.checked_sub(NAMED_EARLY_MAX).ok());
        let last = options.until.and_then(|at| at.checked_add(DELIVERED_LATE_MAX).ok());
        Self {
            prefix: prefix.to_owned(),
            after: first.map(|at| format!("{folder}{}", day(at))),
            before: last.map(|at| format!("{folder}{}0", day(at).trim_end_matches('/'))),
        }
    }

    /// The part of it after a key; `None` if there is nothing after it.
    pub(super) fn from(mut self, mark: &str) -> Option<Self> {
        if is_behind(&self.prefix, mark) {
            return None;
        }
        if mark.starts_with(&self.prefix) && self.after.as_deref().is_none_or(|after| after < mark)
        {
            self.after = Some(mark.to_owned());
        }
        Some(self)
    }
}

/// True when every key with this prefix is at or before the mark.
pub(super) fn is_behind(prefix: &str, mark: &str) -> bool {
    prefix < mark && mark.strip_prefix(prefix).is_none_or(|rest| rest == END)
}

/// After every key with a prefix: the last character that there is.
pub(super) const END: &str = "\u{10ffff}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_after_the_last_aws_logs_give_the_level_of_a_prefix() {
        let account = "111122223333";
        for (prefix, level) in [
            ("", Level::Above),
            ("trails/", Level::Above),
            ("trails/AWSLogs/", Level::Accounts),
            ("AWSLogs/o-exampleorgid/", Level::Accounts),
            ("AWSLogs/111122223333/", Level::Account(account.to_owned())),
            ("AWSLogs/o-exampleorgid/111122223333/CloudTrail/", Level::Trail),
            ("AWSLogs/111122223333/Config/", Level::Other),
            ("AWSLogs/111122223333/CloudTrail-Digest/eu-west-1/", Level::Other),
            (
                "a/AWSLogs/111122223333/CloudTrail/eu-west-1/2026/05/",
                Level::Region {
                    folder: "a/AWSLogs/111122223333/CloudTrail/eu-west-1/".to_owned(),
                    region: "eu-west-1".to_owned(),
                },
            ),
        ] {
            assert_eq!(Level::of(prefix), level, "{prefix}");
        }
    }

    #[test]
    fn a_time_filter_is_a_range_of_keys_with_a_margin_at_both_ends() {
        let at = |text: &str| Some(text.parse().expect("a time"));
        let options = ScanOptions {
            since: at("2026-05-04T00:05:00Z"),
            until: at("2026-05-05T00:00:00Z"),
            ..ScanOptions::default()
        };
        let leaf = Leaf::in_region("r/", "r/", &options);
        assert_eq!(leaf.after.as_deref(), Some("r/2026/05/03/"));
        let before = leaf.before.clone().expect("an end");
        assert!("r/2026/05/12/111122223333_CloudTrail_r_20260512T0000Z_a" < before.as_str());
        assert!("r/2026/05/13/" > before.as_str());
    }

    #[test]
    fn keys_before_a_mark_are_not_listed_again() {
        let mark = "a/b/5";
        assert_eq!(Leaf::whole("a/a/").from(mark), None);
        assert_eq!(Leaf::whole("a/b/").from(&format!("a/b/{END}")), None);
        assert_eq!(Leaf::whole("a/c/").from(mark), Some(Leaf::whole("a/c/")));
        let left = Leaf::whole("a/b/").from(mark).expect("some is left");
        assert_eq!(left.after.as_deref(), Some(mark));
        let later = Leaf { after: Some("a/b/7".to_owned()), ..Leaf::whole("a/b/") };
        assert_eq!(later.clone().from(mark), Some(later));
    }
}
