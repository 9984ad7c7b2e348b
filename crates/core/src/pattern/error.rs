//! Errors in patterns and events, with their position.

use thiserror::Error;

/// A pattern that EventBridge would refuse: the reason and the position.
///
/// `line` and `column` count from 1 and `column` counts characters; `offset` counts bytes from the
/// start of the text. `path` names the field as in `detail.state[0].numeric`; it is empty if the
/// error is outside every field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PatternError {
    /// Why the pattern is refused.
    pub kind: PatternErrorKind,
    /// Bytes from the start of the pattern text to the fault.
    pub offset: usize,
    /// Line of the fault, from 1.
    pub line: usize,
    /// Column of the fault in characters, from 1.
    pub column: usize,
    /// Field, element and operator in which the fault lies.
    pub path: String,
}

impl std::error::Error for PatternError {}

impl std::fmt::Display for PatternError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at line {} column {}", self.kind, self.line, self.column)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, " ({})", self.path) }
    }
}

impl PatternError {
    pub(super) fn new(kind: PatternErrorKind, text: &str, offset: usize, path: String) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..).map_or(0, |s| s.chars().count()) + 1;
        Self { kind, offset, line, column, path }
    }
}

/// Why a pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PatternErrorKind {
    /// The text is not JSON; the string says what was expected.
    #[error("not valid JSON: {0}")]
    Json(&'static str),
    /// Objects or lists lie deeper than [`PATTERN_DEPTH_MAX`](super::PATTERN_DEPTH_MAX).
    #[error("pattern is nested deeper than {0} levels")]
    TooDeep(usize),
    /// The pattern, or the pattern of one event, is not a JSON object.
    #[error("an event pattern must be a JSON object")]
    NotAnObject,
    /// `{}` where fields are expected.
    #[error("empty objects are not allowed")]
    EmptyObject,
    /// `[]` where values are expected.
    #[error("empty lists are not allowed")]
    EmptyList,
    /// A field whose value is neither an object nor a list.
    #[error("field `{0}` must hold an object or a list of values")]
    FieldNotList(String),
    /// A list inside a list of values.
    #[error("a value must be a string, a number, true, false, null or an operator")]
    BadValue,
    /// The same field is constrained twice in one alternative.
    #[error("field `{0}` is named more than once")]
    DuplicateField(String),
    /// An operator that the language does not have.
    #[error("unknown operator `{0}`")]
    UnknownOperator(String),
    /// An operator object must have exactly one key.
    #[error("an operator object must have exactly one key")]
    OneOperator,
    /// The operator takes another kind of value; the second string says which.
    #[error("`{0}` takes {1}")]
    OperatorValue(&'static str, &'static str),
    /// `anything-but` cannot negate this operator.
    #[error("`{outer}` cannot hold `{inner}`")]
    CannotNest {
        /// The outer operator.
        outer: &'static str,
        /// The operator found inside it.
        inner: String,
    },
    /// Strings and numbers in one `anything-but` list.
    #[error("`anything-but` takes a list of strings or a list of numbers, not both")]
    MixedList,
    /// An empty string which would leave nothing to match.
    #[error("`{0}` inside `anything-but` must not be empty")]
    EmptyAffix(&'static str),
    /// Two `*` next to each other.
    #[error("consecutive wildcard characters are not allowed")]
    ConsecutiveWildcards,
    /// A backslash in a wildcard which escapes neither `*` nor `\`.
    #[error("in a wildcard a backslash may only precede `*` or another backslash")]
    WildcardEscape,
    /// The comparison is not one of `=`, `<`, `<=`, `>`, `>=` where it stands.
    #[error("unknown numeric comparison `{0}`")]
    NumericComparison(String),
    /// The number is outside the limits of numeric matching.
    #[error("{0} is not between -5.0e9 and 5.0e9 with at most 6 digits after the decimal point")]
    NumberRange(String),
    /// A numeric range without room.
    #[error("lower end of a numeric range must be less than its upper end")]
    EmptyRange,
    /// Not an address range; the string says why.
    #[error("`{0}` is not an address range: {1}")]
    Cidr(String, &'static str),
    /// `$or` is not a list of at least two objects.
    #[error("`$or` takes a list of at least two objects")]
    OrList,
    /// An operator's name as a field name inside `$or`.
    #[error("`{0}` is a reserved name and cannot be a field inside `$or`")]
    OrReserved(String),
    /// `$or` multiplies out to more ways than [`WAYS_MAX`](super::WAYS_MAX).
    #[error("`$or` gives more than {0} combinations")]
    TooManyWays(usize),
}

/// An event that cannot be matched: the reason and the byte offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{kind} at byte {offset}")]
#[non_exhaustive]
pub struct EventError {
    /// What is wrong.
    pub kind: EventErrorKind,
    /// Bytes from the start of the event text; for an event put into an envelope, from the start
    /// of the detail.
    pub offset: usize,
}

impl EventError {
    pub(super) const fn new(kind: EventErrorKind, offset: usize) -> Self {
        Self { kind, offset }
    }
}

/// Why an event cannot be matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EventErrorKind {
    /// The text does not begin with an object.
    #[error("event is not a JSON object")]
    NotAnObject,
    /// The text ends inside a string, a list or an object.
    #[error("event is cut short")]
    CutShort,
    /// Something else stands where the string says.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A string has an escape that JSON does not know.
    #[error("bad escape in a string")]
    BadEscape,
    /// Text follows the object.
    #[error("text after the event")]
    Trailing,
    /// Fields that patterns mention lie deeper than
    /// [`EVENT_DEPTH_MAX`](super::EVENT_DEPTH_MAX).
    #[error("event is nested deeper than {0} levels")]
    TooDeep(usize),
    /// Keeping fields to one list element needs more than
    /// [`CONSISTENCY_STEPS_MAX`](super::CONSISTENCY_STEPS_MAX) comparisons.
    #[error("event has too many list elements to combine")]
    TooManyCombinations,
}
