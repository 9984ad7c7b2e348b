//! The mail itself: a pure function from a message to MIME.
//!
//! Threads. Every mail about one thing names the same id in `References` and `In-Reply-To`, an id
//! that no mail bears itself: mail programs make an empty parent of it, and a mail that joins late (a
//! stand-in, a second destination) is in the thread as well. Gmail asks for that, and for the same
//! subject: mails that follow bear the first one's behind `Re:`. What became worse has a subject of
//! its own, since nobody should look for it in a thread that was read.
//! Source: Google's "Threading changes in Gmail conversation view", 2019; RFC 5322, 3.6.4.

use std::time::{Duration, SystemTime};

use askama::Template;
use jiff::Timestamp;
use lettre::message::header::{
    ContentTransferEncoding, ContentType, HeaderName as MailHeaderName, HeaderValue,
};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use ring::digest::{SHA256, digest};
use rootwatch_core::alert::AlertKind;
use rootwatch_core::finding::Severity;
use rootwatch_core::{hex, text};

use super::super::Message;
use crate::wording::Wording;

/// Columns of a subject.
pub const SUBJECT_COLUMNS_MAX: usize = 160;
/// Bytes of the HTML part: Gmail shows the first 102 KB of a mail and hides the rest.
pub const HTML_BYTES_MAX: usize = 96 << 10;
/// Columns of the hidden first text.
const PREHEADER_COLUMNS_MAX: usize = 200;
/// Unseen characters behind the hidden text, so that a list of mails does not go on with the body.
const FILLER: usize = 60;

/// From whom, and to whom.
#[derive(Debug, Clone)]
pub(super) struct Parties {
    pub(super) from: Mailbox,
    pub(super) to: Vec<Mailbox>,
    pub(super) cc: Vec<Mailbox>,
    pub(super) reply_to: Option<Mailbox>,
}

#[derive(Template)]
#[template(path = "email.html")]
struct Html<'a> {
    title: String,
    preheader: String,
    filler: String,
    banner: Option<&'a str>,
    colour: &'static str,
    label: String,
    heading: String,
    place: String,
    severity: Severity,
    fresh: Vec<String>,
    texts: Vec<String>,
    why: Vec<String>,
    next: Vec<String>,
    timeline: Vec<(String, String)>,
    listed: Vec<String>,
    foot: String,
    link: Option<&'a str>,
}

/// The title in its parts: what it says of the state, what happened, and where.
struct TitleParts {
    label: String,
    heading: String,
    place: String,
}

impl TitleParts {
    fn of(message: &Message<'_>) -> Self {
        let wording = message.wording;
        let severity = text::severity(wording.severity);
        let title = wording.title.as_str();
        // A title that a template made need not begin with the label.
        let rest = title.strip_prefix(&format!("{} · ", wording.label));
        let (label, rest) = match (&message.alert.kind, rest) {
            (AlertKind::Acknowledged { .. }, Some(rest)) => {
                (format!("{severity} · {}", wording.label), rest.to_owned())
            }
            (_, Some(rest)) => (wording.label.clone(), rest.to_owned()),
            (AlertKind::Test | AlertKind::DeliveryRecovered { .. }, None) => {
                (wording.label.clone(), title.to_owned())
            }
            (_, None) => (severity.to_owned(), title.to_owned()),
        };
        let (heading, place) = match rest.rsplit_once(" · ") {
            Some((heading, place)) if message.alert.incident().is_some() => {
                (heading.to_owned(), place.to_owned())
            }
            _ => (rest, String::new()),
        };
        Self { label, heading, place }
    }
}

/// The subject, and the one that the mails which follow in the thread go on with. `base` is what was
/// kept of an earlier mail of this thread.
pub(super) fn subject(message: &Message<'_>, base: Option<&str>) -> (String, String) {
    let wording = message.wording;
    let parts = TitleParts::of(message);
    let mut named = format!("{} · {}", text::severity(wording.severity), parts.heading);
    if !parts.place.is_empty() {
        named = format!("{named} · {}", parts.place);
    }
    let (subject, base) = match &message.alert.kind {
        AlertKind::Acknowledged { .. }
        | AlertKind::Continued
        | AlertKind::Closed { .. }
        | AlertKind::DeliveryRecovered { .. } => {
            let known = base.map(str::to_owned);
            let is_about_telling =
                matches!(message.alert.kind, AlertKind::DeliveryRecovered { .. });
            let fallback = if is_about_telling { wording.title.clone() } else { named };
            let base = known.unwrap_or(fallback);
            (format!("Re: {base}"), base)
        }
        _ => (wording.title.clone(), wording.title.clone()),
    };
    let subject = match &wording.banner {
        Some(banner) => format!("{banner} · {subject}"),
        None => subject,
    };
    (text::cap(&subject, SUBJECT_COLUMNS_MAX), text::cap(&base, SUBJECT_COLUMNS_MAX))
}

/// A text in which a mail program finds no address to make a link of: an unseen character stands in
/// `https://` and `www.`. Whoever used the credentials chose some of these texts.
fn unlinked(text: &str) -> String {
    text.replace("://", ":\u{2060}//")
        .replace("www.", "www\u{2060}.")
        .replace("WWW.", "WWW\u{2060}.")
}

fn all(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| unlinked(text)).collect()
}

/// Dark enough for white letters on it: 4.5 to 1 and better.
fn colour(message: &Message<'_>) -> &'static str {
    match message.alert.kind {
        AlertKind::Closed { .. } | AlertKind::DeliveryRecovered { .. } => return "#3f6212",
        AlertKind::Digest | AlertKind::Test => return "#57606a",
        _ => {}
    }
    match message.wording.severity {
        Severity::Critical => "#a3121f",
        Severity::High => "#b0440a",
        Severity::Medium => "#7a5b00",
        Severity::Low => "#1f5f99",
        Severity::Informational => "#57606a",
    }
}

/// What a lock screen and a list of mails show behind the subject.
fn preheader(message: &Message<'_>) -> String {
    let wording = message.wording;
    let mut text = unlinked(&wording.compact);
    if let Some(banner) = &wording.banner
        && !wording.compact.starts_with(banner.as_str())
    {
        text = format!("{banner}. {text}");
    }
    text::cap(&text, PREHEADER_COLUMNS_MAX)
}

/// `14:03 ✓ Signed in` in its time and the rest; a row without a time has none.
fn row(text: &str) -> (String, String) {
    let text = unlinked(text);
    match text.split_once(' ') {
        Some((at, what)) if at.len() == 5 && at.as_bytes().get(2) == Some(&b':') => {
            (at.to_owned(), what.to_owned())
        }
        _ => (String::new(), text),
    }
}

/// The HTML part. Pure; at most [`HTML_BYTES_MAX`] bytes: what does not fit is left out in whole
/// parts, and the mail says so.
#[must_use]
pub fn html(message: &Message<'_>) -> String {
    let wording = message.wording;
    let parts = TitleParts::of(message);
    let mut page = Html {
        title: unlinked(&wording.title),
        preheader: preheader(message),
        filler: "&#847;&zwnj;&nbsp;".repeat(FILLER),
        banner: wording.banner.as_deref(),
        colour: colour(message),
        label: unlinked(&parts.label),
        heading: unlinked(&parts.heading),
        place: unlinked(&parts.place),
        severity: wording.severity,
        fresh: all(&wording.fresh),
        texts: texts(wording),
        why: all(&wording.why),
        next: all(&wording.next),
        timeline: wording.timeline.iter().map(|text| row(text)).collect(),
        listed: all(&wording.listed),
        foot: unlinked(&wording.foot),
        link: wording.link.as_deref(),
    };
    let mut html = drawn(&page);
    // The parts that can be missed, in the order in which they go.
    let leave_out: [fn(&mut Html<'_>); 4] = [
        |page| page.timeline.clear(),
        |page| page.listed.clear(),
        |page| page.next.clear(),
        |page| page.texts.clear(),
    ];
    for leave in leave_out {
        if html.len() <= HTML_BYTES_MAX {
            break;
        }
        leave(&mut page);
        if !page.foot.ends_with(LEFT_OUT) {
            page.foot.push_str(LEFT_OUT);
        }
        html = drawn(&page);
    }
    html
}

const LEFT_OUT: &str = " · This mail was too long: parts are left out, the hub has all.";

fn drawn(page: &Html<'_>) -> String {
    // Writing into a string cannot fail; the text part is there in any case.
    page.render().unwrap_or_default()
}

fn texts(wording: &Wording) -> Vec<String> {
    let lead = Some(&wording.lead).filter(|lead| !lead.is_empty());
    lead.into_iter().chain(&wording.prose).map(|text| unlinked(text)).collect()
}

/// The part of plain text: the same, in the same order.
#[must_use]
pub fn text(message: &Message<'_>) -> String {
    let wording = message.wording;
    let mut text = String::new();
    let mut put = |lines: Vec<String>| {
        if !lines.is_empty() {
            text.push_str(&lines.join("\n"));
            text.push_str("\n\n");
        }
    };
    put(wording.banner.iter().map(|banner| format!("** {banner} **")).collect());
    put(vec![unlinked(&wording.title)]);
    put(all(&wording.fresh).into_iter().map(|fresh| format!("+ {fresh}")).collect());
    for one in texts(wording) {
        put(vec![one]);
    }
    let titled = |title: String, lines: Vec<String>| {
        if lines.is_empty() { lines } else { [vec![title], lines].concat() }
    };
    let dotted = all(&wording.why).into_iter().map(|why| format!("- {why}")).collect();
    put(titled(format!("WHY {}", text::severity(wording.severity)), dotted));
    let steps = all(&wording.next).into_iter().enumerate();
    let steps = steps.map(|(place, step)| format!("{}. {step}", place + 1)).collect();
    put(titled("DO FIRST".to_owned(), steps));
    // Ours, from the configuration.
    put(wording.link.iter().map(|link| format!("Open in the hub: {link}")).collect());
    put(titled("WHAT HAPPENED (UTC)".to_owned(), all(&wording.timeline)));
    put(all(&wording.listed).into_iter().map(|line| format!("- {line}")).collect());
    put(vec![format!("-- \n{}", unlinked(&wording.foot))]);
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// 32 letters that stand for a text.
fn hash(of: &str) -> String {
    let digest = digest(&SHA256, of.as_bytes());
    hex::encode(&digest.as_ref()[..16])
}

/// `Message-ID`: the same in every retry of a delivery.
pub(super) fn message_id(message: &Message<'_>, parties: &Parties) -> String {
    format!("<{}@{}>", hash(&message.id.0), parties.from.email.domain())
}

/// The id to which all mails of a thread refer.
fn thread_id(message: &Message<'_>, parties: &Parties) -> String {
    let thread = hash(&format!("thread {}", message.thread));
    format!("<thread-{thread}@{}>", parties.from.email.domain())
}

fn date(now: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0))
}

/// True for what should be looked at before other mail.
fn is_urgent(message: &Message<'_>) -> bool {
    matches!(
        message.alert.kind,
        AlertKind::Opened
            | AlertKind::Escalated { .. }
            | AlertKind::OutsideWindow { .. }
            | AlertKind::Continued
            | AlertKind::DeliveryFailing { .. }
    ) && message.wording.severity >= Severity::High
}

/// The whole mail, as it is sent: lines end in CR LF. Pure: boundary and ids are made of the
/// delivery's id.
///
/// # Errors
/// In words: the mail cannot be built of these addresses.
pub(super) fn mail(
    message: &Message<'_>,
    parties: &Parties,
    base: Option<&str>,
) -> Result<Vec<u8>, String> {
    let part = |kind: ContentType, body: String| {
        SinglePart::builder()
            .header(kind)
            .header(ContentTransferEncoding::QuotedPrintable)
            .body(body)
    };
    let thread = thread_id(message, parties);
    let mut builder = lettre::Message::builder()
        .date(date(message.now))
        .from(parties.from.clone())
        .subject(subject(message, base).0)
        .message_id(Some(message_id(message, parties)))
        .in_reply_to(thread.clone())
        .references(thread);
    for to in &parties.to {
        builder = builder.to(to.clone());
    }
    for cc in &parties.cc {
        builder = builder.cc(cc.clone());
    }
    if let Some(reply_to) = &parties.reply_to {
        builder = builder.reply_to(reply_to.clone());
    }
    let mut raw = vec![
        // RFC 3834: whoever is away does not answer.
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("X-Auto-Response-Suppress", "All".to_owned()),
        // RFC 2919: for filters.
        ("List-Id", format!("Rootwatch <rootwatch.{}>", parties.from.email.domain())),
    ];
    if is_urgent(message) {
        raw.push(("Importance", "high".to_owned()));
        raw.push(("X-Priority", "1".to_owned()));
    }
    for (name, value) in raw {
        let name = MailHeaderName::new_from_ascii_str(name);
        builder = builder.raw_header(HeaderValue::new(name, value));
    }
    let body = MultiPart::alternative()
        .boundary(format!("=_{}", hash(&format!("boundary {}", message.id.0))))
        .singlepart(part(ContentType::TEXT_PLAIN, text(message)))
        .singlepart(part(ContentType::TEXT_HTML, html(message)));
    let mail = builder.multipart(body).map_err(|error| format!("no mail can be made: {error}"))?;
    Ok(mail.formatted())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_program_finds_no_address_in_what_a_stranger_wrote() {
        assert_eq!(
            unlinked("https://evil.test www.evil.test"),
            "https:\u{2060}//evil.test www\u{2060}.evil.test"
        );
        assert_eq!(unlinked("arn:aws:iam::1:root 14:03"), "arn:aws:iam::1:root 14:03");
    }

    #[test]
    fn a_row_is_split_at_its_time_only() {
        assert_eq!(row("14:03 ✓ Signed in"), ("14:03".to_owned(), "✓ Signed in".to_owned()));
        assert_eq!(row("… 3 rows left out"), (String::new(), "… 3 rows left out".to_owned()));
    }
}
