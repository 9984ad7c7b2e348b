//! One line about an incident, for a lock screen.

use jiff::tz::TimeZone;

use super::{AccountName, IncidentFacts};
use crate::text;

/// Columns of what happened.
const TITLE_COLUMNS_MAX: usize = 60;
/// Columns of an address: the longest of IPv6.
const ADDRESS_COLUMNS_MAX: usize = 45;
/// Columns of an incident's id.
const ID_COLUMNS_MAX: usize = 20;

/// The parts of one line about an incident. All texts are safe to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactLine {
    /// What happened, uncut.
    pub title: String,
    /// The account's digits and name apart; several are counted.
    pub account: CompactAccount,
    /// `14:03Z`, empty where no record states a time.
    pub at: String,
    /// The first address, empty where there is none.
    pub address: String,
    /// The incident's id.
    pub id: String,
}

/// The account in a compact line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompactAccount {
    /// The records state none.
    Unknown,
    /// One.
    One(AccountName),
    /// So many.
    Several(usize),
}

impl CompactLine {
    pub(super) fn of(facts: &IncidentFacts<'_>) -> Self {
        Self {
            title: text::visible(facts.title).into_owned(),
            account: match facts.accounts.as_slice() {
                [] => CompactAccount::Unknown,
                [account] => CompactAccount::One(account.shown()),
                many => CompactAccount::Several(many.len()),
            },
            at: facts
                .first_at
                .map(|at| format!("{}Z", text::clock(at, &TimeZone::UTC)))
                .unwrap_or_default(),
            address: facts
                .addresses
                .first()
                .map(|address| text::cap(address, ADDRESS_COLUMNS_MAX))
                .unwrap_or_default(),
            id: text::cap(&facts.id.0, ID_COLUMNS_MAX),
        }
    }

    /// The line behind a label: `CRITICAL Root user signed in without MFA prod-payments 222233334444
    /// 14:03Z from 203.0.113.77. Inc 6GK-MMS`. The incident's id is always whole: where `columns` are
    /// too few, the address goes first, then what happened is cut.
    #[must_use]
    pub fn text(&self, label: &str, columns: usize) -> String {
        let account = match &self.account {
            CompactAccount::Unknown => String::new(),
            CompactAccount::One(account) => account.with_id(),
            CompactAccount::Several(number) => text::count(*number as u64, "account"),
        };
        let with = |title: &str, address: &str| {
            let from = if address.is_empty() { String::new() } else { format!("from {address}") };
            let parts = [label, title, &account, &self.at, &from].map(str::trim);
            let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            format!("{}. Inc {}", parts.join(" ").replace('\u{a0}', " "), self.id)
        };
        let title = text::cap(&self.title, TITLE_COLUMNS_MAX);
        let whole = with(&title, &self.address);
        if text::width(&whole) <= columns {
            return whole;
        }
        let rest = text::width(&with("", ""));
        let line = with(&text::cap(&title, columns.saturating_sub(rest + 1)), "");
        text::cap(&line, columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(title: &str) -> CompactLine {
        let name = AccountName {
            id: "222233334444".to_owned(),
            name: Some("prod-payments".to_owned()),
            unit: None,
        };
        CompactLine {
            title: title.to_owned(),
            account: CompactAccount::One(name),
            at: "14:03Z".to_owned(),
            address: "203.0.113.77".to_owned(),
            id: "6GK-MMS".to_owned(),
        }
    }

    #[test]
    fn a_compact_line_names_what_where_when_and_the_incident() {
        assert_eq!(
            line("Root user signed in").text("HIGH", 160),
            "HIGH Root user signed in prod-payments 222233334444 14:03Z from 203.0.113.77. Inc 6GK-MMS"
        );
    }

    #[test]
    fn a_line_that_is_too_long_loses_the_address_and_never_the_id() {
        let line = line("Root user signed in to the console without MFA");
        for columns in [60, 80, 90, 100, 160] {
            let text = line.text("CRITICAL", columns);
            assert!(text::width(&text) <= columns && text.ends_with(". Inc 6GK-MMS"), "{text}");
        }
        assert!(!line.text("CRITICAL", 100).contains("203.0.113.77"));
    }
}
