//! What an alert says first, by its kind: one word for each state, the same in every channel.

use rootwatch_core::alert::{Alert, AlertKind, CloseReason};
use rootwatch_core::text;
use rootwatch_core::window::Approval;

/// Columns of a window's name, and of a person's.
const NAME_COLUMNS_MAX: usize = 40;
/// The same in a compact line.
const COMPACT_NAME_COLUMNS_MAX: usize = 20;

/// What an alert says first. An alert about an incident says these words before what happened; one
/// about no incident has no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Headline {
    /// The first part of the title: `CRITICAL (was high)`, `Quiet`.
    pub(super) title: String,
    /// The same for a lock screen or a text message: `CRITICAL (WAS HIGH)`, `QUIET`.
    pub(super) compact: String,
    /// True when nobody has to act on what happened any more.
    pub(super) is_over: bool,
    /// True when the message lists what is new since the last one.
    pub(super) is_update: bool,
}

impl Headline {
    pub(super) fn of(alert: &Alert) -> Self {
        let severity = text::severity(alert.severity);
        let (title, compact, is_over, is_update) = match &alert.kind {
            AlertKind::Opened => (severity.to_owned(), severity.to_owned(), false, false),
            AlertKind::Escalated { from } => (
                format!("{severity} (was {from})"),
                format!("{severity} (WAS {})", text::severity(*from)),
                false,
                true,
            ),
            AlertKind::Continued => (
                format!("{severity} · Active again"),
                format!("{severity} ACTIVE AGAIN"),
                false,
                true,
            ),
            AlertKind::OutsideWindow { window } => (
                format!("{severity} · Outside window {}", text::cap(window, NAME_COLUMNS_MAX)),
                format!("{severity} OUTSIDE {}", text::cap(window, COMPACT_NAME_COLUMNS_MAX)),
                false,
                true,
            ),
            AlertKind::Acknowledged { by } => (
                format!("Acknowledged by {}", text::cap(by, NAME_COLUMNS_MAX)),
                format!("ACKNOWLEDGED by {}", text::cap(by, COMPACT_NAME_COLUMNS_MAX)),
                false,
                false,
            ),
            AlertKind::Closed { why } => match why {
                CloseReason::Quiet => ("Quiet".to_owned(), "QUIET".to_owned(), true, false),
                CloseReason::Resolved => {
                    ("Resolved".to_owned(), "RESOLVED".to_owned(), true, false)
                }
                CloseReason::Joined(into) => {
                    let into = text::cap(&into.0, COMPACT_NAME_COLUMNS_MAX);
                    (format!("Part of {into}"), format!("PART OF {into}"), true, false)
                }
            },
            AlertKind::Digest => ("Digest".to_owned(), "Digest".to_owned(), true, false),
            AlertKind::Test => (
                "Test alert from Rootwatch".to_owned(),
                "Test alert from Rootwatch".to_owned(),
                true,
                false,
            ),
            AlertKind::DeliveryFailing { destination } => {
                let destination = text::cap(destination, NAME_COLUMNS_MAX);
                let words = format!("{severity} · Alerts to {destination} cannot be delivered");
                (words.clone(), words, false, false)
            }
            AlertKind::DeliveryRecovered { destination } => {
                let destination = text::cap(destination, NAME_COLUMNS_MAX);
                let words = format!("Alerts to {destination} are delivered again");
                (words.clone(), words, true, false)
            }
        };
        let headline = Self { title, compact, is_over, is_update };
        match alert.kind {
            AlertKind::Opened | AlertKind::Escalated { .. } | AlertKind::Continued => {
                headline.with_approval(&alert.approval)
            }
            _ => headline,
        }
    }

    /// An approved alert does not read like one that is not.
    fn with_approval(mut self, approval: &Approval) -> Self {
        let (window, title, compact) = match approval {
            Approval::Unknown | Approval::None => return self,
            Approval::Inside(window) => (&window.window, "Approved", "APPROVED"),
            Approval::Partly { window, .. } => {
                (&window.window, "Not all approved", "NOT ALL APPROVED")
            }
        };
        self.title = format!("{} · {title} ({})", self.title, text::cap(window, NAME_COLUMNS_MAX));
        self.compact =
            format!("{} {compact} {}", self.compact, text::cap(window, COMPACT_NAME_COLUMNS_MAX));
        self
    }
}
