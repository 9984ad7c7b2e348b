//! A pass block by block, for processors whose masks of a block are 64-bit numbers.

// Reads through pointers; each says why it is sound.
#![allow(unsafe_code)]

use super::pass::{BLOCK, Carry, DEPTH_NOTED_MAX, GROUP, GROUP_BLOCKS, Notes};

/// The masks of one block.
pub(super) struct Masks {
    pub(super) quotes: u64,
    pub(super) opens: u64,
    pub(super) closes: u64,
}

/// How to get at the masks of a block, for [`note_lanes`].
pub(super) trait Lanes: Sized {
    /// Collects bytes that are not ASCII.
    type High: Copy;
    /// Rare things in a block: pairs and backslashes.
    type Rare: Copy;
    fn none_high() -> Self::High;
    fn any_high(high: Self::High) -> bool;
    /// Were there backslashes in either block, and were there pairs of letters in each?
    fn any_rare(rare: [Self::Rare; 2]) -> (bool, [bool; 2]);
    /// Reads [`BLOCK`] bytes at `at`, and the byte before.
    ///
    /// # Safety
    /// \[BLOCK\] and \[CPU\].
    unsafe fn masks(at: *const u8, high: &mut Self::High) -> (Masks, Self::Rare);
    /// The places of a byte in a block.
    ///
    /// # Safety
    /// \[BLOCK\] without the byte before, and \[CPU\].
    unsafe fn places(at: *const u8, byte: u8) -> u64;
    /// Second bytes of `oo` in any case, `tN` and `sC`.
    ///
    /// # Safety
    /// \[BLOCK\] and \[CPU\].
    unsafe fn letters(at: *const u8) -> u64;
    /// Bit n of the result is the parity of the bits 0 to n.
    ///
    /// # Safety
    /// \[CPU\].
    unsafe fn prefix_xor(bits: u64) -> u64;
}

/// [`super::pass::Pass::note_all`] with one processor's lanes, block by block.
///
/// A mask of 64 bits is slow to come out of its register (two cycles on Zen 4, and the loop has
/// little else to wait for), so only quotes and braces do here. Of pairs and backslashes it asks
/// whether there are any; the exact masks are computed again for the few blocks that have some.
///
/// # Safety
/// \[CPU\].
#[inline(always)]
pub(super) unsafe fn note_lanes<L: Lanes>(
    bytes: &[u8],
    carry: &mut Carry,
    notes: &mut Notes,
) -> bool {
    let mut high = L::none_high();
    let mut state = *carry;
    let begins = (1..bytes.len()).step_by(GROUP);
    for ((begin, group), worth) in begins.zip(&mut notes.groups).zip(&mut notes.worth) {
        // SAFETY: [BLOCK]: `begin` is below the length.
        let bytes = unsafe { bytes.as_ptr().add(begin) };
        let (mut paired, mut noted) = (0_u8, 0_u8);
        for first in (0..GROUP_BLOCKS).step_by(2) {
            // SAFETY: [BLOCK].
            let at = unsafe { [bytes.add(first * BLOCK), bytes.add((first + 1) * BLOCK)] };
            // SAFETY: [BLOCK], [CPU].
            let masks = unsafe { [L::masks(at[0], &mut high), L::masks(at[1], &mut high)] };
            let (any_backslash, mut any_pair) = L::any_rare([masks[0].1, masks[1].1]);
            let mut quotes = [masks[0].0.quotes, masks[1].0.quotes];
            if any_backslash | (state.backslash != 0) {
                for half in 0..2 {
                    // SAFETY: [BLOCK], [CPU].
                    let backslashes = unsafe { L::places(at[half], b'\\') };
                    quotes[half] &= !escaped(backslashes, &mut state.escape);
                    any_pair[half] |= (backslashes << 1 | state.backslash) != 0;
                    state.backslash = backslashes >> 63;
                }
            }
            for half in 0..2 {
                // SAFETY: [CPU].
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
            // SAFETY: [BLOCK], also for `at.sub(1)`; [CPU].
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
/// "Parsing gigabytes of JSON per second", 2019): an addition that carries through runs of backslashes
/// shows whether they begin at an even or at an odd bit.
#[cold]
pub(super) fn escaped(backslashes: u64, carry: &mut u64) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let backslashes = backslashes & !*carry;
    let follows = (backslashes << 1) | *carry;
    let odd_starts = backslashes & !EVEN & !follows;
    let (even_runs, overflow) = odd_starts.overflowing_add(backslashes);
    *carry = u64::from(overflow);
    (EVEN ^ (even_runs << 1)) & follows
}
