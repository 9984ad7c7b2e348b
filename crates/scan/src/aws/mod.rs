//! Inputs in AWS: log files in S3, queues of S3 notifications, and the events that CloudTrail itself
//! keeps for 90 days. Only this part of the crate uses the network and an async runtime, and only for
//! `s3://`, `lookup://` or a queue.
//!
//! The async side lists and fetches, within limits that do not depend on the size of the bucket. The
//! reader threads read what is fetched in the same way as files (`reader.rs`).
//!
//! # Layout
//!
//! Below `AWSLogs/`, accounts and regions are listed level by level, as far as the filters allow. Keys
//! of a region sort by time, so the days of a filter are one range of keys: the listing begins at its
//! first day (`StartAfter`) and ends after its last. Below an account only `CloudTrail/` is listed:
//! beside it are digests, Insights and the logs of other services. A prefix without this layout is
//! listed completely.
//!
//! # Checkpoint
//!
//! Results are saved in the order of keys, so that one key stands for all before it; lines are appended
//! and flushed, and a torn one is removed. A *temporary* failure ends a scan with a checkpoint: it must
//! not become a gap that the checkpoint keeps.
//!
//! # Fan-out
//!
//! `scan --fan-out` sends the listed objects as S3 notifications to a queue, several objects in a
//! message. They contain `rootwatch.history`, which shows the hub that they are a backfill.
//!
//! # Lookup
//!
//! `lookup://` passes the answers of `LookupEvents`, whose format the splitter knows, to the same
//! threads. The request has no attribute filter, since no single attribute covers all root use.
//!
//! # Limits
//!
//! Permits limit connections, bytes that are fetched and not yet read, and objects ahead of the oldest
//! that is not done. A small object is fetched completely before a thread takes it; a larger one
//! streams through its thread's window. A connection that breaks is resumed at its byte, with
//! `If-Match`.
//!
//! | Limit | Value | Meaning |
//! |---|---|---|
//! | `BYTES_IN_FLIGHT_MAX` | 64 MiB | objects that are fetched and not yet read; a streamed one counts as `STREAM_BYTES`, 4 MiB |
//! | `OBJECTS_AHEAD_MAX` | 4,096 | objects whose results wait for an earlier one |
//! | `LISTED_AHEAD_MAX` | 2,000 | objects that are listed before they are fetched |
//! | `LISTINGS_AHEAD_MAX` | 8 | pages of 1,000 keys that are requested at the same time |
//! | `MESSAGE_OBJECTS_MAX`, `MESSAGE_OBJECT_BYTES_MAX` | 25, 16 MiB | objects in one message of a fan-out, and their compressed bytes |
//! | `ANSWERS_AHEAD_MAX`, `ANSWER_BYTES_MAX` | 32, 16 MiB | answers of `LookupEvents` that wait, and the largest |

mod access;
mod checkpoint;
mod commit;
mod failure;
mod fan_out;
mod fetched;
mod interrupt;
mod lookup;
mod mark;
mod queue;
mod runtime;
mod s3;
mod usage;

pub use self::access::Roles;
pub use self::checkpoint::{CHECKPOINT_EVERY_OBJECTS, CheckpointPlan};
pub use self::failure::{CloudError, Failure, chained, failure_of};
pub use self::fan_out::{FannedOut, fan_out};
pub use self::interrupt::Interrupt;
pub use self::lookup::{LOOKUP_DAYS_MAX, LookupPlaces, scan_lookup};
pub use self::queue::{QueueCounts, QueueFollower};
pub use self::s3::{S3_CONCURRENCY, S3_CONCURRENCY_MAX, S3Address, S3Options, scan_s3};
pub use self::usage::{PRICES_AS_OF, Usage};
