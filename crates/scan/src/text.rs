//! Splits a text, whole or in windows, into items: records to check, objects without a record,
//! damage.
//!
//! [`Units`] does two things in one pass of the kernel, because each byte should be fetched from memory
//! only once: it decides which units to decode, and it computes the checksum of the text. Until the
//! checksum is verified, decoded units wait in [`Unverified`]: nothing of a damaged file is reported as
//! if it were sound.

use std::ops::Range;

use rootwatch_core::decode::{Item, Limits, Place, Skipped, decode_unit};
use rootwatch_core::split::{Piece, Splitter};

use crate::inflate::Crc;
use crate::kernel::{FoldedBytes, Kernel, Then, Visitor};
use crate::prefilter::{Prefilter, Seen, may_quote_records};

/// Receives the items of a text.
pub(crate) trait Sink {
    /// A unit that was decoded.
    fn item(&mut self, place: Place, item: Item<'_>);
    /// A record that the prefilter discarded.
    fn discarded(&mut self);
}

/// Units that wait for the checksum of their text. One more, and the checksum is computed at once.
const WAITING_UNITS_MAX: usize = 4096;

/// What is reported once the checksum of the text is verified.
struct Unverified {
    crc: Crc,
    /// Units to decode: their place, and their range in the text.
    units: Vec<(Place, Range<usize>)>,
    discarded: u64,
}

/// Scans a text, window by window.
pub(crate) struct TextScanner<'p> {
    /// `None` decodes every unit.
    prefilter: Option<&'p Prefilter>,
    kernel: Kernel,
    limits: Limits,
    splitter: Splitter,
    units: u64,
    /// Offset of the window in the text.
    base: u64,
    /// How many more units are decoded whatever the prefilter says, to learn what the text is.
    samples: u32,
    unverified: Option<Unverified>,
    /// The checksum is wrong: nothing of this text may be reported.
    is_refused: bool,
}

impl<'p> TextScanner<'p> {
    /// A scanner at the beginning of a text. `samples` units are decoded whatever the prefilter
    /// says.
    pub(crate) fn new(
        prefilter: Option<&'p Prefilter>,
        kernel: Kernel,
        limits: Limits,
        samples: u32,
    ) -> Self {
        let splitter = Splitter::new(limits.record_bytes_max);
        Self {
            prefilter,
            kernel,
            limits,
            splitter,
            units: 0,
            base: 0,
            samples,
            unverified: None,
            is_refused: false,
        }
    }

    /// Scans a text that is whole in memory, and verifies its checksum in step with the kernel. False
    /// if it is wrong: then nothing has been reported.
    pub(crate) fn feed_unverified(&mut self, text: &[u8], crc: Crc, sink: &mut impl Sink) -> bool {
        self.unverified = Some(Unverified { crc, units: Vec::new(), discarded: 0 });
        if self.samples == 0 || self.verify(text, sink) {
            self.feed(text, true, sink);
        }
        self.verify(text, sink)
    }

    /// Computes the rest of the checksum and, if it is right, reports what waits for it. True if more
    /// may be reported.
    fn verify(&mut self, text: &[u8], sink: &mut impl Sink) -> bool {
        let Some(unverified) = self.unverified.take() else { return !self.is_refused };
        if !unverified.crc.matches(text) {
            self.is_refused = true;
            return false;
        }
        for (place, unit) in unverified.units {
            self.decode(&text[unit], place, sink);
        }
        for _ in 0..unverified.discarded {
            sink.discarded();
        }
        true
    }

    /// Decodes a unit once the checksum of the text is verified; at once if there is none.
    fn decode_verified(
        &mut self,
        text: &[u8],
        unit: Range<usize>,
        place: Place,
        sink: &mut impl Sink,
    ) {
        if let Some(unverified) = &mut self.unverified
            && unverified.units.len() < WAITING_UNITS_MAX
        {
            return unverified.units.push((place, unit));
        }
        if self.verify(text, sink) {
            self.decode(&text[unit], place, sink);
        }
    }

    /// Scans a window that begins where the last one was consumed to, and returns how much of it is
    /// consumed. The next window must begin with the rest. `last` says that the text ends with this
    /// window.
    pub(crate) fn feed(&mut self, window: &[u8], last: bool, sink: &mut impl Sink) -> usize {
        let mut at = 0;
        loop {
            at += self.run_kernel(window, at, sink);
            if self.is_refused {
                break;
            }
            let Some(piece) = self.splitter.next(&window[at..], last) else {
                at = window.len();
                break;
            };
            match piece {
                Piece::Unit { start, end } => {
                    self.units += 1;
                    let place = self.place(at + start);
                    self.decode_verified(window, at + start..at + end, place, sink);
                    at += end;
                }
                Piece::Bad { start, end, reason } => {
                    self.units += 1;
                    let place = self.place(at + start);
                    let reason = reason.to_owned();
                    if self.verify(window, sink) {
                        sink.item(place, Item::Skipped(Skipped { place, reason }));
                    }
                    at += end;
                }
                Piece::More { from } => {
                    at += from;
                    break;
                }
            }
        }
        self.base += at as u64;
        at
    }

    /// How many units there were so far, damaged ones included.
    pub(crate) fn units(&self) -> u64 {
        self.units
    }

    fn place(&self, at: usize) -> Place {
        Place { record: self.units, offset: self.base + at as u64 }
    }

    fn decode(&mut self, unit: &[u8], place: Place, sink: &mut impl Sink) {
        let mut is_record = true;
        decode_unit(unit, place, &self.limits, &mut |place, item| {
            is_record &= !matches!(item, Item::PassedOver(_));
            sink.item(place, item);
        });
        if self.samples > 0 {
            // A text that begins with something other than records is decoded unit by unit, so that
            // each object is counted by its kind.
            self.samples = if is_record { self.samples - 1 } else { u32::MAX };
        }
    }

    /// Runs the kernel over the units that plainly follow one another from `from` on, and returns how
    /// many bytes they take. Everything else is left to the splitter.
    fn run_kernel(&mut self, window: &[u8], from: usize, sink: &mut impl Sink) -> usize {
        let Some(prefilter) = self.prefilter else { return 0 };
        if self.samples > 0 || !self.splitter.is_between_units() {
            return 0;
        }
        let in_list = self.splitter.is_in_list();
        let Some(start) = next_unit(&window[from..], 0, in_list) else { return 0 };
        let at = from + start;
        let mut units = Units {
            scanner: self,
            prefilter,
            sink,
            in_list,
            window,
            at,
            start: 0,
            consumed: None,
            seen: Seen::default(),
        };
        let kernel = units.scanner.kernel;
        kernel.run(&window[at..], &mut units);
        units.consumed.map_or(0, |consumed| start + consumed)
    }
}

/// Where the next unit plainly begins: after white space and, in a list, commas. At the top of a
/// text an object whose first member may be a list of records is not plain.
fn next_unit(text: &[u8], at: usize, in_list: bool) -> Option<usize> {
    let mut at = at;
    if in_list && text.get(at..at + 2) == Some(b",{") {
        return Some(at + 1);
    }
    loop {
        match text.get(at)? {
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            b',' if in_list => at += 1,
            b'{' => break,
            _ => return None,
        }
    }
    if in_list {
        return Some(at);
    }
    let mut member = text[at + 1..].iter().skip_while(|byte| b" \t\r\n".contains(byte));
    let is_plain =
        member.next() == Some(&b'"') && !matches!(member.next(), Some(b'R' | b'E' | b'\\') | None);
    is_plain.then_some(at)
}

/// Decides about each unit that the kernel finds.
struct Units<'s, 'p, S> {
    scanner: &'s mut TextScanner<'p>,
    prefilter: &'p Prefilter,
    sink: &'s mut S,
    in_list: bool,
    window: &'s [u8],
    /// Offset of the kernel's text in the window.
    at: usize,
    /// Offset of the open unit in the kernel's text.
    start: usize,
    /// End of the last unit.
    consumed: Option<usize>,
    seen: Seen,
}

impl<S: Sink> Visitor for Units<'_, '_, S> {
    #[inline]
    fn pair(&mut self, text: &[u8], at: usize) {
        self.prefilter.look(text, self.start, at, &mut self.seen);
    }

    #[inline]
    fn unit_end(&mut self, text: &[u8], end: usize, ascii: bool) -> Then {
        let unit = &text[self.start..end];
        // A unit that is too large to be decoded may have swallowed others: the splitter searches it.
        if unit.len() > self.scanner.limits.record_bytes_max {
            return Then::Stop;
        }
        let seen = std::mem::take(&mut self.seen);
        self.scanner.units += 1;
        let keep = seen.keep
            || !seen.named
            || (seen.quoted && may_quote_records(unit))
            || (!ascii && simdutf8::basic::from_utf8(unit).is_err());
        if keep {
            let place = self.scanner.place(self.at + self.start);
            let unit = self.at + self.start..self.at + end;
            self.scanner.decode_verified(self.window, unit, place, self.sink);
            if self.scanner.is_refused {
                return Then::Stop;
            }
        } else if let Some(unverified) = &mut self.scanner.unverified {
            unverified.discarded += 1;
        } else {
            self.sink.discarded();
        }
        self.consumed = Some(end);
        match next_unit(text, end, self.in_list) {
            Some(next) => {
                self.start = next;
                Then::Continue
            }
            None => Then::Stop,
        }
    }

    #[inline]
    fn before_pass(&mut self, to: usize) {
        if let Some(unverified) = &mut self.scanner.unverified {
            unverified.crc.update(self.window, self.at + to);
        }
    }

    fn crc_before(&mut self, at: usize) -> Option<u32> {
        self.scanner.unverified.as_mut()?.crc.value_at(self.window, self.at + at)
    }

    fn crc_folded(&mut self, to: usize, folded: &FoldedBytes) {
        if let Some(unverified) = &mut self.scanner.unverified {
            unverified.crc.add_folded(self.at + to, folded);
        }
    }

    fn may_reach(&self, at: usize) -> bool {
        at.saturating_sub(self.start) <= self.scanner.limits.record_bytes_max
    }
}
