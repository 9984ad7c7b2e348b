//! What AWS says when it does not do what it was asked: one reading for its three protocols.

use std::error::Error as _;

use aws_credential_types::provider::error::CredentialsError;
use jiff::{SignedDuration, Timestamp};
use reqwest::StatusCode;
use rootwatch_core::words;
use serde_json::Value;

use crate::Sent;
use crate::http::Answer;

/// Letters of an error's name.
const CODE_CHARS_MAX: usize = 80;
/// Columns of AWS's words about it.
const MESSAGE_COLUMNS_MAX: usize = 240;

/// Names that mean: later, and slower.
const THROTTLED: [&str; 12] = [
    "BandwidthLimitExceeded",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttled",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
];

/// Names that mean: these credentials ended.
const EXPIRED: [&str; 5] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "TokenRefreshRequired",
    "InvalidToken",
];

/// Names that mean: whoever asks may not, or is nobody.
const DENIED: [&str; 16] = [
    "AccessDenied",
    "AccessDeniedException",
    "AuthFailure",
    "AuthorizationError",
    "IncompleteSignature",
    "InvalidAccessException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnauthorizedOperation",
    "UnrecognizedClientException",
];

/// A call that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// AWS's name of the error, `NotFound`; empty where there was no answer.
    pub(crate) code: String,
    /// What has to be said of it, unless the channel knows better.
    pub(crate) sent: Sent,
}

impl Failed {
    /// A failure before any answer.
    pub(crate) fn of(sent: Sent) -> Self {
        Self { code: String::new(), sent }
    }

    /// Reads an answer that is not of success.
    pub(super) fn read(answer: &Answer, now: Timestamp) -> Self {
        let (code, message) = told(answer);
        let mut error = format!("AWS answered {}", answer.status.as_u16());
        if code.is_empty() {
            error = answer.told();
        } else {
            error = format!("{error} {code}");
            // What AWS says of a signature repeats what was signed, a session's token included.
            if !message.is_empty() && !is_about_signature(&code) {
                error = format!("{error}: {message}");
            }
        }
        let sent = judge(answer.status, &code, &message, error, answer.retry_after(now));
        Self { code, sent }
    }

    /// A failure that AWS names inside an answer of success, entry by entry.
    pub(crate) fn of_entry(code: &str, message: &str) -> Self {
        let code = name(code);
        let message = words::cap(message, MESSAGE_COLUMNS_MAX);
        let error = format!("AWS refuses it: {code}: {message}");
        let is_temporary = code.starts_with("Internal") || code == "ServiceUnavailable";
        let status =
            if is_temporary { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::BAD_REQUEST };
        let sent = judge(status, &code, &message, error, None);
        Self { code, sent }
    }

    pub(super) fn of_credentials(
        error: &CredentialsError,
        role: Option<&str>,
        was_there: bool,
    ) -> Self {
        // The outer words say little: who refused whom is at the end of the chain.
        let mut told = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            let more = cause.to_string();
            if !told.contains(&more) {
                told = format!("{told}: {more}");
            }
            next = cause.source();
        }
        let whose = role.map(|role| format!(" of the role {}", words::cap(role, 120)));
        let what = format!(
            "no AWS credentials{}: {}",
            whose.unwrap_or_default(),
            words::cap(&told, MESSAGE_COLUMNS_MAX)
        );
        let is_nowhere = matches!(
            error,
            CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)
        );
        let is_denied = ["AccessDenied", "InvalidClientTokenId", "SignatureDoesNotMatch"]
            .iter()
            .any(|code| told.contains(code));
        Self::of(if is_denied || (is_nowhere && !was_there) {
            Sent::Misconfigured { error: what }
        } else {
            Sent::RetryAfter { after: None, error: what }
        })
    }

    /// True when new credentials may help.
    pub(super) fn is_about_expiry(&self) -> bool {
        EXPIRED.contains(&self.code.as_str())
    }

    /// The same, with what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: &str) -> Self {
        match &mut self.sent {
            Sent::Delivered { .. } => {}
            Sent::RetryAfter { error, .. }
            | Sent::Rejected { error }
            | Sent::Misconfigured { error } => *error = format!("{error}; {hint}"),
        }
        self
    }

    /// The same, as a fault of the configuration.
    #[must_use]
    pub(crate) fn misconfigured(self) -> Self {
        let error = self.sent.error().unwrap_or_default().to_owned();
        Self { sent: Sent::Misconfigured { error }, ..self }
    }

    /// The same, to be tried again.
    #[must_use]
    pub(crate) fn retried(self) -> Self {
        match self.sent {
            Sent::Rejected { error } | Sent::Misconfigured { error } => {
                Self { sent: Sent::RetryAfter { after: None, error }, ..self }
            }
            sent => Self { sent, ..self },
        }
    }
}

fn judge(
    status: StatusCode,
    code: &str,
    message: &str,
    error: String,
    after: Option<SignedDuration>,
) -> Sent {
    let is_later = matches!(status.as_u16(), 408 | 425 | 429 | 500..600)
        || THROTTLED.contains(&code)
        || EXPIRED.contains(&code);
    // The clock is mended while nobody changes the configuration.
    let is_clock = code == "RequestTimeTooSkewed"
        || (is_about_signature(code)
            && (message.contains("Signature expired") || message.contains("not yet current")));
    if is_clock {
        let error = format!("{error}; the clock of this machine is wrong");
        Sent::RetryAfter { after, error }
    } else if is_later {
        Sent::RetryAfter { after, error }
    } else if DENIED.contains(&code) || matches!(status.as_u16(), 401 | 403) {
        Sent::Misconfigured { error }
    } else {
        Sent::Rejected { error }
    }
}

fn is_about_signature(code: &str) -> bool {
    matches!(code, "SignatureDoesNotMatch" | "InvalidSignatureException" | "IncompleteSignature")
}

/// Name and words of an error, from a header, JSON or XML, safe to show.
fn told(answer: &Answer) -> (String, String) {
    let body = answer.body.trim_start();
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
    (name(&code), words::cap(&message, MESSAGE_COLUMNS_MAX))
}

/// The text of the first element with this name, whatever its namespace.
pub(crate) fn element(xml: &str, name: &str) -> Option<String> {
    let document = roxmltree::Document::parse(xml).ok()?;
    let found = document.descendants().find(|node| node.tag_name().name() == name)?;
    found.text().map(|text| text.trim().to_owned())
}

/// `com.amazonaws#AccessDeniedException:http://…` without what stands around the name.
fn name(code: &str) -> String {
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

    fn read(status: u16, body: &str) -> Failed {
        let answer = Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::new(),
            body: body.to_owned(),
        };
        Failed::read(&answer, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn names_are_read_from_json_and_from_xml() {
        let json = r#"{"__type":"com.amazonaws.events#ThrottlingException","message":"slowly"}"#;
        let failed = read(400, json);
        assert_eq!(failed.code, "ThrottlingException");
        assert!(matches!(failed.sent, Sent::RetryAfter { .. }), "{failed:?}");
        let xml = "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error>\
            <Type>Sender</Type><Code>NotFound</Code><Message>no topic &amp; none</Message></Error></ErrorResponse>";
        let failed = read(404, xml);
        assert_eq!(failed.code, "NotFound");
        let error = "AWS answered 404 NotFound: no topic & none".to_owned();
        assert_eq!(failed.sent, Sent::Rejected { error });
        assert!(matches!(read(502, "<html>").sent, Sent::RetryAfter { .. }));
    }

    #[test]
    fn what_a_signature_was_made_of_is_not_shown() {
        let body =
            r#"{"__type":"InvalidSignatureException","message":"x-amz-security-token:hush"}"#;
        let failed = read(400, body);
        assert!(matches!(failed.sent, Sent::Misconfigured { .. }));
        assert!(!format!("{failed:?}").contains("hush"), "{failed:?}");
        let late = r#"{"__type":"InvalidSignatureException","message":"Signature expired: hush"}"#;
        let failed = read(400, late);
        assert!(matches!(failed.sent, Sent::RetryAfter { .. }), "{failed:?}");
        assert!(format!("{failed:?}").contains("clock") && !format!("{failed:?}").contains("hush"));
    }

    #[test]
    fn an_entry_that_failed_is_judged_by_its_name() {
        let later = Failed::of_entry("InternalFailure", "hm").sent;
        assert!(matches!(later, Sent::RetryAfter { .. }));
        let never = Failed::of_entry("MalformedDetail", "hm").sent;
        assert!(matches!(never, Sent::Rejected { .. }));
    }
}
