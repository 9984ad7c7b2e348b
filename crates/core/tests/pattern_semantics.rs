//! What event patterns mean: cases written from the documentation, and a plain second matcher that
//! must agree with the engine on generated patterns and events.

// The second matcher is only ever given what the generators make.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use rootwatch_core::pattern::{EventPattern, PatternErrorKind, PatternSet};
use serde_json::{Map, Value, json, value::RawValue};

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    source: String,
    pattern: String,
    event: String,
    expect: String,
}

fn cases() -> Vec<Case> {
    include_str!("pattern_cases.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("every line is a case"))
        .collect()
}

#[test]
fn every_case_has_its_own_name_and_a_source() {
    let cases = cases();
    assert!(cases.len() >= 350, "{} cases", cases.len());
    let names: std::collections::BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len());
    assert!(cases.iter().all(|case| !case.source.is_empty()));
}

#[test]
fn every_case_comes_out_as_documented() {
    let mut wrong = Vec::new();
    for case in cases() {
        let outcome = match EventPattern::parse(&case.pattern) {
            Err(_) => "invalid".to_owned(),
            Ok(pattern) => match pattern.matches(&case.event) {
                Ok(matched) => matched.to_string(),
                Err(error) => error.to_string(),
            },
        };
        if outcome != case.expect {
            wrong.push(format!("{}: {outcome} instead of {}", case.name, case.expect));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn refusals_say_where() {
    for case in cases() {
        let Err(error) = EventPattern::parse(&case.pattern) else { continue };
        assert!(error.offset <= case.pattern.len(), "{}", case.name);
        assert!(case.pattern.is_char_boundary(error.offset), "{}", case.name);
        assert!(error.line >= 1 && error.column >= 1, "{}", case.name);
        let text = error.to_string();
        let place = format!(" at line {} column {}", error.line, error.column);
        assert!(text.contains(&place), "{}: {text}", case.name);
    }
}

#[test]
fn a_pattern_decides_the_same_in_company_as_alone() {
    let mut patterns: Vec<EventPattern> = Vec::new();
    let mut events = Vec::new();
    for case in cases() {
        if let Ok(pattern) = EventPattern::parse(&case.pattern) {
            patterns.push(pattern);
            events.push(case.event);
        }
    }
    let set = PatternSet::new(patterns.clone());
    let singles: Vec<PatternSet> =
        patterns.iter().map(|pattern| PatternSet::new(vec![pattern.clone()])).collect();
    let mut alone: Vec<_> = singles.iter().map(PatternSet::matcher).collect();
    let mut together = set.matcher();
    for event in &events {
        let mut expected = Vec::new();
        for (index, matcher) in alone.iter_mut().enumerate() {
            if !matcher.run(event).expect("events are sound").matched.is_empty() {
                expected.push(index);
            }
        }
        assert_eq!(together.run(event).expect("events are sound").matched, expected, "{event}");
    }
}

#[test]
fn an_event_in_two_parts_matches_like_the_whole() {
    let mut tried = 0;
    for case in cases() {
        let Ok(pattern) = EventPattern::parse(&case.pattern) else { continue };
        // Maps keep the last of repeated keys; those events cannot be taken apart this way.
        let Ok(parts) = serde_json::from_str::<BTreeMap<String, &RawValue>>(&case.event) else {
            continue;
        };
        let Some(detail) = parts.get("detail").filter(|raw| raw.get().starts_with('{')) else {
            continue;
        };
        let strings: Option<Vec<(&str, String)>> = parts
            .iter()
            .filter(|(name, raw)| *name != "detail" && !matches!(raw.get(), "[]" | "{}"))
            .map(|(name, raw)| Some((name.as_str(), serde_json::from_str(raw.get()).ok()?)))
            .collect();
        let Some(strings) = strings else { continue };
        if case.event.matches("\"detail\":").count() > 1 {
            continue;
        }
        let envelope: Vec<(&str, &str)> =
            strings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let set = PatternSet::new(vec![pattern]);
        let mut matcher = set.matcher();
        let matched = !matcher.run_in_envelope(&envelope, detail.get()).unwrap().matched.is_empty();
        assert_eq!(matched.to_string(), case.expect, "{}", case.name);
        tried += 1;
    }
    assert!(tried > 200, "{tried}");
}

#[test]
fn alternatives_never_exclude_a_match() {
    for case in cases() {
        let Ok(pattern) = EventPattern::parse(&case.pattern) else { continue };
        let Ok(event) = serde_json::from_str::<Value>(&case.event) else { continue };
        let fields = flatten(&event);
        let possible = pattern.alternatives().iter().any(|way| {
            way.iter().all(|(path, strings)| {
                fields.iter().any(|field| {
                    field.path == *path
                        && field.value.as_str().is_some_and(|s| strings.iter().any(|t| t == s))
                })
            })
        });
        // Repeated keys are lost on serde_json's value.
        if case.expect == "true" && !case.name.contains("repeated") {
            assert!(possible || case.name == "value and object in one list", "{}", case.name);
        }
    }
}

// The second matcher: straight from the definitions, over serde_json's values.

struct Leaf<'e> {
    path: Vec<String>,
    value: &'e Value,
    /// List and element, for each list around the value that holds it in an object or a list.
    elements: BTreeMap<usize, usize>,
}

fn flatten(event: &Value) -> Vec<Leaf<'_>> {
    fn go<'e>(
        value: &'e Value,
        path: &mut Vec<String>,
        elements: &BTreeMap<usize, usize>,
        lists: &mut usize,
        out: &mut Vec<Leaf<'e>>,
    ) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    path.push(name.clone());
                    go(value, path, elements, lists, out);
                    path.pop();
                }
            }
            Value::Array(items) => {
                *lists += 1;
                let list = *lists;
                for (index, item) in items.iter().enumerate() {
                    let mut elements = elements.clone();
                    if item.is_array() || item.is_object() {
                        elements.insert(list, index);
                    }
                    go(item, path, &elements, lists, out);
                }
            }
            _ => out.push(Leaf { path: path.clone(), value, elements: elements.clone() }),
        }
    }
    let mut out = Vec::new();
    go(event, &mut Vec::new(), &BTreeMap::new(), &mut 0, &mut out);
    out
}

type Fields<'p> = Vec<(Vec<String>, &'p Vec<Value>)>;

fn ways<'p>(pattern: &'p Map<String, Value>, path: &[String]) -> Vec<Fields<'p>> {
    let mut all: Vec<Fields<'p>> = vec![Vec::new()];
    for (name, value) in pattern {
        let mut inner_path = path.to_vec();
        let choices: Vec<Fields<'p>> = match value {
            Value::Array(branches) if name == "$or" => {
                branches.iter().flat_map(|b| ways(b.as_object().unwrap(), path)).collect()
            }
            Value::Array(tests) => {
                inner_path.push(name.clone());
                vec![vec![(inner_path, tests)]]
            }
            Value::Object(members) => {
                inner_path.push(name.clone());
                ways(members, &inner_path)
            }
            _ => unreachable!("patterns are generated well formed"),
        };
        all = all
            .iter()
            .flat_map(|way| choices.iter().map(|more| [way.clone(), more.clone()].concat()))
            .collect();
    }
    all
}

fn naive(pattern: &Value, event: &Value) -> bool {
    let leaves = flatten(event);
    ways(pattern.as_object().unwrap(), &[]).into_iter().any(|mut way| {
        way.sort_by_key(|(path, _)| path.join("."));
        assign(&way, &leaves, &BTreeMap::new())
    })
}

fn agrees(a: &BTreeMap<usize, usize>, b: &BTreeMap<usize, usize>) -> bool {
    a.iter().all(|(list, element)| b.get(list).is_none_or(|other| other == element))
}

fn assign(
    way: &[(Vec<String>, &Vec<Value>)],
    leaves: &[Leaf<'_>],
    at: &BTreeMap<usize, usize>,
) -> bool {
    let Some(((path, tests), rest)) = way.split_first() else { return true };
    let here: Vec<&Leaf<'_>> =
        leaves.iter().filter(|leaf| leaf.path == *path && agrees(&leaf.elements, at)).collect();
    for leaf in &here {
        if tests.iter().any(|test| holds(test, leaf.value)) {
            let mut both = at.clone();
            both.extend(&leaf.elements);
            if assign(rest, leaves, &both) {
                return true;
            }
        }
    }
    here.is_empty() && tests.contains(&json!({"exists": false})) && assign(rest, leaves, at)
}

fn holds(test: &Value, value: &Value) -> bool {
    let Value::Object(operator) = test else { return test == value };
    let (name, argument) = operator.iter().next().unwrap();
    match name.as_str() {
        "exists" => *argument == json!(true),
        "anything-but" => match argument {
            Value::Array(list) => list.iter().all(|one| differs(one, value)),
            Value::Object(inner) => {
                let (name, arguments) = inner.iter().next().unwrap();
                let list = arguments.as_array().cloned().unwrap_or(vec![arguments.clone()]);
                list.iter().all(|one| !holds(&json!({ name.as_str(): one }), value))
            }
            one => differs(one, value),
        },
        "numeric" => {
            let Some(number) = value.as_f64() else { return false };
            argument.as_array().unwrap().chunks(2).all(|pair| {
                let limit = pair[1].as_f64().unwrap();
                match pair[0].as_str().unwrap() {
                    "=" => number == limit,
                    "<" => number < limit,
                    "<=" => number <= limit,
                    ">" => number > limit,
                    _ => number >= limit,
                }
            })
        }
        _ => value.as_str().is_some_and(|text| text_holds(name, argument, text)),
    }
}

fn differs(one: &Value, value: &Value) -> bool {
    match (one.as_f64(), value.as_f64()) {
        (Some(a), Some(b)) => a != b,
        _ => one != value,
    }
}

fn text_holds(name: &str, argument: &Value, text: &str) -> bool {
    let fold = |s: &str| s.to_ascii_lowercase();
    if let Some(inner) = argument.get("equals-ignore-case") {
        return text_holds(name, &json!(fold(inner.as_str().unwrap())), &fold(text));
    }
    let argument = argument.as_str().unwrap();
    match name {
        "prefix" => text.starts_with(argument),
        "suffix" => text.ends_with(argument),
        "equals-ignore-case" => fold(text) == fold(argument),
        "cidr" => {
            // Only 10.0.0.0/8 and 1::/16 are generated.
            fn first(text: &str, by: char) -> Option<&str> {
                text.split(by).next()
            }
            match text.parse() {
                Ok(std::net::IpAddr::V4(_)) => {
                    argument.contains('.') && first(text, '.') == Some("10")
                }
                Ok(std::net::IpAddr::V6(_)) => {
                    argument.contains(':') && first(text, ':') == Some("1")
                }
                Err(_) => false,
            }
        }
        "wildcard" => {
            wild(&argument.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
        }
        other => unreachable!("{other}"),
    }
}

fn wild(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|skip| wild(rest, &text[skip..])),
        ['\\', c, rest @ ..] | [c, rest @ ..] => text.first() == Some(c) && wild(rest, &text[1..]),
    }
}

// Generators. Names and strings come from small pools, so that matches are common.

const NAMES: [&str; 5] = ["a", "b", "c", "$x", "d\u{e9}"];
const TEXTS: [&str; 14] = [
    "",
    "a",
    "A",
    "ab",
    "aB",
    "ba",
    "aba",
    "b*",
    "a\\b",
    "\"q\"\n",
    "10.1.2.3",
    "11.1.2.3",
    "1::7",
    "\u{1f600}",
];

fn text() -> impl Strategy<Value = Value> {
    prop::sample::select(&TEXTS[..]).prop_map(|text| json!(text))
}

fn number() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![json!(-1), json!(0), json!(1), json!(2), json!(1.5), json!(300)])
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => text(),
        3 => number(),
        1 => Just(json!(null)),
        1 => any::<bool>().prop_map(|b| json!(b)),
    ]
}

fn shape() -> impl Strategy<Value = Value> {
    let some = prop::sample::select(vec!["a", "b", "ab", "B", "*"]);
    let wildcard =
        prop::sample::select(vec!["*", "a*", "*b", "a*b*", "*a*", "b\\*", "a\\\\b", "ab", "a*a"]);
    let name = prop::sample::select(vec!["prefix", "suffix", "equals-ignore-case"]);
    prop_oneof![
        (name, some).prop_map(|(name, some)| json!({ name: some })),
        wildcard.prop_map(|wildcard| json!({ "wildcard": wildcard })),
    ]
}

fn test() -> impl Strategy<Value = Value> {
    let folded = (prop::sample::select(vec!["prefix", "suffix"]), text())
        .prop_filter("ASCII", |(_, text)| text.as_str().is_some_and(str::is_ascii))
        .prop_map(|(name, text)| json!({ name: { "equals-ignore-case": text } }));
    let list = |one: BoxedStrategy<Value>| prop::collection::vec(one, 1..3);
    let ranges = prop::sample::select(vec![
        json!(["=", 1]),
        json!(["=", 3.0e2]),
        json!(["<", 1]),
        json!(["<=", 1]),
        json!([">", 0]),
        json!([">=", 1.5]),
        json!([">", 0, "<", 2]),
        json!([">=", -1, "<=", 1]),
    ]);
    prop_oneof![
        6 => scalar(),
        3 => shape(),
        1 => folded,
        2 => any::<bool>().prop_map(|b| json!({ "exists": b })),
        1 => ranges.prop_map(|range| json!({ "numeric": range })),
        1 => prop::sample::select(vec!["10.0.0.0/8", "1::/16"]).prop_map(|c| json!({ "cidr": c })),
        1 => list(text().boxed()).prop_map(|list| json!({ "anything-but": list })),
        1 => list(number().boxed()).prop_map(|list| json!({ "anything-but": list })),
        1 => text().prop_map(|text| json!({ "anything-but": text })),
        1 => shape().prop_map(|shape| json!({ "anything-but": shape })),
    ]
}

fn object(inner: impl Strategy<Value = Value>, least: usize) -> impl Strategy<Value = Value> {
    let name = prop::sample::select(&NAMES[..]).prop_map(str::to_owned);
    prop::collection::btree_map(name, inner, least..4).prop_map(|members| json!(members))
}

fn pattern() -> impl Strategy<Value = Value> {
    let leaf = prop::collection::vec(test(), 1..4).prop_map(Value::Array).boxed();
    let mut level = object(leaf.clone(), 1).boxed();
    for _ in 0..2 {
        let fields = object(prop_oneof![2 => leaf.clone(), 3 => level.clone()], 1);
        let or = prop::option::weighted(0.3, prop::collection::vec(level.clone(), 2..4));
        level = (fields, or)
            .prop_map(|(mut fields, or)| {
                if let (Some(or), Some(fields)) = (or, fields.as_object_mut()) {
                    fields.insert("$or".to_owned(), json!(or));
                }
                fields
            })
            .boxed();
    }
    level
}

fn event() -> impl Strategy<Value = Value> {
    let value = scalar().prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            4 => object(inner, 0),
        ]
    });
    object(value, 0)
}

/// An event with the shape of the pattern, so that fields are found where they are looked for.
fn lookalike(pattern: &Value, bits: &mut Bits) -> Value {
    let one = |bits: &mut Bits| match pattern {
        Value::Object(members) => {
            let mut out = Map::new();
            for (name, value) in members {
                if name == "$or" {
                    for branch in value.as_array().unwrap() {
                        if let Value::Object(more) = lookalike(branch, bits) {
                            out.extend(more);
                        }
                    }
                } else if bits.below(6) > 0 {
                    out.insert(name.clone(), lookalike(value, bits));
                }
            }
            Value::Object(out)
        }
        Value::Array(tests) => match &tests[bits.below(tests.len())] {
            Value::Object(_) => json!(TEXTS[bits.below(TEXTS.len())]),
            other => other.clone(),
        },
        _ => unreachable!("patterns are generated well formed"),
    };
    let plain = one(bits);
    match bits.below(6) {
        0 => json!([plain, one(bits), [one(bits)]]),
        1 => json!([[[one(bits)], one(bits)], plain]),
        _ => plain,
    }
}

struct Bits(u64);

impl Bits {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as usize
    }
}

/// JSON text of the value with white space and escapes wherever they may be.
fn odd_text(value: &Value, bits: &mut Bits, out: &mut String) {
    fn space(bits: &mut Bits, out: &mut String) {
        out.push_str(["", "", "", " ", "\n", "\t\r ", "                  "][bits.below(7)]);
    }
    fn string(text: &str, bits: &mut Bits, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            if bits.below(4) == 0 || c < ' ' || c == '"' || c == '\\' {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            } else {
                out.push(c);
            }
        }
        out.push('"');
    }
    space(bits, out);
    match value {
        Value::String(text) => string(text, bits, out),
        Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                odd_text(item, bits, out);
            }
            space(bits, out);
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (n, (name, value)) in members.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                space(bits, out);
                string(name, bits, out);
                space(bits, out);
                out.push(':');
                odd_text(value, bits, out);
            }
            space(bits, out);
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
    space(bits, out);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn the_plain_matcher_agrees(
        patterns in prop::collection::vec(pattern(), 1..5),
        event in event(),
        seed in any::<u64>(),
    ) {
        let mut bits = Bits(seed);
        let parsed: Vec<(Value, EventPattern)> = patterns
            .into_iter()
            .filter_map(|json| match EventPattern::parse(&json.to_string()) {
                Ok(pattern) => Some((json, pattern)),
                Err(error) => {
                    let kind = matches!(error.kind, PatternErrorKind::DuplicateField(_));
                    assert!(kind, "{error}: {json}");
                    None
                }
            })
            .collect();
        let set = PatternSet::new(parsed.iter().map(|(_, pattern)| pattern.clone()).collect());
        let mut matcher = set.matcher();
        let mut events = vec![event];
        events.extend(parsed.iter().map(|(json, _)| lookalike(json, &mut bits)).filter(Value::is_object));
        for event in &events {
            let mut text = String::new();
            odd_text(event, &mut bits, &mut text);
            let expected: Vec<usize> =
                (0..parsed.len()).filter(|&n| naive(&parsed[n].0, event)).collect();
            prop_assert_eq!(matcher.run(&text).unwrap().matched, &expected[..], "{}", text);
            for (n, (json, pattern)) in parsed.iter().enumerate() {
                let alone = pattern.matches(&event.to_string()).unwrap();
                prop_assert_eq!(alone, expected.contains(&n), "{} {}", json, event);
            }
        }
    }

    #[test]
    fn no_text_is_read_without_an_answer(text in "[\\[\\]{}:,\"\\\\a$0-9. ]{0,80}", cut in 0..200_usize) {
        let set = PatternSet::new(vec![
            EventPattern::parse(r#"{"a":[{"exists":true}],"b":{"a":["x"]}}"#).unwrap(),
        ]);
        let mut matcher = set.matcher();
        let _ = matcher.run(&text);
        let _ = EventPattern::parse(&text);
        let whole = r#"{"z":{"q":[1,"\\\"]"]},"b":{"a":"x"},"a":[[{"\u0061":1},-1.5e3]]}"#;
        let end = whole.floor_char_boundary(cut);
        prop_assert_eq!(matcher.run(&whole[..end]).is_ok(), end == whole.len());
    }
}

#[test]
fn generated_events_do_match_now_and_then() {
    // Guards the generators: agreement on nothing but misses would show little.
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut matched, mut missed) = (0, 0);
    for seed in 0..400 {
        let json = pattern().new_tree(&mut runner).unwrap().current();
        let event = lookalike(&json, &mut Bits(seed));
        if event.is_object() {
            if naive(&json, &event) { matched += 1 } else { missed += 1 }
        }
    }
    assert!(matched > 40 && missed > 40, "{matched} matched, {missed} missed");
}
