//! The checksum of a gzip member, computed while its text is scanned.

// Calls of libdeflate's C interface.
#![allow(unsafe_code)]

/// A checksum that is computed piece by piece, each piece right before it is scanned: so the processor
/// fetches the piece from memory once for both.
#[derive(Debug)]
pub(crate) struct Crc {
    stated: u32,
    value: u32,
    /// How many bytes of the text are in it.
    bytes: usize,
}

impl Crc {
    /// No bytes yet; `stated` is the checksum that the file states.
    pub(crate) fn stated(stated: u32) -> Self {
        Self { stated, value: 0, bytes: 0 }
    }

    /// Adds the text as far as `to`.
    #[inline]
    pub(crate) fn update(&mut self, text: &[u8], to: usize) {
        let Some(piece) = text.get(self.bytes..to) else { return };
        // SAFETY: pointer and length are those of a live slice.
        self.value = unsafe {
            libdeflate_sys::libdeflate_crc32(self.value, piece.as_ptr().cast(), piece.len())
        };
        self.bytes = to;
    }

    /// Adds the text as far as `to` and returns the checksum up to there; `None` if more bytes are in
    /// it already.
    pub(crate) fn value_at(&mut self, text: &[u8], to: usize) -> Option<u32> {
        self.update(text, to);
        (self.bytes == to).then_some(self.value)
    }

    /// Adds the text as far as `to`, which has been folded into `folded`: both have the same
    /// checksum.
    pub(crate) fn add_folded(&mut self, to: usize, folded: &[u8]) {
        // SAFETY: pointer and length are those of a live slice.
        self.value =
            unsafe { libdeflate_sys::libdeflate_crc32(!0, folded.as_ptr().cast(), folded.len()) };
        self.bytes = to;
    }

    /// Adds the rest of the text. True if the checksum is the stated one.
    pub(crate) fn matches(mut self, text: &[u8]) -> bool {
        self.update(text, text.len());
        self.value == self.stated
    }
}
