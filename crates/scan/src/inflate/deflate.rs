//! Deflate (RFC 1951) for texts with many random digits and many long repetitions, such as log files.
//!
//! The method is libdeflate's: a loop without bounds checks while there is enough room, the next
//! symbol looked up before the last is written, and a careful loop for the end. It differs where
//! that helps on log files: one look-up gives two literals, the tables are smaller, and repetitions
//! are copied 32 bytes at a time.
//!
//! A wrong result cannot lose a finding: the text is used only once its checksum is verified. If this
//! code refuses the input, or the checksum is wrong, the file is inflated again by other code. But it
//! must never read or write out of bounds, whatever the input: the careful loop checks each access,
//! and the fast loop keeps these margins, which its SAFETY notes name:
//!
//! * **\[IN\]**: a round of the fast loop begins more than [`INPUT_MARGIN`] bytes before the end of the
//!   input. It fills the buffer three times at most, moves on by at most 7 bytes each time, and the
//!   last fill reads 8: 22 bytes.
//! * **\[OUT\]**: it begins more than [`OUTPUT_MARGIN`] bytes before the end of the output. It writes
//!   three entries of literals, two bytes each, and one repetition of at most 258 bytes, which may
//!   write up to 96 bytes too many: 360 bytes.
//! * **\[BACK\]**: a distance is at least 1, because the table of distances begins with 1, and at most
//!   the number of bytes written, which is checked before each copy.
//!
//! \[IN\] and \[OUT\] are asserted in debug builds, and thus in tests and in the fuzz run.

use super::codes::{
    Codes, DISTANCE_BITS, DISTANCE_SYMBOLS, DISTANCE_TAKES_MAX, LENGTH_BITS, LENGTH_SYMBOLS,
    LENGTH_TAKES_MAX, LITLEN_BITS, LITLEN_SYMBOLS, LengthCode,
};
use super::error::WholeError;

/// Bits in the buffer after filling it, at least.
const FILLED_BITS: u32 = 56;
/// Extra bits of a distance, at most.
const DISTANCE_EXTRA_BITS_MAX: u32 = 13;
// A round of the fast loop consumes three entries of literals, or two and a length. The bits that are
// left are enough to look up the next entry.
const _: () =
    assert!(2 * LITLEN_BITS + LENGTH_TAKES_MAX <= FILLED_BITS && 3 * LITLEN_BITS <= FILLED_BITS);
const _: () = assert!(2 * LITLEN_BITS + LENGTH_TAKES_MAX + DISTANCE_BITS <= u64::BITS);

/// Bytes copied at a time.
const COPIED: usize = 32;
/// Copies before the loop checks whether that was all. Most repetitions need one, but the processor
/// predicts badly whether they need another.
const COPIES: usize = 3;
/// Longest repetition.
const LENGTH_MAX: usize = 258;
/// Bytes of input that a round of the fast loop needs: \[IN\].
const INPUT_MARGIN: usize = 32;
/// Bytes of room that a round of the fast loop needs: \[OUT\].
const OUTPUT_MARGIN: usize = 3 * 2 + LENGTH_MAX + COPIES * COPIED;

/// The most repetitions of a length that one symbol stands for, less one: so many lengths may be
/// written beyond those of the block.
const LENGTHS_BEYOND_MAX: usize = 138 - 1;

/// Does this processor have all features that [`inflate`] needs?
pub(super) fn is_available() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Inflates the deflate data with which `input` begins. Returns the number of bytes read and written.
///
/// # Safety
/// [`is_available`] must be true.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,bmi1,bmi2"))]
pub(super) unsafe fn inflate(
    codes: &mut Codes,
    input: &[u8],
    out: &mut [u8],
) -> Result<(usize, usize), WholeError> {
    let mut bits = Bits { input, at: 0, buffer: 0, left: 0, beyond: 0 };
    let mut made = 0;
    loop {
        bits.fill()?;
        let is_last = bits.take(1) == 1;
        match bits.take(2) {
            0 => made += stored(&mut bits, &mut out[made..])?,
            kind @ (1 | 2) => {
                if kind == 1 {
                    set_fixed(codes).ok_or(WholeError::Damaged)?;
                } else {
                    read_codes(&mut bits, codes)?;
                }
                let mut ended = false;
                if bits.input.len() - bits.at > INPUT_MARGIN && out.len() - made > OUTPUT_MARGIN {
                    // SAFETY: both margins were checked, and the caller ensures the features.
                    ended = unsafe { fast(&mut bits, codes, out, &mut made)? };
                }
                if !ended {
                    careful(&mut bits, codes, out, &mut made)?;
                }
            }
            _ => return Err(WholeError::Damaged),
        }
        if is_last {
            bits.go_back()?;
            return Ok((bits.at, made));
        }
    }
}

/// The input, bit by bit.
struct Bits<'i> {
    input: &'i [u8],
    /// How much of it has been read into the buffer.
    at: usize,
    /// The next bits, the lowest first.
    buffer: u64,
    /// Number of bits in the buffer, in the low six bits of this; the others mean nothing. The buffer
    /// may hold more bits: the same that will be read again.
    left: u32,
    /// Zero bytes in the buffer that stand for input beyond its end.
    beyond: usize,
}

impl Bits<'_> {
    #[inline(always)]
    fn left(&self) -> u32 {
        self.left % u64::BITS
    }

    /// Fills the buffer to at least [`FILLED_BITS`].
    ///
    /// # Safety
    /// At least eight bytes of input must be left.
    #[inline(always)]
    unsafe fn fill_fast(&mut self) {
        // SAFETY: the caller ensures that eight bytes are left.
        let word = unsafe { self.input.as_ptr().add(self.at).cast::<u64>().read_unaligned() };
        self.buffer |= u64::from_le(word) << self.left();
        self.at += 7 - (self.left() >> 3) as usize;
        self.left |= FILLED_BITS;
    }

    /// The same anywhere. Zeros follow the end; more of them than the buffer holds are damage.
    #[inline(always)]
    fn fill(&mut self) -> Result<(), WholeError> {
        self.left = self.left();
        if self.input.len() - self.at >= 8 {
            // SAFETY: eight bytes are left.
            unsafe { self.fill_fast() };
            return Ok(());
        }
        while self.left < FILLED_BITS {
            if let Some(byte) = self.input.get(self.at) {
                self.buffer |= u64::from(*byte) << self.left;
                self.at += 1;
            } else {
                self.beyond += 1;
                if self.beyond > 8 {
                    return Err(WholeError::Damaged);
                }
            }
            self.left += 8;
        }
        Ok(())
    }

    #[inline(always)]
    fn skip(&mut self, count: u32) {
        self.buffer >>= count;
        self.left = self.left.wrapping_sub(count);
    }

    #[inline(always)]
    fn take(&mut self, count: u32) -> u64 {
        let taken = self.buffer & ((1 << count) - 1);
        self.skip(count);
        taken
    }

    /// Returns whole bytes from the buffer to the input and drops the rest of a byte. Damage if zeros
    /// beyond the end were used as input.
    fn go_back(&mut self) -> Result<(), WholeError> {
        let whole = (self.left() >> 3) as usize;
        let of_input = whole.checked_sub(self.beyond).ok_or(WholeError::Damaged)?;
        self.at = self.at.checked_sub(of_input).ok_or(WholeError::Damaged)?;
        (self.buffer, self.left, self.beyond) = (0, 0, 0);
        Ok(())
    }
}

/// A block that is not compressed.
fn stored(bits: &mut Bits<'_>, out: &mut [u8]) -> Result<usize, WholeError> {
    bits.go_back()?;
    let rest = &bits.input[bits.at..];
    let (head, rest) = rest.split_first_chunk::<4>().ok_or(WholeError::Damaged)?;
    let length = u16::from_le_bytes([head[0], head[1]]);
    if length != !u16::from_le_bytes([head[2], head[3]]) {
        return Err(WholeError::Damaged);
    }
    let length = usize::from(length);
    let room = out.get_mut(..length).ok_or(WholeError::TooLarge)?;
    room.copy_from_slice(rest.get(..length).ok_or(WholeError::Damaged)?);
    bits.at += head.len() + length;
    Ok(length)
}

/// The codes of a block without codes of its own.
#[inline(always)]
fn set_fixed(codes: &mut Codes) -> Option<()> {
    let mut litlen = [8; LITLEN_SYMBOLS];
    litlen[144..256].fill(9);
    litlen[256..280].fill(7);
    codes.set(&litlen, &[5; DISTANCE_SYMBOLS])
}

/// Reads the codes at the beginning of a block.
#[inline(always)]
fn read_codes(bits: &mut Bits<'_>, codes: &mut Codes) -> Result<(), WholeError> {
    const ORDER: [usize; LENGTH_SYMBOLS] =
        [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let litlens = 257 + bits.take(5) as usize;
    let distances = 1 + bits.take(5) as usize;
    let given = 4 + bits.take(4) as usize;
    let mut of_lengths = [0; LENGTH_SYMBOLS];
    for symbol in &ORDER[..given] {
        if bits.left() < 3 {
            bits.fill()?;
        }
        of_lengths[*symbol] = bits.take(3) as u8;
    }
    let code = LengthCode::new(&of_lengths).ok_or(WholeError::Damaged)?;
    let mut lengths = [0_u8; LITLEN_SYMBOLS + DISTANCE_SYMBOLS + LENGTHS_BEYOND_MAX];
    let all = litlens + distances;
    let mut at = 0;
    while at < all {
        // A symbol has at most seven extra bits.
        if bits.left() < LENGTH_BITS + 7 {
            bits.fill()?;
        }
        let entry = code.length(bits.buffer);
        bits.skip(entry.takes());
        // Always writes as many as there may be: that is faster than writing as many as there are.
        const FEW: usize = 10;
        let (length, times) = match entry.number() {
            length @ 0..16 => (length as u8, 1),
            16 if at == 0 => return Err(WholeError::Damaged),
            16 => (lengths[at - 1], 3 + bits.take(2) as usize),
            17 => (0, 3 + bits.take(3) as usize),
            _ => (0, 11 + bits.take(7) as usize),
        };
        lengths[at..at + FEW].fill(length);
        if times > FEW {
            lengths[at..=at + LENGTHS_BEYOND_MAX].fill(length);
        }
        at += times;
    }
    if at != all {
        return Err(WholeError::Damaged);
    }
    codes.set(&lengths[..litlens], &lengths[litlens..all]).ok_or(WholeError::Damaged)
}

/// Inflates until the block ends (true) or one of the margins is reached (false).
///
/// # Safety
/// More than [`INPUT_MARGIN`] bytes of input and [`OUTPUT_MARGIN`] bytes of room must be left, and
/// [`is_available`] must be true.
// A function of its own, and with pointers, because of registers: inlined, or with indices, it takes a
// twentieth longer.
#[inline(never)]
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,bmi1,bmi2"))]
unsafe fn fast(
    bits: &mut Bits<'_>,
    codes: &Codes,
    out: &mut [u8],
    made: &mut usize,
) -> Result<bool, WholeError> {
    let (input, input_length) = (bits.input.as_ptr(), bits.input.len());
    let (begin, room) = (out.as_mut_ptr(), out.len());
    // SAFETY: the caller ensures the margins, so all four pointers are within input and output.
    let (mut next, input_end, mut to, output_end) = unsafe {
        (
            input.add(bits.at),
            input.add(input_length - INPUT_MARGIN),
            begin.add(*made),
            begin.add(room - OUTPUT_MARGIN),
        )
    };
    let (mut buffer, mut left) = (bits.buffer, bits.left);
    // As [`Bits::fill_fast`].
    macro_rules! fill {
        () => {
            debug_assert!(next.addr() + 8 <= input.addr() + input_length, "read beyond the input");
            // SAFETY: [IN].
            unsafe {
                buffer |= u64::from_le(next.cast::<u64>().read_unaligned()) << (left % u64::BITS);
                next = next.add(7).sub((left >> 3 & 7) as usize);
            }
            left |= FILLED_BITS;
        };
    }
    macro_rules! skip_entry {
        ($entry:ident) => {
            buffer >>= $entry.takes();
            left = left.wrapping_sub($entry.takes_roughly());
        };
    }
    macro_rules! write {
        ($entry:ident) => {
            debug_assert!(to.addr() + 2 <= begin.addr() + room, "written beyond the room");
            // SAFETY: [OUT]: an entry has at most two literals.
            unsafe {
                to.cast::<[u8; 2]>().write_unaligned($entry.bytes());
                to = to.add($entry.literals());
            }
        };
    }
    macro_rules! end_at_margins {
        () => {
            if to >= output_end || next >= input_end {
                break false;
            }
        };
    }
    // Literals that end a round.
    macro_rules! write_and_continue {
        ($entry:ident) => {
            write!($entry);
            $entry = codes.litlen(buffer);
            fill!();
            end_at_margins!();
            continue;
        };
    }
    fill!();
    let mut entry = codes.litlen(buffer);
    // The position of the loop in a cache line makes a difference of 1 or 2 % of a scan, so it must not
    // depend on the rest of the program. The other positions, in steps of 16 bytes, are slower on Zen 4.
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it is padding and does nothing.
    unsafe {
        std::arch::asm!(".p2align 6", ".nops 48", options(nomem, nostack, preserves_flags));
    }
    let ended = loop {
        // At most two entries of literals, and then usually a length, with or without a literal before
        // it. The next entry has been looked up and the buffer filled, here and wherever the loop
        // continues.
        let mut before = buffer;
        skip_entry!(entry);
        if entry.is_literals() {
            write!(entry);
            entry = codes.litlen(buffer);
            before = buffer;
            skip_entry!(entry);
            if entry.is_literals() {
                write!(entry);
                entry = codes.litlen(buffer);
                before = buffer;
                skip_entry!(entry);
                if entry.is_literals() {
                    write_and_continue!(entry);
                }
            }
        }
        if entry.is_exception() {
            if entry.is_end() {
                break true;
            }
            entry = codes.litlen_at(entry, buffer);
            before = buffer;
            skip_entry!(entry);
            if entry.is_literals() {
                write_and_continue!(entry);
            }
            if entry.is_end() {
                break true;
            }
        }
        write!(entry);
        let length = entry.length(before);
        let mut far = codes.distance(buffer);
        if far.is_exception() {
            if left % u64::BITS < DISTANCE_TAKES_MAX + LITLEN_BITS - 1 {
                fill!();
            }
            buffer >>= DISTANCE_BITS;
            left = left.wrapping_sub(DISTANCE_BITS);
            far = codes.distance_at(far, buffer);
        } else if left % u64::BITS < DISTANCE_BITS + DISTANCE_EXTRA_BITS_MAX + LITLEN_BITS - 1 {
            fill!();
        }
        let distance = far.distance(buffer);
        skip_entry!(far);
        if distance > to.addr() - begin.addr() {
            return Err(WholeError::Damaged);
        }
        // Looked up and filled before the copy, so that the processor can do both at the same time.
        entry = codes.litlen(buffer);
        fill!();
        debug_assert!(
            to.addr() + length + COPIES * COPIED <= begin.addr() + room,
            "copied beyond the room"
        );
        // SAFETY: [BACK], [OUT].
        to = unsafe { repeat(to, distance, length) };
        end_at_margins!();
    };
    bits.at = next.addr() - input.addr();
    (bits.buffer, bits.left) = (buffer, left);
    *made = to.addr() - begin.addr();
    Ok(ended)
}

/// Copies the `length` bytes that begin `distance` before `to` to `to`; returns their end.
///
/// # Safety
/// \[BACK\]: `distance` bytes must have been written before `to`, at least one. \[OUT\]: there must be
/// room for `length` bytes and [`COPIES`] times [`COPIED`] more.
#[inline(always)]
unsafe fn repeat(to: *mut u8, distance: usize, length: usize) -> *mut u8 {
    // SAFETY: [OUT]. [BACK]: each copy reads bytes that were written before it.
    unsafe {
        let end = to.add(length);
        if distance < COPIED {
            repeat_near(to, distance, length);
            return end;
        }
        let (mut from, mut to) = (to.sub(distance).cast_const(), to);
        loop {
            for at in 0..COPIES {
                let bytes = from.add(at * COPIED).cast::<[u8; COPIED]>().read_unaligned();
                to.add(at * COPIED).cast::<[u8; COPIED]>().write_unaligned(bytes);
            }
            (from, to) = (from.add(COPIES * COPIED), to.add(COPIES * COPIED));
            if to >= end {
                return end;
            }
        }
    }
}

/// [`repeat`] for distances so short that a copy would read bytes that it has not written yet.
///
/// # Safety
/// \[BACK\] and \[OUT\], as there.
#[cold]
unsafe fn repeat_near(to: *mut u8, distance: usize, length: usize) {
    const WORD: usize = 8;
    // SAFETY: [BACK], [OUT].
    unsafe {
        let from = to.sub(distance).cast_const();
        if distance == 1 {
            to.write_bytes(*from, length);
        } else if distance >= WORD {
            for at in (0..length).step_by(WORD) {
                let bytes = from.add(at).cast::<[u8; WORD]>().read_unaligned();
                to.add(at).cast::<[u8; WORD]>().write_unaligned(bytes);
            }
        } else {
            for at in 0..length {
                *to.add(at) = *from.add(at);
            }
        }
    }
}

/// Inflates until the block ends, near the end of the input or of the room.
fn careful(
    bits: &mut Bits<'_>,
    codes: &Codes,
    out: &mut [u8],
    made: &mut usize,
) -> Result<(), WholeError> {
    loop {
        bits.fill()?;
        let mut entry = codes.litlen(bits.buffer);
        let mut before = bits.buffer;
        bits.skip(entry.takes());
        if entry.is_exception() && !entry.is_end() {
            entry = codes.litlen_at(entry, bits.buffer);
            before = bits.buffer;
            bits.skip(entry.takes());
        }
        for byte in &entry.bytes()[..entry.literals()] {
            *out.get_mut(*made).ok_or(WholeError::TooLarge)? = *byte;
            *made += 1;
        }
        if entry.is_literals() {
            continue;
        }
        if entry.is_end() {
            return Ok(());
        }
        let length = entry.length(before);
        let mut far = codes.distance(bits.buffer);
        if far.is_exception() {
            bits.skip(DISTANCE_BITS);
            far = codes.distance_at(far, bits.buffer);
        }
        let distance = far.distance(bits.buffer);
        bits.skip(far.takes());
        if distance > *made {
            return Err(WholeError::Damaged);
        }
        if length > out.len() - *made {
            return Err(WholeError::TooLarge);
        }
        for at in *made..*made + length {
            out[at] = out[at - distance];
        }
        *made += length;
    }
}

#[cfg(test)]
mod tests;
