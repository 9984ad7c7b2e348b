//! One pass over a text that finds where each record ends and which places the prefilter has to check.
//!
//! Sixty-four bytes at a time: quotes, backslashes and braces become bit masks, a carry-less
//! multiplication turns the quotes into the mask of the bytes inside strings, and braces outside
//! strings are counted. The same pass marks three pairs of letters and one escape. Every text that
//! the prefilter looks for contains one of them (see [`crate::prefilter`]):
//!
//! * `oo` in any case, in `Root`, `:root`, `AssumeRoot` and `assumedRoot`,
//! * `tN`, in `eventName`,
//! * `sC`, in `AwsConsoleAction`,
//! * `\u`, because an escape may hide any of them.
//!
//! A pass over some kilobytes has no branch that depends on the data, except for backslashes, which
//! are rare: it only writes down which blocks need a visit. Branching at once on what a block
//! contains, and starting again at each record, together cost a fifth more.
//!
//! There are four implementations of the pass, chosen once by the features of the processor: one for
//! the AVX-512 of Ice Lake and Zen 4 ([`planes`]), which computes the text's checksum in the same
//! step, one for earlier AVX-512, one for AVX2 ([`x86`]), and portable code. A test ensures that they
//! report the same.
//!
//! SAFETY notes here and in the modules below name these margins:
//!
//! * **\[CPU\]**: the processor has the features that the implementation uses. `Kernel::run` ensures
//!   it: a value of [`Kernel`] other than `Portable` comes from [`Kernel::available`] alone, which
//!   asks the processor. Every function below passes the duty on to its caller.
//! * **\[BLOCK\]**: all [`BLOCK`] bytes at the address are within `bytes`, and so is the byte before.
//!   [`Pass::note_all`] gets one byte and then whole groups of [`GROUP`] bytes, and begins with the
//!   second byte.
//! * **\[COMPILED\]**: the function is private and inlined into `note_all` of its type alone, which is
//!   compiled with the features and has \[CPU\].
//! * **\[BITS\]**: both types have the same size, and any bits are a value of either.
//! * **\[REGISTER\]**: the slice has exactly as many bytes as the register that is loaded or stored.

// Calls of code for one kind of processor; each says why it is sound.
#![allow(unsafe_code)]

mod lanes;
mod pass;

#[cfg(target_arch = "x86_64")]
mod planes;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use self::pass::FoldedBytes;
use self::pass::{BLOCK, Carry, CrcFold, GROUP, GROUP_BLOCKS, Group, Notes, Pass, STRIPE_GROUPS};
use self::portable::Portable;

/// How to continue after the end of a unit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The next unit follows.
    Continue,
    /// Something else follows: stop here.
    Stop,
}

/// Receives what the pass finds, in the order of the text.
pub(crate) trait Visitor {
    /// A pair or escape begins at `at`. Some kernels report `tC` and `sN` too.
    fn pair(&mut self, text: &[u8], at: usize);
    /// A unit ends before `end`; `ascii` is false when a byte of it, or one close to it, is not
    /// ASCII.
    fn unit_end(&mut self, text: &[u8], end: usize, ascii: bool) -> Then;
    /// Asked now and then between ends: may a unit reach to `at`? If not, the pass ends.
    fn may_reach(&self, at: usize) -> bool;
    /// Called before the pass reads the bytes from the last call's `to` to this one, unless the pass
    /// computes the checksum itself.
    fn before_pass(&mut self, to: usize);
    /// The checksum of all bytes before `at`, if the pass has to continue it.
    fn crc_before(&mut self, at: usize) -> Option<u32>;
    /// The pass continued the checksum as far as `to`.
    fn crc_folded(&mut self, to: usize, folded: &FoldedBytes);
}

/// Which implementation this processor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Planes,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Kernel {
    /// The fastest that the processor supports.
    pub(crate) fn detect() -> Self {
        Self::available()[0]
    }

    /// All that the processor supports, the fastest first.
    pub(crate) fn available() -> Vec<Self> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if planes::is_available() {
                kernels.push(Self::Planes);
            }
            let has_multiply = is_x86_feature_detected!("pclmulqdq")
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("bmi1");
            if has_multiply
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
            {
                kernels.push(Self::Avx512);
            }
            if has_multiply && is_x86_feature_detected!("avx2") {
                kernels.push(Self::Avx2);
            }
        }
        kernels.push(Self::Portable);
        kernels
    }

    /// Reads `text`, which begins with the `{` of a unit, until it ends or the visitor stops it.
    pub(crate) fn run(self, text: &[u8], visitor: &mut impl Visitor) {
        match self {
            // SAFETY: [CPU].
            #[cfg(target_arch = "x86_64")]
            Self::Planes => unsafe { run::<planes::Planes, _>(text, visitor) },
            // SAFETY: [CPU].
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { run::<x86::Avx512, _>(text, visitor) },
            // SAFETY: [CPU].
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { run::<x86::Avx2, _>(text, visitor) },
            // SAFETY: [CPU]: it uses no special feature.
            Self::Portable => unsafe { run::<Portable, _>(text, visitor) },
        }
    }
}

/// Reads a text.
///
/// # Safety
/// \[CPU\].
unsafe fn run<P: Pass, V: Visitor>(text: &[u8], visitor: &mut V) {
    let mut notes = Notes { groups: [Group::default(); STRIPE_GROUPS], worth: [0; STRIPE_GROUPS] };
    let mut carry = Carry::default();
    // Whether the unit that is still open may have bytes that are not ASCII.
    let mut open_is_high = false;
    // The bytes before the first aligned block, and the rest after the last group, are copied into
    // groups padded with spaces: aligned blocks are loaded much faster.
    let head = match text.as_ptr().align_offset(BLOCK) {
        0 => BLOCK,
        bytes => bytes,
    };
    let head = head.min(text.len());
    let mut padded = [b' '; 1 + GROUP];
    let mut fold = None;
    let mut folded_to = 0;
    let mut at = 0;
    while at < text.len() {
        // `begin` is where the first group would begin in the text.
        let (begin, end, is_padded, bytes) = if at == 0 {
            padded[1 + GROUP - head..].copy_from_slice(&text[..head]);
            (head.wrapping_sub(GROUP), head, true, &padded[..])
        } else if text.len() - at < GROUP {
            let rest = &text[at - 1..];
            padded.fill(b' ');
            padded[..rest.len()].copy_from_slice(rest);
            (at, text.len(), true, &padded[..])
        } else {
            let groups = ((text.len() - at) / GROUP).min(STRIPE_GROUPS);
            let end = at + groups * GROUP;
            (at, end, false, &text[at - 1..end])
        };
        if !P::FOLDS {
            visitor.before_pass(end);
        } else if at == head && !is_padded {
            fold = visitor.crc_before(at).map(|begin| CrcFold { begin, folded: [0; 4 * BLOCK] });
        }
        let crc = if is_padded { None } else { fold.as_mut() };
        // SAFETY: [CPU].
        let high = unsafe { P::note_all(bytes, &mut carry, &mut notes, crc) };
        if !is_padded {
            folded_to = end;
        }
        let ascii = !(high | open_is_high);
        let groups = bytes.len() / GROUP;
        let (then, ended) = visit(&notes, groups, begin, text, ascii, visitor);
        if then == Then::Stop || !visitor.may_reach(end) {
            break;
        }
        open_is_high = high | (open_is_high & !ended);
        at = end;
    }
    if let Some(fold) = fold {
        visitor.crc_folded(folded_to, &fold.folded);
    }
}

/// Reports the masks of a stripe to the visitor, in the order of the text, and returns whether a unit
/// ended. The stripe begins at `begin` in the text, or would if it were not padded.
#[inline(always)]
fn visit<V: Visitor>(
    notes: &Notes,
    groups: usize,
    begin: usize,
    text: &[u8],
    ascii: bool,
    visitor: &mut V,
) -> (Then, bool) {
    let mut ended = false;
    let eights = notes.groups[..groups].chunks(8).zip(notes.worth[..groups].chunks(8));
    for (eight, (groups, worth)) in eights.enumerate() {
        let mut bytes = [0; 8];
        bytes[..worth.len()].copy_from_slice(worth);
        let mut worth = u64::from_le_bytes(bytes);
        while worth != 0 {
            let index = worth.trailing_zeros() as usize;
            worth &= worth - 1;
            let Some(group) = groups.get(index / GROUP_BLOCKS) else { break };
            let block = index % GROUP_BLOCKS;
            let at = begin.wrapping_add((eight * 8 * GROUP_BLOCKS + index) * BLOCK);
            let mut pairs = group.pairs[block];
            let mut depth = i32::from(group.depths[block]);
            let mut closes = group.closes[block];
            if depth > closes.count_ones() as i32 {
                closes = 0;
            }
            let mut opens = group.opens[block];
            while closes != 0 {
                let bit = closes.trailing_zeros();
                let below = (1_u64 << bit) - 1;
                depth += (opens & below).count_ones() as i32 - 1;
                opens &= !below;
                if depth == 0 {
                    report_pairs(pairs & below, at, text, visitor);
                    pairs &= !below;
                    ended = true;
                    let end = at.wrapping_add(bit as usize + 1);
                    if visitor.unit_end(text, end, ascii) == Then::Stop {
                        return (Then::Stop, ended);
                    }
                }
                closes &= closes - 1;
            }
            report_pairs(pairs, at, text, visitor);
        }
    }
    (Then::Continue, ended)
}

#[inline(always)]
fn report_pairs<V: Visitor>(mut pairs: u64, at: usize, text: &[u8], visitor: &mut V) {
    while pairs != 0 {
        // A pair is marked at its second byte.
        visitor.pair(text, at.wrapping_add(pairs.trailing_zeros() as usize).wrapping_sub(1));
        pairs &= pairs - 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rootwatch_core::split::close_of;

    use super::*;
    use crate::inflate::Crc;

    /// Records all calls.
    #[derive(Default, Debug, PartialEq, Eq)]
    struct Log {
        pairs: Vec<usize>,
        ends: Vec<usize>,
    }

    impl Visitor for Log {
        fn pair(&mut self, text: &[u8], at: usize) {
            // Some kernels report these, too.
            if !matches!(&text[at..at + 2], b"tC" | b"sN") {
                self.pairs.push(at);
            }
        }
        fn unit_end(&mut self, text: &[u8], end: usize, _: bool) -> Then {
            self.ends.push(end);
            if text.get(end) == Some(&b'{') { Then::Continue } else { Then::Stop }
        }
        fn before_pass(&mut self, _: usize) {}
        fn crc_before(&mut self, _: usize) -> Option<u32> {
            None
        }
        fn crc_folded(&mut self, _: usize, _: &FoldedBytes) {}
        fn may_reach(&self, _: usize) -> bool {
            true
        }
    }

    fn log(kernel: Kernel, text: &[u8]) -> Log {
        let mut log = Log::default();
        kernel.run(text, &mut log);
        log
    }

    /// The same, byte by byte.
    fn plain(text: &[u8]) -> Log {
        let mut log = Log::default();
        let mut at = 0;
        let mut stop = text.len();
        while text.get(at) == Some(&b'{') {
            let Some(length) = close_of(&text[at..]) else { break };
            at += length;
            log.ends.push(at);
            if text.get(at) != Some(&b'{') {
                stop = at;
            }
        }
        log.pairs = (0..stop)
            .filter(|at| {
                let (a, b) = (text[*at], text.get(at + 1).copied().unwrap_or(b' '));
                (a.eq_ignore_ascii_case(&b'o') && b.eq_ignore_ascii_case(&b'o'))
                    || (a, b) == (b't', b'N')
                    || (a, b) == (b's', b'C')
                    || (a, b) == (b'\\', b'u')
            })
            .collect();
        log
    }

    fn check(text: &[u8]) {
        let plain = plain(text);
        for kernel in Kernel::available() {
            assert_eq!(log(kernel, text), plain, "{kernel:?} on {}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn every_kernel_finds_ends_and_pairs_across_block_borders() {
        for pad in 0..140 {
            let fill = "x".repeat(pad);
            check(
                format!(r#"{{"{fill}":{{"a":"}}\"{{\\"}},"type":"Root"}}{{"tN":"sC\u0052"}}"#)
                    .as_bytes(),
            );
            check(format!(r#"{{"{fill}\\\\\\":"\\\"{{"}}"#).as_bytes());
        }
    }

    #[test]
    fn bytes_that_are_not_ascii_are_never_quotes_braces_or_letters() {
        // The characters that the kernel looks for, with the highest bit set.
        let high: Vec<u8> = b"\"{}\\oOtsNCu".iter().map(|byte| byte | 0x80).collect();
        for pad in 0..70 {
            for byte in &high {
                let fill = "x".repeat(pad);
                let text = [b"{\"", fill.as_bytes(), b"st", &[*byte], b"No", &[*byte, *byte]];
                check(&[&text.concat()[..], &high, b"\":{}}{\"a\":\"}", &high, b"\"}"].concat());
            }
        }
    }

    /// Computes the checksum.
    struct Summing<'t> {
        text: &'t [u8],
        crc: Crc,
        ends: usize,
    }

    impl Visitor for Summing<'_> {
        fn pair(&mut self, _: &[u8], _: usize) {}
        fn unit_end(&mut self, _: &[u8], _: usize, _: bool) -> Then {
            self.ends = self.ends.saturating_sub(1);
            if self.ends > 0 { Then::Continue } else { Then::Stop }
        }
        fn before_pass(&mut self, to: usize) {
            self.crc.update(self.text, to);
        }
        fn crc_before(&mut self, at: usize) -> Option<u32> {
            self.crc.value_at(self.text, at)
        }
        fn crc_folded(&mut self, to: usize, folded: &FoldedBytes) {
            self.crc.add_folded(to, folded);
        }
        fn may_reach(&self, _: usize) -> bool {
            true
        }
    }

    #[test]
    fn the_checksum_computed_in_the_same_step_is_that_of_the_text() {
        let unit = |n: usize| format!("{{\"n\":{n},\"fill\":\"{}\"}}", "é\\\\z".repeat(n % 89));
        let text: String = (0..400).map(unit).collect();
        let text = text.as_bytes();
        for kernel in Kernel::available() {
            for (from, to) in
                [(0, text.len()), (1, 9), (5, 600), (3, 1100), (64, 9000), (7, 30_000)]
            {
                // All units, and a visitor that stops early.
                for ends in [usize::MAX, 2, 90] {
                    let text = &text[from..to];
                    let mut right = flate2::Crc::new();
                    right.update(text);
                    for (stated, is_right) in [(right.sum(), true), (right.sum() ^ 4, false)] {
                        let mut visitor = Summing { text, crc: Crc::stated(stated), ends };
                        kernel.run(text, &mut visitor);
                        assert_eq!(visitor.crc.matches(text), is_right, "{kernel:?} {from}..{to}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_long_text_crosses_stripes() {
        let unit = format!(r#"{{"a":"{}","b":{{"c":"oT"}}}}"#, "é{".repeat(700));
        check(unit.repeat(40).as_bytes());
    }

    proptest! {
        #[test]
        fn kernels_agree_with_the_byte_by_byte_search(
            inner in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "\"", "\\", "\\\\", "\\\"", "u0052", "o", "t", "OoT", "N", "s", "C", "OT",
                    "{\"a\":1}", ",", " ", "\n", "aaaaaaaaaaaaaaaaaaaaaaaaa", "é", "¢",
                ]),
                0..120,
            )
        ) {
            let text = format!("{{{}", inner.concat());
            check(text.as_bytes());
        }
    }
}
