//! Calls of AWS, for the channels that use it: what a destination configures becomes a
//! [`Caller`], and what a call fails with becomes a [`Sent`].
//!
//! A host of AWS may have a private address: an interface endpoint in a VPC has one. So these
//! requests do not pass [`crate::guard`]; the host is made from a region that was checked, and has to
//! prove its name by TLS.

pub(crate) mod query;

use jiff::Timestamp;
use rootwatch_aws::{Advice, CallError, Caller};

pub use rootwatch_aws::AwsAccess;
pub(crate) use rootwatch_aws::partition::{Arn, is_account, partition, region_fault, role_fault};
pub(crate) use rootwatch_aws::xml::element;
pub(crate) use rootwatch_aws::{Call, Service};

use crate::Sent;
use crate::http::parse_url;

/// Calls of one destination, with the region, the endpoint and the role that it configures.
#[derive(Debug, Clone)]
pub(crate) struct Aws(Caller);

impl Aws {
    /// # Errors
    /// As for [`problems`], which every channel asks for offline.
    pub(crate) fn new(
        access: AwsAccess,
        region: Option<&str>,
        endpoint_url: Option<&str>,
        role: Option<&str>,
    ) -> Result<Self, Vec<(&'static str, String)>> {
        let faults = problems(region, endpoint_url, role);
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut caller = Caller::new(access);
        if let Some(region) = region {
            caller = caller.in_region(region);
        }
        if let Some(url) = endpoint_url {
            let url = parse_url(url, true).map_err(|error| vec![("endpoint_url", error)])?;
            caller = caller.with_endpoint(url);
        }
        if let Some(role) = role {
            caller = caller.as_role(role, None);
        }
        Ok(Self(caller))
    }

    /// The same with the credentials of another role.
    pub(crate) fn as_role(&self, role: &str) -> Self {
        Self(self.0.as_role(role, None))
    }

    /// One call; see [`Caller::call`].
    ///
    /// # Errors
    /// Without an answer, or after one that is not a success.
    pub(crate) async fn call(&self, call: &Call, now: Timestamp) -> Result<Answer, Failed> {
        let answer = self.0.call(call, now).await?;
        Ok(Answer { body: answer.text() })
    }
}

/// What AWS answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: String,
}

/// A call that failed, and what it means for the attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// AWS's error code, `NotFound`; empty where there was no answer.
    pub(crate) code: String,
    /// The result of the attempt, unless the channel knows better.
    pub(crate) sent: Sent,
}

impl From<CallError> for Failed {
    fn from(failed: CallError) -> Self {
        let CallError { code, message: error, advice, retry_after: after } = failed;
        let sent = match advice {
            Advice::Retry | Advice::RenewCredentials | Advice::FixClock => {
                Sent::RetryAfter { after, error }
            }
            Advice::FixCredentials | Advice::FixPermissions | Advice::FixConfiguration => {
                Sent::Misconfigured { error }
            }
            Advice::GiveUp => Sent::Rejected { error },
        };
        Self { code, sent }
    }
}

impl Failed {
    /// A failure that AWS did not report as one.
    pub(crate) fn of(sent: Sent) -> Self {
        Self { code: String::new(), sent }
    }

    /// A failure of one entry of an answer that is a success.
    pub(crate) fn of_entry(code: &str, message: &str) -> Self {
        CallError::of_entry(code, message).into()
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

    /// The same, to be retried.
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

/// Faults of the keys that all channels of AWS have, found offline.
pub(crate) fn problems(
    region: Option<&str>,
    endpoint_url: Option<&str>,
    role: Option<&str>,
) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    faults.extend(region.and_then(region_fault).map(|fault| ("region", fault)));
    faults.extend(
        endpoint_url.and_then(|url| parse_url(url, true).err()).map(|e| ("endpoint_url", e)),
    );
    faults.extend(role.and_then(role_fault).map(|fault| ("role", fault)));
    faults
}
