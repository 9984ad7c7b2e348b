//! One thread's work: take a file, get at its text, judge what deserves it.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use rootwatch_core::decode::{Event, Item, Place};
use rootwatch_core::detect::Detector;
use rootwatch_core::rules::Ruleset;
use rootwatch_core::split::reason;

use crate::inflate::{Format, Inflater, Sum, WholeError, stream, stream_error};
use crate::kernel::Kernel;
use crate::names::{FileKind, LogName};
use crate::prefilter::Prefilter;
use crate::text::{Sink, TextScanner};
use crate::walk::Found;
use crate::{
    EXPANSION_FREE_BYTES, EXPANSION_MAX, Located, Progress, ScanOptions, Scanned, io_reason,
};

/// Files up to this size are read in one go. A larger gzip file would seldom fit
/// [`WHOLE_TEXT_BYTES_MAX`].
pub(crate) const WHOLE_FILE_BYTES_MAX: u64 = 3 << 20;
/// A text up to this size is inflated in one go; a larger one goes through a window.
const WHOLE_TEXT_BYTES_MAX: usize = 24 << 20;
/// A text up to this size lies in its thread's own buffer; a larger one in [`LargeText`].
const OWN_TEXT_BYTES_MAX: usize = 8 << 20;
/// Window of a streamed text. Two records of the largest size must fit.
pub(crate) const WINDOW_BYTES_MIN: usize = 2 << 20;

/// What findings call a text that is no file.
const IN_MEMORY: &str = "(memory)";

/// The buffer for large texts, which the threads of a scan share: so a scan needs what its largest text
/// needs once, however its files fall to the threads. Who finds another at it takes the text through a
/// window; large ones are rare.
#[derive(Default)]
pub(crate) struct LargeText(Mutex<Vec<u8>>);

/// Buffers of one thread, used for one file after the other.
pub(crate) struct Buffers<'a> {
    inflater: Inflater,
    input: Vec<u8>,
    output: Vec<u8>,
    large: &'a LargeText,
    /// Held while a large text is in it.
    held: Option<MutexGuard<'a, Vec<u8>>>,
}

/// How a file's text is to be had.
enum Text<'b> {
    /// All of it. Its checksum may be still to be taken; were it wrong, the stream from `head`
    /// would say so.
    Whole { text: &'b [u8], sum: Option<Sum>, head: &'b [u8] },
    /// As a stream: what has been read of the file, and whether there is more in it.
    Stream { format: Format, head: &'b [u8], more: bool },
}

impl<'a> Buffers<'a> {
    pub(crate) fn new(large: &'a LargeText) -> Self {
        let (input, output) = (Vec::new(), Vec::new());
        Self { inflater: Inflater::new(), input, output, large, held: None }
    }

    /// Reads a file, or its beginning if it is large, and inflates it if that can be done whole.
    /// `summed` says that the checksum is to be taken here, and all of it done by libdeflate.
    fn load<'b>(&'b mut self, file: &mut impl Read, summed: bool) -> io::Result<Text<'b>> {
        self.held = None;
        self.input.clear();
        let read = file.take(WHOLE_FILE_BYTES_MAX).read_to_end(&mut self.input)?;
        let more = read as u64 == WHOLE_FILE_BYTES_MAX;
        let format = Format::of(&self.input);
        if more {
            return Ok(Text::Stream { format, head: &self.input, more });
        }
        match format {
            Format::Plain => Ok(Text::Whole { text: &self.input, sum: None, head: &[] }),
            Format::Zstd => Ok(Text::Stream { format, head: &self.input, more }),
            Format::Gzip => {
                // The size that the last member states, cheap to check before any work.
                let size = stated_size(&self.input);
                let is_large = size > OWN_TEXT_BYTES_MAX;
                if is_large && size <= WHOLE_TEXT_BYTES_MAX {
                    self.held = self.large.0.try_lock().ok();
                }
                let (output, room) = match &mut self.held {
                    Some(held) => (&mut **held, WHOLE_TEXT_BYTES_MAX),
                    None if is_large => {
                        return Ok(Text::Stream { format, head: &self.input, more });
                    }
                    None => (&mut self.output, OWN_TEXT_BYTES_MAX),
                };
                if output.is_empty() {
                    // Pages of it are only touched when a text reaches them.
                    *output = vec![0; room];
                }
                let inflated = if summed {
                    self.inflater.gzip(&self.input, output).map(|length| (length, None))
                } else {
                    self.inflater.gzip_unsummed(&self.input, output)
                };
                match inflated {
                    Ok((length, sum)) => {
                        Ok(Text::Whole { text: &output[..length], sum, head: &self.input })
                    }
                    // What can be had before the damage is still worth having.
                    Err(WholeError::TooLarge | WholeError::Damaged) => {
                        Ok(Text::Stream { format, head: &self.input, more })
                    }
                }
            }
        }
    }

    /// How many bytes a file decompresses to.
    pub(crate) fn decompressed_bytes(&mut self, path: &Path) -> io::Result<u64> {
        let mut file = File::open(path)?;
        match self.load(&mut file, true)? {
            Text::Whole { text, .. } => Ok(text.len() as u64),
            Text::Stream { format, head, more } => {
                let rest: Box<dyn Read> =
                    if more { Box::new(head.chain(file)) } else { Box::new(head) };
                let mut text = stream(format, rest)?;
                let mut window = vec![0; WINDOW_BYTES_MIN];
                let mut bytes = 0;
                loop {
                    match text.read(&mut window)? {
                        0 => return Ok(bytes),
                        read => bytes += read as u64,
                    }
                }
            }
        }
    }
}

/// The decompressed size, as the last four bytes of a gzip file state it.
fn stated_size(gzip: &[u8]) -> usize {
    gzip.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size) as usize)
}

/// One thread's state.
pub(crate) struct Worker<'a> {
    buffers: Buffers<'a>,
    prefilter: Option<&'a Prefilter>,
    kernel: Kernel,
    state: State<'a>,
}

/// The part of the state that judging needs.
struct State<'a> {
    options: &'a ScanOptions,
    progress: &'a Progress,
    detector: Detector<'a>,
    out: Scanned,
    window: Vec<u8>,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(
        rules: &'a Ruleset,
        options: &'a ScanOptions,
        prefilter: Option<&'a Prefilter>,
        kernel: Kernel,
        progress: &'a Progress,
        large: &'a LargeText,
    ) -> Self {
        let detector = Detector::new(rules);
        let state =
            State { options, progress, detector, out: Scanned::default(), window: Vec::new() };
        Self { buffers: Buffers::new(large), prefilter, kernel, state }
    }

    pub(crate) fn finish(self) -> Scanned {
        self.state.out
    }

    /// Takes in one thing that the walk came to.
    pub(crate) fn take(&mut self, found: Found) {
        match found {
            Found::Bad { path, reason } => self.state.out.summary.skip(&path, None, reason),
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
                self.state.out.summary.files_filtered += 1;
                return;
            }
            // What CloudTrail delivers beside the log files is looked into only when asked for.
            FileKind::NoRecords if !named => {
                self.state.out.summary.files_passed_over += 1;
                return;
            }
            _ => {}
        }
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) => return self.state.out.summary.skip(path, None, io_reason(&error)),
        };
        self.take_open(path, &kind, named, &mut file);
    }

    /// Takes in a file that is open, or an object that is fetched. `path` is what findings call it.
    fn take_open(&mut self, path: &Path, kind: &FileKind<'_>, named: bool, mut file: impl Read) {
        if *kind == FileKind::Document && !named {
            let mut head = [0; 16];
            let read = read_some(&mut file, &mut head).unwrap_or_else(|(read, _)| read);
            if !looks_like_a_log(&head[..read]) {
                self.state.out.summary.documents += 1;
                return;
            }
            return self.read(path, &mut head[..read].chain(file), None, 1);
        }
        let (log, samples) = match kind {
            FileKind::Log(name) => (Some(name), 0),
            _ => (None, 1),
        };
        self.read(path, &mut file, log, samples);
    }

    /// Takes in an object that was fetched, or is being fetched. `path` is what findings call it,
    /// `name` is its name without folders; what names rule out was not fetched.
    #[cfg(feature = "aws")]
    pub(crate) fn take_object(&mut self, path: &Path, name: &str, named: bool, body: impl Read) {
        self.take_open(path, &FileKind::of(name), named, body);
    }

    /// Adds what was counted elsewhere.
    #[cfg(feature = "aws")]
    pub(crate) fn add(&mut self, part: Scanned) {
        crate::merge(&mut self.state.out, part);
    }

    /// What was found since the last time, and what was looked at.
    #[cfg(feature = "aws")]
    pub(crate) fn hand_over(&mut self) -> Scanned {
        std::mem::take(&mut self.state.out)
    }

    /// Takes in a text, plain or compressed, as if it were a file of which the name promises
    /// nothing.
    pub(crate) fn take_bytes(&mut self, mut bytes: &[u8]) {
        self.read(Path::new(IN_MEMORY), &mut bytes, None, 1);
    }

    /// Takes in a plain text as if it were a delivered log file, `step_bytes` at a time.
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
        let text = match self.buffers.load(file, false) {
            Ok(text) => text,
            Err(error) => return self.state.out.summary.skip(path, None, io_reason(&error)),
        };
        self.state.out.summary.files += 1;
        if let Some(name) = log {
            self.state.note_name(name);
        }
        let (format, head, more) = match text {
            Text::Whole { text, sum, head } => {
                if self.state.take_whole(path, text, sum, &mut scanner) {
                    self.buffers.held = None;
                    return self.state.done(self.buffers.input.len() as u64);
                }
                // What can be had before the damage, once more from the beginning.
                scanner = TextScanner::new(self.prefilter, self.kernel, limits, samples);
                (Format::Gzip, head, false)
            }
            Text::Stream { format, head, more } => (format, head, more),
        };
        let count = Cell::new(0);
        let rest: Box<dyn Read + '_> =
            if more { Box::new(head.chain(file)) } else { Box::new(head) };
        match stream(format, Counted { inner: rest, count: &count }) {
            Ok(text) => self.state.read_stream(path, format, text, &count, &mut scanner),
            Err(error) => {
                let reason = stream_error(format, &error);
                self.state.out.summary.skip(path, None, reason);
            }
        }
        self.state.done(count.get());
    }
}

/// Counts what is read.
pub(crate) struct Counted<'c, R> {
    pub(crate) inner: R,
    pub(crate) count: &'c Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// Compressed, or the beginning of a JSON object or list.
pub(crate) fn looks_like_a_log(head: &[u8]) -> bool {
    if Format::of(head) != Format::Plain {
        return true;
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    matches!(first, Some(b'{' | b'['))
}

impl State<'_> {
    fn note_name(&mut self, name: &LogName<'_>) {
        let summary = &mut self.out.summary;
        summary.widen(name.delivered_at);
        if !summary.accounts.contains(name.account) {
            summary.accounts.insert(name.account.to_owned());
        }
        if !summary.regions.contains(name.region) {
            summary.regions.insert(name.region.to_owned());
        }
    }

    /// A file is done, of which so many bytes were read.
    fn done(&mut self, bytes: u64) {
        self.out.summary.bytes_read += bytes;
        self.progress.done(bytes);
    }

    /// Takes in a text that is whole in memory; false, and nothing taken in, when its checksum was
    /// still to be taken and is wrong.
    fn take_whole(
        &mut self,
        path: &Path,
        text: &[u8],
        sum: Option<Sum>,
        scanner: &mut TextScanner<'_>,
    ) -> bool {
        let mut sink = FileSink::new(self, path);
        if let Some(sum) = sum {
            if !scanner.feed_unsummed(text, sum, &mut sink) {
                return false;
            }
        } else {
            scanner.feed(text, true, &mut sink);
        }
        self.out.summary.bytes_scanned += text.len() as u64;
        true
    }

    /// Takes a text in through a window. `compressed` is how many bytes of the file were read so
    /// far.
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
            let read = read_some(&mut text, &mut window[filled..]);
            let (new, error) = match read {
                Ok(new) => (new, None),
                Err((new, error)) => (new, Some(error)),
            };
            filled += new;
            total += new as u64;
            let too_large = (total > self.options.file_bytes_max).then(|| {
                format!("decompresses to more than {} bytes", self.options.file_bytes_max)
            });
            let bomb = (format != Format::Plain
                && total > EXPANSION_FREE_BYTES
                && total / compressed.get().max(1) > EXPANSION_MAX)
                .then(|| format!("decompresses to more than {EXPANSION_MAX} times its size"));
            let trouble = error
                .map(|error| stream_error(format, &error))
                .or(bomb)
                .or(too_large.filter(|_| format != Format::Plain));
            let last = trouble.is_some() || filled < window.len();
            let mut sink = FileSink::new(self, path);
            sink.cut_short = trouble.is_some();
            let used = scanner.feed(&window[..filled], last, &mut sink);
            if let Some(trouble) = trouble {
                let records = scanner.units();
                let noun = if records == 1 { "record" } else { "records" };
                let reason = format!("{trouble} after {records} {noun}");
                self.out.summary.skip(path, None, reason);
                break;
            }
            if last {
                break;
            }
            window.copy_within(used..filled, 0);
            filled -= used;
        }
        self.out.summary.bytes_scanned += total;
        self.window = window;
    }
}

/// Fills the buffer as far as the input goes; an error says how much had come before it.
pub(crate) fn read_some(
    input: &mut impl Read,
    buffer: &mut [u8],
) -> Result<usize, (usize, io::Error)> {
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

/// Judges what comes out of one file.
struct FileSink<'s, 'a> {
    state: &'s mut State<'a>,
    path: &'s Path,
    /// The file's path as findings name it, made when there is one.
    name: Option<Arc<str>>,
    /// The text is cut off by trouble that is reported on its own.
    cut_short: bool,
}

impl<'s, 'a> FileSink<'s, 'a> {
    fn new(state: &'s mut State<'a>, path: &'s Path) -> Self {
        Self { state, path, name: None, cut_short: false }
    }

    fn event(&mut self, place: Place, event: &Event<'_>) {
        let record = &event.record;
        let summary = &mut self.state.out.summary;
        summary.records += 1;
        if let Some(at) = record.event_time {
            summary.widen(at);
        }
        let recipient =
            record.recipient_account_id.as_deref().or(record.identity.account_id.as_deref());
        if let Some(account) = recipient
            && !summary.accounts.contains(account)
        {
            summary.accounts.insert(account.to_owned());
        }
        if let Some(region) = record.region.as_deref()
            && !summary.regions.contains(region)
        {
            summary.regions.insert(region.to_owned());
        }
        if !self.is_wanted(event) {
            return;
        }
        let Some(detected) = self.state.detector.detect(event) else { return };
        // The record was read, but not every rule could say whether it matches: the scan is not
        // complete.
        if let Some(reason) = detected.finding.rules_undecided() {
            let reason = reason.text.clone().into_owned();
            self.state.out.summary.skip(self.path, Some(place), reason);
        }
        let before = self.state.progress.findings.fetch_add(1, Ordering::Relaxed);
        let most = self.state.options.findings_max;
        if before >= most {
            let reason = format!("more than {most} findings: narrow the scan by time or account");
            return self.state.out.summary.skip(self.path, None, reason);
        }
        let name = self.name.get_or_insert_with(|| self.path.to_string_lossy().into());
        self.state.out.findings.push(Located { detected, file: Arc::clone(name) });
    }

    fn is_wanted(&self, event: &Event<'_>) -> bool {
        let options = self.state.options;
        let record = &event.record;
        if let Some(at) = record.event_time
            && (options.since.is_some_and(|since| at < since)
                || options.until.is_some_and(|until| at >= until))
        {
            return false;
        }
        let is_in = |set: &std::collections::BTreeSet<String>, text: Option<&str>| {
            set.is_empty() || text.is_some_and(|text| set.contains(text))
        };
        is_in(
            &options.accounts,
            record.recipient_account_id.as_deref().or(record.identity.account_id.as_deref()),
        ) && is_in(&options.regions, record.region.as_deref())
    }
}

impl Sink for FileSink<'_, '_> {
    fn item(&mut self, place: Place, item: Item<'_>) {
        match item {
            Item::Event(event) => self.event(place, &event),
            Item::PassedOver(kind) => {
                *self.state.out.summary.passed_over.entry(kind).or_default() += 1;
            }
            Item::Skipped(skipped) => {
                let is_the_end =
                    skipped.reason == reason::ENDS_INSIDE || skipped.reason == reason::LIST_OPEN;
                if !(self.cut_short && is_the_end) {
                    let reason = skipped.reason;
                    self.state.out.summary.skip(self.path, Some(place), reason);
                }
            }
        }
    }

    #[inline]
    fn discarded(&mut self) {
        self.state.out.summary.records += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_large_text_is_whole_for_one_thread_and_goes_through_a_window_for_the_others() {
        let text = vec![b' '; OWN_TEXT_BYTES_MAX + 1];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).expect("memory");
        let file = gzip.finish().expect("memory");
        let large = LargeText::default();
        let (mut one, mut other) = (Buffers::new(&large), Buffers::new(&large));
        let is_whole = |buffers: &mut Buffers<'_>, mut file: &[u8]| {
            let loaded = buffers.load(&mut file, false).expect("memory");
            matches!(loaded, Text::Whole { text, .. } if text.len() > OWN_TEXT_BYTES_MAX)
        };
        assert!(is_whole(&mut one, &file));
        assert!(!is_whole(&mut other, &file));
        // Free again once the first goes on.
        assert!(!is_whole(&mut one, b"small"));
        assert!(is_whole(&mut other, &file));
    }
}
