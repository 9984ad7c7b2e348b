//! The channel `sns`: a topic of Amazon SNS, standard or FIFO.

mod probe;

use async_trait::async_trait;
use jiff::Timestamp;
use rootwatch_core::text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Behavior, Channel, Facts, Fault, Message, Settings, ThreadMemory, Tools};
use crate::aws::query::{Form, group, hashed};
use crate::aws::{self, Arn, Aws, Call, Failed, Service};
use crate::wording::line::line;
use crate::{Sent, transliterate};

/// Bytes of a message with its attributes: the limit of SNS.
pub const MESSAGE_BYTES_MAX: usize = 262_144;
/// Letters of a subject, all of printable ASCII: SNS takes fewer than 100.
pub const SUBJECT_CHARS_MAX: usize = 99;
/// Septets of a text message of one part.
const SMS_SEPTETS_MAX: usize = 160;
/// Bytes of the readable body.
const EMAIL_BYTES_MAX: usize = 16 << 10;
/// Accounts in the attribute `account_id`.
const ACCOUNTS_MAX: usize = 50;
/// Bytes of an ARN.
const ARN_BYTES_MAX: usize = 1_024;

/// Publishes to a topic of Amazon SNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// ARN of the topic. The channel calls SNS in the topic's region; a name that ends in `.fifo`
    /// is a FIFO topic.
    pub topic: String,
    /// ARN of a role to assume. Default: the hub's own credentials.
    #[serde(default)]
    pub role: Option<String>,
    /// Custom SNS endpoint: an interface VPC endpoint, or LocalStack for tests. May be private and
    /// use `http`.
    #[serde(default)]
    pub endpoint_url: Option<String>,
}

impl Settings for Config {
    const BEHAVIOR: Behavior = Behavior { is_chat: false, rate_per_minute: 0 };
    const FACTS: Facts = Facts {
        about: "Publishes to a topic of Amazon SNS, standard or FIFO, in the topic's region. Set \
                up the topic and its subscriptions, and allow the hub's role `sns:Publish` on it; \
                for an encrypted topic also `kms:GenerateDataKey*` and `kms:Decrypt` on its key \
                (the AWS managed key, `alias/aws/sns`, works only within the topic's account). \
                Email subscribers receive the text, SMS subscribers the compact line, all others \
                (queues, functions, HTTPS) the alert in JSON. The attributes `severity`, `kind`, \
                `incident`, `root_use` and `account_id` (a `String.Array`) are available to filter \
                policies.",
        limits: &[
            (
                "message with attributes",
                "262,144 bytes; a longer alert is sent without findings, with `\"shortened\": \
                 true`",
            ),
            ("subject", "99 printable ASCII characters"),
            ("attributes", "5 of 10"),
        ],
        answers: &[
            ("200", "delivered to SNS, which forwards it to the subscribers"),
            ("`Throttled`, `KMSThrottling`, 408, 429, 500 and above, no answer", "retried"),
            (
                "`AuthorizationError`, `NotFound`, `KMSAccessDenied`, `KMSDisabled` and other `KMS…`",
                "permanent failure: fix the configuration or a policy",
            ),
            ("`InvalidParameter` and others", "permanent failure"),
        ],
        repeats: "A FIFO topic drops duplicates within five minutes; a standard topic may deliver \
                  a message twice.",
        probe: "Reads the topic's attributes, its subscribers and its key, for which it needs \
                `sns:GetTopicAttributes`, `sns:ListSubscriptionsByTopic`, `kms:DescribeKey` and \
                `kms:GetKeyPolicy`; publishes nothing. Lists unconfirmed subscriptions. \
                `sns:Publish` is not checked before the first message.",
    };

    fn example() -> Self {
        Self {
            topic: "arn:aws:sns:eu-west-1:123456789012:root-use".to_owned(),
            role: None,
            endpoint_url: None,
        }
    }

    fn render(&self, message: &Message<'_>) -> Vec<u8> {
        render(self, message)
    }

    fn problems(&self) -> Vec<Fault> {
        let mut faults = aws::problems(None, self.endpoint_url.as_deref(), self.role.as_deref());
        if self.region().is_none() {
            let looks = "arn:aws:sns:eu-west-1:123456789012:name";
            faults.push(("topic", format!("not the ARN of a topic, for example `{looks}`")));
        }
        faults
    }

    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        let (endpoint, role) = (self.endpoint_url.as_deref(), self.role.as_deref());
        let aws = Aws::new(tools.aws.clone(), self.region(), endpoint, role)?;
        Ok(Box::new(Sns { aws, config: self.clone() }))
    }
}

impl Config {
    fn region(&self) -> Option<&str> {
        let arn = Arn::of("sns", &self.topic)?;
        let is_right = aws::region_fault(arn.region).is_none()
            && aws::is_account(arn.account)
            && self.topic.len() <= ARN_BYTES_MAX
            && !arn.rest.contains(':');
        is_right.then_some(arn.region)
    }
}

#[derive(Debug)]
struct Sns {
    aws: Aws,
    config: Config,
}

/// The subject, in printable ASCII. It begins with a letter or a digit, as SNS wants it.
fn subject(message: &Message<'_>) -> String {
    line(message.wording, SUBJECT_CHARS_MAX, &transliterate::ascii, &|text| text.chars().count())
}

/// What subscribers by SMS read: one part.
fn sms(message: &Message<'_>) -> String {
    line(message.wording, SMS_SEPTETS_MAX, &transliterate::gsm, &transliterate::septets)
}

/// The words for a mail: plain text, whole lines, at most [`EMAIL_BYTES_MAX`].
fn email(message: &Message<'_>) -> String {
    let mut text = String::new();
    let mut left_out = 0_usize;
    for line in message.wording.lines() {
        if left_out > 0 || text.len() + line.len() + 64 > EMAIL_BYTES_MAX {
            left_out += 1;
            continue;
        }
        text.push_str(&line);
        text.push_str("\n\n");
    }
    if left_out > 0 {
        text.push_str(&format!("({} left out)\n", text::count(left_out as u64, "line")));
    }
    text.trim_end().to_owned()
}

/// What filter policies see: name, type, value.
fn attributes(message: &Message<'_>) -> Vec<(&'static str, &'static str, String)> {
    let alert = message.alert;
    let mut all = vec![
        ("severity", "String", alert.severity.name().to_owned()),
        ("kind", "String", alert.kind.name().to_owned()),
    ];
    if let Some(brief) = alert.incident() {
        all.push(("incident", "String", text::cap(&brief.id.0, 64)));
        all.push(("root_use", "String", brief.root_use.name().to_owned()));
        let ids: Vec<String> = brief
            .accounts
            .iter()
            .take(ACCOUNTS_MAX)
            .map(|account| text::cap(&account.id, 12))
            .collect();
        if !ids.is_empty() {
            all.push(("account_id", "String.Array", json!(ids).to_string()));
        }
    }
    all
}

/// What SNS gives to each protocol. `default` serves all that are not named: queues, functions,
/// HTTPS, `email-json`. Naming them would only send the same four times and leave a quarter of the
/// room.
fn body(message: &Message<'_>, machine: &Value) -> String {
    json!({
        "default": machine.to_string(),
        "email": email(message),
        "sms": sms(message),
    })
    .to_string()
}

/// The form that is posted. Message and attributes have at most [`MESSAGE_BYTES_MAX`] bytes.
#[must_use]
pub fn render(config: &Config, message: &Message<'_>) -> Vec<u8> {
    let attributes = attributes(message);
    let around: usize =
        attributes.iter().map(|(name, kind, value)| name.len() + kind.len() + value.len()).sum();
    let mut text = body(message, &message.wording.json);
    if text.len() + around > MESSAGE_BYTES_MAX {
        text = body(message, &message.shortened());
    }
    let mut form = Form::sns("Publish")
        .with("TopicArn", &config.topic)
        .with("Subject", &subject(message))
        .with("MessageStructure", "json")
        .with("Message", &text)
        .attributes(&attributes);
    if config.topic.ends_with(".fifo") {
        form = form
            .with("MessageGroupId", &group(message.thread))
            .with("MessageDeduplicationId", &hashed(&message.id.0));
    }
    form.into_bytes()
}

/// What SNS's refusals ask for.
fn advised(failed: Failed) -> Failed {
    match failed.code.as_str() {
        "AuthorizationError" | "AccessDenied" => {
            failed.misconfigured().hint("allow the hub's role sns:Publish on the topic")
        }
        "NotFound" | "NotFoundException" => {
            failed.misconfigured().hint("there is no such topic in that region and account")
        }
        "KMSThrottling" | "KMSThrottlingException" => failed.retried(),
        code if code.starts_with("KMSAccessDenied") => failed.misconfigured().hint(
            "the topic is encrypted: allow the hub's role kms:GenerateDataKey* and kms:Decrypt on its key",
        ),
        code if code.starts_with("KMS") => {
            failed.misconfigured().hint("the topic's key must be there and enabled")
        }
        _ => failed,
    }
}

impl Sns {
    async fn ask(&self, body: Vec<u8>, now: Timestamp) -> Result<String, Failed> {
        let call = Call::query(Service::SNS, body);
        self.aws.call(&call, now).await.map(|answer| answer.body)
    }
}

#[async_trait]
impl Channel for Sns {
    async fn send(&self, message: &Message<'_>, _: &ThreadMemory<'_>) -> Sent {
        match self.ask(render(&self.config, message), message.now).await {
            Ok(answer) => delivered(&answer),
            Err(failed) => advised(failed).sent,
        }
    }

    async fn probe(&self, now: Timestamp) -> Sent {
        self.look(now).await.unwrap_or_else(|failed| failed.sent)
    }
}

/// An answer without an id is none of SNS's: whoever gave it took nothing.
pub(crate) fn delivered(answer: &str) -> Sent {
    match aws::element(answer, "MessageId") {
        Some(id) => Sent::Delivered { receipt: text::cap(&id, 100) },
        None => Sent::RetryAfter {
            after: None,
            error: "the answer names no message: it does not come from SNS".to_owned(),
        },
    }
}
