//! FNV-1a, 64 bits: a hash that is the same in every version and on every machine, which the
//! standard library's is not. Not for secrets: anybody can find collisions.

/// The hash of these bytes.
///
/// ```
/// assert_eq!(rootwatch_core::fnv::hash(*b"a"), 0xaf63_dc4c_8601_ec8c);
/// ```
#[must_use]
pub fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
