//! Items: their values, keys, bodies, and how many of them are written into a journal.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use flate2::read::DeflateDecoder;
use flate2::{Compress, Compression, FlushCompress, Status};
use ring::digest::{SHA256, digest};
use rootwatch_core::hex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StoreError;
use crate::rows::{from_json, json};

/// Bytes of a name that are written out in a key; a longer one is cut and hashed.
const NAME_BYTES_MAX: usize = 480;
/// Maximum bytes of a decompressed body.
const INFLATED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The attribute with what an item is about, compressed JSON.
pub(super) const BODY: &str = "b";
/// The attribute that says of how many parts the body is, when it does not fit the item.
pub(super) const PARTS: &str = "parts";
/// The keys of the index for lists.
pub(super) const LIST_PK: &str = "gpk";
pub(super) const LIST_SK: &str = "gsk";

/// A value, of the four kinds that are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Val {
    S(String),
    N(i64),
    B(Vec<u8>),
    L(Vec<String>),
}

/// The primary key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) pk: String,
    pub(super) sk: String,
}

impl Key {
    pub(super) fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self { pk: pk.into(), sk: sk.into() }
    }

    pub(super) fn attributes(&self) -> HashMap<String, AttributeValue> {
        HashMap::from([
            ("pk".to_owned(), AttributeValue::S(self.pk.clone())),
            ("sk".to_owned(), AttributeValue::S(self.sk.clone())),
        ])
    }
}

/// The attributes of an item without its key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Item(pub(super) BTreeMap<String, Val>);

impl Item {
    pub(super) fn with(mut self, name: &str, value: impl Into<Val>) -> Self {
        self.set(name, value);
        self
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<Val>) {
        self.0.insert(name.to_owned(), value.into());
    }

    pub(super) fn unset(&mut self, name: &str) {
        self.0.remove(name);
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Val::S(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<i64> {
        match self.0.get(name) {
            Some(Val::N(number)) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn texts(&self, name: &str) -> Option<&[String]> {
        match self.0.get(name) {
            Some(Val::L(texts)) => Some(texts),
            _ => None,
        }
    }

    /// A text that has to be there.
    pub(super) fn needs(&self, name: &str) -> Result<&str, StoreError> {
        self.text(name).ok_or_else(|| missing(name))
    }

    /// A number that has to be there.
    pub(super) fn counts(&self, name: &str) -> Result<i64, StoreError> {
        self.number(name).ok_or_else(|| missing(name))
    }

    pub(super) fn with_body<T: Serialize>(mut self, body: &T) -> Result<Self, StoreError> {
        self.set(BODY, deflate(json(body)?.as_bytes())?);
        Ok(self)
    }

    pub(super) fn body<T: DeserializeOwned>(&self, what: &str) -> Result<T, StoreError> {
        let Some(Val::B(bytes)) = self.0.get(BODY) else { return Err(missing(BODY)) };
        let text = String::from_utf8(inflate(bytes)?)
            .map_err(|error| StoreError::Damaged { reason: format!("{what}: {error}") })?;
        from_json(what, &text)
    }

    pub(super) fn read(
        attributes: HashMap<String, AttributeValue>,
    ) -> Result<(Key, Self), StoreError> {
        let mut item = Self::default();
        let mut key = Key::new("", "");
        for (name, value) in attributes {
            let value = match value {
                AttributeValue::S(text) if name == "pk" => {
                    key.pk = text;
                    continue;
                }
                AttributeValue::S(text) if name == "sk" => {
                    key.sk = text;
                    continue;
                }
                AttributeValue::S(text) => Val::S(text),
                AttributeValue::N(text) => Val::N(text.parse().map_err(|_| missing(&name))?),
                AttributeValue::B(bytes) => Val::B(bytes.into_inner()),
                AttributeValue::L(values) => {
                    let texts = values.into_iter().filter_map(|one| match one {
                        AttributeValue::S(text) => Some(text),
                        _ => None,
                    });
                    Val::L(texts.collect())
                }
                // Of another program, or a later version of this one.
                _ => continue,
            };
            item.0.insert(name, value);
        }
        Ok((key, item))
    }

    pub(super) fn attributes(&self, key: &Key) -> HashMap<String, AttributeValue> {
        let mut all = key.attributes();
        for (name, value) in &self.0 {
            all.insert(name.clone(), value.attribute());
        }
        all
    }

    /// Approximate size as DynamoDB counts it.
    pub(super) fn bytes(&self) -> usize {
        let of = |value: &Val| match value {
            Val::S(text) => text.len(),
            Val::N(_) => 12,
            Val::B(bytes) => bytes.len(),
            Val::L(texts) => 3 + texts.iter().map(|text| text.len() + 1).sum::<usize>(),
        };
        self.0.iter().map(|(name, value)| name.len() + of(value)).sum()
    }
}

fn missing(name: &str) -> StoreError {
    StoreError::Damaged { reason: format!("an item lacks the attribute {name:?}") }
}

impl Val {
    pub(super) fn attribute(&self) -> AttributeValue {
        match self {
            Self::S(text) => AttributeValue::S(text.clone()),
            Self::N(number) => AttributeValue::N(number.to_string()),
            Self::B(bytes) => AttributeValue::B(Blob::new(bytes.clone())),
            Self::L(texts) => {
                AttributeValue::L(texts.iter().cloned().map(AttributeValue::S).collect())
            }
        }
    }
}

impl From<&str> for Val {
    fn from(text: &str) -> Self {
        Self::S(text.to_owned())
    }
}

impl From<String> for Val {
    fn from(text: String) -> Self {
        Self::S(text)
    }
}

impl From<i64> for Val {
    fn from(number: i64) -> Self {
        Self::N(number)
    }
}

impl From<Vec<u8>> for Val {
    fn from(bytes: Vec<u8>) -> Self {
        Self::B(bytes)
    }
}

impl From<Vec<String>> for Val {
    fn from(texts: Vec<String>) -> Self {
        Self::L(texts)
    }
}

/// A text as part of a key: itself, or cut and with its hash when it is long.
pub(super) fn name(text: &str) -> String {
    if text.len() <= NAME_BYTES_MAX {
        return text.to_owned();
    }
    let begin = &text[..text.floor_char_boundary(NAME_BYTES_MAX - 80)];
    format!("{begin}#{}", hash(text))
}

/// SHA-256 in hexadecimal digits.
fn hash(text: &str) -> String {
    hex::encode(digest(&SHA256, text.as_bytes()).as_ref())
}

/// A number that sorts as text as it does by itself.
pub(super) fn sorted(number: i64) -> String {
    // i64::MIN becomes 0.
    format!("{:020}", (number as u64) ^ (1 << 63))
}

/// The number of a text that [`sorted`] made.
pub(super) fn unsorted(text: &str) -> Result<i64, StoreError> {
    let number: u64 = text
        .get(..20)
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| StoreError::Damaged { reason: format!("{text:?} begins with no place") })?;
    Ok((number ^ (1 << 63)) as i64)
}

thread_local! {
    /// Some hundred kilobytes, which to take and to clear anew for each small text would be most of
    /// the work.
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(Compression::fast(), false));
}

pub(super) fn deflate(bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    COMPRESS.with_borrow_mut(|compress| {
        compress.reset();
        let mut out = Vec::new();
        loop {
            let read = compress.total_in() as usize;
            out.reserve(bytes.len() / 4 + 64);
            let status = compress.compress_vec(&bytes[read..], &mut out, FlushCompress::Finish);
            match status {
                Ok(Status::StreamEnd) => return Ok(out),
                Ok(_) => {}
                Err(error) => return Err(StoreError::Damaged { reason: error.to_string() }),
            }
        }
    })
}

pub(super) fn inflate(bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut text = Vec::new();
    DeflateDecoder::new(bytes)
        .take(INFLATED_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|error| StoreError::Damaged { reason: format!("compressed text: {error}") })?;
    Ok(text)
}

/// One step of a journal: put an item, delete one, or enqueue a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    Put(Key, Item),
    Delete(Key),
    /// A delivery to enqueue, as JSON.
    Enqueue(Vec<u8>),
}

/// The bytes of a journal.
pub(super) fn encode(ops: &[Op]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = |tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend((bytes.len() as u32).to_be_bytes());
        out.extend(bytes);
    };
    for op in ops {
        match op {
            Op::Put(key, item) => {
                bytes(b'P', key.pk.as_bytes());
                bytes(b'k', key.sk.as_bytes());
                for (name, value) in &item.0 {
                    bytes(b'n', name.as_bytes());
                    match value {
                        Val::S(text) => bytes(b'S', text.as_bytes()),
                        Val::N(number) => bytes(b'N', &number.to_be_bytes()),
                        Val::B(blob) => bytes(b'B', blob),
                        Val::L(texts) => {
                            bytes(b'L', &[]);
                            texts.iter().for_each(|text| bytes(b'l', text.as_bytes()));
                        }
                    }
                }
            }
            Op::Delete(key) => {
                bytes(b'D', key.pk.as_bytes());
                bytes(b'k', key.sk.as_bytes());
            }
            Op::Enqueue(delivery) => bytes(b'O', delivery),
        }
    }
    out
}

/// What [`encode`] wrote.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Op>, StoreError> {
    let bad = || StoreError::Damaged { reason: "a journal is not readable".to_owned() };
    let mut ops: Vec<Op> = Vec::new();
    let mut attribute = String::new();
    let mut rest = bytes;
    while let Some((&tag, after)) = rest.split_first() {
        let (length, after) = after.split_first_chunk::<4>().ok_or_else(bad)?;
        let (bytes, after) =
            after.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(bad)?;
        rest = after;
        let text = || String::from_utf8(bytes.to_vec()).map_err(|_| bad());
        let value = match (tag, ops.last_mut()) {
            (b'P', _) => {
                ops.push(Op::Put(Key::new(text()?, ""), Item::default()));
                continue;
            }
            (b'D', _) => {
                ops.push(Op::Delete(Key::new(text()?, "")));
                continue;
            }
            (b'O', _) => {
                ops.push(Op::Enqueue(bytes.to_vec()));
                continue;
            }
            (b'k', Some(Op::Put(key, _) | Op::Delete(key))) => {
                key.sk = text()?;
                continue;
            }
            (b'n', _) => {
                attribute = text()?;
                continue;
            }
            (b'l', Some(Op::Put(_, item))) => {
                let Some(Val::L(texts)) = item.0.get_mut(&attribute) else { return Err(bad()) };
                texts.push(text()?);
                continue;
            }
            (b'S', _) => Val::S(text()?),
            (b'N', _) => Val::N(i64::from_be_bytes(bytes.try_into().map_err(|_| bad())?)),
            (b'B', _) => Val::B(bytes.to_vec()),
            (b'L', _) => Val::L(Vec::new()),
            _ => return Err(bad()),
        };
        let Some(Op::Put(_, item)) = ops.last_mut() else { return Err(bad()) };
        item.0.insert(attribute.clone(), value);
    }
    Ok(ops)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_comes_back_and_a_cut_one_is_refused() {
        let item = Item::default()
            .with("s", "Ünï\u{0}")
            .with("n", i64::MIN)
            .with("b", vec![0_u8, 255])
            .with("l", vec!["one".to_owned(), String::new()]);
        let ops = vec![
            Op::Put(Key::new("a", "b"), item),
            Op::Delete(Key::new("c", "")),
            Op::Enqueue(b"{}".to_vec()),
            Op::Put(Key::new("d", "e"), Item::default()),
        ];
        let bytes = encode(&ops);
        assert_eq!(decode(&bytes).expect("ours"), ops);
        for end in [1, 3, bytes.len() - 1] {
            assert!(decode(&bytes[..end]).is_err(), "{end}");
        }
        assert!(decode(b"n\0\0\0\0").is_ok_and(|ops| ops.is_empty()));
        assert!(decode(b"S\0\0\0\0").is_err());
    }

    #[test]
    fn numbers_sort_as_text() {
        let numbers = [i64::MIN, -7, 0, 3, 1_700_000_000_000_000, i64::MAX];
        let texts: Vec<String> = numbers.iter().map(|number| sorted(*number)).collect();
        assert!(texts.is_sorted());
        for (number, text) in numbers.iter().zip(&texts) {
            assert_eq!(unsorted(text).expect("ours"), *number);
        }
    }

    #[test]
    fn long_names_stay_apart_and_short_ones_as_they_are() {
        assert_eq!(name("111122223333/x"), "111122223333/x");
        let long = "ü".repeat(2_000);
        let (one, other) = (name(&format!("{long}1")), name(&format!("{long}2")));
        assert!(one.len() <= NAME_BYTES_MAX && one != other);
    }

    #[test]
    fn a_body_comes_back() {
        let item = Item::default().with_body(&vec!["x"; 1_000]).expect("a body");
        assert!(item.bytes() < 100);
        assert_eq!(item.body::<Vec<String>>("texts").expect("ours"), vec!["x".to_owned(); 1_000]);
    }
}
