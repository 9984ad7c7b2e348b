//! Decodes bytes to records, in every shape in which they arrive. Never all-or-nothing: a record that
//! cannot be decoded is [`Skipped`] with its place and reason, and the rest is still read.
//!
//! A text is cut into *units*: the elements of a `{"Records":[…]}` log file, of a `lookup-events`
//! reply or of a bare array, or else each object of the text (one object, JSON Lines,
//! pretty-printed objects in sequence). A unit is a record, an EventBridge event, an SNS envelope
//! around one of these, or valid JSON without an API record, which is passed over and counted. A bare
//! record is put into the envelope that EventBridge would give it, so that rules see one shape.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::record::{self, Members, Record, Text};
use crate::split::{Piece, Splitter, next_record};

/// The largest and deepest record that is decoded; others are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one record or event. CloudTrail's own limit is 256 KiB an event, 1 MiB in
    /// CloudTrail Lake.
    pub record_bytes_max: usize,
    /// Levels of nested arrays and objects in one record.
    pub depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { record_bytes_max: 1 << 20, depth_max: 128 }
    }
}

/// A position in a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the record in its text, from 1; 0 before the first record.
    pub record: u64,
    /// Byte offset in the (decompressed) text.
    pub offset: u64,
}

/// A record, or a part of a text, that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its position.
    pub place: Place,
    /// Why it could not be decoded: lower case, no full stop.
    pub reason: String,
}

/// Kinds of valid JSON without an API record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PassedOver {
    /// A CloudTrail digest file.
    Digest,
    /// A CloudTrail Insights event.
    Insight,
    /// JSON that is not from CloudTrail: another EventBridge event, an S3 notification, anything.
    NotCloudTrail,
}

impl PassedOver {
    /// Its name for people, in the singular.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Digest => "digest file",
            Self::Insight => "Insights event",
            Self::NotCloudTrail => "object without an API record",
        }
    }
}

/// The envelope in which EventBridge delivers a record.
#[derive(Debug, Clone, Default)]
pub struct Envelope<'a> {
    /// True if the record arrived in an envelope; false if this one was made for it.
    pub stated: bool,
    /// `id`.
    pub id: Text<'a>,
    /// `source`, such as `aws.signin`.
    pub source: Text<'a>,
    /// `detail-type`.
    pub detail_type: Text<'a>,
    /// `account`.
    pub account: Text<'a>,
    /// `region`.
    pub region: Text<'a>,
    /// `time`.
    pub time: Text<'a>,
}

/// An EventBridge event: a record in its envelope.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// As received, or as EventBridge would write it.
    pub envelope: Envelope<'a>,
    /// The record in `detail`.
    pub record: Record<'a>,
}

impl<'a> Event<'a> {
    /// Puts a bare record into the envelope that EventBridge would give it.
    #[must_use]
    pub fn of(record: Record<'a>) -> Self {
        let source = record.service().map(|service| Cow::Owned(format!("aws.{service}")));
        let detail_type = match record.event_type.as_deref() {
            Some("AwsApiCall") => Some("AWS API Call via CloudTrail"),
            Some("AwsConsoleSignIn" | "AwsConsoleSignin") => {
                Some("AWS Console Sign In via CloudTrail")
            }
            Some("AwsConsoleAction") => Some("AWS Console Action via CloudTrail"),
            Some("AwsServiceEvent") => Some("AWS Service Event via CloudTrail"),
            Some("AwsVpceEvent" | "AwsVpceEvents") => {
                Some("AWS Network Activity Event via CloudTrail")
            }
            _ => None,
        };
        let envelope = Envelope {
            stated: false,
            id: record.event_id.clone(),
            source,
            detail_type: detail_type.map(Cow::Borrowed),
            account: record
                .recipient_account_id
                .clone()
                .or_else(|| record.identity.account_id.clone()),
            region: record.region.clone(),
            time: record.event_time.map(|at| Cow::Owned(at.to_string())),
        };
        Self { envelope, record }
    }
}

/// A decoded unit.
#[derive(Debug)]
pub enum Item<'a> {
    /// A record, bare or in an EventBridge envelope.
    Event(Box<Event<'a>>),
    /// Valid JSON without an API record.
    PassedOver(PassedOver),
    /// Could not be decoded.
    Skipped(Skipped),
}

/// Decodes a log file of any shape that is completely in memory, and passes its items to the sink, in
/// order.
pub fn decode_log(bytes: &[u8], limits: &Limits, sink: &mut dyn FnMut(Place, Item<'_>)) {
    decode_nested(bytes, limits, Nesting::Outer, sink);
}

fn decode_nested(
    bytes: &[u8],
    limits: &Limits,
    nesting: Nesting,
    sink: &mut dyn FnMut(Place, Item<'_>),
) {
    let mut splitter = Splitter::new(limits.record_bytes_max);
    let mut at = 0;
    let mut place = Place::default();
    while let Some(piece) = splitter.next(&bytes[at..], true) {
        let base = at as u64;
        match piece {
            Piece::Unit { start, end } => {
                place = Place { record: place.record + 1, offset: base + start as u64 };
                decode_one(&bytes[at + start..at + end], place, limits, nesting, sink);
                at += end;
            }
            Piece::Bad { start, end, reason } => {
                place = Place { record: place.record + 1, offset: base + start as u64 };
                let reason = reason.to_owned();
                sink(place, Item::Skipped(Skipped { place, reason }));
                at += end;
            }
            Piece::More { .. } => break,
        }
    }
}

/// Decodes one unit: one JSON object.
pub fn decode_unit(
    unit: &[u8],
    place: Place,
    limits: &Limits,
    sink: &mut dyn FnMut(Place, Item<'_>),
) {
    decode_one(unit, place, limits, Nesting::Outer, sink);
}

/// Decodes one EventBridge event or bare record.
///
/// # Errors
/// If the bytes are not one object with a CloudTrail record.
pub fn decode_event<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Event<'a>, Skipped> {
    let place = Place { record: 1, offset: 0 };
    let skip = |reason: String| Skipped { place, reason };
    let text = checked_text(bytes, limits).map_err(skip)?;
    let object = Object::parse(text).map_err(|error| skip(plain_json_error(&error)))?;
    match object.shape() {
        Shape::Record => Ok(Event::of(object.into_record(text))),
        Shape::Event(detail) => {
            let record = Record::parse(detail.get())
                .ok()
                .filter(|record| !record.is_not_a_record())
                .ok_or_else(|| skip("the event's detail is not a CloudTrail record".to_owned()))?;
            Ok(Event { envelope: object.envelope, record })
        }
        _ => Err(skip("not a CloudTrail record or EventBridge event".to_owned())),
    }
}

/// Whether a text was inside a string of another text. A third layer is not decoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nesting {
    Outer,
    Inner,
}

fn decode_one(
    unit: &[u8],
    place: Place,
    limits: &Limits,
    nesting: Nesting,
    sink: &mut dyn FnMut(Place, Item<'_>),
) {
    let text = match checked_text(unit, limits) {
        Ok(text) => text,
        Err(reason) => return sink(place, Item::Skipped(Skipped { place, reason })),
    };
    let object = match Object::parse(text) {
        Ok(object) => object,
        Err(error) => {
            let offset = place.offset + error_offset(text, &error);
            let place = Place { offset, ..place };
            let reason = plain_json_error(&error);
            sink(place, Item::Skipped(Skipped { place, reason }));
            return decode_swallowed(unit, place, limits, nesting, sink);
        }
    };
    match object.shape() {
        Shape::Record => sink(place, Item::Event(Box::new(Event::of(object.into_record(text))))),
        Shape::Insight => sink(place, Item::PassedOver(PassedOver::Insight)),
        Shape::Digest => sink(place, Item::PassedOver(PassedOver::Digest)),
        Shape::NotCloudTrail => sink(place, Item::PassedOver(PassedOver::NotCloudTrail)),
        Shape::Event(detail) => match Record::parse(detail.get()) {
            Ok(record) if record.insight => sink(place, Item::PassedOver(PassedOver::Insight)),
            Ok(record) if !record.is_not_a_record() => {
                sink(place, Item::Event(Box::new(Event { envelope: object.envelope, record })));
            }
            // The unit parsed, so its detail is valid JSON, but not a record.
            Ok(_) | Err(_) => sink(place, Item::PassedOver(PassedOver::NotCloudTrail)),
        },
        Shape::Text(inner) if nesting == Nesting::Outer => {
            decode_text(inner, place, limits, sink);
        }
        Shape::Lists(lists) if nesting == Nesting::Outer => {
            for list in lists {
                let bytes = list.get().as_bytes();
                decode_nested(bytes, limits, Nesting::Inner, &mut |_, item| {
                    let item = match item {
                        Item::Skipped(Skipped { reason, .. }) => {
                            Item::Skipped(Skipped { place, reason })
                        }
                        item => item,
                    };
                    sink(place, item);
                });
            }
        }
        Shape::Text(_) | Shape::Lists(_) => {
            sink(place, Item::PassedOver(PassedOver::NotCloudTrail));
        }
    }
}

/// A record that is not closed may contain those after it: the damage is reported once, and they are
/// read.
fn decode_swallowed(
    unit: &[u8],
    place: Place,
    limits: &Limits,
    nesting: Nesting,
    sink: &mut dyn FnMut(Place, Item<'_>),
) {
    if let Some(from) = next_record(unit, 1, unit.len(), true) {
        decode_nested(&unit[from..], limits, nesting, &mut |_, item| {
            if !matches!(item, Item::Skipped(_)) {
                sink(place, item);
            }
        });
    }
}

/// A string with JSON: an SNS message, `CloudTrailEvent` of a lookup.
fn decode_text(
    inner: &RawValue,
    place: Place,
    limits: &Limits,
    sink: &mut dyn FnMut(Place, Item<'_>),
) {
    let Ok(text) = serde_json::from_str::<String>(inner.get()) else {
        return sink(place, Item::PassedOver(PassedOver::NotCloudTrail));
    };
    if !text.trim_start().starts_with(['{', '[']) {
        return sink(place, Item::PassedOver(PassedOver::NotCloudTrail));
    }
    decode_nested(text.as_bytes(), limits, Nesting::Inner, &mut |_, item| {
        let item = match item {
            Item::Skipped(Skipped { reason, .. }) => {
                Item::Skipped(Skipped { place, reason: format!("in an envelope: {reason}") })
            }
            item => item,
        };
        sink(place, item);
    });
}

/// The text, if it is UTF-8 and within the limits; the reason otherwise.
fn checked_text<'a>(unit: &'a [u8], limits: &Limits) -> Result<&'a str, String> {
    if unit.len() > limits.record_bytes_max {
        return Err(format!(
            "record of {} bytes is larger than the limit of {}",
            unit.len(),
            limits.record_bytes_max
        ));
    }
    let text = simdutf8::compat::from_utf8(unit)
        .map_err(|error| format!("invalid UTF-8 at byte {} of the record", error.valid_up_to()))?;
    if depth_exceeds(unit, limits.depth_max) {
        return Err(format!("nested deeper than {} levels", limits.depth_max));
    }
    Ok(text)
}

/// True if brackets outside strings nest deeper than `max`.
fn depth_exceeds(unit: &[u8], max: usize) -> bool {
    // Few records have this many brackets, and counting them is much faster.
    if unit.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() <= max {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in unit {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Byte offset of a JSON error within its text.
fn error_offset(text: &str, error: &serde_json::Error) -> u64 {
    let line_start: usize =
        text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    (line_start + error.column().saturating_sub(1)).min(text.len()) as u64
}

/// The parser's message without line and column, which count within the record.
fn plain_json_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let words = text.rsplit_once(" at line ").map_or(text.as_str(), |(words, _)| words);
    format!("not sound JSON: {words}")
}

/// One JSON object, with the members that tell its shape.
#[derive(Default)]
struct Object<'a> {
    record: Record<'a>,
    envelope: Envelope<'a>,
    detail: Option<&'a RawValue>,
    message: Option<&'a RawValue>,
    topic_arn: bool,
    cloud_trail_event: Option<&'a RawValue>,
    /// If the member is repeated, every list counts, so that no record is lost.
    records: Vec<&'a RawValue>,
    digest_fields: u8,
}

enum Shape<'a> {
    Record,
    Insight,
    Digest,
    Event(&'a RawValue),
    Text(&'a RawValue),
    Lists(Vec<&'a RawValue>),
    NotCloudTrail,
}

impl<'a> Object<'a> {
    fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let object = Self::deserialize(&mut reader)?;
        reader.end()?;
        Ok(object)
    }

    fn shape(&self) -> Shape<'a> {
        let starts = |raw: &RawValue, with: char| raw.get().starts_with(with);
        if !self.record.is_not_a_record() {
            // S3 event notifications resemble records but are not.
            return if self.record.event_source.as_deref().is_some_and(|s| s.starts_with("aws:")) {
                Shape::NotCloudTrail
            } else {
                Shape::Record
            };
        }
        if self.record.insight {
            return Shape::Insight;
        }
        if let Some(detail) = self.detail.filter(|raw| starts(raw, '{')) {
            return Shape::Event(detail);
        }
        if let Some(text) = self.cloud_trail_event.filter(|raw| starts(raw, '"')) {
            return Shape::Text(text);
        }
        if let Some(text) = self.message.filter(|raw| self.topic_arn && starts(raw, '"')) {
            return Shape::Text(text);
        }
        let lists: Vec<_> = self.records.iter().copied().filter(|raw| starts(raw, '[')).collect();
        if !lists.is_empty() {
            return Shape::Lists(lists);
        }
        if self.digest_fields >= 2 { Shape::Digest } else { Shape::NotCloudTrail }
    }

    fn into_record(self, text: &'a str) -> Record<'a> {
        Record { json: text, ..self.record }
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut object = Object::default();
                while let Some(name) = map.next_key::<record::Name<'de>>()? {
                    object.member(&name.0, &mut map)?;
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

impl<'de> Members<'de> for Object<'de> {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let envelope = &mut self.envelope;
        match name {
            "detail" => {
                self.detail = record::raw(map)?;
                envelope.stated = true;
            }
            "detail-type" => envelope.detail_type = record::text(map)?,
            "source" => envelope.source = record::text(map)?,
            "account" => envelope.account = record::account(map)?,
            "region" => envelope.region = record::text(map)?,
            "time" => envelope.time = record::text(map)?,
            "id" => envelope.id = record::text(map)?,
            "Message" => self.message = record::raw(map)?,
            "TopicArn" => self.topic_arn = record::raw(map)?.is_some(),
            "CloudTrailEvent" => self.cloud_trail_event = record::raw(map)?,
            "Records" | "Events" => self.records.extend(record::raw(map)?),
            "digestStartTime" | "digestEndTime" | "digestS3Object" | "logFiles" => {
                let stated = record::raw(map)?.is_some();
                self.digest_fields = self.digest_fields.saturating_add(u8::from(stated));
            }
            _ => self.record.member(name, map)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line for each item: the event's name, the kind passed over, or the reason to skip it.
    fn items(text: &str) -> Vec<String> {
        let mut out = Vec::new();
        decode_log(text.as_bytes(), &Limits::default(), &mut |place, item| {
            out.push(match item {
                Item::Event(event) => {
                    let name = event.record.event_name.as_deref().unwrap_or("-").to_owned();
                    if event.envelope.stated { format!("event {name}") } else { name }
                }
                Item::PassedOver(kind) => format!("passed over {}", kind.name()),
                Item::Skipped(skipped) => format!("skipped {}: {}", place.record, skipped.reason),
            });
        });
        out
    }

    #[test]
    fn every_shape_in_which_records_arrive_gives_records() {
        let record = r#"{"eventName":"A","userIdentity":{}}"#;
        assert_eq!(items(record), ["A"]);
        assert_eq!(items(&format!(r#"{{"Records":[{record},{record}]}}"#)), ["A", "A"]);
        assert_eq!(items(&format!(r#"{{"x":1,"Records":[{record},{record}]}}"#)), ["A", "A"]);
        let twice = format!(r#"{{"x":1,"Records":[{record}],"Records":[{record}]}}"#);
        assert_eq!(items(&twice), ["A", "A"]);
        assert_eq!(items(&format!("[{record}]")), ["A"]);
        assert_eq!(items(&format!("{record}\n{record}\n")), ["A", "A"]);
        let event = format!(r#"{{"source":"aws.iam","detail-type":"x","detail":{record}}}"#);
        assert_eq!(items(&event), ["event A"]);
        let quoted = serde_json::to_string(&event).expect("a string");
        let sns = format!(r#"{{"Type":"Notification","TopicArn":"arn","Message":{quoted}}}"#);
        assert_eq!(items(&sns), ["event A"]);
        let quoted = serde_json::to_string(record).expect("a string");
        assert_eq!(items(&format!(r#"{{"Events":[{{"CloudTrailEvent":{quoted}}}]}}"#)), ["A"]);
    }

    #[test]
    fn json_without_an_api_record_is_passed_over_and_is_not_damage() {
        for (text, kind) in [
            (r#"{"digestStartTime":"x","digestEndTime":"y","logFiles":[]}"#, "digest file"),
            (
                r#"{"eventType":"AwsCloudTrailInsight","insightDetails":{"eventName":"X"}}"#,
                "Insights event",
            ),
            (
                r#"{"source":"aws.autoscaling","detail":{"EndTime":"x"}}"#,
                "object without an API record",
            ),
            (
                r#"{"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put"}]}"#,
                "object without an API record",
            ),
        ] {
            assert_eq!(items(text), [format!("passed over {kind}")], "{text}");
        }
    }

    #[test]
    fn a_broken_record_is_skipped_with_its_place_and_the_next_one_is_read() {
        assert_eq!(
            items(r#"{"Records":[{"eventName":"A"},{"eventName":B},{"eventName":"C"}]}"#),
            ["A", "skipped 2: not sound JSON: expected value", "C"]
        );
        assert_eq!(
            items(
                r#"{"Records":[{"eventVersion":"1","x":{},{"eventVersion":"2","eventName":"B"}]}"#
            )[1],
            "B"
        );
    }

    #[test]
    fn limits_on_depth_and_size_skip_only_the_record() {
        let deep = format!(r#"{{"eventName":"A","x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        assert_eq!(
            items(&format!(r#"[{deep},{{"eventName":"B"}}]"#)),
            ["skipped 1: nested deeper than 128 levels", "B"]
        );
    }

    #[test]
    fn an_event_without_a_record_in_its_detail_has_its_own_error() {
        let limits = Limits::default();
        assert!(decode_event(br#"{"source":"aws.s3","detail":{"a":1}}"#, &limits).is_err());
        assert!(decode_event(br#"{"detail":{"eventName":"A"}}"#, &limits).is_ok());
    }
}
