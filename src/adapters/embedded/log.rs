//! The log of one partition: batches in memory, as their producers packed them. An append writes sixteen bytes of its own
//! (base offset, length, leader epoch) and keeps the rest where it was received; a read hands out those same bytes.
//! It must never drop or alter a record: what is appended stays until the topic is deleted.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;

use super::batch::{Batch, PREFIX};
use super::producers::{self, Producers, Verdict};

/// What a stored batch costs beside its bytes, counted against the broker's memory, in bytes.
const OVERHEAD: u64 = 128;

/// There is one leader and it never changes.
pub const LEADER_EPOCH: i32 = 0;

/// The log of one partition.
#[derive(Debug, Default)]
pub struct PartitionLog {
    /// Ascending, without gaps.
    batches: Vec<Stored>,
    producers: Producers,
    /// What all of it costs, in bytes.
    cost: u64,
}

#[derive(Debug)]
struct Stored {
    base_offset: i64,
    /// The first offset after this batch.
    end_offset: i64,
    first_timestamp: i64,
    /// The largest timestamp of this batch and all before it.
    max_timestamp: i64,
    prefix: Bytes,
    rest: Bytes,
}

/// What became of an append.
#[derive(Debug, PartialEq, Eq)]
pub enum Appended {
    /// Stored; `cost` is the memory it takes, in bytes.
    Stored { base_offset: i64, cost: u64 },
    /// It had been stored before.
    Duplicate { base_offset: i64 },
}

impl PartitionLog {
    /// The offset that the next record will get.
    pub fn end_offset(&self) -> i64 {
        self.batches.last().map_or(0, |stored| stored.end_offset)
    }

    /// The first offset that can be read.
    pub fn start_offset(&self) -> i64 {
        self.batches.first().map_or(0, |stored| stored.base_offset)
    }

    /// The memory that this log takes, in bytes.
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// Stores a batch if it takes no more than `room` bytes of memory.
    ///
    /// # Errors
    /// The sequence errors of [`Producers::judge`]; `NotEnoughReplicas` when there is no room, which producers take as
    /// "not stored, try again".
    pub fn append(&mut self, batch: &Batch, room: u64) -> Result<Appended, ResponseError> {
        let newcomer = match batch.sequence.map(|sequence| self.producers.judge(sequence)).transpose()? {
            Some(Verdict::Duplicate { base_offset }) => return Ok(Appended::Duplicate { base_offset }),
            Some(Verdict::Append { newcomer }) => newcomer,
            None => false,
        };
        let cost = batch.bytes.len() as u64 + OVERHEAD + if newcomer { producers::COST } else { 0 };
        if cost > room {
            return Err(ResponseError::NotEnoughReplicas);
        }
        let base_offset = self.end_offset();
        let mut prefix = BytesMut::with_capacity(PREFIX);
        prefix.put_i64(base_offset);
        prefix.put_slice(&batch.bytes[8..12]);
        prefix.put_i32(LEADER_EPOCH);
        let before = self.batches.last().map_or(i64::MIN, |stored| stored.max_timestamp);
        self.batches.push(Stored {
            base_offset,
            end_offset: base_offset + i64::from(batch.records),
            first_timestamp: batch.first_timestamp,
            max_timestamp: before.max(batch.max_timestamp),
            prefix: prefix.freeze(),
            rest: batch.bytes.slice(PREFIX..),
        });
        if let Some(sequence) = batch.sequence {
            self.producers.remember(sequence, base_offset);
        }
        self.cost += cost;
        Ok(Appended::Stored { base_offset, cost })
    }

    /// Whole batches from the one that holds `offset` on, at most `max_bytes` of them; the first one even when it is
    /// larger, if `at_least_one`. Nothing at the end of the log.
    ///
    /// # Errors
    /// `OffsetOutOfRange` outside the log.
    pub fn read(&self, offset: i64, max_bytes: usize, at_least_one: bool) -> Result<Vec<Bytes>, ResponseError> {
        if offset < self.start_offset() || offset > self.end_offset() {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let from = self.batches.partition_point(|stored| stored.end_offset <= offset);
        let mut chunks = Vec::new();
        let mut taken = 0;
        for stored in &self.batches[from..] {
            let size = stored.prefix.len() + stored.rest.len();
            if taken + size > max_bytes && !(at_least_one && taken == 0) {
                break;
            }
            taken += size;
            chunks.extend([stored.prefix.clone(), stored.rest.clone()]);
        }
        Ok(chunks)
    }

    /// The first batch with a record at or after `timestamp` (milliseconds since 1970): the batch's first timestamp and
    /// offset. Records are not unpacked, so a reader may be given some earlier ones of that batch.
    pub fn at_time(&self, timestamp: i64) -> Option<(i64, i64)> {
        let at = self.batches.partition_point(|stored| stored.max_timestamp < timestamp);
        self.batches.get(at).map(|stored| (stored.first_timestamp, stored.base_offset))
    }

    /// How many idempotent producers are remembered.
    #[cfg(test)]
    fn producers(&self) -> usize {
        self.producers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::sample;
    use super::*;

    const ROOM: u64 = 1 << 20;

    fn log_of(batches: &[(i32, i64)]) -> PartitionLog {
        let mut log = PartitionLog::default();
        for (records, timestamp) in batches {
            log.append(&sample::parsed(*records, *timestamp, None), ROOM).expect("there is room");
        }
        log
    }

    #[test]
    fn offsets_are_dense_and_stand_in_the_batches() {
        let log = log_of(&[(3, 0), (1, 0), (5, 0)]);
        assert_eq!((log.start_offset(), log.end_offset()), (0, 9));
        let read = log.read(0, usize::MAX, true).unwrap().concat();
        let size = read.len() / 3;
        let bases: Vec<i64> =
            read.chunks(size).map(|batch| i64::from_be_bytes(batch[..8].try_into().unwrap())).collect();
        assert_eq!(bases, [0, 3, 4]);
    }

    #[test]
    fn a_read_starts_with_the_batch_that_holds_the_offset() {
        let log = log_of(&[(3, 0), (3, 0), (3, 0)]);
        let read = log.read(4, usize::MAX, true).unwrap().concat();
        assert_eq!(i64::from_be_bytes(read[..8].try_into().unwrap()), 3);
        assert!(log.read(9, usize::MAX, true).unwrap().is_empty(), "nothing yet at the end");
        assert_eq!(log.read(10, 1, true).unwrap_err(), ResponseError::OffsetOutOfRange);
        assert_eq!(log.read(-1, 1, true).unwrap_err(), ResponseError::OffsetOutOfRange);
    }

    #[test]
    fn a_read_is_bounded_but_makes_progress() {
        let log = log_of(&[(3, 0), (3, 0), (3, 0)]);
        let size = log.read(6, usize::MAX, true).unwrap().concat().len();
        assert_eq!(log.read(0, size * 2 + 1, true).unwrap().concat().len(), size * 2);
        assert_eq!(log.read(0, 1, true).unwrap().concat().len(), size);
        assert!(log.read(0, 1, false).unwrap().is_empty());
    }

    #[test]
    fn a_time_finds_the_first_batch_that_reaches_it() {
        let log = log_of(&[(3, 100), (3, 500), (3, 300)]);
        assert_eq!(log.at_time(0), Some((100, 0)));
        assert_eq!(log.at_time(102), Some((100, 0)));
        assert_eq!(log.at_time(103), Some((500, 3)));
        assert_eq!(log.at_time(503), None);
    }

    #[test]
    fn a_repeated_batch_is_stored_once() {
        let mut log = PartitionLog::default();
        let first = sample::parsed(4, 0, Some((1, 0, 0)));
        assert!(matches!(log.append(&first, ROOM), Ok(Appended::Stored { base_offset: 0, .. })));
        assert!(matches!(
            log.append(&sample::parsed(2, 0, Some((1, 0, 4))), ROOM),
            Ok(Appended::Stored { base_offset: 4, .. })
        ));
        assert_eq!(log.append(&first, ROOM), Ok(Appended::Duplicate { base_offset: 0 }));
        assert_eq!((log.end_offset(), log.producers()), (6, 1));
    }

    #[test]
    fn a_batch_without_room_is_refused_and_leaves_no_trace() {
        let mut log = PartitionLog::default();
        let batch = sample::parsed(4, 0, Some((1, 0, 0)));
        assert_eq!(log.append(&batch, 100), Err(ResponseError::NotEnoughReplicas));
        assert_eq!((log.end_offset(), log.cost(), log.producers()), (0, 0, 0));
        assert!(matches!(log.append(&batch, ROOM), Ok(Appended::Stored { .. })));
    }
}
