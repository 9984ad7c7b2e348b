//! The command line. Help, completions, man pages and the reference come from this declaration.

mod scan;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rootwatch_core::finding::{RootUse, Severity};

use crate::since::TimeArg;

pub(crate) use self::scan::{ScanArgs, ScanCommand, StatusArgs, StatusFormat};

/// Detect every use of the AWS root user, in CloudTrail logs or as it happens.
#[derive(Debug, Parser)]
#[command(
    name = "rootwatch",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Start here:\n  rootwatch demo                 a made-up break-in, alert by alert\n  \
                  rootwatch scan ./logs          find past root use in log files\n  \
                  rootwatch serve                monitor continuously and send alerts\n  \
                  rootwatch help scan            all options of a command"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Play a made-up break-in through a temporary hub; needs no configuration and no AWS
    Demo(DemoArgs),
    /// Find root use in CloudTrail log files, S3 or the event history
    Scan(Box<ScanArgs>),
    /// Run the hub: receive records, detect incidents, send alerts
    Serve(ServeArgs),
    /// Check the configuration, show it, or print its schema
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Create, back up, check or prune the hub's store
    #[command(subcommand)]
    Store(StoreCommand),
    /// Test, check and preview alerts
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Create API tokens for the hub
    #[command(subcommand)]
    Token(TokenCommand),
    /// List, show and test the detection rules
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Match event patterns against events
    #[command(subcommand)]
    Pattern(PatternCommand),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  rootwatch completions bash > /etc/bash_completion.d/rootwatch"
    )]
    Completions {
        /// Shell to print the script for
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write one for each command to a directory
    #[command(after_help = "Example:\n  rootwatch man | man -l -")]
    Man {
        /// Write one page for each command to DIR instead of printing one
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Print a reference as Markdown
    #[command(hide = true)]
    Reference {
        /// Subject of the reference
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
    /// All channels: keys, limits, answers, messages
    Channels,
    /// IAM permissions, by command, source and channel
    Permissions,
    /// Metrics of the hub
    Metrics,
}

/// Selects the configuration.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file [default: the file that `ROOTWATCH_CONFIG` names, else ./rootwatch.toml if it
    /// exists, else built-in defaults]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Address and port to listen on, such as 127.0.0.1:8321 [default: `hub.listen` of the
    /// configuration]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Database file of the store [default: `store.path` of the configuration]
    #[arg(long, value_name = "PATH")]
    pub(crate) store: Option<String>,
}

const SERVE_HELP: &str = "\
Examples:
  rootwatch serve                                  defaults: loopback, alerts on standard output
  rootwatch serve --config /etc/rootwatch.toml
  rootwatch config check && rootwatch serve

SIGINT or SIGTERM shuts the hub down in order. A second signal stops it at once; acknowledged records
are on disk and are not lost.

Exit codes:
  0  shut down by a signal
  1  failed at run time
  2  usage or configuration error";

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Report all errors in the configuration, without network access
    #[command(
        after_help = "Errors and warnings go to standard error, the verdict to standard output.\n\nExit codes:\n  0  \
                      valid, possibly with warnings\n  2  invalid\n\n\
                      Example:\n  rootwatch config check --config /etc/rootwatch.toml"
    )]
    Check {
        #[command(flatten)]
        config: ConfigArgs,
        /// Do not check that `env:` and `file:` secrets exist
        #[arg(long)]
        no_secrets: bool,
    },
    /// Print the effective configuration and the origin of each value; secrets appear as ***
    Show {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
}

/// Selects the store.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Database file of the store [default: `store.path` of the configuration]
    #[arg(long, value_name = "PATH")]
    pub(crate) store: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Create the store (database file or DynamoDB table) if it does not exist
    #[command(
        after_help = "The hub creates a database file by itself; a DynamoDB table must exist before it \
                      starts. The table is billed per request, has one index, for lists, and \
                      deletes expired items.\n\nExample:\n  rootwatch store init --config /etc/rootwatch.toml"
    )]
    Init {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Copy the database to a file, also while the hub runs (DynamoDB: use its own backups)
    #[command(after_help = "Example:\n  rootwatch store backup /backup/rootwatch-2026-05-04.db")]
    Backup {
        /// Path of the backup; an existing file is not overwritten
        file: PathBuf,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Check the integrity of the store
    #[command(
        after_help = "Reads every item of a DynamoDB table, which AWS charges for. A hub that writes at \
                      the same time can cause false problems.\n\nExit codes:\n  0  no problem found\n  1  \
                      problems found"
    )]
    Check {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Delete old data: ended incidents, finished deliveries, unverified records
    #[command(
        after_help = "Open incidents and pending deliveries are kept, whatever their age. The numbers of \
                      deleted entries are printed and logged.\n\nExamples:\n  rootwatch store prune \
                      --retention-days 400\n  rootwatch store prune --before 2025-01-01"
    )]
    Prune {
        /// Delete what ended before this time: RFC 3339, a date, or an age such as `400d`
        #[arg(long, value_name = "TIME", value_parser = TimeArg::parse, conflicts_with = "retention_days")]
        before: Option<TimeArg>,
        /// Delete what ended more than DAYS days ago [default: `store.retention_days` of the
        /// configuration]
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        retention_days: Option<u32>,
        #[command(flatten)]
        store: StoreArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum NotifyCommand {
    /// Send a test alert the way real alerts are sent
    #[command(
        after_help = "Sends a real message, clearly marked as a test. A temporary hub with its own store \
                      sends it: this works while another hub runs and leaves nothing in its \
                      store.\n\nExit codes:\n  0  delivered to every destination\n  1  at least one \
                      delivery failed\n  2  usage or configuration error\n\nExamples:\n  rootwatch notify \
                      test oncall\n  rootwatch notify test --all --config /etc/rootwatch.toml"
    )]
    Test {
        /// Names of destinations, as in `[notify.destination.NAME]`; or --all
        #[arg(value_name = "DESTINATION", required_unless_present = "all")]
        destinations: Vec<String>,
        /// Test all destinations of the configuration
        #[arg(long, conflicts_with = "destinations")]
        all: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Check that destinations can be reached and accept messages; sends no alert
    #[command(
        after_help = "Connects to each destination and checks credentials, permissions and recipients as \
                      far as its channel allows. docs/reference/channels.md says for each channel \
                      what is checked and what is not. A webhook receives an event of type \
                      `rootwatch.probe`. `rootwatch notify test` also sends an alert.\n\nExit codes:\n  0  every check passed\n  1  at least one check \
                      failed\n  2  usage or configuration error\n\nExamples:\n  rootwatch notify check \
                      oncall\n  rootwatch notify check --all --config /etc/rootwatch.toml"
    )]
    Check {
        /// Names of destinations, as in `[notify.destination.NAME]`; or --all
        #[arg(value_name = "DESTINATION", required_unless_present = "all")]
        destinations: Vec<String>,
        /// Check all destinations of the configuration
        #[arg(long, conflicts_with = "destinations")]
        all: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Print the exact bytes that would be sent, and send nothing
    #[command(
        after_help = "Prints the body of the request, the email or the log entry, worded and masked as \
                      when it is sent. Needs no secrets. Give either --channel or \
                      --destination.\n\nExit codes:\n  0  printed\n  2  usage or configuration error, or \
                      a file without root use\n\nExamples:\n  \
                      rootwatch notify preview --channel slack --incident escalated\n  rootwatch notify \
                      preview --channel email --incident records.json\n  rootwatch notify preview \
                      --destination oncall --incident opened"
    )]
    Preview {
        /// Channel to preview with its example configuration; or --destination
        #[arg(long, value_name = "CHANNEL", required_unless_present = "destination")]
        channel: Option<String>,
        /// Destination of the configuration, with its keys, template and masking; or --channel
        #[arg(long, value_name = "DESTINATION", conflicts_with = "channel")]
        destination: Option<String>,
        #[arg(long, value_name = "SAMPLE|FILE", default_value = "opened", help = incident_help())]
        incident: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// The samples come from the list that the command uses.
fn incident_help() -> String {
    format!(
        "Sample ({}), or a file of CloudTrail records or EventBridge events",
        rootwatch_notify::sample::NAMES.join(", ")
    )
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Create a token; prints it once, with the configuration block that holds its hash
    #[command(after_help = "Example:\n  rootwatch token new forwarder --scope ingest")]
    New {
        /// Name of the token, for logs and the configuration
        name: String,
        /// Permissions of the token; repeat the option or separate scopes by commas
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
    /// Speed: how many times faster than real time, 1 to 10000, or `fast` for no pauses
    #[arg(long, value_name = "TIMES", default_value = "90", value_parser = speed)]
    pub(crate) speed: Speed,
    /// Exit at the end instead of keeping the hub running until Ctrl-C
    #[arg(long)]
    pub(crate) once: bool,
}

const DEMO_HELP: &str = "\
Starts a hub on a free local port with a temporary store, posts the CloudTrail records of a made-up
break-in at Example Corp (2026-05-04) to its HTTP API, and prints each alert as it is delivered. The
store is deleted at the end.

Examples:
  rootwatch demo
  rootwatch demo --once --speed fast";

/// The speed of the demo.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Speed {
    /// This many times faster than real time.
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
        _ => Err("expected 1 to 10000, or `fast`".to_owned()),
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
    /// List all detection rules
    #[command(after_help = "Example:\n  rootwatch rules list --format jsonl | jq -r .id")]
    List {
        /// Also list the rules in this folder
        #[arg(long, value_name = "DIR")]
        rules: Vec<PathBuf>,
        /// Output format [default: table on a terminal, jsonl in a pipe]
        #[arg(long, short, value_enum)]
        format: Option<ListFormat>,
    },
    /// Show one rule: meaning, first steps and event pattern
    #[command(after_help = "Example:\n  rootwatch rules show root-console-login-without-mfa")]
    Show {
        /// Id of the rule, as `rules list` prints it
        id: String,
        /// Also load the rules in this folder
        #[arg(long, value_name = "DIR")]
        rules: Vec<PathBuf>,
        /// Print only the event pattern, ready for EventBridge
        #[arg(long)]
        pattern: bool,
    },
    /// Run the tests that rules contain
    #[command(
        after_help = "Without a path, tests the built-in rules. Paths of test records are relative to the \
                      rule's folder, a folder above it, or the working directory.\n\nExamples:\n  \
                      rootwatch rules test\n  rootwatch rules test my-rules/ another.yaml"
    )]
    Test {
        /// Rule files, or folders of rule files [default: the built-in rules]
        #[arg(value_name = "FILE|DIR")]
        paths: Vec<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// One line per rule
    Table,
    /// One JSON object per rule and line
    Jsonl,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PatternCommand {
    /// Match patterns against events: reads JSON lines, prints one answer per line
    #[command(
        after_help = "Each line of standard input is {\"pattern\": …, \"event\": …}; both values are JSON, \
                      or JSON as a string. Each line of the output is `true`, `false` or `invalid: \
                      <reason>`.\n\nExample:\n  echo \
                      '{\"pattern\":{\"source\":[\"aws.iam\"]},\"event\":{\"source\":\"aws.iam\"}}' \
                      | rootwatch pattern match"
    )]
    Match,
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command as ClapCommand, CommandFactory};

    use super::*;

    /// Calls `check` for every argument of every command, with the command's full name.
    fn each_argument(command: &ClapCommand, name: &str, check: &mut dyn FnMut(&str, &Arg)) {
        for argument in command.get_arguments() {
            if !matches!(argument.get_id().as_str(), "help" | "version") {
                check(name, argument);
            }
        }
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            each_argument(sub, &format!("{name} {}", sub.get_name()), check);
        }
    }

    #[test]
    fn every_option_states_its_effect() {
        let mut short = Vec::new();
        each_argument(&Cli::command(), "rootwatch", &mut |command, argument| {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            if help.split_whitespace().count() < 4
                && !argument.is_hide_set()
                && !command.contains("reference")
            {
                short.push(format!("{command}: {}: {help}", argument.get_id()));
            }
        });
        assert_eq!(short, Vec::<String>::new(), "help of at least four words");
    }

    #[test]
    fn every_number_states_its_default() {
        let mut missing = Vec::new();
        each_argument(&Cli::command(), "rootwatch", &mut |command, argument| {
            let numbers = ["BYTES", "N", "SECS", "DAYS", "TIMES"];
            let names = argument.get_value_names().unwrap_or_default();
            let is_number = names.iter().any(|name| numbers.contains(&name.as_str()));
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            if is_number && argument.get_default_values().is_empty() && !help.contains("[default: ")
            {
                missing.push(format!("{command}: {}: {help}", argument.get_id()));
            }
        });
        assert_eq!(missing, Vec::<String>::new(), "no default is stated");
    }

    #[test]
    fn sizes_and_times_name_their_unit() {
        let mut missing = Vec::new();
        each_argument(&Cli::command(), "rootwatch", &mut |command, argument| {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let names = argument.get_value_names().unwrap_or_default();
            for (name, unit) in [("BYTES", "bytes"), ("SECS", "econds"), ("DAYS", "days")] {
                if names.iter().any(|own| own.as_str() == name) && !help.contains(unit) {
                    missing.push(format!("{command}: {}: {help}", argument.get_id()));
                }
            }
        });
        assert_eq!(missing, Vec::<String>::new(), "the unit is not stated");
    }

    #[test]
    fn the_samples_of_a_preview_are_all_named() {
        for name in rootwatch_notify::sample::NAMES {
            assert!(incident_help().contains(name), "{name}");
        }
    }
}
