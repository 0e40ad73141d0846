//! Which way a table's next batch goes: direct, which is quicker while every row is new, or staged, which takes rows
//! that are there already and finds the ones that can't be written.
//!
//! The rule: a dimension table is always staged, with the rows that are there asked for first: its rows are few, and
//! several lanes that try to insert the same ones would lock them for nothing. Any other table starts direct. A direct
//! batch that deviates makes the table staged until `needed` staged batches in a row were clean, that is every row
//! new; a batch with refused rows counts once it comes again without them. `needed` starts at 4 and doubles with every
//! deviation up to 64, so that a table with steady conflicts pays the failed attempt rarely; every direct batch that
//! went in halves it again.
//!
//! Of the staged way it also keeps what the last batch lets expect of the next.

use super::staged::Expected;
use crate::core::target::OnConflict;

const FIRST: u32 = 4;
const MOST: u32 = 64;

/// The state of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    dimension: bool,
    staged: bool,
    clean: u32,
    needed: u32,
    expected: Expected,
}

impl Way {
    pub fn starting(dimension: bool, on_conflict: OnConflict) -> Self {
        let unchanged = dimension || on_conflict == OnConflict::Ignore;
        Self { dimension, staged: dimension, clean: 0, needed: FIRST, expected: Expected { unchanged, no_new: false } }
    }

    pub fn is_direct(self) -> bool {
        !self.staged
    }

    /// A direct batch went in or deviated.
    pub fn direct(&mut self, went_in: bool) {
        if went_in {
            self.needed = (self.needed / 2).max(FIRST);
        } else {
            let needed = (self.needed * 2).min(MOST);
            *self = Self { staged: true, clean: 0, needed, ..*self };
        }
    }

    /// Of the next staged batch.
    pub fn expected(self) -> Expected {
        self.expected
    }

    /// A staged batch had only new rows, or not.
    pub fn staged(&mut self, clean: bool, expected: Expected) {
        if self.dimension {
            return;
        }
        self.expected = expected;
        self.clean = if clean { self.clean + 1 } else { 0 };
        if self.clean >= self.needed {
            self.staged = false;
            self.clean = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_with_steady_conflicts_is_tried_directly_ever_more_rarely() {
        let mut way = Way::starting(false, OnConflict::Ignore);
        let mut attempts = 0;
        for _ in 0..1000 {
            if way.is_direct() {
                attempts += 1;
                way.direct(false);
            } else {
                way.staged(true, way.expected());
            }
        }
        assert!((15..25).contains(&attempts), "{attempts}");
    }

    #[test]
    fn a_staged_batch_with_a_conflict_starts_the_count_again() {
        let mut way = Way::starting(false, OnConflict::Ignore);
        way.direct(false);
        let clean = |way: &mut Way, times: u32| (0..times).for_each(|_| way.staged(true, way.expected()));
        clean(&mut way, 7);
        way.staged(false, way.expected());
        clean(&mut way, 7);
        assert!(!way.is_direct());
        clean(&mut way, 1);
        assert!(way.is_direct());
    }

    #[test]
    fn a_dimension_table_is_never_tried_directly() {
        let mut way = Way::starting(true, OnConflict::Update);
        (0..1000).for_each(|_| way.staged(true, Expected { unchanged: false, no_new: true }));
        assert!(!way.is_direct() && way.expected().unchanged);
    }
}
