//! Decompression: gzip files that fit in memory whole, by our own inflating where the processor has
//! what it needs ([`deflate`]) and by libdeflate elsewhere; everything else as a stream in a window.

// Calls of libdeflate's C interface and reads and writes without checks; each says why it is sound.
#![allow(unsafe_code)]

mod codes;
mod deflate;

use std::io::{self, BufReader, Read};
use std::ptr::NonNull;

use flate2::bufread::MultiGzDecoder;

use self::codes::Codes;

/// First bytes of a gzip member: magic number and the only method there is.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];
/// First bytes of a zstd frame.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// First bytes of a zstd skippable frame, but for its low four bits.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
/// Largest zstd window that is accepted, as a power of two: 32 MiB a thread.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;
/// Bytes read at a time from a compressed stream.
const STREAM_READ_BYTES: usize = 64 << 10;

/// What the first bytes of a file say that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Gzip,
    Zstd,
    /// Not compressed in a way that we know: text, or something that is not a log file.
    Plain,
}

impl Format {
    /// Tells the format by content, whatever the file's name.
    pub(crate) fn of(head: &[u8]) -> Self {
        if head.starts_with(&GZIP) {
            Self::Gzip
        } else if head.starts_with(&ZSTD)
            || (head.len() > 3 && head[0] & 0xf0 == 0x50 && head[1..4] == ZSTD_SKIPPABLE)
        {
            Self::Zstd
        } else {
            Self::Plain
        }
    }
}

/// Why a gzip file was not inflated in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WholeError {
    /// It needs more room than there is.
    TooLarge,
    /// It is damaged: take what the stream gives before the damage.
    Damaged,
}

/// Bytes of a gzip member's header without what its flags announce.
const HEADER_BYTES: usize = 10;
/// Bytes after a gzip member's data: checksum and size.
const FOOTER_BYTES: usize = 8;

/// Length of the header that a gzip member begins with, when a footer has room after it.
///
/// It takes and refuses what libdeflate's own reading takes and refuses: the header's checksum is
/// passed over and not looked at.
fn header_bytes(member: &[u8]) -> Option<usize> {
    const CHECKSUM: u8 = 1 << 1;
    const EXTRA: u8 = 1 << 2;
    const NAME: u8 = 1 << 3;
    const COMMENT: u8 = 1 << 4;
    const RESERVED: u8 = 0xe0;
    if !member.starts_with(&GZIP) {
        return None;
    }
    // All that may be header or data.
    let member = &member[..member.len().checked_sub(FOOTER_BYTES)?];
    let flags = *member.get(3)?;
    if flags & RESERVED != 0 {
        return None;
    }
    let mut at = HEADER_BYTES;
    if flags & EXTRA != 0 {
        let bytes = member.get(at..)?.first_chunk::<2>()?;
        at += 2 + usize::from(u16::from_le_bytes(*bytes));
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            at += memchr::memchr(0, member.get(at..)?)? + 1;
        }
    }
    if flags & CHECKSUM != 0 {
        at += 2;
    }
    (at <= member.len()).then_some(at)
}

/// A checksum that is taken while a text is looked at, a piece before each look: the piece is then
/// fetched once for both.
#[derive(Debug)]
pub(crate) struct Sum {
    stated: u32,
    taken: u32,
    /// Bytes of the text that are in it.
    bytes: usize,
}

impl Sum {
    pub(crate) fn of(stated: u32) -> Self {
        Self { stated, taken: 0, bytes: 0 }
    }

    /// Takes the text in as far as `to`.
    #[inline]
    pub(crate) fn take(&mut self, text: &[u8], to: usize) {
        let Some(piece) = text.get(self.bytes..to) else { return };
        // SAFETY: pointer and length are those of a live slice.
        self.taken = unsafe {
            libdeflate_sys::libdeflate_crc32(self.taken, piece.as_ptr().cast(), piece.len())
        };
        self.bytes = to;
    }

    /// Takes the text in as far as `to` and says what the sum is then; `None` when it is further.
    pub(crate) fn before(&mut self, text: &[u8], to: usize) -> Option<u32> {
        self.take(text, to);
        (self.bytes == to).then_some(self.taken)
    }

    /// Goes on to `to`: the text between had the checksum that `folded` has, all of it folded into
    /// these bytes.
    pub(crate) fn go_on(&mut self, to: usize, folded: &[u8]) {
        // SAFETY: pointer and length are those of a live slice.
        self.taken =
            unsafe { libdeflate_sys::libdeflate_crc32(!0, folded.as_ptr().cast(), folded.len()) };
        self.bytes = to;
    }

    /// Takes the rest of the text in; is the sum the stated one?
    pub(crate) fn holds(mut self, text: &[u8]) -> bool {
        self.take(text, text.len());
        self.taken == self.stated
    }
}

/// What one thread inflates with.
pub(crate) struct Inflater {
    /// libdeflate's.
    decompressor: NonNull<libdeflate_sys::libdeflate_decompressor>,
    /// Our own tables, where the processor has what our own inflating needs.
    codes: Option<Box<Codes>>,
}

// SAFETY: libdeflate's decompressor has no thread affinity; it may be used by one thread at a time,
// which `&mut self` ensures.
unsafe impl Send for Inflater {}

impl Inflater {
    pub(crate) fn new() -> Self {
        // SAFETY: has no preconditions; null means that memory is exhausted.
        let decompressor = unsafe { libdeflate_sys::libdeflate_alloc_decompressor() };
        let Some(decompressor) = NonNull::new(decompressor) else {
            std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; 1 << 15]>())
        };
        Self { decompressor, codes: deflate::is_available().then(Codes::new) }
    }

    /// As [`Inflater::gzip`], but the text's checksum is still to be taken: not when the file has
    /// more than one member.
    pub(crate) fn gzip_unsummed(
        &mut self,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<(usize, Option<Sum>), WholeError> {
        let header = header_bytes(input).ok_or(WholeError::Damaged)?;
        let data = &input[header..input.len() - FOOTER_BYTES];
        let (used, made) = self.deflate(data, out)?;
        let after = &input[header + used..];
        let (Some(sum), Some(size)) =
            (after.first_chunk::<4>(), after.get(4..).and_then(<[u8]>::first_chunk::<4>))
        else {
            return Err(WholeError::Damaged);
        };
        if made as u32 != u32::from_le_bytes(*size) {
            return Err(WholeError::Damaged);
        }
        let sum = Sum::of(u32::from_le_bytes(*sum));
        let others = &after[FOOTER_BYTES..];
        if others.iter().all(|byte| *byte == 0) {
            return Ok((made, Some(sum)));
        }
        if !sum.holds(&out[..made]) {
            return Err(WholeError::Damaged);
        }
        let more = self.gzip(others, &mut out[made..])?;
        Ok((made + more, None))
    }

    /// Inflates data without header and footer, which `data` begins with; says how much of it that
    /// was, and how many bytes there are.
    fn deflate(&mut self, data: &[u8], out: &mut [u8]) -> Result<(usize, usize), WholeError> {
        if let Some(codes) = &mut self.codes {
            // SAFETY: there are codes only where the processor has what this needs.
            return unsafe { deflate::inflate(codes, data, out) };
        }
        let (mut used, mut made) = (0, 0);
        // SAFETY: the pointers and lengths are those of live slices, the decompressor is live
        // and ours alone.
        let result = unsafe {
            libdeflate_sys::libdeflate_deflate_decompress_ex(
                self.decompressor.as_ptr(),
                data.as_ptr().cast(),
                data.len(),
                out.as_mut_ptr().cast(),
                out.len(),
                &raw mut used,
                &raw mut made,
            )
        };
        check(result)?;
        Ok((used, made))
    }

    /// Inflates all members of a gzip file into `out`; returns how many bytes there are.
    ///
    /// Bytes after the last member that begin no other are damage, but for zeros, with which some
    /// writers pad.
    pub(crate) fn gzip(&mut self, input: &[u8], out: &mut [u8]) -> Result<usize, WholeError> {
        let (mut read, mut written) = (0, 0);
        while read < input.len() {
            let rest = &input[read..];
            if read > 0 && rest.iter().all(|byte| *byte == 0) {
                break;
            }
            if !rest.starts_with(&GZIP) {
                return Err(WholeError::Damaged);
            }
            let room = &mut out[written..];
            let (mut used, mut made) = (0, 0);
            // SAFETY: the pointers and lengths are those of live slices, the decompressor is live
            // and ours alone.
            let result = unsafe {
                libdeflate_sys::libdeflate_gzip_decompress_ex(
                    self.decompressor.as_ptr(),
                    rest.as_ptr().cast(),
                    rest.len(),
                    room.as_mut_ptr().cast(),
                    room.len(),
                    &raw mut used,
                    &raw mut made,
                )
            };
            check(result)?;
            read += used;
            written += made;
        }
        Ok(written)
    }
}

/// Inflates deflate data by libdeflate and by our own code, in just so much room; gives what comes
/// out, `None` when it is refused. For tests and fuzzing.
///
/// # Panics
/// When the two do not say the same, or something is written beyond the room.
pub(crate) fn both_ways(data: &[u8], room: usize) -> Option<Vec<u8>> {
    /// What is written after the room, and must be there still.
    const BEYOND: [u8; 700] = [0xa5; 700];
    let mut inflater = Inflater::new();
    let mut own = inflater.codes.take();
    // Not longer than it says that it is, so that tools see what is read beyond.
    let data: Box<[u8]> = data.into();
    let mut right = vec![0; room];
    let theirs = inflater.deflate(&data, &mut right).ok();
    if let Some(codes) = &mut own {
        let mut out = [vec![0; room], BEYOND.to_vec()].concat();
        // SAFETY: there are codes only where the processor has what this needs.
        let ours = unsafe { deflate::inflate(codes, &data, &mut out[..room]) }.ok();
        assert_eq!(ours, theirs, "{data:02x?}, {room} bytes of room");
        assert!(out[room..] == BEYOND, "{data:02x?}, {room} bytes of room");
        if let Some((_, made)) = ours {
            assert!(out[..made] == right[..made], "{data:02x?}");
        }
    }
    theirs.map(|(_, made)| right[..made].to_vec())
}

/// What libdeflate's result means to us.
fn check(result: libdeflate_sys::libdeflate_result) -> Result<(), WholeError> {
    match result {
        libdeflate_sys::libdeflate_result_LIBDEFLATE_SUCCESS => Ok(()),
        libdeflate_sys::libdeflate_result_LIBDEFLATE_INSUFFICIENT_SPACE => {
            Err(WholeError::TooLarge)
        }
        _ => Err(WholeError::Damaged),
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        // SAFETY: it came from libdeflate_alloc_decompressor and is freed once.
        unsafe { libdeflate_sys::libdeflate_free_decompressor(self.decompressor.as_ptr()) };
    }
}

/// The decompressed bytes of a stream, as they come.
pub(crate) fn stream<'r, R: Read + 'r>(format: Format, input: R) -> io::Result<Box<dyn Read + 'r>> {
    Ok(match format {
        Format::Plain => Box::new(input),
        Format::Gzip => {
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(STREAM_READ_BYTES, input)))
        }
        Format::Zstd => {
            let buffered = BufReader::with_capacity(STREAM_READ_BYTES, input);
            let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}

/// What a decompressor's error means to people.
pub(crate) fn stream_error(format: Format, error: &io::Error) -> String {
    let text = error.to_string();
    match (format, error.kind()) {
        (Format::Gzip, io::ErrorKind::UnexpectedEof) => "gzip ends early".to_owned(),
        (Format::Zstd, io::ErrorKind::UnexpectedEof) => "zstd ends early".to_owned(),
        (Format::Gzip, _) if text.contains("checksum") || text.contains("crc") => {
            "gzip checksum does not match".to_owned()
        }
        (Format::Gzip, _) if text.contains("header") => {
            "gzip is followed by something else".to_owned()
        }
        (Format::Gzip, io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => {
            format!("gzip is damaged: {text}")
        }
        (Format::Zstd, _) => format!("zstd is damaged: {text}"),
        _ => format!("cannot be read: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn all_members_of_a_file_are_read_in_both_ways() {
        let file = [gzip(b"one "), gzip(b"two "), gzip(b"one ")].concat();
        let mut out = [0; 64];
        let length = Inflater::new().gzip(&file, &mut out).expect("sound");
        assert_eq!(&out[..length], b"one two one ");
        let mut text = String::new();
        let mut reader = stream(Format::Gzip, &file[..]).expect("a stream");
        reader.read_to_string(&mut text).expect("sound");
        assert_eq!(text, "one two one ");
    }

    #[test]
    fn damage_is_told_from_want_of_room() {
        let file = gzip(&[b'x'; 1000]);
        let mut inflater = Inflater::new();
        assert_eq!(inflater.gzip(&file, &mut [0; 10]), Err(WholeError::TooLarge));
        assert_eq!(inflater.gzip(&file[..12], &mut [0; 2000]), Err(WholeError::Damaged));
        let mut wrong_sum = file.clone();
        let at = wrong_sum.len() - 8;
        wrong_sum[at] ^= 1;
        assert_eq!(inflater.gzip(&wrong_sum, &mut [0; 2000]), Err(WholeError::Damaged));
        let followed = [&file[..], b"junk"].concat();
        assert_eq!(inflater.gzip(&followed, &mut [0; 2000]), Err(WholeError::Damaged));
        let padded = [&file[..], &[0; 5]].concat();
        assert_eq!(inflater.gzip(&padded, &mut [0; 2000]), Ok(1000));
    }

    /// A member whose header has what `flags` announce.
    fn member(flags: u8, text: &[u8]) -> Vec<u8> {
        let plain = gzip(text);
        let mut file = plain[..HEADER_BYTES].to_vec();
        file[3] = flags;
        if flags & 4 != 0 {
            file.extend(b"\x05\0a\0\x01\0z");
        }
        if flags & 8 != 0 {
            file.extend(b"name.json\0");
        }
        if flags & 16 != 0 {
            file.extend(b"a comment\0");
        }
        if flags & 2 != 0 {
            // Not the header's checksum: libdeflate does not look at it either.
            file.extend(b"\x12\x34");
        }
        file.extend(&plain[HEADER_BYTES..]);
        file
    }

    /// Both ways must say the same; says it.
    fn both_ways(file: &[u8], room: usize) -> Result<Vec<u8>, WholeError> {
        let mut inflater = Inflater::new();
        let (mut a, mut b) = (vec![0; room], vec![0; room]);
        let at_once = inflater.gzip(file, &mut a).map(|length| a[..length].to_vec());
        let later = inflater.gzip_unsummed(file, &mut b).and_then(|(length, sum)| {
            let text = &b[..length];
            match sum {
                Some(mut sum) => {
                    sum.take(text, length / 3);
                    sum.take(text, length / 2);
                    if sum.holds(text) { Ok(text.to_vec()) } else { Err(WholeError::Damaged) }
                }
                None => Ok(text.to_vec()),
            }
        });
        // Either kind of trouble leads to the stream, which tells what it is.
        assert_eq!(at_once.is_ok(), later.is_ok(), "{file:02x?}");
        if let (Ok(at_once), Ok(later)) = (&at_once, &later) {
            assert_eq!(at_once, later);
        }
        later
    }

    #[test]
    fn every_header_is_read_and_refused_as_libdeflate_does() {
        let text = b"one {\"two\":2} one one one".as_slice();
        for flags in 0..=255 {
            let file = member(flags, text);
            let sound = both_ways(&file, 64);
            assert_eq!(sound.is_ok(), flags & 0xe0 == 0, "{flags:08b}");
            for end in 1..file.len() {
                assert!(both_ways(&file[..end], 64).is_err(), "{flags:08b} cut at {end}");
            }
            for at in 0..file.len() {
                let mut wrong = file.clone();
                wrong[at] ^= 0x41;
                let _ = both_ways(&wrong, 64);
            }
        }
    }

    #[test]
    fn a_header_that_announces_more_than_there_is_is_damage() {
        let text = b"text";
        let mut long_extra = member(4, text);
        long_extra[10..12].copy_from_slice(&[0xff, 0xff]);
        assert!(both_ways(&long_extra, 64).is_err());
        let open_name = [&member(8, text)[..10], &[b'n'; 40]].concat();
        assert!(both_ways(&open_name, 64).is_err());
        assert_eq!(header_bytes(&member(0x1e, text)), Some(10 + 7 + 10 + 10 + 2));
        assert_eq!(header_bytes(&member(0, text)[..17]), None);
    }

    #[test]
    fn wrong_sums_and_sizes_are_damage_in_any_member() {
        let one = || member(8, b"one one one ");
        let files =
            [one(), [one(), gzip(b"two")].concat(), [one(), gzip(b""), vec![0; 9]].concat()];
        for file in files {
            assert!(both_ways(&file, 64).is_ok());
            let footer = one().len() - FOOTER_BYTES;
            for at in footer..footer + FOOTER_BYTES {
                let mut wrong = file.clone();
                wrong[at] ^= 1;
                assert_eq!(both_ways(&wrong, 64), Err(WholeError::Damaged), "{at}");
            }
        }
        let two = [one(), gzip(b"two")].concat();
        assert_eq!(both_ways(&two, 64), Ok(b"one one one two".to_vec()));
        for at in two.len() - FOOTER_BYTES..two.len() {
            let mut wrong = two.clone();
            wrong[at] ^= 1;
            assert_eq!(both_ways(&wrong, 64), Err(WholeError::Damaged), "{at}");
        }
        assert!(both_ways(&[one(), b"junk".to_vec()].concat(), 64).is_err());
        assert_eq!(both_ways(&two, 13), Err(WholeError::TooLarge));
        assert_eq!(both_ways(&one(), 5), Err(WholeError::TooLarge));
    }

    #[test]
    fn the_stream_says_what_is_wrong_in_words() {
        let file = gzip(b"hello, hello, hello");
        let say = |bytes: &[u8]| {
            let mut reader = stream(Format::Gzip, bytes).expect("a stream");
            let error = reader.read_to_end(&mut Vec::new()).expect_err("damage");
            stream_error(Format::Gzip, &error)
        };
        assert_eq!(say(&file[..file.len() - 4]), "gzip ends early");
        let mut wrong_sum = file.clone();
        let at = wrong_sum.len() - 8;
        wrong_sum[at] ^= 1;
        assert_eq!(say(&wrong_sum), "gzip checksum does not match");
        assert_eq!(
            say(&[&file[..], b"junk that is no gzip member"].concat()),
            "gzip is followed by something else"
        );
    }

    #[test]
    fn formats_are_told_by_content() {
        assert_eq!(Format::of(&gzip(b"x")), Format::Gzip);
        let frame = zstd::stream::encode_all(&b"x"[..], 1).expect("memory");
        assert_eq!(Format::of(&frame), Format::Zstd);
        assert_eq!(Format::of(b"{\"Records\":[]}"), Format::Plain);
        assert_eq!(Format::of(b""), Format::Plain);
    }
}
