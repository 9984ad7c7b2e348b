//! Classifies records: how the root user was involved, and why. No record is dropped.
//!
//! Decided by `userIdentity.type` and `sessionContext`, never by a name or by an ARN that merely
//! contains `root`: IAM users and roles may have that name, and policies contain root ARNs.
//! `invokedBy`, `readOnly`, `errorCode` and the address `AWS Internal` classify and describe; they
//! exclude nothing. The shapes and their sources are listed in `fixtures/cloudtrail/README.md`.
//!
//! The first row that applies decides:
//!
//! | Class | If | Because |
//! |---|---|---|
//! | `privileged` | the call is `sts:AssumeRoot`, allowed or denied | a role or user requests the root user of another account |
//! | `privileged` | `sessionContext.assumedRoot` is true, and it is not a service event | the type is `Root`, but nobody used the root user's credentials |
//! | `on_behalf` | the identity is the root user, and it is an `AwsServiceEvent` | no person called |
//! | `direct` | the identity is the root user, `invokedBy` is `signin.amazonaws.com` (or `.cn`) | the console's own proxy: a person clicked |
//! | `on_behalf` | the identity is the root user, `invokedBy` is anything else | a service called, perhaps because of an old setup |
//! | `direct` | the identity is the root user | by password or key; read-only, failed and denied calls too |
//! | `derived` | `sessionIssuer.type` is `Root` | the root user issued this session |
//! | `possible` | no type and no ARN, not a service event, and one of ten sign-in or billing actions or an `AwsConsoleAction` | usually only the root user can; the record does not prove it |
//! | `no` | everything else, also a user or role *named* root | a finding only if a rule matches |
//!
//! The identity is the root user if `type` is `Root` in any ASCII case, or if there is no type and the
//! ARN is exactly `arn:<partition>:iam::<12 digits>:root`.
//!
//! This module also decides, for every output, whether MFA was used ([`mfa`]), whether a call
//! succeeded ([`outcome`]) and whether it was denied ([`is_denied`]).

use crate::account::AccountId;
use crate::finding::{Finding, Mfa, Outcome, Reason, RootUse};
use crate::record::{Record, text_at};

/// How the root user was involved in a record, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classification {
    /// The class.
    pub root_use: RootUse,
    /// Why this class; empty only for [`RootUse::No`].
    pub reasons: Vec<Reason>,
}

/// Sign-in actions that only a root user can take, according to the rules that other products ship
/// for them; AWS publishes no example of these records.
pub const ROOT_SIGN_IN_ACTIONS: [&str; 4] =
    ["PasswordRecoveryRequested", "PasswordRecoveryCompleted", "PasswordUpdated", "EmailUpdated"];

/// Account and billing actions that usually only the root user takes. From the AWS Billing user
/// guide ("Logging Billing and Cost Management API calls with AWS CloudTrail").
pub const ROOT_ACCOUNT_ACTIONS: [&str; 6] = [
    "CloseAccount",
    "SetSecurityQuestions",
    "SetIAMAccessPreference",
    "SetAdditionalContacts",
    "SetContactAddress",
    "SetAccountPreferences",
];

/// `eventType` of actions taken on account, billing and tax pages of the console.
pub const CONSOLE_ACTION: &str = "AwsConsoleAction";

/// Classifies one record.
#[must_use]
pub fn classify(record: &Record<'_>) -> Classification {
    let identity = &record.identity;
    let kind = identity.kind.as_deref();
    let arn_says_root = kind.is_none() && identity.arn.as_deref().is_some_and(is_root_arn);
    let is_root = kind.is_some_and(|kind| kind.eq_ignore_ascii_case("Root")) || arn_says_root;
    let is_service_event = record
        .event_type
        .as_deref()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("AwsServiceEvent"));

    if record.is_from("sts") && record.is_named("AssumeRoot") {
        return classified(
            RootUse::Privileged,
            "assume_root",
            "asked for a privileged root session in a member account",
        );
    }
    if identity.session.assumed_root == Some(true) && !is_service_event {
        return classified(
            RootUse::Privileged,
            "assumed_root",
            "called in a privileged root session (sessionContext.assumedRoot)",
        );
    }
    if is_root {
        if is_service_event {
            return classified(
                RootUse::OnBehalf,
                "service_event",
                "an AWS service event, not a call by a person",
            );
        }
        return match identity.invoked_by.as_deref() {
            Some(service) if !is_console_proxy(service) => classified(
                RootUse::OnBehalf,
                "invoked_by_service",
                format!("{service} called on behalf of the root user"),
            ),
            Some(_) => classified(
                RootUse::Direct,
                "root_by_console_proxy",
                "the root user called through the console's own proxy",
            ),
            None if arn_says_root => classified(
                RootUse::Direct,
                "root_arn",
                "the record states no identity type, but exactly a root ARN",
            ),
            None => classified(RootUse::Direct, "root_identity", "the root user itself called"),
        };
    }
    if identity.session.issuer_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("Root"))
    {
        return classified(
            RootUse::Derived,
            "issued_by_root",
            "the session was issued by the root user",
        );
    }
    if kind.is_none()
        && identity.arn.is_none()
        && !is_service_event
        && let Some((code, text)) = usually_root(record)
    {
        return classified(RootUse::Possible, code, text);
    }
    Classification { root_use: RootUse::No, reasons: Vec::new() }
}

/// Without an identity type: is this something that usually only the root user can do?
fn usually_root(record: &Record<'_>) -> Option<(&'static str, &'static str)> {
    let name = record.event_name.as_deref().unwrap_or_default();
    if record.is_from("signin") && ROOT_SIGN_IN_ACTIONS.contains(&name) {
        return Some((
            "root_only_sign_in_action",
            "a sign-in action that only a root user can make; the record states no identity type",
        ));
    }
    if record.event_type.as_deref() == Some(CONSOLE_ACTION)
        || (record.is_from("billingconsole") && ROOT_ACCOUNT_ACTIONS.contains(&name))
    {
        return Some((
            "account_console_action",
            "an account or billing page was used; the record states no identity type",
        ));
    }
    None
}

fn classified(
    root_use: RootUse,
    code: &'static str,
    text: impl Into<std::borrow::Cow<'static, str>>,
) -> Classification {
    Classification { root_use, reasons: vec![Reason::new(code, text)] }
}

/// Older console pages forwarded a person's calls with `invokedBy: signin.amazonaws.com`.
fn is_console_proxy(service: &str) -> bool {
    service.eq_ignore_ascii_case("signin.amazonaws.com")
        || service.eq_ignore_ascii_case("signin.amazonaws.com.cn")
}

/// True for exactly `arn:<partition>:iam::<12 digits>:root`, whatever AWS partition.
#[must_use]
pub fn is_root_arn(arn: &str) -> bool {
    let Some(rest) = arn.strip_prefix("arn:aws") else { return false };
    let Some((partition, rest)) = rest.split_once(":iam::") else { return false };
    let partition_ok = partition.is_empty()
        || (partition.starts_with('-')
            && partition.split('-').skip(1).all(|part| {
                !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase())
            }));
    partition_ok && rest.strip_suffix(":root").is_some_and(AccountId::is_valid)
}

/// Whether multi-factor authentication was used, as far as the record says.
///
/// A sign-in says so in `additionalEventData.MFAUsed`, a session in
/// `sessionContext.attributes.mfaAuthenticated`. A long-term key has no session and says nothing.
#[must_use]
pub fn mfa(record: &Record<'_>) -> Mfa {
    if let Some(word) = text_at(record.additional_event_data, &["MFAUsed"]) {
        if word.eq_ignore_ascii_case("yes") {
            return Mfa::Used;
        }
        if word.eq_ignore_ascii_case("no") {
            return Mfa::NotUsed;
        }
    }
    match record.identity.session.mfa_authenticated {
        Some(true) => Mfa::Used,
        Some(false) => Mfa::NotUsed,
        None => Mfa::NotStated,
    }
}

/// True if the root user itself made the call without MFA, and the record says so: *not stated* is
/// not *not used*. A privileged session has no MFA of its own, and a failed call needs none.
#[must_use]
pub fn lacks_mfa(finding: &Finding) -> bool {
    finding.mfa == Mfa::NotUsed
        && finding.root_use == RootUse::Direct
        && finding.outcome == Outcome::Success
}

/// Whether the call succeeded. An error code, an error message or a failed sign-in response makes it
/// a failure.
#[must_use]
pub fn outcome(record: &Record<'_>) -> Outcome {
    if record.error_code.is_some() || record.error_message.is_some() {
        return Outcome::Failure;
    }
    let answer = record
        .event_name
        .as_deref()
        .filter(|_| record.is_from("signin"))
        .and_then(|name| text_at(record.response_elements, &[name]));
    match answer.as_deref() {
        Some(word) if word.eq_ignore_ascii_case("failure") => Outcome::Failure,
        _ => Outcome::Success,
    }
}

/// True if the error code says that a policy or a missing permission denied the call.
///
/// Services write it in several ways, some with a prefix (`Client.UnauthorizedOperation`) or inside
/// a longer name (`AccessDeniedForDependencyException`).
#[must_use]
pub fn is_denied(error_code: &str) -> bool {
    let code = error_code.rsplit('.').next().unwrap_or(error_code);
    code.contains("AccessDenied")
        || code.contains("UnauthorizedOperation")
        || matches!(
            code,
            "UnauthorizedAccess"
                | "NotAuthorized"
                | "NotAuthorizedException"
                | "AuthorizationError"
                | "AuthorizationErrorException"
                | "Forbidden"
                | "ForbiddenException"
        )
}

/// True if a policy or a missing permission denied the call of this finding.
#[must_use]
pub fn was_denied(finding: &Finding) -> bool {
    finding.error_code.as_deref().is_some_and(is_denied)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class_of(json: &str) -> RootUse {
        classify(&Record::parse(json).expect("a record")).root_use
    }

    #[test]
    fn type_root_is_direct_in_any_ascii_case_and_partition() {
        assert_eq!(
            class_of(r#"{"userIdentity":{"type":"Root"},"eventName":"X"}"#),
            RootUse::Direct
        );
        assert_eq!(
            class_of(r#"{"userIdentity":{"type":"ROOT"},"eventName":"X"}"#),
            RootUse::Direct
        );
        assert_eq!(
            class_of(r#"{"userIdentity":{"arn":"arn:aws-us-gov:iam::111122223333:root"}}"#),
            RootUse::Direct
        );
    }

    #[test]
    fn a_name_or_an_arn_that_contains_root_is_not_the_root_user() {
        for identity in [
            r#"{"type":"IAMUser","userName":"root","arn":"arn:aws:iam::111122223333:user/root"}"#,
            r#"{"type":"AssumedRole","arn":"arn:aws:sts::111122223333:assumed-role/root/x"}"#,
            r#"{"arn":"arn:aws:iam::111122223333:user/root"}"#,
            r#"{"arn":"arn:aws:iam::1111:root"}"#,
            r#"{"arn":"xarn:aws:iam::111122223333:root"}"#,
            r#"{"type":"AWSAccount","arn":"arn:aws:iam::111122223333:root"}"#,
        ] {
            let json = format!(r#"{{"userIdentity":{identity},"eventName":"ListUsers"}}"#);
            assert_eq!(class_of(&json), RootUse::No, "{identity}");
        }
    }

    #[test]
    fn a_service_that_calls_for_root_is_on_behalf_but_the_console_proxy_is_a_person() {
        let with = |service: &str| {
            class_of(&format!(
                r#"{{"userIdentity":{{"type":"Root","invokedBy":"{service}"}},"eventName":"X"}}"#
            ))
        };
        assert_eq!(with("autoscaling.amazonaws.com"), RootUse::OnBehalf);
        assert_eq!(with("AWS Internal"), RootUse::OnBehalf);
        assert_eq!(with("signin.amazonaws.com"), RootUse::Direct);
    }

    #[test]
    fn an_untyped_console_action_is_possible_but_a_typed_one_is_not() {
        let untyped = r#"{"userIdentity":{"accountId":"1"},"eventSource":"taxconsole.amazonaws.com",
            "eventName":"CreateCustomerCase","eventType":"AwsConsoleAction"}"#;
        assert_eq!(class_of(untyped), RootUse::Possible);
        assert_eq!(class_of(&untyped.replace("\"eventName\"", "\"unnamed\"")), RootUse::Possible);
        assert_eq!(
            class_of(&untyped.replace("{\"accountId\"", "{\"type\":\"IAMUser\",\"accountId\"")),
            RootUse::No
        );
    }

    #[test]
    fn mfa_that_is_not_stated_is_not_no_mfa() {
        let mfa_of = |json: &str| mfa(&Record::parse(json).expect("a record"));
        assert_eq!(mfa_of(r#"{"additionalEventData":{"MFAUsed":"YES"}}"#), Mfa::Used);
        assert_eq!(mfa_of(r#"{"additionalEventData":{"MFAUsed":"No"}}"#), Mfa::NotUsed);
        assert_eq!(mfa_of(r#"{"additionalEventData":null}"#), Mfa::NotStated);
    }

    #[test]
    fn every_way_in_which_services_write_denied_is_denied_and_other_failures_are_not() {
        for code in [
            "AccessDenied",
            "AccessDeniedException",
            "AccessDeniedFault",
            "AccessDeniedForDependencyException",
            "Client.UnauthorizedOperation",
            "UnauthorizedAccess",
            "NotAuthorizedException",
            "AuthorizationError",
            "Forbidden",
        ] {
            assert!(is_denied(code), "{code}");
        }
        for code in ["Throttling", "NoSuchEntity", "Failed authentication", "InvalidInput", ""] {
            assert!(!is_denied(code), "{code}");
        }
    }
}
