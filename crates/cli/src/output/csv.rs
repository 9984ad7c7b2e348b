//! `--format csv`: the fields of `jsonl` as columns, for spreadsheets.

use std::borrow::Cow;
use std::io::{self, Write};

use super::jsonl::Line;
use super::{Report, text};

/// Names of the columns: the fields of `jsonl`.
const COLUMNS: [&str; 21] = [
    "event_id",
    "event_time",
    "account_id",
    "recipient_account_id",
    "region",
    "event_source",
    "event_name",
    "root_use",
    "severity",
    "rules",
    "title",
    "reasons",
    "outcome",
    "error_code",
    "mfa",
    "source_ip",
    "user_agent",
    "access_key_id",
    "read_only",
    "incident_id",
    "file",
];

/// Writes a header and one finding a row (RFC 4180).
///
/// Lists are joined with `; `. What a record does not state is an empty cell. A cell that a
/// spreadsheet would run as a formula begins with an apostrophe, and control characters stand as
/// visible escapes.
///
/// # Errors
///
/// When `out` cannot be written to.
pub(crate) fn csv(out: &mut dyn Write, report: &Report<'_>) -> io::Result<()> {
    let mut writer =
        ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer(out);
    writer.write_record(COLUMNS)?;
    for shown in &report.findings {
        let line = Line::from(shown);
        let row = [
            line.event_id.unwrap_or_default(),
            line.event_time.as_deref().unwrap_or_default(),
            line.account_id.unwrap_or_default(),
            line.recipient_account_id.unwrap_or_default(),
            line.region.unwrap_or_default(),
            line.event_source.unwrap_or_default(),
            line.event_name.unwrap_or_default(),
            line.root_use,
            line.severity,
            &line.rules.join("; "),
            line.title,
            &line.reasons.join("; "),
            line.outcome,
            line.error_code.unwrap_or_default(),
            line.mfa,
            line.source_ip.unwrap_or_default(),
            line.user_agent.unwrap_or_default(),
            line.access_key_id.unwrap_or_default(),
            line.read_only.map_or("", |yes| if yes { "true" } else { "false" }),
            line.incident_id,
            line.file,
        ];
        writer.write_record(row.map(|cell| tame(cell).into_owned()))?;
    }
    writer.flush()
}

/// A cell that no spreadsheet runs.
///
/// Spreadsheets skip leading white space, fold full-width signs to plain ones and drop control
/// characters, each before they look for the sign of a formula.
fn tame(cell: &str) -> Cow<'_, str> {
    let first = cell
        .chars()
        .find(|letter| !letter.is_whitespace() && !text::is_unseen(*letter) && *letter != '"');
    let signs = ['=', '+', '-', '@', '＝', '＋', '－', '＠', '−', '﹢', '﹣', '﹦', '﹫', '|', '%'];
    // `-` alone is the name of standard input.
    let formula = cell != "-" && first.is_some_and(|letter| signs.contains(&letter));
    let breaks = cell.starts_with(['\t', '\r', '\n']);
    let shown = text::visible(cell);
    if formula || breaks { Cow::Owned(format!("'{shown}")) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_begin_with_an_apostrophe() {
        for cell in [
            "=HYPERLINK(\"http://x\")",
            "+1",
            "-1+1",
            "@SUM(A1)",
            "  =1",
            "\t=1",
            "\u{a0}=1",
            "\u{200b}=1",
            "＝1",
            "\u{1b}@x",
            "\"=1",
            "\nx",
        ] {
            assert!(tame(cell).starts_with('\''), "{cell:?}");
        }
    }

    #[test]
    fn plain_cells_stay_as_they_are() {
        for cell in ["", "-", "203.0.113.77", "a=b", "2026-05-04T14:03:00Z", "é 支", "a-b"] {
            assert_eq!(tame(cell), cell);
        }
        assert_eq!(tame("a\u{1b}[31m\nb"), "a\\u{1b}[31m\\nb");
    }
}
