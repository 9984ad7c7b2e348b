//! A small JSON reader for pattern texts that keeps the place of every value.
//!
//! Patterns are short and read once, so this favours exact positions; `serde_json::Value` was set
//! aside because it keeps neither positions, nor duplicate keys, nor the text of a number.

use super::error::PatternErrorKind as Kind;
use super::limits::PATTERN_DEPTH_MAX;
use super::text::{self, Unescaped};

/// A value and the byte offset where it begins.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// The number as written.
    Number(String),
    String(String),
    List(Vec<Node>),
    /// Keys in the order written, with duplicates.
    Object(Vec<Member>),
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) key: String,
    pub(super) at: usize,
    pub(super) value: Node,
}

/// A fault and the byte offset of it.
pub(super) type Fault = (Kind, usize);

/// Reads one JSON value which must fill the whole text.
pub(super) fn read(text: &str) -> Result<Node, Fault> {
    let mut reader = Reader { text, at: 0 };
    let node = reader.value(0)?;
    reader.space();
    if reader.at == text.len() { Ok(node) } else { Err(reader.fault("end of text")) }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn fault(&self, expected: &'static str) -> Fault {
        (Kind::Json(expected), self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        self.space();
        let at = self.at;
        let value = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::String(self.string()?),
            Some(b't' | b'f' | b'n' | b'-' | b'0'..=b'9') => self.scalar()?,
            _ => return Err(self.fault("a value is missing")),
        };
        Ok(Node { at, value })
    }

    fn scalar(&mut self) -> Result<Value, Fault> {
        let rest = &self.text.as_bytes()[self.at..];
        let token = &rest[..text::scalar_len(rest)];
        let value = match token {
            b"true" => Value::Bool(true),
            b"false" => Value::Bool(false),
            b"null" => Value::Null,
            _ if text::is_number(token) => {
                Value::Number(String::from_utf8_lossy(token).into_owned())
            }
            _ => return Err(self.fault("neither a number nor true, false or null")),
        };
        self.at += token.len();
        Ok(value)
    }

    fn string(&mut self) -> Result<String, Fault> {
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let mut end = start;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(0..0x20) => {
                    return Err((Kind::Json("control character in a string"), end));
                }
                Some(_) => end += 1,
                None => return Err(self.fault("string is not closed")),
            }
        }
        let raw = self.text.get(start..end).unwrap_or_default();
        let mut out = String::new();
        match text::unescape(raw, &mut out) {
            Ok(Unescaped::Whole) => {}
            // A pattern is written by hand, so half a surrogate pair is a slip and not data.
            Ok(Unescaped::LoneSurrogate(at)) | Err(at) => {
                return Err((Kind::Json("bad escape in a string"), start + at));
            }
        }
        self.at = end + 1;
        Ok(out)
    }

    fn deeper(&self, depth: usize) -> Result<usize, Fault> {
        if depth < PATTERN_DEPTH_MAX {
            Ok(depth + 1)
        } else {
            Err((Kind::TooDeep(PATTERN_DEPTH_MAX), self.at))
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        let depth = self.deeper(depth)?;
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::List(items));
                }
                _ => return Err(self.fault("a list goes on with `,` or `]`")),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, Fault> {
        let depth = self.deeper(depth)?;
        self.at += 1;
        let mut members = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            let at = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.fault("a key must be a string"));
            }
            let key = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.fault("`:` is missing after a key"));
            }
            self.at += 1;
            members.push(Member { key, at, value: self.value(depth)? });
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Object(members));
                }
                _ => return Err(self.fault("an object goes on with `,` or `}`")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_places_and_duplicate_keys() {
        let node = read(" {\"a\": [1],\n \"a\": 3.0e2}").unwrap();
        let Value::Object(members) = node.value else { panic!("not an object") };
        assert_eq!(node.at, 1);
        assert_eq!((members[0].at, members[1].at), (2, 13));
        assert!(matches!(&members[1].value.value, Value::Number(n) if n == "3.0e2"));
    }

    #[test]
    fn refuses_what_is_not_json() {
        for text in ["", "{", "[1,]", "{\"a\":}", "01", "tru", "\"\\x\"", "\"\\ud800\"", "{} {}"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read(&"[".repeat(5000)).is_err());
    }
}
