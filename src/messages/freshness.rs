//! How fresh each aggregate's documents are: told by whoever computes them, read by the page, `/status` and the metrics
//! without asking an actor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};

/// What is known of one aggregate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct AggregateFreshness {
    /// All that was committed before is in the documents; `None` while that is not known.
    pub fresh_as_of: Option<DateTime<Utc>>,
    /// Buckets that wait to be computed; `None` while that is not known.
    pub pending_buckets: Option<u64>,
}

/// All aggregates by name. Cheap to clone; all clones are one board.
#[derive(Debug, Clone, Default)]
pub struct Freshness(Arc<Mutex<BTreeMap<String, AggregateFreshness>>>);

impl Freshness {
    pub fn tell(&self, aggregate: &str, fresh: AggregateFreshness) {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.insert(aggregate.to_owned(), fresh);
    }

    /// Nothing is known of an aggregate that nobody told of.
    pub fn of(&self, aggregate: &str) -> AggregateFreshness {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(aggregate).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_last_is_what_is_known() {
        let board = Freshness::default();
        assert_eq!(board.of("sums"), AggregateFreshness::default());
        let fresh = AggregateFreshness { fresh_as_of: Some(DateTime::UNIX_EPOCH), pending_buckets: Some(3) };
        board.clone().tell("sums", fresh);
        assert_eq!(board.of("sums"), fresh);
    }
}
