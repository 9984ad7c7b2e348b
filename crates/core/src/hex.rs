//! Bytes as hexadecimal text.

/// Bytes in lower-case hexadecimal digits, two for each.
///
/// ```
/// assert_eq!(rootwatch_core::hex::encode(&[0, 171, 255]), "00abff");
/// ```
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 0xf)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}
