//! One line with a hard limit, for a text message or a subject: account and action first.

use rootwatch_core::narrative::{CompactAccount, CompactLine};
use rootwatch_core::text;

use super::Wording;

/// Columns of an account's name in a line.
const NAME_COLUMNS_MAX: usize = 24;
/// Room that what was done needs at least; below it, the address is left out, then the banner is cut.
const ACTION_ROOM_MIN: usize = 30;

/// Turns a text into the letters of a channel and cuts it to so much room.
pub(crate) type Fit = dyn Fn(&str, usize) -> String + Sync;

/// What [`line()`] is made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LineParts {
    /// The severity or the state, in capitals.
    pub(crate) label: String,
    /// What happened, where and when.
    pub(crate) incident: CompactLine,
    /// True to leave out time and address: the line says what somebody did about the incident.
    pub(crate) is_short: bool,
}

/// The line. `fit` is the channel's alphabet and way of cutting, `size` how much room a text takes.
pub(crate) fn line(
    wording: &Wording,
    room: usize,
    fit: &Fit,
    size: &(dyn Fn(&str) -> usize + Sync),
) -> String {
    let whole = |text: &str| fit(text, usize::MAX);
    let banner = wording.banner.as_ref().map(|banner| format!("{}. ", whole(banner)));
    let banner = banner.unwrap_or_default();
    let Some(LineParts { label, incident, is_short }) = &wording.parts else {
        return fit(&format!("{banner}{}", wording.title), room);
    };
    let account = match &incident.account {
        CompactAccount::Unknown => "account unknown".to_owned(),
        CompactAccount::One(account) => {
            let name = account.name.as_deref().map(|name| text::cap(name, NAME_COLUMNS_MAX));
            name.map_or(account.id.clone(), |name| format!("{} {name}", account.id))
        }
        CompactAccount::Several(number) => format!("{number} accounts"),
    };
    let head = whole(&format!("{label} {account}: "));
    let prefixed = |prefix: &str, text: &str| {
        if text.is_empty() { String::new() } else { format!("{prefix}{text}") }
    };
    let id = format!(". Inc {}", incident.id);
    let long = if *is_short {
        id.clone()
    } else {
        let (at, from) = (prefixed(". ", &incident.at), prefixed(" from ", &incident.address));
        format!("{at}{from}{id}")
    };
    let action = whole(&incident.title);
    let wanted = size(&action).min(ACTION_ROOM_MIN);
    let left = |tail: &str| room.saturating_sub(size(&banner) + size(&head) + size(tail));
    let tails = [whole(&long), whole(&id), String::new()];
    let tail = tails.iter().find(|tail| left(tail) >= wanted).cloned().unwrap_or_default();
    let action = fit(&action, left(&tail));
    // What was cut ends in full stops by itself.
    let tail = if action.ends_with('.') { tail.trim_start_matches('.') } else { &tail };
    fit(&format!("{banner}{head}{action}{tail}"), room)
}
