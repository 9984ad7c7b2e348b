//! The records of the demo, embedded by `build.rs`.

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};

use super::moment;

/// One record per line, after the time of its arrival, in the order of arrival.
const STORY: &str = include_str!(concat!(env!("OUT_DIR"), "/story.txt"));
/// Seconds of the break-in whose records are sent in one request.
pub(crate) const STEP_SECS: i64 = 30;

/// The records that arrive within [`STEP_SECS`].
#[derive(Debug)]
pub(crate) struct Step {
    /// The end of the step.
    pub(crate) at: Timestamp,
    /// Records as JSON.
    pub(crate) records: Vec<&'static str>,
}

/// When the clock starts.
pub(crate) fn start() -> anyhow::Result<Timestamp> {
    moment("2026-05-04T13:49:00Z")
}

/// When the next digest is due.
pub(crate) fn morning() -> anyhow::Result<Timestamp> {
    moment("2026-05-05T08:00:01Z")
}

/// All steps, including those without records.
pub(crate) fn steps() -> anyhow::Result<Vec<Step>> {
    let step = SignedDuration::from_secs(STEP_SECS);
    let mut steps = vec![Step { at: start()?.checked_add(step)?, records: Vec::new() }];
    for line in STORY.lines() {
        let (arrival, record) =
            line.split_once(' ').context("incomplete line in the embedded records")?;
        let arrival = moment(arrival)?;
        while let Some(last) = steps.last().map(|last| last.at).filter(|last| arrival >= *last) {
            steps.push(Step { at: last.checked_add(step)?, records: Vec::new() });
        }
        if let Some(last) = steps.last_mut() {
            last.records.push(record);
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_there_and_in_order_of_arrival() {
        let steps = steps().expect("the story");
        assert!(steps.is_sorted_by_key(|step| step.at));
        let records: Vec<&str> = steps.iter().flat_map(|step| &step.records).copied().collect();
        let count = |text: &str| records.iter().filter(|record| record.contains(text)).count();
        // The repeated one is there twice, the late one once and last.
        assert_eq!(count("96aff689-8f0c-4326-aba1-0c4b0d3aac6e"), 2);
        assert!(records.last().is_some_and(|last| last.contains("addendum")));
        assert_eq!(count("\"StopLogging\""), 1);
        assert!(records.len() > 300);
    }
}
