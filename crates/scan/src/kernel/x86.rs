//! The masks with AVX-512 and with AVX2.

use std::arch::x86_64::*;

use super::{BLOCK, Carry, Lanes, Masks, NotedBlocks};

/// How far ahead of the loads the text is fetched: it comes from the cache that the
/// decompressor left it in, and the processor's own prefetcher stops at page ends.
const FETCH_AHEAD: usize = 8192;

/// `note_all` and `pairs` for one implementation, compiled with its features.
macro_rules! compiled {
    ($lanes:ty, $features:literal, $note_all:ident, $pairs:ident) => {
        /// # Safety
        /// As for `note_all`.
        #[target_feature(enable = $features)]
        unsafe fn $note_all(
            bytes: &[u8],
            carry: &mut Carry,
            noted: &mut NotedBlocks,
        ) -> (usize, bool) {
            // SAFETY: as the caller vouches.
            unsafe { super::note_all::<$lanes>(bytes, carry, noted) }
        }

        /// # Safety
        /// As for `pairs`.
        #[target_feature(enable = $features)]
        unsafe fn $pairs(block: &[u8; BLOCK + 1]) -> u64 {
            // SAFETY: as the caller vouches.
            unsafe { super::pairs::<$lanes>(block) }
        }
    };
}
compiled!(
    Avx512<true>,
    "avx512f,avx512bw,avx512vbmi,avx2,pclmulqdq,popcnt,bmi1",
    note_all_vbmi,
    pairs_vbmi
);
compiled!(
    Avx512<false>,
    "avx512f,avx512bw,avx2,pclmulqdq,popcnt,bmi1",
    note_all_avx512,
    pairs_avx512
);
compiled!(Avx2, "avx2,pclmulqdq,popcnt,bmi1", note_all_avx2, pairs_avx2);

/// # Safety
/// The processor must have `pclmulqdq`.
#[inline(always)]
unsafe fn prefix_xor(bits: u64) -> u64 {
    // SAFETY: the caller vouches for the feature.
    unsafe {
        let product = _mm_clmulepi64_si128(_mm_set_epi64x(0, bits as i64), _mm_set1_epi8(-1), 0);
        _mm_cvtsi128_si64(product) as u64
    }
}

/// What each character begins a pair with, one bit for each pair; bit 0 is a backslash.
static FIRST: [u8; 128] = table([b"\\", b"\\", b"oO", b"t", b"s"]);
/// What each character ends a pair with. Anything may follow a backslash.
static SECOND: [u8; 128] = {
    let mut table = table([b"", b"u", b"oO", b"N", b"C"]);
    let mut index = 0;
    while index < table.len() {
        table[index] |= BACKSLASH;
        index += 1;
    }
    table
};
const BACKSLASH: u8 = 1;

const fn table(classes: [&[u8]; 5]) -> [u8; 128] {
    let mut table = [0; 128];
    let mut class = 0;
    while class < classes.len() {
        let mut index = 0;
        while index < classes[class].len() {
            table[classes[class][index] as usize] |= 1 << class;
            index += 1;
        }
        class += 1;
    }
    table
}

/// `VBMI` says that the processor can look 64 bytes up in a table of 128 at once.
pub(super) struct Avx512<const VBMI: bool>;

impl<const VBMI: bool> Avx512<VBMI> {
    #[inline(always)]
    fn set(byte: u8) -> __m512i {
        // SAFETY: reached only below `run_avx512` and `run_avx512_vbmi`, as all that follows.
        unsafe { _mm512_set1_epi8(byte as i8) }
    }

    /// Zero where a pair of letters begins.
    #[inline(always)]
    fn differs(this: __m512i, next: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe {
            // a | (b ^ c), in one instruction
            let or_differs =
                |a: __m512i, b: __m512i, c: __m512i| _mm512_ternarylogic_epi64::<0xf6>(a, b, c);
            let pair =
                |a: u8, b: u8| or_differs(_mm512_xor_si512(this, Self::set(a)), next, Self::set(b));
            // Of `oo` all bits but that of the letter's case.
            let oo = _mm512_and_si512(pair(b'O', b'O'), Self::set(0xdf));
            _mm512_min_epu8(oo, _mm512_min_epu8(pair(b't', b'N'), pair(b's', b'C')))
        }
    }

    /// The bits of the pairs that begin at each byte, and of backslashes.
    #[inline(always)]
    fn met(this: __m512i, next: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_and_si512(Self::look_up(&FIRST, this), Self::look_up(&SECOND, next)) }
    }

    /// Looks the low seven bits of each byte up.
    #[inline(always)]
    fn look_up(table: &[u8; 128], bytes: __m512i) -> __m512i {
        // SAFETY: both halves are within the table.
        unsafe {
            let low = _mm512_loadu_si512(table.as_ptr().cast());
            let high = _mm512_loadu_si512(table.as_ptr().add(64).cast());
            _mm512_permutex2var_epi8(low, bytes, high)
        }
    }
}

impl<const VBMI: bool> Lanes for Avx512<VBMI> {
    type High = __m512i;
    /// With `VBMI`, twice the bits of the tables that met; without, zero bytes where a
    /// backslash stood and where a pair began.
    type Rare = (__m512i, __m512i);
    const LETTERS_HAVE_ESCAPES: bool = VBMI;

    #[inline(always)]
    fn none_high() -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn any_high(high: __m512i) -> bool {
        // SAFETY: as above.
        unsafe { _mm512_movepi8_mask(high) != 0 }
    }

    #[inline(always)]
    fn any_rare([(a, b), (c, d)]: [Self::Rare; 2]) -> (bool, [bool; 2]) {
        // SAFETY: as above.
        unsafe {
            if VBMI {
                // Eight bytes at a time: a mask of eight bits comes out of its register sooner.
                let has =
                    |bits: __m512i, those: u8| _mm512_test_epi64_mask(bits, Self::set(those)) != 0;
                let any_backslash = has(_mm512_or_si512(a, c), BACKSLASH);
                (any_backslash, [has(a, !BACKSLASH), has(c, !BACKSLASH)])
            } else {
                let has_zero = |bytes: __m512i| _mm512_testn_epi8_mask(bytes, bytes) != 0;
                (has_zero(_mm512_min_epu8(a, c)), [has_zero(b), has_zero(d)])
            }
        }
    }

    #[inline(always)]
    unsafe fn masks(at: *const u8, high: &mut __m512i) -> (Masks, Self::Rare) {
        // SAFETY: the caller vouches for BLOCK + 1 bytes and for the features; a prefetch may
        // name any address.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(FETCH_AHEAD).cast());
            let this = _mm512_loadu_si512(at.cast());
            let next = _mm512_loadu_si512(at.add(1).cast());
            *high = _mm512_or_si512(*high, this);
            let rare = if VBMI {
                let met = Self::met(this, next);
                (met, met)
            } else {
                let backslash = _mm512_xor_si512(this, Self::set(b'\\'));
                (backslash, Self::differs(this, next))
            };
            let is = |byte: u8| _mm512_cmpeq_epi8_mask(this, Self::set(byte));
            (Masks { quotes: is(b'"'), opens: is(b'{'), closes: is(b'}') }, rare)
        }
    }

    #[inline(always)]
    unsafe fn backslashes(at: *const u8) -> u64 {
        // SAFETY: as above.
        unsafe { _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(at.cast()), Self::set(b'\\')) }
    }

    #[inline(always)]
    unsafe fn letters(at: *const u8) -> u64 {
        // SAFETY: as above.
        unsafe {
            let this = _mm512_loadu_si512(at.cast());
            let next = _mm512_loadu_si512(at.add(1).cast());
            if VBMI {
                // The tables know ASCII alone: what is not becomes a character in neither.
                let [this, next] = [this, next].map(|one| _mm512_min_epu8(one, Self::set(0x7f)));
                return _mm512_test_epi8_mask(Self::met(this, next), Self::set(!BACKSLASH));
            }
            let differs = Self::differs(this, next);
            _mm512_testn_epi8_mask(differs, differs)
        }
    }

    #[inline(always)]
    unsafe fn prefix_xor(bits: u64) -> u64 {
        // SAFETY: the caller vouches for the feature.
        unsafe { prefix_xor(bits) }
    }

    unsafe fn note_all(bytes: &[u8], carry: &mut Carry, noted: &mut NotedBlocks) -> (usize, bool) {
        // SAFETY: as the caller vouches.
        unsafe {
            if VBMI {
                note_all_vbmi(bytes, carry, noted)
            } else {
                note_all_avx512(bytes, carry, noted)
            }
        }
    }

    unsafe fn pairs(block: &[u8; BLOCK + 1]) -> u64 {
        // SAFETY: as the caller vouches.
        unsafe { if VBMI { pairs_vbmi(block) } else { pairs_avx512(block) } }
    }
}

pub(super) struct Avx2;

impl Avx2 {
    #[inline(always)]
    fn set(byte: u8) -> __m256i {
        // SAFETY: reached only below `run_avx2`, as all that follows.
        unsafe { _mm256_set1_epi8(byte as i8) }
    }

    /// Zero where a pair of letters begins.
    #[inline(always)]
    fn differs(this: __m256i, next: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe {
            let pair = |a: u8, b: u8| {
                _mm256_or_si256(
                    _mm256_xor_si256(this, Self::set(a)),
                    _mm256_xor_si256(next, Self::set(b)),
                )
            };
            let oo = _mm256_and_si256(pair(b'O', b'O'), Self::set(0xdf));
            _mm256_min_epu8(oo, _mm256_min_epu8(pair(b't', b'N'), pair(b's', b'C')))
        }
    }

    /// The bytes that are equal, as bits.
    #[inline(always)]
    fn equal(a: __m256i, b: __m256i) -> u64 {
        // SAFETY: as above.
        u64::from(unsafe { _mm256_movemask_epi8(_mm256_cmpeq_epi8(a, b)) } as u32)
    }
}

impl Lanes for Avx2 {
    type High = __m256i;
    /// Zero bytes where a backslash stood and where a pair began.
    type Rare = (__m256i, __m256i);

    #[inline(always)]
    fn none_high() -> __m256i {
        Self::set(0)
    }

    #[inline(always)]
    fn any_high(high: __m256i) -> bool {
        // SAFETY: as above.
        unsafe { _mm256_movemask_epi8(high) != 0 }
    }

    #[inline(always)]
    fn any_rare([(a, b), (c, d)]: [Self::Rare; 2]) -> (bool, [bool; 2]) {
        let has_zero = |bytes: __m256i| Self::equal(bytes, Self::set(0)) != 0;
        // SAFETY: as above.
        let backslashes = unsafe { _mm256_min_epu8(a, c) };
        (has_zero(backslashes), [has_zero(b), has_zero(d)])
    }

    #[inline(always)]
    unsafe fn masks(at: *const u8, high: &mut __m256i) -> (Masks, Self::Rare) {
        // SAFETY: the caller vouches for BLOCK + 1 bytes and for the features; a prefetch may
        // name any address.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(FETCH_AHEAD).cast());
            let mut masks = Masks { quotes: 0, opens: 0, closes: 0 };
            let mut rare = (Self::set(0xff), Self::set(0xff));
            for half in 0..2 {
                let from = half * 32;
                let this = _mm256_loadu_si256(at.add(from).cast());
                let next = _mm256_loadu_si256(at.add(from + 1).cast());
                *high = _mm256_or_si256(*high, this);
                let backslash = _mm256_xor_si256(this, Self::set(b'\\'));
                rare.0 = _mm256_min_epu8(rare.0, backslash);
                rare.1 = _mm256_min_epu8(rare.1, Self::differs(this, next));
                masks.quotes |= Self::equal(this, Self::set(b'"')) << from;
                masks.opens |= Self::equal(this, Self::set(b'{')) << from;
                masks.closes |= Self::equal(this, Self::set(b'}')) << from;
            }
            (masks, rare)
        }
    }

    #[inline(always)]
    unsafe fn backslashes(at: *const u8) -> u64 {
        let mut mask = 0;
        for half in 0..2 {
            // SAFETY: as above.
            let this = unsafe { _mm256_loadu_si256(at.add(half * 32).cast()) };
            mask |= Self::equal(this, Self::set(b'\\')) << (half * 32);
        }
        mask
    }

    #[inline(always)]
    unsafe fn letters(at: *const u8) -> u64 {
        let mut mask = 0;
        for half in 0..2 {
            // SAFETY: as above.
            let (this, next) = unsafe {
                let at = at.add(half * 32);
                (_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(1).cast()))
            };
            mask |= Self::equal(Self::differs(this, next), Self::set(0)) << (half * 32);
        }
        mask
    }

    #[inline(always)]
    unsafe fn prefix_xor(bits: u64) -> u64 {
        // SAFETY: the caller vouches for the feature.
        unsafe { prefix_xor(bits) }
    }

    unsafe fn note_all(bytes: &[u8], carry: &mut Carry, noted: &mut NotedBlocks) -> (usize, bool) {
        // SAFETY: as the caller vouches.
        unsafe { note_all_avx2(bytes, carry, noted) }
    }

    unsafe fn pairs(block: &[u8; BLOCK + 1]) -> u64 {
        // SAFETY: as the caller vouches.
        unsafe { pairs_avx2(block) }
    }
}
