//! The command line: declared once, from which help, completions and man pages come.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rootwatch_core::account::AccountId;
use rootwatch_core::finding::{RootUse, Severity};

use crate::since::TimeArg;

/// Know the moment anyone uses an AWS root user, and be able to prove that you would have known.
#[derive(Debug, Parser)]
#[command(
    name = "rootwatch",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Start here:\n  rootwatch demo                 a recorded break-in, told as it happens\n  \
                  rootwatch scan ./logs          when and how was the root user used?\n  \
                  rootwatch serve                watch, and tell people\n  \
                  rootwatch help scan            everything about a command"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Play a recorded break-in through a hub of its own: no configuration, no AWS
    Demo(DemoArgs),
    /// Hunt for root use in CloudTrail log files
    Scan(Box<ScanArgs>),
    /// Run the hub: take records, find incidents, tell people
    Serve(ServeArgs),
    /// The configuration: check it, show it, print its schema
    #[command(subcommand)]
    Config(ConfigCommand),
    /// The hub's store: make it, back it up, check it, prune it
    #[command(subcommand)]
    Store(StoreCommand),
    /// Telling people
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Tokens for the hub's HTTP doors
    #[command(subcommand)]
    Token(TokenCommand),
    /// The detection rules and their own tests
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Event patterns
    #[command(subcommand)]
    Pattern(PatternCommand),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  rootwatch completions bash > /etc/bash_completion.d/rootwatch"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write one for each command to a folder
    #[command(after_help = "Example:\n  rootwatch man | man -l -")]
    Man {
        /// Write a page for each command here
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Print a reference as Markdown
    #[command(hide = true)]
    Reference {
        /// Of what
        #[arg(value_enum, default_value_t = ReferenceOf::Cli)]
        of: ReferenceOf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReferenceOf {
    /// All commands
    Cli,
    /// All keys of the configuration
    Config,
    /// All channels: keys, limits, answers, what is sent
    Channels,
    /// IAM permissions, by command, source and channel
    Permissions,
    /// Metrics of the hub
    Metrics,
}

/// Which configuration is meant.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file [default: `ROOTWATCH_CONFIG`, else rootwatch.toml here if it exists]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Address and port to listen on, instead of `hub.listen`
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// The store's file, instead of `store.path`
    #[arg(long, value_name = "PATH")]
    pub(crate) store: Option<String>,
}

const SERVE_HELP: &str = "\
Examples:
  rootwatch serve                                  defaults: loopback, alerts on standard output
  rootwatch serve --config /etc/rootwatch.toml
  rootwatch config check && rootwatch serve

SIGINT and SIGTERM end it in order; a second one ends it at once, and loses nothing either: what
was acknowledged is on disk.

Exit codes:
  0  ended when it was asked to
  1  something failed at run time
  2  usage or configuration";

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say all that is wrong with the configuration, without asking anybody outside
    #[command(
        after_help = "Exit codes:\n  0  sound, perhaps with warnings\n  2  cannot be used\n\n\
                      Example:\n  rootwatch config check --config /etc/rootwatch.toml"
    )]
    Check {
        #[command(flatten)]
        config: ConfigArgs,
        /// Do not look whether secrets are where the configuration says
        #[arg(long)]
        no_secrets: bool,
    },
    /// Print the configuration in effect, with where each value came from; secrets as ***
    Show {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Print the JSON Schema of the configuration, for editors
    Schema,
}

/// Which store is meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The store's file, instead of the configuration's `store.path`
    #[arg(long, value_name = "PATH")]
    pub(crate) store: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Make the store, where it is not there yet: the file, or the DynamoDB table
    #[command(
        after_help = "A hub makes its file by itself; a table has to be there before it starts. The \
                      table is billed by request and has one index, for lists; DynamoDB deletes what \
                      expired.\n\nExample:\n  rootwatch store init --config /etc/rootwatch.toml"
    )]
    Init {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Copy the store to a file, also while the hub runs; a DynamoDB table has backups of its own
    #[command(after_help = "Example:\n  rootwatch store backup /backup/rootwatch-2026-05-04.db")]
    Backup {
        /// The new file; one that is there is not overwritten
        file: PathBuf,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Look whether the store is sound
    #[command(
        after_help = "Of a DynamoDB table every item is read, which costs; a hub that writes \
                           meanwhile may make it look unsound.\n\nExit codes:\n  0  sound\n  1  something is wrong with it"
    )]
    Check {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Take away what ended long ago: incidents that are over, ended deliveries, unverified records
    #[command(
        after_help = "Open incidents and deliveries that are still owed stay, however old. What \
                      was taken away is printed and logged.\n\nExamples:\n  rootwatch store prune \
                      --retention-days 400\n  rootwatch store prune --before 2025-01-01"
    )]
    Prune {
        /// Whatever ended before this moment: RFC 3339, a date, or an age such as `400d`
        #[arg(long, value_name = "TIME", value_parser = TimeArg::parse, conflicts_with = "retention_days")]
        before: Option<TimeArg>,
        /// Whatever ended so many days ago [default: the configuration's `store.retention_days`]
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        retention_days: Option<u32>,
        #[command(flatten)]
        store: StoreArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum NotifyCommand {
    /// Send a test alert the way that real ones go
    #[command(
        after_help = "The alert is saved, leased, worded, sent and receipted as every other, by a \
                      store of its own in a temporary folder: it works beside a hub that runs, and \
                      leaves nothing in its store.\n\nExit codes:\n  0  every destination took it\n  \
                      1  one did not\n  2  usage or configuration\n\nExamples:\n  rootwatch notify \
                      test oncall\n  rootwatch notify test --all --config /etc/rootwatch.toml"
    )]
    Test {
        /// Names of destinations, as in `[notify.destination.NAME]`
        #[arg(value_name = "DESTINATION", required_unless_present = "all")]
        destinations: Vec<String>,
        /// Test all destinations
        #[arg(long, conflicts_with = "destinations")]
        all: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Print the exact bytes that would be sent, and send nothing
    #[command(
        after_help = "What is printed is the body of the request, the mail or the entry, worded and \
                      masked as when it is sent; secrets are not needed and not asked for.\n\nExit \
                      codes:\n  0  printed\n  2  usage, configuration, or a file without root use\n\nExamples:\n  \
                      rootwatch notify preview --channel slack --incident escalated\n  rootwatch notify \
                      preview --channel email --incident records.json\n  rootwatch notify preview \
                      --destination oncall --incident opened"
    )]
    Preview {
        /// The channel, as it is without any configuration
        #[arg(long, value_name = "CHANNEL", required_unless_present = "destination")]
        channel: Option<String>,
        /// A destination of the configuration: its keys, its template, its masking
        #[arg(long, value_name = "DESTINATION", conflicts_with = "channel")]
        destination: Option<String>,
        /// A sample (opened, escalated, acknowledged, closed, failed, privileged, digest, test), or a
        /// file of CloudTrail records or EventBridge events
        #[arg(long, value_name = "FIXTURE", default_value = "opened")]
        incident: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token: print it once, and the block for the configuration with its hash
    #[command(after_help = "Example:\n  rootwatch token new forwarder --scope ingest")]
    New {
        /// Who will use it
        name: String,
        /// What its holder may do; may be repeated
        #[arg(long, value_enum, value_name = "SCOPE", value_delimiter = ',', required = true)]
        scope: Vec<ScopeArg>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScopeArg {
    /// Send records
    Ingest,
    /// Read incidents, findings and deliveries
    Read,
    /// Acknowledge and resolve incidents
    Write,
}

impl ScopeArg {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = DEMO_HELP)]
pub(crate) struct DemoArgs {
    /// How many seconds of the story go by in a second, or `fast` for no pauses
    #[arg(long, value_name = "TIMES", default_value = "90", value_parser = speed)]
    pub(crate) speed: Speed,
    /// End after the story instead of keeping the hub up to be looked at
    #[arg(long)]
    pub(crate) once: bool,
}

const DEMO_HELP: &str = "\
The break-in at Example Corp, 2026-05-04: a hub on a free port of this machine, with a store in a
temporary folder, is sent the CloudTrail records of an afternoon as they happened. Alerts are
printed as they are delivered. Everything is removed at the end.

Examples:
  rootwatch demo
  rootwatch demo --once --speed fast";

/// How fast the story is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Speed {
    /// So many times as fast as it happened.
    Times(f64),
    /// Without pauses.
    Fast,
}

fn speed(text: &str) -> Result<Speed, String> {
    if text == "fast" {
        return Ok(Speed::Fast);
    }
    match text.trim_end_matches('x').parse() {
        Ok(times) if (1.0..=10_000.0).contains(&times) => Ok(Speed::Times(times)),
        _ => Err("has to be 1 to 10000, or `fast`".to_owned()),
    }
}

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
    /// Names for account ids: the reply of `aws organizations list-accounts`, or lines of `ID NAME`
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
    /// Name of a role to assume in each account of `lookup://ACCOUNT,ACCOUNT`
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
    #[arg(long, value_name = "N", default_value_t = rootwatch_scan::FINDINGS_MAX, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Machine")]
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
    /// The queue's URL, as given to --fan-out
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

/// An account id of twelve digits, dashes allowed.
fn account(text: &str) -> Result<String, String> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if AccountId::is_valid(&digits) {
        Ok(digits)
    } else {
        Err("an account id has twelve digits".to_owned())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Incidents with their timelines
    Table,
    /// One finding per line, as JSON
    Jsonl,
    /// One finding per row, safe to open in a spreadsheet
    Csv,
    /// One OCSF detection finding (class 2004) per line
    Ocsf,
    /// One self-contained page to share
    Html,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SeverityArg {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl From<SeverityArg> for Severity {
    fn from(arg: SeverityArg) -> Self {
        match arg {
            SeverityArg::Informational => Self::Informational,
            SeverityArg::Low => Self::Low,
            SeverityArg::Medium => Self::Medium,
            SeverityArg::High => Self::High,
            SeverityArg::Critical => Self::Critical,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum RootUseArg {
    Direct,
    Privileged,
    Derived,
    OnBehalf,
    Possible,
    No,
}

impl From<RootUseArg> for RootUse {
    fn from(arg: RootUseArg) -> Self {
        match arg {
            RootUseArg::Direct => Self::Direct,
            RootUseArg::Privileged => Self::Privileged,
            RootUseArg::Derived => Self::Derived,
            RootUseArg::OnBehalf => Self::OnBehalf,
            RootUseArg::Possible => Self::Possible,
            RootUseArg::No => Self::No,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// List the rules
    #[command(after_help = "Example:\n  rootwatch rules list --format jsonl | jq -r .id")]
    List {
        /// Also list the rules in this folder
        #[arg(long, value_name = "DIR")]
        rules: Vec<PathBuf>,
        /// How to print
        #[arg(long, short, value_enum)]
        format: Option<ListFormat>,
    },
    /// Show a rule: what it means, what to do, and its event pattern
    #[command(after_help = "Example:\n  rootwatch rules show root-console-login-without-mfa")]
    Show {
        /// Id of the rule
        id: String,
        /// Also know the rules in this folder
        #[arg(long, value_name = "DIR")]
        rules: Vec<PathBuf>,
        /// Print only the event pattern, ready for EventBridge
        #[arg(long)]
        pattern: bool,
    },
    /// Run the rules' own tests
    #[command(
        after_help = "Without a path the built-in rules are tested. A test's record is looked for \
                      beside the rule's file, then from the working directory.\n\nExamples:\n  \
                      rootwatch rules test\n  rootwatch rules test my-rules/ another.yaml"
    )]
    Test {
        /// Rule files or folders of them
        #[arg(value_name = "FILE|DIR")]
        paths: Vec<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// One line a rule
    Table,
    /// One rule a line, as JSON
    Jsonl,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PatternCommand {
    /// Match patterns against events: JSON lines in, an answer a line out
    #[command(
        after_help = "Each line of standard input is {\"pattern\": \"<json text>\", \"event\": \
                      \"<json text>\"}; both may also be JSON itself. Each line of the answer is \
                      `true`, `false` or `invalid: <reason>`.\n\nExample:\n  echo \
                      '{\"pattern\":{\"source\":[\"aws.iam\"]},\"event\":{\"source\":\"aws.iam\"}}' \
                      | rootwatch pattern match"
    )]
    Match,
}
