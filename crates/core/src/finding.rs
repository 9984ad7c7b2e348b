//! Findings: root use, or a rule match, in one record.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How the root user was involved in a record.
///
/// Every record gets one of these classes; [`crate::classify`] decides which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootUse {
    /// The root user itself, by password or access key.
    Direct,
    /// A privileged session: a call of `sts:AssumeRoot`, or a call in the session that it opened.
    Privileged,
    /// A session that the root user issued (`GetFederationToken`, `GetSessionToken`).
    Derived,
    /// An AWS service acted for the root user.
    OnBehalf,
    /// An action that usually only the root user can do, in a record that states no identity type.
    Possible,
    /// No root use; a finding only if a rule matches.
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

/// How severe a finding or an incident is. Ordered: `Informational` is the least.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth keeping, not worth an alert.
    #[default]
    Informational,
    /// Review it this week.
    Low,
    /// Review it today.
    Medium,
    /// Respond now.
    High,
    /// Respond now, at any hour: the account may be lost.
    Critical,
}

impl Severity {
    /// All values, from the least to the worst.
    pub const ALL: [Self; 5] =
        [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// One step more severe.
    #[must_use]
    pub fn raised(self) -> Self {
        match self {
            Self::Informational => Self::Low,
            Self::Low => Self::Medium,
            Self::Medium => Self::High,
            Self::High | Self::Critical => Self::Critical,
        }
    }

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
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
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

/// Whether the call succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum NeedsRoot {
    /// On AWS's published list of tasks that require root user credentials.
    Yes,
    /// A role or an IAM user could have done it.
    No,
    /// Not applicable (a sign-in), or unknown.
    #[default]
    Unknown,
}

/// One reason for a class or a severity: a stable code for programs, a text for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Reason {
    /// Stable, `snake_case`: `no_mfa`, `long_term_key`, `denied` …
    pub code: Cow<'static, str>,
    /// Lower case, no full stop.
    pub text: Cow<'static, str>,
}

/// Code of the reason on a finding with undecided rules: they may match or not.
pub const RULES_UNDECIDED: &str = "rules_undecided";

impl Reason {
    /// A reason with a stable code and a text.
    pub fn new(code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Cow::Borrowed(code), text: text.into() }
    }
}

/// Identifies a finding: two records with equal keys are the same record, delivered twice.
///
/// The recipient account and the event id are unique for records that CloudTrail delivers. Source, name and
/// time are part of the key because published examples reuse ids, and because a record without an
/// event id (event version 1.00, some documentation) still needs a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FindingKey(pub String);

impl fmt::Display for FindingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The facts that link a finding to the others of its session, as the record states them.
/// [`crate::correlate`] evaluates them together.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Addendum {
    /// `DELIVERY_DELAY`, `SERVICE_OUTAGE` or `UPDATED_DATA`.
    pub reason: String,
    /// For `UPDATED_DATA`: the event that this record corrects.
    pub original_event_id: Option<String>,
    /// For `UPDATED_DATA`: which fields changed.
    pub updated_fields: Option<String>,
}

/// Root use, or a rule match, in one record. Owned, so that it can outlive the file it came from.
///
/// Texts that the user of the credentials could choose (`user_agent`, `error_message`, names in
/// `target`) are kept as they are, cut at a limit: escape them when rendering.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// Identifies this finding; equal keys are repeats.
    pub key: FindingKey,
    /// `eventID`; `None` if the record has none.
    pub event_id: Option<String>,
    /// `eventTime`; `None` if the record has none that can be parsed.
    pub event_time: Option<Timestamp>,
    /// Account of the root user; the recipient if the record names none. Twelve digits.
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
    /// How severe this record is by itself.
    pub severity: Severity,
    /// Ids of the matching rules; the first one gave the title.
    pub rules: Vec<String>,
    /// One line for people.
    pub title: String,
    /// What was done, short enough for a timeline: `signed in, no MFA`.
    pub did: String,
    /// Reasons for the class and the severity.
    pub reasons: Vec<Reason>,
    /// Whether the call succeeded.
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
    /// The caller, if that is not the root user: an ARN or a service.
    pub actor: Option<String>,
    /// The resource that the parameters name: a user, key, bucket, account or region.
    pub target: Option<String>,
    /// `sharedEventID`.
    pub shared_event_id: Option<String>,
    /// `addendum`.
    pub addendum: Option<Addendum>,
    /// The facts that link this finding to a session.
    pub session: SessionFacts,
}

/// True for an IP address; false for a service's name and `AWS Internal`.
#[must_use]
pub fn is_client_address(source_ip: &str) -> bool {
    source_ip.parse::<std::net::IpAddr>().is_ok()
}

impl Finding {
    /// The reason that names the rules that could not be decided on this record; `None` when all
    /// were.
    #[must_use]
    pub fn rules_undecided(&self) -> Option<&Reason> {
        self.reasons.iter().find(|reason| reason.code == RULES_UNDECIDED)
    }
}
