//! The channel `securityhub`: findings of AWS Security Hub in its own format, ASFF.
//!
//! One finding per incident and account, made again with each alert: `BatchImportFindings` replaces
//! what has the same id, so that a retry changes nothing and a finding moves on with its incident.

mod finding;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use reqwest::Method;
use rootwatch_core::text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::finding::Status;
use super::{Behavior, Channel, Facts, Fault, Message, Settings, ThreadMemory, Tools};
use crate::Sent;
use crate::aws::{self, Aws, Call, Failed, Service};

pub use self::finding::{DESCRIPTION_CHARS_MAX, FINDING_BYTES_MAX, TITLE_CHARS_MAX};

/// Findings of one call, and accounts of an incident that get one; the others are counted.
pub const FINDINGS_MAX: usize = 100;
/// Accounts that are called at one time.
const CALLS_AT_ONCE: usize = 8;
/// Accounts whose credentials are kept.
const ACCOUNTS_KEPT_MAX: usize = 1_000;
/// What stands for the account in `role`.
const PLACEHOLDER: &str = "{account}";

/// Imports findings into AWS Security Hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Account id of the Security Hub that receives the findings: the hub's own account. With
    /// `{account}` in `role`, it receives only alerts without an account: tests, digests, delivery
    /// outages.
    pub account: String,
    /// Region of Security Hub.
    pub region: String,
    /// ARN of a role to assume. With `{account}` in it, each finding goes to the account that it
    /// concerns: `arn:aws:iam::{account}:role/rootwatch-securityhub`. Without `role`, all findings
    /// go to `account`.
    #[serde(default)]
    pub role: Option<String>,
    /// Also set the workflow status of a finding: notified, resolved, new again.
    #[serde(default = "yes")]
    pub set_workflow: bool,
    /// Custom Security Hub endpoint: an interface VPC endpoint, or LocalStack for tests. May be
    /// private and use `http`.
    #[serde(default)]
    pub endpoint_url: Option<String>,
}

fn yes() -> bool {
    true
}

impl Settings for Config {
    const BEHAVIOR: Behavior = Behavior { is_chat: false, rate_per_minute: 0 };
    const FACTS: Facts = Facts {
        about: "Imports one finding per incident and account into AWS Security Hub, in ASFF, and \
                updates it with each alert. When the incident closes, the finding is archived and \
                resolved. Setup: enable Security Hub in the region. Findings with the default \
                product ARN must be imported from their own account: either all go to `account`, \
                or the channel assumes a role in each account. The role needs \
                `securityhub:BatchImportFindings`, and `securityhub:BatchUpdateFindings` for the \
                workflow; the hub needs `sts:AssumeRole` on it. A test becomes a sample, archived \
                at once.",
        limits: &[
            ("a finding", "240 KB"),
            ("title", "256 characters"),
            ("description", "1,024 characters"),
            ("accounts of an incident", "100 get a finding; the others are counted"),
        ],
        answers: &[
            ("200 with `FailedCount` 0", "delivered"),
            (
                "200 with findings that failed",
                "`InternalError` and throttling are retried, other errors are permanent failures",
            ),
            ("`LimitExceededException`, 408, 429, 500 and above, no answer", "retried"),
            (
                "`InvalidAccessException`, `AccessDeniedException`",
                "permanent failure: Security Hub is not enabled, or the role lacks a permission",
            ),
            ("the workflow update is rejected", "delivered; the receipt names the rejection"),
        ],
        repeats: "A repeated finding replaces itself: its id consists of incident and account.",
        probe: "Checks that Security Hub is enabled in `account` and `region`, with \
                `securityhub:DescribeHub`; imports nothing. Roles in other accounts are not \
                checked.",
    };

    fn example() -> Self {
        Self {
            account: "123456789012".to_owned(),
            region: "eu-west-1".to_owned(),
            role: Some("arn:aws:iam::{account}:role/rootwatch-securityhub".to_owned()),
            set_workflow: true,
            endpoint_url: None,
        }
    }

    fn render(&self, message: &Message<'_>) -> Vec<u8> {
        let bodies: Vec<String> =
            self.batches(message).into_iter().map(|(_, findings)| body(&findings)).collect();
        bodies.join("\n").into_bytes()
    }

    fn problems(&self) -> Vec<Fault> {
        let mut faults = aws::problems(Some(&self.region), self.endpoint_url.as_deref(), None);
        if !aws::is_account(&self.account) {
            faults.push(("account", "an account has twelve digits".to_owned()));
        }
        let role = self.role.as_ref().map(|role| role.replace(PLACEHOLDER, "123456789012"));
        faults.extend(role.and_then(|role| aws::role_fault(&role)).map(|fault| ("role", fault)));
        faults
    }

    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        let endpoint = self.endpoint_url.as_deref();
        let aws = Aws::new(tools.aws.clone(), Some(&self.region), endpoint, None)?;
        Ok(Box::new(SecurityHub { aws, config: self.clone(), accounts: Mutex::default() }))
    }
}

impl Config {
    fn is_per_account(&self) -> bool {
        self.role.as_ref().is_some_and(|role| role.contains(PLACEHOLDER))
    }

    /// What is sent: by account that is called, its findings.
    fn batches(&self, message: &Message<'_>) -> Vec<(String, Vec<Value>)> {
        let accounts: Vec<&str> = message
            .alert
            .incident()
            .map(|brief| brief.accounts.iter().map(|account| account.id.as_str()).collect())
            .unwrap_or_default();
        let accounts: Vec<&str> =
            accounts.into_iter().filter(|account| aws::is_account(account)).collect();
        let left_out = accounts.len().saturating_sub(FINDINGS_MAX);
        let find = |home: &str, about: Option<&str>| {
            finding::render(&self.region, home, about, left_out, message)
        };
        if accounts.is_empty() {
            return vec![(self.account.clone(), vec![find(&self.account, None)])];
        }
        let accounts = accounts.into_iter().take(FINDINGS_MAX);
        if self.is_per_account() {
            return accounts.map(|one| (one.to_owned(), vec![find(one, Some(one))])).collect();
        }
        vec![(self.account.clone(), accounts.map(|one| find(&self.account, Some(one))).collect())]
    }
}

fn body(findings: &[Value]) -> String {
    json!({ "Findings": findings }).to_string()
}

#[derive(Debug)]
struct SecurityHub {
    aws: Aws,
    config: Config,
    /// By account, with the credentials of its role.
    accounts: Mutex<HashMap<String, Aws>>,
}

/// What a refusal asks for.
fn advised(failed: Failed) -> Failed {
    match failed.code.as_str() {
        "InvalidAccessException" => {
            failed.misconfigured().hint("enable Security Hub in that account and region")
        }
        "AccessDeniedException" => failed
            .misconfigured()
            .hint("allow securityhub:BatchImportFindings, and call from the finding's own account"),
        _ => failed,
    }
}

/// An answer of success can hold failures.
fn read(answer: &str, count: usize) -> Result<(), Sent> {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let failed = answer["FailedFindings"].as_array().cloned().unwrap_or_default();
    let results = failed.iter().map(|one| {
        let text = |key: &str| one[key].as_str().unwrap_or_default();
        let id = text::cap(text("Id"), 80);
        (id, advised(Failed::of_entry(text("ErrorCode"), text("ErrorMessage"))).sent)
    });
    let results: Vec<(String, Sent)> = results.collect();
    if !results.is_empty() {
        return Err(Sent::together(results));
    }
    let counted = answer["SuccessCount"].as_u64() == Some(count as u64);
    if counted && answer["FailedCount"].as_u64() == Some(0) {
        return Ok(());
    }
    let error =
        format!("the answer does not say that {} came in", text::count(count as u64, "finding"));
    Err(Sent::RetryAfter { after: None, error })
}

impl SecurityHub {
    fn of_account(&self, account: &str) -> Aws {
        let Some(role) = &self.config.role else { return self.aws.clone() };
        let mut kept = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= ACCOUNTS_KEPT_MAX && !kept.contains_key(account) {
            kept.clear();
        }
        let role = role.replace(PLACEHOLDER, account);
        kept.entry(account.to_owned()).or_insert_with(|| self.aws.as_role(&role)).clone()
    }

    /// One account: its findings, then their workflow.
    async fn import(&self, account: String, findings: Vec<Value>, message: &Message<'_>) -> Sent {
        let aws = self.of_account(&account);
        let call = Call::rest(
            Service::SECURITY_HUB,
            Method::POST,
            "/findings/import",
            body(&findings).into_bytes(),
        );
        let answer = match aws.call(&call, message.now).await {
            Ok(answer) => answer.body,
            Err(failed) => return advised(failed).sent,
        };
        if let Err(sent) = read(&answer, findings.len()) {
            return sent;
        }
        let receipt = text::count(findings.len() as u64, "finding");
        match Status::of(message.alert).workflow_change() {
            Some(workflow) if self.config.set_workflow => {
                match set_workflow(&aws, &findings, workflow, message.now).await {
                    Ok(()) => Sent::Delivered { receipt: format!("{receipt}, {workflow}") },
                    Err(sent @ Sent::RetryAfter { .. }) => sent,
                    Err(sent) => {
                        let error = sent.error().unwrap_or_default();
                        let receipt = format!("{receipt}; the workflow is not {workflow}: {error}");
                        Sent::Delivered { receipt }
                    }
                }
            }
            _ => Sent::Delivered { receipt },
        }
    }
}

/// `BatchImportFindings` cannot change the workflow of a finding that is there.
async fn set_workflow(
    aws: &Aws,
    findings: &[Value],
    workflow: &str,
    now: Timestamp,
) -> Result<(), Sent> {
    let identifiers: Vec<Value> = findings
        .iter()
        .map(|one| json!({ "Id": one["Id"], "ProductArn": one["ProductArn"] }))
        .collect();
    let body = json!({ "FindingIdentifiers": identifiers, "Workflow": { "Status": workflow } });
    let path = "/findings/batchupdate";
    let call =
        Call::rest(Service::SECURITY_HUB, Method::PATCH, path, body.to_string().into_bytes());
    let answer = aws.call(&call, now).await.map_err(|failed| failed.sent)?;
    let answer: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let Some(left) = answer["UnprocessedFindings"].as_array() else {
        let error = "the answer does not say what was set".to_owned();
        return Err(Sent::RetryAfter { after: None, error });
    };
    let results: Vec<(String, Sent)> = left
        .iter()
        .map(|one| {
            let text = |key: &str| one[key].as_str().unwrap_or_default();
            let id = text::cap(one["FindingIdentifier"]["Id"].as_str().unwrap_or_default(), 80);
            let failed = Failed::of_entry(text("ErrorCode"), text("ErrorMessage"));
            // What was imported a moment ago may not be found yet.
            let is_later =
                matches!(failed.code.as_str(), "ConcurrentUpdateError" | "FindingNotFound");
            (id, if is_later { failed.retried().sent } else { failed.sent })
        })
        .collect();
    if results.is_empty() { Ok(()) } else { Err(Sent::together(results)) }
}

#[async_trait]
impl Channel for SecurityHub {
    async fn send(&self, message: &Message<'_>, _: &ThreadMemory<'_>) -> Sent {
        let batches = self.config.batches(message);
        let is_one = batches.len() == 1;
        let calls = batches.into_iter().map(|(account, findings)| async {
            (account.clone(), self.import(account, findings, message).await)
        });
        let calls: Vec<_> = calls.collect();
        let mut results: Vec<(String, Sent)> =
            futures_util::stream::iter(calls).buffered(CALLS_AT_ONCE).collect().await;
        match results.pop() {
            Some((_, sent)) if is_one => sent,
            Some(last) => {
                results.push(last);
                Sent::together(results)
            }
            None => Sent::Rejected { error: "there is nothing to import".to_owned() },
        }
    }

    async fn probe(&self, now: Timestamp) -> Sent {
        let call = Call::rest(Service::SECURITY_HUB, Method::GET, "/accounts", Vec::new());
        match self.of_account(&self.config.account).call(&call, now).await {
            Ok(answer) => {
                let answer: Value = serde_json::from_str(&answer.body).unwrap_or_default();
                match answer["HubArn"].as_str() {
                    Some(arn) => {
                        Sent::Delivered { receipt: format!("{} is enabled", text::cap(arn, 200)) }
                    }
                    None => Sent::RetryAfter {
                        after: None,
                        error: "the answer names no hub: it does not come from Security Hub"
                            .to_owned(),
                    },
                }
            }
            Err(failed) if failed.code == "AccessDeniedException" => {
                let hint = "the probe asks for the hub: allow securityhub:DescribeHub";
                failed.misconfigured().hint(hint).sent
            }
            Err(failed) => advised(failed).sent,
        }
    }
}
