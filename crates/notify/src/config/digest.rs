//! `[notify.digest]`: when informational incidents are told together.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigProblem, utc};
use crate::route::{parse_days, parse_time, parse_zone};

/// Days that are looked back for the last digest: a week and a day that a time zone left out.
const LOOK_BACK_DAYS: i64 = 9;

/// `[notify.digest]`: the message that lists informational incidents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DigestConfig {
    /// False to send none.
    pub enabled: bool,
    /// The time of day: `"08:00"`.
    pub at: String,
    /// An IANA time zone, such as `Europe/Zurich`.
    pub zone: String,
    /// Days of the week: `mon` … `sun`. None stands for all.
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

    /// The last moment, up to and including `now`, at which a digest was due: one is owed when the
    /// last digest was before. `None` when none are sent.
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
        // A time that a clock change leaves out is taken as the moment after the gap.
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
    fn days_and_clock_changes_are_minded() {
        let weekly = DigestConfig {
            zone: "Europe/Zurich".into(),
            days: vec!["mon".into()],
            ..DigestConfig::default()
        };
        // 2026-05-03 is a Sunday.
        assert_eq!(due(&weekly, "2026-05-03T12:00:00Z"), "2026-04-27T06:00:00Z");
        // The clock jumps from 02:00 to 03:00 on 2026-03-29: half past two is told at half past
        // three.
        let night = DigestConfig {
            at: "02:30".into(),
            zone: "Europe/Zurich".into(),
            ..DigestConfig::default()
        };
        assert_eq!(due(&night, "2026-03-29T12:00:00Z"), "2026-03-29T01:30:00Z");
    }
}
