//! Conversions between domain values and stored values.

use jiff::Timestamp;
use rootwatch_core::hex;
use rootwatch_core::incident::{Incident, IncidentKind, IncidentState};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{PAGE_ITEMS_MAX, Page, PageRequest, StoreError};

/// The stored time of a finding without a time: it sorts before all others.
pub(super) const NO_TIME: i64 = i64::MIN;

/// Microseconds since 1970.
pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

pub(super) fn micros_or_none(at: Option<Timestamp>) -> i64 {
    at.map_or(NO_TIME, micros)
}

pub(super) fn time(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros)
        .map_err(|error| StoreError::Damaged { reason: error.to_string() })
}

pub(super) fn time_or_none(micros: i64) -> Option<Timestamp> {
    if micros == NO_TIME { None } else { Timestamp::from_microsecond(micros).ok() }
}

pub(super) fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Damaged { reason: error.to_string() })
}

pub(super) fn from_json<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Damaged { reason: format!("{what}: {error}") })
}

/// The stored name. It is that of the first release, whatever the kind is called in output today.
/// The name of a kind in a column or attribute. Stored names never change, so that a store of an
/// earlier release can be read and filtered.
pub(super) fn kind(kind: IncidentKind) -> &'static str {
    match kind {
        IncidentKind::Session => "session",
        IncidentKind::Privileged => "privileged",
        IncidentKind::Spray => "spray",
        IncidentKind::RuleMatch => "watch",
        IncidentKind::DeliveryOutage => "telling",
    }
}

/// The name of a state in a column or attribute.
pub(super) fn state(state: IncidentState) -> &'static str {
    match state {
        IncidentState::Open => "open",
        IncidentState::Quiet => "quiet",
        IncidentState::Acknowledged => "acknowledged",
        IncidentState::Resolved => "resolved",
    }
}

/// An incident without its findings, which have rows of their own.
pub(super) fn head(incident: &Incident) -> Incident {
    Incident::from(incident.head.clone())
}

/// Where a page starts: the number and name of the last item before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) number: i64,
    pub(super) name: String,
}

/// A list with pages. Its cursors start with a mark, so that a cursor of another list is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Incidents,
    Findings,
    Deliveries,
    Unverified,
}

impl List {
    fn mark(self) -> &'static str {
        match self {
            Self::Incidents => "i",
            Self::Findings => "f",
            Self::Deliveries => "d",
            Self::Unverified => "u",
        }
    }
}

/// Maximum characters of a cursor: the longest name is a finding's key.
const CURSOR_CHARS_MAX: usize = 4_096;

impl Cursor {
    /// Opaque, and safe in a URL.
    pub(super) fn write(list: List, number: i64, name: &str) -> String {
        let text = format!("{number} {name}");
        format!("{}{}", list.mark(), hex::encode(text.as_bytes()))
    }

    pub(super) fn read(list: List, text: &str) -> Result<Self, StoreError> {
        let bad = || StoreError::BadCursor;
        let hex = text.strip_prefix(list.mark()).ok_or_else(bad)?;
        if hex.len() > CURSOR_CHARS_MAX
            || hex.len() % 2 != 0
            || !hex.bytes().all(|one| one.is_ascii_hexdigit())
        {
            return Err(bad());
        }
        let byte = |place: usize| u8::from_str_radix(&hex[place..place + 2], 16).map_err(|_| bad());
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect::<Result<_, _>>()?;
        let text = String::from_utf8(bytes).map_err(|_| bad())?;
        let (number, name) = text.split_once(' ').ok_or_else(bad)?;
        if name.is_empty() {
            return Err(bad());
        }
        Ok(Self { number: number.parse().map_err(|_| bad())?, name: name.to_owned() })
    }
}

/// The number of items on the page; reads ask for one more to see whether there is a next page.
pub(super) fn items(page: &PageRequest) -> usize {
    page.items_max.clamp(1, PAGE_ITEMS_MAX)
}

/// A page of the items that were found, with the cursor of its last item if there are more.
pub(super) fn page_of<T>(
    list: List,
    mut all: Vec<(i64, T)>,
    items_max: usize,
    name: impl Fn(&T) -> String,
) -> Page<T> {
    let more = all.len() > items_max;
    all.truncate(items_max);
    let next =
        all.last().filter(|_| more).map(|(number, item)| Cursor::write(list, *number, &name(item)));
    Page { items: all.into_iter().map(|(_, item)| item).collect(), next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_a_forged_one_is_refused() {
        let text = Cursor::write(List::Findings, -7, "222233334444/e-1/iam/Ünïcode/x");
        let cursor = Cursor { number: -7, name: "222233334444/e-1/iam/Ünïcode/x".to_owned() };
        assert_eq!(Cursor::read(List::Findings, &text).expect("ours"), cursor);
        let cut = &text[..text.len() - 1];
        for forged in ["", "f", "2aa", "fzz", "fa", "x", "fff", "fé", "f3720", cut] {
            let read = Cursor::read(List::Findings, forged);
            assert!(matches!(read, Err(StoreError::BadCursor)), "{forged:?}");
        }
        let of_another = Cursor::read(List::Incidents, &text);
        assert!(matches!(of_another, Err(StoreError::BadCursor)));
    }
}
