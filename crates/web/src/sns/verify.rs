//! Checks an SNS message before anything is fetched for it: its shape, its time, and where its
//! certificate comes from. [`super::certificate`] checks the certificate and the signature.
//!
//! Facts: AWS's guide to verifying the signatures of SNS messages, and the names in certificates as
//! AWS's own SDK for Java expects them for each region.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use rootwatch_core::account::AccountId;
use serde::Deserialize;

/// Minutes by which a message's time may differ from the hub's clock, in both directions. SNS
/// retries an HTTPS endpoint for 3600 seconds at most (a hard limit); the rest is for the last
/// request itself and for clocks that differ.
pub(super) const SKEW_MINUTES_MAX: i64 = 75;
/// Bytes of an id, a subject, a token or a URL at most.
const FIELD_BYTES_MAX: usize = 2_048;
/// Letters of a certificate's file name at most.
const FILE_NAME_MAX: usize = 128;
/// Letters of a region's name.
const REGION_LETTERS: std::ops::RangeInclusive<usize> = 4..=32;

/// What is wrong with a message; public text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// For the counter.
    pub(super) reason: &'static str,
    /// For the sender.
    pub(super) text: String,
    /// False for what is malformed, true for what is sound and not trusted.
    pub(super) is_distrust: bool,
}

fn malformed(text: impl Into<String>) -> Fault {
    Fault { reason: "malformed", text: text.into(), is_distrust: false }
}

pub(super) fn distrust(reason: &'static str, text: impl Into<String>) -> Fault {
    Fault { reason, text: text.into(), is_distrust: true }
}

/// A message as SNS posts it. Other members are not signed and are ignored.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct SnsEnvelope {
    #[serde(rename = "Type")]
    pub(super) kind: Option<String>,
    pub(super) message_id: Option<String>,
    pub(super) topic_arn: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) message: Option<String>,
    pub(super) timestamp: Option<String>,
    pub(super) signature_version: Option<String>,
    pub(super) signature: Option<String>,
    #[serde(rename = "SigningCertURL")]
    pub(super) signing_cert_url: Option<String>,
    #[serde(rename = "SubscribeURL")]
    pub(super) subscribe_url: Option<String>,
    pub(super) token: Option<String>,
}

/// The kind of a message, with what only that kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SnsMessageKind {
    Notification { subject: Option<String> },
    Subscribed { url: String, token: String },
    Unsubscribed { url: String, token: String },
}

/// A message whose members are present and well-formed. None of them is trusted yet.
#[derive(Debug, Clone)]
pub(super) struct SnsMessage {
    pub(super) kind: SnsMessageKind,
    pub(super) id: String,
    pub(super) topic: String,
    pub(super) message: String,
    /// As it was sent: that is what is signed.
    pub(super) timestamp: String,
    pub(super) at: Timestamp,
    pub(super) digest: Digest,
    pub(super) signature: Vec<u8>,
    pub(super) certificate_url: String,
}

/// How the text was hashed before it was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digest {
    /// Version 1. It is what a topic does unless it is told otherwise: forging a signature would
    /// take a second preimage of SHA-1, which nobody can make, not a collision.
    Sha1,
    /// Version 2.
    Sha256,
}

impl SnsMessage {
    /// Looks at the members. The topic has been looked at before.
    pub(super) fn read(envelope: SnsEnvelope, topic: String) -> Result<Self, Fault> {
        let digest = match envelope.signature_version.as_deref() {
            Some("1") => Digest::Sha1,
            Some("2") => Digest::Sha256,
            _ => {
                let text = "`SignatureVersion` must be \"1\" or \"2\"";
                return Err(distrust("signature_version", text));
            }
        };
        let id = line("MessageId", envelope.message_id)?;
        if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') || id.len() > 64 {
            return Err(malformed("`MessageId` is not an id of SNS"));
        }
        let timestamp = line("Timestamp", envelope.timestamp)?;
        let at = timestamp.parse().map_err(|_| malformed("`Timestamp` is not a time"))?;
        let kind = match envelope.kind.as_deref() {
            Some("Notification") => {
                let subject = envelope.subject.map(|subject| line("Subject", Some(subject)));
                SnsMessageKind::Notification { subject: subject.transpose()? }
            }
            Some(confirmation @ ("SubscriptionConfirmation" | "UnsubscribeConfirmation")) => {
                let url = line("SubscribeURL", envelope.subscribe_url)?;
                let token = line("Token", envelope.token)?;
                match confirmation {
                    "SubscriptionConfirmation" => SnsMessageKind::Subscribed { url, token },
                    _ => SnsMessageKind::Unsubscribed { url, token },
                }
            }
            _ => return Err(malformed("`Type` is not a type of SNS messages")),
        };
        let signature = line("Signature", envelope.signature)?;
        let signature =
            STANDARD.decode(signature).map_err(|_| malformed("`Signature` is not Base64"))?;
        let certificate_url = line("SigningCertURL", envelope.signing_cert_url)?;
        let message = envelope.message.ok_or_else(|| malformed("`Message` is missing"))?;
        Ok(Self { kind, id, topic, message, timestamp, at, digest, signature, certificate_url })
    }

    /// The signed text. Only `Message` may hold line breaks, and it comes first, so that no two messages
    /// have the same text and no words can move from one member to another.
    pub(super) fn canonical(&self) -> String {
        let mut members = vec![("Message", self.message.as_str()), ("MessageId", &self.id)];
        let tail = [("Timestamp", self.timestamp.as_str()), ("TopicArn", &self.topic)];
        match &self.kind {
            SnsMessageKind::Notification { subject } => {
                members.extend(subject.as_deref().map(|subject| ("Subject", subject)));
                members.extend(tail);
                members.push(("Type", "Notification"));
            }
            SnsMessageKind::Subscribed { url, token }
            | SnsMessageKind::Unsubscribed { url, token } => {
                members.push(("SubscribeURL", url));
                members.push(tail[0]);
                members.push(("Token", token));
                members.push(tail[1]);
                let is_new = matches!(self.kind, SnsMessageKind::Subscribed { .. });
                let kind =
                    if is_new { "SubscriptionConfirmation" } else { "UnsubscribeConfirmation" };
                members.push(("Type", kind));
            }
        }
        let mut text = String::with_capacity(self.message.len() + 512);
        for (name, value) in members {
            text.extend([name, "\n", value, "\n"]);
        }
        text
    }

    /// Checks that the time of the message is near `now`.
    pub(super) fn check_time(&self, now: Timestamp) -> Result<(), Fault> {
        let apart = self.at.duration_since(now).abs();
        if apart > SignedDuration::from_mins(SKEW_MINUTES_MAX) {
            return Err(distrust(
                "timestamp",
                format!(
                    "`Timestamp` is more than {SKEW_MINUTES_MAX} minutes from the hub's clock: the \
                     message is too old, or the clock is wrong"
                ),
            ));
        }
        Ok(())
    }
}

/// A member that is there, short, and one line.
fn line(name: &str, value: Option<String>) -> Result<String, Fault> {
    let value = value.ok_or_else(|| malformed(format!("`{name}` is missing")))?;
    if value.len() > FIELD_BYTES_MAX {
        return Err(malformed(format!("`{name}` is longer than {FIELD_BYTES_MAX} bytes")));
    }
    if value.chars().any(char::is_control) {
        return Err(malformed(format!("`{name}` holds a line break or another control character")));
    }
    Ok(value)
}

/// The region of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicLocation {
    region: String,
    /// Domain of its partition.
    domain: &'static str,
}

impl TopicLocation {
    /// Of a topic's ARN, `arn:<partition>:sns:<region>:<account>:<name>`.
    pub(super) fn of(topic: &str) -> Option<Self> {
        let parts: Vec<&str> = topic.split(':').collect();
        let ["arn", partition, "sns", region, account, name] = parts[..] else { return None };
        let domain = match partition {
            "aws" | "aws-us-gov" => "amazonaws.com",
            "aws-cn" => "amazonaws.com.cn",
            _ => return None,
        };
        let is_region = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let is_sound = REGION_LETTERS.contains(&region.len())
            && region.bytes().all(is_region)
            && AccountId::is_valid(account)
            && !name.is_empty();
        is_sound.then(|| Self { region: region.to_owned(), domain })
    }

    /// Names for which SNS has its signing certificates made, by region.
    pub(super) fn signs_as(&self, name: &str) -> bool {
        let Self { region, domain } = self;
        name == "sns.amazonaws.com"
            || name == format!("sns.{region}.{domain}")
            || name == format!("sns-signing.{region}.{domain}")
            || name == format!("sns-{region}.{domain}")
            // Both regions of GovCloud use one.
            || region.starts_with("us-gov-") && name == "sns-us-gov-west-1.amazonaws.com"
    }
}

/// The hosts from which certificates and confirmations are fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hosts {
    loopback_port: Option<u16>,
}

impl Hosts {
    /// For tests: `http://127.0.0.1:<port>` is SNS of all regions.
    #[doc(hidden)]
    #[must_use]
    pub fn loopback(port: u16) -> Self {
        Self { loopback_port: Some(port) }
    }

    /// Path and query of a URL at SNS of this region. The URL is compared as text, before a parser could
    /// read it differently: another scheme, a user, a port, an upper-case letter or one dot more does not
    /// match.
    fn path<'u>(self, url: &'u str, place: &TopicLocation) -> Option<&'u str> {
        let source = match self.loopback_port {
            None => format!("https://sns.{}.{}", place.region, place.domain),
            Some(port) => format!("http://127.0.0.1:{port}"),
        };
        url.strip_prefix(&source)?.strip_prefix('/')
    }

    /// Checks that a signing certificate may be fetched from a URL: a file at the root, without a query.
    pub(super) fn check_certificate_url(
        self,
        url: &str,
        place: &TopicLocation,
    ) -> Result<(), Fault> {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let stem = self.path(url, place).and_then(|path| path.strip_suffix(".pem"));
        match stem {
            Some(stem)
                if !stem.is_empty()
                    && stem.len() <= FILE_NAME_MAX
                    && stem.bytes().all(is_letter) =>
            {
                Ok(())
            }
            _ => Err(distrust(
                "certificate_url",
                "`SigningCertURL` is not a certificate of SNS in the topic's region",
            )),
        }
    }

    /// Checks that fetching the URL confirms a subscription to the topic and does nothing else.
    pub(super) fn check_confirmation_url(
        self,
        url: &str,
        place: &TopicLocation,
        topic: &str,
        token: &str,
    ) -> Result<(), Fault> {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%:=&+".contains(&byte);
        let query = self
            .path(url, place)
            .and_then(|path| path.strip_prefix('?'))
            .filter(|query| query.bytes().all(is_letter));
        let mut pairs: Vec<(String, String)> = query
            .map(|query| url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
            .unwrap_or_default();
        pairs.sort();
        let expected = [("Action", "ConfirmSubscription"), ("Token", token), ("TopicArn", topic)];
        let is_ours = pairs.len() == expected.len()
            && pairs
                .iter()
                .zip(expected)
                .all(|((name, value), expected)| (name.as_str(), value.as_str()) == expected);
        if is_ours {
            return Ok(());
        }
        let text = "`SubscribeURL` does not confirm this topic at SNS in its region";
        Err(distrust("subscribe_url", text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "arn:aws:sns:eu-central-1:222233334444:root-events";

    fn place() -> TopicLocation {
        TopicLocation::of(TOPIC).expect("an ARN")
    }

    fn envelope(kind: &str) -> SnsEnvelope {
        let text = |text: &str| Some(text.to_owned());
        SnsEnvelope {
            kind: text(kind),
            message_id: text("m-1"),
            topic_arn: text(TOPIC),
            message: text("two\nlines"),
            timestamp: text("2026-05-04T14:00:05.123Z"),
            signature_version: text("2"),
            signature: text("AAAA"),
            signing_cert_url: text("https://sns.eu-central-1.amazonaws.com/S-1.pem"),
            ..SnsEnvelope::default()
        }
    }

    fn read(envelope: SnsEnvelope) -> Result<SnsMessage, Fault> {
        SnsMessage::read(envelope, TOPIC.to_owned())
    }

    #[test]
    fn the_signed_text_holds_the_members_of_its_kind_in_order() {
        let plain = read(envelope("Notification")).expect("sound").canonical();
        let head = "Message\ntwo\nlines\nMessageId\nm-1\n";
        let time = "Timestamp\n2026-05-04T14:00:05.123Z\n";
        let topic = format!("TopicArn\n{TOPIC}\n");
        assert_eq!(plain, format!("{head}{time}{topic}Type\nNotification\n"));
        let subject = SnsEnvelope { subject: Some("Root".to_owned()), ..envelope("Notification") };
        let with_subject = read(subject).expect("sound").canonical();
        let expected = format!("{head}Subject\nRoot\n{time}{topic}Type\nNotification\n");
        assert_eq!(with_subject, expected);
        for kind in ["SubscriptionConfirmation", "UnsubscribeConfirmation"] {
            let confirmation = SnsEnvelope {
                subscribe_url: Some("https://x/".to_owned()),
                token: Some("t".to_owned()),
                ..envelope(kind)
            };
            let text = read(confirmation).expect("sound").canonical();
            let middle = format!("SubscribeURL\nhttps://x/\n{time}Token\nt\n{topic}");
            assert_eq!(text, format!("{head}{middle}Type\n{kind}\n"));
        }
    }

    #[test]
    fn a_member_that_is_missing_or_could_pass_for_two_is_refused() {
        let break_it: [fn(&mut SnsEnvelope); 10] = [
            |envelope| envelope.subject = Some("a\nTimestamp\nb".to_owned()),
            |envelope| envelope.message_id = Some("a\nSubject\nb".to_owned()),
            |envelope| envelope.message_id = Some("m".repeat(65)),
            |envelope| envelope.timestamp = Some("yesterday".to_owned()),
            |envelope| envelope.kind = Some("notification".to_owned()),
            |envelope| envelope.kind = Some("SubscriptionConfirmation".to_owned()),
            |envelope| envelope.signature = Some("?".to_owned()),
            |envelope| envelope.signature = None,
            |envelope| envelope.message = None,
            |envelope| envelope.signing_cert_url = Some("x".repeat(FIELD_BYTES_MAX + 1)),
        ];
        for (number, break_it) in break_it.into_iter().enumerate() {
            let mut envelope = envelope("Notification");
            break_it(&mut envelope);
            let fault = read(envelope).expect_err("broken");
            assert!(!fault.is_distrust, "{number}: {fault:?}");
        }
        let version =
            SnsEnvelope { signature_version: Some("3".to_owned()), ..envelope("Notification") };
        assert_eq!(read(version).expect_err("unknown").reason, "signature_version");
    }

    #[test]
    fn certificates_come_from_sns_of_the_topics_region_alone() {
        let hosts = Hosts::default();
        let good = "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0a.pem";
        assert_eq!(hosts.check_certificate_url(good, &place()), Ok(()));
        let chinese =
            TopicLocation::of("arn:aws-cn:sns:cn-north-1:222233334444:t").expect("an ARN");
        let there = "https://sns.cn-north-1.amazonaws.com.cn/S.pem";
        assert_eq!(hosts.check_certificate_url(there, &chinese), Ok(()));
        let hostile = [
            "http://sns.eu-central-1.amazonaws.com/S.pem",
            "HTTPS://sns.eu-central-1.amazonaws.com/S.pem",
            "//sns.eu-central-1.amazonaws.com/S.pem",
            " https://sns.eu-central-1.amazonaws.com/S.pem",
            "https:/sns.eu-central-1.amazonaws.com/S.pem",
            "https:\\\\sns.eu-central-1.amazonaws.com/S.pem",
            "https://sns.eu-central-1.amazonaws.com",
            "https://sns.eu-central-1.amazonaws.com/.pem",
            "https://sns.eu-central-1.amazonaws.com.evil.test/S.pem",
            "https://sns.eu-central-1.amazonaws.com.cn/S.pem",
            "https://sns.eu-central-1.amazonaws.com./S.pem",
            "https://sns.eu-central-1.amazonaws.com:443/S.pem",
            "https://sns.eu-central-1.amazonaws.com:8443/S.pem",
            "https://sns.eu-central-1.amazonaws.com@evil.test/S.pem",
            "https://user@sns.eu-central-1.amazonaws.com/S.pem",
            "https://user:word@sns.eu-central-1.amazonaws.com/S.pem",
            "https://SNS.eu-central-1.amazonaws.com/S.pem",
            "https://sns.EU-central-1.amazonaws.com/S.pem",
            "https://sns.us-east-1.amazonaws.com/S.pem",
            "https://sns.evil.test/sns.eu-central-1.amazonaws.com/S.pem",
            "https://evil.test/https://sns.eu-central-1.amazonaws.com/S.pem",
            "https://evilsns.eu-central-1.amazonaws.com/S.pem",
            "https://sns.eu-central-1.amazonaws.comevil.test/S.pem",
            "https://192.0.2.7/S.pem",
            "https://[2001:db8::1]/S.pem",
            "http://127.0.0.1:80/S.pem",
            "https://sns.eu-central-1.amazonaws.com/S.pem?x=1",
            "https://sns.eu-central-1.amazonaws.com/?Action=X&y=.pem",
            "https://sns.eu-central-1.amazonaws.com/S.pem#.pem",
            "https://sns.eu-central-1.amazonaws.com/#.pem",
            "https://sns.eu-central-1.amazonaws.com/../S.pem",
            "https://sns.eu-central-1.amazonaws.com/%2e%2e/S.pem",
            "https://sns.eu-central-1.amazonaws.com//evil.test/S.pem",
            "https://sns.eu-central-1.amazonaws.com/a/S.pem",
            "https://sns.eu-central-1.amazonaws.com\\@evil.test/S.pem",
            "https://sns.eu-central-1.amazonaws.com/S.PEM",
            "https://sns.eu-central-1.amazonaws.com/S.pem.exe",
            "https://sns.eu-central-1.amazonaws.com/S%00.pem",
            "https://\u{455}ns.eu-central-1.amazonaws.com/S.pem",
            "",
        ];
        for url in hostile {
            assert!(hosts.check_certificate_url(url, &place()).is_err(), "{url}");
        }
    }

    #[test]
    fn only_the_url_that_confirms_this_topic_is_followed() {
        let hosts = Hosts::default();
        let begin = "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription";
        let check = |url: &str| hosts.check_confirmation_url(url, &place(), TOPIC, "t0");
        assert_eq!(check(&format!("{begin}&TopicArn={TOPIC}&Token=t0")), Ok(()));
        let escaped = TOPIC.replace(':', "%3A");
        assert_eq!(check(&format!("{begin}&Token=t0&TopicArn={escaped}")), Ok(()));
        let hostile = [
            format!("{begin}&TopicArn={TOPIC}"),
            format!("{begin}&TopicArn={TOPIC}&Token=other"),
            format!("{begin}&TopicArn={TOPIC}-2&Token=t0"),
            format!("{begin}&TopicArn={TOPIC}&Token=t0&Action=Unsubscribe"),
            format!("{begin}&TopicArn={TOPIC}&Token=t0&X=1"),
            format!("{begin}&TopicArn={TOPIC}&Token=t0#x"),
            format!("{begin}&TopicArn={TOPIC}&Token=t0").replace("Confirm", "Delete"),
            format!("{begin}&TopicArn={TOPIC}&Token=t0").replace("https", "http"),
            format!("{begin}&TopicArn={TOPIC}&Token=t0").replace(".com/", ".com.evil.test/"),
            format!("{begin}&TopicArn={TOPIC}&Token=t0").replace(".com/", ".com:444/"),
            format!("{begin}&TopicArn={TOPIC}&Token=t0").replace("//", "//u@"),
            format!("{begin}&TopicArn={TOPIC}&Token=t0").replace("/?", "/x?"),
        ];
        for url in hostile {
            assert!(check(&url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_topic_without_a_place_is_none() {
        for topic in [
            "",
            "arn:aws:sqs:eu-central-1:222233334444:t",
            "arn:aws:sns:eu-central-1:222233334444:t:subscription",
            "arn:aws:sns:evil.test/:222233334444:t",
            "arn:aws:sns:EU-CENTRAL-1:222233334444:t",
            "arn:other:sns:eu-central-1:222233334444:t",
            "arn:aws:sns:eu-central-1:12:t",
        ] {
            assert_eq!(TopicLocation::of(topic), None, "{topic}");
        }
    }

    #[test]
    fn certificates_of_all_regions_are_known_by_their_names_and_no_others() {
        let of = |partition: &str, region: &str| {
            TopicLocation::of(&format!("arn:{partition}:sns:{region}:222233334444:t"))
                .expect("an ARN")
        };
        assert!(of("aws", "us-east-1").signs_as("sns.amazonaws.com"));
        assert!(of("aws", "eu-south-1").signs_as("sns-signing.eu-south-1.amazonaws.com"));
        assert!(of("aws-cn", "cn-north-1").signs_as("sns-cn-north-1.amazonaws.com.cn"));
        assert!(of("aws-us-gov", "us-gov-east-1").signs_as("sns-us-gov-west-1.amazonaws.com"));
        for name in
            ["sns.us-east-1.amazonaws.com", "*.amazonaws.com", "sns.amazonaws.com.evil.test"]
        {
            assert!(!place().signs_as(name), "{name}");
        }
    }

    #[test]
    fn a_message_of_an_hour_ago_is_taken_and_an_older_one_is_not() {
        let message = read(envelope("Notification")).expect("sound");
        let at = |minutes| message.at + SignedDuration::from_mins(minutes);
        for minutes in [-SKEW_MINUTES_MAX, -1, 0, 60, SKEW_MINUTES_MAX] {
            assert_eq!(message.check_time(at(minutes)), Ok(()), "{minutes}");
        }
        for minutes in [-SKEW_MINUTES_MAX - 1, SKEW_MINUTES_MAX + 1, 1_000_000] {
            let fault = message.check_time(at(minutes)).expect_err("far");
            assert_eq!(fault.reason, "timestamp", "{minutes}");
        }
    }
}
