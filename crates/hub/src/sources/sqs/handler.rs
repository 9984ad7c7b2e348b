//! One message: what becomes of it.

use std::sync::Arc;

use bytes::Bytes;
use rootwatch_core::decode::PassedOver;

use super::message::{self, Message, ObjectName};
use crate::sources::context::Surroundings;
use crate::sources::retry;
use crate::sources::s3::{Objects, Taken};
use rootwatch_engine::{IngestError, Origin, Outcome};

/// What to do with a message.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// All of it is on disk: delete it.
    Done,
    /// It cannot be used: leave it to the redrive policy. `kind` is for counting.
    Leave { kind: &'static str, reason: String },
    /// It is sound and could not be saved, or the hub closes: let another have it at once.
    GiveBack(IngestError),
}

/// Where messages are read and done, whoever brings them: a receiver, or Lambda.
pub(crate) struct Desk {
    pub(crate) objects: Arc<Objects>,
    pub(crate) around: Surroundings,
    /// `sqs:<name>` or `lambda`; also the name for health.
    pub(crate) origin: Origin,
}

impl Desk {
    /// Does what a message asks for.
    pub(crate) async fn judge(&self, body: &str) -> Verdict {
        match message::read(body) {
            Message::Poison(reason) => Verdict::Leave { kind: "not_decodable", reason },
            Message::Nothing(what) => {
                tracing::debug!(source = %self.origin.source, what, "a message is passed over");
                Verdict::Done
            }
            Message::Records { text, stated } => {
                self.take_records(Bytes::copy_from_slice(text.as_bytes()), stated).await
            }
            Message::Drill(drill) => {
                match self.around.intake.drill(&drill.account, &drill.region).await {
                    Ok(()) => Verdict::Done,
                    Err(error) => Verdict::GiveBack(error),
                }
            }
            Message::Objects { names, is_history } => {
                let past = is_history.then(|| self.origin.of_the_past());
                self.take_objects(&names, past.as_ref().unwrap_or(&self.origin)).await
            }
        }
    }

    async fn take_records(&self, body: Bytes, stated: bool) -> Verdict {
        let mut shutdown = self.around.shutdown.clone();
        let intake = self.around.intake.as_ref();
        let outcomes = match retry::take(intake, &self.origin, &body, &mut shutdown).await {
            Ok(outcomes) => outcomes,
            Err(error @ (IngestError::TooLarge { .. } | IngestError::Damaged { .. })) => {
                return Verdict::Leave { kind: "not_decodable", reason: error.to_string() };
            }
            Err(error) => return Verdict::GiveBack(error),
        };
        let skipped = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Skipped { reason, record, .. } => Some(format!("record {record}: {reason}")),
            _ => None,
        });
        if let Some(reason) = skipped {
            return Verdict::Leave { kind: "not_decodable", reason };
        }
        // An event that holds no record of CloudTrail is sound; JSON of no known shape is not.
        let foreign = PassedOver::NotCloudTrail.name();
        let is_foreign =
            |outcome: &Outcome| matches!(outcome, Outcome::PassedOver { what } if *what == foreign);
        if !stated && outcomes.iter().any(is_foreign) && outcomes.iter().all(is_foreign) {
            let reason = "neither a record, an event nor a notification".to_owned();
            return Verdict::Leave { kind: "not_decodable", reason };
        }
        Verdict::Done
    }

    /// All objects are tried, so that one that is gone does not cost the others.
    async fn take_objects(&self, objects: &[ObjectName], origin: &Origin) -> Verdict {
        let mut left: Option<(&'static str, String)> = None;
        for ObjectName { bucket, key } in objects {
            let taken = self.objects.take(bucket, key, &self.around, origin).await;
            let (kind, reason) = match taken {
                Taken::Read { records, findings } => {
                    tracing::debug!(
                        source = %self.origin.source, bucket, key, records, findings,
                        "a log file was read",
                    );
                    continue;
                }
                Taken::PassedOver => continue,
                Taken::NotSaved(error) => return Verdict::GiveBack(error),
                Taken::Damaged(reason) => ("damaged", reason),
                Taken::Refused(reason) => ("object_refused", reason),
                Taken::Unreachable(reason) => ("object_unreachable", reason),
            };
            left.get_or_insert_with(|| (kind, format!("s3://{bucket}/{key}: {reason}")));
        }
        match left {
            None => Verdict::Done,
            Some((kind, reason)) => Verdict::Leave { kind, reason },
        }
    }
}
