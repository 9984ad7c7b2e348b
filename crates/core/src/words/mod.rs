//! Words and numbers as people read them, the same wherever Rootwatch speaks: on a terminal, in a
//! page, in a message.
//!
//! Everything that shows a text to somebody goes through [`visible`] first: user agents, names and
//! error texts come from whoever used the credentials. [`tell`] says what happened in an incident,
//! [`fold`] makes its timeline.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use crate::finding::Severity;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

pub mod fold;
pub mod tell;

/// Columns that one text may take before [`cap`] shortens it.
pub const TEXT_COLUMNS_MAX: usize = 160;
/// Columns that the short name of an unknown client may take.
const AGENT_COLUMNS_MAX: usize = 24;
/// Marks that may stand on one letter; more of them climb over the lines above.
const COMBINING_MAX: usize = 2;

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
        _ if noun.ends_with(['s', 'x']) => (noun, "es"),
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

/// A text in which everything that acts on a terminal or a reader's eye without being seen stands
/// as an escape: control characters, line breaks, bidirectional overrides, invisible letters and
/// marks piled on one letter.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    let mut piled = 0;
    let mut hidden = |letter: char| {
        piled = if letter.width() == Some(0) { piled + 1 } else { 0 };
        is_unseen(letter) || piled > COMBINING_MAX
    };
    if !text.chars().any(&mut hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    piled = 0;
    let mut hidden = |letter: char| {
        piled = if letter.width() == Some(0) { piled + 1 } else { 0 };
        is_unseen(letter) || piled > COMBINING_MAX
    };
    for letter in text.chars() {
        match letter {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if hidden(letter) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(letter));
            }
            _ => out.push(letter),
        }
    }
    Cow::Owned(out)
}

/// True for letters that change what is seen without being seen themselves.
#[must_use]
pub fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Columns that a text takes on a terminal.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text made [`visible`], and shortened with `…` when it takes more than `columns`.
#[must_use]
pub fn cap(text: &str, columns: usize) -> String {
    // A letter takes at least one byte: what lies far beyond the bound need not be escaped.
    let head: String = text.chars().take(columns.saturating_mul(4) + 1).collect();
    let shown = visible(&head);
    if width(&shown) <= columns && head.len() == text.len() {
        return shown.into_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for letter in shown.chars() {
        used += letter.width().unwrap_or(0);
        if used >= columns {
            break;
        }
        out.push(letter);
    }
    out.push('…');
    out
}

/// Lines of at most `columns` columns, broken at spaces; a longer word is broken where it must be.
/// A no-break space breaks only where its word is longer than a line. There is always a line.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    let words = text.split(' ').flat_map(|word| {
        let long = width(word) > columns;
        word.split(move |letter| long && letter == '\u{a0}')
    });
    for word in words.filter(|word| !word.is_empty()) {
        let wide = width(word);
        if used > 0 && used + 1 + wide <= columns {
            put(&mut lines, " ");
            put(&mut lines, word);
            used += 1 + wide;
        } else {
            if used > 0 {
                lines.push(String::new());
                used = 0;
            }
            if wide <= columns {
                put(&mut lines, word);
                used = wide;
            } else {
                for letter in word.chars() {
                    let wide = letter.width().unwrap_or(0);
                    if used + wide > columns && used > 0 {
                        lines.push(String::new());
                        used = 0;
                    }
                    put(&mut lines, letter.encode_utf8(&mut [0; 4]));
                    used += wide;
                }
            }
        }
    }
    lines
}

fn put(lines: &mut [String], text: &str) {
    if let Some(line) = lines.last_mut() {
        line.push_str(text);
    }
}

/// A text filled with spaces up to `columns`.
#[must_use]
pub fn pad(text: &str, columns: usize) -> String {
    let fill = columns.saturating_sub(width(text));
    format!("{text}{}", " ".repeat(fill))
}

/// The first letter as a capital.
#[must_use]
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What called, in a few words: `Chrome on Windows`, `AWS CLI`, `Terraform`. `None` when the record
/// states no user agent.
#[must_use]
pub fn agent(user_agent: Option<&str>) -> Option<String> {
    let text = user_agent?.trim();
    // Old records put brackets around the agent of a console page.
    let text = text.strip_prefix('[').unwrap_or(text);
    if text.is_empty() {
        return None;
    }
    if text == "AWS Internal" || text.starts_with("AWS-Internal") {
        return Some("AWS".to_owned());
    }
    if matches!(text, "signin.amazonaws.com" | "console.amazonaws.com") || text == "AWS Console" {
        return Some("console".to_owned());
    }
    if text.starts_with("S3Console") {
        return Some("S3 console".to_owned());
    }
    if text.ends_with(".amazonaws.com") {
        return Some(service(text).into_owned());
    }
    for (mark, name) in CLIENTS {
        if text.contains(mark) {
            let kali = name == "AWS CLI" && text.to_ascii_lowercase().contains("kali");
            return Some(if kali { format!("{name} on Kali Linux") } else { name.to_owned() });
        }
    }
    if text.starts_with("Mozilla/") {
        return Some(browser(text));
    }
    let product = text.split([' ', '/', '(']).next().unwrap_or(text);
    Some(cap(if product.is_empty() { text } else { product }, AGENT_COLUMNS_MAX))
}

/// Marks in a user agent and what they mean, the more telling first: Terraform also names its SDK,
/// CloudShell also names the CLI.
const CLIENTS: [(&str, &str); 26] = [
    ("Terraform", "Terraform"),
    ("OpenTofu", "OpenTofu"),
    ("pulumi", "Pulumi"),
    ("CloudShell", "CloudShell"),
    ("AWSPowerShell", "AWS Tools for PowerShell"),
    ("aws-cli/", "AWS CLI"),
    ("Boto3/", "Boto3"),
    ("Botocore/", "Botocore"),
    ("aws-sdk-go", "AWS SDK for Go"),
    ("aws-sdk-java", "AWS SDK for Java"),
    ("aws-sdk-kotlin", "AWS SDK for Kotlin"),
    ("aws-sdk-js", "AWS SDK for JavaScript"),
    ("aws-sdk-nodejs", "AWS SDK for JavaScript"),
    ("aws-sdk-php", "AWS SDK for PHP"),
    ("aws-sdk-ruby", "AWS SDK for Ruby"),
    ("aws-sdk-rust", "AWS SDK for Rust"),
    ("aws-sdk-swift", "AWS SDK for Swift"),
    ("aws-sdk-cpp", "AWS SDK for C++"),
    ("aws-sdk-dotnet", "AWS SDK for .NET"),
    ("aws-sdk-iOS", "AWS SDK for iOS"),
    ("AWSConsoleMobile", "AWS mobile app"),
    ("python-requests/", "python-requests"),
    ("Python-urllib", "Python urllib"),
    ("Go-http-client", "a Go program"),
    ("curl/", "curl"),
    ("Wget/", "Wget"),
];

fn browser(text: &str) -> String {
    let find = |marks: &[(&str, &'static str)]| {
        marks.iter().find(|(mark, _)| text.contains(mark)).map(|(_, name)| *name)
    };
    let name = find(&[
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("HeadlessChrome/", "headless Chrome"),
        ("Chrome/", "Chrome"),
        ("CriOS/", "Chrome"),
        ("FxiOS/", "Firefox"),
        ("Safari/", "Safari"),
    ]);
    let system = find(&[
        ("Windows", "Windows"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Android", "Android"),
        ("Mac OS X", "macOS"),
        ("CrOS", "ChromeOS"),
        ("Linux", "Linux"),
    ]);
    match (name, system) {
        (Some(name), Some(system)) => format!("{name} on {system}"),
        (Some(name), None) => name.to_owned(),
        (None, Some(system)) => format!("browser on {system}"),
        (None, None) => "browser".to_owned(),
    }
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
    fn what_cannot_be_seen_is_shown_as_an_escape() {
        assert_eq!(visible("a\u{1b}[31mb"), "a\\u{1b}[31mb");
        assert_eq!(visible("two\nlines\r\tx"), "two\\nlines\\r\\tx");
        assert_eq!(visible("\u{202e}gpj.exe"), "\\u{202e}gpj.exe");
        assert_eq!(visible("a\u{9b}b\u{200b}c"), "a\\u{9b}b\\u{200b}c");
        assert_eq!(visible("e\u{301}"), "e\u{301}");
        assert!(visible("e\u{301}\u{301}\u{301}\u{301}").contains("\\u{301}"));
        assert!(matches!(visible("prod-Zahlungen-支払い"), Cow::Borrowed(_)));
    }

    #[test]
    fn width_counts_columns_not_letters() {
        assert_eq!(cap("支払い支払い", 7), "支払い…");
        assert_eq!(cap("short", 7), "short");
        assert_eq!(width(&cap(&"x".repeat(4_000), 20)), 20);
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("a\u{a0}b c", 3), ["a\u{a0}b", "c"]);
        assert_eq!(wrap("name\u{a0}123456", 6), ["name", "123456"]);
        assert_eq!(pad("支", 4), "支  ");
    }

    #[test]
    fn clients_have_short_names() {
        let short = |text: &str| agent(Some(text)).unwrap_or_default();
        let chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like \
                      Gecko) Chrome/124.0.0.0 Safari/537.36";
        assert_eq!(short(chrome), "Chrome on Windows");
        assert_eq!(
            short("aws-cli/2.15.0 Python/3.11.6 Linux/6.5.0-kali3"),
            "AWS CLI on Kali Linux"
        );
        assert_eq!(short("aws-cli/2.15.0 Python/3.11.6 Linux/6.5.0"), "AWS CLI");
        assert_eq!(short("Boto3/1.34.0 md/Botocore#1.34.0"), "Boto3");
        assert_eq!(short("APN/1.0 HashiCorp/1.0 Terraform/1.8.0 aws-sdk-go-v2/1.26"), "Terraform");
        assert_eq!(short("signin.amazonaws.com"), "console");
        assert_eq!(short("cloudtrail.amazonaws.com"), "cloudtrail");
        assert_eq!(short("\u{1b}[2J"), "\\u{1b}[2J");
        assert_eq!(agent(None), None);
        assert_eq!(agent(Some("  ")), None);
    }
}
