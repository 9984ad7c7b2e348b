//! Inputs that are not on this machine: S3 and CloudTrail's own events; and what reading them costs.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rootwatch_core::rules::Ruleset;
use rootwatch_scan::aws::{
    CheckpointPlan, CloudError, LookupPlaces, PRICES_AS_OF, Roles, S3Address, S3Options, Usage,
};
use rootwatch_scan::{Input, Progress, ScanOptions, Scanned};

use super::{EXIT_INCOMPLETE, with_bar};
use crate::args::{Format, ScanArgs};
use crate::interrupt;
use crate::output::{self, Style, text};
use crate::report::Hint;
use crate::since::TimeArg;

/// The inputs, by where they are.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    pub(super) local: Vec<Input>,
    pub(super) s3: Vec<S3Address>,
    pub(super) lookup: Option<LookupPlaces>,
}

impl Inputs {
    /// Sorts the paths, and checks whether the options fit them.
    pub(super) fn read(args: &ScanArgs) -> anyhow::Result<Self> {
        let mut inputs = Self::default();
        let roles = Roles { arns: args.role_arn.clone(), external_id: args.external_id.clone() };
        for path in &args.paths {
            let text = path.to_string_lossy();
            if text == "-" {
                if inputs.local.contains(&Input::Stdin) {
                    anyhow::bail!("standard input was given twice");
                }
                inputs.local.push(Input::Stdin);
            } else if text.starts_with("s3://") {
                inputs.s3.push(S3Address::parse(&text).map_err(explained)?);
            } else if text.starts_with("lookup://") {
                let role_name = args.role_name.clone();
                let places =
                    LookupPlaces::parse(&text, role_name, roles.clone()).map_err(explained)?;
                if inputs.lookup.replace(places).is_some() {
                    anyhow::bail!("`lookup://` was given twice; accounts are separated by commas");
                }
            } else {
                inputs.local.push(Input::Path(path.clone()));
            }
        }
        inputs.check(args)?;
        Ok(inputs)
    }

    fn check(&self, args: &ScanArgs) -> anyhow::Result<()> {
        let only_s3 = self.local.is_empty() && self.lookup.is_none();
        let refused = |message: &str, hint: &str| Err(Hint::error(message, hint));
        if args.checkpoint.is_some() && !only_s3 {
            return refused(
                "--checkpoint only works with s3:// paths",
                "scan the other paths with a separate command",
            );
        }
        if args.fan_out.is_some() && !only_s3 {
            return refused(
                "--fan-out only works with s3:// paths (it queues object keys; it does not upload files)",
                "a hub reads local folders with its directory source",
            );
        }
        if !self.s3.is_empty() && args.role_arn.len() > 1 {
            return refused(
                "--role-arn was given more than once, but S3 is read with one role",
                "scan the buckets with separate commands",
            );
        }
        let has_role = !args.role_arn.is_empty() || args.role_name.is_some();
        if args.external_id.is_some() && !has_role {
            return refused("--external-id needs a role", "add --role-arn or --role-name");
        }
        if args.role_name.is_some()
            && self.lookup.as_ref().is_none_or(|lookup| lookup.accounts.is_empty())
        {
            return refused(
                "--role-name needs account ids",
                "write lookup://222233334444,333344445555 --role-name NAME, or use --role-arn",
            );
        }
        if self.is_local() && (has_role || args.requester_pays) {
            return refused(
                "roles and --requester-pays only work with s3:// and lookup://",
                "leave them out: local files need no credentials",
            );
        }
        Ok(())
    }

    pub(super) fn is_local(&self) -> bool {
        self.s3.is_empty() && self.lookup.is_none()
    }

    /// The unit that the progress bar counts.
    pub(super) fn noun(&self) -> &'static str {
        match (self.local.is_empty(), self.s3.is_empty(), &self.lookup) {
            (true, false, None) => "object",
            (true, true, Some(_)) => "answer",
            _ => "file",
        }
    }

    /// Scans all of them, the nearest first.
    pub(super) fn scan(
        &self,
        args: &ScanArgs,
        rules: &Ruleset,
        options: &ScanOptions,
        progress: &Progress,
        usage: &Arc<Usage>,
    ) -> anyhow::Result<Scanned> {
        let begin = Instant::now();
        let mut all = Scanned::default();
        if !self.local.is_empty() {
            all = rootwatch_scan::scan(self.local.clone(), rules, options, progress);
        }
        if self.is_local() {
            return Ok(all);
        }
        crate::run::use_ring();
        let interrupt = interrupt::on_ctrl_c()?;
        if !self.s3.is_empty() {
            let s3 = s3_options(args);
            let part = rootwatch_scan::aws::scan_s3(
                &self.s3, rules, options, &s3, progress, usage, &interrupt,
            );
            all.add(part.map_err(explained)?);
        }
        if let Some(places) = &self.lookup {
            let part = rootwatch_scan::aws::scan_lookup(
                places, rules, options, progress, usage, &interrupt,
            );
            all.add(part.map_err(explained)?);
        }
        all.summary.shorten();
        all.summary.elapsed = begin.elapsed();
        Ok(all)
    }
}

fn s3_options(args: &ScanArgs) -> S3Options {
    let asked = || {
        let paths: Vec<_> = args.paths.iter().map(|path| path.to_string_lossy()).collect();
        let text = |time: &Option<TimeArg>| {
            time.as_ref().map_or_else(String::new, |time| time.text().to_owned())
        };
        BTreeMap::from([
            ("paths".to_owned(), paths.join(" ")),
            ("--since".to_owned(), text(&args.since)),
            ("--until".to_owned(), text(&args.until)),
        ])
    };
    let plan = |path: &std::path::PathBuf| CheckpointPlan { path: path.clone(), asked: asked() };
    S3Options {
        roles: Roles { arns: args.role_arn.clone(), external_id: args.external_id.clone() },
        requester_pays: args.requester_pays,
        concurrency: usize::from(args.s3_concurrency),
        checkpoint: args.checkpoint.as_ref().map(plan),
    }
}

/// The error with its advice.
pub(super) fn explained(error: CloudError) -> anyhow::Error {
    match error.hint() {
        Some(hint) => Hint::error(error.to_string(), hint),
        None => error.into(),
    }
}

/// `scan --fan-out`.
pub(super) fn fan_out(
    args: &ScanArgs,
    inputs: &Inputs,
    queue_url: &str,
    options: &ScanOptions,
) -> anyhow::Result<ExitCode> {
    crate::run::use_ring();
    let usage = Arc::default();
    let progress = Progress::default();
    let s3 = s3_options(args);
    let interrupt = interrupt::on_ctrl_c()?;
    let out = with_bar(args, inputs, &progress, &usage, || {
        rootwatch_scan::aws::fan_out(
            &inputs.s3, queue_url, options, &s3, &progress, &usage, &interrupt,
        )
    })
    .map_err(explained)?;
    let default = if io::stdout().is_terminal() { Format::Table } else { Format::Jsonl };
    match args.format.unwrap_or(default) {
        Format::Jsonl => {
            let result = serde_json::json!({
                "queue_url": queue_url, "history": out.history,
                "objects": out.objects, "messages": out.messages,
                "filtered": out.summary.files_filtered,
                "passed_over": out.summary.files_passed_over,
                "skipped": out.summary.skipped_total,
            });
            writeln!(io::stdout(), "{result}")?;
        }
        _ => writeln!(
            io::stdout(),
            "Queued {} in {} as backfill {}.\nProgress: rootwatch scan status --watch {}",
            text::count(out.objects, "object"),
            text::count(out.messages, "message"),
            out.history,
            text::visible(queue_url),
        )?,
    }
    if !args.quiet {
        // Standard error may be closed; the exit code still shows what was skipped.
        let _ = output::skipped(&mut anstream::stderr(), &out.summary, &Style::default());
        print_cost(inputs, &usage);
    }
    let is_whole = out.summary.is_complete();
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) })
}

/// Prints the requests and their price. Standard error may be closed, so failures are ignored.
pub(super) fn print_cost(inputs: &Inputs, usage: &Usage) {
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let mut err = anstream::stderr();
    if !inputs.s3.is_empty() {
        let mut counted =
            vec![text::count(of(&usage.lists), "LIST"), text::count(of(&usage.gets), "GET")];
        if of(&usage.queue_requests) > 0 {
            counted.push(format!("{} to SQS", text::count(of(&usage.queue_requests), "request")));
        }
        let _ = writeln!(
            err,
            "S3: {}, {} fetched: about ${:.4} (list price of requests, us-east-1, {PRICES_AS_OF}; \
             without data transfer)",
            text::list(&counted),
            text::bytes(of(&usage.bytes)),
            usage.dollars(),
        );
    }
    if inputs.lookup.is_some() {
        let requests = text::count(of(&usage.lookups), "request");
        let _ = writeln!(err, "CloudTrail: {requests} of LookupEvents (no charge)");
    }
}

/// The same for the progress bar, with an estimate of the remaining time.
pub(super) fn so_far(inputs: &Inputs, usage: &Usage, elapsed: Duration) -> String {
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let mut text = String::new();
    if !inputs.s3.is_empty() {
        text = format!(
            ", {} and {} (${:.4})",
            text::count(of(&usage.lists), "LIST"),
            text::count(of(&usage.gets), "GET"),
            usage.dollars(),
        );
    }
    if inputs.lookup.is_some() {
        let (requests, done) = (of(&usage.lookups), of(&usage.range_done_thousandths));
        text = format!("{text}, {}", text::count(requests, "request"));
        if done > 0 {
            // Events are not spread evenly over time: an estimate.
            let left = |so_far: f64| so_far * (1_000.0 - done as f64).max(0.0) / done as f64;
            let time = Duration::from_secs_f64(left(elapsed.as_secs_f64()));
            text = format!(
                "{text}, about {} left ({})",
                text::thousands(left(requests as f64) as u64),
                text::duration(time)
            );
        }
    }
    text
}
