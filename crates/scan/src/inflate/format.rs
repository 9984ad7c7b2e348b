//! Compression formats by their first bytes, and the decompressed text as a stream.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

/// First bytes of a gzip member: magic number and the only method there is.
pub(super) const GZIP: [u8; 3] = [0x1f, 0x8b, 8];
/// First bytes of a zstd frame.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// First bytes of a zstd skippable frame, but for its low four bits.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
/// Largest zstd window that is accepted, as a power of two: 32 MiB a thread.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;
/// Bytes read at a time from a compressed stream.
const STREAM_READ_BYTES: usize = 64 << 10;

/// The format that a file's first bytes show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Gzip,
    Zstd,
    /// Not compressed in a known way: text, or something that is not a log file.
    Plain,
}

impl Format {
    /// The format by content, whatever the file's name.
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

/// A decompressor's error as a reason in a summary.
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
