//! The channel `eventbridge`: an event on a bus of Amazon EventBridge.

use async_trait::async_trait;
use jiff::Timestamp;
use rootwatch_core::text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Behavior, Channel, Facts, Fault, Message, Settings, ThreadMemory, Tools};
use crate::Sent;
use crate::aws::{self, Arn, Aws, Call, Failed, Service};

/// Bytes of an entry, as EventBridge counts them: time, source, type, detail and resources.
pub const ENTRY_BYTES_MAX: usize = 256 << 10;
/// Bytes that EventBridge counts for a time.
const TIME_BYTES: usize = 14;
/// Accounts that `Resources` names.
const RESOURCES_MAX: usize = 50;
/// Letters of a bus's name.
const BUS_CHARS_MAX: usize = 256;
/// Who the events come from.
const SOURCE: &str = "rootwatch";

/// Puts an event on a bus of Amazon EventBridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Event bus: name, or ARN (also of another account).
    pub bus: String,
    /// Region of the bus. Default: the region of the ARN, else of the environment.
    #[serde(default)]
    pub region: Option<String>,
    /// ARN of a role to assume. Default: the hub's own credentials.
    #[serde(default)]
    pub role: Option<String>,
    /// Custom EventBridge endpoint: an interface VPC endpoint, or LocalStack for tests. May be
    /// private and use `http`.
    #[serde(default)]
    pub endpoint_url: Option<String>,
}

impl Settings for Config {
    const BEHAVIOR: Behavior = Behavior { is_chat: false, rate_per_minute: 0 };
    const FACTS: Facts = Facts {
        about: "Puts each alert as an event on a bus of Amazon EventBridge, from which your rules \
                route it to functions, queues or tickets. `source` is `rootwatch`; `detail-type` \
                is `Rootwatch Alert Opened`, `… Escalated`, `… Acknowledged`, `… Closed`, `… \
                Continued`, `… Digest`, `… Test`, `… Delivery Failing`, `… Delivery Recovered`; \
                `detail` is the alert in JSON; `resources` are the ARNs of the accounts' root \
                users. The hub's role needs `events:PutEvents` on the bus; a bus of another \
                account must also allow it in its resource policy.",
        limits: &[
            (
                "an entry",
                "256 KiB as EventBridge counts: time, source, type, detail and resources; a longer \
                 alert is sent without findings, with `\"shortened\": true`",
            ),
            ("resources", "the first 50 accounts"),
        ],
        answers: &[
            ("200 with `FailedEntryCount` 0", "delivered to the bus"),
            (
                "200 with `ThrottlingException` or `InternalFailure` for the entry, 408, 429, 500 and above, no \
              answer",
                "retried",
            ),
            (
                "`AccessDeniedException`, `ResourceNotFoundException`",
                "permanent failure: fix the role, the bus or its policy",
            ),
            ("other", "permanent failure"),
        ],
        repeats: "An event may appear twice, with the same `detail.id`.",
        probe: "Reads the bus with `events:DescribeEventBus`; sends no event. `events:PutEvents` \
                and the rules on the bus are not checked.",
    };

    fn example() -> Self {
        Self {
            bus: "arn:aws:events:eu-west-1:123456789012:event-bus/security".to_owned(),
            region: None,
            role: None,
            endpoint_url: None,
        }
    }

    fn render(&self, message: &Message<'_>) -> Vec<u8> {
        render(self, message)
    }

    fn problems(&self) -> Vec<Fault> {
        let (endpoint, role) = (self.endpoint_url.as_deref(), self.role.as_deref());
        let mut faults = aws::problems(self.region(), endpoint, role);
        let name = self.arn().map_or(Some(self.bus.as_str()), |arn| {
            arn.rest.strip_prefix("event-bus/").filter(|_| aws::is_account(arn.account))
        });
        let is_right = name.is_some_and(|name| {
            (1..=BUS_CHARS_MAX).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/.-_".contains(&b))
        });
        if !is_right {
            let looks = "arn:aws:events:eu-west-1:123456789012:event-bus/name";
            faults.push((
                "bus",
                format!("not an event bus: write a name, or an ARN such as `{looks}`"),
            ));
        }
        faults
    }

    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        let (endpoint, role) = (self.endpoint_url.as_deref(), self.role.as_deref());
        let aws = Aws::new(tools.aws.clone(), self.region(), endpoint, role)?;
        Ok(Box::new(EventBridge { aws, config: self.clone() }))
    }
}

impl Config {
    fn arn(&self) -> Option<Arn<'_>> {
        Arn::of("events", &self.bus)
    }

    fn region(&self) -> Option<&str> {
        self.region.as_deref().or_else(|| self.arn().map(|arn| arn.region))
    }
}

#[derive(Debug)]
struct EventBridge {
    aws: Aws,
    config: Config,
}

/// `delivery_failing` becomes `Rootwatch Alert Delivery Failing`.
fn detail_type(name: &str) -> String {
    let parts: Vec<String> = name.split('_').map(text::capital).collect();
    format!("Rootwatch Alert {}", parts.join(" "))
}

/// The body: one entry, of at most [`ENTRY_BYTES_MAX`] bytes as EventBridge counts them.
#[must_use]
pub fn render(config: &Config, message: &Message<'_>) -> Vec<u8> {
    let partition = config.region().map_or("aws", aws::partition);
    let accounts = message.alert.incident().map(|brief| &brief.accounts[..]).unwrap_or_default();
    let resources: Vec<String> = accounts
        .iter()
        .filter(|account| aws::is_account(&account.id))
        .take(RESOURCES_MAX)
        .map(|account| format!("arn:{partition}:iam::{}:root", account.id))
        .collect();
    let detail_type = detail_type(message.alert.kind.name());
    let around = TIME_BYTES
        + SOURCE.len()
        + detail_type.len()
        + resources.iter().map(String::len).sum::<usize>();
    let mut detail = message.wording.json.to_string();
    if detail.len() + around > ENTRY_BYTES_MAX {
        detail = message.shortened().to_string();
    }
    let entry = json!({
        "EventBusName": config.bus,
        "Source": SOURCE,
        "DetailType": detail_type,
        "Detail": detail,
        "Resources": resources,
        "Time": message.alert.decided_at.as_second(),
    });
    json!({ "Entries": [entry] }).to_string().into_bytes()
}

/// What a refusal asks for.
fn advised(failed: Failed) -> Failed {
    match failed.code.as_str() {
        "ResourceNotFoundException" => {
            failed.misconfigured().hint("the bus does not exist in that region and account")
        }
        "AccessDeniedException" => {
            failed.misconfigured().hint("allow the hub's role events:PutEvents on the bus")
        }
        _ => failed,
    }
}

/// An answer of success can hold a failure.
fn read(answer: &str) -> Sent {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let entry = &answer["Entries"][0];
    if let Some(code) = entry["ErrorCode"].as_str() {
        let message = entry["ErrorMessage"].as_str().unwrap_or_default();
        return advised(Failed::of_entry(code, message)).sent;
    }
    match (answer["FailedEntryCount"].as_u64(), entry["EventId"].as_str()) {
        (Some(0), Some(id)) => Sent::Delivered { receipt: text::cap(id, 100) },
        _ => Sent::RetryAfter {
            after: None,
            error: "the answer names no event that was taken".to_owned(),
        },
    }
}

#[async_trait]
impl Channel for EventBridge {
    async fn send(&self, message: &Message<'_>, _: &ThreadMemory<'_>) -> Sent {
        let body = render(&self.config, message);
        let call = Call::json(Service::EVENT_BRIDGE, "AWSEvents.PutEvents", body);
        match self.aws.call(&call, message.now).await {
            Ok(answer) => read(&answer.body),
            Err(failed) => advised(failed).sent,
        }
    }

    async fn probe(&self, now: Timestamp) -> Sent {
        let body = json!({ "Name": self.config.bus }).to_string().into_bytes();
        let call = Call::json(Service::EVENT_BRIDGE, "AWSEvents.DescribeEventBus", body);
        match self.aws.call(&call, now).await {
            Ok(answer) => {
                let answer: Value = serde_json::from_str(&answer.body).unwrap_or_default();
                match answer["Arn"].as_str() {
                    Some(arn) => {
                        Sent::Delivered { receipt: format!("{} is there", text::cap(arn, 200)) }
                    }
                    None => Sent::RetryAfter {
                        after: None,
                        error: "the answer names no bus: it does not come from EventBridge"
                            .to_owned(),
                    },
                }
            }
            Err(failed) if failed.code == "AccessDeniedException" => {
                let hint = "the probe looks at the bus: allow events:DescribeEventBus";
                failed.misconfigured().hint(hint).sent
            }
            Err(failed) => advised(failed).sent,
        }
    }
}
