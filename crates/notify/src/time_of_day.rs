//! Times of day, weekdays and time zones in the configuration.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A daily time span, optionally on some weekdays only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeOfDay {
    /// Start of the span, included: `"08:00"`.
    pub from: String,
    /// End of the span, excluded: `"18:00"`. An end before `from` is on the next day; an end equal to
    /// `from` means 24 hours.
    pub until: String,
    /// IANA time zone, for example `Europe/Zurich`.
    #[serde(default = "utc")]
    pub zone: String,
    /// Weekdays on which the span starts: `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`. Empty: every
    /// day.
    #[serde(default)]
    pub days: Vec<String>,
}

pub(crate) fn utc() -> String {
    "UTC".to_owned()
}

impl TimeOfDay {
    /// True at a moment within the span. A span that cannot be parsed contains every moment: rather
    /// one alert too many ([`crate::Notifier::check`] rejects such a span beforehand).
    pub(crate) fn contains(&self, now: Timestamp) -> bool {
        let (Ok(from), Ok(until), Ok(zone), Ok(days)) = (
            parse_time(&self.from),
            parse_time(&self.until),
            parse_zone(&self.zone),
            parse_days(&self.days),
        ) else {
            return true;
        };
        let local = now.to_zoned(zone);
        let starts = |date: Date| days.is_empty() || days.contains(&date.weekday());
        let (today, clock) = (local.date(), local.time());
        if from < until {
            return (from..until).contains(&clock) && starts(today);
        }
        // Across midnight: this evening, or the morning after yesterday's evening.
        let yesterday = today.checked_sub(1.day()).unwrap_or(today);
        (clock >= from && starts(today)) || (clock < until && starts(yesterday))
    }
}

pub(crate) fn parse_time(text: &str) -> Result<Time, String> {
    let shown = rootwatch_core::text::cap(text, 40);
    let wrong = || format!("`{shown}` is not a time of day such as `08:00`");
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    if hour.len() != 2 || minute.len() != 2 {
        return Err(wrong());
    }
    let number = |digits: &str| digits.parse::<i8>().map_err(|_| wrong());
    Time::new(number(hour)?, number(minute)?, 0, 0).map_err(|_| wrong())
}

pub(crate) fn parse_zone(name: &str) -> Result<TimeZone, String> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| {
        let name = rootwatch_core::text::cap(name, 60);
        format!("time zone `{name}` is not in this system's time zone database")
    })
}

pub(crate) fn parse_days(names: &[String]) -> Result<Vec<Weekday>, String> {
    const DAYS: [(&str, Weekday); 7] = [
        ("mon", Weekday::Monday),
        ("tue", Weekday::Tuesday),
        ("wed", Weekday::Wednesday),
        ("thu", Weekday::Thursday),
        ("fri", Weekday::Friday),
        ("sat", Weekday::Saturday),
        ("sun", Weekday::Sunday),
    ];
    let day = |name: &String| {
        let found = DAYS.iter().find(|(short, _)| short == name).map(|(_, day)| *day);
        found.ok_or_else(|| {
            let name = rootwatch_core::text::cap(name, 40);
            format!("`{name}` is not one of mon, tue, wed, thu, fri, sat, sun")
        })
    };
    names.iter().map(day).collect()
}
