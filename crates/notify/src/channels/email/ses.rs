//! Amazon SES: the same mail, by SendEmail of version 2.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use lettre::Address;
use reqwest::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::{Fault, Tools};
use super::mail::Parties;
use super::smtp::MailOutcome;
use crate::Sent;
use crate::aws::{self, Arn, Aws, Call, Failed, Service};

/// Recipients of one mail by SES.
pub(super) const RECIPIENTS_MAX: usize = 50;
/// Letters of the name of a configuration set.
const CONFIGURATION_SET_CHARS_MAX: usize = 64;

/// Sends by Amazon SES, in place of `host`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ses {
    /// The region of SES; by default the hub's.
    #[serde(default)]
    pub region: Option<String>,
    /// The configuration set by which SES sends.
    #[serde(default)]
    pub configuration_set: Option<String>,
    /// The ARN of the identity of `from`, where another account owns it and lets us send.
    #[serde(default)]
    pub identity_arn: Option<String>,
    /// The ARN of a role to assume first; without one, the hub's own credentials.
    #[serde(default)]
    pub role: Option<String>,
    /// Where SES is instead of its region's place: for an emulator.
    #[serde(default)]
    pub endpoint_url: Option<String>,
}

impl Ses {
    /// Faults that can be found offline.
    pub(super) fn problems(&self) -> Vec<Fault> {
        let (region, endpoint) = (self.region.as_deref(), self.endpoint_url.as_deref());
        let mut faults = inner(aws::problems(region, endpoint, self.role.as_deref()));
        if let Some(name) = &self.configuration_set {
            let is_part = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
            let is_right = (1..=CONFIGURATION_SET_CHARS_MAX).contains(&name.len());
            if !is_right || !name.chars().all(is_part) {
                let fault = "this is no name of a configuration set".to_owned();
                faults.push(("ses.configuration_set", fault));
            }
        }
        if let Some(arn) = &self.identity_arn
            && !Arn::of("ses", arn).is_some_and(|arn| arn.rest.starts_with("identity/"))
        {
            let fault = "this is no identity: it looks like \
                         `arn:aws:ses:eu-west-1:123456789012:identity/example.com`";
            faults.push(("ses.identity_arn", fault.to_owned()));
        }
        faults
    }

    pub(super) fn open(&self, tools: &Tools<'_>) -> Result<Sender, Vec<Fault>> {
        let (region, endpoint) = (self.region.as_deref(), self.endpoint_url.as_deref());
        let aws = Aws::new(tools.aws.clone(), region, endpoint, self.role.as_deref());
        Ok(Sender { aws: aws.map_err(inner)?, ses: self.clone() })
    }
}

/// Faults of the keys that all channels of AWS have, with the place where they are here.
fn inner(faults: Vec<Fault>) -> Vec<Fault> {
    let place = |key| match key {
        "region" => "ses.region",
        "endpoint_url" => "ses.endpoint_url",
        "role" => "ses.role",
        _ => "ses",
    };
    faults.into_iter().map(|(key, fault)| (place(key), fault)).collect()
}

/// SES, made ready.
#[derive(Debug)]
pub(super) struct Sender {
    aws: Aws,
    ses: Ses,
}

/// What SES's errors mean beyond what all of AWS's mean. Source: SendEmail in the reference of the
/// API of SES, version 2.
fn advised(failed: Failed) -> Failed {
    match failed.code.as_str() {
        "SendingPausedException" => failed.misconfigured().hint("sending is paused in SES"),
        "AccountSuspendedException" => {
            failed.misconfigured().hint("SES does not let this account send; ask AWS Support")
        }
        "MailFromDomainNotVerifiedException" => {
            failed.misconfigured().hint("verify the MAIL FROM domain in SES")
        }
        "NotFoundException" => {
            failed.misconfigured().hint("there is no such identity or configuration set there")
        }
        "AccessDenied" | "AccessDeniedException" => failed.misconfigured().hint(
            "allow the hub's role ses:SendEmail on the identity and the configuration set, and \
             ses:GetAccount and ses:GetEmailIdentity for the probe",
        ),
        "MessageRejected" => failed
            .hint("SES takes mail from a verified identity only, and in its sandbox to one only"),
        _ => failed,
    }
}

impl Sender {
    /// Sends a mail to those of `to`: to all or to nobody.
    pub(super) async fn send(
        &self,
        parties: &Parties,
        to: &[Address],
        mail: &[u8],
        now: Timestamp,
    ) -> Result<MailOutcome, Sent> {
        let listed = |mailboxes: &[lettre::message::Mailbox]| -> Vec<String> {
            mailboxes.iter().map(|one| one.email.to_string()).collect()
        };
        let mut body = json!({
            "FromEmailAddress": parties.from.email.to_string(),
            "Destination": { "ToAddresses": listed(&parties.to), "CcAddresses": listed(&parties.cc) },
            "Content": { "Raw": { "Data": BASE64.encode(mail) } },
        });
        if let Some(arn) = &self.ses.identity_arn {
            body["FromEmailAddressIdentityArn"] = arn.as_str().into();
        }
        if let Some(name) = &self.ses.configuration_set {
            body["ConfigurationSetName"] = name.as_str().into();
        }
        let path = "/v2/email/outbound-emails";
        let call = Call::rest(Service::SES, Method::POST, path, body.to_string().into_bytes());
        let answer = self.aws.call(&call, now).await.map_err(|failed| advised(failed).sent)?;
        let read: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let receipt = read["MessageId"].as_str().unwrap_or("accepted").to_owned();
        Ok(MailOutcome { receipt: Some(receipt), accepted: to.to_vec(), ..MailOutcome::default() })
    }

    /// Whether the account may send, and the sender is verified.
    pub(super) async fn probe(&self, from: &Address, now: Timestamp) -> Sent {
        self.look(from, now).await.unwrap_or_else(|failed| advised(failed).sent)
    }

    async fn look(&self, from: &Address, now: Timestamp) -> Result<Sent, Failed> {
        let account = self.read("/v2/email/account", now).await?;
        if account["SendingEnabled"] == false {
            let error = "sending is switched off for this account in SES".to_owned();
            return Ok(Sent::Misconfigured { error });
        }
        let sandbox = if account["ProductionAccessEnabled"] == false {
            "; SES is in its sandbox: recipients have to be verified too"
        } else {
            ""
        };
        if self.ses.identity_arn.is_some() {
            // It is another account's, and cannot be asked for.
            let receipt = format!("SES lets this account send{sandbox}");
            return Ok(Sent::Delivered { receipt });
        }
        let address = from.to_string();
        for identity in [address.as_str(), from.domain()] {
            // `@` stands for itself in a path; what else an address may hold does not.
            let identity: String = identity
                .bytes()
                .map(|byte| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => {
                        char::from(byte).to_string()
                    }
                    _ => format!("%{byte:02X}"),
                })
                .collect();
            match self.read(&format!("/v2/email/identities/{identity}"), now).await {
                Ok(read) if read["VerifiedForSendingStatus"] == true => {
                    let receipt = format!("SES lets this account send as {from}{sandbox}");
                    return Ok(Sent::Delivered { receipt });
                }
                Ok(_) => {}
                Err(failed) if failed.code == "NotFoundException" => {}
                Err(failed) => return Err(failed),
            }
        }
        let error = format!("neither {from} nor its domain is verified in SES, in that region");
        Ok(Sent::Misconfigured { error })
    }

    async fn read(&self, path: &str, now: Timestamp) -> Result<Value, Failed> {
        let call = Call::rest(Service::SES, Method::GET, path, Vec::new());
        let answer = self.aws.call(&call, now).await?;
        Ok(serde_json::from_str(&answer.body).unwrap_or_default())
    }
}
