//! One thread's work: open a file, get its text, detect findings in the records that are worth
//! decoding. Files, S3 objects and standard input all take this way, whether the findings are kept
//! until the end or passed on as they are found.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rootwatch_core::decode::{Event, Item, Place};
use rootwatch_core::detect::{Detected, Detector};
use rootwatch_core::rules::Ruleset;
use rootwatch_core::split::reason;

use crate::buffers::{Buffers, LargeText, LoadedText, OwnBuffers, Rest, WINDOW_BYTES_MIN};
use crate::inflate::{Crc, Format, stream, stream_error};
use crate::kernel::Kernel;
use crate::names::{FileKind, LogName};
use crate::options::{EXPANSION_FREE_BYTES, EXPANSION_MAX, ScanOptions};
use crate::prefilter::Prefilter;
use crate::progress::Progress;
use crate::scanned::{Located, Scanned};
use crate::summary::{Summary, insert, io_reason};
use crate::text::{Sink, TextScanner};
use crate::walk::Found;

/// Findings in a batch that is passed on.
pub const BATCH_FINDINGS_MAX: usize = 512;
/// Bytes that show what a file is.
const HEAD_BYTES: usize = 16;
/// What findings call a text that is not a file.
const IN_MEMORY: &str = "(memory)";

/// What all threads of a scan share.
pub(crate) struct Shared<'a> {
    rules: &'a Ruleset,
    options: &'a ScanOptions,
    progress: &'a Progress,
    /// `None` decodes every record.
    prefilter: Option<Arc<Prefilter>>,
    kernel: Kernel,
    large: Arc<LargeText>,
}

impl<'a> Shared<'a> {
    pub(crate) fn new(
        rules: &'a Ruleset,
        options: &'a ScanOptions,
        progress: &'a Progress,
    ) -> Self {
        Self::with(rules, options, progress, prefilter(rules, options), Arc::default())
    }

    /// The same with a prefilter and a large buffer that outlive one scan.
    pub(crate) fn with(
        rules: &'a Ruleset,
        options: &'a ScanOptions,
        progress: &'a Progress,
        prefilter: Option<Arc<Prefilter>>,
        large: Arc<LargeText>,
    ) -> Self {
        Self { rules, options, progress, prefilter, kernel: Kernel::detect(), large }
    }
}

/// The prefilter for these rules; `None` if every record must be decoded.
pub(crate) fn prefilter(rules: &Ruleset, options: &ScanOptions) -> Option<Arc<Prefilter>> {
    if !options.prefilter {
        return None;
    }
    let prefilter = Prefilter::new(rules, options.rule_only);
    prefilter.unguarded().is_empty().then(|| Arc::new(prefilter))
}

/// Receives the findings of an object in batches; [`ControlFlow::Break`] ends the reading.
pub type BatchSink<'a> = dyn FnMut(Vec<Detected>) -> ControlFlow<()> + 'a;

/// What happens to findings.
enum Findings<'a> {
    /// They are kept in [`Scanned::findings`], up to [`ScanOptions::findings_max`].
    Kept,
    /// They are passed on in batches, and forgotten.
    PassedOn {
        batch: Vec<Detected>,
        sink: &'a mut BatchSink<'a>,
        /// The sink wants no more.
        ended: bool,
    },
}

/// One thread's state.
pub(crate) struct Worker<'a> {
    buffers: Buffers<'a>,
    prefilter: Option<&'a Prefilter>,
    kernel: Kernel,
    state: State<'a>,
}

/// The part of the state that deals with records.
struct State<'a> {
    options: &'a ScanOptions,
    progress: &'a Progress,
    detector: Detector<'a>,
    out: Scanned,
    findings: Findings<'a>,
    /// For texts that go through a window.
    window: Vec<u8>,
}

impl<'a> Worker<'a> {
    /// A worker that keeps its findings until [`Worker::finish`].
    pub(crate) fn new(shared: &'a Shared<'a>) -> Self {
        Self::with(shared, OwnBuffers::default(), Findings::Kept)
    }

    /// A worker that passes its findings on, in buffers that were used before.
    pub(crate) fn passing_on(
        shared: &'a Shared<'a>,
        own: OwnBuffers,
        sink: &'a mut BatchSink<'a>,
    ) -> Self {
        Self::with(shared, own, Findings::PassedOn { batch: Vec::new(), sink, ended: false })
    }

    fn with(shared: &'a Shared<'a>, mut own: OwnBuffers, findings: Findings<'a>) -> Self {
        let state = State {
            options: shared.options,
            progress: shared.progress,
            detector: Detector::new(shared.rules),
            out: Scanned::default(),
            findings,
            window: std::mem::take(&mut own.window),
        };
        Self {
            buffers: Buffers::new(own, &shared.large),
            prefilter: shared.prefilter.as_deref(),
            kernel: shared.kernel,
            state,
        }
    }

    /// Ends the work: the result, and the buffers for the next worker.
    pub(crate) fn finish(mut self) -> (Scanned, OwnBuffers) {
        self.state.pass_on_batch();
        self.buffers.own.window = self.state.window;
        (self.state.out, self.buffers.own)
    }

    /// Reads one thing that the walk found.
    pub(crate) fn take(&mut self, found: Found) {
        match found {
            Found::Bad { path, reason } => self.state.skip(&path, reason),
            Found::Stdin => {
                let mut input = io::stdin().lock();
                self.read(Path::new("-"), &mut input, None, 1);
            }
            Found::File { path, named } => self.take_file(&path, named),
        }
    }

    fn take_file(&mut self, path: &Path, named: bool) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kind = FileKind::of(&name);
        match &kind {
            FileKind::Log(name) if self.state.options.rules_out(name) => {
                return self.state.out.summary.filter_out(name);
            }
            // Decided before the file is opened: an unreadable digest is not an error.
            FileKind::NoRecords if !named => {
                self.state.out.summary.files_passed_over += 1;
                return;
            }
            _ => {}
        }
        match File::open(path) {
            Ok(mut file) => self.take_open(path, &kind, named, &mut file),
            Err(error) => self.state.skip(path, io_reason(&error)),
        }
    }

    /// Reads an object that was fetched, or is being fetched. `path` is what findings call it,
    /// `name` is its name without folders. Filters on names do not apply: the caller decided to
    /// fetch it.
    pub(crate) fn take_object(&mut self, path: &Path, name: &str, named: bool, body: impl Read) {
        self.take_open(path, &FileKind::of(name), named, body);
    }

    fn take_open(&mut self, path: &Path, kind: &FileKind<'_>, named: bool, mut file: impl Read) {
        match kind {
            // CloudTrail delivers these beside the log files. They are read only if the user named
            // them.
            FileKind::NoRecords if !named => self.state.out.summary.files_passed_over += 1,
            FileKind::Document if !named => {
                let mut head = [0; HEAD_BYTES];
                match read_some(&mut file, &mut head) {
                    Ok(read) if !looks_like_a_log(&head[..read]) => {
                        self.state.out.summary.documents += 1;
                    }
                    Ok(read) => self.read(path, &mut head[..read].chain(file), None, 1),
                    Err((_, error)) => self.state.skip(path, io_reason(&error)),
                }
            }
            FileKind::Log(name) => self.read(path, &mut file, Some(name), 0),
            _ => self.read(path, &mut file, None, 1),
        }
    }

    /// Adds what was counted elsewhere.
    #[cfg(feature = "aws")]
    pub(crate) fn add(&mut self, part: Scanned) {
        self.state.out.add(part);
    }

    /// The result since the last time that it was taken.
    #[cfg(feature = "aws")]
    pub(crate) fn take_result(&mut self) -> Scanned {
        std::mem::take(&mut self.state.out)
    }

    /// Reads a text, plain or compressed, as if it were a file whose name says nothing.
    pub(crate) fn take_bytes(&mut self, mut bytes: &[u8]) {
        self.read(Path::new(IN_MEMORY), &mut bytes, None, 1);
    }

    /// Reads a plain text as if it were a delivered log file, `step_bytes` at a time.
    pub(crate) fn take_in_steps(&mut self, text: &[u8], step_bytes: usize) {
        let limits = self.state.options.limits;
        let mut scanner = TextScanner::new(self.prefilter, self.kernel, limits, 0);
        self.state.out.summary.files += 1;
        if step_bytes >= text.len() {
            self.state.take_whole(Path::new(IN_MEMORY), text, None, &mut scanner);
            return;
        }
        let mut sink = FileSink::new(&mut self.state, Path::new(IN_MEMORY));
        let (mut from, mut to) = (0_usize, 0_usize);
        loop {
            to = to.saturating_add(step_bytes.max(1)).min(text.len());
            let last = to == text.len();
            from += scanner.feed(&text[from..to], last, &mut sink);
            if last {
                break;
            }
        }
        self.state.out.summary.bytes_scanned += text.len() as u64;
    }

    fn read(&mut self, path: &Path, file: &mut impl Read, log: Option<&LogName<'_>>, samples: u32) {
        let limits = self.state.options.limits;
        let mut scanner = TextScanner::new(self.prefilter, self.kernel, limits, samples);
        let most = self.state.options.file_bytes_max;
        let text = match self.buffers.load(file, most, false) {
            Ok(text) => text,
            Err(error) => return self.state.skip(path, io_reason(&error)),
        };
        self.state.out.summary.files += 1;
        if let Some(name) = log {
            self.state.out.summary.add_name(name);
        }
        let (format, head, rest) = match text {
            LoadedText::Whole { text, crc, head } => {
                if self.state.take_whole(path, text, crc, &mut scanner) {
                    self.buffers.release();
                    return self.state.file_done(self.buffers.own.input.len() as u64);
                }
                // The checksum is wrong. Reads the text before the damage, from the beginning.
                scanner = TextScanner::new(self.prefilter, self.kernel, limits, samples);
                (Format::Gzip, head, Rest::End)
            }
            LoadedText::Stream { format, head, rest } => (format, head, rest),
        };
        let count = Cell::new(0);
        let counted = Counted { inner: rest.after(head, file), count: &count };
        match stream(format, counted) {
            Ok(text) => self.state.read_stream(path, format, text, &count, &mut scanner),
            Err(error) => self.state.skip(path, stream_error(format, &error)),
        }
        self.state.file_done(count.get());
    }
}

/// Counts the bytes that are read.
struct Counted<'c, R> {
    inner: R,
    count: &'c Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// Compressed, or the beginning of a JSON object or list.
fn looks_like_a_log(head: &[u8]) -> bool {
    if Format::of(head) != Format::Plain {
        return true;
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    matches!(first, Some(b'{' | b'['))
}

impl State<'_> {
    fn skip(&mut self, path: &Path, reason: String) {
        self.out.summary.skip(path, None, reason);
    }

    /// Counts a file that was read, and its compressed bytes.
    fn file_done(&mut self, bytes: u64) {
        self.out.summary.bytes_read += bytes;
        self.progress.file_done(bytes);
    }

    /// Scans a text that is whole in memory. False if its checksum was still to be verified and is
    /// wrong: then nothing of it has been reported.
    fn take_whole(
        &mut self,
        path: &Path,
        text: &[u8],
        crc: Option<Crc>,
        scanner: &mut TextScanner<'_>,
    ) -> bool {
        let mut sink = FileSink::new(self, path);
        if let Some(crc) = crc {
            if !scanner.feed_unverified(text, crc, &mut sink) {
                return false;
            }
        } else {
            scanner.feed(text, true, &mut sink);
        }
        self.out.summary.bytes_scanned += text.len() as u64;
        true
    }

    /// Scans a text through a window. `compressed` is how many bytes of the file were read so far.
    fn read_stream(
        &mut self,
        path: &Path,
        format: Format,
        mut text: Box<dyn Read + '_>,
        compressed: &Cell<u64>,
        scanner: &mut TextScanner<'_>,
    ) {
        let mut window = std::mem::take(&mut self.window);
        window.resize(WINDOW_BYTES_MIN.max(2 * self.options.limits.record_bytes_max), 0);
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
                .or_else(|| self.grown_too_large(format, total, compressed.get()));
            let last = trouble.is_some() || filled < window.len();
            let mut sink = FileSink::new(self, path);
            sink.cut_short = trouble.is_some();
            let used = scanner.feed(&window[..filled], last, &mut sink);
            if let Some(trouble) = trouble {
                let records = scanner.units();
                let noun = if records == 1 { "record" } else { "records" };
                self.skip(path, format!("{trouble} after {records} {noun}"));
            }
            if last || self.has_ended() {
                break;
            }
            window.copy_within(used..filled, 0);
            filled -= used;
        }
        self.out.summary.bytes_scanned += total;
        self.window = window;
    }

    /// Why a compressed file must not be read further, if it has grown too large.
    fn grown_too_large(&self, format: Format, total: u64, compressed: u64) -> Option<String> {
        if format == Format::Plain {
            return None;
        }
        if total > EXPANSION_FREE_BYTES && total / compressed.max(1) > EXPANSION_MAX {
            return Some(format!("decompresses to more than {EXPANSION_MAX} times its size"));
        }
        let most = self.options.file_bytes_max;
        (total > most).then(|| format!("decompresses to more than {most} bytes"))
    }

    /// True when findings are passed on and the receiver wants no more.
    fn has_ended(&self) -> bool {
        matches!(self.findings, Findings::PassedOn { ended: true, .. })
    }

    /// Passes on the findings that wait for a full batch.
    fn pass_on_batch(&mut self) {
        if let Findings::PassedOn { batch, sink, ended } = &mut self.findings
            && !batch.is_empty()
            && !*ended
        {
            *ended = sink(std::mem::take(batch)).is_break();
        }
    }
}

/// Fills the buffer as far as the input goes. An error comes with the number of bytes before it.
fn read_some(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, (usize, io::Error)> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((filled, error)),
        }
    }
    Ok(filled)
}

/// Detects findings in the records of one file.
struct FileSink<'s, 'a> {
    state: &'s mut State<'a>,
    path: &'s Path,
    /// The file's path as findings name it, made with the first finding.
    name: Option<Arc<str>>,
    /// The text ends early for a reason that is reported on its own.
    cut_short: bool,
}

impl<'s, 'a> FileSink<'s, 'a> {
    fn new(state: &'s mut State<'a>, path: &'s Path) -> Self {
        Self { state, path, name: None, cut_short: false }
    }

    fn event(&mut self, place: Place, event: &Event<'_>) {
        let record = &event.record;
        add_record(&mut self.state.out.summary, event);
        let options = self.state.options;
        let is_in_time = record.event_time.is_none_or(|at| {
            options.since.is_none_or(|since| at >= since)
                && options.until.is_none_or(|until| at < until)
        });
        let is_in = |set: &std::collections::BTreeSet<String>, name: Option<&str>| {
            set.is_empty() || name.is_some_and(|name| set.contains(name))
        };
        let is_wanted = is_in_time
            && is_in(&options.accounts, account_of(event))
            && is_in(&options.regions, record.region.as_deref());
        if is_wanted && let Some(detected) = self.state.detector.detect(event) {
            self.finding(place, detected);
        }
    }

    fn finding(&mut self, place: Place, detected: Detected) {
        let state = &mut *self.state;
        let before = state.progress.findings.fetch_add(1, Ordering::Relaxed);
        match &mut state.findings {
            Findings::Kept => {
                // The record was read, but not every rule could say whether it matches: the scan is
                // not complete. A hub counts this when it receives the finding.
                if let Some(reason) = detected.finding.rules_undecided() {
                    let reason = reason.text.clone().into_owned();
                    state.out.summary.skip(self.path, Some(place), reason);
                }
                let most = state.options.findings_max;
                if before >= most {
                    let reason =
                        format!("more than {most} findings: narrow the scan by time or account");
                    return state.skip(self.path, reason);
                }
                let name = self.name.get_or_insert_with(|| self.path.to_string_lossy().into());
                state.out.findings.push(Located { detected, file: Arc::clone(name) });
            }
            Findings::PassedOn { batch, .. } => {
                batch.push(detected);
                if batch.len() >= BATCH_FINDINGS_MAX {
                    state.pass_on_batch();
                }
            }
        }
    }
}

/// The account to which a record was delivered, or, where the record does not say, of the caller.
fn account_of<'e>(event: &'e Event<'_>) -> Option<&'e str> {
    let record = &event.record;
    record.recipient_account_id.as_deref().or(record.identity.account_id.as_deref())
}

/// Counts a decoded record, and notes its time, account and region.
fn add_record(summary: &mut Summary, event: &Event<'_>) {
    let record = &event.record;
    summary.records += 1;
    if let Some(at) = record.event_time {
        summary.widen(at);
    }
    if let Some(account) = account_of(event) {
        insert(&mut summary.accounts, account);
    }
    if let Some(region) = record.region.as_deref() {
        insert(&mut summary.regions, region);
    }
}

impl Sink for FileSink<'_, '_> {
    fn item(&mut self, place: Place, item: Item<'_>) {
        if self.state.has_ended() {
            return;
        }
        match item {
            Item::Event(event) => self.event(place, &event),
            Item::PassedOver(kind) => {
                *self.state.out.summary.passed_over.entry(kind).or_default() += 1;
            }
            Item::Skipped(skipped) => {
                let is_the_end =
                    skipped.reason == reason::ENDS_INSIDE || skipped.reason == reason::LIST_OPEN;
                if !(self.cut_short && is_the_end) {
                    self.state.out.summary.skip(self.path, Some(place), skipped.reason);
                }
            }
        }
    }

    #[inline]
    fn discarded(&mut self) {
        self.state.out.summary.records += 1;
    }
}
