//! The masks with instructions that every processor has, eight bytes at a time.

// Reads through pointers; each says why it is sound.
#![allow(unsafe_code)]

use super::lanes::{Lanes, Masks, note_lanes};
use super::pass::{BLOCK, Carry, CrcFold, Notes, Pass};

/// Masks from instructions that every processor has.
pub(super) struct Portable;

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
        // SAFETY: the caller ensures that the eight bytes are readable.
        u64::from_le(unsafe { at.add(index).cast::<u64>().read_unaligned() })
    }

    /// The lowest bit of each byte with which a pair of letters ends.
    ///
    /// # Safety
    /// Eight bytes must be readable at `index`, and one before.
    #[inline(always)]
    unsafe fn pairs_at(at: *const u8, index: usize) -> u64 {
        // SAFETY: the caller ensures that the eight bytes and the one before are readable.
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
        _: Option<&mut CrcFold>,
    ) -> bool {
        // SAFETY: [CPU]: these lanes use no special feature.
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
            // SAFETY: [BLOCK].
            let this = unsafe { Self::word(at, index * 8) };
            *high |= this;
            let is = |byte: u8| Self::zero_bytes(this ^ every(byte));
            rare.0 |= is(b'\\');
            // SAFETY: [BLOCK], also for the byte before.
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
            // SAFETY: [BLOCK].
            let this = unsafe { Self::word(at, index) };
            mask | Self::gather(Self::zero_bytes(this ^ every(byte))) << index
        })
    }

    #[inline(always)]
    unsafe fn letters(at: *const u8) -> u64 {
        // SAFETY: [BLOCK], also for the byte before.
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
