//! `--format html`: one file to hand to a colleague. It needs no network and no script.

use std::io::{self, Write};

use askama::Template;
use rootwatch_core::finding::{Finding, Outcome, Severity};
use rootwatch_core::incident::Incident;
use rootwatch_core::narrative::IncidentView;
use rootwatch_core::timeline::{self, Row, RowMark};

use super::chart::{self, Chart};
use super::{Report, Style, table, text};

/// Rows of one timeline; the least important of the rest are left out.
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
    one_line: Vec<OneLine>,
    skipped: Vec<SkippedRow>,
    skipped_more: Option<String>,
    legend: Vec<Sample>,
    version: &'static str,
}

/// How many incidents have a severity.
struct Tally {
    class: &'static str,
    word: &'static str,
    number: String,
    noun: String,
}

/// One incident.
struct Block {
    view: IncidentView,
    /// The account with its digits, or `3 accounts`.
    account: String,
    /// The accounts one by one, where there are several.
    accounts: Vec<String>,
    class: &'static str,
    word: &'static str,
    anchor: String,
    chart: Option<Chart>,
    rows: Vec<Line>,
    /// True when rows name the account.
    names_accounts: bool,
    days: bool,
    rows_more: Option<String>,
    /// Related incidents, with their place in this page.
    related: Vec<(String, Option<String>)>,
    calls: Vec<Call>,
    calls_number: String,
    calls_more: Option<String>,
}

/// An incident that takes one line.
struct OneLine {
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
        let mut one_line = Vec::new();
        for incident in report.by_severity() {
            let view = report.view(incident, style);
            if super::is_one_line(incident) {
                one_line.push(OneLine {
                    account: super::account(&view),
                    span: view.when,
                    title: view.title,
                    id: view.id,
                });
            } else {
                incidents.push(Block::new(report, incident, view, style, incidents.len() + 1));
            }
        }
        let anchors: Vec<(String, String)> =
            incidents.iter().map(|block| (block.view.id.clone(), block.anchor.clone())).collect();
        for (id, place) in incidents.iter_mut().flat_map(|block| &mut block.related) {
            *place = anchors.iter().find(|(other, _)| other == id).map(|(_, at)| at.clone());
        }
        let headline = if report.incidents.is_empty() && report.findings.is_empty() {
            table::nothing_found(summary, style)
        } else {
            let found = table::found(report);
            format!(
                "{}.",
                text::list(&found).replacen(" and ", " in ", usize::from(found.len() > 2))
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
                let (date, time) = (text::date(at, &style.zone), text::clock(at, &style.zone));
                format!("{date} {time} {}", text::visible(&style.zone_label))
            }),
            zone: text::visible(&style.zone_label).into_owned(),
            incidents,
            one_line,
            skipped: summary
                .skipped
                .iter()
                .take(SKIPPED_MAX)
                .map(|skipped| SkippedRow {
                    path: text::visible(&skipped.path.to_string_lossy()).into_owned(),
                    place: skipped.place.filter(|place| place.record > 0).map_or_else(
                        || "whole file".to_owned(),
                        |place| {
                            let record = text::thousands(place.record);
                            format!("record {record}, byte {}", text::thousands(place.offset))
                        },
                    ),
                    reason: text::cap(&skipped.reason, CELL_COLUMNS_MAX),
                })
                .collect(),
            skipped_more: (skipped_more > 0).then(|| text::count(skipped_more, "more place")),
            legend: legend(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

fn title(report: &Report<'_>) -> String {
    match report.by_severity().first() {
        Some(worst) => {
            let incidents = text::count(report.incidents.len() as u64, "incident");
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
                number: text::thousands(number),
                noun: text::plural(number, "incident").into_owned(),
            })
        })
        .collect()
}

fn looked(report: &Report<'_>, style: &Style) -> Vec<(&'static str, String)> {
    let summary = report.summary;
    let mut rows = vec![
        ("Records", text::thousands(summary.records)),
        ("Log files", text::thousands(summary.files)),
    ];
    if let Some((first, last)) = summary.span {
        let (from, to) = (text::date(first, &style.zone), text::date(last, &style.zone));
        rows.push(("Span", text::span(first, last)));
        rows.push(("From", from));
        rows.push(("To", to));
    }
    if !summary.accounts.is_empty() {
        rows.push(("Accounts", text::thousands(summary.accounts.len() as u64)));
    }
    if !summary.regions.is_empty() {
        rows.push(("Regions", text::thousands(summary.regions.len() as u64)));
    }
    if summary.bytes_scanned > 0 {
        rows.push(("Decompressed", text::bytes(summary.bytes_scanned)));
    }
    rows.push(("Took", text::duration(summary.elapsed)));
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
        mut view: IncidentView,
        style: &Style,
        number: usize,
    ) -> Self {
        let kept = timeline::keep(&view.rows, ROWS_MAX);
        let left_out = kept.iter().filter(|kept| !**kept).count() as u64;
        let mut kept = kept.into_iter();
        view.rows.retain(|_| kept.next().unwrap_or(true));
        let chart = Chart::new(&view.rows, &style.zone, &text::visible(&style.zone_label));
        let rows: Vec<Line> = view
            .rows
            .iter()
            .enumerate()
            .map(|(index, row)| Line::new(row, index + 1, style))
            .collect();
        let more = incident.findings.len().saturating_sub(CALLS_MAX) as u64;
        Self {
            class: view.severity.name(),
            word: text::severity(view.severity),
            anchor: format!("incident-{number}"),
            chart,
            names_accounts: rows.iter().any(|row| !row.account.is_empty()),
            account: super::account(&view),
            accounts: super::accounts(&view),
            days: rows.windows(2).any(|pair| pair[0].day != pair[1].day),
            rows_more: (left_out > 0).then(|| text::count(left_out, "more entry")),
            related: view.related.iter().map(|id| (id.clone(), None)).collect(),
            rows,
            calls: incident
                .findings
                .iter()
                .take(CALLS_MAX)
                .map(|finding| Call::new(report, finding, style))
                .collect(),
            calls_number: text::count(incident.findings.len() as u64, "call"),
            calls_more: (more > 0).then(|| text::count(more, "more call")),
            view,
        }
    }
}

impl Line {
    fn new(row: &Row, number: usize, style: &Style) -> Self {
        Self {
            number,
            day: row.first_at.map(|at| text::date(at, &style.zone)).unwrap_or_default(),
            time: row
                .first_at
                .map_or_else(|| "not stated".to_owned(), |at| text::clock(at, &style.zone)),
            datetime: row.first_at.map(text::rfc3339).unwrap_or_default(),
            class: row.severity.name(),
            mark: if row.mark == RowMark::Plain { "" } else { row.mark.sign(false) },
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
            |text: &Option<String>| text::cap(text.as_deref().unwrap_or(""), CELL_COLUMNS_MAX);
        let failed = finding.outcome == Outcome::Failure;
        let zoned = |at: jiff::Timestamp| {
            at.to_zoned(style.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
        };
        Self {
            time: finding.event_time.map_or_else(|| "not stated".to_owned(), zoned),
            datetime: finding.event_time.map(text::rfc3339).unwrap_or_default(),
            name: cell(&finding.event_name),
            service: text::service(finding.event_source.as_deref().unwrap_or("")).into_owned(),
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
            agent: text::agent(finding.user_agent.as_deref()).unwrap_or_default(),
            key: cell(&finding.access_key_id),
            event_id: cell(&finding.event_id),
        }
    }
}
