//! One CloudTrail record, parsed leniently from its JSON.
//!
//! Published records omit fields, repeat keys, write account ids as numbers or with dashes, booleans
//! as strings and dates in two formats. None of that makes a record unreadable: a field that is
//! absent, null, empty or of another type is `None`, and the last of repeated keys counts, as for
//! most JSON parsers.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// An optional text of the record. Borrowed unless the JSON has escapes in it.
pub type Text<'a> = Option<Cow<'a, str>>;

/// One CloudTrail record. The fields that classification, rules and correlation need are parsed;
/// everything else is in [`Record::json`].
#[derive(Debug, Clone, Default)]
pub struct Record<'a> {
    /// The record as received.
    pub json: &'a str,
    /// The caller.
    pub identity: Identity<'a>,
    /// `eventVersion`.
    pub event_version: Text<'a>,
    /// `eventTime`.
    pub event_time: Option<Timestamp>,
    /// `eventSource`, such as `iam.amazonaws.com`.
    pub event_source: Text<'a>,
    /// `eventName`.
    pub event_name: Text<'a>,
    /// `awsRegion`.
    pub region: Text<'a>,
    /// `sourceIPAddress`: an address, a service's name or `AWS Internal`.
    pub source_ip: Text<'a>,
    /// `userAgent`, chosen by the caller.
    pub user_agent: Text<'a>,
    /// `errorCode`.
    pub error_code: Text<'a>,
    /// `errorMessage`.
    pub error_message: Text<'a>,
    /// `eventID`.
    pub event_id: Text<'a>,
    /// `sharedEventID`.
    pub shared_event_id: Text<'a>,
    /// `eventType`, such as `AwsApiCall`.
    pub event_type: Text<'a>,
    /// `eventCategory`, such as `Management`.
    pub event_category: Text<'a>,
    /// `recipientAccountId`, dashes removed.
    pub recipient_account_id: Text<'a>,
    /// `readOnly`.
    pub read_only: Option<bool>,
    /// `addendum`.
    pub addendum: Option<AddendumText<'a>>,
    /// `requestParameters`, unparsed; `None` for null.
    pub request_parameters: Option<&'a RawValue>,
    /// `responseElements`, unparsed; `None` for null.
    pub response_elements: Option<&'a RawValue>,
    /// `additionalEventData`, unparsed; `None` for null.
    pub additional_event_data: Option<&'a RawValue>,
    /// `serviceEventDetails`, unparsed; `None` for null.
    pub service_event_details: Option<&'a RawValue>,
    /// The record has `insightDetails`: it is an Insights event, not an API record.
    pub insight: bool,
}

/// `userIdentity`.
#[derive(Debug, Clone, Default)]
pub struct Identity<'a> {
    /// `type`: `Root`, `IAMUser`, `AssumedRole` … absent in service and billing events.
    pub kind: Text<'a>,
    /// `principalId`.
    pub principal_id: Text<'a>,
    /// `arn`.
    pub arn: Text<'a>,
    /// `accountId`, dashes removed.
    pub account_id: Text<'a>,
    /// `accessKeyId`.
    pub access_key_id: Text<'a>,
    /// `userName`: for the root user an account alias; never an identity.
    pub user_name: Text<'a>,
    /// `invokedBy`: the service that acted.
    pub invoked_by: Text<'a>,
    /// `sessionContext`.
    pub session: Session<'a>,
}

/// `userIdentity.sessionContext`.
#[derive(Debug, Clone, Default)]
pub struct Session<'a> {
    /// `attributes.creationDate`, in either of its two spellings.
    pub created_at: Option<Timestamp>,
    /// `attributes.mfaAuthenticated`.
    pub mfa_authenticated: Option<bool>,
    /// `assumedRoot`, as a string or a boolean.
    pub assumed_root: Option<bool>,
    /// `signInSessionArn`.
    pub sign_in_session_arn: Text<'a>,
    /// `sessionIssuer.type`.
    pub issuer_type: Text<'a>,
    /// `sessionIssuer.arn`.
    pub issuer_arn: Text<'a>,
    /// `sessionIssuer.accountId`, dashes removed.
    pub issuer_account_id: Text<'a>,
    /// `sessionIssuer.userName`.
    pub issuer_user_name: Text<'a>,
}

/// `addendum`.
#[derive(Debug, Clone, Default)]
pub struct AddendumText<'a> {
    /// `reason`.
    pub reason: Text<'a>,
    /// `originalEventID`.
    pub original_event_id: Text<'a>,
    /// `updatedFields`.
    pub updated_fields: Text<'a>,
}

impl<'a> Record<'a> {
    /// Parses a record from the JSON text of one object.
    ///
    /// # Errors
    /// If the text is not one JSON object. The caller limits depth and size
    /// ([`crate::decode::Limits`]).
    pub fn parse(json: &'a str) -> Result<Self, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_str(json);
        let mut record = Self::deserialize(&mut reader)?;
        reader.end()?;
        record.json = json;
        Ok(record)
    }

    /// True if nothing identifies the object as a CloudTrail record: it has neither `eventName` nor
    /// `eventSource` nor `userIdentity`, or it is an Insights event.
    #[must_use]
    pub fn is_not_a_record(&self) -> bool {
        self.insight
            || (self.event_name.is_none()
                && self.event_source.is_none()
                && self.identity.is_empty())
    }

    /// `eventSource` without `.amazonaws.com` and its variants: `iam`, `signin`.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.event_source.as_deref().map(|source| source.split('.').next().unwrap_or(source))
    }

    /// True when `eventSource` is this service in any partition: `is_from("signin")`.
    #[must_use]
    pub fn is_from(&self, service: &str) -> bool {
        self.service() == Some(service)
    }

    /// True when `eventName` is exactly this.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.event_name.as_deref() == Some(name)
    }
}

impl Identity<'_> {
    /// True if the record says nothing about the caller.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kind.is_none()
            && self.arn.is_none()
            && self.account_id.is_none()
            && self.access_key_id.is_none()
            && self.principal_id.is_none()
            && self.invoked_by.is_none()
            && self.session.assumed_root.is_none()
            && self.session.issuer_type.is_none()
    }
}

/// Parses CloudTrail's two formats of a time: RFC 3339 and `20131102T010628Z`.
#[must_use]
pub fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| {
        jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text)
            .ok()?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
            .map(|zoned| zoned.timestamp())
    })
}

/// Removes the dashes of an account id written as `1111-2222-3333`.
fn plain_account(text: Cow<'_, str>) -> Cow<'_, str> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let dashes = text.bytes().filter(|byte| *byte == b'-').count();
    if dashes > 0 && digits == 12 && digits + dashes == text.len() {
        Cow::Owned(text.replace('-', ""))
    } else {
        text
    }
}

fn boolean(text: &Text<'_>) -> Option<bool> {
    match text.as_deref()? {
        word if word.eq_ignore_ascii_case("true") => Some(true),
        word if word.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// A scalar of any kind as text; null, empty strings, arrays and objects are `None`.
struct Scalar<'a>(Text<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor).map(Self)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok((!text.is_empty()).then_some(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok((!text.is_empty()).then(|| Cow::Owned(text.to_owned())))
    }
    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(if value { "true" } else { "false" })))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(value.to_string())))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(value.to_string())))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(value.to_string())))
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// A member name, borrowed unless it has escapes.
pub(crate) struct Name<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(NameVisitor).map(Self)
    }
}

/// A type that is filled from the members of a JSON object. Anything but an object gives the default.
pub(crate) trait Members<'de>: Default {
    /// Reads one member; unknown names must still consume their value.
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Reads an object into `T`; `null`, a scalar or an array is read and gives `T::default()`.
struct Lenient<T>(T);

impl<'de, T: Members<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(T);
        impl<'de, T: Members<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }
            fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<T, A::Error> {
                while let Some(Name(name)) = map.next_key()? {
                    self.0.member(&name, &mut map)?;
                }
                Ok(self.0)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(self.0)
            }
            fn visit_str<E>(self, _: &str) -> Result<T, E> {
                Ok(self.0)
            }
            fn visit_bool<E>(self, _: bool) -> Result<T, E> {
                Ok(self.0)
            }
            fn visit_u64<E>(self, _: u64) -> Result<T, E> {
                Ok(self.0)
            }
            fn visit_i64<E>(self, _: i64) -> Result<T, E> {
                Ok(self.0)
            }
            fn visit_f64<E>(self, _: f64) -> Result<T, E> {
                Ok(self.0)
            }
            fn visit_unit<E>(self) -> Result<T, E> {
                Ok(self.0)
            }
        }
        deserializer.deserialize_any(ObjectVisitor(T::default())).map(Self)
    }
}

pub(crate) fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Text<'de>, A::Error> {
    map.next_value::<Scalar<'de>>().map(|scalar| scalar.0)
}

pub(crate) fn account<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Text<'de>, A::Error> {
    Ok(text(map)?.map(plain_account))
}

fn object<'de, T: Members<'de>, A: MapAccess<'de>>(map: &mut A) -> Result<T, A::Error> {
    map.next_value::<Lenient<T>>().map(|lenient| lenient.0)
}

pub(crate) fn raw<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<&'de RawValue>, A::Error> {
    let value = map.next_value::<&'de RawValue>()?;
    Ok((value.get() != "null").then_some(value))
}

fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

impl<'de> Deserialize<'de> for Record<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RecordVisitor;
        impl<'de> Visitor<'de> for RecordVisitor {
            type Value = Record<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut record = Record::default();
                while let Some(Name(name)) = map.next_key()? {
                    record.member(&name, &mut map)?;
                }
                Ok(record)
            }
        }
        deserializer.deserialize_map(RecordVisitor)
    }
}

impl<'de> Members<'de> for Record<'de> {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "userIdentity" => self.identity = object(map)?,
            "eventVersion" => self.event_version = text(map)?,
            "eventTime" => self.event_time = text(map)?.as_deref().and_then(parse_time),
            "eventSource" => self.event_source = text(map)?,
            "eventName" => self.event_name = text(map)?,
            "awsRegion" => self.region = text(map)?,
            "sourceIPAddress" => self.source_ip = text(map)?,
            "userAgent" => self.user_agent = text(map)?,
            "errorCode" => self.error_code = text(map)?,
            "errorMessage" => self.error_message = text(map)?,
            "eventID" => self.event_id = text(map)?,
            "sharedEventID" => self.shared_event_id = text(map)?,
            "eventType" => self.event_type = text(map)?,
            "eventCategory" => self.event_category = text(map)?,
            "recipientAccountId" => self.recipient_account_id = account(map)?,
            "readOnly" => self.read_only = boolean(&text(map)?),
            "addendum" => {
                let addendum: AddendumText<'_> = object(map)?;
                self.addendum = addendum.reason.is_some().then_some(addendum);
            }
            "requestParameters" => self.request_parameters = raw(map)?,
            "responseElements" => self.response_elements = raw(map)?,
            "additionalEventData" => self.additional_event_data = raw(map)?,
            "serviceEventDetails" => self.service_event_details = raw(map)?,
            "insightDetails" => self.insight = raw(map)?.is_some(),
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl<'de> Members<'de> for Identity<'de> {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => self.kind = text(map)?,
            "principalId" => self.principal_id = text(map)?,
            "arn" => self.arn = text(map)?,
            "accountId" => self.account_id = account(map)?,
            "accessKeyId" => self.access_key_id = text(map)?,
            "userName" => self.user_name = text(map)?,
            "invokedBy" => self.invoked_by = text(map)?,
            "sessionContext" => self.session = object(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl<'de> Members<'de> for Session<'de> {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "attributes" => {
                let attributes: Attributes<'_> = object(map)?;
                self.created_at = attributes.creation_date.as_deref().and_then(parse_time);
                self.mfa_authenticated = boolean(&attributes.mfa_authenticated);
            }
            "sessionIssuer" => {
                let issuer: Issuer<'_> = object(map)?;
                self.issuer_type = issuer.kind;
                self.issuer_arn = issuer.arn;
                self.issuer_account_id = issuer.account_id;
                self.issuer_user_name = issuer.user_name;
            }
            "assumedRoot" => self.assumed_root = boolean(&text(map)?),
            "signInSessionArn" => self.sign_in_session_arn = text(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct Attributes<'a> {
    creation_date: Text<'a>,
    mfa_authenticated: Text<'a>,
}

impl<'de> Members<'de> for Attributes<'de> {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "creationDate" => self.creation_date = text(map)?,
            "mfaAuthenticated" => self.mfa_authenticated = text(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct Issuer<'a> {
    kind: Text<'a>,
    arn: Text<'a>,
    account_id: Text<'a>,
    user_name: Text<'a>,
}

impl<'de> Members<'de> for Issuer<'de> {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => self.kind = text(map)?,
            "arn" => self.arn = text(map)?,
            "accountId" => self.account_id = account(map)?,
            "userName" => self.user_name = text(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl<'de> Members<'de> for AddendumText<'de> {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "reason" => self.reason = text(map)?,
            "originalEventID" => self.original_event_id = text(map)?,
            "updatedFields" => self.updated_fields = text(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

/// The text at `path` in a raw JSON value, where it is a string, number or boolean.
///
/// ```
/// let raw: &serde_json::value::RawValue = serde_json::from_str(r#"{"a":{"b":"c"}}"#).unwrap();
/// assert_eq!(rootwatch_core::record::text_at(Some(raw), &["a", "b"]).as_deref(), Some("c"));
/// ```
#[must_use]
pub fn text_at(raw: Option<&RawValue>, path: &[&str]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(raw?.get()).ok()?;
    let mut at = &value;
    for name in path {
        at = at.get(name)?;
    }
    match at {
        serde_json::Value::String(text) if !text.is_empty() => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_with_odd_types_and_repeated_keys_is_still_read() {
        let record = Record::parse(
            r#"{"eventName":"A","eventName":"B","userIdentity":{"type":"Root","accountId":111122223333,
               "arn":"","sessionContext":{"assumedRoot":true,"attributes":{"creationDate":"20131102T010628Z",
               "mfaAuthenticated":"True"}}},"recipientAccountId":"1111-2222-3333","readOnly":"false",
               "requestParameters":null,"eventTime":"..."}"#,
        )
        .expect("a record");
        assert_eq!(record.event_name.as_deref(), Some("B"));
        assert_eq!(record.identity.account_id.as_deref(), Some("111122223333"));
        assert_eq!(record.identity.arn, None);
        assert_eq!(record.identity.session.assumed_root, Some(true));
        assert_eq!(record.identity.session.mfa_authenticated, Some(true));
        assert_eq!(
            record.identity.session.created_at.map(|at| at.to_string()).as_deref(),
            Some("2013-11-02T01:06:28Z")
        );
        assert_eq!(record.recipient_account_id.as_deref(), Some("111122223333"));
        assert_eq!(record.read_only, Some(false));
        assert!(record.request_parameters.is_none());
        assert_eq!(record.event_time, None);
    }

    #[test]
    fn anything_but_one_json_object_is_refused() {
        for text in ["", "[]", "{} {}", "{\"a\":}", "{\"a\":1"] {
            assert!(Record::parse(text).is_err(), "{text}");
        }
    }
}
