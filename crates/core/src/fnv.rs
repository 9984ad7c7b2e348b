//! FNV-1a, 64 bits: a hash that is the same on every machine and in every version, which std's hasher
//! does not promise. Not for secrets: collisions are easy to make.

/// The hash of some bytes.
///
/// ```
/// // Test vectors of the authors: http://www.isthe.com/chongo/src/fnv/test_fnv.c
/// assert_eq!(rootwatch_core::fnv::hash(b""), 0xcbf2_9ce4_8422_2325);
/// assert_eq!(rootwatch_core::fnv::hash(b"foobar"), 0x8594_4171_f739_67e8);
/// ```
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    extend(0xcbf2_9ce4_8422_2325, bytes)
}

/// The hash of the bytes that `hash` was made of, followed by these.
#[must_use]
pub fn extend(hash: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
