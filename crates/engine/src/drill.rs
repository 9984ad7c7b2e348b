//! Drills: test events that an operator puts on a spoke's bus, to see whether its events reach people.
//! The account and region come from the envelope, which EventBridge writes and not the sender.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rootwatch_core::forwarding::DRILL_SOURCE;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Largest event in bytes: EventBridge accepts no larger ones.
const EVENT_BYTES_MAX: usize = 1 << 20;
/// Longest account id or region name in bytes.
const NAME_BYTES_MAX: usize = 32;
/// Why a drill cannot raise a test alert.
pub const NOWHERE: &str = "a drill without the account and region that EventBridge adds";

/// The place from which a drill was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drill {
    /// The account, as EventBridge states it.
    pub account: String,
    /// The region, as EventBridge states it.
    pub region: String,
}

/// The members of one object, unparsed; the last of repeated ones counts.
#[derive(Deserialize)]
struct Members<'a>(#[serde(borrow)] BTreeMap<Cow<'a, str>, &'a RawValue>);

impl Drill {
    /// From the members of an envelope; `None` if EventBridge cannot have written them.
    #[must_use]
    pub fn of(account: Option<String>, region: Option<String>) -> Option<Self> {
        let named = |text: Option<String>| text.filter(|text| is_name(text));
        Some(Self { account: named(account)?, region: named(region)? })
    }

    /// Reads a text that is one drill and nothing else, as an API destination of EventBridge sends it;
    /// `None` for any other text. The error says why a drill cannot be used.
    pub(crate) fn read(text: &[u8]) -> Option<Result<Self, &'static str>> {
        if text.len() > EVENT_BYTES_MAX {
            return None;
        }
        // Few texts name the source, and searching is much faster than parsing.
        let text = std::str::from_utf8(text).ok().filter(|text| text.contains(DRILL_SOURCE))?;
        let Members(members) = serde_json::from_str(text).ok()?;
        let stated = |name: &str| {
            members.get(name).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok())
        };
        let is_event = members.contains_key("detail") && members.contains_key("detail-type");
        if !is_event || stated("source").as_deref() != Some(DRILL_SOURCE) {
            return None;
        }
        Some(Self::of(stated("account"), stated("region")).ok_or(NOWHERE))
    }
}

/// What EventBridge itself writes for an account or a region.
fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn drill() -> Value {
        json!({
            "source": DRILL_SOURCE, "detail-type": "Drill", "account": "222233334444",
            "region": "eu-west-1", "detail": {},
        })
    }

    #[test]
    fn a_drill_names_its_account_and_region_or_is_refused() {
        let expected = Drill { account: "222233334444".to_owned(), region: "eu-west-1".to_owned() };
        assert_eq!(Drill::read(drill().to_string().as_bytes()), Some(Ok(expected)));
        for account in [json!(""), json!("2222 3333"), json!("2".repeat(40)), json!(2), json!(null)]
        {
            let mut nowhere = drill();
            nowhere["account"] = account;
            assert_eq!(
                Drill::read(nowhere.to_string().as_bytes()),
                Some(Err(NOWHERE)),
                "{nowhere}"
            );
        }
    }

    #[test]
    fn texts_that_only_mention_drills_are_not_drills() {
        let mut other = drill();
        other["source"] = json!("rootwatch.drill2");
        let mut record = drill();
        record.as_object_mut().expect("an object").remove("detail");
        let quoted = json!({ "source": "aws.events", "detail-type": "t", "detail": drill() });
        for text in [
            other.to_string(),
            record.to_string(),
            quoted.to_string(),
            format!("{0}\n{0}", drill()),
            json!([drill()]).to_string(),
            format!("{}{}", drill(), " ".repeat(EVENT_BYTES_MAX)),
            DRILL_SOURCE.to_owned(),
        ] {
            assert_eq!(Drill::read(text.as_bytes()), None, "{}", &text[..text.len().min(200)]);
        }
    }
}
