//! How a call fails, and what its caller should do.

use aws_credential_types::provider::error::CredentialsError;
use jiff::{SignedDuration, Timestamp};
use rootwatch_core::retry::retry_after;
use rootwatch_core::{error_chain, text};
use serde_json::Value;

use crate::xml::element;
use crate::{Advice, Answer, codes};

/// Letters of an error code.
const CODE_CHARS_MAX: usize = 80;
/// Columns of AWS's message.
const MESSAGE_COLUMNS_MAX: usize = 240;
/// Columns of a body that is not an error of AWS.
const BODY_COLUMNS_MAX: usize = 200;
/// Columns of a role's ARN.
const ROLE_COLUMNS_MAX: usize = 120;

/// A call that failed. Prints as one line that is safe to show: without secrets and control
/// characters, of bounded length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// AWS's error code: `NotFound`. Empty where there was no answer, or one without a code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub advice: Advice,
    /// The pause that AWS asks for.
    pub retry_after: Option<SignedDuration>,
}

impl CallError {
    /// A failure without an answer.
    pub fn new(advice: Advice, message: impl Into<String>) -> Self {
        Self { code: String::new(), message: message.into(), advice, retry_after: None }
    }

    /// Reads an answer whose status is not 200 to 299.
    pub(crate) fn of_answer(answer: &Answer, now: Timestamp) -> Self {
        let body = answer.text();
        let (code, message) = code_and_message(answer, &body);
        let mut shown = format!("AWS answered {}", answer.status);
        if !code.is_empty() {
            shown = format!("{shown} {code}");
            // AWS's message about a signature repeats what was signed, the session token included.
            if !message.is_empty() && !is_about_signature(&code) {
                shown = format!("{shown}: {message}");
            }
        } else if !body.trim().is_empty() {
            shown = format!("{shown}: {}", text::cap(body.trim(), BODY_COLUMNS_MAX));
        }
        let advice = advise(answer.status, &code, &message);
        if advice == Advice::FixClock {
            shown = format!("{shown}; the clock of this machine is wrong");
        }
        let header = answer.headers.get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = header.and_then(|header| retry_after(header, now));
        Self { code, message: shown, advice, retry_after }
    }

    /// A failure that AWS reports for one entry of an answer whose status is 200.
    #[must_use]
    pub fn of_entry(code: &str, message: &str) -> Self {
        let code = code_name(code);
        let message = text::cap(message, MESSAGE_COLUMNS_MAX);
        let shown = format!("AWS refused the entry: {code}: {message}");
        // The entry's own status is not given. 400 leaves the decision to the code.
        let advice = advise(400, &code, &message);
        Self { code, message: shown, advice, retry_after: None }
    }

    /// No credentials. `had_credentials` says that the same provider gave some before: then it is
    /// only out of reach now.
    pub(crate) fn of_credentials(
        error: &CredentialsError,
        role: Option<&str>,
        had_credentials: bool,
    ) -> Self {
        // The outer errors say little: who refused is at the end of the chain.
        let causes = error_chain::joined(error);
        let whose = role.map(|role| format!(" of the role {}", text::cap(role, ROLE_COLUMNS_MAX)));
        let message = format!(
            "no AWS credentials{}: {}",
            whose.unwrap_or_default(),
            text::cap(&causes, MESSAGE_COLUMNS_MAX)
        );
        let is_unset = matches!(
            error,
            CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)
        );
        let is_denied = ["AccessDenied", "InvalidClientTokenId", "SignatureDoesNotMatch"]
            .iter()
            .any(|code| causes.contains(code));
        let advice = if is_denied || (is_unset && !had_credentials) {
            Advice::FixCredentials
        } else {
            Advice::Retry
        };
        Self::new(advice, message)
    }
}

fn advise(status: u16, code: &str, message: &str) -> Advice {
    let is_clock = is_about_signature(code)
        && (message.contains("Signature expired") || message.contains("not yet current"));
    if is_clock { Advice::FixClock } else { codes::advice_for(status, code) }
}

fn is_about_signature(code: &str) -> bool {
    matches!(code, "SignatureDoesNotMatch" | "InvalidSignatureException" | "IncompleteSignature")
}

/// Code and message of an error, from a header, JSON or XML, safe to show.
fn code_and_message(answer: &Answer, body: &str) -> (String, String) {
    let body = body.trim_start();
    let (mut code, mut message) = (String::new(), String::new());
    if body.starts_with('{') {
        let value: Value = serde_json::from_str(body).unwrap_or_default();
        let text = |keys: &[&str]| {
            let found = keys.iter().find_map(|key| value[*key].as_str());
            found.unwrap_or_default().to_owned()
        };
        code = text(&["__type", "code", "Code"]);
        message = text(&["message", "Message"]);
    } else if body.starts_with('<') {
        code = element(body, "Code").unwrap_or_default();
        message = element(body, "Message").unwrap_or_default();
    }
    if let Some(header) = answer.headers.get("x-amzn-errortype").and_then(|it| it.to_str().ok()) {
        code = header.to_owned();
    }
    (code_name(&code), text::cap(&message, MESSAGE_COLUMNS_MAX))
}

/// The code alone of `com.amazonaws#AccessDeniedException:http://…`.
fn code_name(code: &str) -> String {
    let code = code.rsplit('#').next().unwrap_or(code);
    let code = code.split(':').next().unwrap_or(code);
    let is_part =
        |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    code.chars().filter(is_part).take(CODE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    fn read(status: u16, body: &str) -> CallError {
        let body = body.as_bytes().to_vec();
        let answer = Answer { status, headers: HeaderMap::new(), body };
        CallError::of_answer(&answer, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn codes_are_read_from_json_and_from_xml() {
        let json = r#"{"__type":"com.amazonaws.events#ThrottlingException","message":"slowly"}"#;
        let error = read(400, json);
        assert_eq!((error.code.as_str(), error.advice), ("ThrottlingException", Advice::Retry));
        let xml = "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error>\
            <Type>Sender</Type><Code>NotFound</Code><Message>no topic &amp; none</Message></Error></ErrorResponse>";
        let error = read(404, xml);
        assert_eq!((error.code.as_str(), error.advice), ("NotFound", Advice::GiveUp));
        assert_eq!(error.to_string(), "AWS answered 404 NotFound: no topic & none");
        assert_eq!(read(502, "<html>").advice, Advice::Retry);
        assert_eq!(read(400, "<html>").code, "");
        let ec2 = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message>\
            </Error></Errors></Response>";
        assert_eq!(read(403, ec2).advice, Advice::FixPermissions);
    }

    #[test]
    fn what_was_signed_is_not_shown() {
        let body =
            r#"{"__type":"InvalidSignatureException","message":"x-amz-security-token:hush"}"#;
        let error = read(400, body);
        assert_eq!(error.advice, Advice::FixCredentials);
        assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        let late = r#"{"__type":"InvalidSignatureException","message":"Signature expired: hush"}"#;
        let error = read(400, late);
        assert_eq!(error.advice, Advice::FixClock);
        assert!(format!("{error:?}").contains("clock") && !format!("{error:?}").contains("hush"));
    }

    #[test]
    fn an_entry_that_failed_is_decided_by_its_code() {
        assert_eq!(CallError::of_entry("InternalFailure", "hm").advice, Advice::Retry);
        assert_eq!(CallError::of_entry("MalformedDetail", "hm").advice, Advice::GiveUp);
        assert_eq!(CallError::of_entry("AccessDeniedException", "").advice, Advice::FixPermissions);
    }

    #[test]
    fn a_request_that_was_too_slow_is_retried_though_its_status_is_400() {
        assert_eq!(read(400, "<Error><Code>RequestTimeout</Code></Error>").advice, Advice::Retry);
    }
}
