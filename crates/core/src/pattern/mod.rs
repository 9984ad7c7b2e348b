//! EventBridge event patterns: the language AWS publishes, matched against the text of events.
//!
//! # Language
//!
//! Sources are the EventBridge user guide (pages *Creating event patterns*, *Comparison
//! operators*, *Matching on null values and empty strings*, *Matching on multiple values*) and,
//! where the guide is silent, the published matcher Event Ruler. Where they leave room:
//!
//! - **Exact numbers compare as written**: 300, 300.0 and 3.0e2 are three different values, as the
//!   guide says. (Event Ruler compares by value here; the guide wins.) `numeric` and
//!   `anything-but` with numbers compare by value.
//! - **Numeric matching** takes numbers within ±5.0e9 that need at most 6 digits after the decimal
//!   point. Others are refused in patterns; in events they satisfy no `numeric`.
//! - **Exact strings compare character by character**, addresses included, as the guide says;
//!   Event Ruler would also take `::1` for `0:0:0:0:0:0:0:1`.
//! - **`exists`** looks at leaves. A field that holds an object or an empty list does not exist;
//!   null and the empty string do. `anything-but` needs a value: an absent field does not match.
//! - **`anything-but`** matches values of every kind, so one of strings matches a number or null,
//!   and it matches a list if any element is something else.
//! - **Lists in events** stand for their elements, to any depth. Two fields of one pattern never
//!   match in different elements of one list. `exists: false` is tested within the elements in which
//!   the fields before it, in the order of their dotted names, have matched.
//! - **`$or`** is the keyword if it holds a list of two or more objects without reserved names;
//!   if not, the whole pattern is tried again with `$or` as an ordinary field name.
//! - **Repeated fields** in one pattern are refused when both would apply together. Objects under
//!   a repeated key are merged.
//! - **Repeated keys in an event** all count, as if their values were a list, so that a value
//!   cannot be hidden behind a second one.
//! - **Names with dots** are names. Event Ruler takes `{"a.b": ..}` for `{"a": {"b": ..}}`, and
//!   says that this is not to be relied upon.
//! - **Case** is ignored character by character: each character of the pattern stands for itself
//!   and its lower and upper case form. Beyond the basic plane there is no case.
//! - **`cidr`** takes IPv4 up to /31 and IPv6 up to /127, as AWS does; IPv4 addresses written as
//!   IPv6 (`::ffff:10.0.0.1`) count as IPv4.
//! - **`exactly`** is known to Event Ruler and means an exact string.
//!
//! # Reading events
//!
//! An event is read once, from its text, and only as far as patterns need it. Of values that no
//! pattern mentions only the outline is checked: strings must end and brackets must balance in
//! number. Half a surrogate pair reads as U+FFFD.

mod consistency;
mod error;
mod json;
mod limits;
mod parse;
mod run;
mod scan;
mod set;
mod text;
mod value;

use std::sync::Arc;

pub use self::error::{EventError, EventErrorKind, PatternError, PatternErrorKind};
pub use self::limits::{CONSISTENCY_STEPS_MAX, EVENT_DEPTH_MAX, PATTERN_DEPTH_MAX, WAYS_MAX};
pub use self::run::Matches;

/// Fields that must hold one of the given strings: the path to each field, and the strings.
pub type ExactFields = Vec<(Vec<String>, Vec<String>)>;

/// One event pattern, parsed and validated.
#[derive(Debug, Clone)]
pub struct EventPattern {
    parsed: Arc<parse::Parsed>,
}

impl EventPattern {
    /// Parses the JSON text of an event pattern.
    ///
    /// # Errors
    ///
    /// What AWS would refuse is refused, with the reason and its place in the text.
    pub fn parse(json: &str) -> Result<Self, PatternError> {
        parse::parse(json).map(|parsed| Self { parsed: Arc::new(parsed) })
    }

    /// Whether the pattern matches the JSON text of one event.
    ///
    /// Compiles the pattern for this one event; for many events make a [`PatternSet`].
    ///
    /// # Errors
    ///
    /// If the text is not an object, is broken where the pattern looks, or needs more than
    /// [`CONSISTENCY_STEPS_MAX`] comparisons.
    pub fn matches(&self, event: &str) -> Result<bool, EventError> {
        let set = PatternSet::new(vec![self.clone()]);
        let mut matcher = set.matcher();
        let matches = matcher.run(event)?;
        if matches.undecided.is_empty() {
            Ok(!matches.matched.is_empty())
        } else {
            Err(EventError::new(EventErrorKind::TooManyCombinations, 0))
        }
    }

    /// For each way in which the pattern can match, the fields which are constrained to nothing
    /// but exact strings.
    ///
    /// An event matches only if, for at least one of the ways, every listed field holds one of its
    /// strings. A way without such fields has an empty list, and then nothing can be excluded.
    /// Names and strings are given as characters, and an event may write them with escapes.
    #[must_use]
    pub fn alternatives(&self) -> Vec<ExactFields> {
        let exact = |&field: &usize| {
            let field = &self.parsed.fields[field];
            let strings: Option<Vec<String>> = field
                .tests
                .iter()
                .map(|test| match test {
                    value::Test::Text(text) => Some(text.clone()),
                    _ => None,
                })
                .collect();
            strings.map(|strings| (field.path.clone(), strings))
        };
        self.parsed.ways.iter().map(|way| way.iter().filter_map(exact).collect()).collect()
    }
}

impl std::str::FromStr for EventPattern {
    type Err = PatternError;

    fn from_str(json: &str) -> Result<Self, PatternError> {
        Self::parse(json)
    }
}

/// Many patterns compiled into one tree of field names, so that an event is read once for all.
#[derive(Debug, Clone)]
pub struct PatternSet {
    patterns: usize,
    compiled: set::Compiled,
}

impl PatternSet {
    /// Compiles the patterns, which are known by their index from here on.
    #[must_use]
    pub fn new(patterns: Vec<EventPattern>) -> Self {
        let parsed: Vec<_> = patterns.into_iter().map(|pattern| pattern.parsed).collect();
        Self { patterns: parsed.len(), compiled: set::compile(&parsed) }
    }

    /// Number of patterns.
    #[must_use]
    pub fn len(&self) -> usize {
        self.patterns
    }

    /// Whether there are no patterns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns == 0
    }

    /// A matcher with its own working memory; make one for each thread and keep it.
    #[must_use]
    pub fn matcher(&self) -> Matcher<'_> {
        Matcher { set: &self.compiled, scratch: run::Scratch::new(&self.compiled) }
    }
}

/// Matches events one after the other against a [`PatternSet`].
///
/// Working memory grows to what the largest event needs and is then reused.
#[derive(Debug, Clone)]
pub struct Matcher<'s> {
    set: &'s set::Compiled,
    scratch: run::Scratch,
}

impl Matcher<'_> {
    /// Decides every pattern on the JSON text of one event.
    ///
    /// # Errors
    ///
    /// If the text is not an object or is broken where a pattern looks.
    pub fn run(&mut self, event: &str) -> Result<Matches<'_>, EventError> {
        self.scratch.begin();
        self.scratch.document(self.set, Some(0), event)?;
        Ok(self.scratch.decide(self.set))
    }

    /// As [`run`](Self::run), for an event in two parts: `envelope` holds its top-level string
    /// fields (`source`, `detail-type`, `account`, `region`, `time`, `id`, `version`) as plain
    /// text, and `detail` is the JSON text of the object under `detail`.
    ///
    /// The event's other fields are absent. A `detail` in `envelope` counts like a repeated key.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run); offsets count from the start of `detail`.
    pub fn run_in_envelope(
        &mut self,
        envelope: &[(&str, &str)],
        detail: &str,
    ) -> Result<Matches<'_>, EventError> {
        self.scratch.begin();
        for (name, value) in envelope {
            self.scratch.given(self.set, name, value);
        }
        let node = self.set.nodes[0].children.get(b"detail");
        self.scratch.document(self.set, node, detail)?;
        Ok(self.scratch.decide(self.set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> EventPattern {
        EventPattern::parse(text).unwrap()
    }

    /// What matches when everything is decided.
    fn matched(indexes: &[usize]) -> Result<Matches<'_>, EventError> {
        Ok(Matches { matched: indexes, undecided: &[] })
    }

    #[test]
    fn alternatives_list_exact_fields_of_every_way() {
        let way = pattern(
            r#"{"source":["aws.iam"],"n":[1],"$or":[{"detail":{"a":["x","y"]}},{"b":["z",null]}]}"#,
        );
        let strings = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        let source = (strings(&["source"]), strings(&["aws.iam"]));
        assert_eq!(
            way.alternatives(),
            [vec![source.clone(), (strings(&["detail", "a"]), strings(&["x", "y"]))], vec![source],]
        );
    }

    #[test]
    fn indexes_come_in_ascending_order_and_once() {
        let set = PatternSet::new(vec![
            pattern(r#"{"b":["1"]}"#),
            pattern(r#"{"a":["2"]}"#),
            pattern(r#"{"$or":[{"a":["1"]},{"b":["1"]}]}"#),
            pattern(r#"{"c":[{"exists":false}]}"#),
        ]);
        let mut matcher = set.matcher();
        assert_eq!(matcher.run(r#"{"a":"1","b":"1"}"#), matched(&[0, 2, 3]));
        assert_eq!(matcher.run(r#"{"a":"2","c":0}"#), matched(&[1]));
        assert_eq!(set.len(), 4);
        assert!(!set.is_empty() && PatternSet::new(Vec::new()).is_empty());
    }

    #[test]
    fn a_broken_event_is_an_error_and_leaves_nothing_behind() {
        let set = PatternSet::new(vec![pattern(r#"{"a":["1"],"b":["2"]}"#)]);
        let mut matcher = set.matcher();
        let broken = |text: &str, matcher: &mut Matcher<'_>| matcher.run(text).unwrap_err();
        let error = broken(r#"{"a":"1","b""#, &mut matcher);
        assert_eq!((error.kind, error.offset), (EventErrorKind::CutShort, 12));
        assert_eq!(matcher.run(r#"{"b":"2"}"#), matched(&[]));
        for (text, kind, offset) in [
            ("", EventErrorKind::NotAnObject, 0),
            (" [1]", EventErrorKind::NotAnObject, 1),
            (r#"{"a":}"#, EventErrorKind::Expected("a value"), 5),
            (r#"{"a":nul}"#, EventErrorKind::Expected("a value"), 5),
            (r#"{"a" 1}"#, EventErrorKind::Expected("`:`"), 5),
            (r#"{"a":1,}"#, EventErrorKind::Expected("a key"), 7),
            (r#"{"a":"\q"}"#, EventErrorKind::BadEscape, 6),
            (r#"{"a":"1"} x"#, EventErrorKind::Trailing, 10),
            (r#"{"z":[1,2"#, EventErrorKind::CutShort, 9),
            (r#"{"a":[1 2]}"#, EventErrorKind::Expected("`,` or `]`"), 8),
        ] {
            let error = broken(text, &mut matcher);
            assert_eq!((error.kind, error.offset), (kind, offset), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded_where_patterns_look_and_free_elsewhere() {
        let set = PatternSet::new(vec![pattern(r#"{"a":["1"]}"#)]);
        let mut matcher = set.matcher();
        let nested = |name: &str, n: usize| {
            format!("{{\"{name}\":{}\"1\"{}}}", "[".repeat(n), "]".repeat(n))
        };
        assert_eq!(matcher.run(&nested("a", EVENT_DEPTH_MAX - 1)), matched(&[0]));
        let error = matcher.run(&nested("a", EVENT_DEPTH_MAX)).unwrap_err();
        assert_eq!(error.kind, EventErrorKind::TooDeep(EVENT_DEPTH_MAX));
        assert_eq!(matcher.run(&nested("z", 100_000)), matched(&[]));
    }

    #[test]
    fn long_lists_are_compared_within_the_budget() {
        let set = PatternSet::new(vec![pattern(r#"{"l":{"a":["1"],"b":["1"],"c":["1"]}}"#)]);
        let mut matcher = set.matcher();
        let mut event = String::from("{\"l\":[");
        for _ in 0..20_000 {
            event.push_str(r#"{"a":"1","b":"1"},{"b":"1","c":"1"},"#);
        }
        event.push_str("{}]}");
        assert_eq!(matcher.run(&event), matched(&[]));
        let matching = event.replace("{}", r#"{"a":"1","b":"1","c":"1"}"#);
        assert_eq!(matcher.run(&matching), matched(&[0]));
    }

    /// An event on which `{"l":{"a":["1"],"b":["1"]}}` needs more comparisons than are allowed: no
    /// element has both, and all lie in one element, so that each is compared with each.
    fn undecidable() -> String {
        let pairs = r#"{"a":"1"},{"b":"1"},"#.repeat(2_100);
        format!("{{\"s\":\"x\",\"l\":[[{pairs}{{}}]]}}")
    }

    #[test]
    fn a_pattern_that_cannot_be_decided_leaves_the_others_decided() {
        let set = PatternSet::new(vec![
            pattern(r#"{"l":{"a":["1"],"b":["1"]}}"#),
            pattern(r#"{"s":["x"]}"#),
            pattern(r#"{"s":["y"]}"#),
            pattern(r#"{"$or":[{"l":{"a":["1"],"b":["1"]}},{"s":["x"]}]}"#),
            pattern(r#"{"l":{"a":["1"],"b":["1"]},"s":["y"]}"#),
        ]);
        let mut matcher = set.matcher();
        let event = undecidable();
        let found = Matches { matched: &[1, 3], undecided: &[0] };
        assert_eq!(matcher.run(&event), Ok(found));
        assert_eq!(matcher.run(r#"{"s":"y"}"#), matched(&[2]), "nothing is left of the last event");
        assert_eq!(matcher.run_in_envelope(&[("s", "x")], "{}"), matched(&[1, 3]));
        let alone = pattern(r#"{"l":{"a":["1"],"b":["1"]}}"#).matches(&event).unwrap_err();
        assert_eq!(alone.kind, EventErrorKind::TooManyCombinations);
    }

    #[test]
    fn errors_read_as_one_line() {
        let error = PatternSet::new(Vec::new()).matcher().run("{").unwrap_err();
        assert_eq!(error.to_string(), "event is cut short at byte 1");
    }
}
