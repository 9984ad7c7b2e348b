//! One pass over a stripe: what it reads, and what it writes down.

/// Bytes in a block: one bit of a mask each.
pub(super) const BLOCK: usize = 64;
/// Blocks in a group, the least that a pass reads.
pub(super) const GROUP_BLOCKS: usize = 8;
/// Bytes in a group.
pub(super) const GROUP: usize = GROUP_BLOCKS * BLOCK;
/// Groups in a stripe, the most that a pass reads before its notes are visited.
pub(super) const STRIPE_GROUPS: usize = 16;
/// Greater depths are noted as this: no group has so many braces that it could matter.
pub(super) const DEPTH_NOTED_MAX: i32 = 0x4000;

/// The masks of a group, block by block.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
pub(super) struct Group {
    /// `{` outside strings.
    pub(super) opens: [u64; GROUP_BLOCKS],
    /// `}` outside strings.
    pub(super) closes: [u64; GROUP_BLOCKS],
    /// The second bytes of pairs.
    pub(super) pairs: [u64; GROUP_BLOCKS],
    /// Open braces before the block, [`DEPTH_NOTED_MAX`] at most.
    pub(super) depths: [i16; GROUP_BLOCKS],
}

/// The masks of a stripe.
pub(super) struct Notes {
    pub(super) groups: [Group; STRIPE_GROUPS],
    /// For each block a bit: may a unit end in it, or does it have a pair?
    pub(super) worth: [u8; STRIPE_GROUPS],
}

/// The state between one block and the next.
#[derive(Clone, Copy, Default)]
pub(super) struct Carry {
    /// All ones inside a string.
    pub(super) in_string: u64,
    /// One when the last byte was a backslash that escapes the next.
    pub(super) escape: u64,
    /// One when the last byte was a backslash.
    pub(super) backslash: u64,
    pub(super) depth: i32,
}

/// Bytes whose checksum, begun with zero, equals that of all bytes that were folded into them.
pub(crate) type FoldedBytes = [u8; 4 * BLOCK];

/// A checksum that a pass computes in the same step.
pub(super) struct CrcFold {
    /// The checksum so far, to be added to the first four bytes.
    pub(super) begin: u32,
    pub(super) folded: FoldedBytes,
}

/// One pass over a stripe.
pub(super) trait Pass {
    /// Whether it can compute the checksum in the same step.
    const FOLDS: bool = false;

    /// Writes the masks of a stripe to `notes`, and returns whether a byte is not ASCII. `bytes` are
    /// the byte before the stripe and then the stripe itself: whole groups, at most
    /// [`STRIPE_GROUPS`].
    ///
    /// # Safety
    /// \[CPU\]: the processor must have the features that the implementation uses.
    unsafe fn note_all(
        bytes: &[u8],
        carry: &mut Carry,
        notes: &mut Notes,
        fold: Option<&mut CrcFold>,
    ) -> bool;
}
