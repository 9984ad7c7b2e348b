//! The arguments of `rootwatch scan` and `rootwatch scan status`.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use rootwatch_core::account::AccountId;

use super::{Color, Format, RootUseArg, SeverityArg};
use crate::since::TimeArg;

#[derive(Debug, Args)]
#[command(
    after_help = SCAN_HELP,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct ScanArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ScanCommand>,

    /// Files, folders or globs of log files; `-` for standard input; `s3://BUCKET/PREFIX`; `lookup://`
    ///
    /// JSON, JSON Lines, gzip and zstd are recognized by content. Folders are read with all their
    /// subfolders, in the S3 layout or any other. In a bucket, only the keys that --account, --region,
    /// --since and --until allow are listed and fetched; `s3://BUCKET/AWSLogs/1111*` stands for every
    /// key with that beginning. `lookup://` reads the last 90 days from CloudTrail itself, in every
    /// enabled region. Write `./status` for a local folder that has the name of a subcommand.
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,

    /// Output format [default: that of --output's extension, else table on a terminal, jsonl in a pipe]
    #[arg(long, short, value_enum, value_name = "FORMAT", help_heading = "Output")]
    pub(crate) format: Option<Format>,
    /// Write to FILE. The extension (.html, .csv, .jsonl, .txt) sets the format unless --format is given; other extensions are an error
    #[arg(long, short, value_name = "FILE", help_heading = "Output")]
    pub(crate) output: Option<PathBuf>,
    /// Time zone of printed times: `utc`, `local` or a name such as `Europe/Bucharest`
    #[arg(long, value_name = "ZONE", default_value = "utc", help_heading = "Output")]
    pub(crate) time_zone: String,
    /// Account names: the output of `aws organizations list-accounts`, or lines of `ID NAME`
    /// [default: ids only]
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) account_names: Option<PathBuf>,
    /// When to use color; respects `NO_COLOR`
    #[arg(long, value_enum, default_value_t = Color::Auto, help_heading = "Output")]
    pub(crate) color: Color,
    /// Width of the table in columns [default: the terminal's, or 100]
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub(crate) width: Option<usize>,
    /// Hide progress, notes and the list of skipped files (the exit code still reports them)
    #[arg(long, short, help_heading = "Output")]
    pub(crate) quiet: bool,

    /// Only records at or after TIME: RFC 3339, a date (UTC), or an age such as `90d`, `12h` [default: all]
    #[arg(long, value_name = "TIME", value_parser = TimeArg::parse, help_heading = "Filters")]
    pub(crate) since: Option<TimeArg>,
    /// Only records before TIME [default: all]
    #[arg(long, value_name = "TIME", value_parser = TimeArg::parse, help_heading = "Filters")]
    pub(crate) until: Option<TimeArg>,
    /// Only records delivered to these accounts, separated by commas [default: all]
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = account, help_heading = "Filters")]
    pub(crate) account: Vec<String>,
    /// Only records of these regions, separated by commas [default: all]
    #[arg(long, value_name = "REGION", value_delimiter = ',', help_heading = "Filters")]
    pub(crate) region: Vec<String>,
    /// Only incidents and findings of this severity or higher [default: all]
    #[arg(long, value_enum, value_name = "SEVERITY", help_heading = "Filters")]
    pub(crate) min_severity: Option<SeverityArg>,
    /// Only these classes of root use; `no` is for records without root use that a rule matches
    #[arg(
        long,
        value_enum,
        value_name = "CLASS",
        value_delimiter = ',',
        default_values_t = [RootUseArg::Direct, RootUseArg::Privileged, RootUseArg::Derived, RootUseArg::Possible, RootUseArg::No],
        help_heading = "Filters"
    )]
    pub(crate) root_use: Vec<RootUseArg>,

    /// Add the rules in this folder (*.yaml) to the built-in ones
    #[arg(long, value_name = "DIR", help_heading = "Rules")]
    pub(crate) rules: Vec<PathBuf>,
    /// Exit with 1 if an incident or finding has this severity or higher
    #[arg(long, value_enum, value_name = "SEVERITY", help_heading = "Rules")]
    pub(crate) fail_on: Option<SeverityArg>,

    /// Role to assume for reading; `lookup://` accepts several, one for each account
    #[arg(long, value_name = "ARN", value_parser = role, help_heading = "AWS")]
    pub(crate) role_arn: Vec<String>,
    /// Name of the role to assume in each account of `lookup://ACCOUNT,ACCOUNT`
    #[arg(long, value_name = "NAME", help_heading = "AWS")]
    pub(crate) role_name: Option<String>,
    /// External id that the role's trust policy requires
    #[arg(long, value_name = "ID", help_heading = "AWS")]
    pub(crate) external_id: Option<String>,
    /// Accept charges for a requester-pays bucket
    #[arg(long, help_heading = "AWS")]
    pub(crate) requester_pays: bool,
    /// Objects that are fetched from S3 at the same time
    #[arg(long, value_name = "N", default_value_t = rootwatch_scan::aws::S3_CONCURRENCY as u16, value_parser = clap::value_parser!(u16).range(1..=rootwatch_scan::aws::S3_CONCURRENCY_MAX as i64), help_heading = "AWS")]
    pub(crate) s3_concurrency: u16,
    /// Save S3 scan progress to FILE; run the same command again to resume
    #[arg(long, value_name = "FILE", help_heading = "AWS")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Instead of scanning here, queue the objects on the hub's backfill queue; its functions scan them in parallel
    #[arg(long, value_name = "QUEUE_URL", help_heading = "AWS")]
    pub(crate) fan_out: Option<String>,

    /// Reader threads [default: number of cores]
    #[arg(long, short = 'j', value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256), help_heading = "Machine")]
    pub(crate) threads: Option<u16>,
    /// Decode every record: slower, with the same findings, but reports damage in all records
    #[arg(long, help_heading = "Machine")]
    pub(crate) no_prefilter: bool,
    /// Largest decompressed size of one compressed file, in bytes; the rest of a larger file is skipped
    #[arg(long, value_name = "BYTES", default_value_t = rootwatch_scan::FILE_BYTES_MAX, value_parser = file_bytes, help_heading = "Machine")]
    pub(crate) file_bytes_max: u64,
    /// Largest size of one record, in bytes; larger records are skipped
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = record_bytes, help_heading = "Machine")]
    pub(crate) record_bytes_max: u32,
    /// Stop collecting findings after N; the rest count as skipped (exit code 3)
    #[arg(long, value_name = "N", default_value_t = rootwatch_scan::FINDINGS_MAX, value_parser = findings, help_heading = "Machine")]
    pub(crate) findings_max: u64,
}

/// Commands about a scan.
#[derive(Debug, Subcommand)]
pub(crate) enum ScanCommand {
    /// Show the progress of a `scan --fan-out`
    #[command(after_help = STATUS_HELP)]
    Status(StatusArgs),
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// URL of the queue, as given to --fan-out
    #[arg(value_name = "QUEUE_URL")]
    pub(crate) queue_url: String,
    /// Poll until the queue is empty [default: print the status once]
    #[arg(long)]
    pub(crate) watch: bool,
    /// Seconds between two polls, with --watch
    #[arg(long, value_name = "SECS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=600))]
    pub(crate) every: u16,
    /// Output format [default: table on a terminal, jsonl in a pipe]
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<StatusFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusFormat {
    /// One line per poll
    Table,
    /// One JSON object per poll
    Jsonl,
}

const STATUS_HELP: &str = "\
SQS's counts are approximate and up to a minute late, so --watch ends after three polls in a row
that find the queue empty. The queue's redrive policy names its dead-letter queue.

Exit codes:
  0  the queue is empty, and so is the dead-letter queue
  1  not done yet (without --watch)
  2  usage or configuration, or the queue cannot be read
  3  there are dead letters: some input could not be read

Example:
  rootwatch scan status --watch https://sqs.eu-west-1.amazonaws.com/111122223333/rootwatch-history";

fn role(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let is_right = matches!(parts[..], ["arn", partition, "iam", "", id, name]
        if partition.starts_with("aws") && account(id).is_ok() && name.starts_with("role/"));
    if is_right {
        return Ok(text.to_owned());
    }
    Err("not the ARN of a role, for example arn:aws:iam::111122223333:role/name".to_owned())
}

const SCAN_HELP: &str = "\
Examples:
  rootwatch scan ./AWSLogs                        everything below a folder
  rootwatch scan 'logs/2026/05/**/*.json.gz'      a glob (quoted)
  rootwatch scan --since 90d --min-severity high ./AWSLogs
  zcat old.json.gz | rootwatch scan -             standard input
  rootwatch scan s3://my-trail/AWSLogs --since 90d --checkpoint scan.checkpoint
  rootwatch scan lookup://                        no trail? the last 90 days from CloudTrail itself
  rootwatch scan s3://my-trail --fan-out https://sqs.eu-west-1.amazonaws.com/111122223333/rootwatch-history
  rootwatch scan ./AWSLogs --output report.html    a shareable report
  rootwatch scan --fail-on high --format jsonl ./AWSLogs | jq .title

Exit codes:
  0  all input was read, and nothing is at or above --fail-on
  1  something is at or above --fail-on
  2  usage or configuration, including credentials and checkpoints
  3  some input could not be read (takes precedence over 1)

If you interrupt an S3 or lookup scan (Ctrl-C), it prints the findings so far and exits with 3.";

/// A number of findings.
fn findings(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("must be a number of findings, at least 1".to_owned()),
    }
}

/// Bytes of a decompressed file.
fn file_bytes(text: &str) -> Result<u64, String> {
    bytes(text, 1..=u64::MAX)
}

/// Bytes of a record.
fn record_bytes(text: &str) -> Result<u32, String> {
    let bytes = bytes(text, 1024..=1 << 26)?;
    u32::try_from(bytes).map_err(|error| error.to_string())
}

fn bytes(text: &str, allowed: RangeInclusive<u64>) -> Result<u64, String> {
    let bytes =
        text.parse().map_err(|_| "not a number of bytes, for example 10485760".to_owned())?;
    if allowed.contains(&bytes) {
        return Ok(bytes);
    }
    Err(format!("must be {} to {} bytes", allowed.start(), allowed.end()))
}

/// Parses an account id of twelve digits, with or without dashes.
fn account(text: &str) -> Result<String, String> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if AccountId::is_valid(&digits) {
        Ok(digits)
    } else {
        Err("an account id has twelve digits".to_owned())
    }
}
