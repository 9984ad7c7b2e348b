//! A text, whole or in windows, becomes items: records to judge, things passed over, damage.

use std::ops::Range;

use rootwatch_core::decode::{Item, Limits, Place, Skipped, decode_unit};
use rootwatch_core::split::{Piece, Splitter};

use crate::inflate::Sum;
use crate::kernel::{Folded, Kernel, Then, Visitor};
use crate::prefilter::{Prefilter, Seen, may_quote_records};

/// What comes out of a text.
pub(crate) trait Sink {
    /// A unit that was decoded.
    fn item(&mut self, place: Place, item: Item<'_>);
    /// A record that the prefilter discarded.
    fn discarded(&mut self);
}

/// Units that wait for the checksum of their text at most; one more, and it is taken at once.
const WAITING_UNITS_MAX: usize = 4096;

/// What is handed on once the checksum of the text has been found right.
struct Waiting {
    sum: Sum,
    /// Units to decode: their place, and where they stand in the text.
    units: Vec<(Place, Range<usize>)>,
    discarded: u64,
}

/// Takes a text in, window by window.
pub(crate) struct TextScanner<'p> {
    /// `None` decodes every unit.
    prefilter: Option<&'p Prefilter>,
    kernel: Kernel,
    limits: Limits,
    splitter: Splitter,
    units: u64,
    /// Offset of the window in the text.
    base: u64,
    /// How many units are still decoded whatever the prefilter says, to learn what the text is.
    samples: u32,
    waiting: Option<Waiting>,
    /// The checksum was found wrong: nothing of this text may be handed on.
    refused: bool,
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
            waiting: None,
            refused: false,
        }
    }

    /// Takes in a text that is whole in memory and of which the checksum is still to be taken, in
    /// step with the kernel. False when it is wrong: nothing has been handed on then.
    pub(crate) fn feed_unsummed(&mut self, text: &[u8], sum: Sum, sink: &mut impl Sink) -> bool {
        self.waiting = Some(Waiting { sum, units: Vec::new(), discarded: 0 });
        if self.samples == 0 || self.settle(text, sink) {
            self.feed(text, true, sink);
        }
        self.settle(text, sink)
    }

    /// Takes the rest of the checksum and, if it is right, hands on what waits for it. True when
    /// more may be handed on.
    fn settle(&mut self, text: &[u8], sink: &mut impl Sink) -> bool {
        let Some(waiting) = self.waiting.take() else { return !self.refused };
        if !waiting.sum.holds(text) {
            self.refused = true;
            return false;
        }
        for (place, unit) in waiting.units {
            self.decode(&text[unit], place, sink);
        }
        for _ in 0..waiting.discarded {
            sink.discarded();
        }
        true
    }

    /// Decodes a unit, when the checksum of the text is known to be right or not asked for.
    fn hand(&mut self, text: &[u8], unit: Range<usize>, place: Place, sink: &mut impl Sink) {
        if let Some(waiting) = &mut self.waiting
            && waiting.units.len() < WAITING_UNITS_MAX
        {
            return waiting.units.push((place, unit));
        }
        if self.settle(text, sink) {
            self.decode(&text[unit], place, sink);
        }
    }

    /// Takes in a window that begins where the last one was consumed to, and says how much of it
    /// is consumed; the rest must come again with more after it. `last` says that nothing comes
    /// after.
    pub(crate) fn feed(&mut self, window: &[u8], last: bool, sink: &mut impl Sink) -> usize {
        let mut at = 0;
        loop {
            at += self.run_kernel(window, at, sink);
            if self.refused {
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
                    self.hand(window, at + start..at + end, place, sink);
                    at += end;
                }
                Piece::Bad { start, end, reason } => {
                    self.units += 1;
                    let place = self.place(at + start);
                    let reason = reason.to_owned();
                    if self.settle(window, sink) {
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
            // A text that begins with something other than records is looked at unit by unit, so
            // that what it holds is counted as what it is.
            self.samples = if is_record { self.samples - 1 } else { u32::MAX };
        }
    }

    /// Runs the kernel over the units that follow one another plainly from `from` on; says how
    /// many bytes they take. What is not plain is the splitter's.
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
        // What is too large to be decoded may have swallowed others: the splitter looks into it.
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
            self.scanner.hand(self.window, unit, place, self.sink);
            if self.scanner.refused {
                return Then::Stop;
            }
        } else if let Some(waiting) = &mut self.scanner.waiting {
            waiting.discarded += 1;
        } else {
            self.sink.discarded();
        }
        self.consumed = Some(end);
        match next_unit(text, end, self.in_list) {
            Some(next) => {
                self.start = next;
                Then::GoOn
            }
            None => Then::Stop,
        }
    }

    #[inline]
    fn before(&mut self, to: usize) {
        if let Some(waiting) = &mut self.scanner.waiting {
            waiting.sum.take(self.window, self.at + to);
        }
    }

    fn sum_before(&mut self, at: usize) -> Option<u32> {
        self.scanner.waiting.as_mut()?.sum.before(self.window, self.at + at)
    }

    fn summed(&mut self, to: usize, folded: &Folded) {
        if let Some(waiting) = &mut self.scanner.waiting {
            waiting.sum.go_on(self.at + to, folded);
        }
    }

    fn may_reach(&self, at: usize) -> bool {
        at.saturating_sub(self.start) <= self.scanner.limits.record_bytes_max
    }
}
