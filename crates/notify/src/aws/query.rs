//! The Query protocol of SNS, and what its parameters allow.

pub(crate) use rootwatch_aws::Form;
pub(crate) use rootwatch_aws::xml::{members, pairs};

use rootwatch_core::hex;

/// Characters of a message's group.
const GROUP_CHARS_MAX: usize = 128;

/// The SHA-256 of a text in 64 hexadecimal digits, for ids that the service would not take.
pub(crate) fn hashed(text: &str) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref())
}

/// The message group of a thread in a FIFO topic: the thread's name, if SNS allows its characters and
/// length, else its hash.
pub(crate) fn group(thread: &str) -> String {
    let fits = (1..=GROUP_CHARS_MAX).contains(&thread.len())
        && thread.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { thread.to_owned() } else { hashed(thread) }
}
