//! Findings: our judgement on one record, in plain words.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How the root user was involved in a record.
///
/// Every record gets one of these; nothing is dropped. The table of what counts as which is in
/// `ARCHITECTURE.md`, the code in [`crate::judge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootUse {
    /// The root user itself, by password or access key.
    Direct,
    /// A privileged session: `sts:AssumeRoot`, or what was done with the session that it gave.
    Privileged,
    /// A session that the root user issued (`GetFederationToken`, `GetSessionToken`).
    Derived,
    /// An AWS service acted for the root user.
    OnBehalf,
    /// An action that usually only the root user can do, in a record that states no identity type.
    Possible,
    /// No root use; a finding only when a rule says so.
    No,
}

impl RootUse {
    /// All values, in the order of the documentation.
    pub const ALL: [Self; 6] =
        [Self::Direct, Self::Privileged, Self::Derived, Self::OnBehalf, Self::Possible, Self::No];

    /// The name used in output, filters and rules: `direct`, `on_behalf` …
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Privileged => "privileged",
            Self::Derived => "derived",
            Self::OnBehalf => "on_behalf",
            Self::Possible => "possible",
            Self::No => "no",
        }
    }
}

impl fmt::Display for RootUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How bad a finding or an incident is. Ordered: `Informational` is the least.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth keeping, not worth telling.
    #[default]
    Informational,
    /// Look at it in the week's review.
    Low,
    /// Look at it today.
    Medium,
    /// Look at it now.
    High,
    /// Get up: the account may be lost.
    Critical,
}

impl Severity {
    /// All values, from the least to the worst.
    pub const ALL: [Self; 5] =
        [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The name used in output, filters and rules.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Whether multi-factor authentication was used. Three values: *not stated* is not *not used*.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mfa {
    /// The record says that MFA was used.
    Used,
    /// The record says that MFA was not used.
    NotUsed,
    /// The record says nothing.
    #[default]
    NotStated,
}

impl Mfa {
    /// The name used in output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::NotUsed => "not_used",
            Self::NotStated => "not_stated",
        }
    }
}

/// Whether the call came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The call was carried out.
    Success,
    /// The call failed or was denied.
    Failure,
}

impl Outcome {
    /// The name used in output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

/// Whether a task needs the root user, by the list that AWS publishes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NeedsRoot {
    /// On AWS's published list of tasks that require root user credentials.
    Yes,
    /// A role or an IAM user could have done it.
    No,
    /// The question does not arise (a sign-in), or nobody knows.
    #[default]
    Unknown,
}

/// One reason for a judgement or for a severity: a stable code for programs, words for people.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reason {
    /// Stable, `snake_case`: `no_mfa`, `long_term_key`, `denied` …
    pub code: Cow<'static, str>,
    /// Plain words, lower case, no full stop.
    pub text: Cow<'static, str>,
}

/// Code of the reason on a finding for which some rules could not be decided: they may match or not.
pub const RULES_UNDECIDED: &str = "rules_undecided";

impl Reason {
    /// A reason with a stable code and plain words.
    pub fn new(code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Cow::Borrowed(code), text: text.into() }
    }
}

/// What names a finding once and for all: two records with equal keys are the same record,
/// delivered twice.
///
/// The recipient account and the event id suffice for what CloudTrail delivers. Source, name and
/// time are part of the key because published examples reuse ids, and because a record without an
/// event id (event version 1.00, some documentation) still needs a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FindingKey(pub String);

impl fmt::Display for FindingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What ties a finding to the others of its session. Every field is as the record states it;
/// [`crate::correlate`] decides what they mean together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionFacts {
    /// `sessionContext.signInSessionArn`.
    pub sign_in_session_arn: Option<String>,
    /// `sessionContext.attributes.creationDate`.
    pub created_at: Option<Timestamp>,
    /// `userIdentity.arn`.
    pub principal_arn: Option<String>,
    /// `userIdentity.type`, as written.
    pub principal_type: Option<String>,
    /// True when `accessKeyId` is a long-term key (`AKIA…`).
    pub long_term_key: bool,
    /// The access key that the response returned (`CreateAccessKey`, `AssumeRoot`,
    /// `GetFederationToken`, `GetSessionToken`).
    pub issued_key_id: Option<String>,
    /// For `AssumeRoot`: the account whose root user was assumed.
    pub target_account_id: Option<String>,
    /// For `AssumeRoot`: the name of the task policy, `IAMAuditRootUserCredentials` …
    pub task_policy: Option<String>,
    /// `sessionContext.assumedRoot` is true.
    pub assumed_root: bool,
    /// A sign-in, failed sign-in, MFA check or password recovery: happens before a session has keys.
    pub sign_in: bool,
    /// The service that acted for the root user.
    pub invoked_by: Option<String>,
}

/// CloudTrail's note that a record is late or corrects an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addendum {
    /// `DELIVERY_DELAY`, `SERVICE_OUTAGE` or `UPDATED_DATA`.
    pub reason: String,
    /// For `UPDATED_DATA`: the event that this record corrects.
    pub original_event_id: Option<String>,
    /// For `UPDATED_DATA`: which fields changed.
    pub updated_fields: Option<String>,
}

/// Our judgement on one record. Owned, so that it can outlive the file that it came from.
///
/// Texts that whoever used the credentials could choose (`user_agent`, `error_message`, names in
/// `target`) are kept as they came, cut at a bound: escape them where they are rendered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Names this finding; equal keys are repeats.
    pub key: FindingKey,
    /// `eventID`; `None` where the record states none.
    pub event_id: Option<String>,
    /// `eventTime`; `None` where the record states none that can be read.
    pub event_time: Option<Timestamp>,
    /// Account of the root user; the recipient where the record names none. Twelve digits.
    pub account_id: Option<String>,
    /// `recipientAccountId`, dashes removed.
    pub recipient_account_id: Option<String>,
    /// `awsRegion`.
    pub region: Option<String>,
    /// `eventSource`, such as `signin.amazonaws.com`.
    pub event_source: Option<String>,
    /// `eventName`, such as `ConsoleLogin`.
    pub event_name: Option<String>,
    /// How the root user was involved.
    pub root_use: RootUse,
    /// How bad this record is by itself.
    pub severity: Severity,
    /// Ids of the rules that speak, the one that gave the title first.
    pub rules: Vec<String>,
    /// One line for people.
    pub title: String,
    /// What was done, short enough for a timeline: `signed in, no MFA`.
    pub did: String,
    /// Why this judgement and this severity.
    pub reasons: Vec<Reason>,
    /// Whether the call came through.
    pub outcome: Outcome,
    /// `errorCode`.
    pub error_code: Option<String>,
    /// `errorMessage`.
    pub error_message: Option<String>,
    /// Whether MFA was used.
    pub mfa: Mfa,
    /// `sourceIPAddress`: an address, a service's name or `AWS Internal`.
    pub source_ip: Option<String>,
    /// `userAgent`.
    pub user_agent: Option<String>,
    /// `userIdentity.accessKeyId`.
    pub access_key_id: Option<String>,
    /// `readOnly`.
    pub read_only: Option<bool>,
    /// Whether the task needs the root user.
    pub needs_root: NeedsRoot,
    /// Who did it, when it was not the root user itself: an ARN or a service.
    pub actor: Option<String>,
    /// What it was done to, where the parameters say: a user, key, bucket, account or region.
    pub target: Option<String>,
    /// `sharedEventID`.
    pub shared_event_id: Option<String>,
    /// `addendum`.
    pub addendum: Option<Addendum>,
    /// What ties this finding to a session.
    pub session: SessionFacts,
}

impl Finding {
    /// The reason that names the rules that could not be decided on this record; `None` when all
    /// were.
    #[must_use]
    pub fn rules_undecided(&self) -> Option<&Reason> {
        self.reasons.iter().find(|reason| reason.code == RULES_UNDECIDED)
    }
}
