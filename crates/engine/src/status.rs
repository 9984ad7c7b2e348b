//! What works and what does not, for readiness.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The state of each source, and which tasks of the service have ended. All clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Status(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// By source: why it does not work, or `None` if it works.
    sources: BTreeMap<String, Option<String>>,
    ended_tasks: BTreeSet<&'static str>,
}

impl Status {
    /// Records that a source works. Returns true if it did not before, so that the change is logged once.
    pub fn source_works(&self, source: &str) -> bool {
        self.set(source, None)
    }

    /// Records that a source does not work; `reason` is lower case, without full stop and without
    /// secrets. Returns true if the source worked before.
    pub fn source_fails(&self, source: &str, reason: &str) -> bool {
        self.set(source, Some(reason.to_owned()))
    }

    /// All sources, ordered by name, each with the reason why it does not work, if it does not.
    #[must_use]
    pub fn sources(&self) -> Vec<(String, Option<String>)> {
        let state = self.lock();
        state.sources.iter().map(|(source, reason)| (source.clone(), reason.clone())).collect()
    }

    /// Records that a task ended.
    pub fn task_ended(&self, task: &'static str) {
        self.lock().ended_tasks.insert(task);
    }

    /// Whether a task has ended.
    #[must_use]
    pub fn has_task_ended(&self, task: &str) -> bool {
        self.lock().ended_tasks.contains(task)
    }

    fn set(&self, source: &str, reason: Option<String>) -> bool {
        let fails = reason.is_some();
        let before = self.lock().sources.insert(source.to_owned(), reason);
        before.is_none_or(|before| before.is_some() != fails)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_reported_once_and_all_clones_see_it() {
        let status = Status::default();
        let clone = status.clone();
        assert!(status.source_works("sqs:trail"));
        assert!(!status.source_works("sqs:trail"));
        assert!(status.source_fails("sqs:trail", "access denied"));
        assert!(!status.source_fails("sqs:trail", "still access denied"));
        let expected = vec![("sqs:trail".to_owned(), Some("still access denied".to_owned()))];
        assert_eq!(clone.sources(), expected);
    }

    #[test]
    fn an_ended_task_is_remembered() {
        let status = Status::default();
        status.clone().task_ended("engine");
        assert!(status.has_task_ended("engine"));
        assert!(!status.has_task_ended("notify"));
    }
}
