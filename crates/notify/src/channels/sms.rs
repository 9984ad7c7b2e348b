//! The channel `sms`: a text message of one part, by Amazon SNS.

mod probe;

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;
use rootwatch_core::text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Behavior, Channel, Facts, Fault, Message, Settings, ThreadMemory, Tools, sns};
use crate::aws::query::{Form, hashed};
use crate::aws::{self, Aws, Call, Failed, Service};
use crate::wording::line::line;
use crate::{Sent, transliterate};

/// Septets of one part of a text message: letters of GSM's alphabet, of which those of its extension
/// count twice.
pub const SEPTETS_MAX: usize = 160;
/// Numbers of one destination: all of them are told one after the other in one attempt.
const NUMBERS_MAX: usize = 10;
/// Digits of a number: E.164 has 15 at most.
const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
/// Letters of a sender's name.
const SENDER_CHARS_MAX: usize = 11;

/// Sends text messages by Amazon SNS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Phone numbers with country code: `+12065550100`; at most ten. Each receives every message.
    pub to: Vec<String>,
    /// Sender name, where the country allows it: 1 to 11 letters and digits, with at least one
    /// letter.
    #[serde(default)]
    pub sender_id: Option<String>,
    /// Your phone number to send from; required in some countries.
    #[serde(default)]
    pub origination_number: Option<String>,
    /// Maximum price of one message in US dollars; SNS does not send a more expensive one. Default:
    /// no limit.
    #[serde(default)]
    pub price_max: Option<f64>,
    /// Region of SNS. Default: the region of the environment.
    #[serde(default)]
    pub region: Option<String>,
    /// ARN of a role to assume. Default: the hub's own credentials.
    #[serde(default)]
    pub role: Option<String>,
    /// Custom SNS endpoint: an interface VPC endpoint, or LocalStack for tests. May be private and
    /// use `http`.
    #[serde(default)]
    pub endpoint_url: Option<String>,
}

impl Settings for Config {
    /// SNS sends 20 transactional messages per second; people read fewer.
    const BEHAVIOR: Behavior = Behavior { is_chat: true, rate_per_minute: 60 };
    const FACTS: Facts = Facts {
        about: "Sends one SMS to each number through Amazon SNS, as `Transactional`. Setup: move \
                the account out of the SMS sandbox, or verify each number in it; raise the monthly \
                spending limit (initially 1 US dollar); register a number or a sender where the \
                country requires it (10DLC or toll-free in the United States). The hub's role \
                needs `sns:Publish` on `*`: a number has no ARN. Account and action come first. \
                Characters outside of the GSM alphabet lose their accents or become `?`.",
        limits: &[
            (
                "a message",
                "one part: 160 septets of GSM's 7-bit alphabet; `^{}\\[~]|€` count twice",
            ),
            ("numbers", "10"),
        ],
        answers: &[
            ("200", "accepted by SNS; only SNS's delivery log shows whether the phone received it"),
            (
                "`Throttled`, 408, 429, 500 and above, no answer",
                "retried for the numbers that have not received it",
            ),
            ("`AuthorizationError`", "permanent failure: the role may not publish"),
            (
                "`InvalidParameter` and others",
                "permanent failure: invalid number, or it opted out. The other numbers receive the \
                 message",
            ),
        ],
        repeats: "A retry skips numbers that have received the message. A message whose answer was \
                  lost may arrive twice: SNS is not idempotent for phone numbers.",
        probe: "Checks the SMS sandbox, the verified numbers, opt-outs and the spending limit; \
                needs `sns:GetSMSSandboxAccountStatus`, `sns:ListSMSSandboxPhoneNumbers`, \
                `sns:CheckIfPhoneNumberIsOptedOut` and `sns:GetSMSAttributes`. Sends nothing. The \
                amount already spent is not checked.",
    };

    fn example() -> Self {
        Self {
            to: vec!["+12065550100".to_owned()],
            sender_id: Some("Rootwatch".to_owned()),
            origination_number: None,
            price_max: Some(0.25),
            region: Some("eu-west-1".to_owned()),
            role: None,
            endpoint_url: None,
        }
    }

    fn render(&self, message: &Message<'_>) -> Vec<u8> {
        let forms: Vec<Vec<u8>> = self.to.iter().map(|to| render(self, to, message)).collect();
        forms.join(&b'\n')
    }

    fn problems(&self) -> Vec<Fault> {
        let (region, endpoint) = (self.region.as_deref(), self.endpoint_url.as_deref());
        let mut faults = aws::problems(region, endpoint, self.role.as_deref());
        if self.to.is_empty() || self.to.len() > NUMBERS_MAX {
            faults.push(("to", format!("name 1 to {NUMBERS_MAX} numbers")));
        }
        let mut seen = BTreeSet::new();
        for to in &self.to {
            if !is_number(to) {
                faults.push((
                    "to",
                    format!("`{}` is no number: it looks like `+12065550100`", text::cap(to, 30)),
                ));
            } else if !seen.insert(to) {
                faults.push(("to", format!("{to} stands there twice")));
            }
        }
        if let Some(from) = &self.origination_number
            && !is_number(from)
        {
            faults.push((
                "origination_number",
                "this is no number: it looks like `+12065550100`".to_owned(),
            ));
        }
        if let Some(sender) = &self.sender_id {
            let is_right = (1..=SENDER_CHARS_MAX).contains(&sender.len())
                && sender.bytes().all(|byte| byte.is_ascii_alphanumeric())
                && sender.bytes().any(|byte| byte.is_ascii_alphabetic());
            if !is_right {
                let rule =
                    format!("1 to {SENDER_CHARS_MAX} letters and digits, one of them a letter");
                faults.push(("sender_id", rule));
            }
        }
        if self.price_max.is_some_and(|price| !(0.001..=100.0).contains(&price)) {
            faults.push(("price_max", "between 0.001 and 100 US dollars".to_owned()));
        }
        faults
    }

    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        let (region, endpoint) = (self.region.as_deref(), self.endpoint_url.as_deref());
        let aws = Aws::new(tools.aws.clone(), region, endpoint, self.role.as_deref())?;
        Ok(Box::new(Sms { aws, config: self.clone() }))
    }
}

fn is_number(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        DIGITS.contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0')
    })
}

#[derive(Debug)]
struct Sms {
    aws: Aws,
    config: Config,
}

/// The form that is posted for one number.
#[must_use]
pub fn render(config: &Config, to: &str, message: &Message<'_>) -> Vec<u8> {
    let mut attributes = vec![("AWS.SNS.SMS.SMSType", "String", "Transactional".to_owned())];
    if let Some(sender) = &config.sender_id {
        attributes.push(("AWS.SNS.SMS.SenderID", "String", sender.clone()));
    }
    if let Some(price) = config.price_max {
        attributes.push(("AWS.SNS.SMS.MaxPrice", "Number", price.to_string()));
    }
    if let Some(from) = &config.origination_number {
        attributes.push(("AWS.MM.SMS.OriginationNumber", "String", from.clone()));
    }
    let text = line(message.wording, SEPTETS_MAX, &transliterate::gsm, &transliterate::septets);
    Form::sns("Publish")
        .with("PhoneNumber", to)
        .with("Message", &text)
        .attributes(&attributes)
        .into_bytes()
}

/// Who was told of a delivery: kept, so that a retry leaves them out.
#[derive(Debug, Default, Serialize, Deserialize)]
struct NotifiedState {
    delivery: String,
    /// Hashes: the store holds no numbers.
    numbers: BTreeSet<String>,
}

/// `+4917…`, for errors.
fn masked(number: &str) -> String {
    let begin: String = number.chars().take(5).collect();
    let end: String = number.chars().skip(number.chars().count().saturating_sub(2)).collect();
    format!("{begin}…{end}")
}

impl Sms {
    async fn ask(&self, body: Vec<u8>, now: Timestamp) -> Result<String, Failed> {
        let call = Call::query(Service::SNS, body);
        self.aws.call(&call, now).await.map(|answer| answer.body)
    }

    async fn publish(&self, to: &str, message: &Message<'_>) -> Sent {
        match self.ask(render(&self.config, to, message), message.now).await {
            Ok(answer) => sns::delivered(&answer),
            Err(failed) => match failed.code.as_str() {
                "AuthorizationError" | "AccessDenied" => {
                    failed.misconfigured().hint("allow the hub's role sns:Publish on *").sent
                }
                _ => failed.sent,
            },
        }
    }
}

#[async_trait]
impl Channel for Sms {
    async fn send(&self, message: &Message<'_>, memory: &ThreadMemory<'_>) -> Sent {
        let kept = match memory.get().await {
            Ok(kept) => kept,
            Err(sent) => return sent,
        };
        let told: Option<NotifiedState> = kept.and_then(|text| serde_json::from_str(&text).ok());
        let mut told = told.filter(|told| told.delivery == message.id.0).unwrap_or_default();
        told.delivery.clone_from(&message.id.0);
        let mut results = Vec::new();
        for to in &self.config.to {
            let hash = hashed(to);
            if told.numbers.contains(&hash) {
                let receipt = "told before".to_owned();
                results.push((masked(to), Sent::Delivered { receipt }));
                continue;
            }
            let sent = self.publish(to, message).await;
            if matches!(sent, Sent::Delivered { .. }) && self.config.to.len() > 1 {
                told.numbers.insert(hash);
                let text = serde_json::to_string(&told).unwrap_or_default();
                if let Err(sent) = memory.put(&text).await {
                    // The next number is told all the same; the worst is that this one hears twice.
                    tracing::warn!(?sent, "which numbers were told could not be kept");
                }
            }
            results.push((masked(to), sent));
        }
        Sent::together(results)
    }

    async fn probe(&self, now: Timestamp) -> Sent {
        self.look(now).await.unwrap_or_else(|failed| failed.sent)
    }
}
