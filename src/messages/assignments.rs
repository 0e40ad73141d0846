//! Which partitions this daemon holds, and how many batches of each are on their way: shared by the consumer,
//! which takes and gives them back, and the lanes, which must not write for a partition that is gone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::OffsetMove;

/// Cheap to clone; all clones are one table. One for each incarnation of a pipeline.
#[derive(Debug, Clone, Default)]
pub struct Assignments(Arc<Mutex<HashMap<i32, Held>>>, Arc<AtomicU64>);

#[derive(Debug, Default)]
struct Held {
    /// `None` once the partition was revoked and while its last batches end.
    epoch: Option<i64>,
    in_flight: usize,
    /// The offset of the last commit that was not yet told to the broker.
    committed: Option<i64>,
}

impl Assignments {
    pub fn assign(&self, partition: i32, epoch: i64) {
        self.lock().entry(partition).or_default().epoch = Some(epoch);
        self.1.fetch_add(1, Ordering::SeqCst);
    }

    /// Rises with every assignment.
    pub fn generation(&self) -> u64 {
        self.1.load(Ordering::SeqCst)
    }

    /// From now on nothing more is written for the partition, but for what is being committed already.
    pub fn revoke(&self, partition: i32) {
        if let Some(held) = self.lock().get_mut(&partition) {
            held.epoch = None;
        }
    }

    pub fn is_current(&self, partition: i32, epoch: i64) -> bool {
        self.lock().get(&partition).is_some_and(|h| h.epoch == Some(epoch))
    }

    /// What tells the writer of these moves apart from all that write the stream at the same time, in this daemon and in
    /// others: the lowest partition that its lane holds, since a partition has one holder. A partition is in the lane
    /// of its number modulo `lanes`.
    pub fn lane_key(&self, moves: &[OffsetMove], lanes: usize) -> i32 {
        let lanes = i32::try_from(lanes).unwrap_or(1).max(1);
        let Some(lane) = moves.first().map(|m| m.partition.rem_euclid(lanes)) else { return 0 };
        let table = self.lock();
        let held = table.iter().filter(|(p, held)| held.epoch.is_some() && p.rem_euclid(lanes) == lane);
        held.map(|(partition, _)| *partition).min().unwrap_or(lane)
    }

    /// Batches of the partition that are neither committed nor dropped.
    pub fn in_flight(&self, partition: i32) -> usize {
        self.lock().get(&partition).map_or(0, |h| h.in_flight)
    }

    /// Batches of any partition that are neither committed nor dropped.
    pub fn any_in_flight(&self) -> bool {
        self.lock().values().any(|h| h.in_flight > 0)
    }

    /// Counts a batch of these partitions as on its way until the answer is dropped.
    pub fn depart(&self, partitions: impl IntoIterator<Item = i32>) -> InFlight {
        let partitions: Vec<i32> = partitions.into_iter().collect();
        let mut table = self.lock();
        for partition in &partitions {
            table.entry(*partition).or_default().in_flight += 1;
        }
        drop(table);
        InFlight { assignments: self.clone(), partitions }
    }

    /// The database holds everything below `next_offset`.
    pub fn committed(&self, partition: i32, next_offset: i64) {
        self.lock().entry(partition).or_default().committed = Some(next_offset);
    }

    /// Commits since the last call, for the broker's eyes.
    pub fn take_committed(&self) -> Vec<(i32, i64)> {
        let mut table = self.lock();
        table.iter_mut().filter_map(|(p, held)| held.committed.take().map(|offset| (*p, offset))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Held>> {
        // Every change is one assignment, so that a panic elsewhere leaves the table whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch on its way; dropping it tells that it has arrived or is gone.
#[derive(Debug)]
pub struct InFlight {
    assignments: Assignments,
    partitions: Vec<i32>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut table = self.assignments.lock();
        for partition in &self.partitions {
            if let Some(held) = table.get_mut(partition) {
                held.in_flight = held.in_flight.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revoked_partition_is_not_current_but_its_batches_still_count() {
        let assignments = Assignments::default();
        assignments.assign(3, 7);
        let batch = assignments.depart([3]);
        assignments.revoke(3);
        assert!(!assignments.is_current(3, 7));
        assert_eq!(assignments.in_flight(3), 1);
        drop(batch);
        assert_eq!(assignments.in_flight(3), 0);
        assert!(!assignments.any_in_flight());
    }

    #[test]
    fn a_partition_that_comes_back_has_another_epoch() {
        let assignments = Assignments::default();
        assignments.assign(0, 1);
        assignments.revoke(0);
        assignments.assign(0, 2);
        assert!(!assignments.is_current(0, 1));
        assert!(assignments.is_current(0, 2));
    }

    #[test]
    fn no_two_holders_and_no_two_lanes_have_the_same_key() {
        let step = |partition| OffsetMove { partition, epoch: 1, from: 0, to: 1, gaps: Vec::new() };
        let (one, other) = (Assignments::default(), Assignments::default());
        [0, 1, 2, 5].into_iter().for_each(|p| one.assign(p, 1));
        [3, 4, 6].into_iter().for_each(|p| other.assign(p, 1));
        let keys = [(&one, 2), (&one, 5), (&other, 6), (&other, 3)].map(|(held, p)| held.lane_key(&[step(p)], 2));
        assert_eq!(keys, [0, 1, 4, 3]);
        one.revoke(0);
        assert_eq!(one.lane_key(&[step(2)], 2), 2, "what was given back is another's");
        assert_eq!(Assignments::default().lane_key(&[step(7)], 4), 3);
        assert_eq!(one.lane_key(&[], 2), 0);
    }

    #[test]
    fn a_commit_is_told_once() {
        let assignments = Assignments::default();
        assignments.committed(1, 10);
        assignments.committed(1, 20);
        assert_eq!(assignments.take_committed(), [(1, 20)]);
        assert!(assignments.take_committed().is_empty());
    }
}
