//! Decompression: gzip files that fit into memory whole, by our own inflater where the processor has
//! what it needs ([`deflate`]) and by libdeflate elsewhere; everything else as a stream in a window.
//!
//! # Why there are three inflaters
//!
//! * **Ours** inflates whole files, almost all of an archive. With libdeflate in its place a scan with
//!   all rules takes 1.19 times the CPU time (1,674 instead of 1,990 MB of text per CPU second, one
//!   thread of a Zen 4, 120 MB of log files).
//! * **libdeflate** inflates whole files on processors without AVX2 and BMI2, such as all ARM ones, where
//!   ours is not measured, and further members of a file. Its checksum is used everywhere. Tests and
//!   fuzzing compare ours with it, and the benchmark measures against it.
//! * **zlib-rs** (by flate2) inflates streams: files that are too large to inflate whole, and the text
//!   before the damage of a damaged one. Neither of the other two can stop between two pieces of input.
//!   flate2 also serves the HTTP API of the hub.
//!
//! SAFETY notes name these:
//!
//! * **\[SLICE\]**: the pointers and lengths are those of live slices, and the C function reads and
//!   writes only within them.
//! * **\[OURS\]**: the decompressor is live, and `&mut self` shows that no other thread uses it.

// Calls of libdeflate's C interface; each says why it is sound.
#![allow(unsafe_code)]

mod codes;
mod crc;
mod deflate;
mod error;
mod format;

use std::ptr::NonNull;

use self::codes::Codes;
pub(crate) use self::crc::Crc;
pub(crate) use self::error::WholeError;
use self::format::GZIP;
pub(crate) use self::format::{Format, stream, stream_error};

/// Bytes of a gzip member's header without what its flags announce.
const HEADER_BYTES: usize = 10;
/// Bytes after a gzip member's data: checksum and size.
const FOOTER_BYTES: usize = 8;

/// Length of the header of a gzip member, if there is room for a footer after it.
///
/// It accepts and refuses exactly what libdeflate accepts and refuses: the header's own checksum is
/// not verified.
fn header_bytes(member: &[u8]) -> Option<usize> {
    const CHECKSUM: u8 = 1 << 1;
    const EXTRA: u8 = 1 << 2;
    const NAME: u8 = 1 << 3;
    const COMMENT: u8 = 1 << 4;
    const RESERVED: u8 = 0xe0;
    if !member.starts_with(&GZIP) {
        return None;
    }
    // Header and data.
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

/// The decompressors of one thread.
pub(crate) struct Inflater {
    /// libdeflate's.
    decompressor: NonNull<libdeflate_sys::libdeflate_decompressor>,
    /// Our own tables, where the processor has what our own inflater needs.
    codes: Option<Box<Codes>>,
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").field("has_own", &self.codes.is_some()).finish_non_exhaustive()
    }
}

impl Default for Inflater {
    fn default() -> Self {
        // SAFETY: has no preconditions; null means that memory is exhausted.
        let decompressor = unsafe { libdeflate_sys::libdeflate_alloc_decompressor() };
        let Some(decompressor) = NonNull::new(decompressor) else {
            std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; 1 << 15]>())
        };
        Self { decompressor, codes: deflate::is_available().then(Codes::new) }
    }
}

// SAFETY: libdeflate's decompressor has no thread affinity; one thread may use it at a time, which
// `&mut self` ensures.
unsafe impl Send for Inflater {}

impl Inflater {
    /// As [`Inflater::gzip`], but does not verify the checksum: the caller has to, with the [`Crc`].
    /// Of a file with more than one member it is verified here.
    pub(crate) fn gzip_unverified(
        &mut self,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<(usize, Option<Crc>), WholeError> {
        let header = header_bytes(input).ok_or(WholeError::Damaged)?;
        let data = &input[header..input.len() - FOOTER_BYTES];
        let (used, made) = self.deflate(data, out)?;
        let after = &input[header + used..];
        let (Some(crc), Some(size)) =
            (after.first_chunk::<4>(), after.get(4..).and_then(<[u8]>::first_chunk::<4>))
        else {
            return Err(WholeError::Damaged);
        };
        if made as u32 != u32::from_le_bytes(*size) {
            return Err(WholeError::Damaged);
        }
        let crc = Crc::stated(u32::from_le_bytes(*crc));
        let others = &after[FOOTER_BYTES..];
        if others.iter().all(|byte| *byte == 0) {
            return Ok((made, Some(crc)));
        }
        if !crc.matches(&out[..made]) {
            return Err(WholeError::Damaged);
        }
        let more = self.gzip(others, &mut out[made..])?;
        Ok((made + more, None))
    }

    /// Inflates the deflate data with which `data` begins, without header and footer. Returns the
    /// number of bytes read and written.
    fn deflate(&mut self, data: &[u8], out: &mut [u8]) -> Result<(usize, usize), WholeError> {
        if let Some(codes) = &mut self.codes {
            // SAFETY: `default` makes codes only if the processor has what this needs.
            return unsafe { deflate::inflate(codes, data, out) };
        }
        let (mut used, mut made) = (0, 0);
        // SAFETY: [SLICE], [OURS].
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

    /// Inflates all members of a gzip file into `out` and verifies their checksums. Returns the number
    /// of bytes written.
    ///
    /// Bytes after the last member are damage unless they begin another, or are zeros, with which
    /// some programs pad.
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
            // SAFETY: [SLICE], [OURS].
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

/// Inflates deflate data by libdeflate and by our own code into `room` bytes; returns the text, or
/// `None` if it is refused. For tests and fuzzing.
///
/// # Panics
/// When the two differ, or something is written beyond the room.
#[doc(hidden)]
#[must_use]
pub fn inflate_both_ways(data: &[u8], room: usize) -> Option<Vec<u8>> {
    /// Written after the room before inflating, and compared afterwards.
    const BEYOND: [u8; 700] = [0xa5; 700];
    let mut inflater = Inflater::default();
    let mut own = inflater.codes.take();
    // Allocated to its exact length, so that tools see a read beyond it.
    let data: Box<[u8]> = data.into();
    let mut right = vec![0; room];
    let theirs = inflater.deflate(&data, &mut right).ok();
    if let Some(codes) = &mut own {
        let mut out = [vec![0; room], BEYOND.to_vec()].concat();
        // SAFETY: `default` makes codes only if the processor has what this needs.
        let ours = unsafe { deflate::inflate(codes, &data, &mut out[..room]) }.ok();
        assert_eq!(ours, theirs, "{data:02x?}, {room} bytes of room");
        assert!(out[room..] == BEYOND, "{data:02x?}, {room} bytes of room");
        if let Some((_, made)) = ours {
            assert!(out[..made] == right[..made], "{data:02x?}");
        }
    }
    theirs.map(|(_, made)| right[..made].to_vec())
}

/// libdeflate's result as ours.
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

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
        let length = Inflater::default().gzip(&file, &mut out).expect("sound");
        assert_eq!(&out[..length], b"one two one ");
        let mut text = String::new();
        let mut reader = stream(Format::Gzip, &file[..]).expect("a stream");
        reader.read_to_string(&mut text).expect("sound");
        assert_eq!(text, "one two one ");
    }

    #[test]
    fn damage_and_lack_of_room_are_different_errors() {
        let file = gzip(&[b'x'; 1000]);
        let mut inflater = Inflater::default();
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

    /// A member whose header has the parts that `flags` announce.
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
            // A wrong checksum of the header: libdeflate does not verify it either.
            file.extend(b"\x12\x34");
        }
        file.extend(&plain[HEADER_BYTES..]);
        file
    }

    /// Both ways must give the same; returns it.
    fn both_ways(file: &[u8], room: usize) -> Result<Vec<u8>, WholeError> {
        let mut inflater = Inflater::default();
        let (mut a, mut b) = (vec![0; room], vec![0; room]);
        let at_once = inflater.gzip(file, &mut a).map(|length| a[..length].to_vec());
        let later = inflater.gzip_unverified(file, &mut b).and_then(|(length, crc)| {
            let text = &b[..length];
            match crc {
                Some(mut crc) => {
                    crc.update(text, length / 3);
                    crc.update(text, length / 2);
                    if crc.matches(text) { Ok(text.to_vec()) } else { Err(WholeError::Damaged) }
                }
                None => Ok(text.to_vec()),
            }
        });
        // Either error leads to the stream, which reports the kind of damage.
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
    fn the_stream_names_the_damage() {
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
    fn the_content_shows_the_format() {
        assert_eq!(Format::of(&gzip(b"x")), Format::Gzip);
        let frame = zstd::stream::encode_all(&b"x"[..], 1).expect("memory");
        assert_eq!(Format::of(&frame), Format::Zstd);
        assert_eq!(Format::of(b"{\"Records\":[]}"), Format::Plain);
        assert_eq!(Format::of(b""), Format::Plain);
    }
}
