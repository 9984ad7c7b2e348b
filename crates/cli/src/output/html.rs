//! `--format html`: one file to hand to a colleague. It needs no network and no script.

use std::io::{self, Write};

use askama::Template;
use rootwatch_core::finding::{Finding, Outcome, Severity};
use rootwatch_core::incident::Incident;
use rootwatch_core::words::fold::{self, Mark, Row};

use super::chart::{self, Chart};
use super::tell::Told;
use super::{Report, Style, table, words};

/// Rows of one timeline; the least telling of the rest are left out.
const ROWS_MAX: usize = 300;
/// Calls of one incident that are listed one by one.
const CALLS_MAX: usize = 2_000;
/// Skipped places that are listed one by one.
const SKIPPED_MAX: usize = 200;
/// Columns of one cell.
const CELL_COLUMNS_MAX: usize = 200;

/// Writes the report as one self-contained HTML file.
///
/// # Errors
///
/// When `out` cannot be written to.
pub(crate) fn html(out: &mut dyn Write, report: &Report<'_>, style: &Style) -> io::Result<()> {
    Page::new(report, style).write_into(out)
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    /// Goes into the title of the window, the worst first.
    title: String,
    headline: String,
    found: Vec<Tally>,
    looked: Vec<(&'static str, String)>,
    aside: Option<String>,
    incomplete: Option<String>,
    generated: Option<String>,
    zone: String,
    incidents: Vec<Block>,
    brief: Vec<Brief>,
    skipped: Vec<SkippedRow>,
    skipped_more: Option<String>,
    legend: Vec<Sample>,
    version: &'static str,
}

/// So many incidents of a severity.
struct Tally {
    class: &'static str,
    word: &'static str,
    number: String,
    noun: String,
}

/// One incident.
struct Block {
    told: Told,
    class: &'static str,
    word: &'static str,
    anchor: String,
    chart: Option<Chart>,
    rows: Vec<Line>,
    /// True when rows say which account.
    accounts: bool,
    days: bool,
    rows_more: Option<String>,
    /// Related incidents, with the place in this page where they are told.
    related: Vec<(String, Option<String>)>,
    calls: Vec<Call>,
    calls_number: String,
    calls_more: Option<String>,
}

/// An incident that is told in a line.
struct Brief {
    account: String,
    span: String,
    title: String,
    id: String,
}

/// One row of the timeline.
struct Line {
    number: usize,
    day: String,
    time: String,
    datetime: String,
    class: &'static str,
    mark: &'static str,
    meaning: &'static str,
    what: String,
    account: String,
    services: String,
    addresses: String,
}

/// One call in full.
struct Call {
    time: String,
    datetime: String,
    name: String,
    service: String,
    region: String,
    account: String,
    root_use: &'static str,
    class: &'static str,
    severity: &'static str,
    outcome: String,
    failed: bool,
    address: String,
    agent: String,
    key: String,
    event_id: String,
}

struct SkippedRow {
    path: String,
    place: String,
    reason: String,
}

/// One shape of the legend.
struct Sample {
    shape: &'static str,
    class: &'static str,
    word: String,
    failed: bool,
}

impl Page {
    fn new(report: &Report<'_>, style: &Style) -> Self {
        let summary = report.summary;
        let mut incidents: Vec<Block> = Vec::new();
        let mut brief = Vec::new();
        for incident in report.by_severity() {
            let told = Told::new(report, incident, style);
            if Told::is_brief(incident) {
                brief.push(Brief {
                    account: told.account,
                    span: told.span,
                    title: told.title,
                    id: told.id,
                });
            } else {
                incidents.push(Block::new(report, incident, told, style, incidents.len() + 1));
            }
        }
        let anchors: Vec<(String, String)> =
            incidents.iter().map(|block| (block.told.id.clone(), block.anchor.clone())).collect();
        for (id, place) in incidents.iter_mut().flat_map(|block| &mut block.related) {
            *place = anchors.iter().find(|(other, _)| other == id).map(|(_, at)| at.clone());
        }
        let headline = if report.incidents.is_empty() && report.findings.is_empty() {
            table::nothing_found(summary, style)
        } else {
            let found = table::found(report);
            format!(
                "{}.",
                words::list(&found).replacen(" and ", " in ", usize::from(found.len() > 2))
            )
        };
        let skipped_listed = summary.skipped.len().min(SKIPPED_MAX) as u64;
        let skipped_more = summary.skipped_total.saturating_sub(skipped_listed);
        Self {
            title: title(report),
            headline,
            found: tallies(report),
            looked: looked(report, style),
            aside: table::left_aside(summary),
            incomplete: table::incomplete(summary),
            generated: report.generated_at.map(|at| {
                let (date, time) = (words::date(at, &style.zone), words::clock(at, &style.zone));
                format!("{date} {time} {}", words::visible(&style.zone_label))
            }),
            zone: words::visible(&style.zone_label).into_owned(),
            incidents,
            brief,
            skipped: summary
                .skipped
                .iter()
                .take(SKIPPED_MAX)
                .map(|skipped| SkippedRow {
                    path: words::visible(&skipped.path.to_string_lossy()).into_owned(),
                    place: skipped.place.filter(|place| place.record > 0).map_or_else(
                        || "whole file".to_owned(),
                        |place| {
                            let record = words::thousands(place.record);
                            format!("record {record}, byte {}", words::thousands(place.offset))
                        },
                    ),
                    reason: words::cap(&skipped.reason, CELL_COLUMNS_MAX),
                })
                .collect(),
            skipped_more: (skipped_more > 0).then(|| words::count(skipped_more, "more place")),
            legend: legend(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

fn title(report: &Report<'_>) -> String {
    match report.by_severity().first() {
        Some(worst) => {
            let incidents = words::count(report.incidents.len() as u64, "incident");
            format!("{incidents}, worst {} · root use · Rootwatch", worst.severity.name())
        }
        None => "Root use · Rootwatch".to_owned(),
    }
}

fn tallies(report: &Report<'_>) -> Vec<Tally> {
    Severity::ALL
        .iter()
        .rev()
        .filter_map(|severity| {
            let with = |incident: &&Incident| incident.severity == *severity;
            let number = report.incidents.iter().filter(with).count() as u64;
            (number > 0).then(|| Tally {
                class: severity.name(),
                word: severity.name(),
                number: words::thousands(number),
                noun: words::plural(number, "incident").into_owned(),
            })
        })
        .collect()
}

fn looked(report: &Report<'_>, style: &Style) -> Vec<(&'static str, String)> {
    let summary = report.summary;
    let mut rows = vec![
        ("Records", words::thousands(summary.records)),
        ("Log files", words::thousands(summary.files)),
    ];
    if let Some((first, last)) = summary.span {
        let (from, to) = (words::date(first, &style.zone), words::date(last, &style.zone));
        rows.push(("Span", words::span(first, last)));
        rows.push(("From", from));
        rows.push(("To", to));
    }
    if !summary.accounts.is_empty() {
        rows.push(("Accounts", words::thousands(summary.accounts.len() as u64)));
    }
    if !summary.regions.is_empty() {
        rows.push(("Regions", words::thousands(summary.regions.len() as u64)));
    }
    if summary.bytes_scanned > 0 {
        rows.push(("Decompressed", words::bytes(summary.bytes_scanned)));
    }
    rows.push(("Took", words::duration(summary.elapsed)));
    rows
}

fn legend() -> Vec<Sample> {
    let mut samples: Vec<Sample> = Severity::ALL
        .iter()
        .rev()
        .map(|severity| {
            let (shape, class) = chart::shape(*severity);
            Sample { shape, class, word: severity.name().to_owned(), failed: false }
        })
        .collect();
    let (shape, class) = chart::shape(Severity::High);
    samples.push(Sample {
        shape,
        class,
        word: "hollow: failed or denied".to_owned(),
        failed: true,
    });
    samples
}

impl Block {
    fn new(
        report: &Report<'_>,
        incident: &Incident,
        mut told: Told,
        style: &Style,
        number: usize,
    ) -> Self {
        let kept = fold::keep(&told.rows, ROWS_MAX);
        let left_out = kept.iter().filter(|kept| !**kept).count() as u64;
        let mut kept = kept.into_iter();
        told.rows.retain(|_| kept.next().unwrap_or(true));
        let chart = Chart::new(&told.rows, &style.zone, &words::visible(&style.zone_label));
        let rows: Vec<Line> = told
            .rows
            .iter()
            .enumerate()
            .map(|(index, row)| Line::new(row, index + 1, style))
            .collect();
        let more = incident.findings.len().saturating_sub(CALLS_MAX) as u64;
        Self {
            class: told.severity.name(),
            word: words::severity(told.severity),
            anchor: format!("incident-{number}"),
            chart,
            accounts: rows.iter().any(|row| !row.account.is_empty()),
            days: rows.windows(2).any(|pair| pair[0].day != pair[1].day),
            rows_more: (left_out > 0).then(|| words::count(left_out, "more entry")),
            related: told.related.iter().map(|id| (id.clone(), None)).collect(),
            rows,
            calls: incident
                .findings
                .iter()
                .take(CALLS_MAX)
                .map(|finding| Call::new(report, finding, style))
                .collect(),
            calls_number: words::count(incident.findings.len() as u64, "call"),
            calls_more: (more > 0).then(|| words::count(more, "more call")),
            told,
        }
    }
}

impl Line {
    fn new(row: &Row, number: usize, style: &Style) -> Self {
        Self {
            number,
            day: row.first_at.map(|at| words::date(at, &style.zone)).unwrap_or_default(),
            time: row
                .first_at
                .map_or_else(|| "not stated".to_owned(), |at| words::clock(at, &style.zone)),
            datetime: row.first_at.map(words::rfc3339).unwrap_or_default(),
            class: row.severity.name(),
            mark: if row.mark == Mark::Plain { "" } else { row.mark.sign(false) },
            meaning: row.mark.meaning(),
            what: row.what.clone(),
            account: row.account.clone().unwrap_or_default(),
            services: row.services.join(", "),
            addresses: row.addresses.join(", "),
        }
    }
}

impl Call {
    fn new(report: &Report<'_>, finding: &Finding, style: &Style) -> Self {
        let cell =
            |text: &Option<String>| words::cap(text.as_deref().unwrap_or(""), CELL_COLUMNS_MAX);
        let failed = finding.outcome == Outcome::Failure;
        let zoned = |at: jiff::Timestamp| {
            at.to_zoned(style.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
        };
        Self {
            time: finding.event_time.map_or_else(|| "not stated".to_owned(), zoned),
            datetime: finding.event_time.map(words::rfc3339).unwrap_or_default(),
            name: cell(&finding.event_name),
            service: words::service(finding.event_source.as_deref().unwrap_or("")).into_owned(),
            region: cell(&finding.region),
            account: finding.account_id.as_deref().map(|id| report.account(id)).unwrap_or_default(),
            root_use: finding.root_use.name(),
            class: finding.severity.name(),
            severity: finding.severity.name(),
            outcome: if failed {
                let code = cell(&finding.error_code);
                if code.is_empty() { "failed".to_owned() } else { code }
            } else {
                "success".to_owned()
            },
            failed,
            address: cell(&finding.source_ip),
            agent: words::agent(finding.user_agent.as_deref()).unwrap_or_default(),
            key: cell(&finding.access_key_id),
            event_id: cell(&finding.event_id),
        }
    }
}
