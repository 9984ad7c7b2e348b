//! `rootwatch scan`: options to inputs, findings to incidents, incidents to people.

mod away;
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

use self::away::Inputs;
use crate::Hint;
use crate::args::{Color, Format, ScanArgs, ScanCommand};
use crate::output::{self, Report, RuleText, Shown, Style, words};
use crate::rules::load;

/// Everything was looked at, but something is at or above `--fail-on`.
const EXIT_FOUND: u8 = 1;
/// Not everything could be read.
const EXIT_INCOMPLETE: u8 = 3;
/// Columns of a table that goes to no terminal.
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
    let account_names = args.account_names.as_deref().map(read_names).transpose()?;
    let inputs = Inputs::read(args)?;
    if let Some(queue_url) = &args.fan_out {
        return away::fan_out(args, &inputs, queue_url, &options);
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
        // Of a repeated record the first file by name counts, whichever thread was faster.
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
    write(args, &report, &style)?;
    if !args.quiet && !summary.is_complete() {
        let mut err = anstream::stderr();
        let _ = output::skipped(&mut err, &summary, &style);
    }
    if !args.quiet {
        away::tell_cost(&inputs, &usage);
    }
    Ok(ExitCode::from(exit_code(args, &summary, worst)))
}

/// The filters that were set, as they were given.
fn filters(args: &ScanArgs) -> Vec<String> {
    let mut set = Vec::new();
    let mut note = |name: &str, values: &[String]| {
        if !values.is_empty() {
            set.push(format!("--{name} {}", values.join(",")));
        }
    };
    note("since", args.since.as_slice());
    note("until", args.until.as_slice());
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

/// The findings that were asked for, sorted by time, then id.
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

fn write(args: &ScanArgs, report: &Report<'_>, style: &Style) -> anyhow::Result<()> {
    let to_terminal = args.output.is_none() && io::stdout().is_terminal();
    let format = args
        .format
        .or_else(|| args.output.as_deref().and_then(format_of))
        .unwrap_or(if to_terminal { Format::Table } else { Format::Jsonl });
    match &args.output {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("writing {}", path.display()))?;
            let mut out = BufWriter::new(file);
            print(&mut out, format, report, style)
                .and_then(|()| out.flush())
                .with_context(|| format!("writing {}", path.display()))
        }
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            print(&mut out, format, report, style)?;
            Ok(out.flush()?)
        }
    }
}

/// The format that a file's ending asks for.
fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "html" | "htm" => Some(Format::Html),
        "csv" => Some(Format::Csv),
        "jsonl" => Some(Format::Jsonl),
        "txt" => Some(Format::Table),
        _ => None,
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
        triage: rule.triage.clone(),
        attack: rule.attack.clone(),
    };
    rules.rules().iter().map(|rule| (rule.id.clone(), text(rule))).collect()
}

fn options(args: &ScanArgs, now: Timestamp) -> anyhow::Result<ScanOptions> {
    let default = ScanOptions::default();
    let since = args.since.as_deref().map(|text| moment(text, now)).transpose()?;
    let until = args.until.as_deref().map(|text| moment(text, now)).transpose()?;
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

/// RFC 3339, a date (its beginning in UTC), or an age counted back from now.
pub(crate) fn moment(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>() {
        return Ok(date.to_zoned(TimeZone::UTC)?.timestamp());
    }
    let hint = "write 2026-05-04T14:00:00Z, 2026-05-04, or an age: 90d, 12h, 30m, 2w";
    let wrong = || Hint::error(format!("`{text}` is not a time"), hint);
    let unit = text.chars().last().ok_or_else(wrong)?;
    let hours_or_less = match unit {
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return Err(wrong()),
    };
    let count: i64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = count.checked_mul(hours_or_less).filter(|s| *s >= 0).ok_or_else(wrong)?;
    now.checked_sub(jiff::SignedDuration::from_secs(seconds)).map_err(|_| wrong())
}

fn style(args: &ScanArgs) -> anyhow::Result<Style> {
    let (zone, zone_label) = match args.time_zone.as_str() {
        "utc" | "UTC" => (TimeZone::UTC, "UTC".to_owned()),
        "local" => (TimeZone::system(), "local time".to_owned()),
        name => {
            let zone = TimeZone::get(name).map_err(|_| {
                Hint::error(
                    format!("there is no time zone `{name}`"),
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

/// Columns of the terminal that standard output is.
fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

/// Names of accounts: the reply of `list-accounts`, or lines of an id and a name.
fn read_names(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
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
        let reply: Reply =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
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

/// Rules for which every record has to be decoded cost a lot; say which.
fn warn_of_slow_rules(rules: &Ruleset) {
    let slow = rootwatch_scan::unguarded_rules(rules);
    if !slow.is_empty() {
        let mut err = anstream::stderr();
        let _ = writeln!(
            err,
            "note: every record is decoded, because these rules ask for no event name: {}",
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
    // How much there is in AWS nobody knows before it is listed.
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
                    words::count(progress.files.load(Ordering::Relaxed), inputs.noun()),
                    words::count(progress.findings.load(Ordering::Relaxed), "finding"),
                    away::so_far(inputs, usage, begin.elapsed()),
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
    fn a_moment_is_written_as_a_time_a_date_or_an_age() {
        let now: Timestamp = "2026-05-04T12:00:00Z".parse().expect("a time");
        let at = |text: &str| moment(text, now).map(|at| at.to_string()).ok();
        assert_eq!(at("2026-05-01T10:00:00+02:00").as_deref(), Some("2026-05-01T08:00:00Z"));
        assert_eq!(at("2026-05-01").as_deref(), Some("2026-05-01T00:00:00Z"));
        assert_eq!(at("90d").as_deref(), Some("2026-02-03T12:00:00Z"));
        for wrong in ["", "d", "90", "-1d", "90x", "é", "99999999999999999d"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}
