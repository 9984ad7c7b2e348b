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
//! The first loop has no branch that depends on the data but for backslashes, which are rare: it
//! only writes down the blocks worth a look. Branching at once on what a block holds, and starting
//! anew at each record, together cost a fifth more.
//!
//! There are three implementations of the masks, chosen once by what the processor has: AVX-512,
//! AVX2 and portable code. They agree bit for bit (a test holds them to it).

// The loads and the calls of functions for one kind of processor; each says why it is sound.
#![allow(unsafe_code)]

/// Bytes in a block: one bit of a mask each.
const BLOCK: usize = 64;
/// Blocks that the first loop takes before the second looks at what was written down.
const STRIPE_BLOCKS: usize = 256;

/// A block in which a unit may end or a pair stands.
#[derive(Clone, Copy, Default)]
struct Noted {
    /// `{` outside strings.
    opens: u64,
    /// `}` outside strings.
    closes: u64,
    /// First bytes of the pairs.
    pairs: u64,
    /// Offset of the block from where its stripe begins.
    at: u32,
    /// Open braces before the block.
    depth: i32,
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
    /// A pair or escape begins at `at`.
    fn pair(&mut self, text: &[u8], at: usize);
    /// A unit ends before `end`; `ascii` is false when a byte of it, or one close to it, is not
    /// ASCII.
    fn unit_end(&mut self, text: &[u8], end: usize, ascii: bool) -> Then;
    /// Asked now and then between ends: is a unit that reaches to `at` still worth following?
    fn may_reach(&self, at: usize) -> bool;
}

/// The masks of one block.
struct Masks {
    quotes: u64,
    backslashes: u64,
    opens: u64,
    closes: u64,
    /// First bytes of `oo` in any case, `tN` and `sC`.
    pairs: u64,
}

/// How to get at the masks of a block.
trait Lanes {
    /// Gathers what is not ASCII.
    type High: Copy;
    fn none_high() -> Self::High;
    fn any_high(high: Self::High) -> bool;
    /// Reads `BLOCK + 1` bytes at `at`.
    ///
    /// # Safety
    /// That many bytes must be readable there, and the processor must have what the
    /// implementation uses.
    unsafe fn masks(at: *const u8, high: &mut Self::High) -> Masks;
    /// Bit n of the result is the parity of the bits 0 to n.
    ///
    /// # Safety
    /// The processor must have what the implementation uses.
    unsafe fn prefix_xor(bits: u64) -> u64;
}

/// Which implementation this processor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
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
            Self::Avx512 => unsafe { x86::run_avx512(text, visitor) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::run_avx2(text, visitor) },
            Self::Portable => run::<Portable, _>(text, visitor),
        }
    }
}

/// What one block leaves to the next.
struct Carry {
    /// All ones inside a string.
    in_string: u64,
    /// One when the last byte was a backslash that escapes the next.
    escape: u64,
    depth: i32,
}

#[inline(always)]
fn run<L: Lanes, V: Visitor>(text: &[u8], visitor: &mut V) {
    let mut noted = [Noted::default(); STRIPE_BLOCKS + 1];
    let mut carry = Carry { in_string: 0, escape: 0, depth: 0 };
    let mut at = 0;
    // Whether the unit that is still open has, or may have, bytes that are not ASCII.
    let mut open_is_high = false;
    // The loads of a block read one byte more than it has.
    let whole_end = text.len().saturating_sub(BLOCK);
    while at < whole_end {
        let stripe = at;
        let stripe_end = (at + STRIPE_BLOCKS * BLOCK).min(whole_end);
        let mut count = 0;
        let mut high = L::none_high();
        while at < stripe_end {
            // SAFETY: `at < whole_end` leaves BLOCK + 1 bytes; the caller vouches for the lanes.
            let masks = unsafe { L::masks(text.as_ptr().add(at), &mut high) };
            // SAFETY: as above.
            unsafe { note::<L>(masks, text, stripe, at, &mut carry, &mut noted, &mut count) };
            at += BLOCK;
        }
        let high = L::any_high(high);
        let ascii = !(high | open_is_high);
        let (then, ended) = visit(&noted[..count], stripe, text, ascii, visitor);
        if then == Then::Stop || !visitor.may_reach(at) {
            return;
        }
        open_is_high = high | (open_is_high & !ended);
    }
    // What is left, at most BLOCK bytes, in a block padded with spaces.
    while at < text.len() {
        let mut padded = [b' '; BLOCK + 1];
        let rest = &text[at..text.len().min(at + BLOCK)];
        padded[..rest.len()].copy_from_slice(rest);
        if let Some(next) = text.get(at + BLOCK) {
            padded[BLOCK] = *next;
        }
        let mut high = L::none_high();
        let mut count = 0;
        // SAFETY: `padded` has BLOCK + 1 bytes; the caller vouches for the lanes.
        unsafe {
            let masks = L::masks(padded.as_ptr(), &mut high);
            note::<L>(masks, text, at, at, &mut carry, &mut noted, &mut count);
        }
        let high = L::any_high(high);
        let ascii = !(high | open_is_high);
        let (then, ended) = visit(&noted[..count], at, text, ascii, visitor);
        if then == Then::Stop {
            return;
        }
        open_is_high = high | (open_is_high & !ended);
        at += BLOCK;
    }
}

/// Writes a block down if there is something to look at.
///
/// # Safety
/// The processor must have what the lanes use, and `count` must be less than the length of
/// `noted`.
#[inline(always)]
unsafe fn note<L: Lanes>(
    masks: Masks,
    text: &[u8],
    stripe: usize,
    at: usize,
    carry: &mut Carry,
    noted: &mut [Noted; STRIPE_BLOCKS + 1],
    count: &mut usize,
) {
    let mut quotes = masks.quotes;
    let mut pairs = masks.pairs;
    if (masks.backslashes | carry.escape) != 0 {
        quotes &= !escaped(masks.backslashes, &mut carry.escape);
        pairs |= unicode_escapes(text, at, masks.backslashes);
    }
    // SAFETY: the caller vouches for the lanes.
    let inside = unsafe { L::prefix_xor(quotes) } ^ carry.in_string;
    carry.in_string = 0_u64.wrapping_sub(inside >> 63);
    let opens = masks.opens & !inside;
    let closes = masks.closes & !inside;
    let closed = closes.count_ones() as i32;
    debug_assert!(*count < noted.len());
    // SAFETY: the caller vouches for `count`, which grows by one a block at most.
    unsafe {
        *noted.get_unchecked_mut(*count) =
            Noted { opens, closes, pairs, at: (at - stripe) as u32, depth: carry.depth };
    }
    *count += usize::from((carry.depth <= closed) | (pairs != 0));
    carry.depth += opens.count_ones() as i32 - closed;
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

/// Which backslashes have a `u` after them.
#[cold]
fn unicode_escapes(text: &[u8], at: usize, backslashes: u64) -> u64 {
    let mut found = 0;
    let mut rest = backslashes;
    while rest != 0 {
        let bit = rest.trailing_zeros();
        if text.get(at + bit as usize + 1) == Some(&b'u') {
            found |= 1 << bit;
        }
        rest &= rest - 1;
    }
    found
}

/// Hands what was written down to the visitor, in the order of the text, and says whether a unit
/// ended.
fn visit<V: Visitor>(
    noted: &[Noted],
    stripe: usize,
    text: &[u8],
    ascii: bool,
    visitor: &mut V,
) -> (Then, bool) {
    let mut ended = false;
    for block in noted {
        let at = stripe + block.at as usize;
        let mut pairs = block.pairs;
        let mut closes =
            if block.depth <= block.closes.count_ones() as i32 { block.closes } else { 0 };
        let mut depth = block.depth;
        let mut opens = block.opens;
        while closes != 0 {
            let bit = closes.trailing_zeros();
            let below = (1_u64 << bit) - 1;
            depth += (opens & below).count_ones() as i32 - 1;
            opens &= !below;
            if depth == 0 {
                hand_pairs(pairs & below, at, text, visitor);
                pairs &= !below;
                ended = true;
                if visitor.unit_end(text, at + bit as usize + 1, ascii) == Then::Stop {
                    return (Then::Stop, ended);
                }
            }
            closes &= closes - 1;
        }
        hand_pairs(pairs, at, text, visitor);
    }
    (Then::GoOn, ended)
}

#[inline(always)]
fn hand_pairs<V: Visitor>(mut pairs: u64, at: usize, text: &[u8], visitor: &mut V) {
    while pairs != 0 {
        visitor.pair(text, at + pairs.trailing_zeros() as usize);
        pairs &= pairs - 1;
    }
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
}

const fn every(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

impl Lanes for Portable {
    type High = u64;

    #[inline(always)]
    fn none_high() -> u64 {
        0
    }

    #[inline(always)]
    fn any_high(high: u64) -> bool {
        high & every(0x80) != 0
    }

    #[inline(always)]
    unsafe fn masks(at: *const u8, high: &mut u64) -> Masks {
        let mut masks = Masks { quotes: 0, backslashes: 0, opens: 0, closes: 0, pairs: 0 };
        for index in 0..BLOCK / 8 {
            // SAFETY: the caller vouches for BLOCK + 1 bytes; these are within them.
            let (this, next) = unsafe {
                let this = at.add(index * 8).cast::<u64>().read_unaligned();
                let next = at.add(index * 8 + 1).cast::<u64>().read_unaligned();
                (u64::from_le(this), u64::from_le(next))
            };
            *high |= this;
            let shift = index * 8;
            let is = |byte: u8| Self::zero_bytes(this ^ every(byte));
            let pair = |a: u8, b: u8| Self::zero_bytes((this ^ every(a)) | (next ^ every(b)));
            let oo = Self::zero_bytes(((this ^ every(b'O')) | (next ^ every(b'O'))) & every(0xdf));
            masks.quotes |= Self::gather(is(b'"')) << shift;
            masks.backslashes |= Self::gather(is(b'\\')) << shift;
            masks.opens |= Self::gather(is(b'{')) << shift;
            masks.closes |= Self::gather(is(b'}')) << shift;
            masks.pairs |= Self::gather(oo | pair(b't', b'N') | pair(b's', b'C')) << shift;
        }
        masks
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

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Lanes, Masks, Visitor, run};

    /// How far ahead of the loads the text is fetched: it comes from the cache that the
    /// decompressor left it in, and the processor's own prefetcher stops at page ends.
    const FETCH_AHEAD: usize = 8192;

    /// # Safety
    /// The processor must have these features.
    #[target_feature(enable = "avx512f,avx512bw,avx2,pclmulqdq,popcnt,bmi1")]
    pub(super) unsafe fn run_avx512<V: Visitor>(text: &[u8], visitor: &mut V) {
        run::<Avx512, V>(text, visitor);
    }

    /// # Safety
    /// The processor must have these features.
    #[target_feature(enable = "avx2,pclmulqdq,popcnt,bmi1")]
    pub(super) unsafe fn run_avx2<V: Visitor>(text: &[u8], visitor: &mut V) {
        run::<Avx2, V>(text, visitor);
    }

    /// # Safety
    /// The processor must have `pclmulqdq`.
    #[inline(always)]
    unsafe fn prefix_xor(bits: u64) -> u64 {
        // SAFETY: the caller vouches for the feature.
        unsafe {
            let product =
                _mm_clmulepi64_si128(_mm_set_epi64x(0, bits as i64), _mm_set1_epi8(-1), 0);
            _mm_cvtsi128_si64(product) as u64
        }
    }

    pub(super) struct Avx512;

    impl Lanes for Avx512 {
        type High = __m512i;

        #[inline(always)]
        fn none_high() -> __m512i {
            // SAFETY: reached only below `run_avx512`.
            unsafe { _mm512_setzero_si512() }
        }

        #[inline(always)]
        fn any_high(high: __m512i) -> bool {
            // SAFETY: as above.
            unsafe { _mm512_movepi8_mask(high) != 0 }
        }

        #[inline(always)]
        unsafe fn masks(at: *const u8, high: &mut __m512i) -> Masks {
            // SAFETY: the caller vouches for BLOCK + 1 bytes and for the features; a prefetch may
            // name any address.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(FETCH_AHEAD).cast());
                let this = _mm512_loadu_si512(at.cast());
                let next = _mm512_loadu_si512(at.add(1).cast());
                *high = _mm512_or_si512(*high, this);
                let set = |byte: u8| _mm512_set1_epi8(byte as i8);
                let is = |byte: u8| _mm512_cmpeq_epi8_mask(this, set(byte));
                // a | (b ^ c), in one instruction
                let or_differs =
                    |a: __m512i, b: __m512i, c: __m512i| _mm512_ternarylogic_epi64::<0xf6>(a, b, c);
                let pair = |a: u8, b: u8| or_differs(_mm512_xor_si512(this, set(a)), next, set(b));
                // Of `oo` all bits but that of the letter's case.
                let oo = _mm512_and_si512(pair(b'O', b'O'), set(0xdf));
                let smallest =
                    _mm512_min_epu8(oo, _mm512_min_epu8(pair(b't', b'N'), pair(b's', b'C')));
                Masks {
                    quotes: is(b'"'),
                    backslashes: is(b'\\'),
                    opens: is(b'{'),
                    closes: is(b'}'),
                    pairs: _mm512_testn_epi8_mask(smallest, smallest),
                }
            }
        }

        #[inline(always)]
        unsafe fn prefix_xor(bits: u64) -> u64 {
            // SAFETY: the caller vouches for the feature.
            unsafe { prefix_xor(bits) }
        }
    }

    pub(super) struct Avx2;

    impl Lanes for Avx2 {
        type High = __m256i;

        #[inline(always)]
        fn none_high() -> __m256i {
            // SAFETY: reached only below `run_avx2`.
            unsafe { _mm256_setzero_si256() }
        }

        #[inline(always)]
        fn any_high(high: __m256i) -> bool {
            // SAFETY: as above.
            unsafe { _mm256_movemask_epi8(high) != 0 }
        }

        #[inline(always)]
        unsafe fn masks(at: *const u8, high: &mut __m256i) -> Masks {
            // SAFETY: the caller vouches for BLOCK + 1 bytes and for the features; a prefetch may
            // name any address.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(FETCH_AHEAD).cast());
                let mut masks = Masks { quotes: 0, backslashes: 0, opens: 0, closes: 0, pairs: 0 };
                for half in 0..2 {
                    let this = _mm256_loadu_si256(at.add(half * 32).cast());
                    let next = _mm256_loadu_si256(at.add(half * 32 + 1).cast());
                    *high = _mm256_or_si256(*high, this);
                    let set = |byte: u8| _mm256_set1_epi8(byte as i8);
                    let bits = |equal: __m256i| {
                        u64::from(_mm256_movemask_epi8(equal) as u32) << (half * 32)
                    };
                    let is = |byte: u8| bits(_mm256_cmpeq_epi8(this, set(byte)));
                    let pair = |a: u8, b: u8| {
                        _mm256_or_si256(
                            _mm256_xor_si256(this, set(a)),
                            _mm256_xor_si256(next, set(b)),
                        )
                    };
                    let oo = _mm256_and_si256(pair(b'O', b'O'), set(0xdf));
                    let smallest =
                        _mm256_min_epu8(oo, _mm256_min_epu8(pair(b't', b'N'), pair(b's', b'C')));
                    masks.quotes |= is(b'"');
                    masks.backslashes |= is(b'\\');
                    masks.opens |= is(b'{');
                    masks.closes |= is(b'}');
                    masks.pairs |= bits(_mm256_cmpeq_epi8(smallest, _mm256_setzero_si256()));
                }
                masks
            }
        }

        #[inline(always)]
        unsafe fn prefix_xor(bits: u64) -> u64 {
            // SAFETY: the caller vouches for the feature.
            unsafe { prefix_xor(bits) }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rootwatch_core::split::close_of;

    use super::*;

    /// Writes down all that it is told.
    #[derive(Default, Debug, PartialEq, Eq)]
    struct Log {
        pairs: Vec<usize>,
        ends: Vec<usize>,
    }

    impl Visitor for Log {
        fn pair(&mut self, _: &[u8], at: usize) {
            self.pairs.push(at);
        }
        fn unit_end(&mut self, text: &[u8], end: usize, _: bool) -> Then {
            self.ends.push(end);
            if text.get(end) == Some(&b'{') { Then::GoOn } else { Then::Stop }
        }
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
                    "{\"a\":1}", ",", " ", "\n", "aaaaaaaaaaaaaaaaaaaaaaaaa", "é",
                ]),
                0..120,
            )
        ) {
            let text = format!("{{{}", inner.concat());
            check(text.as_bytes());
        }
    }
}
