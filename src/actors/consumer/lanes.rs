//! Where each partition stands while it is read, and the batch that a lane is filling. Offsets that are
//! jumped over are put down as gaps here and nowhere else: nothing is skipped in silence.

use std::collections::BTreeMap;

use crate::core::cell::Span;
use crate::core::decode::Oversize;
use crate::core::memory::RecordCost;
use crate::messages::{OffsetMove, Record, RecordBatch};
use crate::ports::Polled;
use crate::runtime::{Permit, Share};

/// A partition that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub epoch: i64,
    pub lane: usize,
    /// The next offset that is expected.
    pub next: i64,
    /// Where the broker said the partition ends when it was last read to its end.
    pub end: Option<i64>,
}

/// Limits of one batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    pub records: usize,
    /// Bytes of keys and payloads.
    pub bytes: usize,
    /// A larger payload is not kept.
    pub record_bytes: usize,
}

/// The memory that a stream's batches may take.
#[derive(Debug, Clone)]
pub struct MemoryLimit {
    /// One for each lane.
    pub shares: Vec<Share>,
    pub cost: RecordCost,
}

/// The part of what a lane may take, as one over so many, that one batch may have: one is written, one waits for it and
/// one fills. What a record is said to cost rests on it (core/memory.rs).
const BATCHES: u64 = 3;

/// The batch that a lane fills while the one before is written.
#[derive(Debug, Default)]
pub struct Filling {
    batch: RecordBatch,
    /// Bytes of the largest of the records that came last: what the next are expected to have.
    largest: usize,
    /// The largest of those that are coming in now.
    largest_now: usize,
    /// Records and bytes of the batch before. The next is given as much room at once: growing step by step copies what is
    /// there again and again.
    before: (usize, usize),
}

impl Filling {
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    pub fn records(&self) -> usize {
        self.batch.records.len()
    }

    /// How many more records fit; 0 when the batch is full.
    pub fn room(&self, limits: &BatchLimits) -> usize {
        if self.batch.bytes.len() >= limits.bytes { 0 } else { limits.records.saturating_sub(self.batch.records.len()) }
    }

    /// How many records to ask for so that neither the batch nor what the lane's memory has room for is passed, if they
    /// are no larger than those before; 0 where the batch is full or the memory used up, else at least 1.
    pub fn part(&self, limits: &BatchLimits, memory: &Share, cost: &RecordCost, most: usize) -> usize {
        let held = self.batch.permit.as_ref().map_or(0, Permit::bytes);
        let of_batch = (memory.most() / BATCHES).saturating_sub(held);
        let (records, room) = (self.room(limits), memory.room().min(of_batch.max((held == 0).into())));
        if records == 0 || room == 0 {
            return 0;
        }
        let bytes = limits.bytes.saturating_sub(self.batch.bytes.len());
        let by_batch = bytes.div_ceil(self.largest.max(1));
        let by_memory = usize::try_from(room / cost.total(1, self.largest).max(1)).unwrap_or(usize::MAX);
        records.min(most).min(by_batch).min(by_memory).max(1)
    }

    /// So many records with so many bytes were taken since the last call: they count as memory from now on.
    pub fn charge(&mut self, records: usize, bytes: usize, memory: &Share, cost: &RecordCost) {
        if records > 0 {
            self.batch.permit.get_or_insert_with(|| memory.permit()).grow(cost.total(records, bytes));
            self.largest = std::mem::take(&mut self.largest_now);
        }
    }

    /// Takes what was polled. What is of no partition that is read, or lies before its position, is left out:
    /// it was fetched for an assignment that is over. Answers the bytes that were taken.
    pub fn take(&mut self, polled: Polled<'_>, positions: &mut BTreeMap<i32, Position>, limits: &BatchLimits) -> usize {
        let (partition, offset) = match polled {
            Polled::Record { partition, offset, .. } | Polled::End { partition, offset } => (partition, offset),
        };
        let Some(position) = positions.get_mut(&partition).filter(|p| offset >= p.next) else { return 0 };
        match polled {
            Polled::End { .. } => {
                position.end = Some(offset);
                if offset > position.next {
                    self.advance(partition, position, offset, offset);
                }
                0
            }
            Polled::Record { timestamp, key, payload, .. } => {
                if crate::failpoints::triggered("skip-record") {
                    return 0;
                }
                self.advance(partition, position, offset, offset + 1);
                if self.batch.records.is_empty() {
                    let (records, bytes) = self.before;
                    self.batch.records.reserve(records);
                    // Some more for what the decoder unescapes behind it.
                    self.batch.bytes.reserve(bytes + bytes / 16);
                }
                let oversize = Oversize::of(key, payload, limits.record_bytes);
                let before = self.batch.bytes.len();
                let key = key.filter(|key| key.len() <= limits.record_bytes).map(|bytes| self.keep(bytes));
                let payload = payload.filter(|_| oversize.is_none()).map(|bytes| self.keep(bytes));
                self.batch.records.push(Record { partition, offset, timestamp, key, payload, oversize });
                let taken = self.batch.bytes.len() - before;
                self.largest_now = self.largest_now.max(taken);
                taken
            }
        }
    }

    /// Drops what was taken of a partition that went to another daemon.
    pub fn forget(&mut self, partition: i32) {
        self.batch.records.retain(|r| r.partition != partition);
        self.batch.moves.retain(|m| m.partition != partition);
        if self.batch.is_empty() {
            // Else a batch that was full of it would have no room for anything.
            self.batch = RecordBatch::default();
        }
    }

    /// The batch as it is; a new one begins.
    pub fn finish(&mut self) -> RecordBatch {
        let mut batch = std::mem::take(&mut self.batch);
        self.before = (batch.records.len(), batch.bytes.len());
        batch.moves.sort_by_key(|m| m.partition);
        batch
    }

    /// Puts back a batch that found no room downstream.
    pub fn resume(&mut self, batch: RecordBatch) {
        self.batch = batch;
    }

    fn keep(&mut self, bytes: &[u8]) -> Span {
        let span = Span::new(self.batch.bytes.len(), bytes.len());
        self.batch.bytes.extend_from_slice(bytes);
        span
    }

    /// From the expected offset to `to`; everything before `seen` that was expected is a gap.
    fn advance(&mut self, partition: i32, position: &mut Position, seen: i64, to: i64) {
        let at = self.batch.moves.iter().position(|m| m.partition == partition).unwrap_or_else(|| {
            let from = position.next;
            self.batch.moves.push(OffsetMove { partition, epoch: position.epoch, from, to: from, gaps: Vec::new() });
            self.batch.moves.len() - 1
        });
        let movement = &mut self.batch.moves[at];
        if seen > position.next {
            match movement.gaps.last_mut() {
                // An end was reached within it.
                Some(last) if last.end == position.next => last.end = seen,
                _ => movement.gaps.push(position.next..seen),
            }
        }
        movement.to = to;
        position.next = to;
    }
}

#[cfg(test)]
#[path = "lanes_model_tests.rs"]
mod model_tests;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BatchLimits = BatchLimits { records: 3, bytes: 1000, record_bytes: 10 };

    fn reading(next: i64) -> BTreeMap<i32, Position> {
        BTreeMap::from([(0, Position { epoch: 1, lane: 0, next, end: None })])
    }

    fn record(offset: i64, payload: &[u8]) -> Polled<'_> {
        Polled::Record { partition: 0, offset, timestamp: 1, key: None, payload: Some(payload) }
    }

    #[test]
    fn offsets_that_are_jumped_over_are_gaps() {
        let (mut filling, mut positions) = (Filling::default(), reading(5));
        filling.take(record(5, b"a"), &mut positions, &LIMITS);
        filling.take(record(8, b"b"), &mut positions, &LIMITS);
        filling.take(Polled::End { partition: 0, offset: 10 }, &mut positions, &LIMITS);
        let batch = filling.finish();
        assert_eq!(batch.moves, [OffsetMove { partition: 0, epoch: 1, from: 5, to: 10, gaps: vec![6..8, 9..10] }]);
        assert_eq!(batch.records.len(), 2);
        assert_eq!(positions[&0].next, 10);
        assert_eq!(positions[&0].end, Some(10));
    }

    #[test]
    fn an_end_that_was_reached_before_moves_nothing() {
        let (mut filling, mut positions) = (Filling::default(), reading(5));
        filling.take(Polled::End { partition: 0, offset: 5 }, &mut positions, &LIMITS);
        assert!(filling.is_empty());
        assert_eq!(positions[&0].end, Some(5));
    }

    #[test]
    fn what_was_read_before_or_of_another_assignment_is_left_out() {
        let (mut filling, mut positions) = (Filling::default(), reading(5));
        filling.take(record(4, b"old"), &mut positions, &LIMITS);
        filling.take(
            Polled::Record { partition: 9, offset: 7, timestamp: 0, key: None, payload: None },
            &mut positions,
            &LIMITS,
        );
        assert!(filling.is_empty());
        assert_eq!(positions[&0].next, 5);
    }

    #[test]
    fn a_record_above_the_limit_is_counted_but_not_kept() {
        let (mut filling, mut positions) = (Filling::default(), reading(0));
        filling.take(record(0, &[b'x'; 11]), &mut positions, &LIMITS);
        let batch = filling.finish();
        assert_eq!(batch.records[0].oversize.map(|o| o.bytes), Some(11));
        assert_eq!(batch.records[0].payload, None);
        assert!(batch.bytes.is_empty());
        assert_eq!(batch.moves[0].to, 1);
    }

    #[test]
    fn a_key_counts_as_the_payload_does() {
        let (mut filling, mut positions) = (Filling::default(), reading(0));
        for (offset, key, payload) in
            [(0, &[b'k'; 5][..], &[b'p'; 5][..]), (1, &[b'k'; 6], &[b'p'; 5]), (2, &[b'k'; 11], b"")]
        {
            let key = Some(key);
            let polled = Polled::Record { partition: 0, offset, timestamp: 1, key, payload: Some(payload) };
            filling.take(polled, &mut positions, &LIMITS);
        }
        let batch = filling.finish();
        let kept = |record: &Record| (record.key.is_some(), record.payload.is_some(), record.oversize.is_some());
        let kept: Vec<_> = batch.records.iter().map(kept).collect();
        assert_eq!(kept, [(true, true, false), (true, false, true), (false, false, true)]);
        assert_eq!(batch.bytes.len(), 16);
    }

    #[test]
    fn a_full_batch_has_no_room() {
        let (mut filling, mut positions) = (Filling::default(), reading(0));
        for offset in 0..3 {
            assert_eq!(filling.room(&LIMITS), 3 - offset as usize);
            filling.take(record(offset, b"x"), &mut positions, &LIMITS);
        }
        assert_eq!(filling.room(&LIMITS), 0);
    }

    #[test]
    fn a_full_batch_of_a_partition_that_is_forgotten_has_room_again() {
        let limits = BatchLimits { records: 100, bytes: 8, record_bytes: 10 };
        let (mut filling, mut positions) = (Filling::default(), reading(0));
        filling.take(record(0, b"12345678"), &mut positions, &limits);
        assert_eq!(filling.room(&limits), 0);
        filling.forget(0);
        assert_eq!(filling.room(&limits), 100);
    }

    #[test]
    fn a_partition_that_is_forgotten_leaves_the_others() {
        let mut filling = Filling::default();
        let mut positions = reading(0);
        positions.insert(1, Position { epoch: 4, lane: 0, next: 100, end: None });
        filling.take(record(0, b"x"), &mut positions, &LIMITS);
        filling.take(
            Polled::Record { partition: 1, offset: 100, timestamp: 0, key: None, payload: None },
            &mut positions,
            &LIMITS,
        );
        filling.forget(0);
        let batch = filling.finish();
        assert_eq!(batch.moves.iter().map(|m| m.partition).collect::<Vec<_>>(), [1]);
        assert_eq!(batch.records.len(), 1);
    }
}
