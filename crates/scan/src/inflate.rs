//! Decompression: gzip files that fit in memory at the speed of libdeflate, everything else as a
//! stream in a window.

// Calls of libdeflate's C interface; each says why it is sound.
#![allow(unsafe_code)]

use std::io::{self, BufReader, Read};
use std::ptr::NonNull;

use flate2::bufread::MultiGzDecoder;

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

/// libdeflate's decompressor for one thread.
pub(crate) struct Inflater {
    decompressor: NonNull<libdeflate_sys::libdeflate_decompressor>,
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
        Self { decompressor }
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
            match result {
                libdeflate_sys::libdeflate_result_LIBDEFLATE_SUCCESS => {
                    read += used;
                    written += made;
                }
                libdeflate_sys::libdeflate_result_LIBDEFLATE_INSUFFICIENT_SPACE => {
                    return Err(WholeError::TooLarge);
                }
                _ => return Err(WholeError::Damaged),
            }
        }
        Ok(written)
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
