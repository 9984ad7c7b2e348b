//! Numbers, lists, sizes and times as people read them.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::escape::visible;
use crate::finding::Severity;

/// A number with thousands separators: `1,314,242`.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number and its noun: `1 file`, `4,480 files`, `2 entries`, `3 addresses`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    format!("{} {}", thousands(number), plural(number, noun))
}

/// The noun alone, in the number that fits.
#[must_use]
pub fn plural(number: u64, noun: &str) -> Cow<'_, str> {
    if number == 1 {
        return Cow::Borrowed(noun);
    }
    let (stem, end) = match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => (stem, "ies"),
        _ if noun.ends_with(['s', 'x']) || noun.ends_with("ch") => (noun, "es"),
        _ => (noun, "s"),
    };
    Cow::Owned(format!("{stem}{end}"))
}

/// `items` as a person lists them: `a`, `a and b`, `a, b and c`.
#[must_use]
pub fn list<S: AsRef<str>>(items: &[S]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

/// A number of bytes in decimal units: `812 B`, `2.0 GB`.
#[must_use]
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{number} B"),
        _ if value < 99.95 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// How long something took: `12 ms`, `0.6 s`, `48 s`, `3 min 20 s`, `2 h 5 min`, `4 days`.
#[must_use]
pub fn duration(time: Duration) -> String {
    let secs = time.as_secs();
    match secs {
        0 if time.as_millis() < 100 => format!("{} ms", time.as_millis()),
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{secs} s"),
        60..3600 => two(secs / 60, "min", secs % 60, "s"),
        3600..172_800 => two(secs / 3600, "h", secs % 3600 / 60, "min"),
        _ => count(secs / 86_400, "day"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large} {large_unit}")
    } else {
        format!("{large} {large_unit} {small} {small_unit}")
    }
}

/// How long a span is, in one unit, rounded up: `33 minutes`, `5 hours`, `90 days`.
#[must_use]
pub fn span(first: Timestamp, last: Timestamp) -> String {
    let secs = u64::try_from(last.duration_since(first).as_secs()).unwrap_or(0);
    match secs {
        0..60 => count(1, "minute"),
        60..7_200 => count(secs.div_ceil(60), "minute"),
        7_200..172_800 => count(secs.div_ceil(3_600), "hour"),
        _ => count(secs.div_ceil(86_400), "day"),
    }
}

/// A moment as seen from another: `just now`, `40 s ago`, `5 min ago`, `2 days ago`, `in 3 h`.
#[must_use]
pub fn relative(moment: Timestamp, now: Timestamp) -> String {
    let secs = now.duration_since(moment).as_secs();
    let size = secs.unsigned_abs();
    let words = match size {
        0..5 => return "just now".to_owned(),
        5..60 => format!("{size} s"),
        60..3_600 => format!("{} min", size / 60),
        3_600..172_800 => format!("{} h", size / 3_600),
        _ => count(size / 86_400, "day"),
    };
    if secs < 0 { format!("in {words}") } else { format!("{words} ago") }
}

/// `2026-05-04` in a time zone.
#[must_use]
pub fn date(moment: Timestamp, zone: &TimeZone) -> String {
    moment.to_zoned(zone.clone()).strftime("%Y-%m-%d").to_string()
}

/// `14:03` in a time zone.
#[must_use]
pub fn clock(moment: Timestamp, zone: &TimeZone) -> String {
    moment.to_zoned(zone.clone()).strftime("%H:%M").to_string()
}

/// A span in a time zone whose name is `label`: `2026-05-04 13:58 → 14:31 UTC`, with both dates where
/// they differ, and one moment where the minute is the same.
#[must_use]
pub fn time_range(
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    zone: &TimeZone,
    label: &str,
) -> String {
    let moment = |at| format!("{} {}", date(at, zone), clock(at, zone));
    match (first, last) {
        (Some(first), Some(last)) => {
            let (from, to) = (moment(first), moment(last));
            if from == to {
                format!("{from} {label}")
            } else if date(first, zone) == date(last, zone) {
                format!("{from} → {} {label}", clock(last, zone))
            } else {
                format!("{from} → {to} {label}")
            }
        }
        (Some(at), None) | (None, Some(at)) => format!("{} {label}", moment(at)),
        (None, None) => "time not stated".to_owned(),
    }
}

/// `2026-05-04T14:03:00Z`: what programs read.
#[must_use]
pub fn rfc3339(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The word for a severity, in capitals and at most eight columns wide.
#[must_use]
pub fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "CRITICAL",
        Severity::High => "HIGH",
        Severity::Medium => "MEDIUM",
        Severity::Low => "LOW",
        Severity::Informational => "INFO",
    }
}

/// The short name of a service: `signin` for `signin.amazonaws.com`.
#[must_use]
pub fn service(event_source: &str) -> Cow<'_, str> {
    let name = event_source
        .strip_suffix(".amazonaws.com.cn")
        .or_else(|| event_source.strip_suffix(".amazonaws.com"))
        .unwrap_or(event_source);
    visible(name)
}

/// Each item once, in order of first appearance.
#[must_use]
pub fn distinct(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

/// The text as a sentence: a capital at its beginning, a full stop at its end.
#[must_use]
pub fn sentence(text: &str) -> String {
    let mut text = capital(text.trim());
    if !text.ends_with(['.', '…', '!', '?']) {
        text.push('.');
    }
    text
}

/// The first letter as a capital.
#[must_use]
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_nouns_agree() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_314_242), "1,314,242");
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(2, "entry"), "2 entries");
        assert_eq!(count(2, "day"), "2 days");
        assert_eq!(count(3, "address"), "3 addresses");
        assert_eq!(count(3, "match"), "3 matches");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        assert_eq!(list::<&str>(&[]), "");
    }

    #[test]
    fn sizes_and_times_stay_short() {
        assert_eq!(bytes(812), "812 B");
        assert_eq!(bytes(2_000_000_000), "2.0 GB");
        assert_eq!(bytes(999_999), "1.0 MB");
        assert_eq!(bytes(u64::MAX), "18447 PB");
        assert_eq!(duration(Duration::from_millis(12)), "12 ms");
        assert_eq!(duration(Duration::from_millis(612)), "0.6 s");
        assert_eq!(duration(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(duration(Duration::from_secs(7_500)), "2 h 5 min");
        assert_eq!(duration(Duration::from_secs(400_000)), "4 days");
    }

    #[test]
    fn moments_are_told_from_now() {
        let now: Timestamp = "2026-05-04T14:03:40Z".parse().unwrap();
        let at = |text: &str| relative(text.parse().unwrap(), now);
        assert_eq!(at("2026-05-04T14:03:00Z"), "40 s ago");
        assert_eq!(at("2026-05-04T14:03:39Z"), "just now");
        assert_eq!(at("2026-05-01T14:03:00Z"), "3 days ago");
        assert_eq!(at("2026-05-04T14:13:40Z"), "in 10 min");
    }

    #[test]
    fn a_span_names_its_date_once_and_its_zone() {
        let at = |text: &str| text.parse::<Timestamp>().ok();
        let range = |first, last| time_range(at(first), at(last), &TimeZone::UTC, "UTC");
        let first = "2026-05-04T13:58:00Z";
        assert_eq!(range(first, "2026-05-04T14:31:00Z"), "2026-05-04 13:58 → 14:31 UTC");
        assert_eq!(range(first, "2026-05-04T13:58:59Z"), "2026-05-04 13:58 UTC");
        assert_eq!(range(first, "2026-05-05T01:00:00Z"), "2026-05-04 13:58 → 2026-05-05 01:00 UTC");
        assert_eq!(range("", ""), "time not stated");
    }
}
