//! `rootwatch scan`: reads the inputs, correlates the findings, prints the incidents.

mod remote;
mod status;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rootwatch_core::correlate::{CorrelatePolicy, correlate_all};
use rootwatch_core::decode::Limits;
use rootwatch_core::detect::finalize;
use rootwatch_core::finding::{FindingKey, RootUse, Severity};
use rootwatch_core::incident::Incident;
use rootwatch_core::rules::Ruleset;
use rootwatch_scan::aws::Usage;
use rootwatch_scan::summary::Summary;
use rootwatch_scan::{Input, Progress, ScanOptions, Scanned};

use self::remote::Inputs;
use crate::args::{Color, Format, ScanArgs, ScanCommand};
use crate::output::{self, Report, RuleText, Shown, Style, text};
use crate::report::Hint;
use crate::rules::load;
use crate::since::TimeArg;

/// Everything was read, and something is at or above `--fail-on`.
const EXIT_FOUND: u8 = 1;
/// Not everything could be read.
const EXIT_INCOMPLETE: u8 = 3;
/// Columns of a table that is not printed to a terminal.
const WIDTH_DEFAULT: usize = 100;
/// How often the progress bar is drawn.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &ScanArgs) -> anyhow::Result<ExitCode> {
    if let Some(ScanCommand::Status(args)) = &args.command {
        return status::run(args);
    }
    let rules = load(&args.rules)?;
    let options = options(args, Timestamp::now())?;
    let style = style(args)?;
    let format = output_format(args)?;
    let account_names = args.account_names.as_deref().map(read_names).transpose()?;
    let inputs = Inputs::read(args)?;
    if let Some(queue_url) = &args.fan_out {
        return remote::fan_out(args, &inputs, queue_url, &options);
    }
    if options.rule_only && options.prefilter && !args.quiet {
        warn_of_slow_rules(&rules);
    }

    let progress = Progress::default();
    let usage = Arc::default();
    let scanned = with_bar(args, &inputs, &progress, &usage, || {
        inputs.scan(args, &rules, &options, &progress, &usage)
    });
    let Scanned { findings, mut summary } = scanned?;

    let mut detected = Vec::with_capacity(findings.len());
    let mut files: HashMap<FindingKey, Arc<str>> = HashMap::with_capacity(findings.len());
    for located in findings {
        let key = located.detected.finding.key.clone();
        // A record can be in several files. The first by name counts, whichever thread was faster.
        let file = files.entry(key).or_insert_with(|| Arc::clone(&located.file));
        if located.file < *file {
            *file = located.file;
        }
        detected.push(located.detected);
    }
    let (settled, repeats) = finalize(detected, &rules);
    summary.repeats = repeats;
    let incidents = correlate_all(settled, &CorrelatePolicy::default());
    let settled_count =
        incidents.iter().map(|incident| incident.findings.len() as u64).sum::<u64>();

    let wanted: BTreeSet<RootUse> = args.root_use.iter().map(|class| (*class).into()).collect();
    let least: Severity = args.min_severity.map_or_else(Severity::default, Into::into);
    let incidents: Vec<Incident> = incidents
        .into_iter()
        .filter(|incident| {
            incident.severity >= least
                && incident.findings.iter().any(|finding| wanted.contains(&finding.root_use))
        })
        .collect();
    let findings = shown(&incidents, &files, &wanted, least);
    summary.filters = filters(args);
    summary.hidden = settled_count - findings.len() as u64;
    let worst = worst(&incidents, &findings);
    let report = Report {
        findings,
        incidents: &incidents,
        summary: &summary,
        generated_at: None,
        account_names: account_names.unwrap_or_default(),
        rules: rule_texts(&rules),
    };
    write(args, format, &report, &style)?;
    if !args.quiet {
        print_remarks(&inputs, &options, &summary, &style, &usage);
    }
    Ok(ExitCode::from(exit_code(args, &summary, worst)))
}

/// The messages after the results. Standard error may be closed, so failures to write are ignored.
fn print_remarks(
    inputs: &Inputs,
    options: &ScanOptions,
    summary: &Summary,
    style: &Style,
    usage: &Usage,
) {
    let mut err = anstream::stderr();
    // A quiet region is normal for `lookup://`, which reports regions that do not exist as skipped.
    if inputs.lookup.is_none()
        && let Some(text) = unknown_regions(&options.regions, summary)
    {
        let _ = writeln!(err, "warning: {text}");
    }
    if !summary.is_complete() {
        let _ = output::skipped(&mut err, summary, style);
    }
    remote::print_cost(inputs, usage);
}

/// Names the regions of `--region` of which the input has neither log files nor records: probably
/// misspelled.
fn unknown_regions(wanted: &BTreeSet<String>, summary: &Summary) -> Option<String> {
    let found: BTreeSet<&String> = summary.regions.union(&summary.regions_filtered).collect();
    let unknown: Vec<String> = wanted
        .iter()
        .filter(|region| !found.contains(region))
        .map(|region| format!("`{}`", text::visible(region)))
        .collect();
    if unknown.is_empty() {
        return None;
    }
    let noun = if unknown.len() == 1 { "region" } else { "regions" };
    let found: Vec<_> = found.into_iter().map(|region| text::visible(region)).collect();
    let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    Some(format!("no {noun} {} in this input (found: {found})", unknown.join(", ")))
}

/// The filters that were set, as they were given.
fn filters(args: &ScanArgs) -> Vec<String> {
    let mut set = Vec::new();
    let mut note = |name: &str, values: &[String]| {
        if !values.is_empty() {
            set.push(format!("--{name} {}", values.join(",")));
        }
    };
    let text = |time: &Option<TimeArg>| time.as_ref().map(|time| time.text().to_owned());
    note("since", text(&args.since).as_slice());
    note("until", text(&args.until).as_slice());
    note("account", &args.account);
    note("region", &args.region);
    let least = args.min_severity.map(|least| Severity::from(least).name().to_owned());
    note("min-severity", least.as_slice());
    let classes: Vec<RootUse> = args.root_use.iter().map(|class| (*class).into()).collect();
    let is_default =
        RootUse::ALL.iter().all(|class| classes.contains(class) || *class == RootUse::OnBehalf);
    if !is_default {
        note("root-use", &classes.iter().map(|class| class.name().to_owned()).collect::<Vec<_>>());
    }
    set
}

fn exit_code(args: &ScanArgs, summary: &Summary, worst: Option<Severity>) -> u8 {
    let fails = args.fail_on.is_some_and(|least| worst >= Some(least.into()));
    match (summary.is_complete(), fails) {
        (false, _) => EXIT_INCOMPLETE,
        (true, true) => EXIT_FOUND,
        (true, false) => 0,
    }
}

fn worst(incidents: &[Incident], findings: &[Shown<'_>]) -> Option<Severity> {
    let of_incidents = incidents.iter().map(|incident| incident.severity).max();
    of_incidents.max(findings.iter().map(|shown| shown.finding.severity).max())
}

/// The findings that pass the filters, sorted by time, then id.
fn shown<'a>(
    incidents: &'a [Incident],
    files: &'a HashMap<FindingKey, Arc<str>>,
    wanted: &BTreeSet<RootUse>,
    least: Severity,
) -> Vec<Shown<'a>> {
    let mut shown: Vec<Shown<'a>> = incidents
        .iter()
        .flat_map(|incident| {
            incident.findings.iter().map(|finding| Shown {
                finding,
                incident_id: &incident.id,
                file: files.get(&finding.key).map_or("", |file| &**file),
            })
        })
        .filter(|one| wanted.contains(&one.finding.root_use) && one.finding.severity >= least)
        .collect();
    shown.sort_by_key(|one| {
        let finding = one.finding;
        (
            finding.event_time.is_none(),
            finding.event_time,
            finding.event_id.as_deref(),
            &finding.key,
        )
    });
    shown
}

/// The format: `--format`, or that of the extension of `--output`, or the default.
fn output_format(args: &ScanArgs) -> anyhow::Result<Format> {
    if let Some(format) = args.format {
        return Ok(format);
    }
    let Some(path) = &args.output else {
        let to_terminal = io::stdout().is_terminal();
        return Ok(if to_terminal { Format::Table } else { Format::Jsonl });
    };
    let Some(extension) = path.extension() else { return Ok(Format::Jsonl) };
    match extension.to_str() {
        Some("html" | "htm") => Ok(Format::Html),
        Some("csv") => Ok(Format::Csv),
        Some("jsonl") => Ok(Format::Jsonl),
        Some("txt") => Ok(Format::Table),
        _ => Err(Hint::error(
            format!("--output {}: no format has this extension", path.display()),
            "use .html, .csv, .jsonl or .txt, or give --format",
        )),
    }
}

fn write(
    args: &ScanArgs,
    format: Format,
    report: &Report<'_>,
    style: &Style,
) -> anyhow::Result<()> {
    match &args.output {
        Some(path) => {
            let file =
                File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            let mut out = BufWriter::new(file);
            print(&mut out, format, report, style)
                .and_then(|()| out.flush())
                .with_context(|| format!("cannot write {}", path.display()))
        }
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            print(&mut out, format, report, style)?;
            Ok(out.flush()?)
        }
    }
}

fn print(
    out: &mut dyn Write,
    format: Format,
    report: &Report<'_>,
    style: &Style,
) -> io::Result<()> {
    match format {
        Format::Table => output::table(out, report, style),
        Format::Jsonl => output::jsonl(out, report),
        Format::Csv => output::csv(out, report),
        Format::Ocsf => output::ocsf(out, report),
        Format::Html => output::html(out, report, style),
    }
}

fn rule_texts(rules: &Ruleset) -> BTreeMap<String, RuleText> {
    let text = |rule: &rootwatch_core::rules::Rule| RuleText {
        title: rule.title.clone(),
        severity: rule.severity,
        triage: rule.triage.clone(),
        attack: rule.attack.clone(),
    };
    rules.rules().iter().map(|rule| (rule.id.clone(), text(rule))).collect()
}

fn options(args: &ScanArgs, now: Timestamp) -> anyhow::Result<ScanOptions> {
    let default = ScanOptions::default();
    let since = args.since.as_ref().map(|time| time.at(now));
    let until = args.until.as_ref().map(|time| time.at(now));
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        return Err(Hint::error(
            format!("--since {since} is not before --until {until}"),
            "a record is kept when since <= its time < until",
        ));
    }
    Ok(ScanOptions {
        threads: args.threads.map_or(default.threads, usize::from),
        since,
        until,
        accounts: args.account.iter().cloned().collect(),
        regions: args.region.iter().cloned().collect(),
        rule_only: args.root_use.contains(&crate::args::RootUseArg::No),
        prefilter: !args.no_prefilter,
        limits: Limits { record_bytes_max: args.record_bytes_max as usize, ..default.limits },
        file_bytes_max: args.file_bytes_max,
        findings_max: args.findings_max,
    })
}

fn style(args: &ScanArgs) -> anyhow::Result<Style> {
    let (zone, zone_label) = match args.time_zone.as_str() {
        "utc" | "UTC" => (TimeZone::UTC, "UTC".to_owned()),
        "local" => (TimeZone::system(), "local time".to_owned()),
        name => {
            let zone = TimeZone::get(name).map_err(|_| {
                Hint::error(
                    format!("unknown time zone `{name}`"),
                    "use `utc`, `local` or a name such as `Europe/Bucharest`",
                )
            })?;
            (zone, name.to_owned())
        }
    };
    let to_terminal = args.output.is_none() && io::stdout().is_terminal();
    let color = match args.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            to_terminal
                && anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
        }
    };
    let width = args.width.or_else(|| to_terminal.then(terminal_width).flatten());
    Ok(Style { width: width.unwrap_or(WIDTH_DEFAULT), color, zone, zone_label, ..Style::default() })
}

/// Columns of the terminal, if standard output is one.
fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

/// Names of accounts: the reply of `list-accounts`, or lines of an id and a name.
fn read_names(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let attempt = || format!("cannot read account names from {}", path.display());
    let text = std::fs::read_to_string(path).with_context(attempt)?;
    if text.trim_start().starts_with('{') {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Reply {
            accounts: Vec<Account>,
        }
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Account {
            id: String,
            name: String,
        }
        let reply: Reply = serde_json::from_str(&text).with_context(attempt)?;
        return Ok(reply.accounts.into_iter().map(|one| (one.id, one.name)).collect());
    }
    let mut names = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((id, name)) = line.split_once([' ', '\t', ',']) else {
            return Err(Hint::error(
                format!("{}:{}: no name after the id", path.display(), index + 1),
                "write lines such as `222233334444 prod-payments`",
            ));
        };
        names.insert(id.replace('-', ""), name.trim().to_owned());
    }
    Ok(names)
}

/// Warns of rules for which every record must be decoded: they make a scan much slower.
fn warn_of_slow_rules(rules: &Ruleset) {
    let slow = rootwatch_scan::unguarded_rules(rules);
    if !slow.is_empty() {
        let mut err = anstream::stderr();
        let _ = writeln!(
            err,
            "note: decoding every record, because these rules do not test the event name: {}",
            slow.join(", ")
        );
    }
}

/// Runs `work` with a progress bar on a terminal.
fn with_bar<T>(
    args: &ScanArgs,
    inputs: &Inputs,
    progress: &Progress,
    usage: &Usage,
    work: impl FnOnce() -> T,
) -> T {
    if args.quiet || !io::stderr().is_terminal() {
        return work();
    }
    // The size of an input in AWS is unknown until all of it is listed.
    let is_local = inputs.is_local();
    let template = if is_local {
        "{bar:24} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {msg}"
    } else {
        "{spinner} {elapsed}  {bytes}  {bytes_per_sec}  {msg}"
    };
    let Ok(style) = ProgressStyle::with_template(template) else { return work() };
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
    let done = AtomicBool::new(false);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if is_local {
                let files = inputs.local.iter().filter(|input| **input != Input::Stdin);
                bar.set_length(rootwatch_scan::measure(files.cloned().collect()).1);
            }
            while !done.load(Ordering::Relaxed) {
                bar.set_position(progress.bytes.load(Ordering::Relaxed));
                bar.set_message(format!(
                    "{}, {}{}",
                    text::count(progress.files.load(Ordering::Relaxed), inputs.noun()),
                    text::count(progress.findings.load(Ordering::Relaxed), "finding"),
                    remote::so_far(inputs, usage, begin.elapsed()),
                ));
                std::thread::park_timeout(PROGRESS_EVERY);
            }
            bar.finish_and_clear();
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_that_the_input_does_not_have_is_named_with_those_that_it_has() {
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let summary = Summary {
            regions: set(&["us-east-1"]),
            regions_filtered: set(&["eu-west-1"]),
            ..Summary::default()
        };
        let warning = |wanted: &[&str]| unknown_regions(&set(wanted), &summary);
        assert_eq!(warning(&["us-east-1"]), None);
        assert_eq!(warning(&["eu-west-1"]), None, "filtered out by time, but it exists");
        assert_eq!(
            warning(&["us-east-1", "mars-1"]).as_deref(),
            Some("no region `mars-1` in this input (found: eu-west-1, us-east-1)")
        );
        assert_eq!(
            unknown_regions(&set(&["mars-1"]), &Summary::default()).as_deref(),
            Some("no region `mars-1` in this input (found: none)")
        );
    }
}
