//! How fresh each aggregate's documents are: told by whoever computes them, read by the page, `/status` and the metrics
//! without asking an actor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use super::Trouble;

/// What is known of one aggregate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct AggregateFreshness {
    /// All that was committed before is in the documents; `None` while that is not known.
    pub fresh_as_of: Option<DateTime<Utc>>,
    /// Buckets that wait to be computed; `None` while that is not known.
    pub pending_buckets: Option<u64>,
}

/// All aggregates by name, and why an aggregator waits. Cheap to clone; all clones are one board.
#[derive(Debug, Clone, Default)]
pub struct Freshness(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    aggregates: BTreeMap<String, AggregateFreshness>,
    troubles: BTreeMap<String, Trouble>,
}

impl Freshness {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn tell(&self, aggregate: &str, fresh: AggregateFreshness) {
        self.lock().aggregates.insert(aggregate.to_owned(), fresh);
    }

    /// Nothing is known of an aggregate that nobody told of.
    pub fn of(&self, aggregate: &str) -> AggregateFreshness {
        self.lock().aggregates.get(aggregate).copied().unwrap_or_default()
    }

    /// An aggregator waits; the first moment stays until it goes on.
    pub fn troubled(&self, aggregator: &str, cause: &str, now: DateTime<Utc>) {
        let mut known = self.lock();
        let since = known.troubles.get(aggregator).map_or(now, |t| t.since);
        let trouble = Trouble { actor: aggregator.to_owned(), cause: cause.to_owned(), since };
        known.troubles.insert(aggregator.to_owned(), trouble);
    }

    /// The aggregator goes on.
    pub fn well(&self, aggregator: &str) {
        self.lock().troubles.remove(aggregator);
    }

    pub fn trouble(&self, aggregator: &str) -> Option<Trouble> {
        self.lock().troubles.get(aggregator).cloned()
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

    #[test]
    fn a_trouble_keeps_its_first_moment_until_it_is_over() {
        let (board, at) = (Freshness::default(), |second| DateTime::from_timestamp(second, 0).unwrap());
        board.troubled("a", "cache away", at(1));
        board.troubled("a", "cache still away", at(2));
        let trouble = board.trouble("a").unwrap();
        assert_eq!((trouble.cause.as_str(), trouble.since), ("cache still away", at(1)));
        assert_eq!(board.trouble("b"), None);
        board.well("a");
        assert_eq!(board.trouble("a"), None);
    }
}
