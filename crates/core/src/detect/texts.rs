//! The texts of a finding that no rule gives: a title, what was done, and the length of free text.

use crate::finding::RootUse;
use crate::record::{Record, text_at};

/// Longest free text that a finding keeps, in bytes. It may come from whoever used the credentials.
pub const TEXT_BYTES_MAX: usize = 1024;

/// The title of a finding without a matching rule.
pub(super) fn title(record: &Record<'_>, root_use: RootUse) -> String {
    let call = did(record);
    let service = record.service().map(|service| format!(" ({})", cut(service)));
    let service = service.unwrap_or_default();
    match root_use {
        RootUse::Direct => format!("Root user called {call}{service}"),
        RootUse::Privileged => format!("Privileged root session called {call}{service}"),
        RootUse::Derived => format!("Session issued by the root user called {call}{service}"),
        RootUse::OnBehalf => match record.identity.invoked_by.as_deref() {
            Some(by) => format!("{} called {call} for the root user", cut(by)),
            None => format!("AWS service event {call}{service}"),
        },
        RootUse::Possible => format!("Account action {call}{service}, identity not stated"),
        RootUse::No => format!("{call}{service}"),
    }
}

/// The title of a call that did not succeed: `Root user was denied StopLogging (cloudtrail)`.
pub(super) fn failed_title(record: &Record<'_>, root_use: RootUse, is_denied: bool) -> String {
    let call = did(record);
    let service = record.service().map(|service| format!(" ({})", cut(service)));
    let service = service.unwrap_or_default();
    let (verb, ended) = if is_denied { ("was denied", "denied") } else { ("failed at", "failed") };
    match root_use {
        RootUse::Direct => format!("Root user {verb} {call}{service}"),
        RootUse::Privileged if record.is_named("AssumeRoot") => match task_policy(record) {
            Some(policy) => format!("AssumeRoot {ended}, task policy {}", cut(&policy)),
            None => format!("AssumeRoot {ended}"),
        },
        RootUse::Privileged => format!("Privileged root session {verb} {call}{service}"),
        RootUse::Derived => format!("Session issued by the root user {verb} {call}{service}"),
        RootUse::OnBehalf | RootUse::Possible | RootUse::No => format!("{call}{service} {ended}"),
    }
}

/// The action of a call that did not succeed: `denied: StopLogging`.
pub(super) fn failed_did(record: &Record<'_>, is_denied: bool) -> String {
    format!("{}: {}", if is_denied { "denied" } else { "failed" }, did(record))
}

/// The action of a finding without a matching rule.
pub(super) fn did(record: &Record<'_>) -> String {
    cut(record.event_name.as_deref().unwrap_or("an unnamed action"))
}

/// The text, cut at [`TEXT_BYTES_MAX`].
pub(super) fn owned(text: Option<&str>) -> Option<String> {
    text.map(cut)
}

/// Cuts a text at [`TEXT_BYTES_MAX`].
pub(super) fn cut(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let mut end = TEXT_BYTES_MAX - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// A title inside a sentence. Only `Root user …` gets a small first letter there: most other titles
/// begin with a name (`AWS Config`, `AssumeRoot`, `KMS key`).
pub(super) fn lower_first(text: &str) -> String {
    match text.strip_prefix("Root ") {
        Some(rest) => format!("root {rest}"),
        None => text.to_owned(),
    }
}

/// The name of the task policy of an `AssumeRoot` call: `IAMAuditRootUserCredentials`.
pub(super) fn task_policy(record: &Record<'_>) -> Option<String> {
    let parameters = record.request_parameters;
    text_at(parameters, &["taskPolicyArn", "arn"])
        .or_else(|| text_at(parameters, &["taskPolicyArn"]))
        .map(|arn| arn.rsplit('/').next().unwrap_or(&arn).to_owned())
}
