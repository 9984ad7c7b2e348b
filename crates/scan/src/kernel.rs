//! One pass over a text that finds where each record ends and what in it deserves a look.
//!
//! Sixty-four bytes at a time: quotes, backslashes and braces become bit masks, a carry-less
//! multiplication turns the quotes into the mask of what stands inside strings, and braces outside
//! strings are counted. Beside that the pass marks three pairs of letters and one escape that
//! stand in every text that the prefilter has to look at (see [`crate::prefilter`]):
//!
//! * `oo` in any case, in `Root`, `:root`, `AssumeRoot` and `assumedRoot`,
//! * `tN`, in `eventName`,
//! * `sC`, in `AwsConsoleAction`,
//! * `\u`, because an escape may hide any of them.
//!
//! A pass over some kilobytes has no branch that depends on the data but for backslashes, which
//! are rare: it only writes down which blocks are worth a look. Branching at once on what a block
//! holds, and starting anew at each record, together cost a fifth more.
//!
//! There are four implementations of the pass, chosen once by what the processor has: one for the
//! AVX-512 of Ice Lake and Zen 4 ([`planes`]), which takes the text's checksum in the same step, one
//! for earlier AVX-512, AVX2 and portable code. They report the same (a test holds them to it).

// The loads and the calls of functions for one kind of processor; each says why it is sound.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod planes;
#[cfg(target_arch = "x86_64")]
mod x86;

/// Bytes in a block: one bit of a mask each.
const BLOCK: usize = 64;
/// Blocks in a group, the least that a pass takes in.
const GROUP_BLOCKS: usize = 8;
/// Bytes in a group.
const GROUP: usize = GROUP_BLOCKS * BLOCK;
/// Groups in a stripe, the most that a pass takes in before its notes are looked at.
const STRIPE_GROUPS: usize = 16;
/// Depths above this are noted as this: no group has so many braces that it could matter.
const DEPTH_NOTED_MAX: i32 = 0x4000;

/// What a pass found in the blocks of a group.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Group {
    /// `{` outside strings.
    opens: [u64; GROUP_BLOCKS],
    /// `}` outside strings.
    closes: [u64; GROUP_BLOCKS],
    /// The second bytes of pairs.
    pairs: [u64; GROUP_BLOCKS],
    /// Open braces before the block, [`DEPTH_NOTED_MAX`] at most.
    depths: [i16; GROUP_BLOCKS],
}

/// What a pass found in a stripe.
struct Notes {
    groups: [Group; STRIPE_GROUPS],
    /// For each block a bit: may a unit end in it, or does it have a pair?
    worth: [u8; STRIPE_GROUPS],
}

/// What a visitor wants after the end of a unit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The next unit follows; go on.
    GoOn,
    /// Something else follows; stop here.
    Stop,
}

/// What the pass reports, in the order of the text.
pub(crate) trait Visitor {
    /// A pair or escape begins at `at`. Some kernels report `tC` and `sN` too.
    fn pair(&mut self, text: &[u8], at: usize);
    /// A unit ends before `end`; `ascii` is false when a byte of it, or one close to it, is not
    /// ASCII.
    fn unit_end(&mut self, text: &[u8], end: usize, ascii: bool) -> Then;
    /// Asked now and then between ends: is a unit that reaches to `at` still worth following?
    fn may_reach(&self, at: usize) -> bool;
    /// Called before the pass looks at what stands before `to` and after the last call's `to`,
    /// unless the pass takes the checksum itself.
    fn before(&mut self, to: usize);
    /// The checksum of all that stands before `at`, if the pass is to go on with it.
    fn sum_before(&mut self, at: usize) -> Option<u32>;
    /// The pass went on with the checksum, as far as `to`.
    fn summed(&mut self, to: usize, folded: &Folded);
}

/// Bytes of which the checksum, begun with zero, is that of all that was folded into them.
pub(crate) type Folded = [u8; 4 * BLOCK];

/// A checksum on its way.
struct Fold {
    /// To be added to the first four bytes.
    begin: u32,
    folded: Folded,
}

/// One pass over a stripe.
trait Pass {
    /// Whether it can take the checksum in the same step.
    const FOLDS: bool = false;

    /// Writes down what there is to look at in a stripe; says whether there is a byte that is not
    /// ASCII. `bytes` are the stripe, which is whole groups and not more than a stripe has, and
    /// the byte before it.
    ///
    /// # Safety
    /// The processor must have what the implementation uses.
    unsafe fn note_all(
        bytes: &[u8],
        carry: &mut Carry,
        notes: &mut Notes,
        fold: Option<&mut Fold>,
    ) -> bool;
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
    /// The fastest that the processor has.
    pub(crate) fn detect() -> Self {
        Self::available()[0]
    }

    /// All that the processor has, the fastest first.
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

    /// Goes through `text`, which begins with the `{` of a unit, until the text ends or the
    /// visitor stops it.
    pub(crate) fn run(self, text: &[u8], visitor: &mut impl Visitor) {
        match self {
            // SAFETY: `available` saw these features on this processor.
            #[cfg(target_arch = "x86_64")]
            Self::Planes => unsafe { run::<planes::Planes, _>(text, visitor) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { run::<x86::Avx512, _>(text, visitor) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { run::<x86::Avx2, _>(text, visitor) },
            // SAFETY: it needs nothing of the processor.
            Self::Portable => unsafe { run::<Portable, _>(text, visitor) },
        }
    }
}

/// What one block leaves to the next.
#[derive(Clone, Copy, Default)]
struct Carry {
    /// All ones inside a string.
    in_string: u64,
    /// One when the last byte was a backslash that escapes the next.
    escape: u64,
    /// One when the last byte was a backslash.
    backslash: u64,
    depth: i32,
}

/// Goes through a text.
///
/// # Safety
/// The processor must have what the pass uses.
unsafe fn run<P: Pass, V: Visitor>(text: &[u8], visitor: &mut V) {
    let mut notes = Notes { groups: [Group::default(); STRIPE_GROUPS], worth: [0; STRIPE_GROUPS] };
    let mut carry = Carry::default();
    // Whether the unit that is still open has, or may have, bytes that are not ASCII.
    let mut open_is_high = false;
    // What stands before the first whole block in memory, and what is left after the last group,
    // are looked at in groups padded with spaces. Whole blocks are loaded a good deal faster.
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
            visitor.before(end);
        } else if at == head && !is_padded {
            fold = visitor.sum_before(at).map(|begin| Fold { begin, folded: [0; 4 * BLOCK] });
        }
        let sum = if is_padded { None } else { fold.as_mut() };
        // SAFETY: the caller vouches for the pass.
        let high = unsafe { P::note_all(bytes, &mut carry, &mut notes, sum) };
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
        visitor.summed(folded_to, &fold.folded);
    }
}

/// Hands what was written down to the visitor, in the order of the text, and says whether a unit
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
                    hand_pairs(pairs & below, at, text, visitor);
                    pairs &= !below;
                    ended = true;
                    let end = at.wrapping_add(bit as usize + 1);
                    if visitor.unit_end(text, end, ascii) == Then::Stop {
                        return (Then::Stop, ended);
                    }
                }
                closes &= closes - 1;
            }
            hand_pairs(pairs, at, text, visitor);
        }
    }
    (Then::GoOn, ended)
}

#[inline(always)]
fn hand_pairs<V: Visitor>(mut pairs: u64, at: usize, text: &[u8], visitor: &mut V) {
    while pairs != 0 {
        // A pair is marked at its second byte.
        visitor.pair(text, at.wrapping_add(pairs.trailing_zeros() as usize).wrapping_sub(1));
        pairs &= pairs - 1;
    }
}

/// The masks of one block.
struct Masks {
    quotes: u64,
    opens: u64,
    closes: u64,
}

/// How to get at the masks of a block, for [`note_lanes`].
trait Lanes: Sized {
    /// Gathers what is not ASCII.
    type High: Copy;
    /// What is rare in a block: pairs and backslashes.
    type Rare: Copy;
    fn none_high() -> Self::High;
    fn any_high(high: Self::High) -> bool;
    /// Were there backslashes in either block, and were there pairs of letters in each?
    fn any_rare(rare: [Self::Rare; 2]) -> (bool, [bool; 2]);
    /// Reads `BLOCK` bytes at `at` and one before.
    ///
    /// # Safety
    /// These must be readable, and the processor must have what the implementation uses.
    unsafe fn masks(at: *const u8, high: &mut Self::High) -> (Masks, Self::Rare);
    /// The places of a byte in a block.
    ///
    /// # Safety
    /// As for `masks`, but for the byte before.
    unsafe fn places(at: *const u8, byte: u8) -> u64;
    /// Second bytes of `oo` in any case, `tN` and `sC`.
    ///
    /// # Safety
    /// As for `masks`.
    unsafe fn letters(at: *const u8) -> u64;
    /// Bit n of the result is the parity of the bits 0 to n.
    ///
    /// # Safety
    /// The processor must have what the implementation uses.
    unsafe fn prefix_xor(bits: u64) -> u64;
}

/// [`Pass::note_all`] with one processor's lanes, block by block.
///
/// A mask of 64 bits is slow to come out of its register (two cycles on Zen 4, and the loop has
/// little else to wait for), so only quotes and braces do here. Of pairs and backslashes it asks
/// whether there are any; the exact masks are made again for the few blocks that have some.
///
/// # Safety
/// The processor must have what the lanes use.
#[inline(always)]
unsafe fn note_lanes<L: Lanes>(bytes: &[u8], carry: &mut Carry, notes: &mut Notes) -> bool {
    let mut high = L::none_high();
    let mut state = *carry;
    let begins = (1..bytes.len()).step_by(GROUP);
    for ((begin, group), worth) in begins.zip(&mut notes.groups).zip(&mut notes.worth) {
        // SAFETY: that is within the bytes.
        let bytes = unsafe { bytes.as_ptr().add(begin) };
        let (mut paired, mut noted) = (0_u8, 0_u8);
        for first in (0..GROUP_BLOCKS).step_by(2) {
            // SAFETY: the group's blocks are within the bytes, and there is a byte before; the
            // caller vouches for the lanes, here and below.
            let at = unsafe { [bytes.add(first * BLOCK), bytes.add((first + 1) * BLOCK)] };
            // SAFETY: as above.
            let masks = unsafe { [L::masks(at[0], &mut high), L::masks(at[1], &mut high)] };
            let (any_backslash, mut any_pair) = L::any_rare([masks[0].1, masks[1].1]);
            let mut quotes = [masks[0].0.quotes, masks[1].0.quotes];
            if any_backslash | (state.backslash != 0) {
                for half in 0..2 {
                    // SAFETY: as above.
                    let backslashes = unsafe { L::places(at[half], b'\\') };
                    quotes[half] &= !escaped(backslashes, &mut state.escape);
                    any_pair[half] |= (backslashes << 1 | state.backslash) != 0;
                    state.backslash = backslashes >> 63;
                }
            }
            for half in 0..2 {
                // SAFETY: as above.
                let inside = unsafe { L::prefix_xor(quotes[half]) } ^ state.in_string;
                state.in_string = ((inside as i64) >> 63) as u64;
                let opens = masks[half].0.opens & !inside;
                let closes = masks[half].0.closes & !inside;
                let closed = closes.count_ones() as i32;
                let block = first + half;
                group.opens[block] = opens;
                group.closes[block] = closes;
                group.depths[block] = state.depth.min(DEPTH_NOTED_MAX) as i16;
                noted |= u8::from((state.depth <= closed) | any_pair[half]) << block;
                paired |= u8::from(any_pair[half]) << block;
                state.depth += opens.count_ones() as i32 - closed;
            }
        }
        *worth = noted;
        group.pairs = [0; GROUP_BLOCKS];
        while paired != 0 {
            let block = paired.trailing_zeros() as usize;
            // SAFETY: as above.
            group.pairs[block] = unsafe {
                let at = bytes.add(block * BLOCK);
                let escapes = L::places(at.sub(1), b'\\') & L::places(at, b'u');
                L::letters(at) | escapes
            };
            paired &= paired - 1;
        }
    }
    *carry = state;
    L::any_high(high)
}

/// The bytes that a backslash escapes. The method is that of simdjson (Langdale and Lemire,
/// "Parsing gigabytes of JSON per second", 2019): runs of backslashes that begin at an even and at
/// an odd bit are told apart by an addition that carries through them.
#[cold]
fn escaped(backslashes: u64, carry: &mut u64) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let backslashes = backslashes & !*carry;
    let follows = (backslashes << 1) | *carry;
    let odd_starts = backslashes & !EVEN & !follows;
    let (even_runs, overflow) = odd_starts.overflowing_add(backslashes);
    *carry = u64::from(overflow);
    (EVEN ^ (even_runs << 1)) & follows
}

/// Masks without any instruction that not every processor has.
struct Portable;

impl Portable {
    /// One bit for each of eight bytes, the lowest first, from their lowest bits.
    #[inline(always)]
    fn gather(lowest_bits: u64) -> u64 {
        (lowest_bits.wrapping_mul(0x0102_0408_1020_4080)) >> 56
    }

    /// The lowest bit of each byte that is zero.
    #[inline(always)]
    fn zero_bytes(word: u64) -> u64 {
        const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
        (!(((word & LOW) + LOW) | word | LOW)) >> 7
    }

    /// # Safety
    /// Eight bytes must be readable at `index`.
    #[inline(always)]
    unsafe fn word(at: *const u8, index: usize) -> u64 {
        // SAFETY: the caller vouches for the bytes.
        u64::from_le(unsafe { at.add(index).cast::<u64>().read_unaligned() })
    }

    /// The lowest bit of each byte with which a pair of letters ends.
    ///
    /// # Safety
    /// Eight bytes must be readable at `index`, and one before.
    #[inline(always)]
    unsafe fn pairs_at(at: *const u8, index: usize) -> u64 {
        // SAFETY: the caller vouches for the bytes.
        let (last, this) = unsafe { (Self::word(at.sub(1), index), Self::word(at, index)) };
        let pair = |a: u8, b: u8| Self::zero_bytes((last ^ every(a)) | (this ^ every(b)));
        let oo = Self::zero_bytes(((last ^ every(b'O')) | (this ^ every(b'O'))) & every(0xdf));
        oo | pair(b't', b'N') | pair(b's', b'C')
    }
}

impl Pass for Portable {
    unsafe fn note_all(
        bytes: &[u8],
        carry: &mut Carry,
        notes: &mut Notes,
        _: Option<&mut Fold>,
    ) -> bool {
        // SAFETY: these lanes need nothing of the processor.
        unsafe { note_lanes::<Self>(bytes, carry, notes) }
    }
}

const fn every(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

impl Lanes for Portable {
    type High = u64;
    /// Backslashes and pairs.
    type Rare = (u64, u64);

    #[inline(always)]
    fn none_high() -> u64 {
        0
    }

    #[inline(always)]
    fn any_high(high: u64) -> bool {
        high & every(0x80) != 0
    }

    #[inline(always)]
    fn any_rare([first, second]: [(u64, u64); 2]) -> (bool, [bool; 2]) {
        ((first.0 | second.0) != 0, [first.1 != 0, second.1 != 0])
    }

    #[inline(always)]
    unsafe fn masks(at: *const u8, high: &mut u64) -> (Masks, (u64, u64)) {
        let mut rare = (0, 0);
        let mut masks = Masks { quotes: 0, opens: 0, closes: 0 };
        for index in 0..BLOCK / 8 {
            // SAFETY: the caller vouches for the block; these are within it.
            let this = unsafe { Self::word(at, index * 8) };
            *high |= this;
            let is = |byte: u8| Self::zero_bytes(this ^ every(byte));
            rare.0 |= is(b'\\');
            // SAFETY: as above.
            rare.1 |= unsafe { Self::pairs_at(at, index * 8) };
            masks.quotes |= Self::gather(is(b'"')) << (index * 8);
            masks.opens |= Self::gather(is(b'{')) << (index * 8);
            masks.closes |= Self::gather(is(b'}')) << (index * 8);
        }
        (masks, rare)
    }

    #[inline(always)]
    unsafe fn places(at: *const u8, byte: u8) -> u64 {
        (0..BLOCK).step_by(8).fold(0, |mask, index| {
            // SAFETY: as above.
            let this = unsafe { Self::word(at, index) };
            mask | Self::gather(Self::zero_bytes(this ^ every(byte))) << index
        })
    }

    #[inline(always)]
    unsafe fn letters(at: *const u8) -> u64 {
        // SAFETY: as above.
        let pairs_at = |index| unsafe { Self::pairs_at(at, index) };
        (0..BLOCK).step_by(8).fold(0, |mask, index| mask | Self::gather(pairs_at(index)) << index)
    }

    #[inline(always)]
    unsafe fn prefix_xor(bits: u64) -> u64 {
        let mut bits = bits;
        for shift in [1, 2, 4, 8, 16, 32] {
            bits ^= bits << shift;
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rootwatch_core::split::close_of;

    use super::*;
    use crate::inflate::Sum;

    /// Writes down all that it is told.
    #[derive(Default, Debug, PartialEq, Eq)]
    struct Log {
        pairs: Vec<usize>,
        ends: Vec<usize>,
    }

    impl Visitor for Log {
        fn pair(&mut self, text: &[u8], at: usize) {
            // Some kernels take these along.
            if !matches!(&text[at..at + 2], b"tC" | b"sN") {
                self.pairs.push(at);
            }
        }
        fn unit_end(&mut self, text: &[u8], end: usize, _: bool) -> Then {
            self.ends.push(end);
            if text.get(end) == Some(&b'{') { Then::GoOn } else { Then::Stop }
        }
        fn before(&mut self, _: usize) {}
        fn sum_before(&mut self, _: usize) -> Option<u32> {
            None
        }
        fn summed(&mut self, _: usize, _: &Folded) {}
        fn may_reach(&self, _: usize) -> bool {
            true
        }
    }

    fn log(kernel: Kernel, text: &[u8]) -> Log {
        let mut log = Log::default();
        kernel.run(text, &mut log);
        log
    }

    /// The same, one byte after the other.
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
    fn bytes_that_are_not_ascii_are_no_quotes_braces_or_letters() {
        // Each but for its highest bit one of the characters that are looked for.
        let high: Vec<u8> = b"\"{}\\oOtsNCu".iter().map(|byte| byte | 0x80).collect();
        for pad in 0..70 {
            for byte in &high {
                let fill = "x".repeat(pad);
                let text = [b"{\"", fill.as_bytes(), b"st", &[*byte], b"No", &[*byte, *byte]];
                check(&[&text.concat()[..], &high, b"\":{}}{\"a\":\"}", &high, b"\"}"].concat());
            }
        }
    }

    /// Takes the checksum along.
    struct Summing<'t> {
        text: &'t [u8],
        sum: Sum,
        ends: usize,
    }

    impl Visitor for Summing<'_> {
        fn pair(&mut self, _: &[u8], _: usize) {}
        fn unit_end(&mut self, _: &[u8], _: usize, _: bool) -> Then {
            self.ends = self.ends.saturating_sub(1);
            if self.ends > 0 { Then::GoOn } else { Then::Stop }
        }
        fn before(&mut self, to: usize) {
            self.sum.take(self.text, to);
        }
        fn sum_before(&mut self, at: usize) -> Option<u32> {
            self.sum.before(self.text, at)
        }
        fn summed(&mut self, to: usize, folded: &Folded) {
            self.sum.go_on(to, folded);
        }
        fn may_reach(&self, _: usize) -> bool {
            true
        }
    }

    #[test]
    fn the_checksum_taken_in_the_same_step_is_that_of_the_text() {
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
                        let mut visitor = Summing { text, sum: Sum::of(stated), ends };
                        kernel.run(text, &mut visitor);
                        assert_eq!(visitor.sum.holds(text), is_right, "{kernel:?} {from}..{to}");
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
        fn kernels_agree_with_the_plain_way(
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
