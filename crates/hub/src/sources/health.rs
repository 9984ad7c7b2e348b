//! How the sources stand, for readiness.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A board on which each source says whether it works. Cheap to clone; all clones are one board.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, Option<String>>>>);

impl Health {
    /// A source works (again). Says whether that is news.
    pub fn works(&self, source: &str) -> bool {
        self.set(source, None)
    }

    /// A source does not work; `reason` is lower case, without full stop and without secrets. Says
    /// whether that is news.
    pub fn fails(&self, source: &str, reason: &str) -> bool {
        self.set(source, Some(reason.to_owned()))
    }

    /// All sources in the order of their names, with why each does not work, if it does not.
    #[must_use]
    pub fn sources(&self) -> Vec<(String, Option<String>)> {
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.iter().map(|(source, state)| (source.clone(), state.clone())).collect()
    }

    fn set(&self, source: &str, state: Option<String>) -> bool {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = board.insert(source.to_owned(), state.clone());
        before.is_none_or(|before| before.is_some() != state.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_news_once_and_all_clones_see_it() {
        let health = Health::default();
        let clone = health.clone();
        assert!(health.works("sqs:trail"));
        assert!(!health.works("sqs:trail"));
        assert!(health.fails("sqs:trail", "access denied"));
        assert!(!health.fails("sqs:trail", "still access denied"));
        let expected = vec![("sqs:trail".to_owned(), Some("still access denied".to_owned()))];
        assert_eq!(clone.sources(), expected);
    }
}
