//! Times on the command line: `--since`, `--until` and `store prune --before`.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// What is accepted, for error messages.
const ACCEPTED: &str =
    "write 2026-05-04T14:00:00Z, 2026-05-04 (midnight UTC), or an age such as 90d, 12h, 30m or 2w";
/// The oldest age, in seconds: 1,000 years.
const AGE_SECS_MAX: i64 = 1_000 * 365 * 86_400;

/// A time as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimeArg {
    text: String,
    meaning: Meaning,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    At(Timestamp),
    /// So long before the command started.
    Ago(SignedDuration),
}

impl TimeArg {
    /// Reads a time in RFC 3339, a date (its beginning in UTC), or an age.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let meaning = meaning(text).ok_or_else(|| format!("not a time; {ACCEPTED}"))?;
        Ok(Self { text: text.to_owned(), meaning })
    }

    /// The time, for a command that started at `now`.
    pub(crate) fn at(&self, now: Timestamp) -> Timestamp {
        match self.meaning {
            Meaning::At(at) => at,
            Meaning::Ago(age) => now.checked_sub(age).unwrap_or(Timestamp::MIN),
        }
    }

    /// As it was given: `90d`.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

fn meaning(text: &str) -> Option<Meaning> {
    if let Ok(at) = text.parse() {
        return Some(Meaning::At(at));
    }
    if let Ok(date) = text.parse::<Date>() {
        return Some(Meaning::At(date.to_zoned(TimeZone::UTC).ok()?.timestamp()));
    }
    let unit = text.chars().last()?;
    let seconds = match unit {
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    let count: i64 = text[..text.len() - unit.len_utf8()].parse().ok()?;
    let seconds = count.checked_mul(seconds)?;
    (0..=AGE_SECS_MAX).contains(&seconds).then(|| Meaning::Ago(SignedDuration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_a_time_a_date_or_an_age() {
        let now: Timestamp = "2026-05-04T12:00:00Z".parse().expect("a time");
        let at = |text: &str| TimeArg::parse(text).map(|time| time.at(now).to_string()).ok();
        assert_eq!(at("2026-05-01T10:00:00+02:00").as_deref(), Some("2026-05-01T08:00:00Z"));
        assert_eq!(at("2026-05-01").as_deref(), Some("2026-05-01T00:00:00Z"));
        assert_eq!(at("90d").as_deref(), Some("2026-02-03T12:00:00Z"));
        for wrong in ["", "d", "90", "-1d", "90x", "é", "99999999999999999d"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_wrong_time_says_what_is_accepted() {
        let error = TimeArg::parse("yesterday").expect_err("not a time");
        for part in ["2026-05-04T14:00:00Z", "2026-05-04 (", "90d"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
