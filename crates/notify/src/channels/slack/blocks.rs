//! Block Kit: a pure function from a message to what Slack shows.

use rootwatch_core::alert::{AlertKind, CloseReason};
use rootwatch_core::finding::Severity;
use rootwatch_core::text;
use serde_json::{Value, json};

use super::super::Message;
use crate::wording::Wording;

/// Blocks of a message.
pub const BLOCKS_MAX: usize = 50;
/// Characters of a header, which is plain text.
pub const HEADER_CHARS_MAX: usize = 150;
/// Characters of a section's text.
pub const SECTION_CHARS_MAX: usize = 3_000;
/// Characters of a message in all: below the limit that Slack has and does not document.
pub const MESSAGE_CHARS_MAX: usize = 12_000;
/// Characters for which it is worth to begin a section.
const SECTION_CHARS_MIN: usize = 40;
/// Characters of the fallback text.
const FALLBACK_CHARS_MAX: usize = 1_000;

/// A text in which nothing is Slack's markup: neither a link, a mention nor bold letters.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // A word joiner after it keeps these from being read as markup, and is not seen.
            '*' | '_' | '~' | '`' => {
                out.push(letter);
                out.push('\u{2060}');
            }
            _ => out.push(letter),
        }
    }
    out
}

/// Slack counts as JavaScript does, in units of UTF-16.
fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// The header: plain text.
fn header(text: &str) -> String {
    if units(text) <= HEADER_CHARS_MAX {
        return text.to_owned();
    }
    let mut count = 0;
    let fits = |letter: &char| {
        count += letter.len_utf16();
        count < HEADER_CHARS_MAX
    };
    let mut head: String = text.chars().take_while(fits).collect();
    head.push('…');
    head
}

/// As many whole lines as fit.
fn fit(lines: &[String], chars_max: usize) -> String {
    let mut text = String::new();
    for (place, line) in lines.iter().enumerate() {
        let more = lines.len() - place;
        let end = format!("… {more} more in the hub");
        let room = chars_max.saturating_sub(units(&text) + usize::from(place > 0));
        let fits = units(line) + if more > 1 { units(&end) + 1 } else { 0 };
        if place > 0 {
            text.push('\n');
        }
        if fits > room {
            text.push_str(&end);
            return text;
        }
        text.push_str(line);
    }
    text
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": text, "verbatim": true } })
}

/// A sign beside the word: never color alone.
fn sign(message: &Message<'_>) -> &'static str {
    match (&message.alert.kind, message.wording.severity) {
        // Quiet is not resolved: a check mark would read as all-clear.
        (AlertKind::Closed { why: CloseReason::Quiet }, _) => "⏸️",
        (AlertKind::Closed { .. } | AlertKind::DeliveryRecovered { .. }, _) => "✅",
        (AlertKind::Acknowledged { .. }, _) => "👤",
        (AlertKind::Digest | AlertKind::Test, _) => "ℹ️",
        (_, Severity::Critical) => "🔴",
        (_, Severity::High) => "🟠",
        (_, Severity::Medium) => "🟡",
        (_, Severity::Low) => "🔵",
        (_, Severity::Informational) => "⚪",
    }
}

/// Blocks that together keep every limit of Slack.
struct Blocks {
    blocks: Vec<Value>,
    room: usize,
}

impl Blocks {
    /// Adds a section of as many lines as fit; none where there is no room for any.
    fn put(&mut self, title: &str, lines: Vec<String>, chars_max: usize) {
        if lines.is_empty() || self.blocks.len() == BLOCKS_MAX {
            return;
        }
        let mut text = String::new();
        if !title.is_empty() {
            text = format!("*{title}*\n");
        }
        let chars_max = chars_max.min(SECTION_CHARS_MAX).min(self.room);
        if chars_max < units(&text) + SECTION_CHARS_MIN {
            return;
        }
        text.push_str(&fit(&lines, chars_max - units(&text)));
        self.room -= units(&text).min(self.room);
        self.blocks.push(section(&text));
    }

    fn body(self, wording: &Wording) -> Value {
        let mut fallback = wording.compact.clone();
        if let Some(banner) = &wording.banner
            && !fallback.starts_with(banner.as_str())
        {
            fallback = format!("{banner}. {fallback}");
        }
        let text = escaped(&text::cap(&fallback, FALLBACK_CHARS_MAX));
        json!({ "text": text, "blocks": self.blocks, "unfurl_links": false, "unfurl_media": false })
    }
}

/// The body: blocks, and the text that a notification shows. Bounded by every limit of Slack.
#[must_use]
pub fn render(message: &Message<'_>) -> Value {
    let wording = message.wording;
    let mut head = format!("{} {}", sign(message), wording.title);
    if let Some(banner) = &wording.banner {
        head = format!("{banner} · {head}");
    }
    let head = header(&head);
    let room = MESSAGE_CHARS_MAX - units(&head);
    let text = json!({ "type": "plain_text", "text": head, "emoji": true });
    let blocks = vec![json!({ "type": "header", "text": text })];
    let mut all = Blocks { blocks, room };
    // In the order of what must not be left out.
    all.put("", fresh(wording), 1_500);
    all.put("", texts(wording), 2_500);
    let why = wording.why.iter().map(|why| escaped(why)).collect::<Vec<_>>().join(" · ");
    all.put(&format!("Why {}", wording.severity), some(why), 1_500);
    let next = wording.next.iter().enumerate();
    let next = next.map(|(place, step)| format!("{}. {}", place + 1, escaped(step))).collect();
    all.put("Do first", next, 2_500);
    all.put("What happened (UTC)", timeline(wording), 2_500);
    all.put("", wording.listed.iter().map(|line| format!("• {}", escaped(line))).collect(), 3_000);
    all.put("", foot(wording), 1_000);
    all.body(wording)
}

/// What goes into the thread below the first message, which shows the present state: what this
/// alert says that the one before it did not.
#[must_use]
pub fn render_reply(message: &Message<'_>) -> Value {
    let wording = message.wording;
    let mut all = Blocks { blocks: Vec::new(), room: MESSAGE_CHARS_MAX };
    let mut lines: Vec<String> = wording.banner.iter().map(|text| escaped(text)).collect();
    lines.push(format!("{} *{}*", sign(message), escaped(&wording.title)));
    all.put("", lines, 1_500);
    all.put("", fresh(wording), 1_500);
    let is_only_taken = matches!(message.alert.kind, AlertKind::Acknowledged { .. });
    if !is_only_taken {
        all.put("", some(escaped(&wording.lead)), 1_500);
        all.put("What happened (UTC)", timeline(wording), 2_500);
    }
    all.put("", foot(wording), 1_000);
    all.body(wording)
}

/// What is sent when Slack finds the message too long: rather a short one than none.
pub(super) fn short(message: &Message<'_>) -> Value {
    let whole = Blocks { blocks: Vec::new(), room: 0 }.body(message.wording);
    json!({ "text": whole["text"], "unfurl_links": false, "unfurl_media": false })
}

fn fresh(wording: &Wording) -> Vec<String> {
    wording.fresh.iter().map(|fresh| format!("+ {}", escaped(fresh))).collect()
}

fn timeline(wording: &Wording) -> Vec<String> {
    wording.timeline.iter().map(|row| escaped(row)).collect()
}

fn foot(wording: &Wording) -> Vec<String> {
    let mut foot = escaped(&wording.foot);
    if let Some(link) = &wording.link {
        // Ours, from the configuration.
        let link = link.replace('&', "&amp;").replace(['<', '>', '|'], "");
        foot.push_str(&format!(" · <{link}|Open in the hub>"));
    }
    some(foot)
}

fn texts(wording: &Wording) -> Vec<String> {
    let mut lines = some(escaped(&wording.lead));
    lines.extend(wording.prose.iter().map(|prose| escaped(prose)));
    lines
}

fn some(text: String) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { vec![text] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_writes_is_no_markup() {
        let text = escaped("<!channel> *hi* <https://evil.test|click> `x` & @here");
        assert!(!text.contains('<') && !text.contains("*hi*") && !text.contains("`x`"), "{text}");
        assert!(text.starts_with("&lt;!channel&gt;"));
    }

    #[test]
    fn lines_that_do_not_fit_are_counted() {
        let lines: Vec<String> = (0..100).map(|number| format!("line {number:03}")).collect();
        let text = fit(&lines, 100);
        assert!(units(&text) <= 100, "{}", units(&text));
        assert!(text.ends_with("more in the hub"), "{text}");
        assert_eq!(fit(&lines[..2], 100), "line 000\nline 001");
    }

    #[test]
    fn a_header_is_whole_up_to_its_limit_in_units_of_utf_16() {
        for (letter, each) in [("x", 1), ("é", 1), ("𐐀", 2)] {
            let at = letter.repeat(HEADER_CHARS_MAX / each);
            let under = letter.repeat(HEADER_CHARS_MAX / each - 1);
            assert_eq!((header(&at), header(&under)), (at.clone(), under.clone()));
            let over = header(&format!("{at}{letter}"));
            assert!(over.ends_with('…') && units(&over) <= HEADER_CHARS_MAX, "{letter}");
            assert!(units(&over) >= HEADER_CHARS_MAX - 1, "{letter}");
        }
    }

    #[test]
    fn a_section_is_whole_up_to_its_limit() {
        let put = |count: usize, room: usize| {
            let mut all = Blocks { blocks: Vec::new(), room };
            all.put("", vec!["𐐀".repeat(count / 2) + &"x".repeat(count % 2)], usize::MAX);
            let text = all.blocks[0]["text"]["text"].as_str().unwrap().to_owned();
            (units(&text), text.contains("more in the hub"), all.room)
        };
        let (at, room) = (SECTION_CHARS_MAX, MESSAGE_CHARS_MAX);
        assert_eq!(put(at - 1, room), (at - 1, false, room - at + 1));
        assert_eq!(put(at, room), (at, false, room - at));
        assert!(put(at + 1, room).1);
        // The room that is left is a limit as well.
        assert_eq!(put(500, 500), (500, false, 0));
        assert!(put(501, 500).1);
    }

    #[test]
    fn a_message_never_has_more_blocks_or_letters_than_slack_takes() {
        for lines in [BLOCKS_MAX - 1, BLOCKS_MAX, BLOCKS_MAX + 1] {
            let mut all = Blocks { blocks: Vec::new(), room: usize::MAX };
            (0..lines).for_each(|_| all.put("a", vec!["b".to_owned()], 100));
            assert_eq!(all.blocks.len(), lines.min(BLOCKS_MAX));
        }
        let mut all = Blocks { blocks: Vec::new(), room: MESSAGE_CHARS_MAX };
        (0..40).for_each(|_| all.put("t", vec!["y".repeat(700)], 3_000));
        let text = |block: &Value| units(block["text"]["text"].as_str().unwrap());
        let sum: usize = all.blocks.iter().map(text).sum();
        assert!(sum <= MESSAGE_CHARS_MAX && sum > MESSAGE_CHARS_MAX - 800, "{sum}");
    }
}
