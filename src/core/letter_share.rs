//! How many of a stream's recent records were set aside: a mapping that fits no record must stop the stream, not drain
//! the topic into the dead letters. Knows batches, not time.

use std::collections::VecDeque;
use std::fmt;

/// A share is judged over at least so many records, and over the fewest latest batches that have them: a burst of
/// bad records that a stream meets in its life is smaller, a wrong mapping shows within a second.
pub const RECENT: u64 = 1_000;

/// Outcomes of the latest batches.
#[derive(Debug)]
pub struct LetterShare {
    /// Most dead letters for each record, 0 to 1.
    most: f64,
    /// Records and dead letters of a batch, oldest first; together hardly more than [`RECENT`] records.
    batches: VecDeque<(u64, u64)>,
    records: u64,
}

/// Too many dead letters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exceeded {
    pub letters: u64,
    pub records: u64,
    pub most: f64,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exceeded { letters, records, most } = self;
        write!(f, "{letters} of the last {records} records can't be written, more than max_dead_letter_share = {most}")
    }
}

impl LetterShare {
    /// `most`: the share that is still right, 0 to 1; with 1 nothing is ever too much.
    pub fn new(most: f64) -> Self {
        Self { most, batches: VecDeque::new(), records: 0 }
    }

    /// Whether a batch with these outcomes would make too many.
    pub fn exceeded_with(&self, records: u64, letters: u64) -> Option<Exceeded> {
        let (mut all, mut bad) = (records, letters);
        for (records, letters) in self.batches.iter().rev() {
            if all >= RECENT {
                break;
            }
            all += records;
            bad += letters;
        }
        let exceeded = all >= RECENT && letters > 0 && bad as f64 > self.most * all as f64;
        exceeded.then_some(Exceeded { letters: bad, records: all, most: self.most })
    }

    /// A batch with these outcomes was committed.
    pub fn committed(&mut self, records: u64, letters: u64) {
        if records == 0 {
            return;
        }
        self.batches.push_back((records, letters));
        self.records += records;
        while let Some((oldest, _)) = self.batches.front().copied()
            && self.records - oldest >= RECENT
        {
            self.records -= oldest;
            self.batches.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_records_are_never_too_many() {
        let mut share = LetterShare::new(0.05);
        assert_eq!(share.exceeded_with(RECENT - 1, RECENT - 1), None);
        share.committed(RECENT - 1, RECENT - 1);
        assert_eq!(
            share.exceeded_with(1, 1),
            Some(Exceeded { letters: RECENT, records: RECENT, most: 0.05 }),
            "with the next record there are enough"
        );
        assert_eq!(share.exceeded_with(1, 0), None, "a batch without one is never the cause");
    }

    #[test]
    fn the_share_itself_is_still_right() {
        let share = LetterShare::new(0.05);
        assert_eq!(share.exceeded_with(10_000, 500), None);
        assert!(share.exceeded_with(10_000, 501).is_some());
        assert_eq!(LetterShare::new(1.0).exceeded_with(10_000, 10_000), None);
        assert!(LetterShare::new(0.0).exceeded_with(10_000, 1).is_some());
    }

    #[test]
    fn small_batches_add_up_and_what_is_long_past_is_forgotten() {
        let mut share = LetterShare::new(0.05);
        (0..100).for_each(|_| share.committed(10, 1));
        assert!(share.exceeded_with(10, 1).is_some());
        (0..100).for_each(|_| share.committed(10, 0));
        assert_eq!(share.exceeded_with(10, 1), None);
        assert!(share.batches.len() <= 100, "{}", share.batches.len());
        (0..10_000).for_each(|_| share.committed(1, 0));
        assert_eq!(share.batches.len() as u64, RECENT);
    }

    #[test]
    fn a_large_batch_is_judged_by_itself() {
        let mut share = LetterShare::new(0.05);
        share.committed(100_000, 0);
        assert!(share.exceeded_with(1_000, 51).is_some());
    }
}
