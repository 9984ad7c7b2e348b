//! `--format table`: for a terminal.

use std::io::{self, Write};

use anstyle::AnsiColor;
use rootwatch_core::finding::Severity;
use rootwatch_core::incident::Incident;
use rootwatch_core::narrative::IncidentView;
use rootwatch_core::timeline::{self, Row, RowMark};
use rootwatch_scan::summary::Summary;

use super::{Report, Style, text};

/// Rows of a timeline; the least important of the rest are left out.
const TIMELINE_LINES_MAX: usize = 40;
/// Files and places that [`skipped`] names.
const SKIPPED_FILES_MAX: usize = 200;
const SKIPPED_PLACES_MAX: usize = 3;
/// Where the texts of a block begin: after the severity, or after time and mark.
const INDENT: usize = 10;
/// Where they begin behind a label: `do first`.
const LABEL: usize = 10;
/// Columns that the words of a timeline need, or service and address go below them.
const WHAT_COLUMNS_MIN: usize = 30;
const SERVICE_COLUMNS_MAX: usize = 16;
const ACCOUNT_COLUMNS_MAX: usize = 20;

/// Writes the report for a terminal of `style.width` columns.
///
/// # Errors
///
/// When `out` cannot be written to.
pub(crate) fn table(out: &mut dyn Write, report: &Report<'_>, style: &Style) -> io::Result<()> {
    let mut page = Page { out, style, width: style.width.max(Style::COLUMNS_MIN) };
    if report.incidents.is_empty() && report.findings.is_empty() {
        return page.nothing(report);
    }
    page.header(report)?;
    let mut one_line_before = false;
    let mut marks = Vec::new();
    for incident in report.by_severity() {
        let view = report.view(incident, style);
        let is_one_line = super::is_one_line(incident);
        if !(is_one_line && one_line_before) {
            page.line("")?;
        }
        one_line_before = is_one_line;
        if is_one_line {
            page.one_line(&view)?;
        } else {
            page.block(report, incident, &view, &mut marks)?;
        }
    }
    page.footer(&marks)
}

/// What the numbers of a summary say, in words: `4,480 files`, `1,314,242 records` …
pub(crate) fn looked_at(summary: &Summary) -> Vec<String> {
    let mut parts =
        vec![text::count(summary.files, "file"), text::count(summary.records, "record")];
    if let Some((first, last)) = summary.span {
        parts.push(text::span(first, last));
    }
    if !summary.accounts.is_empty() {
        parts.push(text::count(summary.accounts.len() as u64, "account"));
    }
    if !summary.regions.is_empty() {
        parts.push(text::count(summary.regions.len() as u64, "region"));
    }
    parts
}

/// What was left aside on purpose, in sentences: `Passed over: 3 digest or Insights files.`
pub(crate) fn left_aside(summary: &Summary) -> Option<String> {
    let mut over = Vec::new();
    if summary.files_passed_over > 0 {
        over.push(text::count(summary.files_passed_over, "digest or Insights file"));
    }
    for (kind, number) in &summary.passed_over {
        if *number > 0 {
            // `object without an API record`: the first word takes the plural.
            let (noun, rest) = match kind.name().split_once(" without") {
                Some((noun, rest)) => (noun, format!(" without{rest}")),
                None => (kind.name(), String::new()),
            };
            over.push(format!("{}{rest}", text::count(*number, noun)));
        }
    }
    if summary.documents > 0 {
        over.push(text::count(summary.documents, "document"));
    }
    let mut parts = Vec::new();
    if !over.is_empty() {
        parts.push(format!("Passed over: {}.", over.join(", ")));
    }
    if summary.files_filtered > 0 {
        let files = text::count(summary.files_filtered, "file");
        parts.push(format!("Outside the filters: {files}."));
    }
    if summary.repeats > 0 {
        let repeats = text::count(summary.repeats, "repeated finding");
        parts.push(format!("Counted once: {repeats}."));
    }
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// How much was found: `2 incidents`, `41 findings`, `3 accounts`.
pub(crate) fn found(report: &Report<'_>) -> Vec<String> {
    let mut accounts: Vec<&String> =
        report.incidents.iter().flat_map(|incident| &incident.accounts).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let mut parts = vec![
        text::count(report.incidents.len() as u64, "incident"),
        text::count(report.findings.len() as u64, "finding"),
    ];
    if !accounts.is_empty() {
        parts.push(text::count(accounts.len() as u64, "account"));
    }
    parts
}

/// One sentence for a report without incidents. It claims no more than was looked at.
pub(crate) fn nothing_found(summary: &Summary, style: &Style) -> String {
    let mut about = vec![text::count(summary.files, "file")];
    if !summary.accounts.is_empty() {
        about.push(text::count(summary.accounts.len() as u64, "account"));
    }
    if !summary.regions.is_empty() {
        about.push(text::count(summary.regions.len() as u64, "region"));
    }
    if let Some((first, last)) = summary.span {
        let (first, last) = (text::date(first, &style.zone), text::date(last, &style.zone));
        about.push(if first == last { first } else { format!("{first} → {last}") });
    }
    let about = about.join(", ");
    let records = text::count(summary.records, "record");
    if summary.records == 0 {
        format!("No records to look at ({about}).")
    } else if !summary.filters.is_empty() {
        let mut text =
            format!("Nothing within {} in {records} ({about}).", summary.filters.join(" "));
        if summary.hidden > 0 {
            let hidden = text::count(summary.hidden, "finding");
            text.push_str(&format!(" Left out by class or severity: {hidden}."));
        }
        text
    } else if summary.is_complete() {
        format!("No root use in {records} ({about}).")
    } else {
        format!("No root use in the {records} that could be read ({about}).")
    }
}

/// `2 places could not be read: this look is not complete.`
pub(crate) fn incomplete(summary: &Summary) -> Option<String> {
    (!summary.is_complete()).then(|| {
        let places = text::count(summary.skipped_total, "place");
        format!("{places} could not be read or decoded: this look is not complete.")
    })
}

/// Writes what could not be read or decoded, grouped by file; nothing when there is nothing. For
/// stderr.
///
/// # Errors
///
/// When `out` cannot be written to.
pub(crate) fn skipped(out: &mut dyn Write, summary: &Summary, style: &Style) -> io::Result<()> {
    if summary.is_complete() {
        return Ok(());
    }
    let mut page = Page { out, style, width: style.width.max(Style::COLUMNS_MIN) };
    let groups: Vec<_> = summary.skipped.chunk_by(|a, b| a.path == b.path).collect();
    let listed: u64 = summary.skipped.len() as u64;
    let more_places = summary.skipped_total.saturating_sub(listed);
    let files = text::count(groups.len() as u64, "file");
    let at_least = if more_places > 0 { "at least " } else { "" };
    page.text(
        0,
        yellow().bold(),
        &format!("{at_least}{files} could not be read whole (exit code 3):"),
    )?;
    for group in groups.iter().take(SKIPPED_FILES_MAX) {
        let Some(first) = group.first() else { continue };
        let path = first.path.to_string_lossy();
        let path = if path == "-" { "standard input".into() } else { text::visible(&path) };
        // Not wrapped: somebody will copy it.
        page.line(&format!("  {path}"))?;
        for place in group.iter().take(SKIPPED_PLACES_MAX) {
            let reason = text::cap(&place.reason, text::TEXT_COLUMNS_MAX);
            let at = match place.place {
                Some(at) if at.record > 0 => format!(
                    "record {}, byte {}: ",
                    text::thousands(at.record),
                    text::thousands(at.offset)
                ),
                Some(at) if at.offset > 0 => format!("byte {}: ", text::thousands(at.offset)),
                _ => String::new(),
            };
            page.text(4, dim(), &format!("{at}{reason}"))?;
        }
        let more = group.len().saturating_sub(SKIPPED_PLACES_MAX);
        if more > 0 {
            let more = text::count(more as u64, "more place");
            page.text(4, dim(), &format!("… {more} in this file"))?;
        }
    }
    let more_files = groups.len().saturating_sub(SKIPPED_FILES_MAX);
    if more_files > 0 {
        page.text(2, dim(), &format!("… {}", text::count(more_files as u64, "more file")))?;
    }
    if more_places > 0 {
        let more = text::count(more_places, "more place");
        page.text(2, dim(), &format!("… {more} not listed"))?;
    }
    Ok(())
}

type Look = anstyle::Style;

fn bold() -> Look {
    Look::new().bold()
}

fn dim() -> Look {
    Look::new().dimmed()
}

fn yellow() -> Look {
    AnsiColor::Yellow.on_default()
}

fn look(severity: Severity) -> Look {
    match severity {
        Severity::Critical => AnsiColor::Red.on_default().bold().invert(),
        Severity::High => AnsiColor::Red.on_default().bold(),
        Severity::Medium => yellow().bold(),
        Severity::Low => AnsiColor::Cyan.on_default(),
        Severity::Informational => dim(),
    }
}

struct Page<'a> {
    out: &'a mut dyn Write,
    style: &'a Style,
    width: usize,
}

impl Page<'_> {
    /// One line as it is, trailing spaces removed.
    fn line(&mut self, text: &str) -> io::Result<()> {
        let text = text.trim_end_matches(' ');
        if self.style.ascii {
            writeln!(self.out, "{}", ascii(text))
        } else {
            // A no-break space has done its work; what is copied should be a plain one.
            writeln!(self.out, "{}", text.replace('\u{a0}', " "))
        }
    }

    fn paint(&self, look: Look, text: &str) -> String {
        if self.style.color && look != Look::default() && !text.is_empty() {
            format!("{look}{text}{look:#}")
        } else {
            text.to_owned()
        }
    }

    /// A wrapped paragraph, indented.
    fn text(&mut self, indent: usize, look: Look, text: &str) -> io::Result<()> {
        for line in text::wrap(&tie(text), self.width.saturating_sub(indent)) {
            let line = format!("{}{}", " ".repeat(indent), self.paint(look, &line));
            self.line(&line)?;
        }
        Ok(())
    }

    /// A wrapped paragraph behind a label: `why   no MFA · …`.
    fn labelled(&mut self, label: &str, look: Look, text: &str) -> io::Result<()> {
        let indent = INDENT + LABEL;
        let lines = text::wrap(&tie(text), self.width.saturating_sub(indent));
        for (index, line) in lines.iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            let label = self.paint(dim(), &text::pad(label, LABEL));
            let line = format!("{}{label}{}", " ".repeat(INDENT), self.paint(look, line));
            self.line(&line)?;
        }
        Ok(())
    }

    /// Two texts on one line, the second at the right edge, where both fit.
    fn both(&mut self, left: &str, looks: Look, right: &str, right_look: Look) -> io::Result<()> {
        let (a, b) = (text::width(left), text::width(right));
        if a + b + 3 <= self.width {
            let gap = " ".repeat(self.width - a - b);
            let line = format!("{}{gap}{}", self.paint(looks, left), self.paint(right_look, right));
            return self.line(&line);
        }
        self.text(0, looks, left)?;
        self.text(0, right_look, right)
    }

    fn nothing(&mut self, report: &Report<'_>) -> io::Result<()> {
        let summary = report.summary;
        self.text(0, bold(), &nothing_found(summary, self.style))?;
        if let Some(text) = left_aside(summary) {
            self.text(0, dim(), &text)?;
        }
        match incomplete(summary) {
            Some(text) => self.text(0, yellow(), &text),
            None => Ok(()),
        }
    }

    fn header(&mut self, report: &Report<'_>) -> io::Result<()> {
        let summary = report.summary;
        let found = found(report).join(" · ");
        let elapsed = text::duration(summary.elapsed);
        let looked = format!("{} in {elapsed}", looked_at(summary).join(", "));
        // A number stays with its noun.
        let looked: Vec<String> =
            looked.split(", ").map(|part| part.replace(' ', "\u{a0}")).collect();
        let looked = format!("looked at {}", looked.join(", "));
        self.both(&found, bold(), &looked, dim())?;
        if let Some(text) = left_aside(summary) {
            self.text(0, dim(), &text)?;
        }
        match incomplete(summary) {
            Some(text) => self.text(0, yellow(), &text),
            None => Ok(()),
        }
    }

    fn one_line(&mut self, view: &IncidentView) -> io::Result<()> {
        let word = text::severity(view.severity);
        let calls: usize = view.rows.iter().map(|row| row.calls).sum();
        let mut text = format!("{} · {} · {}", view.title, super::account(view), view.when);
        if calls > 1 {
            text.push_str(&format!(" · {}", text::count(calls as u64, "call")));
        }
        let lines = text::wrap(&tie(&text), self.width.saturating_sub(INDENT));
        for (index, line) in lines.iter().enumerate() {
            let word = if index == 0 { word } else { "" };
            let word = self.paint(look(view.severity), &text::pad(word, INDENT));
            self.line(&format!("{word}{line}"))?;
        }
        Ok(())
    }

    fn block(
        &mut self,
        report: &Report<'_>,
        incident: &Incident,
        view: &IncidentView,
        marks: &mut Vec<RowMark>,
    ) -> io::Result<()> {
        self.heading(view, report.ago(incident))?;
        self.text(INDENT, Look::default(), &view.prose)?;
        let accounts = super::accounts(view);
        if !accounts.is_empty() {
            let named: Vec<&str> = accounts.iter().take(10).map(String::as_str).collect();
            let mut text = named.join(" · ");
            let more = accounts.len() - named.len();
            if more > 0 {
                text.push_str(&format!(" · {more} more"));
            }
            self.labelled("in", Look::default(), &text)?;
        }
        if !view.from.is_empty() {
            self.labelled("from", Look::default(), &view.from)?;
        }
        if !view.why.is_empty() {
            self.labelled("why", Look::default(), &view.why.join(" · "))?;
        }
        if !view.related.is_empty() {
            self.labelled(
                "see",
                Look::default(),
                &format!("incident {}", view.related.join(", ")),
            )?;
        }
        self.line("")?;
        self.timeline(view, marks)?;
        if !view.do_first.is_empty() {
            self.line("")?;
        }
        for (index, step) in view.do_first.iter().enumerate() {
            let number = format!("{}\u{a0} ", index + 1);
            let lines = text::wrap(step, self.width.saturating_sub(INDENT + LABEL + 3));
            for (at, line) in lines.iter().enumerate() {
                let label = if index == 0 && at == 0 { "do first" } else { "" };
                let number = if at == 0 { number.as_str() } else { "   " };
                let label = self.paint(dim(), &text::pad(label, LABEL));
                let line =
                    format!("{}{label}{}{line}", " ".repeat(INDENT), self.paint(bold(), number));
                self.line(&line)?;
            }
        }
        Ok(())
    }

    /// Severity, account, span, how, and the incident's name, in as few lines as they need.
    fn heading(&mut self, view: &IncidentView, ago: Option<String>) -> io::Result<()> {
        let word = text::severity(view.severity);
        let gap = " ".repeat(INDENT.saturating_sub(text::width(word)));
        let word = format!("{}{gap}", self.paint(look(view.severity), word));
        let account = &super::account(view);
        let ago = ago.map(|ago| format!(", {ago}").replace(' ', "\u{a0}"));
        let ago = ago.unwrap_or_default();
        let when = format!("{}{ago} · {}", view.when, view.who);
        let id = format!("incident {}", view.id);
        let room = self.width.saturating_sub(INDENT);
        let (account_wide, id_wide) = (text::width(account), text::width(&id));
        let wide = account_wide + 3 + text::width(&when);
        let (bright, pale) = (self.paint(bold(), account), self.paint(dim(), &id));
        if wide + 3 + id_wide <= room {
            let gap = " ".repeat(room - wide - id_wide);
            return self.line(&format!("{word}{bright}   {when}{gap}{pale}"));
        }
        if account_wide + 3 + id_wide <= room {
            let gap = " ".repeat(room - account_wide - id_wide);
            self.line(&format!("{word}{bright}{gap}{pale}"))?;
        } else {
            let lines = text::wrap(account, room);
            for (index, line) in lines.iter().enumerate() {
                let head = if index == 0 { word.clone() } else { " ".repeat(INDENT) };
                let line = self.paint(bold(), line);
                self.line(&format!("{head}{line}"))?;
            }
            self.text(INDENT, dim(), &id)?;
        }
        self.text(INDENT, Look::default(), &when)
    }

    fn timeline(&mut self, view: &IncidentView, marks: &mut Vec<RowMark>) -> io::Result<()> {
        let kept = timeline::keep(&view.rows, TIMELINE_LINES_MAX);
        let columns = Columns::new(&view.rows, self.width);
        let mut day = None;
        let several_days = {
            let date = |row: &Row| row.first_at.map(|at| text::date(at, &self.style.zone));
            let mut days: Vec<String> = view.rows.iter().filter_map(date).collect();
            days.dedup();
            days.len() > 1
        };
        let mut hidden = 0;
        for (index, row) in view.rows.iter().enumerate() {
            if !kept[index] {
                hidden += row.calls;
                continue;
            }
            self.hidden(&mut hidden)?;
            let date = row.first_at.map(|at| text::date(at, &self.style.zone));
            if several_days && date.is_some() && date != day {
                let text = date.clone().unwrap_or_default();
                let text = self.paint(dim(), &text);
                self.line(&format!("  {text}"))?;
                day = date;
            }
            if row.mark != RowMark::Plain && !marks.contains(&row.mark) {
                marks.push(row.mark);
            }
            self.row(row, &columns)?;
        }
        self.hidden(&mut hidden)
    }

    fn hidden(&mut self, calls: &mut usize) -> io::Result<()> {
        if *calls == 0 {
            return Ok(());
        }
        let calls = text::count(std::mem::take(calls) as u64, "more call");
        self.text(INDENT, dim(), &format!("… {calls}, see --format jsonl"))
    }

    fn row(&mut self, row: &Row, columns: &Columns) -> io::Result<()> {
        let time = row.first_at.map(|at| text::clock(at, &self.style.zone));
        let time = time.unwrap_or_else(|| "--:--".to_owned());
        let sign = row.mark.sign(self.style.ascii);
        let words_look = match row.mark {
            RowMark::Severe => look(row.severity.min(Severity::High)),
            RowMark::Failed | RowMark::Plain => Look::default(),
            RowMark::OnBehalf => dim(),
        };
        let sign_look = match row.mark {
            RowMark::Failed => yellow().bold(),
            _ => words_look,
        };
        let head = format!("  {} {} ", self.paint(dim(), &time), self.paint(sign_look, sign));
        let what = text::wrap(&row.what, columns.what);
        let services = names(&row.services, SERVICE_COLUMNS_MAX);
        let addresses = names(&row.addresses, 0);
        let account = row.account.clone().unwrap_or_default();
        let mut side = Vec::new();
        if columns.beside() {
            side.push((&account, columns.account));
            side.push((&services, columns.service));
            side.push((&addresses, columns.address));
            side.retain(|(_, wide)| *wide > 0);
            while side.last().is_some_and(|(cell, _)| cell.is_empty()) {
                side.pop();
            }
        }
        for (index, line) in what.iter().enumerate() {
            let mut text = if index == 0 { head.clone() } else { " ".repeat(INDENT) };
            text.push_str(&self.paint(words_look, line));
            if index == 0 && !side.is_empty() {
                text.push_str(&" ".repeat(columns.what.saturating_sub(text::width(line))));
            }
            for (number, (cell, wide)) in side.iter().enumerate().filter(|_| index == 0) {
                let cell = text::cap(cell, *wide);
                let last = number + 1 == side.len();
                let cell = if last { cell } else { text::pad(&cell, *wide) };
                text.push_str("  ");
                text.push_str(&self.paint(dim(), &cell));
            }
            self.line(&text)?;
        }
        if !columns.beside() {
            let parts: Vec<String> = [account, services, addresses]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect();
            self.text(INDENT, dim(), &parts.join(" · "))?;
        }
        Ok(())
    }

    fn footer(&mut self, marks: &[RowMark]) -> io::Result<()> {
        let mut parts: Vec<String> = [RowMark::Failed, RowMark::Severe, RowMark::OnBehalf]
            .iter()
            .filter(|mark| marks.contains(mark))
            .map(|mark| {
                let sign = mark.sign(self.style.ascii);
                format!("{sign} {}", mark.meaning()).replace(' ', "\u{a0}")
            })
            .collect();
        self.line("")?;
        parts.push("every call: --format jsonl".replace(' ', "\u{a0}"));
        parts.push("to hand on: --format html".replace(' ', "\u{a0}"));
        let text = parts.join("   ");
        if text::width(&text) <= self.width {
            let text = self.paint(dim(), &text);
            return self.line(&text);
        }
        self.text(0, dim(), &parts.join(" · "))
    }
}

/// Keeps ` · ` at the end of a line, never at the beginning of one.
fn tie(text: &str) -> String {
    text.replace(" · ", "\u{a0}· ")
}

/// As many names as fit, then `…`. With 0 columns: the first one.
fn names(names: &[String], columns: usize) -> String {
    let Some((first, rest)) = names.split_first() else { return String::new() };
    let mut text = first.clone();
    for (index, name) in rest.iter().enumerate() {
        let last = index + 1 == rest.len();
        let longer = text::width(&text) + 2 + text::width(name) + if last { 0 } else { 2 };
        if longer > columns {
            text.push_str(" …");
            break;
        }
        text.push_str(", ");
        text.push_str(name);
    }
    text
}

/// Widths of a timeline's columns; all but the first are 0 where the terminal is too narrow.
struct Columns {
    what: usize,
    account: usize,
    service: usize,
    address: usize,
}

impl Columns {
    fn new(rows: &[Row], width: usize) -> Self {
        let widest = |text: &dyn Fn(&Row) -> String| {
            rows.iter().map(|row| text::width(&text(row))).max().unwrap_or(0)
        };
        let account = widest(&|row| row.account.clone().unwrap_or_default());
        let account = account.min(ACCOUNT_COLUMNS_MAX);
        let service = widest(&|row| names(&row.services, SERVICE_COLUMNS_MAX));
        let service = service.min(SERVICE_COLUMNS_MAX);
        let address = widest(&|row| names(&row.addresses, 0)).min(41);
        let sides: usize =
            [account, service, address].iter().filter(|wide| **wide > 0).map(|wide| wide + 2).sum();
        let room = width.saturating_sub(INDENT);
        if room < WHAT_COLUMNS_MIN + sides {
            return Self { what: room, account: 0, service: 0, address: 0 };
        }
        // On a wide terminal the columns stay near the words that they belong to.
        let longest = widest(&|row| row.what.clone()).max(WHAT_COLUMNS_MIN) + 2;
        Self { what: (room - sides).min(longest), account, service, address }
    }

    fn beside(&self) -> bool {
        self.account + self.service + self.address > 0
    }
}

fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '→' => out.push_str("->"),
            '·' => out.push('-'),
            '…' => out.push_str("..."),
            '✗' => out.push('x'),
            '\u{a0}' => out.push(' '),
            other => out.push(other),
        }
    }
    out
}
