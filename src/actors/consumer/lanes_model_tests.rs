//! The bookkeeping of offsets against a model: whatever is polled, in whatever order, cut into whatever batches, each
//! offset that a batch moves over is a record of it or a gap, once, and the moves of an assignment follow each other.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::core::ledger::{PartitionFacts, Recorded, judge};
use crate::core::outcome::Counts;

const PARTITIONS: i32 = 2;
const LIMITS: BatchLimits = BatchLimits { records: 1000, bytes: 1 << 20, record_bytes: 4 };

#[derive(Debug, Clone)]
enum Step {
    /// So many offsets of the partition are polled; those that hold nothing yield nothing.
    Poll(i32, i64),
    /// What was polled before comes once more.
    Again(i32, i64),
    /// Of a partition that is not read.
    Foreign(i64),
    End(i32),
    Finish,
    /// The batch found no room and goes on.
    Resume,
    /// The partition goes to another daemon, and comes back at what was handed on.
    Reassign(i32),
}

fn step() -> impl Strategy<Value = Step> {
    let partition = 0..PARTITIONS;
    prop_oneof![
        8 => (partition.clone(), 1..6i64).prop_map(|(p, n)| Step::Poll(p, n)),
        1 => (partition.clone(), 1..6i64).prop_map(|(p, n)| Step::Again(p, n)),
        1 => (0..100i64).prop_map(Step::Foreign),
        2 => partition.clone().prop_map(Step::End),
        3 => Just(Step::Finish),
        1 => Just(Step::Resume),
        1 => partition.prop_map(Step::Reassign),
    ]
}

/// The log: whether an offset of a partition holds a record; runs of nothing, as transactions and compaction leave.
fn holds(partition: i32, offset: i64) -> bool {
    (offset * 7 + i64::from(partition) * 3) % 11 > 3 && offset / 20 % 3 != 2
}

#[derive(Default)]
struct Reader {
    filling: Filling,
    positions: BTreeMap<i32, Position>,
    /// How far the broker was read, by partition.
    polled: BTreeMap<i32, i64>,
    /// What was handed on: moves and records.
    handed: Vec<RecordBatch>,
    next: BTreeMap<i32, i64>,
}

impl Reader {
    fn take(&mut self, partition: i32, offset: i64) {
        let payload = [b'x'; 5];
        let payload = Some(&payload[..(offset % 6) as usize]).filter(|p| !p.is_empty());
        let record = Polled::Record { partition, offset, timestamp: 0, key: Some(b"k"), payload };
        self.filling.take(record, &mut self.positions, &LIMITS);
    }

    fn finish(&mut self) {
        let batch = self.filling.finish();
        batch.moves.iter().for_each(|m| _ = self.next.insert(m.partition, m.to));
        self.handed.push(batch);
    }

    fn play(&mut self, step: &Step) {
        match *step {
            Step::Poll(partition, count) => {
                let from = self.polled[&partition];
                (from..from + count).filter(|at| holds(partition, *at)).for_each(|at| self.take(partition, at));
                self.polled.insert(partition, from + count);
            }
            Step::Again(partition, count) => {
                let to = self.polled[&partition];
                ((to - count).max(0)..to).filter(|at| holds(partition, *at)).for_each(|at| self.take(partition, at));
            }
            Step::Foreign(offset) => self.take(PARTITIONS + 1, offset),
            Step::End(partition) => {
                let offset = self.polled[&partition];
                self.filling.take(Polled::End { partition, offset }, &mut self.positions, &LIMITS);
            }
            Step::Finish => self.finish(),
            Step::Resume => {
                let batch = self.filling.finish();
                self.filling.resume(batch);
            }
            Step::Reassign(partition) => {
                self.filling.forget(partition);
                let next = self.next[&partition];
                let position = self.positions.get_mut(&partition).unwrap();
                *position = Position { epoch: position.epoch + 1, lane: 0, next, end: None };
                self.polled.insert(partition, next);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn each_offset_that_is_passed_is_a_record_or_a_gap_once(steps in prop::collection::vec(step(), 1..80)) {
        let mut reader = Reader::default();
        for partition in 0..PARTITIONS {
            reader.positions.insert(partition, Position { epoch: 1, lane: 0, next: 3, end: None });
            reader.polled.insert(partition, 3);
            reader.next.insert(partition, 3);
        }
        steps.iter().for_each(|step| reader.play(step));
        reader.finish();
        let mut next: BTreeMap<i32, i64> = (0..PARTITIONS).map(|p| (p, 3)).collect();
        let mut recorded: BTreeMap<i32, Recorded> = BTreeMap::new();
        for batch in &reader.handed {
            prop_assert!(batch.moves.windows(2).all(|w| w[0].partition < w[1].partition), "ascending, each once");
            for record in &batch.records {
                let of = batch.moves.iter().find(|m| m.partition == record.partition);
                prop_assert!(of.is_some_and(|m| (m.from..m.to).contains(&record.offset)), "{record:?} has no move");
            }
            for moved in &batch.moves {
                let before = next.insert(moved.partition, moved.to);
                prop_assert_eq!(before, Some(moved.from), "moves follow each other");
                prop_assert!(moved.gaps.windows(2).all(|w| w[0].end < w[1].start), "{:?} touch", moved.gaps);
                let records = || batch.records.iter().filter(|r| r.partition == moved.partition);
                for at in moved.from..moved.to {
                    let gaps = moved.gaps.iter().filter(|gap| gap.contains(&at)).count();
                    let is_record = holds(moved.partition, at);
                    prop_assert_eq!(records().filter(|r| r.offset == at).count(), usize::from(is_record));
                    prop_assert_eq!(gaps, usize::from(!is_record));
                }
                let of = recorded.entry(moved.partition).or_insert_with(|| Recorded {
                    topic_id: String::new(),
                    start_offset: 3,
                    next_offset: 3,
                    counts: Counts::default(),
                    gaps: Vec::new(),
                    dead_letters: 0,
                    dropped: 0,
                });
                of.next_offset = moved.to;
                let counts = Counts { applied: records().count() as i64, gaps: moved.gap_count(), ..Counts::default() };
                of.counts = of.counts.plus(counts);
                of.gaps.extend(moved.gaps.iter().cloned());
            }
        }
        // The ledger finds it whole, and one offset too many or too few wherever it is.
        for (partition, recorded) in recorded {
            let high = recorded.next_offset;
            let judged = |recorded: &Recorded| {
                judge(&PartitionFacts { recorded: Some(recorded.clone()), ..facts(partition, high) }).0
            };
            prop_assert_eq!(judged(&recorded), []);
            for change in [
                (|r| r.counts.applied += 1) as fn(&mut Recorded),
                |r| r.counts.duplicates -= 1,
                |r| r.counts.gaps += 1,
                |r| r.counts.dead_letters += 1,
                |r| r.dead_letters += 1,
                |r| r.gaps.push(r.next_offset..r.next_offset + 1),
                |r| r.next_offset += 1,
                |r| r.start_offset += 1,
            ] {
                let mut changed = recorded.clone();
                change(&mut changed);
                prop_assert!(!judged(&changed).is_empty(), "{changed:?} passes");
            }
        }
    }
}

fn facts(partition: i32, high: i64) -> PartitionFacts {
    PartitionFacts {
        partition,
        recorded: None,
        bounds: Some((0, high)),
        topic_id: String::new(),
        found_in_gaps: Vec::new(),
        accepted: Vec::new(),
    }
}
