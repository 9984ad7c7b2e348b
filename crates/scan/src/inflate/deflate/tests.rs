use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use proptest::prelude::*;

use crate::inflate::inflate_both_ways;

fn both_ways(data: &[u8], room: usize) -> Option<Vec<u8>> {
    inflate_both_ways(data, room)
}

fn deflated(text: &[u8], level: u32, flush_every: usize) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(level));
    for piece in text.chunks(flush_every.max(1)) {
        encoder.write_all(piece).expect("memory");
        encoder.flush().expect("memory");
    }
    encoder.finish().expect("memory")
}

/// By libdeflate, whose blocks and codes are others than those of zlib.
fn deflated_by_libdeflate(text: &[u8], level: i32) -> Vec<u8> {
    let mut out = vec![0; text.len() + text.len() / 8 + 256];
    // SAFETY: the pointers and lengths are those of live slices, the compressor is live.
    let length = unsafe {
        let compressor = libdeflate_sys::libdeflate_alloc_compressor(level);
        assert!(!compressor.is_null());
        let length = libdeflate_sys::libdeflate_deflate_compress(
            compressor,
            text.as_ptr().cast(),
            text.len(),
            out.as_mut_ptr().cast(),
            out.len(),
        );
        libdeflate_sys::libdeflate_free_compressor(compressor);
        length
    };
    assert!(length > 0);
    out.truncate(length);
    out
}

/// Numbers of chance, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % bound
    }
}

/// Digits that no compressor makes less of than digits.
fn digits(count: usize) -> Vec<u8> {
    let mut chance = Chance(1);
    (0..count).map(|_| b"0123456789abcdef"[chance.below(16)]).collect()
}

/// Writes deflate bit by bit.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    bits: usize,
}

impl Writer {
    fn number(&mut self, number: usize, bits: usize) {
        for bit in 0..bits {
            if self.bits.is_multiple_of(8) {
                self.bytes.push(0);
            }
            self.bytes[self.bits / 8] |= ((number >> bit & 1) as u8) << (self.bits % 8);
            self.bits += 1;
        }
    }

    fn codeword(&mut self, (codeword, bits): (usize, usize)) {
        for bit in (0..bits).rev() {
            self.number(codeword >> bit & 1, 1);
        }
    }
}

/// A code in which so many symbols, always the one named, have codewords of lengths of chance.
/// Gives the length of each and its codeword.
fn code(symbols: usize, with: usize, chance: &mut Chance) -> Vec<(usize, usize)> {
    // Leaves of a tree, split one by one; often the newest, for long codewords.
    let mut leaves = vec![1, 1];
    let count = 2 + chance.below(symbols - 1);
    while leaves.len() < count {
        let newest = leaves.len() - 1;
        let at = if chance.below(3) == 0 { chance.below(leaves.len()) } else { newest };
        if leaves[at] < 15 {
            leaves[at] += 1;
            leaves.push(leaves[at]);
        } else if leaves.iter().all(|length| *length == 15) {
            break;
        } else {
            leaves.rotate_right(1);
        }
    }
    leaves.resize(symbols, 0);
    for at in (1..symbols).rev() {
        leaves.swap(at, chance.below(at + 1));
    }
    if leaves[with] == 0 {
        let other = leaves.iter().position(|length| *length != 0).expect("one of two");
        leaves.swap(with, other);
    }
    let mut codewords = vec![(0, 0); symbols];
    let mut next = 0;
    for length in 1..=15 {
        next <<= 1;
        for (symbol, _) in leaves.iter().enumerate().filter(|(_, leaf)| **leaf == length) {
            codewords[symbol] = (next, length);
            next += 1;
        }
    }
    assert_eq!(next, 1 << 15, "a code without gaps");
    codewords
}

/// A text in blocks with codes of chance, of symbols of chance.
fn blocks_of_chance(seed: u64) -> Vec<u8> {
    let mut chance = Chance(seed);
    let mut out = Writer::default();
    // So much that every distance is there, not compressed.
    let text = digits(0x8000);
    out.number(0, 8);
    out.bytes.extend([0x00, 0x80, 0xff, 0x7f]);
    out.bytes.extend(&text);
    out.bits = out.bytes.len() * 8;
    for is_last in [0, 1] {
        let (litlens, distances) = (code(286, 256, &mut chance), code(30, 0, &mut chance));
        out.number(is_last | 2 << 1, 3);
        out.number(286 - 257, 5);
        out.number(30 - 1, 5);
        out.number(19 - 4, 4);
        // Sixteen lengths of four bits each, none for repetitions; these come first.
        out.number(0, 3 * 3);
        (0..16).for_each(|_| out.number(4, 3));
        for (_, length) in litlens.iter().chain(&distances) {
            out.codeword((*length, 4));
        }
        let in_use = |codewords: &[(usize, usize)]| -> Vec<usize> {
            (0..codewords.len()).filter(|symbol| codewords[*symbol].1 != 0).collect()
        };
        let (known, far) = (in_use(&litlens), in_use(&distances));
        for _ in 0..chance.below(3000) {
            let symbol = known[chance.below(known.len())];
            if symbol == 256 {
                continue;
            }
            out.codeword(litlens[symbol]);
            if symbol > 256 {
                let extra = if (265..285).contains(&symbol) { (symbol - 261) / 4 } else { 0 };
                out.number(chance.below(1 << extra), extra);
                let symbol = far[chance.below(far.len())];
                out.codeword(distances[symbol]);
                let extra = (symbol / 2).saturating_sub(1);
                out.number(chance.below(1 << extra), extra);
            }
        }
        out.codeword(litlens[256]);
    }
    out.bytes
}

#[test]
fn codes_of_every_depth_come_out_right() {
    for seed in 0..400 {
        let data = blocks_of_chance(seed);
        let text = both_ways(&data, 2 << 20).expect("sound");
        assert_eq!(both_ways(&data, text.len()).as_ref(), Some(&text), "{seed}");
        if let Some(less) = text.len().checked_sub(1) {
            assert_eq!(both_ways(&data, less), None, "{seed}");
        }
    }
}

#[test]
fn repetitions_of_every_distance_and_length_come_out_right() {
    for distance in (1..=80).chain([255, 4096, 32_768]) {
        let pattern = digits(distance);
        let mut text = pattern.clone();
        for length in (3..=300).step_by(if distance > 80 { 17 } else { 1 }) {
            let from = text.len() - distance;
            let repeated: Vec<u8> = text[from..].iter().copied().cycle().take(length).collect();
            text.extend(repeated);
            text.push(b'A' + (length % 26) as u8);
        }
        let data = deflated_by_libdeflate(&text, 9);
        assert_eq!(both_ways(&data, text.len()).as_deref(), Some(&text[..]), "{distance}");
    }
}

#[test]
fn codewords_of_every_length_come_out_right() {
    // Each character twice as often as the one before.
    let mut text = Vec::new();
    for (index, times) in (0..17).map(|index| (index, 1_usize << index)) {
        text.extend(std::iter::repeat_n(b'a' + index, times));
    }
    // Nothing that repeats: in an order of chance.
    let mut chance = Chance(1);
    for at in (1..text.len()).rev() {
        text.swap(at, chance.below(at + 1));
    }
    for level in [1, 6, 12] {
        let data = deflated_by_libdeflate(&text, level);
        assert_eq!(both_ways(&data, text.len()).as_deref(), Some(&text[..]), "{level}");
    }
}

#[test]
fn an_input_that_is_cut_off_anywhere_or_has_no_room_is_refused() {
    let mut text = digits(700);
    text.extend_from_within(100..400);
    for data in [deflated(&text, 6, 300), deflated_by_libdeflate(&text, 0)] {
        assert_eq!(both_ways(&data, text.len()).as_deref(), Some(&text[..]));
        for end in 0..data.len() {
            assert_eq!(both_ways(&data[..end], text.len()), None, "cut at {end}");
        }
        for room in 0..text.len() {
            assert_eq!(both_ways(&data, room), None, "{room} bytes of room");
        }
    }
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec!["\"eventName\":\"Decrypt\",", "{\"type\":\"AssumedRole\"}"])
            .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(prop::sample::select(b"0123456789abcdef-".to_vec()), 1..60),
        prop::collection::vec(any::<u8>(), 1..40),
        (any::<u8>(), 1..600_usize).prop_map(|(byte, times)| vec![byte; times]),
    ];
    // Pieces, and which of them come again.
    (prop::collection::vec(piece, 1..12), prop::collection::vec(0..12_usize, 0..200)).prop_map(
        |(pieces, again)| {
            let again = again.iter().map(|index| &pieces[index % pieces.len()]);
            pieces.iter().chain(again).flatten().copied().collect()
        },
    )
}

proptest! {
    #[test]
    fn what_libdeflate_takes_is_taken_and_what_it_refuses_is_refused(
        text in texts(),
        level in 0..13_u32,
        by_libdeflate in any::<bool>(),
        flush_every in 1..5000_usize,
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..20,
        ),
        room in any::<prop::sample::Index>(),
    ) {
        let data = if by_libdeflate {
            deflated_by_libdeflate(&text, level as i32)
        } else {
            deflated(&text, level.min(9), flush_every)
        };
        prop_assert_eq!(both_ways(&data, text.len()), Some(text.clone()));
        prop_assert_eq!(both_ways(&data, text.len() + 1000), Some(text.clone()));
        both_ways(&data, room.index(text.len() + 1));
        for (at, byte, is_early) in changes {
            let mut data = data.clone();
            let within = if is_early { data.len().min(100) } else { data.len() };
            data[at.index(within)] ^= byte;
            both_ways(&data, text.len() + 1000);
            both_ways(&data, room.index(text.len() + 1));
        }
    }

    #[test]
    fn codes_of_chance_are_taken_and_refused_as_by_libdeflate(
        mut data in prop::collection::vec(any::<u8>(), 1..300),
        is_sparse in any::<bool>(),
        room in 0..2000_usize,
    ) {
        if is_sparse {
            // Short codewords, more of which make a code.
            data.iter_mut().for_each(|byte| *byte &= 0x49);
        }
        // The last block, with codes of its own.
        data[0] = (data[0] & !7) | 5;
        both_ways(&data, room);
    }
}
