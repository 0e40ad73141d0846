//! Buckets that were replaced in the cache just now, for open pages. May drop and never delays: what does not fit is
//! counted, and whoever looks then reads the cache again. While nobody looks it costs one relaxed load a bucket.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ports::cache::Replacement;

/// Buckets that wait to be taken, and entries of all of them: some MiB at most.
const MOST_BUCKETS: usize = 256;
const MOST_ENTRIES: usize = 4096;

/// Where they are told and taken. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Replacements(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    listened: AtomicBool,
    waiting: Mutex<Replaced>,
}

/// What was replaced since it was last asked for.
#[derive(Debug, Default)]
pub struct Replaced {
    /// In the order in which they were told, each bucket as it was last.
    pub buckets: VecDeque<Replacement>,
    entries: usize,
    /// Buckets that did not fit.
    pub left_out: u64,
}

impl Replacements {
    /// Whether what is told is kept.
    pub fn listen(&self, listens: bool) {
        self.0.listened.store(listens, Ordering::Relaxed);
        if !listens {
            self.take();
        }
    }

    pub fn is_listened_to(&self) -> bool {
        self.0.listened.load(Ordering::Relaxed)
    }

    /// A bucket was replaced.
    pub fn tell(&self, replacement: &Replacement) {
        if !self.is_listened_to() {
            return;
        }
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |other: &Replacement| {
            other.aggregate == replacement.aggregate && other.bucket.start() == replacement.bucket.start()
        };
        if let Some(at) = waiting.buckets.iter().position(same)
            && let Some(former) = waiting.buckets.remove(at)
        {
            waiting.entries -= former.entries.len();
        }
        let entries = waiting.entries + replacement.entries.len();
        if waiting.buckets.len() >= MOST_BUCKETS || entries > MOST_ENTRIES {
            waiting.left_out += 1;
            return;
        }
        waiting.entries = entries;
        waiting.buckets.push_back(replacement.clone());
    }

    pub fn take(&self) -> Replaced {
        std::mem::take(&mut self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::core::document::Bucket;
    use crate::ports::cache::Entry;

    fn replaced(hour: i64, version: i64, entries: usize) -> Replacement {
        let at = |hour: i64| DateTime::from_timestamp(hour * 3600, 0).unwrap();
        Replacement {
            aggregate: "sums".to_owned(),
            bucket: Bucket::new(at(hour), at(hour + 1)).unwrap(),
            version,
            computed_at: at(hour),
            offsets: Default::default(),
            entries: (0..entries as i64)
                .map(|n| Entry { key: vec![("shop".to_owned(), n.into())], values: Vec::new() })
                .collect(),
        }
    }

    #[test]
    fn each_bucket_is_told_as_it_was_last_and_nothing_is_kept_for_nobody() {
        let replacements = Replacements::default();
        replacements.tell(&replaced(0, 1, 1));
        assert!(replacements.take().buckets.is_empty());
        replacements.listen(true);
        for (hour, version) in [(0, 1), (1, 1), (0, 2)] {
            replacements.tell(&replaced(hour, version, 2));
        }
        let taken = replacements.take();
        assert_eq!(taken.buckets.iter().map(|r| r.version).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((taken.left_out, replacements.take().buckets.len()), (0, 0));
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let replacements = Replacements::default();
        replacements.listen(true);
        (0..MOST_BUCKETS as i64 + 3).for_each(|hour| replacements.tell(&replaced(hour, 1, 1)));
        replacements.tell(&replaced(0, 2, MOST_ENTRIES + 1));
        let taken = replacements.take();
        assert_eq!((taken.buckets.len(), taken.left_out), (MOST_BUCKETS - 1, 4));
    }
}
