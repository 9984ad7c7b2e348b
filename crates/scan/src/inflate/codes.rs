//! The two codes of a deflate block as tables: so many bits of the input say at once which symbol
//! they begin with and how many bits it takes, and, where they are two literals, both.
//!
//! An entry is 32 bits wide:
//!
//! | Bits | A literal, or two | A length or distance | A pointer to a table of its own |
//! |---|---|---|---|
//! | 0 to 5 | bits that it takes | bits that it takes, extra bits included | bits that come before |
//! | 6 and 7 | how many literals | 0 | 0 |
//! | 8 to 13 | the first literal | bits of the symbol alone | bits of that table's index |
//! | 14 | | [`END`] | 0 |
//! | 15 | | [`EXCEPTION`] with [`END`] alone | [`EXCEPTION`] |
//! | 16 to 31 | the second literal | length or distance without the extra bits | where it begins |

/// Bits of the input that are looked up at once for a literal or length. Ten hold two digits of the
/// random numbers that log files are full of; eleven gain nothing and take longer to build.
pub(super) const LITLEN_BITS: u32 = 10;
/// The same for a distance.
pub(super) const DISTANCE_BITS: u32 = 8;
/// The same for the lengths of the codes themselves, none of which is longer.
pub(super) const LENGTH_BITS: u32 = 7;

/// Entries of a table and of all that it points to: 1334 at most with 288 symbols, 402 with 32.
/// Powers of two, so that an index is cut to size by a mask.
const LITLEN_ENTRIES: usize = 2048;
const DISTANCE_ENTRIES: usize = 512;

/// Symbols for literals, the end of a block and lengths.
pub(super) const LITLEN_SYMBOLS: usize = 288;
/// Symbols for distances.
pub(super) const DISTANCE_SYMBOLS: usize = 32;
/// Symbols for the lengths of codes.
pub(super) const LENGTH_SYMBOLS: usize = 19;
/// Longest codeword.
const CODEWORD_BITS_MAX: usize = 15;
/// Longest codeword of a length with its extra bits.
pub(super) const LENGTH_TAKES_MAX: u32 = 15 + 5;
/// Longest codeword of a distance with its extra bits.
pub(super) const DISTANCE_TAKES_MAX: u32 = 15 + 13;

/// The low bits of an entry: how many bits of the input it takes.
const TAKES: u32 = 0x3f;
/// One literal. Two of them are twice this.
const LITERAL: u32 = 1 << 6;
const LITERALS: u32 = 3 << 6;
const END: u32 = 1 << 14;
const EXCEPTION: u32 = 1 << 15;

/// What bits of the input say.
#[derive(Clone, Copy)]
pub(super) struct Entry(u32);

impl Entry {
    /// How many bits of the input it takes.
    #[inline(always)]
    pub(super) fn takes(self) -> u32 {
        self.0 & TAKES
    }

    /// Minus this, in its low six bits, is minus [`Entry::takes`].
    #[inline(always)]
    pub(super) fn takes_roughly(self) -> u32 {
        self.0
    }

    /// How many literals it is.
    #[inline(always)]
    pub(super) fn literals(self) -> usize {
        (self.0 >> 6 & 3) as usize
    }

    #[inline(always)]
    pub(super) fn is_literal(self) -> bool {
        self.0 & LITERALS != 0
    }

    /// The literals; when there is one, the second means nothing.
    #[inline(always)]
    pub(super) fn bytes(self) -> [u8; 2] {
        [(self.0 >> 8) as u8, (self.0 >> 16) as u8]
    }

    /// Of what is no literal: is it a pointer or the end of a block?
    #[inline(always)]
    pub(super) fn is_exception(self) -> bool {
        self.0 & EXCEPTION != 0
    }

    /// Of what is no literal: is it the end of a block?
    #[inline(always)]
    pub(super) fn is_end(self) -> bool {
        self.0 & END != 0
    }

    /// The length or distance, extra bits included, that the bits say which it takes.
    #[inline(always)]
    pub(super) fn number(self, bits: u64) -> usize {
        let taken = bits & ((1 << self.takes()) - 1);
        (self.0 >> 16) as usize + (taken >> (self.0 >> 8 & TAKES)) as usize
    }

    /// Where a pointer leads, with the bits that follow those it takes.
    #[inline(always)]
    fn leads_to(self, bits: u64) -> usize {
        (self.0 >> 16) as usize + (bits & ((1 << (self.0 >> 8 & TAKES)) - 1)) as usize
    }

    /// The same symbol at the end of a codeword of so many bits.
    const fn after(self, bits: u32) -> Self {
        if self.0 & LITERALS != 0 { Self(self.0 + bits) } else { Self(self.0 + bits + (bits << 8)) }
    }
}

/// The codes of a block.
pub(super) struct Codes {
    litlen: [Entry; LITLEN_ENTRIES],
    distance: [Entry; DISTANCE_ENTRIES],
}

impl Codes {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            litlen: [Entry(0); LITLEN_ENTRIES],
            distance: [Entry(0); DISTANCE_ENTRIES],
        })
    }

    /// Takes the codes whose codewords have these lengths, 0 for symbols that have none.
    #[inline(always)]
    pub(super) fn set(&mut self, litlen: &[u8], distance: &[u8]) -> Option<()> {
        build(&mut self.distance, DISTANCE_BITS, distance, |symbol| DISTANCES[symbol])?;
        build(&mut self.litlen, LITLEN_BITS, litlen, |symbol| LITLENS[symbol])?;
        self.join_literals();
        Some(())
    }

    /// Where two literals fit into the bits of an index, its entry becomes both.
    #[inline(always)]
    fn join_literals(&mut self) {
        const SIZE: usize = 1 << LITLEN_BITS;
        let mut single = [Entry(0); SIZE];
        single.copy_from_slice(&self.litlen[..SIZE]);
        for (index, (joined, first)) in self.litlen.iter_mut().zip(single).enumerate() {
            let second = single[(index >> first.takes()) % SIZE].0;
            // Bits and numbers of literals are added up; the second literal goes above the first.
            let both = Entry(first.0 + (second & 0xff) + ((second & 0xff00) << 8));
            let fits = (first.0 & second & LITERAL != 0) & (both.takes() <= LITLEN_BITS);
            *joined = if fits { both } else { first };
        }
    }

    /// The literals, length, pointer or end that these bits begin with.
    #[inline(always)]
    pub(super) fn litlen(&self, bits: u64) -> Entry {
        self.litlen[bits as usize % (1 << LITLEN_BITS)]
    }

    /// What a pointer leads to, with the bits that follow those it takes.
    #[inline(always)]
    pub(super) fn litlen_at(&self, pointer: Entry, bits: u64) -> Entry {
        self.litlen[pointer.leads_to(bits) % LITLEN_ENTRIES]
    }

    /// The distance or pointer that these bits begin with.
    #[inline(always)]
    pub(super) fn distance(&self, bits: u64) -> Entry {
        self.distance[bits as usize % (1 << DISTANCE_BITS)]
    }

    /// As [`Codes::litlen_at`].
    #[inline(always)]
    pub(super) fn distance_at(&self, pointer: Entry, bits: u64) -> Entry {
        self.distance[pointer.leads_to(bits) % DISTANCE_ENTRIES]
    }
}

/// The code in which the lengths of the other two are written. Its symbols are [`Entry::number`].
pub(super) struct LengthCode([Entry; 1 << LENGTH_BITS]);

impl LengthCode {
    pub(super) fn new(lengths: &[u8; LENGTH_SYMBOLS]) -> Option<Self> {
        let mut code = Self([Entry(0); 1 << LENGTH_BITS]);
        build(&mut code.0, LENGTH_BITS, lengths, |symbol| Entry((symbol as u32) << 16))?;
        Some(code)
    }

    #[inline(always)]
    pub(super) fn symbol(&self, bits: u64) -> Entry {
        self.0[bits as usize % (1 << LENGTH_BITS)]
    }
}

/// Each symbol for a literal, the end or a length, at the end of no bits.
static LITLENS: [Entry; LITLEN_SYMBOLS] = {
    let mut entries = [Entry(0); LITLEN_SYMBOLS];
    let mut symbol = 0;
    while symbol < 256 {
        entries[symbol] = Entry(LITERAL | (symbol as u32) << 8);
        symbol += 1;
    }
    entries[256] = Entry(EXCEPTION | END);
    symbol = 257;
    // Four symbols for each number of extra bits, but for the first eight.
    let mut base = 3;
    while symbol < 285 {
        let extra = if symbol < 265 { 0 } else { (symbol as u32 - 261) / 4 };
        entries[symbol] = Entry(base << 16 | extra);
        base += 1 << extra;
        symbol += 1;
    }
    // The last two are no symbols. libdeflate takes them for 258 as well.
    while symbol < LITLEN_SYMBOLS {
        entries[symbol] = Entry(258 << 16);
        symbol += 1;
    }
    entries
};

/// Each symbol for a distance, at the end of no bits.
static DISTANCES: [Entry; DISTANCE_SYMBOLS] = {
    let mut entries = [Entry(0); DISTANCE_SYMBOLS];
    let mut symbol = 0;
    // Two symbols for each number of extra bits, but for the first four.
    let mut base = 1;
    while symbol < 30 {
        let extra = if symbol < 4 { 0 } else { symbol as u32 / 2 - 1 };
        entries[symbol] = Entry(base << 16 | extra);
        base += 1 << extra;
        symbol += 1;
    }
    // The last two are no symbols. libdeflate takes them for the one before.
    while symbol < DISTANCE_SYMBOLS {
        entries[symbol] = entries[29];
        symbol += 1;
    }
    entries
};

/// Fills a table with the code whose codewords have these lengths; `index_bits` are looked up at
/// once. `None` when they make no code: when codewords are missing or too many, but for a code of
/// none or of one bit, which stands for its one symbol.
#[inline(always)]
fn build(
    table: &mut [Entry],
    index_bits: u32,
    lengths: &[u8],
    symbols: impl Fn(usize) -> Entry,
) -> Option<()> {
    let mut counts = [0_usize; CODEWORD_BITS_MAX + 1];
    for length in lengths {
        counts[usize::from(*length)] += 1;
    }
    counts[0] = 0;
    // Where the symbols of each length begin in their order by length.
    let mut places = [0; CODEWORD_BITS_MAX + 2];
    let mut space = 0;
    for length in 1..=CODEWORD_BITS_MAX {
        space = 2 * space + counts[length];
        places[length + 1] = places[length] + counts[length];
    }
    let mut sorted = [0_u16; LITLEN_SYMBOLS];
    for (symbol, length) in lengths.iter().enumerate() {
        if *length != 0 {
            let place = &mut places[usize::from(*length)];
            sorted[*place] = symbol as u16;
            *place += 1;
        }
    }
    let full = 1 << CODEWORD_BITS_MAX;
    if space != full {
        let is_single = space == full / 2 && counts[1] == 1;
        if space != 0 && !is_single {
            return None;
        }
        table[..1 << index_bits].fill(symbols(usize::from(sorted[0])).after(1));
        return Some(());
    }
    let mut sorted = sorted.into_iter().map(|symbol| symbols(usize::from(symbol)));

    // Codewords no longer than an index. Those before fill a part of the table that doubles with
    // each bit.
    let mut codeword = 0_usize;
    for length in 1..=index_bits {
        table.copy_within(0..1 << (length - 1), 1 << (length - 1));
        for _ in 0..counts[length as usize] {
            table[codeword] = sorted.next()?.after(length);
            codeword = following(codeword, length);
        }
    }
    // Longer ones: those that begin with the same index share a table that follows.
    let index = (1 << index_bits) - 1;
    let (mut begin, mut end) = (0, 1 << index_bits);
    let mut prefix = usize::MAX;
    for length in index_bits + 1..=CODEWORD_BITS_MAX as u32 {
        for left in (1..=counts[length as usize]).rev() {
            if codeword & index != prefix {
                prefix = codeword & index;
                begin = end;
                // As many bits as it takes until all codewords with this beginning are in it.
                let mut bits = length - index_bits;
                let mut used = left;
                while used < 1 << bits {
                    bits += 1;
                    used = 2 * used + counts.get((index_bits + bits) as usize)?;
                }
                end = begin + (1 << bits);
                let pointer = (begin as u32) << 16 | EXCEPTION | bits << 8 | index_bits;
                *table.get_mut(prefix)? = Entry(pointer);
            }
            let entry = sorted.next()?.after(length - index_bits);
            let slots = table.get_mut(begin..end)?.iter_mut();
            let step = 1 << (length - index_bits);
            for slot in slots.skip(codeword >> index_bits).step_by(step) {
                *slot = entry;
            }
            codeword = following(codeword, length);
        }
    }
    Some(())
}

/// The codeword of so many bits that comes after this one, the first bit the lowest: the highest
/// zero becomes a one, and the ones above it zeros. After the last comes 0.
#[inline(always)]
fn following(codeword: usize, length: u32) -> usize {
    let zeros = !codeword & ((1 << length) - 1);
    if zeros == 0 {
        return 0;
    }
    let highest = 1 << zeros.ilog2();
    (codeword & (highest - 1)) | highest
}
