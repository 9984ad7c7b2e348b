//! The dialogue with a mail server.
//!
//! One connection a mail: alerts are few, and a connection that was kept is often dead when it is
//! needed. Commands are given one by one, so that a recipient who is refused does not take the mail
//! from the others.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Noop, Quit, Rcpt, Rset, Starttls};
use lettre::transport::smtp::extension::{ClientId, Extension};
use rootwatch_core::secret::Secret;
use rootwatch_core::{error_chain, text};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Tls;
use crate::{Sent, guard};

/// Time to look a name up and to connect.
const CONNECT_SECS_MAX: u64 = 5;
/// Time that taking leave may take: the mail is accepted by then.
const QUIT_SECS_MAX: u64 = 2;
/// Columns of an answer that are shown.
const ANSWER_COLUMNS_MAX: usize = 200;
/// Recipients whose refusal is told one by one.
const REFUSED_SHOWN_MAX: usize = 5;
/// The first byte of TLS: a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// A mail server, and how to get in.
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Tls,
    pub(super) parameters: TlsParameters,
    pub(super) login: Option<(String, Secret)>,
    pub(super) allow_private: bool,
}

/// What became of the recipients of one mail.
#[derive(Debug, Default)]
pub(super) struct MailOutcome {
    /// What the server said to the mail; `None` when nobody was accepted.
    pub(super) receipt: Option<String>,
    /// Those who have the mail.
    pub(super) accepted: Vec<Address>,
    /// Those whom the server refuses for good, and how.
    pub(super) refused: Vec<(Address, String)>,
    /// Those whom it does not take now, and how.
    pub(super) later: Vec<(Address, String)>,
}

/// Reads letter by letter until TLS begins, so that nothing that somebody slipped in behind the
/// answer to STARTTLS is taken for an answer that came through TLS.
#[derive(Debug)]
struct Careful {
    stream: TcpStream,
    is_tls: bool,
}

impl AsyncTokioStream for Careful {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for Careful {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_tls || buffer.remaining() <= 1 {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let mut one = [0_u8; 1];
        let mut small = ReadBuf::new(&mut one);
        let read = Pin::new(&mut self.stream).poll_read(context, &mut small);
        if matches!(read, Poll::Ready(Ok(()))) {
            buffer.put_slice(small.filled());
        }
        read
    }
}

impl AsyncWrite for Careful {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_tls |= bytes.first() == Some(&TLS_HANDSHAKE);
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Server {
    /// Sends a mail to those of `to`. `Err` is what has to be said when nobody has it.
    pub(super) async fn send(
        &self,
        from: &Address,
        to: &[Address],
        mail: &[u8],
    ) -> Result<MailOutcome, Sent> {
        let mut connection = self.enter().await?;
        let mut outcome = self.envelope(&mut connection, from, to).await?;
        if outcome.accepted.is_empty() {
            leave(connection).await;
            return Ok(outcome);
        }
        connection.command(Data).await.map_err(|error| self.failed("the mail", &error))?;
        let answer =
            connection.message(mail).await.map_err(|error| self.failed("the mail", &error))?;
        outcome.receipt = Some(self.shown(&answer.message().collect::<Vec<_>>().join(" ")));
        leave(connection).await;
        Ok(outcome)
    }

    /// Says from whom and to whom, and begins anew: nobody is told anything.
    pub(super) async fn probe(&self, from: &Address, to: &[Address]) -> Result<MailOutcome, Sent> {
        let mut connection = self.enter().await?;
        let outcome = self.envelope(&mut connection, from, to).await?;
        connection.command(Rset).await.map_err(|error| self.failed("RSET", &error))?;
        connection.command(Noop).await.map_err(|error| self.failed("NOOP", &error))?;
        leave(connection).await;
        Ok(outcome)
    }

    async fn envelope(
        &self,
        connection: &mut AsyncSmtpConnection,
        from: &Address,
        to: &[Address],
    ) -> Result<MailOutcome, Sent> {
        let begin = Mail::new(Some(from.clone()), Vec::new());
        connection.command(begin).await.map_err(|error| self.failed("the sender", &error))?;
        let mut outcome = MailOutcome::default();
        for one in to {
            match connection.command(Rcpt::new(one.clone(), Vec::new())).await {
                Ok(_) => outcome.accepted.push(one.clone()),
                // 421: the server goes away.
                Err(error) if error.status().is_some_and(|code| code.to_string() == "421") => {
                    return Err(self.failed("a recipient", &error));
                }
                Err(error) if error.is_permanent() => {
                    outcome.refused.push((one.clone(), self.said(&error)));
                }
                Err(error) if error.is_transient() => {
                    outcome.later.push((one.clone(), self.said(&error)));
                }
                Err(error) => return Err(self.failed("a recipient", &error)),
            }
        }
        Ok(outcome)
    }

    /// Connects, encrypts and signs in.
    async fn enter(&self) -> Result<AsyncSmtpConnection, Sent> {
        let hello = ClientId::default();
        let addresses = self.addresses().await?;
        let greeting = |error: Error| self.failed("the greeting", &error);
        let mut connection = if self.tls == Tls::Tls {
            let limit = Duration::from_secs(CONNECT_SECS_MAX);
            let tls = Some(self.parameters.clone());
            AsyncSmtpConnection::connect_tokio1(&addresses[..], Some(limit), &hello, tls, None)
                .await
                .map_err(greeting)?
        } else {
            let connect = TcpStream::connect(&addresses[..]);
            let stream = within(CONNECT_SECS_MAX, connect).await?;
            let stream = stream.map_err(|error| later(format!("cannot connect: {error}")))?;
            let stream = Box::new(Careful { stream, is_tls: false });
            AsyncSmtpConnection::connect_with_transport(stream, &hello).await.map_err(greeting)?
        };
        if self.tls == Tls::Starttls {
            if !connection.server_info().supports_feature(Extension::StartTls) {
                leave(connection).await;
                let error = "the server offers no STARTTLS: nothing is sent, since it would go \
                             unencrypted; `tls = \"tls\"` is for a port that begins with TLS"
                    .to_owned();
                return Err(Sent::Misconfigured { error });
            }
            let tls = self.parameters.clone();
            let done = connection.starttls(tls, &hello).await;
            done.map_err(|error| self.failed(Starttls.to_string().trim(), &error))?;
        }
        let Some((user, password)) = &self.login else { return Ok(connection) };
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        if connection.server_info().get_auth_mechanism(&mechanisms).is_none() {
            leave(connection).await;
            let error = "the server offers no sign-in (AUTH PLAIN or LOGIN), and `user` is set";
            return Err(Sent::Misconfigured { error: error.to_owned() });
        }
        let login = Credentials::new(user.clone(), password.expose().to_owned());
        match connection.auth(&mechanisms, &login).await {
            Ok(_) => Ok(connection),
            Err(error) if error.is_permanent() => Err(Sent::Misconfigured {
                error: format!("the server refuses the sign-in: {}", self.said(&error)),
            }),
            Err(error) => Err(self.failed("the sign-in", &error)),
        }
    }

    /// Where the server is; refused where it is not on the internet and that is not allowed.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, Sent> {
        let lookup = tokio::net::lookup_host((self.host.as_str(), self.port));
        let found = within(CONNECT_SECS_MAX, lookup).await?;
        let found: Vec<SocketAddr> = found
            .map_err(|error| later(format!("the name {} is not found: {error}", self.host)))?
            .collect();
        let hidden = found.iter().find(|address| !guard::is_public(address.ip()));
        match hidden {
            Some(hidden) if !self.allow_private => {
                let error = guard::refusal(&self.host, hidden.ip());
                Err(Sent::Misconfigured { error })
            }
            _ if found.is_empty() => Err(later(format!("{} has no address", self.host))),
            _ => Ok(found),
        }
    }

    /// What a failure at a step means.
    fn failed(&self, step: &str, error: &Error) -> Sent {
        if let Some(code) = error.status() {
            let is_transient = error.is_transient();
            let error = format!("to {step}, the server answered {}", self.said(error));
            return match code.to_string().as_str() {
                // Sign-in needed, mechanism too weak, refused: RFC 4954.
                "530" | "534" | "535" | "538" => Sent::Misconfigured { error },
                _ if is_transient => later(error),
                _ => Sent::Rejected { error },
            };
        }
        if let Some(tls) = tls_error(error) {
            return self.untrusted(tls);
        }
        let cause = error_chain::innermost(error);
        later(format!("the connection broke at {step}: {}", self.shown(&cause)))
    }

    fn untrusted(&self, error: &rustls::Error) -> Sent {
        use rustls::CertificateError as Fault;
        let told = self.shown(&error.to_string());
        match error {
            // In time, somebody renews it.
            rustls::Error::InvalidCertificate(
                Fault::Expired | Fault::ExpiredContext { .. } | Fault::NotValidYet,
            ) => later(format!("the server's certificate is out of date: {told}")),
            rustls::Error::InvalidCertificate(_) => Sent::Misconfigured {
                error: format!(
                    "the server's certificate is not trusted ({told}): `ca_file` names the \
                     authority of a private one, and `host` has to be a name that it bears"
                ),
            },
            _ => later(format!("no TLS with the server: {told}")),
        }
    }

    /// `550 no such user`.
    fn said(&self, error: &Error) -> String {
        let code = error.status().map(|code| code.to_string()).unwrap_or_default();
        let text = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        format!("{code} {}", self.shown(&text)).trim().to_owned()
    }

    /// A text of the server, without the password.
    fn shown(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if let Some((user, password)) = &self.login
            && !password.expose().is_empty()
        {
            let password = password.expose();
            // As it goes over the line by LOGIN and by PLAIN; first, since they may hold it.
            let plain = BASE64.encode(format!("\0{user}\0{password}"));
            for secret in [plain, BASE64.encode(password), password.to_owned()] {
                text = text.replace(&secret, "***");
            }
        }
        text::cap(&text, ANSWER_COLUMNS_MAX)
    }
}

impl MailOutcome {
    /// `not to anna@example.com: 550 no such user`.
    pub(super) fn told(list: &[(Address, String)]) -> String {
        let shown = list.iter().take(REFUSED_SHOWN_MAX);
        let mut told: Vec<String> =
            shown.map(|(address, said)| format!("{address}: {said}")).collect();
        if list.len() > REFUSED_SHOWN_MAX {
            told.push(format!("and {} more", list.len() - REFUSED_SHOWN_MAX));
        }
        format!("not to {}", told.join("; "))
    }
}

fn later(error: String) -> Sent {
    Sent::RetryAfter { after: None, error }
}

async fn within<T>(secs: u64, work: impl Future<Output = T>) -> Result<T, Sent> {
    let done = tokio::time::timeout(Duration::from_secs(secs), work).await;
    done.map_err(|_| later("no connection in time".to_owned()))
}

async fn leave(mut connection: AsyncSmtpConnection) {
    // Whatever comes of it: what matters is done.
    let leave = connection.command(Quit);
    let _ = tokio::time::timeout(Duration::from_secs(QUIT_SECS_MAX), leave).await;
}

/// What TLS found wrong; an `io::Error` hides it from `source`.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
