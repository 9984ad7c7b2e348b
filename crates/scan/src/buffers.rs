//! The memory of one reader thread, used for one file after the other.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use crate::inflate::{Crc, Format, Inflater, WholeError, stream};

/// Files up to this size are read in one go. A larger gzip file rarely fits
/// [`WHOLE_TEXT_BYTES_MAX`].
pub(crate) const WHOLE_FILE_BYTES_MAX: u64 = 3 << 20;
/// A text up to this size is inflated in one go; a larger one goes through a window.
const WHOLE_TEXT_BYTES_MAX: usize = 24 << 20;
/// A text up to this size lies in its thread's own buffer; a larger one in [`LargeText`].
pub(crate) const OWN_TEXT_BYTES_MAX: usize = 8 << 20;
/// Window of a streamed text. Two records of the largest size must fit.
pub(crate) const WINDOW_BYTES_MIN: usize = 2 << 20;

/// The buffer for large texts, which all threads of a scan share. A scan therefore needs the memory
/// of its largest text only once, however its files are spread over the threads. A thread that finds
/// it in use takes its text through a window; large texts are rare.
#[derive(Debug, Default)]
pub(crate) struct LargeText(Mutex<Vec<u8>>);

/// The buffers that belong to one thread alone.
#[derive(Debug, Default)]
pub(crate) struct OwnBuffers {
    inflater: Inflater,
    pub(crate) input: Vec<u8>,
    output: Vec<u8>,
    /// For texts that go through a window.
    pub(crate) window: Vec<u8>,
}

/// All buffers that a thread works with.
pub(crate) struct Buffers<'a> {
    pub(crate) own: OwnBuffers,
    large: &'a LargeText,
    /// Locked while a large text is in it.
    held: Option<MutexGuard<'a, Vec<u8>>>,
}

/// The text of a file, or the way to it.
pub(crate) enum LoadedText<'b> {
    /// All of it. If `crc` is given, the checksum is not verified yet. If it turns out wrong, the
    /// file must be read as a stream from `head`.
    Whole { text: &'b [u8], crc: Option<Crc>, head: &'b [u8] },
    /// As a stream: the bytes that were read of the file, and what follows them.
    Stream { format: Format, head: &'b [u8], rest: Rest },
}

/// What follows the bytes that were read of a file.
pub(crate) enum Rest {
    /// Nothing: the file ends there.
    End,
    /// More of the file, not read yet.
    Unread,
    /// An error: the rest cannot be read.
    Failed(io::Error),
}

impl Rest {
    /// The whole file again, from its first byte.
    pub(crate) fn after<'r>(self, head: &'r [u8], file: impl Read + 'r) -> Box<dyn Read + 'r> {
        match self {
            Self::End => Box::new(head),
            Self::Unread => Box::new(head.chain(file)),
            Self::Failed(error) => Box::new(head.chain(Failing(Some(error)))),
        }
    }
}

/// Fails once with an error, and is at its end then.
struct Failing(Option<io::Error>);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

impl<'a> Buffers<'a> {
    pub(crate) fn new(own: OwnBuffers, large: &'a LargeText) -> Self {
        Self { own, large, held: None }
    }

    /// Lets other threads use the large buffer again.
    pub(crate) fn release(&mut self) {
        self.held = None;
    }

    /// Reads a file, or its beginning if it is large, and inflates it if its text fits into memory
    /// whole and has at most `text_bytes_max` bytes; the stream reports a larger one. With `verified` the checksum is verified here, and libdeflate does all of the inflating.
    ///
    /// # Errors
    /// Nothing could be read. An error after the first byte is [`Rest::Failed`], so that the bytes
    /// before it are still scanned.
    pub(crate) fn load<'b>(
        &'b mut self,
        file: &mut impl Read,
        text_bytes_max: u64,
        verified: bool,
    ) -> io::Result<LoadedText<'b>> {
        self.held = None;
        let OwnBuffers { inflater, input, output, .. } = &mut self.own;
        input.clear();
        let rest = match file.take(WHOLE_FILE_BYTES_MAX).read_to_end(input) {
            Ok(read) if read as u64 == WHOLE_FILE_BYTES_MAX => Rest::Unread,
            Ok(_) => Rest::End,
            Err(error) if input.is_empty() => return Err(error),
            Err(error) => Rest::Failed(error),
        };
        let format = Format::of(input);
        if !matches!(rest, Rest::End) {
            return Ok(LoadedText::Stream { format, head: input, rest });
        }
        match format {
            Format::Plain => Ok(LoadedText::Whole { text: input, crc: None, head: &[] }),
            Format::Zstd => Ok(LoadedText::Stream { format, head: input, rest }),
            Format::Gzip => {
                // The size that the last member states: cheap to check before any work.
                let size = stated_size(input);
                let is_large = size > OWN_TEXT_BYTES_MAX;
                if is_large && size <= WHOLE_TEXT_BYTES_MAX {
                    self.held = self.large.0.try_lock().ok();
                }
                let (output, room) = match &mut self.held {
                    Some(held) => (&mut **held, WHOLE_TEXT_BYTES_MAX),
                    None if is_large => {
                        return Ok(LoadedText::Stream { format, head: input, rest });
                    }
                    None => (output, OWN_TEXT_BYTES_MAX),
                };
                if output.is_empty() {
                    // A page of it takes memory only once a text reaches it.
                    *output = vec![0; room];
                }
                let room = usize::try_from(text_bytes_max).map_or(room, |most| room.min(most));
                let output = &mut output[..room];
                let inflated = if verified {
                    inflater.gzip(input, output).map(|length| (length, None))
                } else {
                    inflater.gzip_unverified(input, output)
                };
                match inflated {
                    Ok((length, crc)) => {
                        Ok(LoadedText::Whole { text: &output[..length], crc, head: input })
                    }
                    // The text before the damage is still worth reading.
                    Err(WholeError::TooLarge | WholeError::Damaged) => {
                        Ok(LoadedText::Stream { format, head: input, rest })
                    }
                }
            }
        }
    }

    /// How many bytes a file decompresses to.
    pub(crate) fn decompressed_bytes(&mut self, path: &Path) -> io::Result<u64> {
        let mut file = File::open(path)?;
        match self.load(&mut file, u64::MAX, true)? {
            LoadedText::Whole { text, .. } => Ok(text.len() as u64),
            LoadedText::Stream { format, head, rest } => {
                let mut text = stream(format, rest.after(head, file))?;
                let mut window = vec![0; WINDOW_BYTES_MIN];
                let mut bytes = 0;
                loop {
                    match text.read(&mut window)? {
                        0 => return Ok(bytes),
                        read => bytes += read as u64,
                    }
                }
            }
        }
    }
}

/// The decompressed size, as the last four bytes of a gzip file state it.
fn stated_size(gzip: &[u8]) -> usize {
    gzip.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size) as usize)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).expect("memory");
        gzip.finish().expect("memory")
    }

    #[test]
    fn a_large_text_is_whole_for_one_thread_and_goes_through_a_window_for_the_others() {
        let file = gzip(&vec![b' '; OWN_TEXT_BYTES_MAX + 1]);
        let large = LargeText::default();
        let mut one = Buffers::new(OwnBuffers::default(), &large);
        let mut other = Buffers::new(OwnBuffers::default(), &large);
        let is_whole = |buffers: &mut Buffers<'_>, mut file: &[u8]| {
            let loaded = buffers.load(&mut file, u64::MAX, false).expect("memory");
            matches!(loaded, LoadedText::Whole { text, .. } if text.len() > OWN_TEXT_BYTES_MAX)
        };
        assert!(is_whole(&mut one, &file));
        assert!(!is_whole(&mut other, &file));
        // Free again once the first reads another file.
        assert!(!is_whole(&mut one, b"small"));
        assert!(is_whole(&mut other, &file));
    }

    #[test]
    fn bytes_before_a_failed_read_are_kept_and_the_failure_follows_them() {
        let large = LargeText::default();
        let mut buffers = Buffers::new(OwnBuffers::default(), &large);
        let reset = || Failing(Some(io::ErrorKind::ConnectionReset.into()));
        assert!(buffers.load(&mut reset(), u64::MAX, false).is_err(), "nothing was read");
        let mut file = b"{\"a\":1}".chain(reset());
        let loaded = buffers.load(&mut file, u64::MAX, false).expect("the beginning");
        let LoadedText::Stream { head, rest, .. } = loaded else { panic!("whole") };
        let mut text = Vec::new();
        let error = rest.after(head, io::empty()).read_to_end(&mut text).expect_err("the failure");
        assert_eq!(
            (text.as_slice(), error.kind()),
            (&b"{\"a\":1}"[..], io::ErrorKind::ConnectionReset)
        );
    }
}
