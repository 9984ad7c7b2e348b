//! The two codes of a deflate block as tables: one look-up of some bits of the input gives the symbol
//! at their beginning and how many bits it takes. After a literal, the same look-up often gives the
//! next symbol, too: another literal, or a length.

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

/// The low bits of every entry: how many bits of the input it takes.
const TAKES: u32 = 0x3f;

/// An entry of a table.
trait Entry: Copy {
    /// A symbol at the end of a codeword of so many bits.
    fn symbol(symbol: usize, codeword_bits: u32) -> Self;
    /// A pointer to a table of its own for codewords that begin with the same `takes` bits: where
    /// that begins, and how many bits are looked up in it.
    fn pointer(begin: usize, index_bits: u32, takes: u32) -> Self;
}

/// Literals, a length, a literal and a length, the end of a block or a pointer.
///
/// | Bits | One or two literals | A length, a literal before it or none | A pointer, the end |
/// |---|---|---|---|
/// | 0 to 5 | bits that it takes | bits that it takes, extra bits included | bits that it takes |
/// | 6 and 7 | how many literals | how many literals | 0 |
/// | 8 to 15 | the first | the literal | 8 to 18: where the table begins |
/// | 16 to 24 | the second | length without the extra bits | 20 to 23: bits looked up in it |
/// | 25 | 0 | [`Litlen::LAST`] | [`Litlen::LAST`] |
/// | 26 to 31 | bits that it takes | bits that it takes but for the extra bits | [`Litlen::EXCEPTION`], [`Litlen::END`] |
#[derive(Clone, Copy)]
pub(super) struct Litlen(u32);

impl Litlen {
    /// One literal. Two of them are twice this.
    const LITERAL: u32 = 1 << 6;
    /// Not literals alone.
    const LAST: u32 = 1 << 25;
    const END: u32 = 1 << 30;
    const EXCEPTION: u32 = 1 << 31;

    /// How many bits of the input it takes.
    #[inline(always)]
    pub(super) fn takes(self) -> u32 {
        self.0 & TAKES
    }

    /// A number whose low six bits are [`Litlen::takes`].
    #[inline(always)]
    pub(super) fn takes_roughly(self) -> u32 {
        self.0
    }

    /// Is it literals and nothing else?
    #[inline(always)]
    pub(super) fn is_literals(self) -> bool {
        self.0 & Self::LAST == 0
    }

    /// How many literals it has.
    #[inline(always)]
    pub(super) fn literals(self) -> usize {
        (self.0 >> 6 & 3) as usize
    }

    /// The literals; bytes after [`Litlen::literals`] of them mean nothing.
    #[inline(always)]
    pub(super) fn bytes(self) -> [u8; 2] {
        ((self.0 >> 8) as u16).to_le_bytes()
    }

    /// Is it a pointer or the end of a block?
    #[inline(always)]
    pub(super) fn is_exception(self) -> bool {
        self.0 & Self::EXCEPTION != 0
    }

    /// Is it the end of a block?
    #[inline(always)]
    pub(super) fn is_end(self) -> bool {
        self.0 & (Self::EXCEPTION | Self::END) == Self::EXCEPTION | Self::END
    }

    /// The length, with the extra bits of those that it takes.
    #[inline(always)]
    pub(super) fn length(self, bits: u64) -> usize {
        let taken = bits & ((1 << self.takes()) - 1);
        (self.0 >> 16 & 0x1ff) as usize + (taken >> (self.0 >> 26)) as usize
    }

    /// The number that turns the entry of a literal into that literal followed by this symbol, when
    /// added.
    #[inline(always)]
    fn following(self) -> Self {
        // Bits and numbers of literals are added up. A second literal goes above the first, which
        // goes into its place before a length.
        let literal = self.0 & !0xff00 | (self.0 & 0xff00) << 8;
        Self(if self.is_literals() { literal } else { self.0 })
    }

    /// This literal together with the symbol after it ([`Litlen::following`]), if both fit into one
    /// index.
    #[inline(always)]
    fn with(self, following: Self) -> Self {
        let bits_left = LITLEN_BITS - (self.0 >> 26);
        // An exception has more bits here than any index.
        let fits = following.0 < (bits_left + 1) << 26;
        Self(self.0 + if fits { following.0 } else { 0 })
    }
}

impl Entry for Litlen {
    #[inline(always)]
    fn symbol(symbol: usize, codeword_bits: u32) -> Self {
        // The end's bits above are not looked at.
        Self(LITLENS[symbol] + codeword_bits + (codeword_bits << 26))
    }

    #[inline(always)]
    fn pointer(begin: usize, index_bits: u32, takes: u32) -> Self {
        Self(Self::EXCEPTION | Self::LAST | index_bits << 20 | (begin as u32) << 8 | takes)
    }
}

/// A distance or a pointer.
///
/// | Bits | A distance | A pointer |
/// |---|---|---|
/// | 0 to 5 | bits that it takes, extra bits included | bits that it takes |
/// | 8 to 13 | bits that it takes but for the extra bits | bits looked up in the table |
/// | 15 | 0 | [`Distance::EXCEPTION`] |
/// | 16 to 31 | distance without the extra bits | where the table begins |
#[derive(Clone, Copy)]
pub(super) struct Distance(u32);

impl Distance {
    const EXCEPTION: u32 = 1 << 15;

    /// As [`Litlen::takes`].
    #[inline(always)]
    pub(super) fn takes(self) -> u32 {
        self.0 & TAKES
    }

    /// As [`Litlen::takes_roughly`].
    #[inline(always)]
    pub(super) fn takes_roughly(self) -> u32 {
        self.0
    }

    /// Is it a pointer?
    #[inline(always)]
    pub(super) fn is_exception(self) -> bool {
        self.0 & Self::EXCEPTION != 0
    }

    /// The distance, with the extra bits of those that it takes.
    #[inline(always)]
    pub(super) fn distance(self, bits: u64) -> usize {
        let taken = bits & ((1 << self.takes()) - 1);
        (self.0 >> 16) as usize + (taken >> (self.0 >> 8 & TAKES)) as usize
    }
}

impl Entry for Distance {
    #[inline(always)]
    fn symbol(symbol: usize, codeword_bits: u32) -> Self {
        Self(DISTANCES[symbol] + codeword_bits + (codeword_bits << 8))
    }

    #[inline(always)]
    fn pointer(begin: usize, index_bits: u32, takes: u32) -> Self {
        Self((begin as u32) << 16 | Self::EXCEPTION | index_bits << 8 | takes)
    }
}

/// The length of a codeword, or of several: a symbol above the bits that it takes.
#[derive(Clone, Copy)]
pub(super) struct Length(u32);

impl Length {
    #[inline(always)]
    pub(super) fn takes(self) -> u32 {
        self.0 & TAKES
    }

    #[inline(always)]
    pub(super) fn number(self) -> u32 {
        self.0 >> 8
    }
}

impl Entry for Length {
    #[inline(always)]
    fn symbol(symbol: usize, codeword_bits: u32) -> Self {
        Self((symbol as u32) << 8 | codeword_bits)
    }

    /// Never called: no codeword is longer than the index.
    fn pointer(_: usize, _: u32, takes: u32) -> Self {
        Self(takes)
    }
}

/// The codes of a block.
pub(super) struct Codes {
    litlen: [Litlen; LITLEN_ENTRIES],
    distance: [Distance; DISTANCE_ENTRIES],
    /// For [`Codes::join`]: [`Litlen::following`] of the first entries, before any is joined.
    following: [Litlen; 1 << (LITLEN_BITS - 1)],
}

impl Codes {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            litlen: [Litlen(0); LITLEN_ENTRIES],
            distance: [Distance(0); DISTANCE_ENTRIES],
            following: [Litlen(0); 1 << (LITLEN_BITS - 1)],
        })
    }

    /// Builds the tables of the codes whose codewords have these lengths; 0 for unused symbols.
    #[inline(always)]
    pub(super) fn set(&mut self, litlen: &[u8], distance: &[u8]) -> Option<()> {
        build(&mut self.distance, DISTANCE_BITS, distance, |_, _| ())?;
        // The codewords of literals that leave enough bits in an index for the shortest codeword, in
        // the order of their lengths.
        let mut firsts = [0_u16; LITLEN_SYMBOLS];
        let (mut count, mut shortest) = (0, LITLEN_BITS);
        build(&mut self.litlen, LITLEN_BITS, litlen, |codeword, entry| {
            shortest = shortest.min(entry.0 >> 26);
            if entry.is_literals() & (entry.takes() + shortest <= LITLEN_BITS) {
                firsts[count % LITLEN_SYMBOLS] = codeword as u16;
                count += 1;
            }
        })?;
        self.join(&firsts[..count], shortest);
        Some(())
    }

    /// Where a literal and the next symbol fit into the bits of an index, the entry becomes both. No
    /// codeword is shorter than `shortest`.
    #[inline(always)]
    fn join(&mut self, firsts: &[u16], shortest: u32) {
        const SIZE: usize = 1 << LITLEN_BITS;
        let after_shortest = &self.litlen[..SIZE >> shortest];
        for (following, entry) in self.following.iter_mut().zip(after_shortest) {
            *following = entry.following();
        }
        let table = &mut self.litlen[..SIZE];
        for codeword in firsts {
            let codeword = usize::from(*codeword);
            let first = table[codeword % SIZE];
            match first.takes() {
                1 => join_rows::<2>(table, codeword, first, &self.following),
                2 => join_rows::<4>(table, codeword, first, &self.following),
                3 => join_rows::<8>(table, codeword, first, &self.following),
                4 => join_rows::<16>(table, codeword, first, &self.following),
                5 => join_rows::<32>(table, codeword, first, &self.following),
                6 => join_rows::<64>(table, codeword, first, &self.following),
                7 => join_rows::<128>(table, codeword, first, &self.following),
                8 => join_rows::<256>(table, codeword, first, &self.following),
                9 => join_rows::<512>(table, codeword, first, &self.following),
                _ => {}
            }
        }
    }

    /// The symbol at the beginning of these bits.
    #[inline(always)]
    pub(super) fn litlen(&self, bits: u64) -> Litlen {
        self.litlen[bits as usize % (1 << LITLEN_BITS)]
    }

    /// The entry to which a pointer leads, with the bits after those that it takes. It is never a
    /// pointer, and never more than one symbol.
    #[inline(always)]
    pub(super) fn litlen_at(&self, pointer: Litlen, bits: u64) -> Litlen {
        let index = bits as usize & ((1 << (pointer.0 >> 20 & 0xf)) - 1);
        self.litlen[((pointer.0 >> 8) as usize + index) % LITLEN_ENTRIES]
    }

    /// The symbol at the beginning of these bits.
    #[inline(always)]
    pub(super) fn distance(&self, bits: u64) -> Distance {
        self.distance[bits as usize % (1 << DISTANCE_BITS)]
    }

    /// As [`Codes::litlen_at`].
    #[inline(always)]
    pub(super) fn distance_at(&self, pointer: Distance, bits: u64) -> Distance {
        let index = bits as usize & ((1 << (pointer.0 >> 8 & TAKES)) - 1);
        self.distance[((pointer.0 >> 16) as usize + index) % DISTANCE_ENTRIES]
    }
}

/// Joins a literal with the symbols after it. A row is as long as there are codewords of the literal's
/// length: the literal's entry is at `codeword` in each, and each row stands for one next symbol.
#[inline(always)]
fn join_rows<const ROW: usize>(
    table: &mut [Litlen],
    codeword: usize,
    first: Litlen,
    following: &[Litlen],
) {
    for (row, following) in table.as_chunks_mut::<ROW>().0.iter_mut().zip(following) {
        row[codeword % ROW] = first.with(*following);
    }
}

/// The code in which the lengths of the other two are written.
pub(super) struct LengthCode([Length; 1 << LENGTH_BITS]);

impl LengthCode {
    pub(super) fn new(lengths: &[u8; LENGTH_SYMBOLS]) -> Option<Self> {
        let mut code = Self([Length(0); 1 << LENGTH_BITS]);
        build(&mut code.0, LENGTH_BITS, lengths, |_, _| ())?;
        Some(code)
    }

    #[inline(always)]
    pub(super) fn length(&self, bits: u64) -> Length {
        self.0[bits as usize % (1 << LENGTH_BITS)]
    }
}

/// Each symbol for a literal, the end or a length, at the end of no bits.
static LITLENS: [u32; LITLEN_SYMBOLS] = {
    let mut entries = [0; LITLEN_SYMBOLS];
    let mut symbol = 0;
    while symbol < 256 {
        entries[symbol] = Litlen::LITERAL | (symbol as u32) << 8;
        symbol += 1;
    }
    entries[256] = Litlen::EXCEPTION | Litlen::END | Litlen::LAST;
    symbol = 257;
    // Four symbols for each number of extra bits, but for the first eight.
    let mut base = 3;
    while symbol < 285 {
        let extra = if symbol < 265 { 0 } else { (symbol as u32 - 261) / 4 };
        entries[symbol] = Litlen::LAST | base << 16 | extra;
        base += 1 << extra;
        symbol += 1;
    }
    // The last two are not symbols. libdeflate treats them as 258, too.
    while symbol < LITLEN_SYMBOLS {
        entries[symbol] = Litlen::LAST | 258 << 16;
        symbol += 1;
    }
    entries
};

/// Each symbol for a distance, at the end of no bits.
static DISTANCES: [u32; DISTANCE_SYMBOLS] = {
    let mut entries = [0; DISTANCE_SYMBOLS];
    let mut symbol = 0;
    // Two symbols for each number of extra bits, but for the first four.
    let mut base = 1;
    while symbol < 30 {
        let extra = if symbol < 4 { 0 } else { symbol as u32 / 2 - 1 };
        entries[symbol] = base << 16 | extra;
        base += 1 << extra;
        symbol += 1;
    }
    // The last two are not symbols. libdeflate treats them as the one before.
    while symbol < DISTANCE_SYMBOLS {
        entries[symbol] = entries[29];
        symbol += 1;
    }
    entries
};

/// Fills a table with the code whose codewords have these lengths; `index_bits` are looked up at
/// once. `None` if they are not a code: codewords are missing, or there are too many. A code with no
/// codeword, or with one of one bit, is allowed: every index gives its one symbol.
#[inline(always)]
fn build<E: Entry>(
    table: &mut [E],
    index_bits: u32,
    lengths: &[u8],
    mut placed: impl FnMut(usize, E),
) -> Option<()> {
    // Four separate counts, because each increment of the same count would wait for the last.
    let mut four = [[0_u16; CODEWORD_BITS_MAX + 1]; 4];
    let (groups, rest) = lengths.as_chunks::<4>();
    for group in groups {
        for (counts, length) in four.iter_mut().zip(group) {
            counts[usize::from(*length % 16)] += 1;
        }
    }
    for length in rest {
        four[0][usize::from(*length % 16)] += 1;
    }
    let mut counts: [usize; CODEWORD_BITS_MAX + 1] =
        std::array::from_fn(|length| four.iter().map(|counts| usize::from(counts[length])).sum());
    counts[0] = 0;
    // The first place of the symbols of each length, when sorted by length.
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
        table[..1 << index_bits].fill(E::symbol(usize::from(sorted[0]), 1));
        return Some(());
    }
    let mut sorted = sorted.into_iter().map(usize::from);

    // Codewords no longer than an index. Those before fill a part of the table that doubles with
    // each bit.
    let mut codeword = 0_usize;
    for length in 1..=index_bits {
        if sorted.len() < LITLEN_SYMBOLS {
            table.copy_within(0..1 << (length - 1), 1 << (length - 1));
        }
        for _ in 0..counts[length as usize] {
            let entry = E::symbol(sorted.next()?, length);
            table[codeword] = entry;
            placed(codeword, entry);
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
                // As many bits as all codewords with this beginning need.
                let mut bits = length - index_bits;
                let mut used = left;
                while used < 1 << bits {
                    bits += 1;
                    used = 2 * used + counts.get((index_bits + bits) as usize)?;
                }
                end = begin + (1 << bits);
                *table.get_mut(prefix)? = E::pointer(begin, bits, index_bits);
            }
            let entry = E::symbol(sorted.next()?, length - index_bits);
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

/// The next codeword of so many bits, the first bit the lowest: the highest zero becomes a one, and
/// the ones above it become zeros. After the last one, 0.
#[inline(always)]
fn following(codeword: usize, length: u32) -> usize {
    let zeros = !codeword & ((1 << length) - 1);
    if zeros == 0 {
        return 0;
    }
    let highest = 1 << zeros.ilog2();
    (codeword & (highest - 1)) | highest
}
