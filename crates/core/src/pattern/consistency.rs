//! Array consistency: the fields of one pattern must not come from different elements of one list.
//!
//! Each element that is an object or a list is a *context*; contexts are numbered in the order of
//! the text, so that the contexts inside one lie right after it.

/// The context of everything outside lists.
pub(super) const ROOT: usize = 0;

/// The list elements of one event, as far as patterns mention them.
#[derive(Debug, Clone, Default)]
pub(super) struct Contexts {
    /// Context number n lies at n - 1: the root needs no entry.
    elements: Vec<Element>,
    lists: usize,
}

#[derive(Debug, Clone, Copy)]
struct Element {
    parent: usize,
    list: usize,
    /// The last context inside this one.
    last: usize,
}

impl Contexts {
    pub(super) fn clear(&mut self) {
        self.elements.clear();
        self.lists = 0;
    }

    /// A number for a list.
    pub(super) fn list(&mut self) -> usize {
        self.lists += 1;
        self.lists
    }

    pub(super) fn enter(&mut self, parent: usize, list: usize) -> usize {
        self.elements.push(Element { parent, list, last: 0 });
        self.elements.len()
    }

    pub(super) fn leave(&mut self, context: usize) {
        let last = self.elements.len();
        self.elements[context - 1].last = last;
    }

    /// Whether values of two contexts may go together.
    fn agree(&self, a: usize, b: usize) -> bool {
        let (mut a, mut b) = (a, b);
        let (mut below_a, mut below_b) = (ROOT, ROOT);
        // A parent's number is less than its child's, so stepping up from the greater one meets at
        // the innermost context that holds both.
        while a != b {
            if a > b {
                below_a = a;
                a = self.elements[a - 1].parent;
            } else {
                below_b = b;
                b = self.elements[b - 1].parent;
            }
        }
        below_a == ROOT
            || below_b == ROOT
            || self.elements[below_a - 1].list != self.elements[below_b - 1].list
    }

    /// The outermost element that holds the context.
    fn outermost(&self, mut context: usize) -> usize {
        while let Some(element) = self.elements.get(context.wrapping_sub(1)) {
            if element.parent == ROOT {
                return context;
            }
            context = element.parent;
        }
        context
    }
}

/// One field's possible contexts, and those of its values if it may be absent.
#[derive(Debug, Clone, Default)]
struct Choice {
    /// Ranges into [`Search::pool`].
    hits: (usize, usize),
    absent: Option<(usize, usize)>,
}

/// Finds whether each field can be given a context such that all of them agree.
///
/// Fields are tried in the order of their dotted names, and `exists: false` is tested against the
/// fields chosen before it, as Event Ruler does. Fields that share no list are searched separately;
/// otherwise every combination of unrelated elements would be tried.
#[derive(Debug, Clone, Default)]
pub(super) struct Search {
    pool: Vec<usize>,
    choices: Vec<Choice>,
    /// Group of each field: the fields that share an outermost list are in one.
    group: Vec<usize>,
    /// Outermost lists, ascending, each with the first field seen in it.
    lists: Vec<(usize, usize)>,
    members: Vec<usize>,
    chosen: Vec<usize>,
}

impl Search {
    pub(super) fn clear(&mut self) {
        self.pool.clear();
        self.choices.clear();
    }

    /// Adds a field by the contexts in which a value passed.
    pub(super) fn field(&mut self, outside: bool, inside: impl Iterator<Item = usize>) {
        let hits = self.extend(outside, inside);
        self.choices.push(Choice { hits, absent: None });
    }

    /// Allows the last field to be absent; takes the contexts of all its values.
    pub(super) fn or_absent(&mut self, outside: bool, inside: impl Iterator<Item = usize>) {
        let present = self.extend(outside, inside);
        if let Some(last) = self.choices.last_mut() {
            last.absent = Some(present);
        }
    }

    fn extend(&mut self, outside: bool, inside: impl Iterator<Item = usize>) -> (usize, usize) {
        let from = self.pool.len();
        if outside {
            self.pool.push(ROOT);
        }
        self.pool.extend(inside);
        // A value right in an element may follow one in a list further inside.
        if !self.pool[from..].is_sorted() {
            self.pool[from..].sort_unstable();
        }
        (from, self.pool.len())
    }

    /// `None` when `budget` runs out.
    pub(super) fn run(&mut self, contexts: &Contexts, budget: &mut usize) -> Option<bool> {
        self.make_groups(contexts);
        let mut members = std::mem::take(&mut self.members);
        let mut chosen = std::mem::take(&mut self.chosen);
        let mut outcome = Some(true);
        for group in 0..self.choices.len() {
            if self.group[group] != group {
                continue;
            }
            members.clear();
            members.extend((group..self.choices.len()).filter(|&f| self.group[f] == group));
            chosen.clear();
            outcome = self.choose(contexts, &members, &mut chosen, budget);
            if outcome != Some(true) {
                break;
            }
        }
        self.members = members;
        self.chosen = chosen;
        outcome
    }

    fn make_groups(&mut self, contexts: &Contexts) {
        self.lists.clear();
        self.group.clear();
        self.group.extend(0..self.choices.len());
        for field in 0..self.choices.len() {
            let Choice { hits, absent } = self.choices[field].clone();
            for range in std::iter::once(hits).chain(absent) {
                let mut last = ROOT;
                for at in range.0..range.1 {
                    let top = contexts.outermost(self.pool[at]);
                    if top == ROOT || top == last {
                        continue;
                    }
                    last = top;
                    let list = contexts.elements[top - 1].list;
                    match self.lists.binary_search_by_key(&list, |known| known.0) {
                        Ok(known) => self.join(field, self.lists[known].1),
                        Err(at) => self.lists.insert(at, (list, field)),
                    }
                }
            }
        }
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.group[a], self.group[b]);
        if a == b {
            return;
        }
        let (low, high) = (a.min(b), a.max(b));
        for group in &mut self.group {
            if *group == high {
                *group = low;
            }
        }
    }

    /// Tries the contexts of the first field, and with each of them the fields after it.
    fn choose(
        &self,
        contexts: &Contexts,
        fields: &[usize],
        chosen: &mut Vec<usize>,
        budget: &mut usize,
    ) -> Option<bool> {
        let Some((&field, rest)) = fields.split_first() else { return Some(true) };
        let choice = &self.choices[field];
        for at in self.near(contexts, choice.hits, chosen) {
            *budget = budget.checked_sub(1)?;
            let context = self.pool[at];
            if chosen.iter().all(|&other| contexts.agree(other, context)) {
                chosen.push(context);
                let found = self.choose(contexts, rest, chosen, budget)?;
                chosen.pop();
                if found {
                    return Some(true);
                }
            }
        }
        let Some(present) = choice.absent else { return Some(false) };
        for at in self.near(contexts, present, chosen) {
            *budget = budget.checked_sub(1)?;
            let context = self.pool[at];
            if chosen.iter().all(|&other| contexts.agree(other, context)) {
                return Some(false);
            }
        }
        self.choose(contexts, rest, chosen, budget)
    }

    /// Narrows a range to the contexts inside the element chosen first, if that excludes no match:
    /// that is, if the whole range lies in that element's list. Otherwise two fields of a long list
    /// would be compared each with each.
    fn near(
        &self,
        contexts: &Contexts,
        range: (usize, usize),
        chosen: &[usize],
    ) -> std::ops::Range<usize> {
        let whole = range.0..range.1;
        let (Some(&first), Some(&last)) =
            (self.pool.get(range.0), self.pool.get(range.1.wrapping_sub(1)))
        else {
            return whole;
        };
        let Some(&inside) = chosen.iter().find(|&&context| context != ROOT) else { return whole };
        let top = contexts.outermost(inside);
        let list = contexts.elements[top - 1].list;
        // The contexts inside one list are consecutive, so if both ends lie in it, all do.
        let in_list = |context: usize| {
            context != ROOT && contexts.elements[contexts.outermost(context) - 1].list == list
        };
        if range.0 == range.1 || !in_list(first) || !in_list(last) {
            return whole;
        }
        let pool = &self.pool[whole];
        let from = pool.partition_point(|&context| context < top);
        let to = pool.partition_point(|&context| context <= contexts.elements[top - 1].last);
        range.0 + from..range.0 + to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two lists under the root: one of two elements, the first holding a list of two; and one of
    /// one element.
    fn contexts() -> Contexts {
        let mut contexts = Contexts::default();
        let outer = contexts.list();
        let a = contexts.enter(ROOT, outer);
        let inner = contexts.list();
        for _ in 0..2 {
            let element = contexts.enter(a, inner);
            contexts.leave(element);
        }
        contexts.leave(a);
        let b = contexts.enter(ROOT, outer);
        contexts.leave(b);
        let other = contexts.list();
        let c = contexts.enter(ROOT, other);
        contexts.leave(c);
        contexts
    }

    #[test]
    fn elements_of_one_list_disagree_and_of_two_lists_agree() {
        let contexts = contexts();
        for (a, b, agree) in [
            (ROOT, 1, true),
            (1, 2, true),
            (2, 3, false),
            (1, 4, false),
            (3, 4, false),
            (4, 5, true),
            (3, 5, true),
            (2, 2, true),
        ] {
            assert_eq!(contexts.agree(a, b), agree, "{a} {b}");
            assert_eq!(contexts.agree(b, a), agree, "{b} {a}");
        }
    }

    #[test]
    fn a_search_revises_its_first_choice() {
        let contexts = contexts();
        let mut search = Search::default();
        search.field(false, [2, 3, 4].into_iter());
        search.field(false, [3].into_iter());
        search.field(false, [5].into_iter());
        assert_eq!(search.run(&contexts, &mut 100), Some(true));
        search.clear();
        search.field(false, [2, 4].into_iter());
        search.field(false, [3].into_iter());
        assert_eq!(search.run(&contexts, &mut 100), Some(false));
    }

    #[test]
    fn contexts_may_come_in_any_order() {
        let contexts = contexts();
        let mut search = Search::default();
        search.field(false, [4].into_iter());
        search.field(false, [4, 3, 2, 1].into_iter());
        assert_eq!(search.run(&contexts, &mut 100), Some(true));
        search.clear();
        search.field(false, [4].into_iter());
        search.field(false, [3, 2, 1].into_iter());
        assert_eq!(search.run(&contexts, &mut 100), Some(false));
    }

    #[test]
    fn a_search_ends_when_its_budget_does() {
        let contexts = contexts();
        let mut search = Search::default();
        search.field(false, [2, 4].into_iter());
        search.field(false, [3].into_iter());
        assert_eq!(search.run(&contexts, &mut 1), None);
    }
}
