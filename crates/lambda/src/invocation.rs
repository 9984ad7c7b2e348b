//! Recognizes an invocation by its shape.

use serde_json::Value;

/// What a schedule sends every minute.
pub(crate) const TICK: &str = "tick";

/// A message of a queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) body: String,
}

/// An invocation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Invocation {
    /// A batch of SQS messages; each succeeds or fails by itself.
    Queue(Vec<Message>),
    /// Texts with an invocation of their own: an EventBridge event, an S3 or SNS notification. They succeed or
    /// fail together.
    Bodies(Vec<String>),
    /// A tick of the schedule.
    Tick,
    /// A request to the function URL.
    Request,
}

/// An invocation of an unknown shape.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unknown(String);

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "unsupported invocation payload (expected an SQS batch, an EventBridge event, an S3 or SNS \
             notification, a schedule tick or a function URL request): {}",
            self.0
        )
    }
}

impl std::error::Error for Unknown {}

impl Invocation {
    /// Recognizes an invocation.
    pub(crate) fn of(payload: &Value) -> Result<Self, Unknown> {
        let text = |pointer: &str| payload.pointer(pointer).and_then(Value::as_str);
        if text("/rootwatch") == Some(TICK)
            || (text("/source") == Some("aws.events")
                && text("/detail-type") == Some("Scheduled Event"))
        {
            return Ok(Self::Tick);
        }
        if payload.pointer("/requestContext/http").is_some() {
            return Ok(Self::Request);
        }
        if payload.get("detail").is_some() && payload.get("detail-type").is_some() {
            return Ok(Self::Bodies(vec![payload.to_string()]));
        }
        let records = payload.get("Records").and_then(Value::as_array);
        let Some(records) = records else { return Err(Unknown(members(payload))) };
        let from = |record: &Value| {
            let source = record.get("eventSource").or_else(|| record.get("EventSource"));
            source.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        match records.first().map(&from).as_deref() {
            Some("aws:sqs") => {
                records.iter().map(message).collect::<Result<_, _>>().map(Self::Queue)
            }
            Some("aws:sns") => records
                .iter()
                .map(|record| match record.pointer("/Sns/Message").and_then(Value::as_str) {
                    Some(text) => Ok(text.to_owned()),
                    None => Err(Unknown("a record of SNS without a message".to_owned())),
                })
                .collect::<Result<_, _>>()
                .map(Self::Bodies),
            Some("aws:s3") => Ok(Self::Bodies(vec![payload.to_string()])),
            _ => Err(Unknown("its records are of another source".to_owned())),
        }
    }
}

fn message(record: &Value) -> Result<Message, Unknown> {
    let text = |name: &str| record.get(name).and_then(Value::as_str).map(str::to_owned);
    match (text("messageId"), text("body")) {
        (Some(id), Some(body)) => Ok(Message { id, body }),
        _ => Err(Unknown("a message of SQS without id or body".to_owned())),
    }
}

/// The names of its members, for people; the values may be anything.
fn members(payload: &Value) -> String {
    match payload.as_object() {
        Some(members) => {
            let names: Vec<&str> = members.keys().map(String::as_str).take(8).collect();
            format!("an object with {names:?}")
        }
        None => "not an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_source_is_recognized_by_its_shape() {
        let record = |id: &str| json!({ "messageId": id, "body": "b", "eventSource": "aws:sqs" });
        let message = |id: &str| Message { id: id.to_owned(), body: "b".to_owned() };
        let event = json!({ "source": "aws.iam", "detail-type": "AWS API Call via CloudTrail", "detail": {} });
        let s3 = json!({ "Records": [{ "eventSource": "aws:s3" }] });
        let sns = json!({ "Records": [{ "EventSource": "aws:sns", "Sns": { "Message": "m" } }] });
        let url = json!({ "version": "2.0", "requestContext": { "http": { "method": "GET" } } });
        let scheduled =
            json!({ "source": "aws.events", "detail-type": "Scheduled Event", "detail": {} });
        for (payload, expected) in [
            (
                json!({ "Records": [record("1"), record("2")] }),
                Invocation::Queue(vec![message("1"), message("2")]),
            ),
            (event.clone(), Invocation::Bodies(vec![event.to_string()])),
            (s3.clone(), Invocation::Bodies(vec![s3.to_string()])),
            (sns, Invocation::Bodies(vec!["m".to_owned()])),
            (json!({ "rootwatch": "tick" }), Invocation::Tick),
            (scheduled, Invocation::Tick),
            (url, Invocation::Request),
        ] {
            assert_eq!(Invocation::of(&payload), Ok(expected), "{payload}");
        }
    }

    #[test]
    fn unknown_payloads_are_refused_without_their_values() {
        for payload in [
            json!({ "secret": "hush" }),
            json!({ "Records": [] }),
            json!({ "Records": [{ "eventSource": "aws:kinesis", "data": "hush" }] }),
            json!({ "Records": [{ "eventSource": "aws:sqs", "body": "hush" }] }),
            json!("hush"),
        ] {
            let refused = Invocation::of(&payload).expect_err("unknown").to_string();
            assert!(!refused.contains("hush"), "{refused}");
        }
    }
}
