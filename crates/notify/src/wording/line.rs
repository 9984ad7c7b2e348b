//! One line with a hard limit, for a lock screen or a subject: account and action first.

use rootwatch_core::alert::{AlertKind, CloseReason};
use rootwatch_core::words;

use crate::channels::Message;

/// Columns of an account's name in a line.
const NAME_COLUMNS_MAX: usize = 24;
/// Columns of who acknowledged.
const BY_COLUMNS_MAX: usize = 20;
/// Room that what was done needs at least; below it, the address is left out, then the banner is cut.
const ACTION_ROOM_MIN: usize = 30;

/// Turns a text into the letters of a channel and cuts it to so much room.
pub(crate) type Fit = dyn Fn(&str, usize) -> String + Sync;

/// The line. `fit` is the channel's alphabet and way of cutting, `size` how much room a text takes.
pub(crate) fn line(
    message: &Message<'_>,
    room: usize,
    fit: &Fit,
    size: &(dyn Fn(&str) -> usize + Sync),
) -> String {
    let (alert, wording) = (message.alert, message.wording);
    let whole = |text: &str| fit(text, usize::MAX);
    let banner = wording.banner.as_ref().map(|banner| format!("{}. ", whole(banner)));
    let banner = banner.unwrap_or_default();
    let Some(brief) = alert.incident() else {
        return fit(&format!("{banner}{}", wording.title), room);
    };
    let label = words::severity(brief.severity);
    let label = match &alert.kind {
        AlertKind::Escalated { from } => format!("{label} (was {from})"),
        AlertKind::Continued => format!("{label} goes on"),
        AlertKind::Acknowledged { by } => format!("TAKEN by {}", words::cap(by, BY_COLUMNS_MAX)),
        AlertKind::Closed { why } => match why {
            CloseReason::Quiet => "QUIET".to_owned(),
            CloseReason::Resolved => "RESOLVED".to_owned(),
            CloseReason::Joined(into) => format!("PART OF {}", words::cap(&into.0, 20)),
        },
        _ => label.to_owned(),
    };
    let account = match &brief.accounts[..] {
        [] => "no account stated".to_owned(),
        [account] => {
            let id = words::cap(&account.id, 12);
            let name = account.name.as_deref().map(|name| words::cap(name, NAME_COLUMNS_MAX));
            name.map_or(id.clone(), |name| format!("{id} {name}"))
        }
        many => format!("{} accounts", many.len()),
    };
    let head = whole(&format!("{label} {account}: "));
    let from = brief.addresses.first().map(|ip| format!(" from {}", words::cap(ip, 45)));
    let at = brief.first_at.map(|at| words::clock(at, &jiff::tz::TimeZone::UTC));
    let begun = at.map(|at| format!(". {at}Z")).unwrap_or_default();
    let id = format!(". Inc {}", words::cap(&brief.id.0, 20));
    let is_over = matches!(alert.kind, AlertKind::Acknowledged { .. } | AlertKind::Closed { .. });
    let long =
        if is_over { id.clone() } else { format!("{begun}{}{id}", from.unwrap_or_default()) };
    let action = whole(&words::visible(&brief.title));
    let wanted = size(&action).min(ACTION_ROOM_MIN);
    let left = |tail: &str| room.saturating_sub(size(&banner) + size(&head) + size(tail));
    let tails = [whole(&long), whole(&id), String::new()];
    let tail = tails.iter().find(|tail| left(tail) >= wanted).cloned().unwrap_or_default();
    let action = fit(&action, left(&tail));
    // What was cut ends in full stops by itself.
    let tail = if action.ends_with('.') { tail.trim_start_matches('.') } else { &tail };
    fit(&format!("{banner}{head}{action}{tail}"), room)
}
