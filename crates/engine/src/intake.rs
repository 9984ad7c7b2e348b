//! Bytes to judged records, on the task of whoever brings them.
//!
//! What a record says about itself is checked against what else is known: an envelope that
//! contradicts it, or an account that is not ours, makes it *unverified*. Such a record is kept
//! apart and shown; it is never part of an incident, or somebody could raise false alarms, or tie
//! a real one to a false story, by posting events.

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
use crate::outcome::{EXPANSION_MAX, IngestError, Outcome};
use crate::permit::Room;

/// First bytes of a gzip member.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];
/// Bytes of a body above which it is classified on a thread of its own.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// Which records are ours.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Accounts of the organisation; empty where all count.
    pub accounts: BTreeSet<String>,
}

impl Trust {
    /// Why a record in its envelope is not trusted.
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
        self.stranger(account.as_deref())
    }

    /// Why a finding without an envelope is not trusted.
    pub fn doubt_finding(&self, finding: &Finding) -> Option<String> {
        let account = finding.recipient_account_id.as_deref().or(finding.account_id.as_deref());
        self.stranger(account)
    }

    fn stranger(&self, account: Option<&str>) -> Option<String> {
        if self.accounts.is_empty() {
            return None;
        }
        match account {
            Some(account) if self.accounts.contains(account) => None,
            Some(account) => Some(format!("account {} is not ours", short(account))),
            None => Some("the record names no account".to_owned()),
        }
    }
}

fn digits(account: &str) -> String {
    account.chars().filter(|letter| *letter != '-').collect()
}

/// As much of a text as belongs in a reason.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

/// One record of a request, judged.
#[derive(Debug)]
pub(crate) enum Judged {
    /// To be weighed by the engine.
    Detected(Box<Detected>),
    /// To be kept apart.
    Doubtful { finding: Box<Finding>, reason: String },
    /// Nothing to keep.
    Done(Outcome),
}

/// What a body holds.
#[derive(Debug)]
pub(crate) enum BodyContent {
    /// Its records, in their order.
    Records(Vec<Judged>),
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
        room: Room,
    ) -> Result<(BodyContent, Room), IngestError> {
        if body.len() <= INLINE_BYTES_MAX && !is_gzip(&body) {
            return self.read(body, room);
        }
        let classifier = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || classifier.read(body, room));
        task.await.map_err(|_| IngestError::Closing)?
    }

    fn read(&self, body: Bytes, mut room: Room) -> Result<(BodyContent, Room), IngestError> {
        let sent = body.len();
        let text = inflate(body, self.body_bytes_max)?;
        room.grow(text.len().saturating_sub(sent))?;
        let content = match Drill::read(&text) {
            Some(Ok(drill)) => BodyContent::Drill(drill),
            Some(Err(reason)) => {
                let reason = reason.to_owned();
                let skipped = Outcome::Skipped { reason, record: 1, offset: 0 };
                BodyContent::Records(vec![Judged::Done(skipped)])
            }
            None => {
                let limits = Limits::default();
                BodyContent::Records(judge_text(&text, &self.rules, &self.trust, &limits))
            }
        };
        Ok((content, room))
    }

    /// Checks the findings of a scan, in their order.
    pub(crate) fn classify_detected(&self, detected: Vec<Detected>) -> Vec<Judged> {
        let check = |detected: Detected| match self.trust.doubt_finding(&detected.finding) {
            None => Judged::Detected(Box::new(detected)),
            Some(reason) => Judged::Doubtful { finding: Box::new(detected.finding), reason },
        };
        detected.into_iter().map(check).collect()
    }
}

/// Judges all records of a text, in their order.
fn judge_text(text: &[u8], rules: &Ruleset, trust: &Trust, limits: &Limits) -> Vec<Judged> {
    let mut detector = Detector::new(rules);
    let mut judged = Vec::new();
    decode_log(text, limits, &mut |_, item| {
        judged.push(match item {
            Item::Event(event) => match detector.detect(&event) {
                None => Judged::Done(Outcome::NoFinding),
                Some(detected) => match trust.doubt(&event) {
                    None => Judged::Detected(Box::new(detected)),
                    Some(reason) => {
                        Judged::Doubtful { finding: Box::new(detected.finding), reason }
                    }
                },
            },
            Item::PassedOver(what) => Judged::Done(Outcome::PassedOver { what: what.name() }),
            Item::Skipped(skipped) => Judged::Done(Outcome::Skipped {
                reason: skipped.reason,
                record: skipped.place.record,
                offset: skipped.place.offset,
            }),
        });
    });
    judged
}

/// True for what begins as gzip does.
fn is_gzip(body: &[u8]) -> bool {
    body.starts_with(&GZIP)
}

/// The text of a body, inflated if it is gzip, within bounds.
fn inflate(body: Bytes, bytes_max: usize) -> Result<Bytes, IngestError> {
    if body.len() > bytes_max {
        return Err(IngestError::TooLarge { bytes_max });
    }
    if !is_gzip(&body) {
        return Ok(body);
    }
    let room = bytes_max.min(body.len().saturating_mul(EXPANSION_MAX).max(1 << 16));
    let mut text = Vec::with_capacity(body.len().saturating_mul(4).min(room));
    let mut reader = MultiGzDecoder::new(&body[..]).take(room as u64 + 1);
    match reader.read_to_end(&mut text) {
        Ok(_) if text.len() > room => Err(IngestError::TooLarge { bytes_max }),
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
        match judge_text(text.as_bytes(), &rules, trust, &Limits::default()).pop() {
            Some(Judged::Doubtful { reason, .. }) => Some(reason),
            Some(Judged::Detected(_)) => None,
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
            (event("aws.iam", "333344445555", "333344445555"), "account 333344445555 is not ours"),
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
