//! The channel `email`: an email with a text and an HTML part, through SMTP or Amazon SES.

mod mail;
mod ses;
mod smtp;

use std::path::PathBuf;

use async_trait::async_trait;
use jiff::Timestamp;
use lettre::Address;
use lettre::message::Mailbox;
use lettre::transport::smtp::client::{Certificate, CertificateStore, TlsParameters};
use rootwatch_core::secret::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::mail::Parties;
pub use self::mail::{HTML_BYTES_MAX, SUBJECT_COLUMNS_MAX, html, text};
pub use self::ses::Ses;
use self::smtp::{MailOutcome, Server};
use super::{
    Behavior, Channel, Facts, Fault, Message, Settings, ThreadMemory, Tools, example_secret,
};
use crate::config::schema::secret_schema;
use crate::{Sent, guard};

/// Recipients of a mail, `cc` included: what RFC 5321 asks of every server.
pub const RECIPIENTS_MAX: usize = 100;
/// Bytes of a file of certificates.
const CA_FILE_BYTES_MAX: u64 = 1 << 20;

/// Sends a mail: by SMTP (`host`) or by Amazon SES (`ses`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the SMTP server, as in its certificate. Either this or `ses`.
    #[serde(default)]
    pub host: Option<String>,
    /// Amazon SES instead of an SMTP server: `ses = { region = "eu-west-1" }`.
    #[serde(default)]
    pub ses: Option<Box<Ses>>,
    /// Port of the server. Default: 587 for `starttls`, 465 for `tls`, 25 for `none`.
    #[serde(default)]
    pub port: Option<u16>,
    /// Encryption of the connection.
    #[serde(default)]
    pub tls: Tls,
    /// SMTP user name. Default: no authentication.
    #[serde(default)]
    pub user: Option<String>,
    /// Password of `user`.
    #[serde(default)]
    #[schemars(schema_with = "secret_schema")]
    pub password: Option<SecretRef>,
    /// File with the CA certificates (PEM) to trust for this server. Default: the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Sender: `alerts@example.com` or `Rootwatch <alerts@example.com>`.
    pub from: String,
    /// The recipients.
    pub to: Vec<String>,
    /// CC recipients.
    #[serde(default)]
    pub cc: Vec<String>,
    /// `Reply-To` address. Default: none.
    #[serde(default)]
    pub reply_to: Option<String>,
    /// Allow private (RFC 1918 and the like) server addresses, and `tls = "none"`.
    #[serde(default)]
    pub allow_private: bool,
}

/// Encryption of the connection to an SMTP server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// STARTTLS, required: nothing is sent to a server that does not offer it.
    #[default]
    Starttls,
    /// TLS from the start of the connection.
    Tls,
    /// No encryption: anybody on the network path can read the alerts and the password, and drop
    /// them. Only with `allow_private`, for a relay on the same machine.
    None,
}

impl Settings for Config {
    const BEHAVIOR: Behavior = Behavior { is_chat: true, rate_per_minute: 60 };
    const FACTS: Facts = Facts {
        about: "Sends an email with a text and an HTML part through SMTP (`host`) or Amazon SES \
                (`ses`). For SES, verify the domain of `from`, leave the sandbox, and allow the \
                hub's role `ses:SendEmail` (`ses:GetAccount` and `ses:GetEmailIdentity` for the \
                probe). An SMTP server must allow `user` to send as `from`. Give the domain of \
                `from` SPF and DKIM, and exempt this sender from spam filters. `starttls`, the \
                default, is required, not opportunistic; **`tls = \"none\"` exposes alerts and \
                password on the network** and needs `allow_private`. The email loads no remote \
                content. Its only link shows the incident and changes nothing, so link scanners do \
                no harm. All emails about one incident share a `References` id and the first \
                subject behind `Re:`, so that mail programs show one thread; an escalation has its \
                own subject.",
        limits: &[
            ("recipients", "100 with `cc`; 50 by SES"),
            ("subject", "160 columns"),
            (
                "HTML part",
                "96 KiB: Gmail hides content beyond 102 KB. Parts that do not fit are omitted \
                 whole, and the email says so",
            ),
        ],
        answers: &[
            ("2xx to the message", "delivered"),
            (
                "5xx to some recipients",
                "delivered to the others; the receipt names the rejected ones",
            ),
            ("4xx to some recipients", "delivered to the others; retried for these only"),
            ("4xx, no answer, TLS that fails, a certificate that is out of date", "retried"),
            ("530, 534, 535, 538; any 5xx to the sign-in", "permanent failure: fix the sign-in"),
            ("other 5xx", "permanent failure"),
            (
                "SES: `TooManyRequestsException`, `LimitExceededException`, 429, 500 and above",
                "retried",
            ),
            (
                "SES: `SendingPausedException`, `AccountSuspendedException`, \
              `MailFromDomainNotVerifiedException`, `NotFoundException`, access denied",
                "permanent failure: fix the account, the identity or the role",
            ),
            ("SES: `MessageRejected`, `BadRequestException`", "permanent failure"),
            (
                "no STARTTLS, a certificate that is not trusted",
                "permanent failure: nothing is sent",
            ),
        ],
        repeats: "Retries keep the `Message-ID`: most mailboxes show such an email once. A retry \
                  skips recipients that have it. SES assigns a new `Message-ID`: with SES, an \
                  email whose answer was lost arrives twice.",
        probe: "SMTP: connects, encrypts, signs in, names the sender and every recipient, and \
                resets with `RSET`: no email is sent. A server may accept a recipient and bounce \
                the email later. SES: checks that the account may send and that the address or the \
                domain of `from` is verified.",
    };

    fn example() -> Self {
        Self {
            host: Some("smtp.example.com".to_owned()),
            ses: None,
            port: None,
            tls: Tls::Starttls,
            user: Some("rootwatch".to_owned()),
            password: Some(example_secret("SMTP_PASSWORD")),
            ca_file: None,
            from: "Rootwatch <rootwatch@example.com>".to_owned(),
            to: vec!["oncall@example.com".to_owned()],
            cc: Vec::new(),
            reply_to: Some("security@example.com".to_owned()),
            allow_private: false,
        }
    }

    fn render(&self, message: &Message<'_>) -> Vec<u8> {
        let parties = self.parties().map_err(|_| "the addresses are wrong".to_owned());
        let mail = parties.and_then(|parties| mail::mail(message, &parties, None));
        mail.unwrap_or_else(String::into_bytes)
    }

    fn problems(&self) -> Vec<Fault> {
        let mut faults = self.parties().err().unwrap_or_default();
        let host = self.host.as_deref().map(str::trim);
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || ".-:".contains(letter);
        match (host, &self.ses) {
            (Some(_), Some(_)) => faults.push(("host", "either `host` or `ses`".to_owned())),
            (None, None) => {
                faults.push(("host", "set either `host` or `ses`".to_owned()));
            }
            (Some(host), None)
                if host.is_empty() || host.len() > 253 || !host.chars().all(is_name) =>
            {
                faults.push(("host", "not the name of a server".to_owned()));
            }
            _ => {}
        }
        if let Some(Ok(address)) = host.map(str::parse::<std::net::IpAddr>)
            && !self.allow_private
            && !guard::is_public(address)
        {
            faults.push(("host", guard::refusal("the server", address)));
        }
        if let Some(ses) = &self.ses {
            faults.extend(ses.problems());
            let is_of_smtp = self.port.is_some()
                || self.tls != Tls::default()
                || self.user.is_some()
                || self.password.is_some()
                || self.ca_file.is_some();
            if is_of_smtp {
                let fault = "`port`, `tls`, `user`, `password` and `ca_file` apply to an SMTP \
                            server only";
                faults.push(("ses", fault.to_owned()));
            }
            if self.to.len() + self.cc.len() > ses::RECIPIENTS_MAX {
                let fault =
                    format!("with SES, an email has at most {} recipients", ses::RECIPIENTS_MAX);
                faults.push(("to", fault));
            }
        }
        if self.port == Some(0) {
            faults.push(("port", "a port is 1 to 65535".to_owned()));
        }
        if self.tls == Tls::None && !self.allow_private {
            let fault = "without encryption nothing is sent unless `allow_private = true`";
            faults.push(("tls", fault.to_owned()));
        }
        if self.tls == Tls::None && self.ca_file.is_some() {
            faults.push(("ca_file", "`ca_file` has no effect without encryption".to_owned()));
        }
        if self.user.is_some() != self.password.is_some() {
            faults.push(("password", "`user` and `password` go together".to_owned()));
        }
        faults
    }

    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        let parties = self.parties()?;
        let name = tools.destination.to_owned();
        if let Some(ses) = &self.ses {
            let way = Way::Ses(Box::new(ses.open(tools)?));
            return Ok(Box::new(Email { name, way, parties }));
        }
        let host = self.host.as_deref().unwrap_or_default().trim();
        let login = match (&self.user, &self.password) {
            (Some(user), Some(at)) => Some((user.clone(), tools.secret("password", at)?)),
            _ => None,
        };
        let server = Server {
            host: host.to_owned(),
            port: self.port.unwrap_or(match self.tls {
                Tls::Starttls => 587,
                Tls::Tls => 465,
                Tls::None => 25,
            }),
            tls: self.tls,
            parameters: self.parameters(host)?,
            login,
            allow_private: self.allow_private,
        };
        Ok(Box::new(Email { name, way: Way::Smtp(Box::new(server)), parties }))
    }
}

impl Config {
    /// The addresses, read.
    fn parties(&self) -> Result<Parties, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut read = |key: &'static str, text: &String| match text.trim().parse::<Mailbox>() {
            Ok(mailbox) => Some(mailbox),
            Err(error) => {
                let text = rootwatch_core::text::cap(text, 60);
                faults.push((key, format!("`{text}` is not an email address: {error}")));
                None
            }
        };
        let from = read("from", &self.from);
        let to: Vec<Mailbox> = self.to.iter().filter_map(|text| read("to", text)).collect();
        let cc: Vec<Mailbox> = self.cc.iter().filter_map(|text| read("cc", text)).collect();
        let reply_to = self.reply_to.as_ref().and_then(|text| read("reply_to", text));
        if self.to.is_empty() {
            faults.push(("to", "empty; add at least one address".to_owned()));
        }
        if self.to.len() + self.cc.len() > RECIPIENTS_MAX {
            faults.push(("to", format!("an email has at most {RECIPIENTS_MAX} recipients")));
        }
        match from {
            Some(from) if faults.is_empty() => Ok(Parties { from, to, cc, reply_to }),
            _ => Err(faults),
        }
    }

    fn parameters(&self, host: &str) -> Result<TlsParameters, Vec<Fault>> {
        let mut parameters = TlsParameters::builder(host.to_owned());
        if let Some(path) = &self.ca_file {
            let fault = |error: String| vec![("ca_file", format!("{}: {error}", path.display()))];
            let length = path.metadata().map_err(|error| fault(error.to_string()))?.len();
            if length > CA_FILE_BYTES_MAX {
                return Err(fault(format!("more than {CA_FILE_BYTES_MAX} bytes")));
            }
            let bytes = std::fs::read(path).map_err(|error| fault(error.to_string()))?;
            if !bytes.windows(27).any(|part| part == b"-----BEGIN CERTIFICATE-----") {
                return Err(fault("the file contains no PEM certificate".to_owned()));
            }
            let authority =
                Certificate::from_pem(&bytes).map_err(|error| fault(error.to_string()))?;
            parameters = parameters
                .certificate_store(CertificateStore::None)
                .add_root_certificate(authority);
        }
        parameters.build().map_err(|error| vec![("tls", error.to_string())])
    }
}

struct Email {
    /// The destination's name.
    name: String,
    way: Way,
    parties: Parties,
}

/// How mails go out.
enum Way {
    Smtp(Box<Server>),
    Ses(Box<ses::Sender>),
}

impl std::fmt::Debug for Email {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Email")
    }
}

/// What is kept of a thread.
#[derive(Debug, Default, Serialize, Deserialize)]
struct MailThread {
    /// The subject with which mails go on.
    subject: Option<String>,
    /// The delivery of which `done` tells.
    delivery: String,
    /// Who has that delivery's mail.
    done: Vec<String>,
}

impl Email {
    fn recipients(&self) -> Vec<Address> {
        let mut all: Vec<Address> = Vec::new();
        for mailbox in self.parties.to.iter().chain(&self.parties.cc) {
            if !all.contains(&mailbox.email) {
                all.push(mailbox.email.clone());
            }
        }
        all
    }

    async fn attempt(
        &self,
        message: &Message<'_>,
        memory: &ThreadMemory<'_>,
    ) -> Result<Sent, Sent> {
        let kept = memory.get().await?;
        let mut kept: MailThread =
            kept.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        if kept.delivery != message.id.0 {
            kept.delivery.clone_from(&message.id.0);
            kept.done.clear();
        }
        let mut to = self.recipients();
        to.retain(|one| !kept.done.iter().any(|done| done == one.as_ref() as &str));
        if to.is_empty() {
            return Ok(Sent::Delivered { receipt: "all recipients have it".to_owned() });
        }
        let base = kept.subject.as_deref();
        let mail = mail::mail(message, &self.parties, base);
        let mail = mail.map_err(|error| Sent::Rejected { error })?;
        let next = mail::subject(message, base).1;
        let outcome = match &self.way {
            Way::Smtp(server) => server.send(&self.parties.from.email, &to, &mail).await?,
            Way::Ses(ses) => ses.send(&self.parties, &to, &mail, message.now).await?,
        };
        kept.done.extend(outcome.accepted.iter().map(ToString::to_string));
        if !outcome.accepted.is_empty() {
            kept.subject = Some(next);
            let text = serde_json::to_string(&kept).unwrap_or_default();
            if let Err(sent) = memory.put(&text).await {
                // The email is sent: sending it again would not help.
                let error = sent.error().unwrap_or_default();
                tracing::warn!(
                    destination = self.name,
                    error,
                    "cannot store the recipients of an email; a retry may send it again"
                );
            }
        }
        let sent = told(&outcome, kept.done.is_empty());
        if matches!(sent, Sent::Delivered { .. }) && !outcome.refused.is_empty() {
            let refused = MailOutcome::told(&outcome.refused);
            tracing::error!(
                destination = self.name,
                refused,
                "email delivered, but not to all recipients"
            );
        }
        Ok(sent)
    }
}

/// What an attempt came to. `nobody`: no recipient has the mail, by this attempt or an earlier one.
fn told(outcome: &MailOutcome, nobody: bool) -> Sent {
    let refused = (!outcome.refused.is_empty()).then(|| MailOutcome::told(&outcome.refused));
    if !outcome.later.is_empty() {
        let mut error = MailOutcome::told(&outcome.later);
        if let Some(refused) = refused {
            error = format!("{error}; for good {refused}");
        }
        return Sent::RetryAfter { after: None, error };
    }
    let receipt = outcome.receipt.clone().unwrap_or_else(|| "accepted".to_owned());
    match refused {
        Some(error) if nobody => Sent::Rejected { error },
        Some(error) => {
            // First, since a receipt is cut at its end.
            Sent::Delivered { receipt: format!("{error} · to the others: {receipt}") }
        }
        None => Sent::Delivered { receipt },
    }
}

#[async_trait]
impl Channel for Email {
    async fn send(&self, message: &Message<'_>, memory: &ThreadMemory<'_>) -> Sent {
        self.attempt(message, memory).await.unwrap_or_else(|sent| sent)
    }

    async fn probe(&self, now: Timestamp) -> Sent {
        let from = &self.parties.from.email;
        let probe = match &self.way {
            Way::Smtp(server) => server.probe(from, &self.recipients()).await,
            Way::Ses(ses) => return ses.probe(from, now).await,
        };
        match probe {
            Ok(outcome) if outcome.later.is_empty() && outcome.refused.is_empty() => {
                let receipt = "the server accepts every recipient".to_owned();
                Sent::Delivered { receipt }
            }
            Ok(outcome) if outcome.later.is_empty() => {
                Sent::Rejected { error: MailOutcome::told(&outcome.refused) }
            }
            Ok(outcome) => told(&outcome, true),
            Err(sent) => sent,
        }
    }
}
