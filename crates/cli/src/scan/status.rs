//! `rootwatch scan status`: the progress of a fan-out, from the counts of its queue.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rootwatch_scan::aws::{QueueCounts, QueueFollower};
use serde_json::json;

use super::EXIT_INCOMPLETE;
use super::remote::explained;
use crate::args::{StatusArgs, StatusFormat};
use crate::output::text;

/// Not done yet.
const EXIT_NOT_DONE: u8 = 1;
/// Polls in a row that must find the queue empty: SQS's counts are approximate.
const EMPTY_READS: u32 = 3;
/// Seconds over which the rate is measured.
const RATE_SECS: u64 = 300;

pub(super) fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    crate::run::use_ring();
    let follower = QueueFollower::open(&args.queue_url).map_err(explained)?;
    let default =
        if io::stdout().is_terminal() { StatusFormat::Table } else { StatusFormat::Jsonl };
    let format = args.format.unwrap_or(default);
    if format == StatusFormat::Table {
        let dead = follower.dead_letter_queue();
        let dead = dead.map_or(
            "none: messages that cannot be processed return until they expire".into(),
            |name| text::visible(name),
        );
        writeln!(io::stdout(), "dead-letter queue: {dead}")?;
        writeln!(
            io::stdout(),
            "{:>8} {:>10} {:>10} {:>10} {:>8} {:>10}  left",
            "time",
            "waiting",
            "in flight",
            "delayed",
            "dead",
            "a second"
        )?;
    }
    let mut rate = Rate::default();
    let mut empty = 0;
    loop {
        let counts = follower.counts().map_err(explained)?;
        let seen = rate.add(Instant::now(), counts.left());
        line(format, &counts, seen)?;
        empty = if counts.left() == 0 { empty + 1 } else { 0 };
        if !args.watch || empty >= EMPTY_READS {
            return Ok(ExitCode::from(code(&counts)));
        }
        std::thread::sleep(Duration::from_secs(args.every.into()));
    }
}

fn code(counts: &QueueCounts) -> u8 {
    if counts.dead.is_some_and(|dead| dead > 0) {
        EXIT_INCOMPLETE
    } else if counts.left() > 0 {
        EXIT_NOT_DONE
    } else {
        0
    }
}

fn line(format: StatusFormat, counts: &QueueCounts, rate: Option<f64>) -> io::Result<()> {
    let QueueCounts { visible, in_flight, delayed, dead } = *counts;
    let secs_left = rate.filter(|rate| *rate > 0.0).map(|rate| counts.left() as f64 / rate);
    let now = Timestamp::now();
    let mut out = io::stdout().lock();
    match format {
        StatusFormat::Jsonl => {
            let status = json!({
                "time": text::rfc3339(now), "visible": visible, "in_flight": in_flight,
                "delayed": delayed, "dead_letters": dead,
                "messages_per_second": rate.map(|rate| (rate * 100.0).round() / 100.0),
                "seconds_left": secs_left.map(f64::round),
            });
            writeln!(out, "{status}")?;
        }
        StatusFormat::Table => {
            let number = |number: u64| text::thousands(number);
            let dead = dead.map_or_else(|| "none".to_owned(), number);
            let pace = rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
            let left = secs_left.map_or_else(
                || {
                    if counts.left() == 0 { "nothing".to_owned() } else { "unknown".to_owned() }
                },
                |secs| text::duration(Duration::from_secs_f64(secs)),
            );
            writeln!(
                out,
                "{:>8} {:>10} {:>10} {:>10} {dead:>8} {pace:>10}  {left}",
                now.strftime("%H:%M:%S").to_string(),
                number(visible),
                number(in_flight),
                number(delayed),
            )?;
        }
    }
    out.flush()
}

/// How fast a queue empties, measured over the last minutes.
#[derive(Debug, Default)]
struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    /// Messages per second; `None` before the second poll, or while the queue grows.
    fn add(&mut self, at: Instant, left: u64) -> Option<f64> {
        self.0.push_back((at, left));
        while self.0.len() > 2
            && self.0.front().is_some_and(|(first, _)| {
                at.saturating_duration_since(*first) > Duration::from_secs(RATE_SECS)
            })
        {
            self.0.pop_front();
        }
        let (first_at, first_left) = *self.0.front()?;
        let secs = at.saturating_duration_since(first_at).as_secs_f64();
        let worked = first_left.checked_sub(left)?;
        (secs > 0.0).then(|| worked as f64 / secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_covers_the_last_minutes() {
        let mut rate = Rate::default();
        let begin = Instant::now();
        let at = |secs| begin + Duration::from_secs(secs);
        assert_eq!(rate.add(at(0), 1_000), None);
        assert_eq!(rate.add(at(10), 900), Some(10.0));
        assert_eq!(rate.add(at(400), 500), Some(400.0 / 390.0));
        assert_eq!(rate.add(at(410), 2_000), None, "it grows");
    }

    #[test]
    fn dead_letters_take_precedence_over_waiting_messages() {
        let counts = QueueCounts { visible: 1, dead: Some(1), ..QueueCounts::default() };
        assert_eq!(code(&counts), EXIT_INCOMPLETE);
        assert_eq!(code(&QueueCounts { dead: Some(0), ..counts }), EXIT_NOT_DONE);
        assert_eq!(code(&QueueCounts::default()), 0);
    }
}
