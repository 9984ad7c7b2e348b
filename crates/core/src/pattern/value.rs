//! What a field's value may be asked: the operators of the language.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use memchr::memmem::Finder;

/// Millionths in one: numbers compare with 6 digits after the decimal point.
const MICROS: i64 = 1_000_000;
/// Digits after the decimal point that numeric matching keeps.
const DECIMALS: i32 = 6;
/// Numbers beyond ±5.0e9 take no part in numeric matching.
const MAX_MICROS: i64 = 5_000_000_000 * MICROS;

/// One entry of a field's list, as written. Equal tests are shared between patterns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Test {
    /// An exact string.
    Text(String),
    Null,
    Bool(bool),
    /// An exact number, by its digits.
    Number(String),
    /// `exists`.
    Exists(bool),
    /// An operator on strings.
    Matches(Shape),
    /// `numeric`.
    Numeric(Range),
    /// `cidr`: the first and the last address.
    Cidr(IpAddr, IpAddr),
    /// `anything-but` with strings.
    NotText(Vec<String>),
    /// `anything-but` with numbers, in millionths.
    NotNumber(Vec<i64>),
    /// `anything-but` with an operator on strings.
    NotMatches(Vec<Shape>),
}

/// What a string may look like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    Prefix(String),
    Suffix(String),
    Folded(String),
    FoldedPrefix(String),
    FoldedSuffix(String),
    /// The literal pieces around the `*`; one piece means no `*`.
    Wildcard(Vec<String>),
}

/// A numeric range in millionths, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Range {
    pub(super) low: i64,
    pub(super) high: i64,
}

impl Range {
    pub(super) const ALL: Self = Self { low: -MAX_MICROS, high: MAX_MICROS };

    pub(super) const fn holds(self, micros: i64) -> bool {
        self.low <= micros && micros <= self.high
    }
}

/// The number in millionths, if it lies within ±5.0e9 and needs no more than 6 decimals.
///
/// Worked out on the digits: a detour over `f64` would round 0.1 and lose the sixth digit of large
/// values. `token` must be a JSON number.
pub(super) fn micros(token: &str) -> Option<i64> {
    let (negative, digits) = token.strip_prefix('-').map_or((false, token), |rest| (true, rest));
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        Some(at) => (&digits[..at], exponent(&digits[at + 1..])),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // Digits are taken until a zero tail; zeros only count once another digit follows them.
    let mut value: i64 = 0;
    let mut pending_zeros: i32 = 0;
    let mut scale: i32 = 0; // power of ten of the last digit taken
    let mut position = i32::try_from(whole.len()).ok()?;
    for digit in whole.bytes().chain(fraction.bytes()) {
        position = position.checked_sub(1)?;
        if digit == b'0' {
            pending_zeros += i32::from(value != 0);
            continue;
        }
        for _ in 0..=pending_zeros {
            value = value.checked_mul(10)?;
        }
        pending_zeros = 0;
        value = value.checked_add(i64::from(digit - b'0'))?;
        scale = position;
    }
    if value == 0 {
        return Some(0);
    }
    let shift = scale.checked_add(exponent)?.checked_add(DECIMALS)?;
    if shift < 0 {
        return None;
    }
    let value = 10_i64.checked_pow(shift.unsigned_abs())?.checked_mul(value)?;
    let value = if negative { -value } else { value };
    Range::ALL.holds(value).then_some(value)
}

/// An exponent held within bounds that no usable number reaches, so that 1e999999999999 is simply
/// out of range.
fn exponent(text: &str) -> i32 {
    const BOUND: i32 = 1_000_000_000;
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let size = digits.bytes().fold(0_i32, |sum, digit| {
        sum.saturating_mul(10).saturating_add(i32::from(digit - b'0')).min(BOUND)
    });
    if negative { -size } else { size }
}

/// An address as `cidr` sees it: an IPv4 address written as IPv6 is that IPv4 address.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    // Most strings are no addresses; do not let each of them run through both parsers.
    let first = *text.as_bytes().first()?;
    if !(first.is_ascii_hexdigit() || first == b':') || text.len() > 45 {
        return None;
    }
    let parsed: IpAddr = text.parse().ok()?;
    Some(parsed.to_canonical())
}

/// First and last address of a range written as `address/bits`.
pub(super) fn cidr(text: &str) -> Result<(IpAddr, IpAddr), &'static str> {
    let (base, bits) = text.split_once('/').ok_or("one `/` is needed")?;
    if bits.is_empty() || !bits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("mask bits must be digits");
    }
    let bits: u32 = bits.parse().map_err(|_| "too many mask bits")?;
    match base.parse::<IpAddr>().map_err(|_| "not an IPv4 or IPv6 address")? {
        IpAddr::V4(ip) => {
            // AWS refuses /32 and /128: a single address is an exact string.
            if bits > 31 {
                return Err("IPv4 mask bits must be less than 32");
            }
            let host = u32::MAX >> bits;
            let ip = u32::from(ip);
            Ok((Ipv4Addr::from(ip & !host).into(), Ipv4Addr::from(ip | host).into()))
        }
        IpAddr::V6(ip) => {
            if bits > 127 {
                return Err("IPv6 mask bits must be less than 128");
            }
            let host = u128::MAX >> bits;
            let ip = u128::from(ip);
            Ok((Ipv6Addr::from(ip & !host).into(), Ipv6Addr::from(ip | host).into()))
        }
    }
}

/// A [`Shape`] made ready for matching.
#[derive(Debug, Clone)]
pub(super) enum Matcher {
    Prefix(Box<str>),
    Suffix(Box<str>),
    Folded(Fold),
    FoldedPrefix(Fold),
    FoldedSuffix(Fold),
    Exact(Box<str>),
    Wildcard { first: Box<str>, middle: Box<[Finder<'static>]>, last: Box<str> },
}

impl Matcher {
    pub(super) fn new(shape: &Shape) -> Self {
        match shape {
            Shape::Prefix(s) => Self::Prefix(s.as_str().into()),
            Shape::Suffix(s) => Self::Suffix(s.as_str().into()),
            Shape::Folded(s) => Self::Folded(Fold::new(s)),
            Shape::FoldedPrefix(s) => Self::FoldedPrefix(Fold::new(s)),
            Shape::FoldedSuffix(s) => Self::FoldedSuffix(Fold::new(s)),
            Shape::Wildcard(pieces) => match pieces.as_slice() {
                [] => Self::Exact("".into()),
                [only] => Self::Exact(only.as_str().into()),
                [first, middle @ .., last] => Self::Wildcard {
                    first: first.as_str().into(),
                    middle: middle.iter().map(|s| Finder::new(s).into_owned()).collect(),
                    last: last.as_str().into(),
                },
            },
        }
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Prefix(s) => text.as_bytes().starts_with(s.as_bytes()),
            Self::Suffix(s) => text.as_bytes().ends_with(s.as_bytes()),
            Self::Folded(fold) => fold.prefix(text) == Some(text.len()),
            Self::FoldedPrefix(fold) => fold.prefix(text).is_some(),
            Self::FoldedSuffix(fold) => fold.suffix(text),
            Self::Exact(s) => **s == *text,
            Self::Wildcard { first, middle, last } => {
                let Some(rest) = text.as_bytes().strip_prefix(first.as_bytes()) else {
                    return false;
                };
                let Some(mut rest) = rest.strip_suffix(last.as_bytes()) else { return false };
                // Taking each piece as early as it comes leaves the most room for those after it,
                // so there is never a reason to go back.
                for finder in middle {
                    let Some(at) = finder.find(rest) else { return false };
                    rest = &rest[at + finder.needle().len()..];
                }
                true
            }
        }
    }
}

/// A string to be compared without regard to case.
///
/// As Event Ruler does it: character by character, each one standing for its lower case and its
/// upper case form (`ß` for `ß` and `SS`), which is not the same as folding both sides (`ς` does
/// not match `σ`).
#[derive(Debug, Clone)]
pub(super) enum Fold {
    /// ASCII has no other forms, so bytes will do.
    Ascii(Box<[u8]>),
    Unicode(Box<[Box<[Box<str>]>]>),
}

impl Fold {
    fn new(text: &str) -> Self {
        if text.is_ascii() {
            return Self::Ascii(text.as_bytes().into());
        }
        Self::Unicode(text.chars().map(forms).collect())
    }

    /// Bytes of `text` that match from its start.
    fn prefix(&self, text: &str) -> Option<usize> {
        match self {
            Self::Ascii(s) => {
                let head = text.as_bytes().get(..s.len())?;
                head.eq_ignore_ascii_case(s).then_some(s.len())
            }
            Self::Unicode(characters) => {
                let mut at = 0;
                for forms in characters {
                    let rest = text.get(at..)?;
                    at += forms.iter().find(|form| rest.starts_with(&***form))?.len();
                }
                Some(at)
            }
        }
    }

    fn suffix(&self, text: &str) -> bool {
        match self {
            Self::Ascii(s) => text
                .len()
                .checked_sub(s.len())
                .is_some_and(|at| text.as_bytes()[at..].eq_ignore_ascii_case(s)),
            Self::Unicode(characters) => {
                let mut rest = text;
                for forms in characters.iter().rev() {
                    let Some(shorter) = forms.iter().find_map(|form| rest.strip_suffix(&**form))
                    else {
                        return false;
                    };
                    rest = shorter;
                }
                true
            }
        }
    }
}

/// The character itself and its lower and upper case forms, longest first.
fn forms(c: char) -> Box<[Box<str>]> {
    let mut forms: Vec<Box<str>> = vec![c.to_string().into()];
    // Event Ruler works on UTF-16 units, so beyond the basic plane nothing has case.
    if c.len_utf16() == 1 {
        for form in [c.to_lowercase().to_string(), c.to_uppercase().to_string()] {
            if !forms.iter().any(|known| **known == *form) {
                forms.push(form.into());
            }
        }
    }
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_millionths_without_rounding() {
        assert_eq!(micros("0.1"), Some(100_000));
        assert_eq!(micros("3.018e2"), Some(301_800_000));
        assert_eq!(micros("-0.000001"), Some(-1));
        assert_eq!(micros("1000000e-12"), Some(1));
        assert_eq!(micros("0.00000000000000000000000"), Some(0));
        assert_eq!(micros("300.000000000000000000000"), Some(300_000_000));
        assert_eq!(micros("4999999999.999999"), Some(4_999_999_999_999_999));
        assert_eq!(micros("5e9"), Some(MAX_MICROS));
        assert_eq!(micros("-5000000000"), Some(-MAX_MICROS));
    }

    #[test]
    fn numbers_beyond_the_limits_are_none() {
        for token in ["5000000000.000001", "-5.1e9", "0.0000001", "1e99999999999", "1e-99999999999"]
        {
            assert_eq!(micros(token), None, "{token}");
        }
    }

    #[test]
    fn ranges_of_addresses_are_masked() {
        let (low, high) = cidr("10.0.0.77/24").unwrap();
        assert_eq!((low.to_string(), high.to_string()), ("10.0.0.0".into(), "10.0.0.255".into()));
        let (low, high) = cidr("2001:db8::/33").unwrap();
        assert_eq!(low.to_string(), "2001:db8::");
        assert_eq!(high.to_string(), "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff");
        for bad in ["10.0.0.0", "10.0.0.0/32", "::/128", "10.0.0/8", "a/8", "1.2.3.4/-1", "::/+1"] {
            assert!(cidr(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn folding_is_by_character() {
        let sharp = Fold::new("straße");
        assert_eq!(sharp.prefix("STRASSE"), Some(7));
        assert_eq!(sharp.prefix("Straße!"), Some(7));
        assert!(sharp.suffix("die STRASSE"));
        assert_eq!(Fold::new("ς").prefix("σ"), None);
        assert_eq!(Fold::new("K").prefix("\u{212a}"), None);
        assert_eq!(Fold::new("\u{212a}").prefix("k"), Some(1));
    }

    #[test]
    fn wildcards_do_not_overlap_their_ends() {
        let wild = Matcher::new(&Shape::Wildcard(vec!["ab".into(), "ba".into()]));
        assert!(wild.matches("abba") && wild.matches("ab-ba"));
        assert!(!wild.matches("aba"));
    }
}
