//! The masks with the first AVX-512 and with AVX2, block by block.

// Loads, and calls of functions that need a feature; each says why it is sound.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::lanes::{Lanes, Masks, note_lanes};
use super::pass::{Carry, CrcFold, Notes, Pass};

/// How far ahead of the loads the text is fetched: it comes from the cache that the
/// decompressor left it in, and the processor's own prefetcher stops at page ends.
const FETCH_AHEAD: usize = 8192;

/// [`Pass`] with one implementation's lanes, compiled with its features.
macro_rules! compiled {
    ($lanes:ty, $features:literal) => {
        impl Pass for $lanes {
            unsafe fn note_all(
                bytes: &[u8],
                carry: &mut Carry,
                notes: &mut Notes,
                _: Option<&mut CrcFold>,
            ) -> bool {
                /// # Safety
                /// \[CPU\].
                #[target_feature(enable = $features)]
                unsafe fn compiled(bytes: &[u8], carry: &mut Carry, notes: &mut Notes) -> bool {
                    // SAFETY: [CPU].
                    unsafe { note_lanes::<$lanes>(bytes, carry, notes) }
                }
                // SAFETY: [CPU].
                unsafe { compiled(bytes, carry, notes) }
            }
        }
    };
}
compiled!(Avx512, "avx512f,avx512bw,avx2,pclmulqdq,popcnt,bmi1");
compiled!(Avx2, "avx2,pclmulqdq,popcnt,bmi1");

/// # Safety
/// \[CPU\]: `pclmulqdq`.
#[inline(always)]
unsafe fn prefix_xor(bits: u64) -> u64 {
    // SAFETY: [CPU].
    unsafe {
        let product = _mm_clmulepi64_si128(_mm_set_epi64x(0, bits as i64), _mm_set1_epi8(-1), 0);
        _mm_cvtsi128_si64(product) as u64
    }
}

pub(super) struct Avx512;

impl Avx512 {
    #[inline(always)]
    fn set(byte: u8) -> __m512i {
        // SAFETY: [COMPILED].
        unsafe { _mm512_set1_epi8(byte as i8) }
    }

    /// Zero where a pair of letters ends.
    #[inline(always)]
    fn differs(last: __m512i, this: __m512i) -> __m512i {
        // SAFETY: [COMPILED].
        unsafe {
            // a | (b ^ c), in one instruction
            let or_differs =
                |a: __m512i, b: __m512i, c: __m512i| _mm512_ternarylogic_epi64::<0xf6>(a, b, c);
            let pair =
                |a: u8, b: u8| or_differs(_mm512_xor_si512(last, Self::set(a)), this, Self::set(b));
            // Of `oo` all bits but that of the letter's case.
            let oo = _mm512_and_si512(pair(b'O', b'O'), Self::set(0xdf));
            _mm512_min_epu8(oo, _mm512_min_epu8(pair(b't', b'N'), pair(b's', b'C')))
        }
    }
}

impl Lanes for Avx512 {
    type High = __m512i;
    /// Zero bytes where a backslash stood and where a pair ended.
    type Rare = (__m512i, __m512i);

    #[inline(always)]
    fn none_high() -> __m512i {
        // SAFETY: [COMPILED].
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn any_high(high: __m512i) -> bool {
        // SAFETY: [COMPILED].
        unsafe { _mm512_movepi8_mask(high) != 0 }
    }

    #[inline(always)]
    fn any_rare([(a, b), (c, d)]: [Self::Rare; 2]) -> (bool, [bool; 2]) {
        // SAFETY: [COMPILED].
        unsafe {
            let has_zero = |bytes: __m512i| _mm512_testn_epi8_mask(bytes, bytes) != 0;
            (has_zero(_mm512_min_epu8(a, c)), [has_zero(b), has_zero(d)])
        }
    }

    #[inline(always)]
    unsafe fn masks(at: *const u8, high: &mut __m512i) -> (Masks, Self::Rare) {
        // SAFETY: [BLOCK], [CPU]; a prefetch may name any address.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(FETCH_AHEAD).cast());
            let last = _mm512_loadu_si512(at.sub(1).cast());
            let this = _mm512_loadu_si512(at.cast());
            *high = _mm512_or_si512(*high, this);
            let backslash = _mm512_xor_si512(this, Self::set(b'\\'));
            let rare = (backslash, Self::differs(last, this));
            let is = |byte: u8| _mm512_cmpeq_epi8_mask(this, Self::set(byte));
            (Masks { quotes: is(b'"'), opens: is(b'{'), closes: is(b'}') }, rare)
        }
    }

    #[inline(always)]
    unsafe fn places(at: *const u8, byte: u8) -> u64 {
        // SAFETY: [BLOCK], [CPU].
        unsafe { _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(at.cast()), Self::set(byte)) }
    }

    #[inline(always)]
    unsafe fn letters(at: *const u8) -> u64 {
        // SAFETY: [BLOCK], [CPU].
        unsafe {
            let last = _mm512_loadu_si512(at.sub(1).cast());
            let this = _mm512_loadu_si512(at.cast());
            let differs = Self::differs(last, this);
            _mm512_testn_epi8_mask(differs, differs)
        }
    }

    #[inline(always)]
    unsafe fn prefix_xor(bits: u64) -> u64 {
        // SAFETY: [CPU].
        unsafe { prefix_xor(bits) }
    }
}

pub(super) struct Avx2;

impl Avx2 {
    #[inline(always)]
    fn set(byte: u8) -> __m256i {
        // SAFETY: [COMPILED].
        unsafe { _mm256_set1_epi8(byte as i8) }
    }

    /// Zero where a pair of letters ends.
    #[inline(always)]
    fn differs(last: __m256i, this: __m256i) -> __m256i {
        // SAFETY: [COMPILED].
        unsafe {
            let pair = |a: u8, b: u8| {
                _mm256_or_si256(
                    _mm256_xor_si256(last, Self::set(a)),
                    _mm256_xor_si256(this, Self::set(b)),
                )
            };
            let oo = _mm256_and_si256(pair(b'O', b'O'), Self::set(0xdf));
            _mm256_min_epu8(oo, _mm256_min_epu8(pair(b't', b'N'), pair(b's', b'C')))
        }
    }

    /// The bytes that are equal, as bits.
    #[inline(always)]
    fn equal(a: __m256i, b: __m256i) -> u64 {
        // SAFETY: [COMPILED].
        u64::from(unsafe { _mm256_movemask_epi8(_mm256_cmpeq_epi8(a, b)) } as u32)
    }
}

impl Lanes for Avx2 {
    type High = __m256i;
    /// Zero bytes where a backslash stood and where a pair ended.
    type Rare = (__m256i, __m256i);

    #[inline(always)]
    fn none_high() -> __m256i {
        Self::set(0)
    }

    #[inline(always)]
    fn any_high(high: __m256i) -> bool {
        // SAFETY: [COMPILED].
        unsafe { _mm256_movemask_epi8(high) != 0 }
    }

    #[inline(always)]
    fn any_rare([(a, b), (c, d)]: [Self::Rare; 2]) -> (bool, [bool; 2]) {
        let has_zero = |bytes: __m256i| Self::equal(bytes, Self::set(0)) != 0;
        // SAFETY: [COMPILED].
        let backslashes = unsafe { _mm256_min_epu8(a, c) };
        (has_zero(backslashes), [has_zero(b), has_zero(d)])
    }

    #[inline(always)]
    unsafe fn masks(at: *const u8, high: &mut __m256i) -> (Masks, Self::Rare) {
        // SAFETY: [BLOCK], [CPU]; a prefetch may name any address.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(FETCH_AHEAD).cast());
            let mut masks = Masks { quotes: 0, opens: 0, closes: 0 };
            let mut rare = (Self::set(0xff), Self::set(0xff));
            for half in 0..2 {
                let from = half * 32;
                let last = _mm256_loadu_si256(at.add(from).sub(1).cast());
                let this = _mm256_loadu_si256(at.add(from).cast());
                *high = _mm256_or_si256(*high, this);
                let backslash = _mm256_xor_si256(this, Self::set(b'\\'));
                rare.0 = _mm256_min_epu8(rare.0, backslash);
                rare.1 = _mm256_min_epu8(rare.1, Self::differs(last, this));
                masks.quotes |= Self::equal(this, Self::set(b'"')) << from;
                masks.opens |= Self::equal(this, Self::set(b'{')) << from;
                masks.closes |= Self::equal(this, Self::set(b'}')) << from;
            }
            (masks, rare)
        }
    }

    #[inline(always)]
    unsafe fn places(at: *const u8, byte: u8) -> u64 {
        let mut mask = 0;
        for half in 0..2 {
            // SAFETY: [BLOCK], [CPU].
            let this = unsafe { _mm256_loadu_si256(at.add(half * 32).cast()) };
            mask |= Self::equal(this, Self::set(byte)) << (half * 32);
        }
        mask
    }

    #[inline(always)]
    unsafe fn letters(at: *const u8) -> u64 {
        let mut mask = 0;
        for half in 0..2 {
            // SAFETY: [BLOCK], [CPU].
            let (last, this) = unsafe {
                let at = at.add(half * 32);
                (_mm256_loadu_si256(at.sub(1).cast()), _mm256_loadu_si256(at.cast()))
            };
            mask |= Self::equal(Self::differs(last, this), Self::set(0)) << (half * 32);
        }
        mask
    }

    #[inline(always)]
    unsafe fn prefix_xor(bits: u64) -> u64 {
        // SAFETY: [CPU].
        unsafe { prefix_xor(bits) }
    }
}
