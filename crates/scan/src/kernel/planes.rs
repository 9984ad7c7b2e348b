//! The masks with the AVX-512 of Ice Lake and Zen 4, a group of eight blocks at a time and without
//! leaving the vector registers.
//!
//! Each byte is looked up and becomes the number of its class, three bits. A bit matrix turns eight
//! such bytes into eight bits for each of the three, so that in the end three registers, the planes,
//! hold the three bits of 512 bytes; any class is then one instruction away, and the rest of the work
//! costs per group what it would otherwise cost per block.

// Loads, stores and conversions of registers; each says why it is sound.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::lanes::escaped;
use super::pass::{
    BLOCK, Carry, CrcFold, DEPTH_NOTED_MAX, GROUP, GROUP_BLOCKS, Group, Notes, Pass,
};

/// How far ahead of the loads the text is fetched: it comes from the cache that the
/// decompressor left it in, and the processor's own prefetcher stops at page ends.
const FETCH_AHEAD: usize = 8192;

/// Blocks whose checksums are folded side by side.
const FOLDED_BLOCKS: usize = 4;

/// Does this processor have all features that [`Planes`] needs?
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("avx512vpopcntdq")
        && is_x86_feature_detected!("gfni")
        && is_x86_feature_detected!("vpclmulqdq")
        && is_x86_feature_detected!("popcnt")
}

pub(super) struct Planes;

impl Pass for Planes {
    const FOLDS: bool = true;

    unsafe fn note_all(
        bytes: &[u8],
        carry: &mut Carry,
        notes: &mut Notes,
        fold: Option<&mut CrcFold>,
    ) -> bool {
        // SAFETY: [CPU].
        unsafe {
            match fold {
                Some(fold) => note_all::<true>(bytes, carry, notes, fold),
                None => {
                    let mut none = CrcFold { begin: 0, folded: [0; FOLDED_BLOCKS * BLOCK] };
                    note_all::<false>(bytes, carry, notes, &mut none)
                }
            }
        }
    }
}

/// Classes of bytes. Planes give them in 3 bits; 0 is everything else.
const QUOTE: u8 = 1;
const OPEN: u8 = 2;
const CLOSE: u8 = 3;
const BACKSLASH: u8 = 4;
/// `o` and `O`.
const O: u8 = 5;
/// `t` and `s`, first letters of pairs.
const FIRST: u8 = 6;
/// `N` and `C`, second letters of pairs.
const SECOND: u8 = 7;

/// The class of each ASCII character, moved up by `shift` bits.
const fn classes(shift: u32) -> [u8; 128] {
    const CLASSES: [(u8, u8); 10] = [
        (b'"', QUOTE),
        (b'{', OPEN),
        (b'}', CLOSE),
        (b'\\', BACKSLASH),
        (b'o', O),
        (b'O', O),
        (b't', FIRST),
        (b's', FIRST),
        (b'N', SECOND),
        (b'C', SECOND),
    ];
    let mut table = [0; 128];
    let mut index = 0;
    while index < CLASSES.len() {
        table[CLASSES[index].0 as usize] = CLASSES[index].1 << shift;
        index += 1;
    }
    table
}

/// Bytes hold the classes of two blocks: one in the low half, one in the high half.
static EVEN_BLOCKS: [u8; 128] = classes(0);
static ODD_BLOCKS: [u8; 128] = classes(4);

/// Of two registers with the bits of two blocks each, the bytes that belong to two planes of the
/// four blocks, one plane in each half.
const fn gather(planes: [u8; 2]) -> [u8; 64] {
    let mut indices = [0; 64];
    let mut to = 0;
    while to < 64 {
        let (plane, block, byte) = (planes[to / 32], (to / 8 % 4) as u8, (to % 8) as u8);
        indices[to] = block / 2 * 64 + byte * 8 + plane + block % 2 * 4;
        to += 1;
    }
    indices
}
static PLANES_0_1: [u8; 64] = gather([0, 1]);
static PLANE_2: [u8; 64] = gather([2, 2]);

/// x to the power of `n` modulo the polynomial of gzip's checksum, the highest power in the lowest
/// bit.
const fn power(n: u32) -> i64 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut power = 1_u32 << 31;
    let mut done = 0;
    while done < n {
        power = (power >> 1) ^ if power & 1 == 1 { POLYNOMIAL } else { 0 };
        done += 1;
    }
    power as i64
}
/// The factors that move 64 bits of a checksum on by the bytes that are folded side by side. The product of
/// numbers with their bits in this order comes out one bit too low, and these numbers are 32 bits
/// wide in 64: hence 33 less.
const FOLD_LOW: i64 = power(8 * (FOLDED_BLOCKS * BLOCK) as u32 + 64 - 33);
const FOLD_HIGH: i64 = power(8 * (FOLDED_BLOCKS * BLOCK) as u32 - 33);

/// A register as eight masks.
fn words(register: __m512i) -> [u64; GROUP_BLOCKS] {
    // SAFETY: [BITS], 64 bytes.
    unsafe { std::mem::transmute(register) }
}

/// [`words`] the other way.
fn register(words: [u64; GROUP_BLOCKS]) -> __m512i {
    // SAFETY: [BITS], 64 bytes.
    unsafe { std::mem::transmute(words) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2")]
#[target_feature(enable = "avx512vpopcntdq,gfni,vpclmulqdq,popcnt")]
fn note_all<const FOLD: bool>(
    bytes: &[u8],
    carry: &mut Carry,
    notes: &mut Notes,
    fold: &mut CrcFold,
) -> bool {
    let load = |bytes: &[u8; BLOCK]| {
        // SAFETY: [REGISTER].
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    };
    let table = |table: &'static [u8; 128]| {
        let (halves, _) = table.as_chunks::<BLOCK>();
        (load(&halves[0]), load(&halves[1]))
    };
    let (even, odd) = (table(&EVEN_BLOCKS), table(&ODD_BLOCKS));
    let look_up = |table: (__m512i, __m512i), bytes: __m512i| {
        _mm512_permutex2var_epi8(table.0, bytes, table.1)
    };
    let (planes_0_1, plane_2) = (load(&PLANES_0_1), load(&PLANE_2));
    // As a factor of bit matrices, it makes bit n of eight bytes byte n.
    let columns = _mm512_set1_epi64(0x8040_2010_0804_0201_u64 as i64);
    // As a bit matrix, it reverses the bits of a byte.
    let backwards = columns;
    let ones = _mm512_set1_epi64(-1);
    let fold_by = _mm512_broadcast_i32x4(_mm_set_epi64x(FOLD_HIGH, FOLD_LOW));

    let (folded, _) = fold.folded.as_chunks_mut::<BLOCK>();
    let mut sums = [0; FOLDED_BLOCKS].map(|_: u8| _mm512_setzero_si512());
    if FOLD {
        for (sum, bytes) in sums.iter_mut().zip(&*folded) {
            *sum = load(bytes);
        }
    }
    let mut begin = _mm512_zextsi128_si512(_mm_cvtsi32_si128(!fold.begin as i32));
    let mut high = _mm512_setzero_si512();
    let mut state = *carry;
    let sign_if = |is: bool| _mm512_set1_epi64(if is { i64::MIN } else { 0 });
    let mut last_o = sign_if(matches!(bytes[0], b'o' | b'O'));
    let mut last_first = sign_if(matches!(bytes[0], b't' | b's'));

    let (groups, _) = bytes[1..].as_chunks::<GROUP>();
    for ((bytes, group), worth) in groups.iter().zip(&mut notes.groups).zip(&mut notes.worth) {
        let (blocks, _) = bytes.as_chunks::<BLOCK>();
        for block in blocks {
            _mm_prefetch::<_MM_HINT_T0>(block.as_ptr().wrapping_add(FETCH_AHEAD).cast());
        }
        let mut texts: [__m512i; GROUP_BLOCKS] = std::array::from_fn(|block| load(&blocks[block]));
        if FOLD {
            let first = _mm512_xor_si512(texts[0], begin);
            begin = _mm512_setzero_si512();
            for block in 0..GROUP_BLOCKS {
                let sum = &mut sums[block % FOLDED_BLOCKS];
                let low = _mm512_clmulepi64_epi128::<0x00>(*sum, fold_by);
                let high = _mm512_clmulepi64_epi128::<0x11>(*sum, fold_by);
                let text = if block == 0 { first } else { texts[block] };
                *sum = _mm512_ternarylogic_epi64::<0x96>(low, high, text);
            }
        }
        let all = |a: __m512i, b: __m512i, c: __m512i| _mm512_ternarylogic_epi64::<0xfe>(a, b, c);
        let group_high = all(
            all(texts[0], texts[1], texts[2]),
            all(texts[3], texts[4], texts[5]),
            _mm512_or_si512(texts[6], texts[7]),
        );
        high = _mm512_or_si512(high, group_high);
        if _mm512_movepi8_mask(group_high) != 0 {
            // The tables cover ASCII alone: other bytes become a character of no class.
            texts = texts.map(|text| _mm512_min_epu8(text, _mm512_set1_epi8(0x7f)));
        }
        let pairs_of_blocks: [__m512i; GROUP_BLOCKS / 2] = std::array::from_fn(|pair| {
            let classes =
                _mm512_or_si512(look_up(even, texts[2 * pair]), look_up(odd, texts[2 * pair + 1]));
            _mm512_gf2p8affine_epi64_epi8::<0>(columns, classes)
        });
        let [a, b, c, d] = pairs_of_blocks;
        let gathered = |which: __m512i| {
            (_mm512_permutex2var_epi8(a, which, b), _mm512_permutex2var_epi8(c, which, d))
        };
        let ((p01_low, p01_high), (p2_low, p2_high)) = (gathered(planes_0_1), gathered(plane_2));
        let reversed = |plane: __m512i| _mm512_gf2p8affine_epi64_epi8::<0>(plane, backwards);
        let p0 = reversed(_mm512_shuffle_i64x2::<0b01_00_01_00>(p01_low, p01_high));
        let p1 = reversed(_mm512_shuffle_i64x2::<0b11_10_11_10>(p01_low, p01_high));
        let p2 = reversed(_mm512_shuffle_i64x2::<0b01_00_01_00>(p2_low, p2_high));
        macro_rules! class {
            ($class:ident) => {
                _mm512_ternarylogic_epi64::<{ 1 << $class }>(p2, p1, p0)
            };
        }

        // Pairs, marked at their second bytes.
        let (os, firsts) = (class!(O), class!(FIRST));
        let after = |these: __m512i, last: __m512i| {
            _mm512_shldi_epi64::<1>(these, _mm512_alignr_epi64::<7>(these, last))
        };
        let oo = _mm512_and_si512(os, after(os, last_o));
        let mut pairs =
            _mm512_ternarylogic_epi64::<0xf8>(oo, class!(SECOND), after(firsts, last_first));
        (last_o, last_first) = (os, firsts);

        let mut quotes = class!(QUOTE);
        let backslashes = class!(BACKSLASH);
        if (_mm512_test_epi64_mask(backslashes, backslashes) != 0) | (state.backslash != 0) {
            (quotes, pairs) = escape(blocks, quotes, backslashes, pairs, &mut state);
        }

        // The bytes inside strings: first within each block, then with the state before it.
        let product_low = _mm512_clmulepi64_epi128::<0x00>(quotes, ones);
        let product_high = _mm512_clmulepi64_epi128::<0x01>(quotes, ones);
        let inside = _mm512_unpacklo_epi64(product_low, product_high);
        let mut odd_blocks = _mm512_movepi64_mask(inside);
        odd_blocks ^= odd_blocks << 1;
        odd_blocks ^= odd_blocks << 2;
        odd_blocks ^= odd_blocks << 4;
        let in_string = state.in_string as u8;
        state.in_string ^= (i64::from(odd_blocks as i8) >> 7) as u64;
        let begin_inside = (odd_blocks << 1) ^ in_string;
        let inside = _mm512_mask_xor_epi64(inside, begin_inside, inside, ones);
        let opens = _mm512_andnot_si512(inside, class!(OPEN));
        let closes = _mm512_andnot_si512(inside, class!(CLOSE));

        // How deep each block begins, and whether its closing braces may reach the ground.
        let (opened, closed) = (_mm512_popcnt_epi64(opens), _mm512_popcnt_epi64(closes));
        let closed_16 = _mm512_cvtepi64_epi16(closed);
        let mut deeper = _mm512_cvtepi64_epi16(_mm512_sub_epi64(opened, closed));
        deeper = _mm_add_epi16(deeper, _mm_bslli_si128::<2>(deeper));
        deeper = _mm_add_epi16(deeper, _mm_bslli_si128::<4>(deeper));
        deeper = _mm_add_epi16(deeper, _mm_bslli_si128::<8>(deeper));
        let depth = _mm_set1_epi16(state.depth.min(DEPTH_NOTED_MAX) as i16);
        let depths = _mm_add_epi16(depth, _mm_bslli_si128::<2>(deeper));
        state.depth += i32::from(_mm_extract_epi16::<7>(deeper) as i16);
        *worth = _mm_cmple_epi16_mask(depths, closed_16) | _mm512_test_epi64_mask(pairs, pairs);

        *group = Group {
            opens: words(opens),
            closes: words(closes),
            pairs: words(pairs),
            // SAFETY: [BITS], 16 bytes.
            depths: unsafe { std::mem::transmute::<__m128i, [i16; GROUP_BLOCKS]>(depths) },
        };
    }
    if FOLD {
        fold.begin = !0;
        for (sum, bytes) in sums.into_iter().zip(folded) {
            // SAFETY: [REGISTER].
            unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), sum) };
        }
    }
    *carry = state;
    _mm512_movepi8_mask(high) != 0
}

/// The effect of backslashes in a group: quotes that they escape do not count, and `\u` is a pair.
#[cold]
#[target_feature(enable = "avx512f,avx512bw")]
fn escape(
    blocks: &[[u8; BLOCK]],
    quotes: __m512i,
    backslashes: __m512i,
    pairs: __m512i,
    state: &mut Carry,
) -> (__m512i, __m512i) {
    let (mut quotes, mut pairs) = (words(quotes), words(pairs));
    for (block, backslashes) in words(backslashes).into_iter().enumerate() {
        if backslashes | state.backslash == 0 {
            continue;
        }
        quotes[block] &= !escaped(backslashes, &mut state.escape);
        // SAFETY: [REGISTER].
        let text = unsafe { _mm512_loadu_si512(blocks[block].as_ptr().cast()) };
        let us = _mm512_cmpeq_epi8_mask(text, _mm512_set1_epi8(b'u' as i8));
        pairs[block] |= us & (backslashes << 1 | state.backslash);
        state.backslash = backslashes >> 63;
    }
    (register(quotes), register(pairs))
}
