//! What a scan reads that is not on this machine: S3 and CloudTrail's own events; and what it costs.

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
use crate::output::{self, Style, words};
use crate::report::Hint;

/// What to look at, by where it is.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    pub(super) local: Vec<Input>,
    pub(super) s3: Vec<S3Address>,
    pub(super) lookup: Option<LookupPlaces>,
}

impl Inputs {
    /// Sorts the paths, and looks whether the options fit them.
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
                "--checkpoint works for s3:// only",
                "scan the other paths by a command of their own",
            );
        }
        if args.fan_out.is_some() && !only_s3 {
            return refused(
                "--fan-out works for s3:// only: it tells the hub of objects, and sends none",
                "a hub reads local folders by its directory source",
            );
        }
        if !self.s3.is_empty() && args.role_arn.len() > 1 {
            return refused(
                "S3 is read with one role, and --role-arn was given more than once",
                "scan the buckets by commands of their own",
            );
        }
        let has_role = !args.role_arn.is_empty() || args.role_name.is_some();
        if args.external_id.is_some() && !has_role {
            return refused("--external-id belongs to a role", "say --role-arn or --role-name too");
        }
        if args.role_name.is_some()
            && self.lookup.as_ref().is_none_or(|lookup| lookup.accounts.is_empty())
        {
            return refused(
                "--role-name belongs to accounts",
                "write lookup://222233334444,333344445555 --role-name NAME, or say --role-arn",
            );
        }
        if self.is_local() && (has_role || args.requester_pays) {
            return refused(
                "roles and --requester-pays are for s3:// and lookup://",
                "leave them out: files need no credentials",
            );
        }
        Ok(())
    }

    pub(super) fn is_local(&self) -> bool {
        self.s3.is_empty() && self.lookup.is_none()
    }

    /// What is counted while it goes on.
    pub(super) fn noun(&self) -> &'static str {
        match (self.local.is_empty(), self.s3.is_empty(), &self.lookup) {
            (true, false, None) => "object",
            (true, true, Some(_)) => "answer",
            _ => "file",
        }
    }

    /// Looks at all of them, the nearest first.
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
        if !self.is_local() {
            crate::run::use_ring();
        }
        if !self.s3.is_empty() {
            let s3 = s3_options(args);
            let part = rootwatch_scan::aws::scan_s3(&self.s3, rules, options, &s3, progress, usage);
            rootwatch_scan::merge(&mut all, part.map_err(explained)?);
        }
        if let Some(places) = &self.lookup {
            let part = rootwatch_scan::aws::scan_lookup(places, rules, options, progress, usage);
            rootwatch_scan::merge(&mut all, part.map_err(explained)?);
        }
        all.summary.skipped.sort_by(|a, b| (&a.path, a.place).cmp(&(&b.path, b.place)));
        all.summary.elapsed = begin.elapsed();
        Ok(all)
    }
}

fn s3_options(args: &ScanArgs) -> S3Options {
    let asked = || {
        let paths: Vec<_> = args.paths.iter().map(|path| path.to_string_lossy()).collect();
        let text = |time: &Option<String>| time.clone().unwrap_or_default();
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
    let out = with_bar(args, inputs, &progress, &usage, || {
        rootwatch_scan::aws::fan_out(&inputs.s3, queue_url, options, &s3, &progress, &usage)
    })
    .map_err(explained)?;
    let default = if io::stdout().is_terminal() { Format::Table } else { Format::Jsonl };
    match args.format.unwrap_or(default) {
        Format::Jsonl => {
            let told = serde_json::json!({
                "queue_url": queue_url, "history": out.history,
                "objects": out.objects, "messages": out.messages,
                "filtered": out.summary.files_filtered,
                "passed_over": out.summary.files_passed_over,
                "skipped": out.summary.skipped_total,
            });
            writeln!(io::stdout(), "{told}")?;
        }
        _ => writeln!(
            io::stdout(),
            "{} in {} are on the queue, as history {}.\nFollow them: rootwatch scan status --watch {}",
            words::count(out.objects, "object"),
            words::count(out.messages, "message"),
            out.history,
            words::visible(queue_url),
        )?,
    }
    if !args.quiet {
        let _ = output::skipped(&mut anstream::stderr(), &out.summary, &Style::default());
        tell_cost(inputs, &usage);
    }
    let is_whole = out.summary.is_complete();
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) })
}

/// Requests and their price, after everything else.
pub(super) fn tell_cost(inputs: &Inputs, usage: &Usage) {
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let mut err = anstream::stderr();
    if !inputs.s3.is_empty() {
        let mut counted =
            vec![words::count(of(&usage.lists), "LIST"), words::count(of(&usage.gets), "GET")];
        if of(&usage.queue_requests) > 0 {
            counted.push(format!("{} to SQS", words::count(of(&usage.queue_requests), "request")));
        }
        let _ = writeln!(
            err,
            "S3: {}, {} fetched: about ${:.4} (list price of requests, us-east-1, {PRICES_AS_OF}; \
             bytes that left the region are not in it)",
            words::list(&counted),
            words::bytes(of(&usage.bytes)),
            usage.dollars(),
        );
    }
    if inputs.lookup.is_some() {
        let requests = words::count(of(&usage.lookups), "request");
        let _ = writeln!(err, "CloudTrail: {requests} of LookupEvents (no charge)");
    }
}

/// The same while it goes on, and how long it will.
pub(super) fn so_far(inputs: &Inputs, usage: &Usage, elapsed: Duration) -> String {
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let mut text = String::new();
    if !inputs.s3.is_empty() {
        text = format!(
            ", {} and {} (${:.4})",
            words::count(of(&usage.lists), "LIST"),
            words::count(of(&usage.gets), "GET"),
            usage.dollars(),
        );
    }
    if inputs.lookup.is_some() {
        let (requests, done) = (of(&usage.lookups), of(&usage.range_done_thousandths));
        text = format!("{text}, {}", words::count(requests, "request"));
        if done > 0 {
            // Events are not spread evenly over time: an estimate.
            let left = |so_far: f64| so_far * (1_000.0 - done as f64).max(0.0) / done as f64;
            let time = Duration::from_secs_f64(left(elapsed.as_secs_f64()));
            text = format!(
                "{text}, about {} left ({})",
                words::thousands(left(requests as f64) as u64),
                words::duration(time)
            );
        }
    }
    text
}
