//! From bytes to checked records, on the task of the sender.
//!
//! What a record says about itself is compared with its envelope and with the configured accounts. If
//! they contradict each other, or the account is not configured, the record is *unverified*: it is saved
//! and shown, but is never part of an incident. Otherwise anybody who can post events could raise false
//! alarms, or attach false findings to a real incident.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use rootwatch_core::decode::{Event, Item, Limits, decode_log};
use rootwatch_core::detect::{Detected, Detector};
use rootwatch_core::finding::Finding;
use rootwatch_core::rules::Ruleset;

use crate::drill::Drill;
use crate::outcome::{EXPANSION_MAX, IngestError, IntakeOutcome};
use crate::permit::MemoryPermit;

/// First bytes of a gzip member.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];
/// Bytes of a body above which it is classified on a thread of its own.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// Which accounts records are trusted to be of.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Accounts of the organization. Empty: all accounts.
    pub accounts: BTreeSet<String>,
}

impl Trust {
    /// Why a record in its envelope is not trusted, if it is not.
    pub fn doubt(&self, event: &Event<'_>) -> Option<String> {
        let (envelope, record) = (&event.envelope, &event.record);
        if envelope.stated {
            match envelope.source.as_deref() {
                Some(source) if source.starts_with("aws.") => {}
                Some(source) => {
                    return Some(format!(
                        "the event's source is {:?}, not one of AWS's own",
                        short(source)
                    ));
                }
                None => return Some("the event states no source".to_owned()),
            }
            let said = envelope.account.as_deref().map(digits);
            let recipient = record.recipient_account_id.as_deref().map(digits);
            match (said, recipient) {
                (Some(said), Some(recipient)) if said != recipient => {
                    return Some(format!(
                        "the event came from account {}, its record was delivered to {}",
                        short(&said),
                        short(&recipient)
                    ));
                }
                _ => {}
            }
        }
        let account =
            envelope.account.as_deref().or(record.recipient_account_id.as_deref()).map(digits);
        self.unknown_account(account.as_deref())
    }

    /// Why a finding without an envelope is not trusted, if it is not.
    pub fn doubt_finding(&self, finding: &Finding) -> Option<String> {
        let account = finding.recipient_account_id.as_deref().or(finding.account_id.as_deref());
        self.unknown_account(account)
    }

    fn unknown_account(&self, account: Option<&str>) -> Option<String> {
        if self.accounts.is_empty() {
            return None;
        }
        match account {
            Some(account) if self.accounts.contains(account) => None,
            Some(account) => {
                Some(format!("account {} is not one of the configured accounts", short(account)))
            }
            None => Some("the record names no account".to_owned()),
        }
    }
}

fn digits(account: &str) -> String {
    account.chars().filter(|letter| *letter != '-').collect()
}

/// The beginning of a text by others, for a reason.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

/// One record of a request after decoding, detection and the check of its account.
#[derive(Debug)]
pub(crate) enum CheckedRecord {
    /// A finding for the engine.
    Detected(Box<Detected>),
    /// A finding that is not trusted.
    Doubtful { finding: Box<Finding>, reason: String },
    /// Nothing to save.
    Done(IntakeOutcome),
}

/// What a body holds.
#[derive(Debug)]
pub(crate) enum BodyContent {
    /// Its records, in their order.
    Records(Vec<CheckedRecord>),
    /// One drill and nothing else.
    Drill(Drill),
}

/// Turns what sources send into classified records.
#[derive(Debug)]
pub(crate) struct Classifier {
    pub(crate) rules: Arc<Ruleset>,
    pub(crate) trust: Trust,
    /// Bytes of one body at most, before and after inflating.
    pub(crate) body_bytes_max: usize,
}

impl Classifier {
    /// Inflates, decodes and classifies a body; a large or compressed one on a thread of its own.
    pub(crate) async fn classify_body(
        self: &Arc<Self>,
        body: Bytes,
        permit: MemoryPermit,
    ) -> Result<(BodyContent, MemoryPermit), IngestError> {
        if body.len() <= INLINE_BYTES_MAX && !is_gzip(&body) {
            return self.read(body, permit);
        }
        let classifier = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || classifier.read(body, permit));
        task.await.map_err(|_| IngestError::Closing)?
    }

    fn read(
        &self,
        body: Bytes,
        mut permit: MemoryPermit,
    ) -> Result<(BodyContent, MemoryPermit), IngestError> {
        let sent = body.len();
        let text = inflate(body, self.body_bytes_max)?;
        permit.grow(text.len().saturating_sub(sent))?;
        let content = match Drill::read(&text) {
            Some(Ok(drill)) => BodyContent::Drill(drill),
            Some(Err(reason)) => {
                let reason = reason.to_owned();
                let skipped = IntakeOutcome::Skipped { reason, record: 1, offset: 0 };
                BodyContent::Records(vec![CheckedRecord::Done(skipped)])
            }
            None => {
                let limits = Limits::default();
                BodyContent::Records(check_text(&text, &self.rules, &self.trust, &limits))
            }
        };
        Ok((content, permit))
    }

    /// Checks the findings of a scan, in their order.
    pub(crate) fn classify_detected(&self, detected: Vec<Detected>) -> Vec<CheckedRecord> {
        let check = |detected: Detected| match self.trust.doubt_finding(&detected.finding) {
            None => CheckedRecord::Detected(Box::new(detected)),
            Some(reason) => CheckedRecord::Doubtful { finding: Box::new(detected.finding), reason },
        };
        detected.into_iter().map(check).collect()
    }
}

/// Checks all records of a text, in their order.
fn check_text(text: &[u8], rules: &Ruleset, trust: &Trust, limits: &Limits) -> Vec<CheckedRecord> {
    let mut detector = Detector::new(rules);
    let mut checked = Vec::new();
    decode_log(text, limits, &mut |_, item| {
        checked.push(match item {
            Item::Event(event) => match detector.detect(&event) {
                None => CheckedRecord::Done(IntakeOutcome::NoFinding),
                Some(detected) => match trust.doubt(&event) {
                    None => CheckedRecord::Detected(Box::new(detected)),
                    Some(reason) => {
                        CheckedRecord::Doubtful { finding: Box::new(detected.finding), reason }
                    }
                },
            },
            Item::PassedOver(what) => {
                CheckedRecord::Done(IntakeOutcome::PassedOver { what: what.name() })
            }
            Item::Skipped(skipped) => CheckedRecord::Done(IntakeOutcome::Skipped {
                reason: skipped.reason,
                record: skipped.place.record,
                offset: skipped.place.offset,
            }),
        });
    });
    checked
}

/// True for bytes that begin like gzip.
fn is_gzip(body: &[u8]) -> bool {
    body.starts_with(&GZIP)
}

/// Inflates a body if it is gzip, within bounds.
fn inflate(body: Bytes, bytes_max: usize) -> Result<Bytes, IngestError> {
    if body.len() > bytes_max {
        return Err(IngestError::TooLarge { bytes_max });
    }
    if !is_gzip(&body) {
        return Ok(body);
    }
    let inflated_bytes_max = bytes_max.min(body.len().saturating_mul(EXPANSION_MAX).max(1 << 16));
    let mut text = Vec::with_capacity(body.len().saturating_mul(4).min(inflated_bytes_max));
    let mut reader = MultiGzDecoder::new(&body[..]).take(inflated_bytes_max as u64 + 1);
    match reader.read_to_end(&mut text) {
        Ok(_) if text.len() > inflated_bytes_max => Err(IngestError::TooLarge { bytes_max }),
        Ok(_) => Ok(text.into()),
        Err(error) => Err(IngestError::Damaged { reason: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn event(source: &str, account: &str, recipient: &str) -> String {
        format!(
            r#"{{"version":"0","id":"1","detail-type":"AWS API Call via CloudTrail","source":"{source}","account":"{account}","time":"2026-05-04T14:03:00Z","region":"us-east-1","resources":[],"detail":{{"eventVersion":"1.11","userIdentity":{{"type":"Root","accountId":"{recipient}","arn":"arn:aws:iam::{recipient}:root"}},"eventTime":"2026-05-04T14:03:00Z","eventSource":"iam.amazonaws.com","eventName":"CreateUser","awsRegion":"us-east-1","eventID":"e-1","eventType":"AwsApiCall","recipientAccountId":"{recipient}"}}}}"#
        )
    }

    fn doubt(text: &str, trust: &Trust) -> Option<String> {
        let rules = Ruleset::built_in();
        match check_text(text.as_bytes(), &rules, trust, &Limits::default()).pop() {
            Some(CheckedRecord::Doubtful { reason, .. }) => Some(reason),
            Some(CheckedRecord::Detected(_)) => None,
            other => panic!("not a finding: {other:?}"),
        }
    }

    #[test]
    fn an_event_that_agrees_with_itself_is_trusted() {
        let ours = event("aws.iam", "222233334444", "222233334444");
        assert_eq!(doubt(&ours, &Trust::default()), None);
        let accounts = BTreeSet::from(["222233334444".to_owned()]);
        assert_eq!(doubt(&ours, &Trust { accounts }), None);
    }

    #[test]
    fn forged_events_are_doubted_and_the_reason_says_why() {
        let trust = Trust { accounts: BTreeSet::from(["222233334444".to_owned()]) };
        let cases = [
            (event("my.app", "222233334444", "222233334444"), "not one of AWS's own"),
            (event("aws.iam", "111122223333", "222233334444"), "was delivered to 222233334444"),
            (
                event("aws.iam", "333344445555", "333344445555"),
                "account 333344445555 is not one of the configured accounts",
            ),
        ];
        for (text, expected) in cases {
            let reason = doubt(&text, &trust).unwrap_or_default();
            assert!(reason.contains(expected), "{reason:?} should say {expected:?}");
        }
    }

    #[test]
    fn a_body_that_grows_too_much_is_refused() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![b' '; 4 << 20]).expect("memory");
        let bomb = Bytes::from(encoder.finish().expect("memory"));
        assert!(matches!(inflate(bomb.clone(), 1 << 20), Err(IngestError::TooLarge { .. })));
        assert!(matches!(inflate(bomb, 64 << 20), Err(IngestError::TooLarge { .. })));
        let damaged = Bytes::from_static(&[0x1f, 0x8b, 8, 0, 1]);
        assert!(matches!(inflate(damaged, 1 << 20), Err(IngestError::Damaged { .. })));
        assert_eq!(inflate(Bytes::from_static(b"{}"), 10).expect("plain"), &b"{}"[..]);
    }
}
