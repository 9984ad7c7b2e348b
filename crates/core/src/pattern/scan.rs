//! Where the quotes and the brackets of a JSON text are.
//!
//! One pass over the bytes turns every 64 of them into four bit masks, from which strings end and
//! containers are skipped by counting bits instead of looking at bytes. Finding each string's end
//! with `memchr` was set aside: the strings of an event are short, and the cost of one call each
//! is more than that of the whole pass.

/// Bytes in one block: one for each bit of a mask.
const BLOCK: usize = 64;

/// Masks of 64 bytes; the lowest bit is the first byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Block {
    /// Quotes that open or close a string.
    quote: u64,
    /// Backslashes.
    slash: u64,
    /// Bytes from an opening quote up to the one before the closing quote.
    inside: u64,
}

/// The masks of a text. Its memory is kept from one text to the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    blocks: Vec<Block>,
    /// Whether there is any backslash.
    slashes: bool,
}

impl Index {
    /// Replaces the index by that of `bytes`.
    pub(super) fn build(&mut self, bytes: &[u8]) {
        self.blocks.clear();
        self.blocks.reserve(bytes.len().div_ceil(BLOCK));
        // Most texts have no backslash, and one search for it costs much less than looking for it
        // in every block.
        let plain = memchr::memchr(b'\\', bytes);
        self.slashes = plain.is_some();
        let plain = plain.unwrap_or(bytes.len()) / BLOCK;
        let mut carry = Carry::default();
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        let (plain, others) = blocks.split_at(plain);
        self.blocks.extend(plain.iter().map(|block| carry.block(equal(block, b'"'), 0)));
        self.blocks.extend(others.iter().map(|block| carry.escaped_block(block)));
        if !rest.is_empty() {
            let mut padded = [b' '; BLOCK];
            padded[..rest.len()].copy_from_slice(rest);
            self.blocks.push(carry.escaped_block(&padded));
        }
    }

    /// The first quote at or after `from`. Inside a string that is the one which closes it.
    #[inline]
    pub(super) fn next_quote(&self, from: usize) -> Option<usize> {
        let mut at = from / BLOCK;
        let mut quote = self.blocks.get(at)?.quote & (u64::MAX << (from % BLOCK));
        while quote == 0 {
            at += 1;
            quote = self.blocks.get(at)?.quote;
        }
        Some(at * BLOCK + quote.trailing_zeros() as usize)
    }

    /// Whether there is a backslash in `from..to`.
    #[inline]
    pub(super) fn has_slash(&self, from: usize, to: usize) -> bool {
        self.slashes && from < to && self.has_slash_in(from, to)
    }

    fn has_slash_in(&self, from: usize, to: usize) -> bool {
        let (first, last) = (from / BLOCK, (to - 1) / BLOCK);
        let low = u64::MAX << (from % BLOCK);
        let high = u64::MAX >> (BLOCK - 1 - (to - 1) % BLOCK);
        let Some(blocks) = self.blocks.get(first..=last) else { return false };
        match blocks {
            [one] => one.slash & low & high != 0,
            [head, middle @ .., tail] => {
                head.slash & low != 0
                    || tail.slash & high != 0
                    || middle.iter().any(|block| block.slash != 0)
            }
            [] => false,
        }
    }

    /// The byte after the container that opens at `open` in the text the index was built from.
    ///
    /// Brackets are counted and not paired: `{]` passes.
    #[inline]
    pub(super) fn skip_container(&self, bytes: &[u8], open: usize) -> Option<usize> {
        let start = open - open % BLOCK;
        let mut mask = u64::MAX << (open % BLOCK);
        let mut depth: usize = 0;
        let (blocks, rest) = bytes.get(start..)?.as_chunks::<BLOCK>();
        let outlines = self.blocks.get(start / BLOCK..)?;
        for (n, (block, outline)) in blocks.iter().zip(outlines).enumerate() {
            if let Some(end) = outline.closes(block, mask, &mut depth) {
                return Some(start + n * BLOCK + end);
            }
            mask = u64::MAX;
        }
        let mut padded = [b' '; BLOCK];
        padded[..rest.len()].copy_from_slice(rest);
        let end = outlines.get(blocks.len())?.closes(&padded, mask, &mut depth)?;
        Some(start + blocks.len() * BLOCK + end)
    }
}

impl Block {
    /// Counts the brackets under `mask` and gives the byte after the one that brings the depth back
    /// to zero. The first bracket must be an opening one.
    #[inline(always)]
    fn closes(self, bytes: &[u8; BLOCK], mask: u64, depth: &mut usize) -> Option<usize> {
        // Made here and not for the whole text, because most of a text is never skipped over.
        let mut found = brackets(bytes) & mask & !self.inside;
        while found != 0 {
            let bit = found.trailing_zeros() as usize;
            let byte = bytes[bit] | 0x20;
            // Opening and closing follow no pattern that a processor could guess, so no branch.
            *depth = (*depth + usize::from(byte == b'{')).wrapping_sub(usize::from(byte == b'}'));
            if *depth == 0 {
                return Some(bit + 1);
            }
            found &= found - 1;
        }
        None
    }
}

/// What one block leaves to the next.
#[derive(Debug, Default)]
struct Carry {
    /// All ones when the block ended inside a string.
    in_string: u64,
    /// One when the last byte escapes the first of the next block.
    escaped: u64,
}

impl Carry {
    /// For a block in which there may be backslashes.
    #[inline(always)]
    fn escaped_block(&mut self, bytes: &[u8; BLOCK]) -> Block {
        let slash = equal(bytes, b'\\');
        let mut quote = equal(bytes, b'"');
        if slash | self.escaped != 0 {
            quote &= !self.escapes(slash);
        }
        self.block(quote, slash)
    }

    #[inline(always)]
    fn block(&mut self, quote: u64, slash: u64) -> Block {
        // Each bit becomes the parity of the quotes up to it.
        let mut inside = quote;
        inside ^= inside << 1;
        inside ^= inside << 2;
        inside ^= inside << 4;
        inside ^= inside << 8;
        inside ^= inside << 16;
        inside ^= inside << 32;
        inside ^= self.in_string;
        self.in_string = 0_u64.wrapping_sub(inside >> 63);
        Block { quote, slash, inside }
    }

    /// The bytes that a backslash escapes.
    fn escapes(&mut self, slash: u64) -> u64 {
        let mut escaped = self.escaped;
        let mut rest = slash & !escaped;
        self.escaped = 0;
        while rest != 0 {
            let bit = rest & rest.wrapping_neg();
            let next = bit << 1;
            if next == 0 {
                self.escaped = 1;
            }
            escaped |= next;
            rest &= !(bit | next);
        }
        escaped
    }
}

/// One bit for each byte that equals `byte`.
#[inline(always)]
fn equal(bytes: &[u8; BLOCK], byte: u8) -> u64 {
    mask(bytes, |other| other == byte)
}

/// One bit for each bracket or brace, and for `y`, `_` and DEL, which sound JSON has only inside
/// strings.
#[inline(always)]
fn brackets(bytes: &[u8; BLOCK]) -> u64 {
    // The four differ in three bits, and one comparison costs less than two.
    mask(bytes, |byte| (byte | 0x26) == (b'{' | 0x26))
}

/// The bit for each byte's word. A table, because a shift is not recognised as a constant.
const ROW: [u8; BLOCK] = {
    let mut row = [0; BLOCK];
    let mut n = 0;
    while n < BLOCK {
        row[n] = 1 << (n / 8);
        n += 1;
    }
    row
};

/// One bit for each byte for which `wanted` holds.
///
/// Written so that compilers make it a few vector instructions. Those instructions of x86-64 that
/// give the mask at once cannot be called without `unsafe`.
#[inline(always)]
fn mask(bytes: &[u8; BLOCK], wanted: impl Fn(u8) -> bool) -> u64 {
    let mut found = [0_u8; BLOCK];
    for ((found, byte), bit) in found.iter_mut().zip(bytes).zip(&ROW) {
        *found = if wanted(*byte) { *bit } else { 0 };
    }
    // The eight words of the block are laid over one another: bit n of byte k then says whether
    // byte 8n + k of the block is wanted.
    let (words, _) = found.as_chunks::<8>();
    let over = words.iter().fold(0, |over, word| over | u64::from_le_bytes(*word));
    if over == 0 { 0 } else { transpose(over) }
}

/// Swaps the rows and columns of eight by eight bits.
#[inline(always)]
fn transpose(mut x: u64) -> u64 {
    let mut t = (x ^ (x >> 7)) & 0x00aa_00aa_00aa_00aa;
    x ^= t ^ (t << 7);
    t = (x ^ (x >> 14)) & 0x0000_cccc_0000_cccc;
    x ^= t ^ (t << 14);
    t = (x ^ (x >> 28)) & 0x0000_0000_f0f0_f0f0;
    x ^ t ^ (t << 28)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(text: &str) -> Index {
        let mut index = Index::default();
        index.build(text.as_bytes());
        index
    }

    #[test]
    fn masks_have_the_bits_of_their_bytes() {
        for start in 0..=255_u8 {
            let mut bytes = [0; BLOCK];
            for (n, b) in bytes.iter_mut().enumerate() {
                *b = start.wrapping_mul(31).wrapping_add((n * n) as u8);
            }
            bytes[usize::from(start) % BLOCK] = b"\"\\{}[]"[usize::from(start) % 6];
            let bits = |wanted: &[u8]| {
                (0..BLOCK)
                    .fold(0_u64, |mask, n| mask | (u64::from(wanted.contains(&bytes[n])) << n))
            };
            assert_eq!(equal(&bytes, b'"'), bits(b"\""));
            assert_eq!(brackets(&bytes) & !bits(b"yY_\x7f"), bits(b"{[}]"));
        }
    }

    #[test]
    fn escaped_quotes_do_not_end_strings_wherever_blocks_meet() {
        for pad in 0..140 {
            for slashes in 0..6 {
                let text = format!("{}\"{}\"x\" ", " ".repeat(pad), "\\".repeat(slashes));
                let end = index(&text).next_quote(pad + 1);
                let first = pad + 1 + slashes;
                assert_eq!(end, Some(if slashes % 2 == 0 { first } else { first + 2 }));
            }
        }
    }

    #[test]
    fn containers_are_skipped_over_strings_and_nesting() {
        for pad in 0..140 {
            let inner = "{\"}\":[[],{}],\"\\\"]\":\"{[\"}";
            let text = format!("{}[{inner},{inner}]]", " ".repeat(pad));
            assert_eq!(index(&text).skip_container(text.as_bytes(), pad), Some(text.len() - 1));
        }
        let deep = "[".repeat(500) + &"]".repeat(500);
        assert_eq!(index(&deep).skip_container(deep.as_bytes(), 0), Some(1000));
        assert_eq!(index(&deep).skip_container(deep.as_bytes(), 499), Some(501));
        for cut in ["[[]", "[\"]", "["] {
            assert_eq!(index(cut).skip_container(cut.as_bytes(), 0), None);
        }
    }

    #[test]
    fn backslashes_are_found_between_bounds() {
        let text = format!("{}\\{}", "a".repeat(100), "b".repeat(100));
        let index = index(&text);
        assert!(index.has_slash(0, 201) && index.has_slash(100, 101));
        assert!(!index.has_slash(0, 100) && !index.has_slash(101, 201) && !index.has_slash(5, 5));
    }
}
