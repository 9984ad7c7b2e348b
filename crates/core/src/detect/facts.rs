//! What a finding takes over from its record: key, session, account, actor, target.

use crate::account::AccountId;
use crate::classify::ROOT_SIGN_IN_ACTIONS;
use crate::detect::texts::{cut, owned, task_policy};
use crate::finding::{FindingKey, RootUse, SessionFacts};
use crate::fnv;
use crate::record::{Record, text_at};

/// See [`FindingKey`].
pub(super) fn key(record: &Record<'_>) -> FindingKey {
    let part = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let id = match record.event_id.as_deref() {
        Some(id) => id.to_owned(),
        None => format!("fnv-{:016x}", fnv::hash(record.json.as_bytes())),
    };
    let account = record.recipient_account_id.as_deref().or(record.identity.account_id.as_deref());
    FindingKey(format!(
        "{}/{}/{}/{}/{}",
        part(account),
        id,
        part(record.service()),
        part(record.event_name.as_deref()),
        record.event_time.map_or_else(|| "-".to_owned(), |at| at.to_string()),
    ))
}

/// The facts that link a finding to others of its session.
pub(super) fn session_facts(record: &Record<'_>) -> SessionFacts {
    let identity = &record.identity;
    let session = &identity.session;
    let named = |name: &str| record.is_named(name);
    let issued_key_id = if record.response_elements.is_none() {
        None
    } else if named("CreateAccessKey") {
        text_at(record.response_elements, &["accessKey", "accessKeyId"])
    } else if named("AssumeRoot") || named("GetFederationToken") || named("GetSessionToken") {
        text_at(record.response_elements, &["credentials", "accessKeyId"])
    } else {
        None
    };
    let is_assume_root = named("AssumeRoot");
    let ask = |path: &[&str]| {
        if is_assume_root { text_at(record.request_parameters, path) } else { None }
    };
    SessionFacts {
        sign_in_session_arn: owned(session.sign_in_session_arn.as_deref()),
        created_at: session.created_at,
        principal_arn: owned(identity.arn.as_deref()),
        principal_type: owned(identity.kind.as_deref()),
        long_term_key: identity.access_key_id.as_deref().is_some_and(|key| key.starts_with("AKIA")),
        issued_key_id,
        target_account_id: ask(&["targetPrincipal"]).as_deref().and_then(account_in),
        task_policy: is_assume_root.then(|| task_policy(record)).flatten(),
        assumed_root: session.assumed_root == Some(true),
        sign_in: record.is_from("signin")
            && record.event_name.as_deref().is_some_and(|name| {
                matches!(name, "ConsoleLogin" | "CheckMfa" | "ExternalIdPDirectoryLogin")
                    || ROOT_SIGN_IN_ACTIONS.contains(&name)
            }),
        invoked_by: owned(identity.invoked_by.as_deref()),
    }
}

fn account_in(principal: &str) -> Option<String> {
    AccountId::in_principal(principal).map(String::from)
}

/// The account of the root user; the recipient if the record names none.
pub(super) fn account_of(
    record: &Record<'_>,
    root_use: RootUse,
    session: &SessionFacts,
) -> Option<String> {
    let identity = &record.identity;
    let stated = match root_use {
        RootUse::Privileged if session.target_account_id.is_some() => {
            session.target_account_id.clone()
        }
        RootUse::Derived => {
            owned(identity.account_id.as_deref().or(identity.session.issuer_account_id.as_deref()))
        }
        _ => owned(identity.account_id.as_deref())
            .or_else(|| identity.arn.as_deref().and_then(account_in)),
    };
    stated.or_else(|| owned(record.recipient_account_id.as_deref()))
}

/// The caller, if that is not the root user.
pub(super) fn actor(record: &Record<'_>, root_use: RootUse) -> Option<String> {
    let identity = &record.identity;
    match root_use {
        RootUse::Direct | RootUse::Possible => None,
        RootUse::OnBehalf => owned(identity.invoked_by.as_deref().or(record.source_ip.as_deref())),
        RootUse::Privileged if !record.is_named("AssumeRoot") => None,
        _ => owned(
            identity
                .arn
                .as_deref()
                .or(identity.principal_id.as_deref())
                .or(identity.invoked_by.as_deref()),
        ),
    }
}

/// Request parameters that name the resource of a call. The first two found are used; ARNs and URLs
/// are shortened to their last part.
const TARGETS: [&str; 22] = [
    "bucketName",
    "userName",
    "roleName",
    "groupName",
    "policyArn",
    "policyName",
    "accessKeyId",
    "virtualMFADeviceName",
    "serialNumber",
    "trailName",
    "name",
    "rule",
    "detectorId",
    "targetPrincipal",
    "accountId",
    "regionName",
    "queueUrl",
    "topicArn",
    "subscriptionArn",
    "keyId",
    "functionName",
    "servicePrincipal",
];

/// The resource that the parameters name.
pub(super) fn target(record: &Record<'_>) -> Option<String> {
    let parameters: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(record.request_parameters?.get()).ok()?;
    let mut parts = Vec::new();
    for name in TARGETS {
        if let Some(serde_json::Value::String(text)) = parameters.get(name) {
            let short = if text.starts_with("arn:") || text.starts_with("https:") {
                text.rsplit(['/', ':']).next().unwrap_or(text)
            } else {
                text
            };
            if !short.is_empty() {
                parts.push(cut(short));
            }
        }
        if parts.len() == 2 {
            break;
        }
    }
    (!parts.is_empty()).then(|| parts.join(" "))
}
