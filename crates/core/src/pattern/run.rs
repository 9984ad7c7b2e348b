//! Matches one event against a compiled set: the walk over the event's text.

use super::consistency::{Contexts, ROOT, Search};
use super::error::{EventError, EventErrorKind as Kind};
use super::limits::{CONSISTENCY_STEPS_MAX, EVENT_DEPTH_MAX};
use super::scan::Index;
use super::set::Compiled;
use super::text;
use super::value::{address, micros};

/// What a [`PatternSet`](super::PatternSet) says of one event: indexes of patterns, ascending. A pattern in neither list
/// does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Matches<'m> {
    /// Patterns that match.
    pub matched: &'m [usize],
    /// Patterns that may match or not: the event has so many list elements that
    /// [`CONSISTENCY_STEPS_MAX`] comparisons did not decide them. Empty for nearly every event; a
    /// caller that ignores this list takes "not known" for "no match".
    pub undecided: &'m [usize],
}

/// The state of matching one event. Kept between events: entries carry the number of their event,
/// so that nothing has to be cleared.
#[derive(Debug, Clone, Default)]
pub(super) struct Scratch {
    event: u64,
    index: Index,
    text: String,
    slots: Vec<SlotState>,
    ways: Vec<WayState>,
    /// Per leaf: the last event that had a value there, outside lists and inside.
    present: Vec<SlotState>,
    /// Ways whose every needed slot was hit.
    candidates: Vec<usize>,
    pub(super) contexts: Contexts,
    /// Slots hit inside list elements, in the order of the text.
    pub(super) hits: Vec<(usize, usize)>,
    /// Values inside list elements, of leaves that some pattern requires to be absent.
    pub(super) presences: Vec<(usize, usize)>,
    search: Search,
    matched: Vec<usize>,
    undecided: Vec<usize>,
}

/// The number of the last event with a value here, outside and inside list elements.
#[derive(Debug, Clone, Copy, Default)]
struct SlotState {
    outside: u64,
    inside: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct WayState {
    event: u64,
    hit: usize,
}

impl Scratch {
    pub(super) fn new(set: &Compiled) -> Self {
        Self {
            slots: vec![SlotState::default(); set.slots.len()],
            ways: vec![WayState::default(); set.ways.len()],
            present: vec![SlotState::default(); set.leaves.len()],
            ..Self::default()
        }
    }

    pub(super) fn begin(&mut self) {
        self.event += 1;
        self.candidates.clear();
        self.contexts.clear();
        self.hits.clear();
        self.presences.clear();
        self.matched.clear();
        self.undecided.clear();
    }

    /// Reads the text of one object whose fields are those of `node`, or of none.
    pub(super) fn document(
        &mut self,
        set: &Compiled,
        node: Option<usize>,
        json: &str,
    ) -> Result<(), EventError> {
        // Taken out so that the walk can read it while it writes the rest.
        let mut index = std::mem::take(&mut self.index);
        index.build(json.as_bytes());
        let mut scratch = std::mem::take(&mut self.text);
        let mut walk =
            Walk { set, json, index: &index, buffer: &mut scratch, state: self, fault: None };
        let done = walk.document(node);
        let fault = walk.fault;
        self.index = index;
        self.text = scratch;
        match done {
            Some(()) => Ok(()),
            None => Err(fault.unwrap_or(EventError::new(Kind::CutShort, json.len()))),
        }
    }

    /// A top-level string that is given as plain text, not as JSON.
    pub(super) fn given(&mut self, set: &Compiled, name: &str, value: &str) {
        let node = set.nodes.first().and_then(|root| root.children.get(name.as_bytes()));
        if let Some(leaf) = node.and_then(|node| set.nodes[node].leaf) {
            self.string(set, leaf, value, ROOT);
        }
    }

    /// Decides every pattern on what was read since [`begin`](Self::begin).
    ///
    /// When the comparisons of an event run out, only the patterns that still need some are
    /// undecided: those that need none are decided whatever came before.
    pub(super) fn decide(&mut self, set: &Compiled) -> Matches<'_> {
        let candidates = std::mem::take(&mut self.candidates);
        let mut budget = CONSISTENCY_STEPS_MAX;
        for &way in set.unneeding.iter().chain(&candidates) {
            let pattern = set.ways[way].pattern;
            if self.matched.last() == Some(&pattern) {
                continue;
            }
            match self.way(set, way, &mut budget) {
                Some(true) => self.matched.push(pattern),
                Some(false) => {}
                None => self.undecided.push(pattern),
            }
        }
        self.candidates = candidates;
        self.matched.sort_unstable();
        self.matched.dedup();
        if !self.undecided.is_empty() {
            // One way that matches decides the pattern.
            let matched = &self.matched;
            self.undecided.retain(|pattern| matched.binary_search(pattern).is_err());
            self.undecided.sort_unstable();
            self.undecided.dedup();
        }
        Matches { matched: &self.matched, undecided: &self.undecided }
    }

    /// Whether all fields of a way match together; `None` when the budget runs out before that is
    /// known.
    fn way(&mut self, set: &Compiled, way: usize, budget: &mut usize) -> Option<bool> {
        let slots = &set.ways[way].slots;
        let (mut inside, mut unsure) = (0, false);
        for &slot in slots {
            let state = self.slots[slot];
            if state.outside == self.event {
                continue;
            }
            let info = &set.slots[slot];
            if state.inside == self.event {
                inside += 1;
                unsure |= info.or_absent;
            } else if info.or_absent {
                let present = self.present[info.leaf];
                if present.outside == self.event {
                    return Some(false);
                }
                unsure |= present.inside == self.event;
            } else {
                return Some(false);
            }
        }
        // Values outside lists agree with everything, and one value inside agrees with itself.
        if inside <= 1 && !unsure {
            return Some(true);
        }
        let mut search = std::mem::take(&mut self.search);
        search.clear();
        for &slot in slots {
            let info = &set.slots[slot];
            let outside = self.slots[slot].outside == self.event;
            // Not searched if another choice cannot change the result.
            if outside && !unsure {
                continue;
            }
            let hits = self.hits.iter().filter(|hit| hit.0 == slot).map(|hit| hit.1);
            search.field(outside, hits);
            if info.or_absent {
                let present = self.present[info.leaf].outside == self.event;
                let values =
                    self.presences.iter().filter(|seen| seen.0 == info.leaf).map(|seen| seen.1);
                search.or_absent(present, values);
            }
        }
        let found = search.run(&self.contexts, budget);
        self.search = search;
        found
    }

    fn hit(&mut self, set: &Compiled, slots: &[usize], context: usize) {
        for &slot in slots {
            let state = &mut self.slots[slot];
            let first = state.outside != self.event && state.inside != self.event;
            if context == ROOT {
                state.outside = self.event;
            } else {
                state.inside = self.event;
                if self.hits.last() != Some(&(slot, context)) {
                    self.hits.push((slot, context));
                }
            }
            if first {
                for &way in &set.slots[slot].needed_by {
                    let count = &mut self.ways[way];
                    if count.event != self.event {
                        *count = WayState { event: self.event, hit: 0 };
                    }
                    count.hit += 1;
                    if count.hit == set.ways[way].needs {
                        self.candidates.push(way);
                    }
                }
            }
        }
    }

    /// The tests that apply to values of any kind.
    fn value(&mut self, set: &Compiled, leaf: usize, context: usize) {
        let tests = &set.leaves[leaf];
        self.hit(set, &tests.any, context);
        if tests.presence {
            let present = &mut self.present[leaf];
            if context == ROOT {
                present.outside = self.event;
            } else {
                present.inside = self.event;
                if self.presences.last() != Some(&(leaf, context)) {
                    self.presences.push((leaf, context));
                }
            }
        }
    }

    fn string(&mut self, set: &Compiled, leaf: usize, text: &str, context: usize) {
        self.value(set, leaf, context);
        let tests = &set.leaves[leaf];
        if let Some(slots) = tests.text_slots(text) {
            self.hit(set, slots, context);
        }
        for (shape, slots) in &tests.shapes {
            if shape.matches(text) {
                self.hit(set, slots, context);
            }
        }
        if !tests.addresses.is_empty()
            && let Some(ip) = address(text)
        {
            for (first, last, slots) in &tests.addresses {
                // IPv4 sorts before IPv6, so the two never lie in one range.
                if *first <= ip && ip <= *last {
                    self.hit(set, slots, context);
                }
            }
        }
        for (texts, slots) in &tests.not_texts {
            if !texts.iter().any(|other| other == text) {
                self.hit(set, slots, context);
            }
        }
        for (shapes, slots) in &tests.not_shapes {
            if !shapes.iter().any(|shape| shape.matches(text)) {
                self.hit(set, slots, context);
            }
        }
        for (_, slots) in &tests.not_numbers {
            self.hit(set, slots, context);
        }
    }

    /// A number, true, false or null, given as written.
    fn scalar(&mut self, set: &Compiled, leaf: usize, token: &str, context: usize) -> bool {
        let tests = &set.leaves[leaf];
        let mut number = None;
        match token {
            "null" => self.hit(set, &tests.null, context),
            "true" => self.hit(set, &tests.yes, context),
            "false" => self.hit(set, &tests.no, context),
            _ if text::is_number(token.as_bytes()) => {
                for (digits, slots) in &tests.numbers {
                    if digits == token {
                        self.hit(set, slots, context);
                    }
                }
                if !(tests.ranges.is_empty() && tests.not_numbers.is_empty()) {
                    number = micros(token);
                }
            }
            _ => return false,
        }
        self.value(set, leaf, context);
        for (range, slots) in &tests.ranges {
            if number.is_some_and(|number| range.holds(number)) {
                self.hit(set, slots, context);
            }
        }
        for (numbers, slots) in &tests.not_numbers {
            if number.is_none_or(|number| !numbers.contains(&number)) {
                self.hit(set, slots, context);
            }
        }
        for (_, slots) in &tests.not_texts {
            self.hit(set, slots, context);
        }
        for (_, slots) in &tests.not_shapes {
            self.hit(set, slots, context);
        }
        true
    }
}

/// The walk over one text.
struct Walk<'w> {
    set: &'w Compiled,
    json: &'w str,
    index: &'w Index,
    /// For strings with escapes.
    buffer: &'w mut String,
    state: &'w mut Scratch,
    /// The error that stopped the walk, unless that was the end of the text. Kept here because a bare
    /// `Option` is returned in registers, and a `Result` with the error is not.
    fault: Option<EventError>,
}

impl Walk<'_> {
    fn document(&mut self, node: Option<usize>) -> Option<()> {
        let start = self.space(0);
        if self.byte(start) != Some(b'{') {
            return self.stop(Kind::NotAnObject, start);
        }
        let end = match node {
            Some(node) => self.value(start, node, ROOT, 0)?,
            None => self.skip(start)?,
        };
        let end = self.space(end);
        if end == self.json.len() { Some(()) } else { self.stop(Kind::Trailing, end) }
    }

    #[inline]
    fn byte(&self, at: usize) -> Option<u8> {
        self.json.as_bytes().get(at).copied()
    }

    #[inline]
    fn space(&self, mut at: usize) -> usize {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte(at) {
            at += 1;
        }
        at
    }

    #[cold]
    fn stop<T>(&mut self, kind: Kind, at: usize) -> Option<T> {
        self.fault = Some(EventError::new(kind, at));
        None
    }

    #[cold]
    fn expected<T>(&mut self, what: &'static str, at: usize) -> Option<T> {
        if at < self.json.len() { self.stop(Kind::Expected(what), at) } else { None }
    }

    /// The byte after the string's closing quote.
    #[inline]
    fn string_end(&self, open: usize) -> Option<usize> {
        self.index.next_quote(open + 1).map(|quote| quote + 1)
    }

    /// Skips a value that no pattern mentions, checking only its outline.
    #[inline]
    fn skip(&mut self, at: usize) -> Option<usize> {
        match self.byte(at) {
            Some(b'"') => self.string_end(at),
            Some(b'{' | b'[') => self.skip_container(at),
            Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                Some(at + text::scalar_len(&self.json.as_bytes()[at..]))
            }
            _ => self.expected("a value", at),
        }
    }

    #[inline(never)]
    fn skip_container(&self, at: usize) -> Option<usize> {
        self.index.skip_container(self.json.as_bytes(), at)
    }

    /// Reads the value of a field that patterns mention and returns the byte after it.
    fn value(&mut self, at: usize, node: usize, context: usize, depth: usize) -> Option<usize> {
        let set = self.set;
        match self.byte(at) {
            Some(b'{') if !set.nodes[node].children.is_empty() => {
                self.object(at, node, context, depth)
            }
            Some(b'[') => self.list(at, node, context, depth),
            Some(b'"') => {
                let end = self.string_end(at)?;
                if let Some(leaf) = set.nodes[node].leaf {
                    let (from, to) = (at + 1, end - 1);
                    let raw = self.json.get(from..to).unwrap_or_default();
                    if self.index.has_slash(from, to) {
                        self.unescape(raw, from)?;
                        self.state.string(set, leaf, self.buffer, context);
                    } else {
                        self.state.string(set, leaf, raw, context);
                    }
                }
                Some(end)
            }
            Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                let end = self.skip(at)?;
                let token = self.json.get(at..end).unwrap_or_default();
                match set.nodes[node].leaf {
                    Some(leaf) if !self.state.scalar(set, leaf, token, context) => {
                        self.expected("a value", at)
                    }
                    _ => Some(end),
                }
            }
            _ => self.skip(at),
        }
    }

    fn unescape(&mut self, raw: &str, at: usize) -> Option<()> {
        self.buffer.clear();
        match text::unescape(raw, self.buffer) {
            // Half a surrogate pair is not a character; the replacement equals no text of a pattern.
            Ok(_) => Some(()),
            Err(offset) => self.stop(Kind::BadEscape, at + offset),
        }
    }

    fn deeper(&mut self, depth: usize, at: usize) -> Option<usize> {
        if depth < EVENT_DEPTH_MAX {
            Some(depth + 1)
        } else {
            self.stop(Kind::TooDeep(EVENT_DEPTH_MAX), at)
        }
    }

    fn object(&mut self, open: usize, node: usize, context: usize, depth: usize) -> Option<usize> {
        let depth = self.deeper(depth, open)?;
        let children = &self.set.nodes[node].children;
        let mut at = self.space(open + 1);
        if self.byte(at) == Some(b'}') {
            return Some(at + 1);
        }
        loop {
            if self.byte(at) != Some(b'"') {
                return self.expected("a key", at);
            }
            let end = self.string_end(at)?;
            let child = if self.index.has_slash(at + 1, end - 1) {
                let raw = self.json.get(at + 1..end - 1).unwrap_or_default();
                self.unescape(raw, at + 1)?;
                children.get(self.buffer.as_bytes())
            } else {
                children.get(&self.json.as_bytes()[at + 1..end - 1])
            };
            at = self.space(end);
            if self.byte(at) != Some(b':') {
                return self.expected("`:`", at);
            }
            at = self.space(at + 1);
            // Every occurrence of a key counts, so reading continues after a field was found.
            at = match child {
                Some(child) => self.value(at, child, context, depth)?,
                None => self.skip(at)?,
            };
            at = self.space(at);
            match self.byte(at) {
                Some(b',') => at = self.space(at + 1),
                Some(b'}') => return Some(at + 1),
                _ => return self.expected("`,` or `}`", at),
            }
        }
    }

    fn list(&mut self, open: usize, node: usize, context: usize, depth: usize) -> Option<usize> {
        let depth = self.deeper(depth, open)?;
        let list = self.state.contexts.list();
        let mut at = self.space(open + 1);
        if self.byte(at) == Some(b']') {
            return Some(at + 1);
        }
        let fields = !self.set.nodes[node].children.is_empty();
        loop {
            at = match self.byte(at) {
                // Only what lies inside an element's own braces or brackets belongs to that
                // element; plain values belong to the context around the list.
                Some(b'[') => self.element(at, node, context, list, depth)?,
                Some(b'{') if fields => self.element(at, node, context, list, depth)?,
                _ => self.value(at, node, context, depth)?,
            };
            at = self.space(at);
            match self.byte(at) {
                Some(b',') => at = self.space(at + 1),
                Some(b']') => return Some(at + 1),
                _ => return self.expected("`,` or `]`", at),
            }
        }
    }

    fn element(
        &mut self,
        at: usize,
        node: usize,
        context: usize,
        list: usize,
        depth: usize,
    ) -> Option<usize> {
        let element = self.state.contexts.enter(context, list);
        let end = self.value(at, node, element, depth)?;
        self.state.contexts.leave(element);
        Some(end)
    }
}
