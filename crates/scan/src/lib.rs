//! Finds root use in log files, at the speed of decompression.
//!
//! Threads share one walk over the inputs. Each takes a file, inflates it into a buffer of its own
//! (or streams it through a window if it is large), and runs one pass over the text that finds where
//! records end and which of them may be findings. Only those are decoded and classified. Memory is
//! bounded by the buffers, whatever the size of the archive; findings are kept until the end, because
//! correlation needs all of them. A hub passes findings on instead ([`objects::ObjectScanner`]).
//!
//! A scan counts and lists everything that it cannot read or decode, with its place, and scans
//! everything else.
//!
//! # Walk
//!
//! Each folder is listed when it is entered, in the order of names; there is no list of all files.
//! Links are followed, circles are reported. The walk hands out one file after the other to the
//! threads (`walk.rs`).
//!
//! # Inflate
//!
//! A gzip file is inflated whole into a buffer that its thread keeps: by our own inflater where the
//! processor has AVX2 and BMI2, by libdeflate elsewhere and for all members but the first. Its
//! checksum is computed stripe by stripe, right before the kernel reads the same bytes. Records that
//! the kernel keeps wait, and nothing is reported before the checksum is verified. A file that is too
//! large or damaged, and every zstd file, goes through a window instead (other code inflates it once
//! more), which gives the records before the damage. So a fault of our own inflater could cost time,
//! but not findings. Our own inflater accepts and refuses what libdeflate accepts and refuses: tests
//! compare them on sound, damaged and generated input (`inflate.rs`, which also says why there are
//! three inflaters).
//!
//! # Kernel
//!
//! Sixty-four bytes at a time, quotes, backslashes and braces become bit masks; a carry-less
//! multiplication turns quotes into the mask of the bytes inside strings. The same pass marks a few
//! pairs of letters (`kernel.rs`).
//!
//! # Prefilter
//!
//! A record is discarded undecoded if it cannot be a finding. Each condition of the classification and
//! of the rules' patterns leaves something in the bytes:
//!
//! | Condition | In the bytes |
//! |---|---|
//! | `type` is `Root`, of the identity or the issuer | `Root"` in any case |
//! | a root ARN without a type | `:root"` |
//! | `AssumeRoot`, `assumedRoot` | the same end, `Root"` |
//! | a console action | `AwsConsoleAction"` |
//! | a name that a rule or the classification asks for | `"eventName"` and the name |
//! | any of these, escaped | `\u` and the number of a printable ASCII character |
//! | any of these, in a quoted record | the same before a backslash, and a member in which a record can be quoted |
//!
//! No other JSON escape stands for a letter, a digit or a colon. A unit without `"eventName"`, with
//! invalid UTF-8 or over the size limit is decoded too. `Root"` does not count if it is plainly the
//! value of a member other than `type`. A rule whose pattern asks for none of this turns the prefilter
//! off, with a note that names the rule. Property tests compare the findings with and without the
//! prefilter, on whole texts and in windows, on sound and hostile ones (`prefilter.rs`).
//!
//! # Names
//!
//! `since` and `until` exclude a log file by its name, with a margin: records may be 15 minutes later
//! than the name says, and a file may hold records up to 7 days old. Records that are read are
//! filtered by their own time (`names.rs`).
//!
//! # AWS
//!
//! With the feature `aws`, threads read S3 objects and the answers of `LookupEvents` as they read
//! files; an async side lists and fetches for them. See the documentation of the module `aws`.
//!
//! # Limits
//!
//! Memory does not depend on the size of the archive, only on threads and findings:
//!
//! | Limit | Value | Meaning |
//! |---|---|---|
//! | `WHOLE_FILE_BYTES_MAX` | 3 MiB | a file that is read in one go; one buffer for each thread |
//! | `WHOLE_TEXT_BYTES_MAX` | 24 MiB | a text that is inflated in one go; one buffer for the scan, which takes memory as far as texts reach; a thread that finds it in use takes a window |
//! | `OWN_TEXT_BYTES_MAX` | 8 MiB | a text that is inflated in one go into its thread's own buffer |
//! | `WINDOW_BYTES_MIN` | 2 MiB | the window of a streamed text; twice the largest record, if that is more |
//! | `IDLE_BUFFERS_MAX` | 4 | sets of buffers that an [`objects::ObjectScanner`] keeps between objects |
//! | `ZSTD_WINDOW_LOG_MAX` | 25 (32 MiB) | the largest zstd window |
//! | `STREAM_READ_BYTES` | 64 KiB | read at a time from a compressed stream |
//! | `Limits::record_bytes_max` | 1 MiB | one record (`--record-bytes-max`) |
//! | `Limits::depth_max` | 128 | nesting levels of a record |
//! | [`FILE_BYTES_MAX`] | 4 GiB | the decompressed size of a compressed file (`--file-bytes-max`) |
//! | [`EXPANSION_MAX`] | 200 times | the growth of a compressed file, beyond [`EXPANSION_FREE_BYTES`], 64 MiB |
//! | [`FINDINGS_MAX`] | 1,000,000 | findings that are kept (`--findings-max`); more count as skipped |
//! | `TEXT_BYTES_MAX` | 1 KiB | a text in a finding |
//! | `SKIPPED_LISTED_MAX` | 1,000 | skipped places that are listed; all are counted |
//! | [`objects::BATCH_FINDINGS_MAX`] | 512 | findings that are passed on together |
//! | `FOLDERS_DEEP_MAX` | 128 | nested folders |

mod archive;
#[cfg(feature = "aws")]
pub mod aws;
mod buffers;
mod inflate;
mod kernel;
mod names;
pub mod objects;
mod options;
pub mod permissions;
mod prefilter;
mod progress;
mod reader;
mod scanned;
pub mod summary;
mod text;
mod threads;
mod walk;

pub use crate::archive::{decompress_only, measure, scan, unguarded_rules};
#[doc(hidden)]
pub use crate::archive::{scan_bytes, scan_in_steps};
#[doc(hidden)]
pub use crate::inflate::inflate_both_ways;
pub use crate::options::{
    EXPANSION_FREE_BYTES, EXPANSION_MAX, FILE_BYTES_MAX, FINDINGS_MAX, ScanOptions,
};
pub use crate::progress::Progress;
pub use crate::scanned::{Located, Scanned};
pub use crate::walk::Input;
