//! Bytes to judged records, on the task of whoever brings them.
//!
//! What a record says about itself is checked against what else is known: an envelope that
//! contradicts it, or an account that is not ours, makes it *unverified*. Such a record is kept
//! apart and shown; it is never part of an incident, or somebody could raise false alarms, or tie
//! a real one to a false story, by posting events.

use std::collections::BTreeSet;
use std::io::Read;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use rootwatch_core::decode::{Event, Item, Limits, decode_log};
use rootwatch_core::detect::{Detected, Detector};
use rootwatch_core::finding::Finding;
use rootwatch_core::incident::IncidentId;
use rootwatch_core::rules::Ruleset;
use rootwatch_store::StoreError;
use serde::Serialize;

pub use crate::engine::Ingest;

/// Times that a compressed body may grow.
pub const EXPANSION_MAX: usize = 200;
/// First bytes of a gzip member.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];

/// Who brought records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `http:<token name>`, `sns`, `sqs:<name>`, `directory:<name>` or `lambda`.
    pub source: String,
    /// True for records of the past that somebody has looked for: what they tell is kept and shown
    /// as history, and wakes nobody.
    pub history: bool,
}

impl Origin {
    /// Records as they happen, from this source.
    #[must_use]
    pub fn live(source: impl Into<String>) -> Self {
        Self { source: source.into(), history: false }
    }

    /// The same source, bringing records of the past.
    #[must_use]
    pub fn of_the_past(&self) -> Self {
        Self { history: true, ..self.clone() }
    }

    /// The kind of source, for metrics: what stands before the colon.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.source.split(':').next().unwrap_or_default()
    }
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It is a finding, and on disk.
    Saved {
        /// The incident that holds it.
        incident: IncidentId,
    },
    /// It was saved before.
    Known,
    /// No root use, and no rule speaks: nothing to keep.
    NoFinding,
    /// It says what it may not: kept apart.
    Unverified {
        /// Why it is not trusted.
        reason: String,
    },
    /// Somebody tries the way: a test alert is owed, and on disk.
    Drill {
        /// The account from which it came.
        account: String,
        /// The region from which it came.
        region: String,
    },
    /// Sound, and no API record.
    PassedOver {
        /// What it is.
        what: &'static str,
    },
    /// It could not be decoded.
    Skipped {
        /// Why.
        reason: String,
        /// Number of the record in its text, from 1; 0 where none had begun.
        record: u64,
        /// Byte offset in the (decompressed) text.
        offset: u64,
    },
}

/// Why records were not taken. Nothing of the request was saved: the sender still has it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// Too much is waiting already.
    #[error("the hub is busy: come again in {retry_after_secs} s")]
    Busy {
        /// When to come again, in seconds.
        retry_after_secs: u64,
    },
    /// The body is larger than is taken, as sent or inflated.
    #[error(
        "the body is larger than {bytes_max} bytes, or grows by more than {EXPANSION_MAX} times"
    )]
    TooLarge {
        /// Bytes at most.
        bytes_max: usize,
    },
    /// The body cannot be inflated.
    #[error("the body is not sound gzip: {reason}")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// The store could not save.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The hub is closing.
    #[error("the hub is closing")]
    Closing,
}

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

/// Judges all records of a text, in their order.
pub(crate) fn judge_text(
    text: &[u8],
    rules: &Ruleset,
    trust: &Trust,
    limits: &Limits,
) -> Vec<Judged> {
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

/// Weighs what a scan found, in its order.
pub(crate) fn judge_detected(detected: Vec<Detected>, trust: &Trust) -> Vec<Judged> {
    let weigh = |detected: Detected| match trust.doubt_finding(&detected.finding) {
        None => Judged::Detected(Box::new(detected)),
        Some(reason) => Judged::Doubtful { finding: Box::new(detected.finding), reason },
    };
    detected.into_iter().map(weigh).collect()
}

/// True for what begins as gzip does.
pub(crate) fn is_gzip(body: &[u8]) -> bool {
    body.starts_with(&GZIP)
}

/// The text of a body, inflated if it is gzip, within bounds.
pub(crate) fn inflate(body: Bytes, bytes_max: usize) -> Result<Bytes, IngestError> {
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
