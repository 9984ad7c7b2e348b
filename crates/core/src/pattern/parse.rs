//! From a pattern's text to the ways in which it can match.
//!
//! `$or` is multiplied out, as Event Ruler does it: a *way* is a set of fields which must all
//! match, and a pattern matches when one of its ways does. That keeps array consistency simple,
//! because it is then a question about one set of fields.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::{PatternError, PatternErrorKind as Kind};
use super::json::{self, Fault, Member, Node, Value};
use super::limits::WAYS_MAX;
use super::value::{Range, Shape, Test, cidr, micros};

/// Names that cannot be fields inside `$or`.
///
/// From Event Ruler's list: the operators and some names kept for later ones.
const RESERVED: [&str; 24] = [
    "exactly",
    "equals-ignore-case",
    "prefix",
    "suffix",
    "anything-but",
    "exists",
    "wildcard",
    "numeric",
    "cidr",
    "=",
    "<",
    "<=",
    ">",
    ">=",
    "regex",
    "not-wildcard",
    "not-equals-ignore-case",
    "date-after",
    "date-on-or-after",
    "date-before",
    "date-on-or-before",
    "in-date-range",
    "ip-address-in-range",
    "ip-address-not-in-range",
];

/// A field and the values it may have, any of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Field {
    pub(super) path: Vec<String>,
    pub(super) tests: Vec<Test>,
}

/// A pattern after parsing: fields, and ways as indexes into them.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    pub(super) fields: Vec<Arc<Field>>,
    pub(super) ways: Vec<Vec<usize>>,
}

pub(super) fn parse(text: &str) -> Result<Parsed, PatternError> {
    let fail = |(kind, at): Fault, path: String| PatternError::new(kind, text, at, path);
    let root = json::read(text).map_err(|fault| fail(fault, String::new()))?;
    let Value::Object(members) = &root.value else {
        return Err(fail((Kind::NotAnObject, root.at), String::new()));
    };
    let mut parser = Parser::new(true);
    match parser.pattern(&root, members) {
        Ok(ways) => Ok(parser.finish(ways)),
        Err(first) => {
            // `$or` was once an ordinary field name, and AWS still takes it for one throughout a
            // pattern in which it cannot be the keyword. Other faults would only come up again.
            let path = parser.shown_path();
            if matches!(first.0, Kind::OrList | Kind::OrReserved(_)) {
                let mut parser = Parser::new(false);
                if let Ok(ways) = parser.pattern(&root, members) {
                    return Ok(parser.finish(ways));
                }
            }
            Err(fail(first, path))
        }
    }
}

/// One step of the path shown in errors.
enum Step {
    Field(String),
    Element(usize),
}

struct Parser {
    or_is_keyword: bool,
    path: Vec<String>,
    /// Where the parser stands; left as it is when a fault stops it.
    shown: Vec<Step>,
    fields: Vec<Arc<Field>>,
    /// Number of each known path, so that comparing paths is comparing numbers.
    paths: HashMap<Vec<String>, usize>,
    path_of: Vec<usize>,
}

type Ways = Vec<Vec<usize>>;

impl Parser {
    fn new(or_is_keyword: bool) -> Self {
        Self {
            or_is_keyword,
            path: Vec::new(),
            shown: Vec::new(),
            fields: Vec::new(),
            paths: HashMap::new(),
            path_of: Vec::new(),
        }
    }

    fn finish(self, ways: Ways) -> Parsed {
        Parsed { fields: self.fields, ways }
    }

    fn shown_path(&self) -> String {
        let mut out = String::new();
        for step in &self.shown {
            match step {
                Step::Field(name) => {
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out.push_str(name);
                }
                Step::Element(index) => {
                    out.push('[');
                    out.push_str(&index.to_string());
                    out.push(']');
                }
            }
        }
        out
    }

    fn pattern(&mut self, root: &Node, members: &[Member]) -> Result<Ways, Fault> {
        self.object(root.at, members, vec![Vec::new()], false)
    }

    /// Extends every way in `ways` by the fields of one object.
    fn object(
        &mut self,
        at: usize,
        members: &[Member],
        mut ways: Ways,
        inside_or: bool,
    ) -> Result<Ways, Fault> {
        if members.is_empty() {
            return Err((Kind::EmptyObject, at));
        }
        for member in members {
            self.shown.push(Step::Field(member.key.clone()));
            if self.or_is_keyword && member.key == "$or" {
                ways = self.or(&member.value, &ways)?;
            } else {
                if inside_or && RESERVED.contains(&member.key.as_str()) {
                    return Err((Kind::OrReserved(member.key.clone()), member.at));
                }
                self.path.push(member.key.clone());
                ways = match &member.value.value {
                    Value::Object(inner) => self.object(member.value.at, inner, ways, inside_or)?,
                    Value::List(values) => {
                        let tests = self.values(member.value.at, values)?;
                        self.field(tests, ways, member)?
                    }
                    _ => return Err((Kind::FieldNotList(member.key.clone()), member.value.at)),
                };
                self.path.pop();
            }
            self.shown.pop();
        }
        Ok(ways)
    }

    fn or(&mut self, node: &Node, ways: &Ways) -> Result<Ways, Fault> {
        let Value::List(branches) = &node.value else { return Err((Kind::OrList, node.at)) };
        let mut all = Ways::new();
        for (index, branch) in branches.iter().enumerate() {
            self.shown.push(Step::Element(index));
            let Value::Object(members) = &branch.value else {
                return Err((Kind::OrList, branch.at));
            };
            let more = self.object(branch.at, members, ways.clone(), true)?;
            if all.len() + more.len() > WAYS_MAX {
                return Err((Kind::TooManyWays(WAYS_MAX), node.at));
            }
            all.extend(more);
            self.shown.pop();
        }
        if branches.len() < 2 { Err((Kind::OrList, node.at)) } else { Ok(all) }
    }

    fn field(&mut self, tests: Vec<Test>, mut ways: Ways, member: &Member) -> Result<Ways, Fault> {
        let next = self.paths.len();
        let path = *self.paths.entry(self.path.clone()).or_insert(next);
        let index = self.fields.len();
        for way in &mut ways {
            // Event Ruler can be set to let the later one win or to refuse; a pattern of which one
            // half is silently dropped is not what anybody meant.
            if way.iter().any(|&known| self.path_of[known] == path) {
                return Err((Kind::DuplicateField(member.key.clone()), member.at));
            }
            way.push(index);
        }
        self.fields.push(Arc::new(Field { path: self.path.clone(), tests }));
        self.path_of.push(path);
        Ok(ways)
    }

    fn values(&mut self, at: usize, values: &[Node]) -> Result<Vec<Test>, Fault> {
        if values.is_empty() {
            return Err((Kind::EmptyList, at));
        }
        let mut tests = Vec::with_capacity(values.len());
        for (index, node) in values.iter().enumerate() {
            self.shown.push(Step::Element(index));
            let test = match &node.value {
                Value::String(s) => Test::Text(s.clone()),
                Value::Number(digits) => Test::Number(digits.clone()),
                Value::Bool(b) => Test::Bool(*b),
                Value::Null => Test::Null,
                Value::List(_) => return Err((Kind::BadValue, node.at)),
                Value::Object(members) => {
                    let operator = single(node.at, members)?;
                    let known = operator_name(&operator.key).ok_or_else(|| {
                        (Kind::UnknownOperator(operator.key.clone()), operator.at)
                    })?;
                    self.shown.push(Step::Field(known.to_owned()));
                    let test = self.operator(known, &operator.value)?;
                    self.shown.pop();
                    test
                }
            };
            self.shown.pop();
            if !tests.contains(&test) {
                tests.push(test);
            }
        }
        Ok(tests)
    }

    fn operator(&mut self, name: &'static str, value: &Node) -> Result<Test, Fault> {
        Ok(match name {
            "exactly" => Test::Text(string(name, value)?.to_owned()),
            "exists" => match value.value {
                Value::Bool(b) => Test::Exists(b),
                _ => return Err((Kind::OperatorValue(name, "true or false"), value.at)),
            },
            "numeric" => self.numeric(value)?,
            "cidr" => {
                let text = string(name, value)?;
                let (first, last) =
                    cidr(text).map_err(|why| (Kind::Cidr(text.to_owned(), why), value.at))?;
                Test::Cidr(first, last)
            }
            "anything-but" => self.anything_but(value)?,
            "prefix" | "suffix" => {
                let shape = match &value.value {
                    Value::Object(members) => {
                        let inner = single(value.at, members)?;
                        if inner.key != "equals-ignore-case" {
                            let inner_name = inner.key.clone();
                            return Err((
                                Kind::CannotNest { outer: name, inner: inner_name },
                                inner.at,
                            ));
                        }
                        let text = string("equals-ignore-case", &inner.value)?.to_owned();
                        if name == "prefix" {
                            Shape::FoldedPrefix(text)
                        } else {
                            Shape::FoldedSuffix(text)
                        }
                    }
                    _ => shape(name, string(name, value)?, value.at)?,
                };
                Test::Matches(shape)
            }
            _ => Test::Matches(shape(name, string(name, value)?, value.at)?),
        })
    }

    fn anything_but(&mut self, value: &Node) -> Result<Test, Fault> {
        const TAKES: &str = "a string, a number, a list of either, or one operator on strings";
        match &value.value {
            Value::String(s) => Ok(Test::NotText(vec![s.clone()])),
            Value::Number(digits) => Ok(Test::NotNumber(vec![number(digits, value.at)?])),
            Value::List(values) => {
                let (mut texts, mut numbers) = (Vec::new(), Vec::new());
                for (index, node) in values.iter().enumerate() {
                    self.shown.push(Step::Element(index));
                    match &node.value {
                        Value::String(s) => texts.push(s.clone()),
                        Value::Number(digits) => numbers.push(number(digits, node.at)?),
                        _ => return Err((Kind::OperatorValue("anything-but", TAKES), node.at)),
                    }
                    if !texts.is_empty() && !numbers.is_empty() {
                        return Err((Kind::MixedList, node.at));
                    }
                    self.shown.pop();
                }
                match (texts.is_empty(), numbers.is_empty()) {
                    (true, true) => Err((Kind::EmptyList, value.at)),
                    (false, _) => Ok(Test::NotText(texts)),
                    (true, false) => Ok(Test::NotNumber(numbers)),
                }
            }
            Value::Object(members) => {
                let inner = single(value.at, members)?;
                let name = match operator_name(&inner.key) {
                    Some(n @ ("prefix" | "suffix" | "equals-ignore-case" | "wildcard")) => n,
                    _ => {
                        let nest =
                            Kind::CannotNest { outer: "anything-but", inner: inner.key.clone() };
                        return Err((nest, inner.at));
                    }
                };
                self.shown.push(Step::Field(name.to_owned()));
                let shapes = match &inner.value.value {
                    Value::List(values) => {
                        if values.is_empty() {
                            return Err((Kind::EmptyList, inner.value.at));
                        }
                        let mut shapes = Vec::with_capacity(values.len());
                        for (index, node) in values.iter().enumerate() {
                            self.shown.push(Step::Element(index));
                            shapes.push(negated(name, node)?);
                            self.shown.pop();
                        }
                        shapes
                    }
                    _ => vec![negated(name, &inner.value)?],
                };
                self.shown.pop();
                Ok(Test::NotMatches(shapes))
            }
            Value::Null | Value::Bool(_) => {
                Err((Kind::OperatorValue("anything-but", TAKES), value.at))
            }
        }
    }

    fn numeric(&mut self, value: &Node) -> Result<Test, Fault> {
        const TAKES: &str = "a list of one or two comparisons, each followed by a number";
        let bad = |at| Err((Kind::OperatorValue("numeric", TAKES), at));
        let Value::List(terms) = &value.value else { return bad(value.at) };
        let (first, second) = match terms.as_slice() {
            [a, b] => ((a, b), None),
            [a, b, c, d] => ((a, b), Some((c, d))),
            _ => return bad(value.at),
        };
        let mut range = Range::ALL;
        let mut bounds = [0_i64; 2];
        for (index, (comparison, limit)) in std::iter::once(first).chain(second).enumerate() {
            self.shown.push(Step::Element(2 * index));
            let Value::String(sign) = &comparison.value else { return bad(comparison.at) };
            // A second comparison closes what the first one opened: > or >=, then < or <=.
            let fits = match (index, second.is_some()) {
                (0, false) => matches!(sign.as_str(), "=" | "<" | "<=" | ">" | ">="),
                (0, true) => matches!(sign.as_str(), ">" | ">="),
                _ => matches!(sign.as_str(), "<" | "<="),
            };
            if !fits {
                return Err((Kind::NumericComparison(sign.clone()), comparison.at));
            }
            self.shown.pop();
            self.shown.push(Step::Element(2 * index + 1));
            let Value::Number(digits) = &limit.value else { return bad(limit.at) };
            let limit = number(digits, limit.at)?;
            self.shown.pop();
            bounds[index] = limit;
            // Millionths are whole numbers, so an open end is the next one.
            match sign.as_str() {
                "=" => range = Range { low: limit, high: limit },
                "<" => range.high = limit - 1,
                "<=" => range.high = limit,
                ">" => range.low = limit + 1,
                _ => range.low = limit,
            }
        }
        if second.is_some() && bounds[0] >= bounds[1] {
            return Err((Kind::EmptyRange, value.at));
        }
        Ok(Test::Numeric(range))
    }
}

fn operator_name(name: &str) -> Option<&'static str> {
    // The operators are the first names on the list.
    RESERVED[..9].iter().copied().find(|known| *known == name)
}

fn single(at: usize, members: &[Member]) -> Result<&Member, Fault> {
    match members {
        [only] => Ok(only),
        [] => Err((Kind::OneOperator, at)),
        [_, second, ..] => Err((Kind::OneOperator, second.at)),
    }
}

fn string<'n>(name: &'static str, node: &'n Node) -> Result<&'n str, Fault> {
    match &node.value {
        Value::String(s) => Ok(s),
        _ => Err((Kind::OperatorValue(name, "a string"), node.at)),
    }
}

fn number(digits: &str, at: usize) -> Result<i64, Fault> {
    micros(digits).ok_or_else(|| (Kind::NumberRange(digits.to_owned()), at))
}

fn negated(name: &'static str, node: &Node) -> Result<Shape, Fault> {
    let text = string(name, node)?;
    if text.is_empty() && matches!(name, "prefix" | "suffix") {
        return Err((Kind::EmptyAffix(name), node.at));
    }
    shape(name, text, node.at)
}

fn shape(name: &str, text: &str, at: usize) -> Result<Shape, Fault> {
    Ok(match name {
        "prefix" => Shape::Prefix(text.to_owned()),
        "suffix" => Shape::Suffix(text.to_owned()),
        "equals-ignore-case" => Shape::Folded(text.to_owned()),
        _ => Shape::Wildcard(wildcard(text).map_err(|kind| (kind, at))?),
    })
}

/// The literal pieces of a wildcard, split at its `*`.
fn wildcard(text: &str) -> Result<Vec<String>, Kind> {
    let mut pieces = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let literal = match c {
            '*' if characters.peek() == Some(&'*') => return Err(Kind::ConsecutiveWildcards),
            '*' => {
                pieces.push(String::new());
                continue;
            }
            '\\' => match characters.next() {
                Some(escaped @ ('*' | '\\')) => escaped,
                _ => return Err(Kind::WildcardEscape),
            },
            other => other,
        };
        if let Some(piece) = pieces.last_mut() {
            piece.push(literal);
        }
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn errors_say_what_and_where() {
        assert_eq!(
            refused("{\"detail\": {\n  \"state\": [\n    {\"foo\": 1}]}}"),
            "unknown operator `foo` at line 3 column 6 (detail.state[0])"
        );
        assert_eq!(
            refused(r#"{"detail":{"state":[{"numeric":[">",0,"<","x"]}]}}"#),
            "`numeric` takes a list of one or two comparisons, each followed by a number \
             at line 1 column 43 (detail.state[0].numeric[3])"
        );
        assert_eq!(refused("[]"), "an event pattern must be a JSON object at line 1 column 1");
        assert_eq!(
            refused(r#"{"a":["x"],"$or":[{"a":["y"]},{"b":["z"]}]}"#),
            "field `a` is named more than once at line 1 column 20 ($or[0].a)"
        );
    }

    #[test]
    fn columns_count_characters() {
        let error = parse("{\"\u{e9}\u{1f600}\": 1}").unwrap_err();
        assert_eq!((error.offset, error.column), (11, 8));
    }

    #[test]
    fn or_is_multiplied_out() {
        let text = r#"{"s":["x"],"$or":[{"a":["1"]},{"b":["2"]}],
            "d":{"$or":[{"c":["3"]},{"e":["4"]},{"f":["5"]}]}}"#;
        let parsed = parse(text).unwrap();
        assert_eq!(parsed.ways.len(), 6);
        assert!(parsed.ways.iter().all(|way| way.len() == 3));
    }

    #[test]
    fn or_without_its_form_is_a_field() {
        let parsed = parse(r#"{"$or":{"a":["x"]}}"#).unwrap();
        assert_eq!(parsed.fields[0].path, ["$or", "a"]);
        let parsed = parse(r#"{"$or":[{"prefix":"a"},{"prefix":"b"}]}"#).unwrap();
        assert_eq!(parsed.fields[0].path, ["$or"]);
        assert!(refused(r#"{"$or":[{"a":["x"]}]}"#).starts_with("`$or` takes"));
    }

    #[test]
    fn too_many_ways_are_refused() {
        let level = r#""$or":[{"a":["1"]},{"b":["1"]}]"#;
        let mut text = String::from("{");
        for n in 0..10 {
            text.push_str(&format!("\"k{n}\":{{{level}}},"));
        }
        text.push_str("\"z\":[1]}");
        assert!(refused(&text).starts_with("`$or` gives more than 1000 combinations"));
    }
}
