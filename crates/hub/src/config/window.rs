//! `[[window]]`: approved root use.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use rootwatch_core::window::Window;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest window: what is approved for longer is not watched by anybody.
const WINDOW_DAYS_MAX: i64 = 92;
/// Bytes of a name, and of who approved it.
const NAME_BYTES_MAX: usize = 64;
/// Bytes of what it is for.
const REASON_BYTES_MAX: usize = 300;

/// Root use that is approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowConfig {
    /// Its name, as alerts quote it: a change or a ticket, at most 64 bytes.
    pub name: String,
    /// Ids of the accounts whose root user may be used.
    pub accounts: Vec<String>,
    /// The first moment: RFC 3339, such as `2026-05-04T14:00:00Z`.
    pub from: String,
    /// The first moment after it, at most 92 days later.
    pub until: String,
    /// Who approved it, at most 64 bytes.
    pub by: String,
    /// What for, at most 300 bytes.
    pub reason: String,
    /// Source addresses, or ranges such as `203.0.113.0/24`. None stands for all.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Names of calls, such as `ConsoleLogin` and `PutBucketPolicy`. None stands for all.
    #[serde(default)]
    pub calls: Vec<String>,
}

impl WindowConfig {
    /// # Errors
    /// The key that is wrong, and what is wrong with it.
    pub(crate) fn read(&self) -> Result<Window, (&'static str, String)> {
        let at = |key: &'static str, text: &str| {
            text.parse::<Timestamp>()
                .map_err(|_| (key, "must be a time such as `2026-05-04T14:00:00Z`".to_owned()))
        };
        let bounded = |key: &'static str, text: &str, max: usize| {
            let is_fine = !text.trim().is_empty() && text.len() <= max;
            if is_fine {
                Ok(text.trim().to_owned())
            } else {
                Err((key, format!("must have 1 to {max} bytes")))
            }
        };
        let (from, until) = (at("from", &self.from)?, at("until", &self.until)?);
        if until <= from {
            return Err(("until", "must be after `from`".to_owned()));
        }
        if until.duration_since(from) > SignedDuration::from_hours(24 * WINDOW_DAYS_MAX) {
            return Err(("until", format!("a window lasts at most {WINDOW_DAYS_MAX} days")));
        }
        if self.accounts.is_empty() {
            return Err(("accounts", "names no account".to_owned()));
        }
        Ok(Window {
            name: bounded("name", &self.name, NAME_BYTES_MAX)?,
            accounts: self.accounts.iter().cloned().collect(),
            from,
            until,
            by: bounded("by", &self.by, NAME_BYTES_MAX)?,
            reason: bounded("reason", &self.reason, REASON_BYTES_MAX)?,
            addresses: self.addresses.iter().map(|text| range(text)).collect::<Result<_, _>>()?,
            calls: self.calls.iter().cloned().collect(),
        })
    }
}

fn range(text: &str) -> Result<RangeInclusive<IpAddr>, (&'static str, String)> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address..=address);
    }
    match text.parse::<IpNet>() {
        Ok(net) => Ok(net.network()..=net.broadcast()),
        Err(_) => {
            let text = rootwatch_core::text::cap(text, 60);
            Err(("addresses", format!("`{text}` is neither an address nor a range of them")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> WindowConfig {
        WindowConfig {
            name: "CHG-1042".to_owned(),
            accounts: vec!["222233334444".to_owned()],
            from: "2026-05-04T14:00:00Z".to_owned(),
            until: "2026-05-04T15:00:00Z".to_owned(),
            by: "anna".to_owned(),
            reason: "close an account".to_owned(),
            addresses: vec!["203.0.113.0/24".to_owned(), "2001:db8::7".to_owned()],
            calls: Vec::new(),
        }
    }

    #[test]
    fn a_window_is_read_and_each_fault_is_at_its_key() {
        let read = window().read().expect("a window");
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert!(read.addresses[0].contains(&address("203.0.113.255")));
        assert!(!read.addresses[0].contains(&address("203.0.114.0")));
        assert!(read.addresses[1].contains(&address("2001:db8::7")));
        for (key, change) in [
            (
                "from",
                &(|one: &mut WindowConfig| one.from = "today".to_owned())
                    as &dyn Fn(&mut WindowConfig),
            ),
            ("until", &|one| one.until = one.from.clone()),
            ("until", &|one| one.until = "2026-09-04T15:00:00Z".to_owned()),
            ("accounts", &|one| one.accounts.clear()),
            ("name", &|one| one.name = " ".to_owned()),
            ("by", &|one| one.by = "x".repeat(65)),
            ("reason", &|one| one.reason.clear()),
            ("addresses", &|one| one.addresses.push("everywhere".to_owned())),
        ] {
            let mut one = window();
            change(&mut one);
            assert_eq!(one.read().expect_err(key).0, key);
        }
    }
}
