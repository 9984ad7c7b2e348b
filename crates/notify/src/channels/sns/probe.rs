//! What can be known of a topic without publishing to it.

use jiff::Timestamp;
use rootwatch_core::text;
use serde_json::{Value, json};

use super::Sns;
use crate::Sent;
use crate::aws::query::{Form, members, pairs};
use crate::aws::{Arn, Call, Failed, Service};

/// Pages of a hundred subscriptions that are read.
const PAGES_MAX: usize = 10;
/// Subscribers that are named.
const NAMED_MAX: usize = 5;

impl Sns {
    /// Topic, key and subscribers.
    pub(super) async fn look(&self, now: Timestamp) -> Result<Sent, Failed> {
        let topic = &self.config.topic;
        let form = Form::sns("GetTopicAttributes").with("TopicArn", topic);
        let answer = self.ask(form.into_bytes(), now).await.map_err(|failed| {
            match failed.code.as_str() {
                "NotFound" | "NotFoundException" => super::advised(failed),
                "AuthorizationError" | "AccessDenied" => failed
                    .misconfigured()
                    .hint("the probe looks at the topic: allow sns:GetTopicAttributes"),
                _ => failed,
            }
        })?;
        let attributes = pairs(&answer);
        if attributes.is_empty() {
            let error = "the answer holds no attributes: it does not come from SNS".to_owned();
            return Err(Failed::of(Sent::RetryAfter { after: None, error }));
        }
        let attribute = |name: &str| {
            let found = attributes.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
        };
        let mut told = vec!["the topic is there".to_owned()];
        if let Some(key) = attribute("KmsMasterKeyId") {
            told.push(self.key(key, now).await?);
        }
        let (confirmed, told_of) = self.subscribers(now).await?;
        told.push(told_of);
        if confirmed == Some(0) {
            let error = format!("nobody hears what is published: {}", told.join("; "));
            return Ok(Sent::Misconfigured { error });
        }
        Ok(Sent::Delivered { receipt: told.join("; ") })
    }

    /// What is known of the key that encrypts the topic.
    async fn key(&self, key: &str, now: Timestamp) -> Result<String, Failed> {
        let shown = text::cap(key, 100);
        if key == "alias/aws/sns" {
            return Ok("encrypted with AWS's own key for SNS".to_owned());
        }
        let ask = |target: &'static str, body: Value| {
            let call = Call::json(Service::KMS, target, body.to_string().into_bytes());
            async move { self.aws.call(&call, now).await }
        };
        let described = match ask("TrentService.DescribeKey", json!({ "KeyId": key })).await {
            Ok(answer) => answer.body,
            Err(failed) if matches!(failed.sent, Sent::Misconfigured { .. }) => {
                return Ok(format!("encrypted by {shown}: not allowed to look at the key"));
            }
            Err(failed) if failed.code.starts_with("NotFound") => {
                return Err(failed.misconfigured().hint("the topic's key is not there"));
            }
            Err(failed) => return Err(failed),
        };
        let described: Value = serde_json::from_str(&described).unwrap_or_default();
        let about = &described["KeyMetadata"];
        let state = about["KeyState"].as_str().unwrap_or("unknown");
        if state != "Enabled" {
            let state = text::cap(state, 40);
            let error = format!("the topic's key {shown} is not enabled: {state}");
            return Err(Failed::of(Sent::Misconfigured { error }));
        }
        let id = about["KeyId"].as_str().unwrap_or(key);
        let body = json!({ "KeyId": id, "PolicyName": "default" });
        let policy = match ask("TrentService.GetKeyPolicy", body).await {
            Ok(answer) => answer.body,
            Err(failed) if matches!(failed.sent, Sent::Misconfigured { .. }) => {
                return Ok(format!(
                    "encrypted by {shown}, enabled: not allowed to look at its policy"
                ));
            }
            Err(failed) => return Err(failed),
        };
        let policy: Value = serde_json::from_str(&policy).unwrap_or_default();
        let policy = policy["Policy"].as_str().unwrap_or_default();
        let account = Arn::of("sns", &self.config.topic).map(|arn| arn.account).unwrap_or_default();
        Ok(if policy.contains(&format!(":iam::{account}:root")) {
            format!("encrypted by {shown}, enabled, whose policy leaves it to IAM")
        } else {
            format!("encrypted by {shown}, enabled, whose policy must name the hub's role")
        })
    }

    /// How many confirmed; `None` where that cannot be known. And words.
    async fn subscribers(&self, now: Timestamp) -> Result<(Option<usize>, String), Failed> {
        let (mut confirmed, mut pending) = (0, Vec::new());
        let mut token: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut form =
                Form::sns("ListSubscriptionsByTopic").with("TopicArn", &self.config.topic);
            if let Some(token) = &token {
                form = form.with("NextToken", token);
            }
            let answer = match self.ask(form.into_bytes(), now).await {
                Ok(answer) => answer,
                Err(failed) if matches!(failed.sent, Sent::Misconfigured { .. }) => {
                    return Ok((None, "not allowed to look at its subscribers".to_owned()));
                }
                Err(failed) => return Err(failed),
            };
            for member in members(&answer) {
                let text = |name: &str| {
                    let found = member.iter().find(|(key, _)| key == name);
                    found.map(|(_, value)| value.as_str()).unwrap_or_default()
                };
                match text("SubscriptionArn") {
                    "PendingConfirmation" | "pending confirmation" => {
                        let protocol = text::cap(text("Protocol"), 20);
                        pending.push(format!("{} ({protocol})", masked(text("Endpoint"))));
                    }
                    "Deleted" => {}
                    _ => confirmed += 1,
                }
            }
            token = crate::aws::element(&answer, "NextToken").filter(|token| !token.is_empty());
            if token.is_none() {
                break;
            }
        }
        let mut told = text::count(confirmed as u64, "subscriber");
        if token.is_some() {
            told = format!("at least {told}");
        }
        if !pending.is_empty() {
            let more = pending.len().saturating_sub(NAMED_MAX);
            pending.truncate(NAMED_MAX);
            told = format!("{told}; not confirmed yet: {}", pending.join(", "));
            if more > 0 {
                told = format!("{told} and {more} more");
            }
        }
        Ok((Some(confirmed), told))
    }
}

/// `a…@example.com`; of anything else only how it begins.
fn masked(endpoint: &str) -> String {
    let begin = |text: &str, chars: usize| text.chars().take(chars).collect::<String>();
    let text = match endpoint.split_once('@') {
        Some((name, host)) if !endpoint.contains("://") => format!("{}…@{host}", begin(name, 1)),
        _ => match endpoint.split_once("://") {
            // The rest of a URL may be a secret.
            Some((_, rest)) => {
                let host = rest.split(['/', '?']).next().unwrap_or_default();
                begin(host.rsplit('@').next().unwrap_or_default(), 60)
            }
            None if endpoint.starts_with('+') => format!("{}…", begin(endpoint, 5)),
            None => begin(endpoint, 100),
        },
    };
    text::cap(&text, 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_confirmed_is_named_but_not_in_full() {
        assert_eq!(masked("anna.example@example.com"), "a…@example.com");
        assert_eq!(masked("https://hooks.example.com/hush?k=hush"), "hooks.example.com");
        assert_eq!(masked("https://anna:hush@hooks.example.com/"), "hooks.example.com");
        assert_eq!(masked("+12065550147"), "+1206…");
    }
}
