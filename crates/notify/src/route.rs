//! Which destinations an alert goes to. Pure: the configuration and the alert decide, and the time
//! is the one at which the alert was decided.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use rootwatch_core::alert::{Alert, AlertKind, IncidentSummary};

use rootwatch_core::window::Approval;

use crate::config::{NotifyConfig, Route, TimeOfDay};

/// The kinds of alerts that a route can select. Tests and delivery outages ignore routes.
pub const ROUTED_KINDS: [&str; 7] =
    ["opened", "continued", "escalated", "outside_window", "acknowledged", "closed", "digest"];

/// The kind that a route means: version 0.1 had other names for three of them.
#[must_use]
pub fn routed_kind(name: &str) -> &str {
    match name {
        "reopened" => "continued",
        "rose" => "escalated",
        "left_window" => "outside_window",
        name => name,
    }
}

/// The destinations of an alert, in the order in which the routes name them, each once.
///
/// That telling is broken goes to all others, a test to all, whatever their `min_severity`. That
/// somebody looks after an incident goes to channels that keep tickets, and to no other.
#[must_use]
pub fn route(config: &NotifyConfig, alert: &Alert) -> Vec<String> {
    match &alert.kind {
        AlertKind::Test => return config.destination.keys().cloned().collect(),
        AlertKind::DeliveryFailing { destination }
        | AlertKind::DeliveryRecovered { destination } => {
            return config
                .destination
                .keys()
                .filter(|name| *name != destination)
                .cloned()
                .collect();
        }
        _ => {}
    }
    let mut names: Vec<&String> = Vec::new();
    let mut fits_any = false;
    for route in &config.route {
        if !fits(route, alert) {
            continue;
        }
        fits_any = true;
        for name in &route.to {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if !route.go_on {
            break;
        }
    }
    if !fits_any {
        names = config.destination.keys().collect();
    }
    let is_for_tickets = matches!(alert.kind, AlertKind::Acknowledged { .. });
    let takes = |name: &&String| {
        config.destination.get(name.as_str()).is_some_and(|one| {
            alert.severity >= one.common.min_severity
                && (!is_for_tickets || one.channel.keeps_tickets())
        })
    };
    names.into_iter().filter(takes).cloned().collect()
}

fn fits(route: &Route, alert: &Alert) -> bool {
    let about = |holds: &dyn Fn(&IncidentSummary) -> bool| alert.incidents.iter().any(holds);
    let any = |globs: &[String], text: &str| globs.iter().any(|glob| glob_fits(glob, text));
    let account = |brief: &IncidentSummary| {
        brief.accounts.iter().any(|account| {
            any(&route.account, &account.id)
                || account.name.as_deref().is_some_and(|name| any(&route.account, name))
        })
    };
    let unit = |brief: &IncidentSummary| {
        let units = brief.accounts.iter().filter_map(|account| account.unit.as_deref());
        units.into_iter().any(|unit| any(&route.unit, unit))
    };
    route.min_severity.is_none_or(|least| alert.severity >= least)
        && (route.alert.is_empty()
            || route.alert.iter().any(|kind| routed_kind(kind) == alert.kind.name()))
        && (route.account.is_empty() || about(&account))
        && (route.unit.is_empty() || about(&unit))
        && (route.rule.is_empty()
            || about(&|brief| brief.rules.iter().any(|rule| any(&route.rule, rule))))
        && (route.root_use.is_empty() || about(&|brief| route.root_use.contains(&brief.root_use)))
        && route
            .approved
            .is_none_or(|wanted| wanted == matches!(alert.approval, Approval::Inside(_)))
        && route.time.as_ref().is_none_or(|time| in_time(time, alert.decided_at))
}

/// Whether a moment is within the span. A span that cannot be read holds every moment: rather told
/// once too often ([`crate::Notifier::check`] refuses it beforehand).
fn in_time(time: &TimeOfDay, now: Timestamp) -> bool {
    let (Ok(from), Ok(until), Ok(zone), Ok(days)) = (
        parse_time(&time.from),
        parse_time(&time.until),
        parse_zone(&time.zone),
        parse_days(&time.days),
    ) else {
        return true;
    };
    let local = now.to_zoned(zone);
    let begins = |date: jiff::civil::Date| days.is_empty() || days.contains(&date.weekday());
    let (today, clock) = (local.date(), local.time());
    if from < until {
        return (from..until).contains(&clock) && begins(today);
    }
    // Over midnight: the evening of today, or the morning after yesterday's evening.
    let yesterday = today.checked_sub(1.day()).unwrap_or(today);
    (clock >= from && begins(today)) || (clock < until && begins(yesterday))
}

/// `*` stands for any text, `?` for one character; letters have to be the same. Linear in both.
pub(crate) fn glob_fits(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut at, mut place) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while place < text.len() {
        match glob.get(at) {
            Some('*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(letter) if *letter == '?' || *letter == text[place] => {
                at += 1;
                place += 1;
            }
            _ => match &mut star {
                Some((after, from)) => {
                    *from += 1;
                    place = *from;
                    at = *after + 1;
                }
                None => return false,
            },
        }
    }
    glob[at..].iter().all(|letter| *letter == '*')
}

pub(crate) fn parse_time(text: &str) -> Result<Time, String> {
    let shown = rootwatch_core::words::cap(text, 40);
    let wrong = || format!("`{shown}` is no time of day, such as `08:00`");
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
        let name = rootwatch_core::words::cap(name, 60);
        format!("there is no time zone `{name}` in this system's time zone database")
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
            let name = rootwatch_core::words::cap(name, 40);
            format!("`{name}` is none of mon, tue, wed, thu, fri, sat, sun")
        })
    };
    names.iter().map(day).collect()
}
