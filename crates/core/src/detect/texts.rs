//! The texts of a finding that no rule gives: a title, what was done, and the length of free text.

use crate::finding::RootUse;
use crate::record::Record;

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

/// The text with a capital first letter.
pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// A title inside a sentence. Only `Root user …` gets a small first letter there: most other titles
/// begin with a name (`AWS Config`, `AssumeRoot`, `KMS key`).
pub(super) fn lower_first(text: &str) -> String {
    match text.strip_prefix("Root ") {
        Some(rest) => format!("root {rest}"),
        None => text.to_owned(),
    }
}
