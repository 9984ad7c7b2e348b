//! One object as a stream: findings are handed on as they come, and nothing is kept.
//!
//! A scan of an archive keeps its findings, because incidents need all of them. A hub keeps them in
//! its store; it reads an object of any size in the memory of one window and one batch.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::Read;
use std::mem::take;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use rootwatch_core::decode::{Event, Item, Place};
use rootwatch_core::detect::{Detected, Detector};
use rootwatch_core::rules::Ruleset;
use rootwatch_core::split::reason;

use crate::file::{Counted, WINDOW_BYTES_MIN, looks_like_a_log, read_some};
use crate::inflate::{Format, stream, stream_error};
use crate::kernel::Kernel;
use crate::names::FileKind;
use crate::prefilter::Prefilter;
use crate::summary::Summary;
use crate::text::{Sink, TextScanner};
use crate::{EXPANSION_FREE_BYTES, EXPANSION_MAX, ScanOptions};

/// Findings of a batch, at most.
pub const BATCH_FINDINGS_MAX: usize = 512;
/// First bytes that tell what an object is.
const HEAD_BYTES: usize = 16;

/// True when CloudTrail delivers objects of such names beside its log files, and they hold no
/// records: digests, Insights. `name` may have folders before it.
#[must_use]
pub fn holds_no_records(name: &str) -> bool {
    FileKind::of(last_part(name)) == FileKind::NoRecords
}

/// Scans one object, plain or compressed as its first bytes say, and hands findings on in batches
/// of at most [`BATCH_FINDINGS_MAX`], in the order of the text. When the sink breaks, the rest is
/// not read.
///
/// Damage costs what it damages: [`Summary::skipped`] lists it, with the place of a record, or
/// without a place when the object itself ended early, was damaged or could not be read. What
/// stands before it has been handed on. An object whose name says that it holds no records, or
/// that is a document and does not look like a log, is passed over unread.
///
/// Of the options, threads and the number of findings to keep mean nothing here.
pub fn scan_reader(
    reader: impl Read,
    name: &str,
    rules: &Ruleset,
    options: &ScanOptions,
    sink: &mut dyn FnMut(Vec<Detected>) -> ControlFlow<()>,
) -> Summary {
    let begin = Instant::now();
    let prefilter = Prefilter::new(rules, options.rule_only);
    let prefilter = (options.prefilter && prefilter.unguarded().is_empty()).then_some(&prefilter);
    let mut out = StreamSink {
        name: Path::new(name),
        options,
        detector: Detector::new(rules),
        batch: Vec::new(),
        hand_on: sink,
        summary: Summary::default(),
        cut_short: false,
        stopped: false,
    };
    read_object(reader, prefilter, &mut out);
    out.flush();
    out.summary.elapsed = begin.elapsed();
    out.summary
}

fn read_object(
    mut reader: impl Read,
    prefilter: Option<&Prefilter>,
    out: &mut StreamSink<'_, '_, '_>,
) {
    let name = out.name.to_string_lossy();
    let kind = FileKind::of(last_part(&name));
    if kind == FileKind::NoRecords {
        out.summary.files_passed_over += 1;
        return;
    }
    let mut head = [0; HEAD_BYTES];
    let (head, failure) = match read_some(&mut reader, &mut head) {
        Ok(read) => (&head[..read], None),
        Err((read, error)) => (&head[..read], Some(error)),
    };
    let format = Format::of(head);
    if let Some(error) = failure {
        let reason = stream_error(format, &error);
        return out.summary.skip(out.name, None, reason);
    }
    if kind == FileKind::Document && !looks_like_a_log(head) {
        out.summary.documents += 1;
        return;
    }
    out.summary.files += 1;
    let samples = match &kind {
        FileKind::Log(log) => {
            out.summary.widen(log.delivered_at);
            note(&mut out.summary.accounts, Some(log.account));
            note(&mut out.summary.regions, Some(log.region));
            0
        }
        _ => 1,
    };
    let count = Cell::new(0);
    let counted = Counted { inner: head.chain(reader), count: &count };
    match stream(format, counted) {
        Ok(text) => {
            let limits = out.options.limits;
            let mut scanner = TextScanner::new(prefilter, Kernel::detect(), limits, samples);
            read_text(text, format, &count, &mut scanner, out);
        }
        Err(error) => {
            let reason = stream_error(format, &error);
            out.summary.skip(out.name, None, reason);
        }
    }
    out.summary.bytes_read += count.get();
}

/// Takes a text in through a window. `compressed` is how many bytes of the object were read so far.
fn read_text(
    mut text: impl Read,
    format: Format,
    compressed: &Cell<u64>,
    scanner: &mut TextScanner<'_>,
    out: &mut StreamSink<'_, '_, '_>,
) {
    let options = out.options;
    let mut window = vec![0; WINDOW_BYTES_MIN.max(2 * options.limits.record_bytes_max)];
    let (mut filled, mut total) = (0, 0);
    loop {
        let (new, error) = match read_some(&mut text, &mut window[filled..]) {
            Ok(new) => (new, None),
            Err((new, error)) => (new, Some(error)),
        };
        filled += new;
        total += new as u64;
        let trouble = error
            .map(|error| stream_error(format, &error))
            .or_else(|| grown_too_large(format, total, compressed.get(), options));
        let last = trouble.is_some() || filled < window.len();
        out.cut_short = trouble.is_some();
        let used = scanner.feed(&window[..filled], last, out);
        if let Some(trouble) = trouble {
            let records = scanner.units();
            let noun = if records == 1 { "record" } else { "records" };
            let reason = format!("{trouble} after {records} {noun}");
            out.summary.skip(out.name, None, reason);
        }
        if last || out.stopped {
            break;
        }
        window.copy_within(used..filled, 0);
        filled -= used;
    }
    out.summary.bytes_scanned += total;
}

/// Why a compressed object is a bomb, if it is one.
fn grown_too_large(
    format: Format,
    total: u64,
    compressed: u64,
    options: &ScanOptions,
) -> Option<String> {
    if format == Format::Plain {
        return None;
    }
    if total > EXPANSION_FREE_BYTES && total / compressed.max(1) > EXPANSION_MAX {
        return Some(format!("decompresses to more than {EXPANSION_MAX} times its size"));
    }
    (total > options.file_bytes_max)
        .then(|| format!("decompresses to more than {} bytes", options.file_bytes_max))
}

fn last_part(name: &str) -> &str {
    name.rsplit(['/', std::path::MAIN_SEPARATOR]).next().unwrap_or(name)
}

fn note(set: &mut BTreeSet<String>, name: Option<&str>) {
    if let Some(name) = name
        && !set.contains(name)
    {
        set.insert(name.to_owned());
    }
}

/// Judges what comes out of the object.
struct StreamSink<'o, 'r, 's> {
    name: &'o Path,
    options: &'o ScanOptions,
    detector: Detector<'r>,
    batch: Vec<Detected>,
    hand_on: &'s mut dyn FnMut(Vec<Detected>) -> ControlFlow<()>,
    summary: Summary,
    /// The text is cut off by trouble that is reported on its own.
    cut_short: bool,
    /// The sink wants no more.
    stopped: bool,
}

impl StreamSink<'_, '_, '_> {
    fn event(&mut self, event: &Event<'_>) {
        let record = &event.record;
        let account =
            record.recipient_account_id.as_deref().or(record.identity.account_id.as_deref());
        let region = record.region.as_deref();
        self.summary.records += 1;
        if let Some(at) = record.event_time {
            self.summary.widen(at);
        }
        note(&mut self.summary.accounts, account);
        note(&mut self.summary.regions, region);
        let options = self.options;
        let is_in = |set: &BTreeSet<String>, name: Option<&str>| {
            set.is_empty() || name.is_some_and(|name| set.contains(name))
        };
        let is_in_time = record.event_time.is_none_or(|at| {
            options.since.is_none_or(|since| at >= since)
                && options.until.is_none_or(|until| at < until)
        });
        if !(is_in_time && is_in(&options.accounts, account) && is_in(&options.regions, region)) {
            return;
        }
        if let Some(detected) = self.detector.detect(event) {
            self.batch.push(detected);
            if self.batch.len() >= BATCH_FINDINGS_MAX {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        let batch = take(&mut self.batch);
        if !batch.is_empty() && !self.stopped {
            self.stopped = (self.hand_on)(batch).is_break();
        }
    }
}

impl Sink for StreamSink<'_, '_, '_> {
    fn item(&mut self, place: Place, item: Item<'_>) {
        if self.stopped {
            return;
        }
        match item {
            Item::Event(event) => self.event(&event),
            Item::PassedOver(kind) => *self.summary.passed_over.entry(kind).or_default() += 1,
            Item::Skipped(skipped) => {
                let is_the_end =
                    skipped.reason == reason::ENDS_INSIDE || skipped.reason == reason::LIST_OPEN;
                if !(self.cut_short && is_the_end) {
                    self.summary.skip(self.name, Some(place), skipped.reason);
                }
            }
        }
    }

    fn discarded(&mut self) {
        self.summary.records += 1;
    }
}
