//! `[notify.digest]`: when one message lists the informational incidents.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::problem::ConfigProblem;
use crate::time_of_day::{parse_days, parse_time, parse_zone, utc};

/// Days to search backwards for the last digest: a week, and a day that a time zone may have skipped.
const LOOK_BACK_DAYS: i64 = 9;

/// `[notify.digest]`: the message that lists informational incidents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DigestConfig {
    /// false: send no digest.
    pub enabled: bool,
    /// Time of day: `"08:00"`.
    pub at: String,
    /// IANA time zone, for example `Europe/Zurich`.
    pub zone: String,
    /// Weekdays: `mon` … `sun`. Empty: every day.
    pub days: Vec<String>,
}

impl Default for DigestConfig {
    fn default() -> Self {
        Self { enabled: true, at: "08:00".to_owned(), zone: utc(), days: Vec::new() }
    }
}

impl DigestConfig {
    pub(crate) fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut note = |key: &str, result: Result<(), String>| {
            if let Err(problem) = result {
                problems.push(ConfigProblem::new(format!("notify.digest.{key}"), problem));
            }
        };
        note("at", parse_time(&self.at).map(drop));
        note("zone", parse_zone(&self.zone).map(drop));
        note("days", parse_days(&self.days).map(drop));
        problems
    }

    /// The last moment up to `now` at which a digest was due: the next one is sent if the last one was
    /// sent before it. `None` if digests are disabled or the configuration is invalid, which
    /// [`crate::Notifier::check`] reports.
    #[must_use]
    pub fn last_due(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.enabled {
            return None;
        }
        let at = parse_time(&self.at).ok()?;
        let zone = parse_zone(&self.zone).ok()?;
        let days = parse_days(&self.days).ok()?;
        last_due(at, &zone, &days, now)
    }
}

fn last_due(at: Time, zone: &TimeZone, days: &[Weekday], now: Timestamp) -> Option<Timestamp> {
    let today = now.to_zoned(zone.clone()).date();
    (0..LOOK_BACK_DAYS).find_map(|back| {
        let date = today.checked_sub(back.days()).ok()?;
        if !days.is_empty() && !days.contains(&date.weekday()) {
            return None;
        }
        // A time that a clock change skips becomes the moment after the gap.
        let moment = date.to_datetime(at).to_zoned(zone.clone()).ok()?.timestamp();
        (moment <= now).then_some(moment)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(config: &DigestConfig, now: &str) -> String {
        config.last_due(now.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn a_digest_is_due_at_its_time_of_day() {
        let daily = DigestConfig::default();
        assert_eq!(due(&daily, "2026-05-04T08:00:00Z"), "2026-05-04T08:00:00Z");
        assert_eq!(due(&daily, "2026-05-04T07:59:59Z"), "2026-05-03T08:00:00Z");
        assert_eq!(DigestConfig { enabled: false, ..daily }.last_due(Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn weekdays_and_clock_changes_are_respected() {
        let weekly = DigestConfig {
            zone: "Europe/Zurich".into(),
            days: vec!["mon".into()],
            ..DigestConfig::default()
        };
        // 2026-05-03 is a Sunday.
        assert_eq!(due(&weekly, "2026-05-03T12:00:00Z"), "2026-04-27T06:00:00Z");
        // The clock jumps from 02:00 to 03:00 on 2026-03-29: 02:30 becomes 03:30.
        let night = DigestConfig {
            at: "02:30".into(),
            zone: "Europe/Zurich".into(),
            ..DigestConfig::default()
        };
        assert_eq!(due(&night, "2026-03-29T12:00:00Z"), "2026-03-29T01:30:00Z");
    }
}
