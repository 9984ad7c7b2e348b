//! One message: what becomes of it.

use std::sync::Arc;

use bytes::Bytes;
use rootwatch_core::decode::PassedOver;

use super::message::{self, MessageContent, ObjectName};
use crate::sources::context::SourceContext;
use crate::sources::retry;
use crate::sources::s3::{Objects, Taken};
use rootwatch_engine::{IngestError, IntakeOutcome, RecordSource};

/// What to do with a message.
#[derive(Debug)]
pub(crate) enum MessageResult {
    /// All of it is on disk: delete it.
    Done,
    /// It cannot be used: leave it to the redrive policy. `kind` is for counting.
    Leave { kind: &'static str, reason: String },
    /// It is sound and could not be saved, or the hub closes: let another have it at once.
    GiveBack(IngestError),
}

/// Where messages are read and done, whoever brings them: a receiver, or Lambda.
pub(crate) struct MessageHandler {
    pub(crate) objects: Arc<Objects>,
    pub(crate) context: SourceContext,
    /// `sqs:<name>` or `lambda`; also the name for health.
    pub(crate) record_source: RecordSource,
}

impl MessageHandler {
    /// Does what a message asks for.
    pub(crate) async fn handle(&self, body: &str) -> MessageResult {
        match message::read(body) {
            MessageContent::Poison(reason) => {
                MessageResult::Leave { kind: "not_decodable", reason }
            }
            MessageContent::Nothing(what) => {
                tracing::debug!(source = %self.record_source.source, what, "a message is passed over");
                MessageResult::Done
            }
            MessageContent::Records { text, stated } => {
                self.take_records(Bytes::copy_from_slice(text.as_bytes()), stated).await
            }
            MessageContent::Drill(drill) => {
                match self.context.intake.drill(&drill.account, &drill.region).await {
                    Ok(()) => MessageResult::Done,
                    Err(error) => MessageResult::GiveBack(error),
                }
            }
            MessageContent::Objects { names, is_history } => {
                let past = is_history.then(|| self.record_source.as_history());
                self.take_objects(&names, past.as_ref().unwrap_or(&self.record_source)).await
            }
        }
    }

    async fn take_records(&self, body: Bytes, stated: bool) -> MessageResult {
        let mut shutdown = self.context.shutdown.clone();
        let intake = self.context.intake.as_ref();
        let outcomes = match retry::take(intake, &self.record_source, &body, &mut shutdown).await {
            Ok(outcomes) => outcomes,
            Err(error @ (IngestError::TooLarge { .. } | IngestError::Damaged { .. })) => {
                return MessageResult::Leave { kind: "not_decodable", reason: error.to_string() };
            }
            Err(error) => return MessageResult::GiveBack(error),
        };
        let skipped = outcomes.iter().find_map(|outcome| match outcome {
            IntakeOutcome::Skipped { reason, record, .. } => {
                Some(format!("record {record}: {reason}"))
            }
            _ => None,
        });
        if let Some(reason) = skipped {
            return MessageResult::Leave { kind: "not_decodable", reason };
        }
        // An event that holds no record of CloudTrail is sound; JSON of no known shape is not.
        let foreign = PassedOver::NotCloudTrail.name();
        let is_foreign = |outcome: &IntakeOutcome| matches!(outcome, IntakeOutcome::PassedOver { what } if *what == foreign);
        if !stated && outcomes.iter().any(is_foreign) && outcomes.iter().all(is_foreign) {
            let reason = "neither a record, an event nor a notification".to_owned();
            return MessageResult::Leave { kind: "not_decodable", reason };
        }
        MessageResult::Done
    }

    /// All objects are tried, so that one that is gone does not cost the others.
    async fn take_objects(
        &self,
        objects: &[ObjectName],
        record_source: &RecordSource,
    ) -> MessageResult {
        let mut left: Option<(&'static str, String)> = None;
        for ObjectName { bucket, key } in objects {
            let taken = self.objects.take(bucket, key, &self.context, record_source).await;
            let (kind, reason) = match taken {
                Taken::Read { records, findings } => {
                    tracing::debug!(
                        source = %self.record_source.source, bucket, key, records, findings,
                        "a log file was read",
                    );
                    continue;
                }
                Taken::PassedOver => continue,
                Taken::NotSaved(error) => return MessageResult::GiveBack(error),
                Taken::Damaged(reason) => ("damaged", reason),
                Taken::Refused(reason) => ("object_refused", reason),
                Taken::Unreachable(reason) => ("object_unreachable", reason),
            };
            left.get_or_insert_with(|| (kind, format!("s3://{bucket}/{key}: {reason}")));
        }
        match left {
            None => MessageResult::Done,
            Some((kind, reason)) => MessageResult::Leave { kind, reason },
        }
    }
}
