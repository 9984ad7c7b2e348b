//! Classify, never drop: how was the root user involved in a record, and why do we say so.
//!
//! Keyed on `userIdentity.type` and `sessionContext`, never on a name or on an ARN that merely
//! contains `root`: IAM users and roles may be named so, and policies hold root ARNs. `invokedBy`,
//! `readOnly`, `errorCode` and the address `AWS Internal` classify and describe; they exclude
//! nothing. The shapes and their sources are listed in `fixtures/cloudtrail/README.md`.

use crate::finding::{Mfa, Outcome, Reason, RootUse};
use crate::record::{Record, text_at};

/// How the root user was involved in a record, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The class.
    pub root_use: RootUse,
    /// Why this class; empty only for [`RootUse::No`].
    pub reasons: Vec<Reason>,
}

/// Sign-in actions that only the root user has, by the vendor documentation of the rules that
/// other products ship for them; AWS publishes no example of their records.
pub const ROOT_SIGN_IN_ACTIONS: [&str; 4] =
    ["PasswordRecoveryRequested", "PasswordRecoveryCompleted", "PasswordUpdated", "EmailUpdated"];

/// Account and billing actions that usually only the root user takes, from the AWS Billing user
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

/// Judges one record.
#[must_use]
pub fn judge(record: &Record<'_>) -> Judgement {
    let identity = &record.identity;
    let kind = identity.kind.as_deref();
    let arn_says_root = kind.is_none() && identity.arn.as_deref().is_some_and(is_root_arn);
    let is_root = kind.is_some_and(|kind| kind.eq_ignore_ascii_case("Root")) || arn_says_root;
    let is_service_event = record
        .event_type
        .as_deref()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("AwsServiceEvent"));

    if record.is_from("sts") && record.is_named("AssumeRoot") {
        return judgement(
            RootUse::Privileged,
            "assume_root",
            "asked for a privileged root session in a member account",
        );
    }
    if identity.session.assumed_root == Some(true) && !is_service_event {
        return judgement(
            RootUse::Privileged,
            "assumed_root",
            "called in a privileged root session (sessionContext.assumedRoot)",
        );
    }
    if is_root {
        if is_service_event {
            return judgement(
                RootUse::OnBehalf,
                "service_event",
                "an AWS service event, not a call by a person",
            );
        }
        return match identity.invoked_by.as_deref() {
            Some(service) if !is_console_proxy(service) => judgement(
                RootUse::OnBehalf,
                "invoked_by_service",
                format!("{service} called on behalf of the root user"),
            ),
            Some(_) => judgement(
                RootUse::Direct,
                "root_by_console_proxy",
                "the root user called through the console's own proxy",
            ),
            None if arn_says_root => judgement(
                RootUse::Direct,
                "root_arn",
                "the record states no identity type, but exactly a root ARN",
            ),
            None => judgement(RootUse::Direct, "root_identity", "the root user itself called"),
        };
    }
    if identity.session.issuer_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("Root"))
    {
        return judgement(
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
        return judgement(RootUse::Possible, code, text);
    }
    Judgement { root_use: RootUse::No, reasons: Vec::new() }
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

fn judgement(
    root_use: RootUse,
    code: &'static str,
    text: impl Into<std::borrow::Cow<'static, str>>,
) -> Judgement {
    Judgement { root_use, reasons: vec![Reason::new(code, text)] }
}

/// `invokedBy: signin.amazonaws.com` is how older console pages passed on what a person did.
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
    partition_ok
        && rest.strip_suffix(":root").is_some_and(|account| {
            account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit())
        })
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

/// Whether the call came through: an error code, an error message or a sign-in answer other than
/// success makes it a failure.
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

/// True when the error says that a policy or a missing permission stopped the call.
#[must_use]
pub fn is_denied(error_code: &str) -> bool {
    let code = error_code.rsplit('.').next().unwrap_or(error_code);
    matches!(
        code,
        "AccessDenied"
            | "AccessDeniedException"
            | "AccessDeniedFault"
            | "UnauthorizedOperation"
            | "UnauthorizedAccess"
            | "NotAuthorized"
            | "NotAuthorizedException"
            | "AuthorizationError"
            | "AuthorizationErrorException"
            | "Forbidden"
            | "ForbiddenException"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(json: &str) -> RootUse {
        judge(&Record::parse(json).expect("a record")).root_use
    }

    #[test]
    fn type_root_is_direct_in_any_ascii_case_and_partition() {
        assert_eq!(judged(r#"{"userIdentity":{"type":"Root"},"eventName":"X"}"#), RootUse::Direct);
        assert_eq!(judged(r#"{"userIdentity":{"type":"ROOT"},"eventName":"X"}"#), RootUse::Direct);
        assert_eq!(
            judged(r#"{"userIdentity":{"arn":"arn:aws-us-gov:iam::111122223333:root"}}"#),
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
            assert_eq!(judged(&json), RootUse::No, "{identity}");
        }
    }

    #[test]
    fn a_service_that_calls_for_root_is_on_behalf_but_the_console_proxy_is_a_person() {
        let with = |service: &str| {
            judged(&format!(
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
        assert_eq!(judged(untyped), RootUse::Possible);
        assert_eq!(judged(&untyped.replace("\"eventName\"", "\"unnamed\"")), RootUse::Possible);
        assert_eq!(
            judged(&untyped.replace("{\"accountId\"", "{\"type\":\"IAMUser\",\"accountId\"")),
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
}
