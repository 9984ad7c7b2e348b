//! `rootwatch pattern match`: matches event patterns against events from standard input.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use anyhow::Context;
use rootwatch_core::pattern::EventPattern;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// Largest size of a line in bytes. EventBridge accepts events up to 1 MiB and patterns up to 4 KiB.
const LINE_BYTES_MAX: u64 = 8 << 20;

#[derive(Deserialize)]
struct Question<'a> {
    #[serde(borrow)]
    pattern: &'a RawValue,
    #[serde(borrow)]
    event: &'a RawValue,
}

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let mut input = io::stdin().lock();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = io::Read::take(&mut input, LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .context("cannot read standard input")?;
        if read == 0 {
            break;
        }
        if read as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            skip_line(&mut input)?;
            writeln!(out, "invalid: the line is longer than {LINE_BYTES_MAX} bytes")?;
            continue;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match answer(&line) {
            Ok(matches) => writeln!(out, "{matches}")?,
            Err(reason) => writeln!(out, "invalid: {reason}")?,
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let chunk = input.fill_buf()?;
        if chunk.is_empty() {
            return Ok(());
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(chunk.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

fn answer(line: &[u8]) -> Result<bool, String> {
    let line = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8".to_owned())?;
    let question: Question<'_> =
        serde_json::from_str(line).map_err(|error| one_line(&format!("the line: {error}")))?;
    let pattern = text(question.pattern)?;
    let event = text(question.event)?;
    let pattern =
        EventPattern::parse(&pattern).map_err(|error| one_line(&format!("pattern: {error}")))?;
    serde_json::from_str::<IgnoredAny>(&event)
        .map_err(|error| one_line(&format!("event: {error}")))?;
    pattern.matches(&event).map_err(|error| one_line(&format!("event: {error}")))
}

/// JSON text given as a string, or the JSON itself.
fn text(raw: &RawValue) -> Result<String, String> {
    if raw.get().starts_with('"') {
        serde_json::from_str(raw.get()).map_err(|error| one_line(&error.to_string()))
    } else {
        Ok(raw.get().to_owned())
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_events_come_as_strings_or_as_json() {
        assert_eq!(answer(br#"{"pattern":"{\"a\":[1]}","event":"{\"a\":1}"}"#), Ok(true));
        assert_eq!(answer(br#"{"pattern":{"a":[1]},"event":{"a":2}}"#), Ok(false));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let error = |line: &str| answer(line.as_bytes()).expect_err("invalid");
        assert!(error(r#"{"pattern":{"a":1},"event":{}}"#).starts_with("pattern: "));
        assert!(error(r#"{"pattern":{"a":[1]},"event":"{"}"#).starts_with("event: "));
        assert!(error("{").starts_with("the line: "));
    }
}
