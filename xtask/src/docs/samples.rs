//! Samples of output in Markdown: real output, between two marks.
//!
//! A page holds `<!-- sample: NAME -->`, a block, and `<!-- end of sample -->`. What stands between
//! the marks is written by `cargo xtask docs`, and compared by `--check`.

use anyhow::{Context, bail};

const BEGIN: &str = "<!-- sample: ";
const END: &str = "<!-- end of sample -->";
/// Rows of a timeline that a sample shows.
const ROWS_MAX: usize = 7;

/// The page with each sample replaced by what `output` says under its name.
pub(super) fn replaced(
    page: &str,
    output: impl Fn(&str) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let mut text = String::with_capacity(page.len());
    let mut rest = page;
    while let Some(at) = rest.find(BEGIN) {
        let name_at = at + BEGIN.len();
        let name_end = rest[name_at..].find(" -->").context("a sample's mark does not end")?;
        let name = &rest[name_at..name_at + name_end];
        let body = name_at + name_end + " -->".len();
        let Some(end) = rest[body..].find(END) else {
            bail!("the sample `{name}` has no `{END}`");
        };
        text.push_str(&rest[..body]);
        text.push_str("\n```text\n");
        text.push_str(output(name)?.trim_end());
        text.push_str("\n```\n");
        text.push_str(END);
        rest = &rest[body + end + END.len()..];
    }
    text.push_str(rest);
    Ok(text)
}

/// The worst incident of a scan's table: its summary without the reasons, and the first rows of its
/// timeline.
pub(super) fn worst_incident(table: &str) -> anyhow::Result<String> {
    let mut lines = table.lines().skip_while(|line| !line.starts_with("CRITICAL"));
    let mut sample = Vec::new();
    // A field is a label in column 10 and what is indented below it.
    let mut in_reasons = false;
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        let label = line.get(10..16).unwrap_or_default().trim_end();
        if !label.is_empty() {
            in_reasons = matches!(label, "why" | "see");
        }
        if !in_reasons {
            sample.push(line);
        }
    }
    if sample.is_empty() {
        bail!("the scan of the example shows no critical incident");
    }
    sample.push("");
    let rows: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    sample.extend(rows.iter().take(ROWS_MAX));
    if rows.len() > ROWS_MAX {
        sample.push("  […]");
    }
    Ok(sample.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_replaced_and_nothing_else() {
        let page = "a\n<!-- sample: x -->\nold\n<!-- end of sample -->\nb\n";
        let new = replaced(page, |name| Ok(format!("new {name}\n"))).expect("a page");
        assert_eq!(new, "a\n<!-- sample: x -->\n```text\nnew x\n```\n<!-- end of sample -->\nb\n");
        assert_eq!(replaced(&new, |name| Ok(format!("new {name}"))).expect("a page"), new);
        assert!(replaced("<!-- sample: x -->\nno end", |_| Ok(String::new())).is_err());
        assert!(replaced(page, |_| bail!("no such output")).is_err());
    }

    #[test]
    fn a_sample_of_a_scan_leaves_out_reasons_and_later_rows() {
        let rows: String = (0..9).map(|row| format!("  14:0{row}   call {row}\n")).collect();
        let table = format!(
            "2 incidents\n\nCRITICAL  222233334444\n          what happened\n          why   one ·\n\
             {}two\n          see   incident\n\n{rows}\n          next  1  ask\n",
            " ".repeat(16)
        );
        let sample = worst_incident(&table).expect("a sample");
        assert!(sample.starts_with("CRITICAL  222233334444\n          what happened\n\n  14:00"));
        assert!(sample.ends_with("14:06   call 6\n  […]"), "{sample}");
        assert!(worst_incident("No root use").is_err());
    }
}
