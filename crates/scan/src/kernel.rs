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
//! A mask of 64 bits is slow to come out of its register (two cycles on Zen 4, and the loop has
//! little else to wait for), so only quotes and braces do in the first loop. Of pairs and
//! backslashes it asks whether there are any; the exact masks are made again for the few blocks
//! that have some.
//!
//! There are four implementations of the masks, chosen once by what the processor has: AVX-512
//! with and without VBMI, AVX2 and portable code. They report the same (a test holds them to it).

// The loads and the calls of functions for one kind of processor; each says why it is sound.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod x86;

/// Bytes in a block: one bit of a mask each.
const BLOCK: usize = 64;
/// Bytes that the first loop takes in a step: two blocks.
const STEP: usize = 2 * BLOCK;
/// Steps that the first loop takes before the second looks at what was written down.
const STRIPE_STEPS: usize = 64;

/// A block in which a unit may end or a pair may stand.
#[derive(Clone, Copy, Default)]
struct Noted {
    /// `{` outside strings.
    opens: u64,
    /// `}` outside strings.
    closes: u64,
    /// Offset of the block from where its stripe begins, plus one if there may be pairs in it.
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
    /// Called before the pass looks at what stands before `to` and after the last call's `to`.
    fn before(&mut self, to: usize);
}

/// The masks of one block.
struct Masks {
    quotes: u64,
    opens: u64,
    closes: u64,
}

/// How to get at the masks of a block.
trait Lanes: Sized {
    /// Gathers what is not ASCII.
    type High: Copy;
    /// What is rare in a block: pairs and backslashes.
    type Rare: Copy;
    /// Whether `letters` has the pairs `\u` too.
    const LETTERS_HAVE_ESCAPES: bool = false;
    fn none_high() -> Self::High;
    fn any_high(high: Self::High) -> bool;
    /// Were there backslashes in either block, and were there pairs in each? Either may be claimed
    /// wrongly, but not denied wrongly, save that a pair `\u` need not be told from any other
    /// backslash.
    fn any_rare(rare: [Self::Rare; 2]) -> (bool, [bool; 2]);
    /// Reads `BLOCK + 1` bytes at `at`.
    ///
    /// # Safety
    /// That many bytes must be readable there, and the processor must have what the
    /// implementation uses.
    unsafe fn masks(at: *const u8, high: &mut Self::High) -> (Masks, Self::Rare);
    /// The backslashes of a block.
    ///
    /// # Safety
    /// As for `masks`.
    unsafe fn backslashes(at: *const u8) -> u64;
    /// First bytes of `oo` in any case, `tN` and `sC`.
    ///
    /// # Safety
    /// As for `masks`.
    unsafe fn letters(at: *const u8) -> u64;
    /// Bit n of the result is the parity of the bits 0 to n.
    ///
    /// # Safety
    /// The processor must have what the implementation uses.
    unsafe fn prefix_xor(bits: u64) -> u64;

    /// [`note_all`], compiled for this kind of processor and kept by itself: inlined beside what
    /// visitors do, the loop would lose its constants from the registers.
    ///
    /// # Safety
    /// As for [`note_all`].
    unsafe fn note_all(bytes: &[u8], carry: &mut Carry, noted: &mut NotedBlocks) -> (usize, bool) {
        // SAFETY: as the caller vouches.
        unsafe { note_all::<Self>(bytes, carry, noted) }
    }

    /// [`pairs`], compiled for this kind of processor.
    ///
    /// # Safety
    /// As for [`pairs`].
    unsafe fn pairs(block: &[u8; BLOCK + 1]) -> u64 {
        // SAFETY: as the caller vouches.
        unsafe { pairs::<Self>(block) }
    }
}

/// Room for all blocks of a stripe, and one more.
type NotedBlocks = [Noted; 2 * STRIPE_STEPS + 1];

/// Which implementation this processor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Avx512Vbmi,
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
                if is_x86_feature_detected!("avx512vbmi") {
                    kernels.push(Self::Avx512Vbmi);
                }
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
            Self::Avx512Vbmi => unsafe { run::<x86::Avx512<true>, _>(text, visitor) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { run::<x86::Avx512<false>, _>(text, visitor) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { run::<x86::Avx2, _>(text, visitor) },
            // SAFETY: it needs nothing of the processor.
            Self::Portable => unsafe { run::<Portable, _>(text, visitor) },
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

/// Goes through a text.
///
/// # Safety
/// The processor must have what the lanes use.
unsafe fn run<L: Lanes, V: Visitor>(text: &[u8], visitor: &mut V) {
    let mut noted = [Noted::default(); 2 * STRIPE_STEPS + 1];
    let mut carry = Carry { in_string: 0, escape: 0, depth: 0 };
    let mut at = 0;
    // Whether the unit that is still open has, or may have, bytes that are not ASCII.
    let mut open_is_high = false;
    let mut padded = [b' '; STEP + 1];
    while at < text.len() {
        // The loads of a block read one byte more than it has. What is left at the end, at most
        // STEP bytes, is looked at in blocks padded with spaces.
        let steps = (text.len() - at - 1) / STEP;
        let (end, bytes) = if steps > 0 {
            let end = at + steps.min(STRIPE_STEPS) * STEP;
            (end, &text[at..=end])
        } else {
            padded[..text.len() - at].copy_from_slice(&text[at..]);
            (text.len(), &padded[..])
        };
        visitor.before(end);
        // SAFETY: there are whole steps and one byte more, not more steps than a stripe has; the
        // caller vouches for the lanes.
        let (count, high) = unsafe { L::note_all(bytes, &mut carry, &mut noted) };
        let ascii = !(high | open_is_high);
        // SAFETY: the caller vouches for the lanes.
        let (then, ended) =
            unsafe { visit::<L, V>(&noted[..count], bytes, at, text, ascii, visitor) };
        if then == Then::Stop || !visitor.may_reach(end) {
            return;
        }
        open_is_high = high | (open_is_high & !ended);
        at = end;
    }
}

/// Writes down what there is to look at in a stripe; says how many steps, and whether there is a
/// byte that is not ASCII.
///
/// # Safety
/// `bytes` must be whole steps and one byte more, not more steps than a stripe has, and the
/// processor must have what the lanes use.
#[inline(always)]
unsafe fn note_all<L: Lanes>(
    bytes: &[u8],
    carry: &mut Carry,
    noted: &mut NotedBlocks,
) -> (usize, bool) {
    let mut count = 0;
    let mut high = L::none_high();
    let mut state = Carry { ..*carry };
    for offset in (0..bytes.len() - 1).step_by(STEP) {
        // SAFETY: the caller vouches for the bytes, the lanes and the number of steps.
        unsafe {
            let step = bytes.as_ptr().add(offset);
            note::<L>(step, offset as u32, &mut high, &mut state, noted, &mut count);
        }
    }
    *carry = state;
    (count, L::any_high(high))
}

/// Writes two blocks down if there is something to look at.
///
/// # Safety
/// `STEP + 1` bytes must be readable at `bytes`, the processor must have what the lanes use, and
/// `noted` must have room for two after `count`.
#[inline(always)]
unsafe fn note<L: Lanes>(
    bytes: *const u8,
    offset: u32,
    high: &mut L::High,
    carry: &mut Carry,
    noted: &mut NotedBlocks,
    count: &mut usize,
) {
    // SAFETY: the caller vouches for the bytes and for the lanes, here and below.
    let ((first, first_rare), (second, second_rare)) =
        unsafe { (L::masks(bytes, high), L::masks(bytes.add(BLOCK), high)) };
    let blocks = [first, second];
    let (any_backslash, mut any_pair) = L::any_rare([first_rare, second_rare]);
    let mut quotes = [blocks[0].quotes, blocks[1].quotes];
    if any_backslash | (carry.escape != 0) {
        // SAFETY: as above.
        let backslashes = unsafe { [L::backslashes(bytes), L::backslashes(bytes.add(BLOCK))] };
        quotes[0] &= !escaped(backslashes[0], &mut carry.escape);
        quotes[1] &= !escaped(backslashes[1], &mut carry.escape);
        any_pair[0] |= backslashes[0] != 0;
        any_pair[1] |= backslashes[1] != 0;
    }
    for half in 0..2 {
        // SAFETY: as above.
        let inside = unsafe { L::prefix_xor(quotes[half]) } ^ carry.in_string;
        carry.in_string = ((inside as i64) >> 63) as u64;
        let opens = blocks[half].opens & !inside;
        let closes = blocks[half].closes & !inside;
        let closed = closes.count_ones() as i32;
        let at = (offset + (half * BLOCK) as u32) | u32::from(any_pair[half]);
        debug_assert!(*count < noted.len());
        // SAFETY: the caller vouches for `count`, which grows by one a block at most.
        unsafe {
            *noted.get_unchecked_mut(*count) = Noted { opens, closes, at, depth: carry.depth };
        }
        *count += usize::from((carry.depth <= closed) | any_pair[half]);
        carry.depth += opens.count_ones() as i32 - closed;
    }
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

/// The pairs of a block: letters, and backslashes that have a `u` after them.
///
/// # Safety
/// The processor must have what the lanes use.
#[inline(always)]
unsafe fn pairs<L: Lanes>(block: &[u8; BLOCK + 1]) -> u64 {
    // SAFETY: the block has BLOCK + 1 bytes; the caller vouches for the lanes.
    let mut found = unsafe { L::letters(block.as_ptr()) };
    if L::LETTERS_HAVE_ESCAPES {
        return found;
    }
    // SAFETY: as above.
    let mut backslashes = unsafe { L::backslashes(block.as_ptr()) };
    while backslashes != 0 {
        let bit = backslashes.trailing_zeros();
        if block[bit as usize + 1] == b'u' {
            found |= 1 << bit;
        }
        backslashes &= backslashes - 1;
    }
    found
}

/// Hands what was written down to the visitor, in the order of the text, and says whether a unit
/// ended. `source` has the bytes of the stripe and one more; the stripe stands in `text`.
///
/// # Safety
/// The processor must have what the lanes use.
unsafe fn visit<L: Lanes, V: Visitor>(
    noted: &[Noted],
    source: &[u8],
    stripe: usize,
    text: &[u8],
    ascii: bool,
    visitor: &mut V,
) -> (Then, bool) {
    let mut ended = false;
    for block in noted {
        let offset = block.at as usize & !1;
        let at = stripe + offset;
        let mut left = match source[offset..].first_chunk() {
            // SAFETY: the caller vouches for the lanes.
            Some(bytes) if block.at & 1 != 0 => unsafe { L::pairs(bytes) },
            _ => 0,
        };
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
                hand_pairs(left & below, at, text, visitor);
                left &= !below;
                ended = true;
                if visitor.unit_end(text, at + bit as usize + 1, ascii) == Then::Stop {
                    return (Then::Stop, ended);
                }
            }
            closes &= closes - 1;
        }
        hand_pairs(left, at, text, visitor);
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

    /// # Safety
    /// Eight bytes must be readable at `index`.
    #[inline(always)]
    unsafe fn word(at: *const u8, index: usize) -> u64 {
        // SAFETY: the caller vouches for the bytes.
        u64::from_le(unsafe { at.add(index).cast::<u64>().read_unaligned() })
    }

    /// The lowest bit of each byte with which a pair of letters begins.
    ///
    /// # Safety
    /// Nine bytes must be readable at `index`.
    #[inline(always)]
    unsafe fn pairs_at(at: *const u8, index: usize) -> u64 {
        // SAFETY: the caller vouches for the bytes.
        let (this, next) = unsafe { (Self::word(at, index), Self::word(at, index + 1)) };
        let pair = |a: u8, b: u8| Self::zero_bytes((this ^ every(a)) | (next ^ every(b)));
        let oo = Self::zero_bytes(((this ^ every(b'O')) | (next ^ every(b'O'))) & every(0xdf));
        oo | pair(b't', b'N') | pair(b's', b'C')
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
            // SAFETY: the caller vouches for BLOCK + 1 bytes; these are within them.
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
    unsafe fn backslashes(at: *const u8) -> u64 {
        (0..BLOCK).step_by(8).fold(0, |mask, index| {
            // SAFETY: as above.
            let this = unsafe { Self::word(at, index) };
            mask | Self::gather(Self::zero_bytes(this ^ every(b'\\'))) << index
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
        fn before(&mut self, _: usize) {}
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
