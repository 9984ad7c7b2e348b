//! What a message in a queue is, by its shape alone.
//!
//! Shapes, each bare or as the `Message` of an SNS notification (a subscription with raw delivery
//! leaves the envelope out):
//!
//! | Shape | Says | Keys of objects |
//! |---|---|---|
//! | `{"Records":[{"eventSource":"aws:s3","s3":{…}}]}` | S3 notification | URL-encoded, `+` is a space (S3 user guide, "Event message structure") |
//! | the same with `"rootwatch":{"history":"…"}` beside it | log files of the past, from `rootwatch scan --fan-out` | the same |
//! | `{"source":"aws.s3","detail-type":"Object Created","detail":{"bucket":…,"object":…}}` | the same through EventBridge | as they are (S3 user guide, "Using EventBridge") |
//! | `{"s3Bucket":"…","s3ObjectKey":["…"]}` | CloudTrail delivered log files | as they are (CloudTrail user guide, "Configuring Amazon SNS notifications") |
//! | `{"source":"rootwatch.drill",…}` | a drill: see the guide for what it is good for | |
//! | `{"Event":"s3:TestEvent",…}` | S3 tries a new notification | |
//! | everything else | records, if any: `decode_log` says | |

use std::borrow::Cow;
use std::collections::BTreeMap;

use rootwatch_core::forwarding::DRILL_SOURCE;
use serde::Deserialize;
use serde_json::value::RawValue;

use rootwatch_engine::drill::{self, Drill};

/// Objects of which one message speaks, at most. S3 names one, CloudTrail's SNS shape a few.
const OBJECTS_MAX: usize = 1000;

/// An object in S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectName {
    pub(super) bucket: String,
    /// As S3 knows it.
    pub(super) key: String,
}

/// What a message is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MessageContent<'a> {
    /// Records or events, as text. `stated` is true when it is an EventBridge event, which is sound
    /// even when it holds no record.
    Records { text: Cow<'a, str>, stated: bool },
    /// New objects; none when only objects of other kinds are named.
    Objects {
        names: Vec<ObjectName>,
        /// They are log files of the past that somebody has put on the queue to be looked through.
        is_history: bool,
    },
    /// A drill: somebody looks whether what a spoke sends comes through to people.
    Drill(Drill),
    /// Understood, and there is nothing in it: why.
    Nothing(&'static str),
    /// Cannot be what it pretends to be: lower case, no full stop.
    Poison(String),
}

/// Members of an object; of a repeated one the last counts.
type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// Tells what a message is.
pub(super) fn read(body: &str) -> MessageContent<'_> {
    read_layer(body, true)
}

fn read_layer(body: &str, may_be_sns: bool) -> MessageContent<'_> {
    if body.trim().is_empty() {
        return MessageContent::Poison("the message is empty".to_owned());
    }
    let records = |stated| MessageContent::Records { text: Cow::Borrowed(body), stated };
    // Not one object: JSON Lines, a list, or damage, which is told as such.
    let Ok(Borrowed(members)) = serde_json::from_str::<Borrowed<'_>>(body) else {
        return records(false);
    };
    let has = |name: &str| members.contains_key(name);
    let text = |name: &str| members.get(name).and_then(|raw| owned_text(raw));
    if may_be_sns && has("TopicArn") && has("Message") {
        return read_sns(&members);
    }
    if text("Event").as_deref() == Some("s3:TestEvent") {
        return MessageContent::Nothing("S3 test event");
    }
    if has("s3Bucket") && has("s3ObjectKey") {
        return read_cloud_trail(&members);
    }
    if has("detail") && has("detail-type") {
        if text("source").as_deref() == Some("aws.s3") && text("detail-type").is_some() {
            return read_event(&members).unwrap_or_else(|| records(true));
        }
        if text("source").as_deref() == Some(DRILL_SOURCE) {
            return match Drill::of(text("account"), text("region")) {
                Some(drill) => MessageContent::Drill(drill),
                None => MessageContent::Poison(drill::NOWHERE.to_owned()),
            };
        }
        return records(true);
    }
    if let Some(list) = members.get("Records") {
        let mut found = read_notification(list).unwrap_or_else(|| records(false));
        if let MessageContent::Objects { is_history, .. } = &mut found {
            *is_history = members.get("rootwatch").is_some_and(|raw| says_history(raw));
        }
        return found;
    }
    records(false)
}

fn read_sns<'a>(members: &Members<'a>) -> MessageContent<'a> {
    let text = |name: &str| members.get(name).and_then(|raw| owned_text(raw));
    if let Some(kind) = text("Type")
        && kind != "Notification"
    {
        return MessageContent::Poison("an SNS message that is no notification".to_owned());
    }
    let Some(inner) = text("Message") else {
        return MessageContent::Poison("an SNS notification whose message is no text".to_owned());
    };
    match read_layer(&inner, false) {
        MessageContent::Records { stated, .. } => {
            MessageContent::Records { text: Cow::Owned(inner), stated }
        }
        MessageContent::Objects { names, is_history } => {
            MessageContent::Objects { names, is_history }
        }
        MessageContent::Drill(drill) => MessageContent::Drill(drill),
        MessageContent::Nothing(what) => MessageContent::Nothing(what),
        MessageContent::Poison(reason) => {
            MessageContent::Poison(format!("in an SNS notification: {reason}"))
        }
    }
}

fn read_cloud_trail<'a>(members: &Members<'a>) -> MessageContent<'a> {
    let bucket = members.get("s3Bucket").and_then(|raw| owned_text(raw));
    let keys = members.get("s3ObjectKey").and_then(|raw| {
        serde_json::from_str::<Vec<String>>(raw.get())
            .ok()
            .or_else(|| owned_text(raw).map(|key| vec![key]))
    });
    match (bucket, keys) {
        (Some(bucket), Some(keys)) if !keys.is_empty() => {
            objects(keys.into_iter().map(|key| ObjectName { bucket: bucket.clone(), key }))
        }
        _ => {
            MessageContent::Poison("a notification of CloudTrail without bucket or keys".to_owned())
        }
    }
}

/// An event of S3; `None` when it is something else that S3 says, such as a record of CloudTrail.
fn read_event<'a>(members: &Members<'a>) -> Option<MessageContent<'a>> {
    #[derive(Deserialize)]
    struct Detail {
        bucket: Named,
        object: Keyed,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    #[derive(Deserialize)]
    struct Keyed {
        key: String,
    }
    let kind = owned_text(members.get("detail-type")?)?;
    let detail = members.get("detail")?;
    match kind.as_str() {
        "Object Created" => Some(match serde_json::from_str::<Detail>(detail.get()) {
            Ok(Detail { bucket, object }) => {
                objects([ObjectName { bucket: bucket.name, key: object.key }])
            }
            Err(_) => MessageContent::Poison("an S3 event without bucket or key".to_owned()),
        }),
        kind if kind.starts_with("Object ") => {
            Some(MessageContent::Nothing("S3 event of another kind than a new object"))
        }
        _ => None,
    }
}

/// A notification of S3; `None` when the list is one of CloudTrail's records.
fn read_notification<'a>(list: &RawValue) -> Option<MessageContent<'a>> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(rename = "eventSource")]
        source: Option<String>,
        #[serde(rename = "eventName")]
        name: Option<String>,
        s3: Option<S3>,
    }
    #[derive(Deserialize)]
    struct S3 {
        bucket: Option<Bucket>,
        object: Option<Object>,
    }
    #[derive(Deserialize)]
    struct Bucket {
        name: Option<String>,
    }
    #[derive(Deserialize)]
    struct Object {
        key: Option<String>,
    }
    let entries: Vec<&RawValue> = serde_json::from_str(list.get()).ok()?;
    let first: Entry = serde_json::from_str(entries.first()?.get()).ok()?;
    // `aws:s3`, and `aws:s3` alone, marks a notification; a record has `s3.amazonaws.com`.
    if first.source.as_deref() != Some("aws:s3") {
        return None;
    }
    let mut found = Vec::new();
    for entry in entries {
        let entry = serde_json::from_str::<Entry>(entry.get()).ok();
        let Some(entry) = entry.filter(|entry| entry.source.as_deref() == Some("aws:s3")) else {
            return Some(MessageContent::Poison(
                "an S3 notification with other entries".to_owned(),
            ));
        };
        let is_created = entry.name.is_some_and(|name| {
            name.strip_prefix("s3:").unwrap_or(&name).starts_with("ObjectCreated:")
        });
        if !is_created {
            continue;
        }
        let bucket = entry.s3.as_ref().and_then(|s3| s3.bucket.as_ref()?.name.clone());
        let key = entry.s3.as_ref().and_then(|s3| url_decoded(s3.object.as_ref()?.key.as_ref()?));
        match (bucket, key) {
            (Some(bucket), Some(key)) => found.push(ObjectName { bucket, key }),
            _ => {
                let reason = "an S3 notification without bucket, or with a key that is not UTF-8";
                return Some(MessageContent::Poison(reason.to_owned()));
            }
        }
    }
    if found.is_empty() {
        return Some(MessageContent::Nothing("S3 event of another kind than a new object"));
    }
    Some(objects(found))
}

fn objects<'a>(found: impl IntoIterator<Item = ObjectName>) -> MessageContent<'a> {
    let found: Vec<_> = found.into_iter().take(OBJECTS_MAX + 1).collect();
    if found.len() > OBJECTS_MAX {
        return MessageContent::Poison(format!("names more than {OBJECTS_MAX} objects"));
    }
    if found.iter().any(|object| object.bucket.is_empty() || object.key.is_empty()) {
        return MessageContent::Poison("names an object without bucket or key".to_owned());
    }
    MessageContent::Objects { names: found, is_history: false }
}

/// True for what `rootwatch scan --fan-out` puts beside the records of a notification: a scan's
/// name. Who may write to the queue may say so; S3 never does.
fn says_history(raw: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Ours {
        history: Option<String>,
    }
    serde_json::from_str::<Ours>(raw.get()).is_ok_and(|ours| ours.history.is_some())
}

/// A key as S3 writes it into notifications: form encoding, in which `+` is a space. `None` when it
/// is not UTF-8 then.
fn url_decoded(key: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        bytes.push(match (first, hex_pair(after)) {
            (b'+', _) => b' ',
            (b'%', Some(byte)) => {
                rest = &after[2..];
                byte
            }
            (other, _) => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The byte that two hexadecimal digits at the beginning stand for.
fn hex_pair(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

fn owned_text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// The members of one object, unparsed.
#[derive(Deserialize)]
struct Borrowed<'a>(#[serde(borrow)] Members<'a>);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrapped(message: &str) -> String {
        let topic = "arn:aws:sns:us-east-1:111122223333:trail";
        json!({"Type": "Notification", "TopicArn": topic, "Message": message}).to_string()
    }

    fn notification(event: &str, key: &str) -> String {
        let s3 = json!({"bucket": {"name": "trail"}, "object": {"key": key, "size": 1}});
        json!({"Records": [{"eventSource": "aws:s3", "eventName": event, "s3": s3}]}).to_string()
    }

    fn keys(body: &str) -> Vec<String> {
        match read(body) {
            MessageContent::Objects { names: found, is_history: false } => {
                assert!(found.iter().all(|object| object.bucket == "trail"));
                found.into_iter().map(|object| object.key).collect()
            }
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn each_shape_names_its_objects_as_s3_knows_them() {
        for encoded in ["a+b%2Bc/d.json.gz", "a%20b%2Bc%2Fd.json.gz"] {
            let direct = notification("ObjectCreated:Put", encoded);
            assert_eq!(keys(&direct), ["a b+c/d.json.gz"]);
            assert_eq!(keys(&wrapped(&direct)), ["a b+c/d.json.gz"]);
        }
        let event = json!({
            "source": "aws.s3", "detail-type": "Object Created",
            "detail": {"bucket": {"name": "trail"}, "object": {"key": "a+b%2Bc"}},
        });
        assert_eq!(keys(&event.to_string()), ["a+b%2Bc"]);
        assert_eq!(keys(&wrapped(&event.to_string())), ["a+b%2Bc"]);
        let trail = json!({"s3Bucket": "trail", "s3ObjectKey": ["a+b", "c%20d"]}).to_string();
        assert_eq!(keys(&wrapped(&trail)), ["a+b", "c%20d"]);
        assert_eq!(keys(&trail), ["a+b", "c%20d"]);
    }

    #[test]
    fn a_drill_says_where_it_is_from() {
        let drill = |account: &str| {
            json!({
                "source": DRILL_SOURCE, "detail-type": "Drill", "account": account,
                "region": "eu-west-1", "detail": {},
            })
        };
        let sound = drill("222233334444").to_string();
        let expected = || {
            let (account, region) = ("222233334444".to_owned(), "eu-west-1".to_owned());
            MessageContent::Drill(Drill { account, region })
        };
        assert_eq!(read(&sound), expected());
        assert_eq!(read(&wrapped(&sound)), expected());
        for account in ["", "2222 3333", &"2".repeat(40)] {
            assert!(
                matches!(read(&drill(account).to_string()), MessageContent::Poison(_)),
                "{account}"
            );
        }
    }

    #[test]
    fn only_a_scan_that_says_so_brings_history() {
        let mut scan: serde_json::Value =
            serde_json::from_str(&notification("ObjectCreated:Put", "a")).expect("JSON");
        for (ours, expected) in [
            (json!({"history": "scan-1"}), true),
            (json!({"history": null}), false),
            (json!({}), false),
            (json!("history"), false),
        ] {
            scan["rootwatch"] = ours;
            let body = scan.to_string();
            let MessageContent::Objects { names, is_history } = read(&body) else {
                panic!("{body}")
            };
            assert_eq!((names.len(), is_history), (1, expected), "{body}");
        }
    }

    #[test]
    fn what_is_understood_and_holds_nothing_is_told_from_what_is_not_understood() {
        let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "trail"});
        assert_eq!(read(&test.to_string()), MessageContent::Nothing("S3 test event"));
        assert_eq!(read(&wrapped(&test.to_string())), MessageContent::Nothing("S3 test event"));
        let removed = notification("ObjectRemoved:Delete", "a");
        assert!(matches!(read(&removed), MessageContent::Nothing(_)));
        for poison in [
            " ".to_owned(),
            wrapped(""),
            notification("ObjectCreated:Put", "%ff"),
            json!({"s3Bucket": "trail", "s3ObjectKey": []}).to_string(),
            json!({"s3Bucket": 7, "s3ObjectKey": ["a"]}).to_string(),
            json!({"source": "aws.s3", "detail-type": "Object Created", "detail": {}}).to_string(),
            json!({"Type": "SubscriptionConfirmation", "TopicArn": "a", "Message": "b"})
                .to_string(),
        ] {
            assert!(
                matches!(read(&poison), MessageContent::Poison(_)),
                "{poison}: {:?}",
                read(&poison)
            );
        }
    }

    #[test]
    fn records_and_events_are_left_to_the_decoder() {
        let record = json!({"eventName": "A", "eventSource": "s3.amazonaws.com"});
        let event = json!({"source": "aws.s3", "detail-type": "AWS API Call via CloudTrail", "detail": record});
        for (body, stated) in [
            (json!({"Records": [record]}).to_string(), false),
            (json!({"Records": []}).to_string(), false),
            (record.to_string(), false),
            (format!("{record}\n{record}"), false),
            ("not JSON".to_owned(), false),
            (event.to_string(), true),
        ] {
            let expected = MessageContent::Records { text: Cow::Borrowed(body.as_str()), stated };
            assert_eq!(read(&body), expected);
            let MessageContent::Records { text, stated: inner } = read_owned(&wrapped(&body))
            else {
                panic!("{body}")
            };
            assert_eq!((text.as_ref(), inner), (body.as_str(), stated));
        }
    }

    fn read_owned(body: &str) -> MessageContent<'static> {
        match read(body) {
            MessageContent::Records { text, stated } => {
                MessageContent::Records { text: Cow::Owned(text.into_owned()), stated }
            }
            other => panic!("{other:?}"),
        }
    }
}
