//! Changes to an input: of bytes, of tokens, and of the shapes in which records are delivered.

/// A small random number generator (xorshift64*): the same seed gives the same inputs everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() >> 16) as usize % end }
    }

    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.below(list.len()))
    }
}

/// Bytes of an input; more only costs time.
pub(crate) const INPUT_BYTES_MAX: usize = 16 << 10;

/// Pieces of JSON, records and patterns.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\\"",
    "\\\\",
    "\n",
    " ",
    "\t",
    "\r\n",
    "\u{feff}",
    "\0",
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1e999",
    "300.0",
    "\"\"",
    "{}",
    "[]",
    "[{}]",
    "é",
    "\u{1f511}",
    "\\u0052",
    "\\u0000",
    "\\ud83d",
    "\\udd11",
    "\\u003a",
    "{\"Records\":[",
    "]}",
    "}{",
    "},{",
    "\"Root\"",
    "\"root\"",
    "\"ROOT\"",
    "\"\\u0052oot\"",
    "\"Ro\\u006ft\"",
    ":root\"",
    "\"type\":",
    "\"type\":\"Root\",",
    "\"AssumeRoot\"",
    "\"assumedRoot\":\"true\"",
    "\"userIdentity\":",
    "\"userIdentity\":{},",
    "\"eventName\":",
    "\"eventName\":\"ConsoleLogin\",",
    "\"eventVersion\":",
    "\"eventType\":\"AwsConsoleAction\"",
    "\"eventType\":",
    "\"eventTime\":\"2026-03-01T10:00:00Z\",",
    "\"eventTime\":\"9999-12-31T23:59:59Z\",",
    "\"eventTime\":\"-009999-01-01T00:00:00Z\",",
    "\"sessionContext\":",
    "\"sessionIssuer\":",
    "\"errorCode\":\"AccessDenied\",",
    "\"detail\":{",
    "\"detail-type\":",
    "\"source\":",
    "\"Message\":\"{",
    "\"CloudTrailEvent\":\"{",
    "\"Events\":[",
    "\"insightDetails\":{}",
    "\"digestS3Bucket\":\"b\"",
    "\"addendum\":",
    "\"recipientAccountId\":",
    "\"$or\":[",
    "{\"exists\":false}",
    "{\"exists\":true}",
    "{\"prefix\":\"a\"}",
    "{\"suffix\":\"a\"}",
    "{\"anything-but\":[",
    "{\"wildcard\":\"*a*\"}",
    "{\"numeric\":[\">\",0,\"<=\",5]}",
    "{\"cidr\":\"10.0.0.0/8\"}",
    "{\"cidr\":\"::/0\"}",
    "{\"equals-ignore-case\":\"root\"}",
    "{\"prefix\":{\"equals-ignore-case\":\"R\"}}",
];

/// The input changed in one to six places.
pub(crate) fn mutate(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(6) {
        change(&mut bytes, other, random);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let some = (at + 1 + random.below(40)).min(bytes.len());
    let range = at.min(some)..some;
    match random.below(16) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        2 | 3 => drop(bytes.drain(range)),
        4 => {
            let copy = bytes[range].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, copy);
        }
        5..=8 => {
            let token = random.pick(TOKENS).copied().unwrap_or_default();
            let end = if random.below(2) == 0 { at } else { range.end.max(at) };
            bytes.splice(at..end, token.bytes());
        }
        9 => bytes.truncate(at),
        10 | 11 => {
            // A piece of another input, from one quote, brace or bracket to a later one.
            let is_edge = |byte: &u8| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']' | b',');
            let edges: Vec<usize> = other
                .iter()
                .enumerate()
                .filter(|(_, byte)| is_edge(byte))
                .map(|(at, _)| at)
                .collect();
            let first = random.below(edges.len());
            let last = (first + 1 + random.below(12)).min(edges.len().saturating_sub(1));
            if let (Some(from), Some(to)) = (edges.get(first), edges.get(last)) {
                bytes.splice(at..at, other[*from..*to].iter().copied());
            }
        }
        12 => {
            bytes.push(b'\n');
            bytes.extend(other);
        }
        13 => escape_one(bytes, at),
        14 => wrap(bytes, random),
        _ => {
            let times = 1 + random.below(80);
            let token = random.pick(&["[", "{\"a\":", "\\", "\"", "{", "o", "tN", "}"]).copied();
            bytes.splice(at..at, token.unwrap_or_default().repeat(times).into_bytes());
        }
    }
}

/// Writes the next letter as an escape, which means the same in JSON.
fn escape_one(bytes: &mut Vec<u8>, at: usize) {
    let letter = bytes.iter().enumerate().skip(at).find(|(_, byte)| byte.is_ascii_alphanumeric());
    if let Some((at, letter)) = letter {
        let escape = format!("\\u{letter:04x}");
        bytes.splice(at..=at, escape.into_bytes());
    }
}

/// Wraps everything in one of the shapes in which records are delivered.
fn wrap(bytes: &mut Vec<u8>, random: &mut Random) {
    let (before, after): (&str, &str) = match random.below(6) {
        0 => ("{\"Records\":[", "]}"),
        1 => ("[", "]"),
        2 => (
            "{\"detail-type\":\"AWS API Call via CloudTrail\",\"source\":\"aws.iam\",\"detail\":",
            "}",
        ),
        3 => ("{\"detail\":", "}"),
        4 => ("{\"Events\":[", "]}"),
        _ => {
            let text = String::from_utf8_lossy(bytes);
            let quoted = serde_json::to_string(&text).unwrap_or_default();
            let name = if random.below(2) == 0 { "Message" } else { "CloudTrailEvent" };
            *bytes = format!("{{\"{name}\":{quoted}}}").into_bytes();
            return;
        }
    };
    bytes.splice(0..0, before.bytes());
    bytes.extend(after.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let run = || {
            let mut random = Random::new(7);
            (0..200).map(|_| mutate(b"{\"a\":1}", b"[2]", &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
        assert!(run().iter().any(|input| input != b"{\"a\":1}"));
    }

    #[test]
    fn inputs_stay_bounded_and_empty_ones_are_fine() {
        let mut random = Random::new(1);
        let mut input = Vec::new();
        for _ in 0..2000 {
            input = mutate(&input, &[], &mut random);
            assert!(input.len() <= INPUT_BYTES_MAX);
        }
    }
}
