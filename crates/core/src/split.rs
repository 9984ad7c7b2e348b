//! Divides a text into units without parsing them: finds where each record begins and ends.
//!
//! The splitter keeps only its mode between calls, so it can be fed a window of a stream that is
//! too long for memory. A unit is found by counting braces outside strings; the decoder checks its
//! grammar. Damage is kept small: after an unclosed record the splitter continues at the next place
//! where a record visibly begins.

use memchr::{memchr, memchr2, memchr3, memmem};

/// The next piece of the text given to [`Splitter::next`]; offsets count from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// One JSON object, braces included. Continue after `end`.
    Unit {
        /// Offset of its `{`.
        start: usize,
        /// Offset after its `}`.
        end: usize,
    },
    /// Bytes that belong to no unit and should not be there. Continue after `end`.
    Bad {
        /// Offset of the first byte.
        start: usize,
        /// Offset after the last.
        end: usize,
        /// Why: lower case, no full stop.
        reason: &'static str,
    },
    /// More of the text is needed; keep everything from `from`.
    More {
        /// Offset of the first byte that is still needed.
        from: usize,
    },
}

/// The splitter's position in the shape of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Before the first byte.
    Start,
    /// Between objects of a text that is one object, or several one after the other.
    Top,
    /// Between elements of a list; `wrapped` when the list is a member of an outer object.
    List { wrapped: bool },
    /// After the list of an outer object.
    Tail,
    /// Inside a unit that is too long to keep; braces still open, inside a string or not.
    Overlong { depth: u32, in_string: bool, escaped: bool, back: Back },
}

/// The mode to return to after an overlong unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Back {
    Top,
    List { wrapped: bool },
}

/// Finds the units of one text.
#[derive(Debug, Clone)]
pub struct Splitter {
    mode: Mode,
    unit_bytes_max: usize,
}

/// Reasons for damage.
pub mod reason {
    /// The text stops before the braces of a record close.
    pub const ENDS_INSIDE: &str = "the text ends inside a record";
    /// The list of records is not closed.
    pub const LIST_OPEN: &str = "the text ends before the list of records does";
    /// A record's braces do not close before the next record begins.
    pub const UNCLOSED: &str = "the record is not closed before the next one begins";
    /// Something other than a record.
    pub const NOT_AN_OBJECT: &str = "expected a JSON object";
    /// Not JSON at all.
    pub const NOT_JSON: &str = "not JSON";
    /// A unit is larger than the bound.
    pub const TOO_LARGE: &str = "record is larger than the limit";
    /// A text with two or four bytes for each character.
    pub const NOT_UTF8: &str = "the text is UTF-16 or UTF-32, not UTF-8";
    /// An empty text.
    pub const EMPTY: &str = "the text is empty";
}

impl Splitter {
    /// A splitter at the beginning of a text.
    #[must_use]
    pub fn new(unit_bytes_max: usize) -> Self {
        Self { mode: Mode::Start, unit_bytes_max }
    }

    /// True between units: the next bytes are separators and the beginning of a unit.
    #[must_use]
    pub fn is_between_units(&self) -> bool {
        matches!(self.mode, Mode::Top | Mode::List { .. })
    }

    /// True between the elements of a list, where commas separate units.
    #[must_use]
    pub fn is_in_list(&self) -> bool {
        matches!(self.mode, Mode::List { .. })
    }

    /// The next piece of `text`, which begins where the last piece ended. `last` is true if nothing
    /// follows `text`. `None` after the whole text.
    pub fn next(&mut self, text: &[u8], last: bool) -> Option<Piece> {
        let mut at = 0;
        loop {
            let step = match self.mode {
                Mode::Start => self.start(text, last),
                Mode::Top => self.top(text, at, last),
                Mode::List { wrapped } => self.list(text, at, last, wrapped),
                Mode::Tail => self.tail(text, at, last),
                Mode::Overlong { .. } => self.overlong(text, at, last),
            };
            match step {
                Step::Piece(piece) => return Some(piece),
                Step::Go(to) => at = to,
                Step::Done => return None,
            }
        }
    }

    fn start(&mut self, text: &[u8], last: bool) -> Step {
        if text.len() < 4 && !last {
            return Step::Piece(Piece::More { from: 0 });
        }
        let head = &text[..text.len().min(4)];
        if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") || head.contains(&0) {
            let wide = head.starts_with(b"\xff\xfe")
                || head.starts_with(b"\xfe\xff")
                || head.iter().any(u8::is_ascii_graphic);
            self.mode = Mode::Top;
            let reason = if wide { reason::NOT_UTF8 } else { reason::NOT_JSON };
            return Step::Piece(Piece::Bad { start: 0, end: text.len(), reason });
        }
        self.mode = Mode::Top;
        let at = if head.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        if last && skip_space(text, at) == text.len() {
            return Step::Piece(Piece::Bad { start: 0, end: text.len(), reason: reason::EMPTY });
        }
        Step::Go(at)
    }

    fn top(&mut self, text: &[u8], at: usize, last: bool) -> Step {
        let at = skip_space(text, at);
        match text.get(at) {
            None if last => Step::Done,
            None => Step::Piece(Piece::More { from: at }),
            Some(b'[') => {
                self.mode = Mode::List { wrapped: false };
                Step::Go(at + 1)
            }
            Some(b'{') => match list_prefix(text, at) {
                Prefix::List(after) => {
                    self.mode = Mode::List { wrapped: true };
                    Step::Go(after)
                }
                Prefix::Undecided if !last => Step::Piece(Piece::More { from: at }),
                Prefix::Undecided | Prefix::Other => self.unit(text, at, last, Back::Top),
            },
            Some(_) => bad_until_next(text, at, last, reason::NOT_JSON, true),
        }
    }

    fn list(&mut self, text: &[u8], at: usize, last: bool, wrapped: bool) -> Step {
        let mut at = at;
        loop {
            at = skip_space(text, at);
            match text.get(at) {
                None if last => {
                    self.mode = Mode::Top;
                    let piece =
                        Piece::Bad { start: at, end: text.len(), reason: reason::LIST_OPEN };
                    return Step::Piece(piece);
                }
                None => return Step::Piece(Piece::More { from: at }),
                Some(b',') => at += 1,
                Some(b']') => {
                    self.mode = if wrapped { Mode::Tail } else { Mode::Top };
                    return Step::Go(at + 1);
                }
                Some(b'{') => return self.unit(text, at, last, Back::List { wrapped }),
                Some(_) => return not_an_object(text, at, last),
            }
        }
    }

    fn unit(&mut self, text: &[u8], start: usize, last: bool, back: Back) -> Step {
        let bound = text.len().min(start.saturating_add(self.unit_bytes_max));
        match close_of(&text[start..bound]) {
            Some(length) => Step::Piece(Piece::Unit { start, end: start + length }),
            None if text.len() - start < self.unit_bytes_max && !last => {
                Step::Piece(Piece::More { from: start })
            }
            None => {
                if let Some(end) = next_record(text, start + 1, bound, back == Back::Top) {
                    let reason = reason::UNCLOSED;
                    return Step::Piece(Piece::Bad { start, end, reason });
                }
                if bound == text.len() && last {
                    self.mode = Mode::Top;
                    let reason = reason::ENDS_INSIDE;
                    return Step::Piece(Piece::Bad { start, end: text.len(), reason });
                }
                self.mode = Mode::Overlong { depth: 0, in_string: false, escaped: false, back };
                self.run_overlong(&text[start..bound]);
                Step::Piece(Piece::Bad { start, end: bound, reason: reason::TOO_LARGE })
            }
        }
    }

    /// Skips the rest of a unit that was reported already.
    fn overlong(&mut self, text: &[u8], at: usize, last: bool) -> Step {
        let used = self.run_overlong(&text[at..]);
        if !matches!(self.mode, Mode::Overlong { .. }) {
            return Step::Go(at + used);
        }
        if last {
            self.mode = Mode::Top;
            return Step::Done;
        }
        Step::Piece(Piece::More { from: text.len() })
    }

    /// Follows braces and strings through `bytes`; leaves the mode when the unit closes. Returns
    /// how many bytes were used.
    fn run_overlong(&mut self, bytes: &[u8]) -> usize {
        let Mode::Overlong { mut depth, mut in_string, mut escaped, back } = self.mode else {
            return 0;
        };
        for (index, byte) in bytes.iter().enumerate() {
            let is_escaped = escaped;
            escaped = *byte == b'\\' && !is_escaped;
            match byte {
                b'"' if !is_escaped => in_string = !in_string,
                b'{' if !in_string => depth += 1,
                b'}' if !in_string => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        self.mode = match back {
                            Back::Top => Mode::Top,
                            Back::List { wrapped } => Mode::List { wrapped },
                        };
                        return index + 1;
                    }
                }
                _ => {}
            }
        }
        self.mode = Mode::Overlong { depth, in_string, escaped, back };
        bytes.len()
    }

    /// Skips the members after the list, unless one is another list of records.
    fn tail(&mut self, text: &[u8], at: usize, last: bool) -> Step {
        let at = skip_space(text, at);
        match text.get(at) {
            None if last => {
                self.mode = Mode::Top;
                let reason = reason::ENDS_INSIDE;
                Step::Piece(Piece::Bad { start: at, end: text.len(), reason })
            }
            None => Step::Piece(Piece::More { from: at }),
            Some(b'}') => {
                self.mode = Mode::Top;
                Step::Go(at + 1)
            }
            Some(b',') => match member(text, at + 1) {
                Member::List(after) => {
                    self.mode = Mode::List { wrapped: true };
                    Step::Go(after)
                }
                Member::Other(after) => Step::Go(after),
                Member::Undecided if !last && text.len() - at < self.unit_bytes_max => {
                    Step::Piece(Piece::More { from: at })
                }
                Member::Undecided | Member::Broken => {
                    self.mode = Mode::Top;
                    bad_until_next(text, at, last, reason::NOT_JSON, true)
                }
            },
            Some(_) => {
                self.mode = Mode::Top;
                bad_until_next(text, at, last, reason::NOT_JSON, true)
            }
        }
    }
}

enum Step {
    Piece(Piece),
    Go(usize),
    Done,
}

enum Prefix {
    List(usize),
    Other,
    Undecided,
}

/// True if this is the beginning of `{"Records":[` or `{"Events":[`.
fn list_prefix(text: &[u8], open: usize) -> Prefix {
    match member(text, open + 1) {
        Member::List(after) => Prefix::List(after),
        Member::Undecided if text.len() - open < 64 => Prefix::Undecided,
        _ => Prefix::Other,
    }
}

enum Member {
    List(usize),
    Other(usize),
    Undecided,
    Broken,
}

/// Reads one `"name": value`; a list named `Records` or `Events` is not read but entered.
fn member(text: &[u8], at: usize) -> Member {
    let at = skip_space(text, at);
    match text.get(at) {
        None => return Member::Undecided,
        Some(b'"') => {}
        Some(_) => return Member::Broken,
    }
    let Some(name_end) = string_end(text, at) else { return Member::Undecided };
    let name = &text[at..name_end];
    let at = skip_space(text, name_end);
    match text.get(at) {
        None => return Member::Undecided,
        Some(b':') => {}
        Some(_) => return Member::Broken,
    }
    let at = skip_space(text, at + 1);
    match text.get(at) {
        None => Member::Undecided,
        Some(b'[') if is_list_name(name) => Member::List(at + 1),
        Some(_) => value_end(text, at).map_or(Member::Undecided, Member::Other),
    }
}

/// `"Records"` of log files, `"Events"` of `aws cloudtrail lookup-events`; escapes are decoded.
fn is_list_name(quoted: &[u8]) -> bool {
    match quoted {
        b"\"Records\"" | b"\"Events\"" => true,
        _ if quoted.len() <= 64 && memchr(b'\\', quoted).is_some() => {
            serde_json::from_slice::<String>(quoted)
                .is_ok_and(|name| name == "Records" || name == "Events")
        }
        _ => false,
    }
}

/// Offset after the value that begins at `at`; `None` when the text ends first.
fn value_end(text: &[u8], at: usize) -> Option<usize> {
    match text[at] {
        b'"' => string_end(text, at),
        b'{' | b'[' => {
            let mut depth = 0_usize;
            let mut at = at;
            loop {
                match *text.get(at)? {
                    b'"' => {
                        at = string_end(text, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => text[at..].iter().position(|byte| b",]} \t\r\n".contains(byte)).map(|n| at + n),
    }
}

/// Offset after the closing quote of the string that begins at `at`.
fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        let found = at + memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[found] == b'"' {
            return Some(found + 1);
        }
        at = found + 2;
    }
}

/// Length of the object that `text` begins with, counting braces outside strings.
///
/// A backslash escapes a quote even outside a string, where valid JSON has none: the scanner's fast
/// version does the same, and both must divide any bytes in the same way.
#[must_use]
pub fn close_of(text: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        let found = at + memchr3(b'"', b'{', b'}', text.get(at..)?)?;
        at = match text[found] {
            b'"' if is_escaped(&text[at..found]) => found + 1,
            b'"' => string_end(text, found)?,
            b'{' => {
                depth += 1;
                found + 1
            }
            _ => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(found + 1);
                }
                found + 1
            }
        };
    }
}

/// True if the text ends with an odd number of backslashes.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

fn skip_space(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| b" \t\r\n".contains(byte)).count()
}

/// Where, in `from..to`, a record visibly begins: `{"eventVersion"` in whatever spacing, or, at the
/// top of a text, a line that begins with a brace.
pub(crate) fn next_record(text: &[u8], from: usize, to: usize, lines: bool) -> Option<usize> {
    let window = text.get(from..to)?;
    let named = memmem::find_iter(window, b"\"eventVersion\"").find_map(|name| {
        let before = window[..name].iter().rposition(|byte| !b" \t\r\n".contains(byte))?;
        (window[before] == b'{').then_some(before)
    });
    let line = if lines { memmem::find(window, b"\n{").map(|at| at + 1) } else { None };
    let found = match (named, line) {
        (Some(a), Some(b)) => a.min(b),
        (a, b) => a.or(b)?,
    };
    Some(from + found)
}

/// An element of a list that is not an object: damage, up to the comma or bracket after it.
fn not_an_object(text: &[u8], at: usize, last: bool) -> Step {
    let reason = reason::NOT_AN_OBJECT;
    match value_end(text, at) {
        Some(end) if end > at => Step::Piece(Piece::Bad { start: at, end, reason }),
        _ => bad_until_next(text, at, last, reason::NOT_JSON, false),
    }
}

/// Damage up to the next place where a record visibly begins, or to the end of the text. A possible
/// beginning of a record at the end waits for more text.
fn bad_until_next(text: &[u8], at: usize, last: bool, reason: &'static str, lines: bool) -> Step {
    const HEAD_BYTES: usize = 64;
    if let Some(end) = next_record(text, at, text.len(), lines).filter(|end| *end > at) {
        return Step::Piece(Piece::Bad { start: at, end, reason });
    }
    if last {
        return Step::Piece(Piece::Bad { start: at, end: text.len(), reason });
    }
    match text.len().saturating_sub(HEAD_BYTES) {
        end if end > at => Step::Piece(Piece::Bad { start: at, end, reason }),
        _ => Step::Piece(Piece::More { from: at }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The units and the reasons of damage, fed whole and in windows of every size.
    fn split(text: &str) -> Vec<Result<String, &'static str>> {
        let whole = split_in(text.as_bytes(), usize::MAX);
        for window in 1..text.len().min(80) {
            let windowed = split_in(text.as_bytes(), window);
            let units = |list: &[Result<String, &'static str>]| {
                list.iter().filter_map(|one| one.clone().ok()).collect::<Vec<_>>()
            };
            assert_eq!(units(&whole), units(&windowed), "window {window} of {text}");
        }
        whole
    }

    fn split_in(text: &[u8], window: usize) -> Vec<Result<String, &'static str>> {
        let mut splitter = Splitter::new(1000);
        let (mut from, mut to) = (0, window.min(text.len()));
        let mut out = Vec::new();
        loop {
            let last = to == text.len();
            match splitter.next(&text[from..to], last) {
                None => return out,
                Some(Piece::Unit { start, end }) => {
                    out.push(Ok(String::from_utf8_lossy(&text[from + start..from + end]).into()));
                    from += end;
                }
                Some(Piece::Bad { end, reason, .. }) => {
                    out.push(Err(reason));
                    from += end;
                }
                Some(Piece::More { from: keep }) => {
                    assert!(!last, "asked for more of nothing");
                    from += keep;
                    to = to.saturating_add(window).min(text.len());
                }
            }
        }
    }

    fn ok(units: &[&str]) -> Vec<Result<String, &'static str>> {
        units.iter().map(|unit| Ok((*unit).to_owned())).collect()
    }

    #[test]
    fn every_shape_of_text_gives_its_objects() {
        let two = ok(&[r#"{"a":1}"#, r#"{"b":"}{"}"#]);
        assert_eq!(split(r#"{"Records":[{"a":1},{"b":"}{"}]}"#), two);
        assert_eq!(
            split(r#"{ "Re\u0063ords" : [ {"a":1} , {"b":"}{"} ] , "x":[{}], "y":2 } "#),
            two
        );
        assert_eq!(split(r#"[{"a":1},{"b":"}{"}]"#), two);
        assert_eq!(split("{\"a\":1}\n{\"b\":\"}{\"}\n"), two);
        assert_eq!(split("\u{feff}{\"a\":1}{\"b\":\"}{\"}"), two);
        assert_eq!(split(r#"{"Records":[]}"#), ok(&[]));
        assert_eq!(split(r#"{"x":"\"","Records":[{}]}"#), ok(&[r#"{"x":"\"","Records":[{}]}"#]));
    }

    #[test]
    fn damage_does_not_affect_other_records() {
        assert_eq!(
            split("{\"a\":1\n{\"b\":2}\n"),
            [Err(reason::UNCLOSED), Ok("{\"b\":2}".to_owned())]
        );
        assert_eq!(
            split(r#"{"Records":[{"eventVersion":"1","x":{"y":{},{"eventVersion":"2"}]}"#),
            [Err(reason::UNCLOSED), Ok(r#"{"eventVersion":"2"}"#.to_owned())]
        );
        assert_eq!(split(r#"[1,{"a":1},"x"]"#)[1], Ok(r#"{"a":1}"#.to_owned()));
        assert_eq!(split("garbage\n{\"a\":1}")[1], Ok(r#"{"a":1}"#.to_owned()));
    }

    #[test]
    fn a_text_that_ends_early_says_so() {
        assert_eq!(split(r#"{"Records":[{"a":1},{"b":"#)[1], Err(reason::ENDS_INSIDE));
        assert_eq!(split(r#"{"Records":[{"a":1}"#)[1], Err(reason::LIST_OPEN));
        assert_eq!(split(""), [Err(reason::EMPTY)]);
        assert_eq!(split_in(b"\xff\xfe{\0}\0", 99), [Err(reason::NOT_UTF8)]);
    }

    #[test]
    fn a_unit_over_the_limit_is_reported_once_and_the_next_one_is_found() {
        let text = format!(r#"{{"Records":[{{"a":"{}"}},{{"b":2}}]}}"#, "x".repeat(5000));
        assert_eq!(split(&text), [Err(reason::TOO_LARGE), Ok(r#"{"b":2}"#.to_owned())]);
    }
}
