//! Many patterns in one tree of field names, with equal tests shared.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use super::parse::{Field, Parsed};
use super::value::{Matcher, Range, Shape, Test};

/// Slots to mark when a test holds.
pub(super) type Slots = Box<[usize]>;

/// The compiled form of many patterns.
#[derive(Debug, Clone, Default)]
pub(super) struct Compiled {
    /// Field names; the first node is the event itself.
    pub(super) nodes: Vec<Node>,
    pub(super) leaves: Vec<Leaf>,
    /// Distinct pairs of a field and its list of values.
    pub(super) slots: Vec<Slot>,
    pub(super) ways: Vec<Way>,
    /// Ways that can match without any value.
    pub(super) unneeding: Vec<usize>,
}

/// A field name within its parent.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) children: Children,
    /// Index into the leaves, if a pattern tests the value itself.
    pub(super) leaf: Option<usize>,
}

/// Fields of a node by name, arranged to refuse other names quickly.
#[derive(Debug, Clone, Default)]
pub(super) struct Children {
    /// Which of 64 name marks occur at all.
    marks: u64,
    list: Vec<(u32, Box<str>, usize)>,
}

impl Children {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    #[inline(always)]
    pub(super) fn get(&self, name: &[u8]) -> Option<usize> {
        let mark = mark(name);
        if self.marks & (1 << mark) == 0 {
            return None;
        }
        self.list
            .iter()
            .find(|(known, key, _)| *known == mark && key.as_bytes() == name)
            .map(|&(_, _, node)| node)
    }

    fn insert(&mut self, name: &str, node: usize) {
        let mark = mark(name.as_bytes());
        self.marks |= 1 << mark;
        self.list.push((mark, name.into(), node));
    }
}

/// A number below 64 from a name's length and ends.
#[inline(always)]
fn mark(name: &[u8]) -> u32 {
    let (Some(first), Some(last)) = (name.first(), name.last()) else { return 0 };
    // Only the low bits of the length matter.
    let length = (name.len() & 63) as u32;
    (length ^ (u32::from(*first) << 1) ^ (u32::from(*last) << 3)) & 63
}

/// All tests of one field's value.
#[derive(Debug, Clone, Default)]
pub(super) struct Leaf {
    /// Exact strings.
    pub(super) texts: HashMap<Box<str>, Slots, BuildHasherDefault<NameHasher>>,
    /// Lengths of the exact strings, capped at 63: most values fail on this alone.
    pub(super) text_lengths: u64,
    /// Operators on strings.
    pub(super) shapes: Vec<(Matcher, Slots)>,
    pub(super) addresses: Vec<(IpAddr, IpAddr, Slots)>,
    /// `anything-but`: any value that is not one of these.
    pub(super) not_texts: Vec<(Vec<String>, Slots)>,
    pub(super) not_shapes: Vec<(Vec<Matcher>, Slots)>,
    pub(super) not_numbers: Vec<(Vec<i64>, Slots)>,
    /// Exact numbers by their digits.
    pub(super) numbers: Vec<(String, Slots)>,
    pub(super) ranges: Vec<(Range, Slots)>,
    pub(super) null: Slots,
    pub(super) yes: Slots,
    pub(super) no: Slots,
    /// `exists: true`.
    pub(super) any: Slots,
    /// Whether some `exists: false` depends on every value.
    pub(super) presence: bool,
}

impl Leaf {
    #[inline]
    pub(super) fn text_slots(&self, text: &str) -> Option<&Slots> {
        if self.text_lengths & (1 << text.len().min(63)) == 0 {
            return None;
        }
        self.texts.get(text)
    }
}

/// A field and its list of values, shared by all ways that have the same.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) leaf: usize,
    /// The list holds `exists: false`.
    pub(super) or_absent: bool,
    /// Ways that cannot match unless a value passes.
    pub(super) needed_by: Vec<usize>,
}

/// Fields which must all match for the pattern to match.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) pattern: usize,
    /// Sorted by the dotted name of the field, the order that Event Ruler uses.
    pub(super) slots: Vec<usize>,
    /// Number of slots without `exists: false`.
    pub(super) needs: usize,
}

pub(super) fn compile(patterns: &[Arc<Parsed>]) -> Compiled {
    let mut out = Compiled { nodes: vec![Node::default()], ..Compiled::default() };
    let mut known: HashMap<Arc<Field>, usize> = HashMap::new();
    let mut builders: Vec<HashMap<Test, Vec<usize>>> = Vec::new();
    for (pattern, parsed) in patterns.iter().enumerate() {
        let slots: Vec<usize> = parsed
            .fields
            .iter()
            .map(|field| {
                *known.entry(Arc::clone(field)).or_insert_with(|| {
                    let leaf = leaf(&mut out, &field.path);
                    builders.resize_with(out.leaves.len(), HashMap::new);
                    let slot = out.slots.len();
                    for test in &field.tests {
                        builders[leaf].entry(test.clone()).or_default().push(slot);
                    }
                    let or_absent = field.tests.contains(&Test::Exists(false));
                    out.slots.push(Slot { leaf, or_absent, needed_by: Vec::new() });
                    slot
                })
            })
            .collect();
        for fields in &parsed.ways {
            let mut fields = fields.clone();
            fields.sort_by_cached_key(|&field| parsed.fields[field].path.join("."));
            let way = out.ways.len();
            let slots: Vec<usize> = fields.iter().map(|&field| slots[field]).collect();
            let mut needs = 0;
            for &slot in &slots {
                if !out.slots[slot].or_absent {
                    out.slots[slot].needed_by.push(way);
                    needs += 1;
                }
            }
            if needs == 0 {
                out.unneeding.push(way);
            }
            out.ways.push(Way { pattern, slots, needs });
        }
    }
    for (leaf, tests) in out.leaves.iter_mut().zip(builders) {
        fill(leaf, tests);
    }
    out
}

/// The leaf of a path, created if it does not exist.
fn leaf(out: &mut Compiled, path: &[String]) -> usize {
    let mut at = 0;
    for name in path {
        at = out.nodes[at].children.get(name.as_bytes()).unwrap_or_else(|| {
            let node = out.nodes.len();
            out.nodes.push(Node::default());
            out.nodes[at].children.insert(name, node);
            node
        });
    }
    let next = out.leaves.len();
    let leaf = *out.nodes[at].leaf.get_or_insert(next);
    if leaf == next {
        out.leaves.push(Leaf::default());
    }
    leaf
}

fn fill(leaf: &mut Leaf, tests: HashMap<Test, Vec<usize>>) {
    let ready = |shapes: &[Shape]| shapes.iter().map(Matcher::new).collect();
    // The order of a HashMap differs from run to run; behavior does not depend on it, but a stable
    // order keeps timings comparable.
    let mut tests: Vec<(Test, Vec<usize>)> = tests.into_iter().collect();
    tests.sort_by(|a, b| a.1.cmp(&b.1));
    for (test, slots) in tests {
        let slots: Slots = slots.into();
        match test {
            Test::Text(text) => {
                leaf.text_lengths |= 1 << text.len().min(63);
                leaf.texts.insert(text.into(), slots);
            }
            Test::Null => leaf.null = slots,
            Test::Bool(true) => leaf.yes = slots,
            Test::Bool(false) => leaf.no = slots,
            Test::Number(digits) => leaf.numbers.push((digits, slots)),
            Test::Exists(true) => leaf.any = slots,
            Test::Exists(false) => leaf.presence = true,
            Test::Matches(shape) => leaf.shapes.push((Matcher::new(&shape), slots)),
            Test::Numeric(range) => leaf.ranges.push((range, slots)),
            Test::Cidr(first, last) => leaf.addresses.push((first, last, slots)),
            Test::NotText(texts) => leaf.not_texts.push((texts, slots)),
            Test::NotNumber(numbers) => leaf.not_numbers.push((numbers, slots)),
            Test::NotMatches(shapes) => leaf.not_shapes.push((ready(&shapes), slots)),
        }
    }
}

/// FNV-1a over whole words. The map's keys come from patterns, never from events, so that events
/// cannot crowd a bucket.
#[derive(Debug, Clone, Default)]
pub(super) struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let (words, rest) = bytes.as_chunks::<8>();
        let mut tail = [0; 8];
        tail[..rest.len()].copy_from_slice(rest);
        for word in words.iter().chain(std::iter::once(&tail)) {
            self.0 = (self.0 ^ u64::from_le_bytes(*word)).wrapping_mul(PRIME).rotate_left(23);
        }
        self.0 = self.0.wrapping_mul(PRIME) ^ bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::parse::parse;

    #[test]
    fn equal_fields_share_a_slot_and_others_do_not() {
        let parsed = |text| Arc::new(parse(text).unwrap());
        let compiled = compile(&[
            parsed(r#"{"a":["x"],"b":{"c":[1]}}"#),
            parsed(r#"{"a":["x"]}"#),
            parsed(r#"{"a":["y"]}"#),
        ]);
        assert_eq!(compiled.slots.len(), 3);
        assert_eq!(compiled.leaves.len(), 2);
        assert_eq!(compiled.ways[0].slots[0], compiled.ways[1].slots[0]);
    }

    #[test]
    fn children_are_found_by_name_only() {
        let mut children = Children::default();
        for (node, name) in ["", "a", "type", "eventName", "eventTime"].iter().enumerate() {
            children.insert(name, node);
        }
        assert_eq!(children.get(b"eventTime"), Some(4));
        assert_eq!(children.get(b""), Some(0));
        assert_eq!(children.get(b"eventTyme"), None);
    }
}
