//! `s3://bucket/prefix`.

use super::super::failure::CloudError;

/// Bytes of a bucket's name, at least and at most.
const BUCKET_BYTES: std::ops::RangeInclusive<usize> = 3..=63;

/// A bucket, and which of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Address {
    /// Name of the bucket.
    pub bucket: String,
    /// A folder, an object, or, with `any_ending`, the beginning of keys. Empty for the whole bucket.
    pub prefix: String,
    /// `s3://bucket/AWSLogs/1111*`: every key that begins so, not only what is in that folder.
    pub any_ending: bool,
}

impl S3Address {
    /// Reads `s3://bucket[/prefix][*]`.
    ///
    /// # Errors
    /// It does not have that form.
    pub fn parse(text: &str) -> Result<Self, CloudError> {
        let wrong = |reason: &str| CloudError::Address {
            text: text.to_owned(),
            reason: reason.to_owned(),
            hint: "write s3://BUCKET/PREFIX, such as s3://my-trail/AWSLogs/",
        };
        let rest = text.strip_prefix("s3://").ok_or_else(|| wrong("not an S3 address"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_plain = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_')
        };
        if !BUCKET_BYTES.contains(&bucket.len()) || !bucket.bytes().all(is_plain) {
            return Err(wrong("a bucket has 3 to 63 lowercase letters, digits, `-` and `.`"));
        }
        let (prefix, any_ending) = match prefix.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (prefix, false),
        };
        if prefix.contains(['*', '?']) {
            return Err(wrong("in an S3 address, `*` is only allowed at the end"));
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned(), any_ending })
    }
}

impl std::fmt::Display for S3Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let star = if self.any_ending { "*" } else { "" };
        write!(f, "s3://{}/{}{star}", self.bucket, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_bucket_and_a_prefix() {
        let address = S3Address::parse("s3://my-trail/AWSLogs/o-x/").expect("an address");
        assert_eq!(
            (address.bucket.as_str(), address.prefix.as_str()),
            ("my-trail", "AWSLogs/o-x/")
        );
        assert!(!address.any_ending);
        assert_eq!(S3Address::parse("s3://my-trail").expect("an address").prefix, "");
        let any = S3Address::parse("s3://my-trail/AWSLogs/11*").expect("an address");
        assert_eq!((any.prefix.as_str(), any.any_ending), ("AWSLogs/11", true));
        for wrong in ["s3://", "s3:///a", "s3://My_Trail/a", "s3://my-trail/a*/b", "s3://ab/c"] {
            assert!(S3Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
