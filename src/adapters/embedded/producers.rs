//! What a partition remembers of its idempotent producers, so that a batch sent twice is stored once.
//! The rules are those of Kafka's `ProducerStateManager`: five batches are remembered, as many as a producer may have
//! under way.

use std::collections::{BTreeMap, VecDeque};

use kafka_protocol::ResponseError;

use super::batch::Sequence;

/// An idempotent producer has at most this many requests under way on a connection.
const REMEMBERED: usize = 5;

/// What a remembered producer costs, counted against the broker's memory, in bytes.
pub const COST: u64 = 256;

/// The idempotent producers of one partition.
#[derive(Debug, Default)]
pub struct Producers(BTreeMap<i64, Producer>);

#[derive(Debug)]
struct Producer {
    epoch: i16,
    /// (first sequence, last sequence, base offset), oldest first; never empty.
    batches: VecDeque<(i32, i32, i64)>,
}

/// What to do with a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It comes next. True when its producer is new to the partition.
    Append { newcomer: bool },
    /// It is stored already, from this offset on.
    Duplicate { base_offset: i64 },
}

impl Producers {
    /// Judges a batch without remembering it.
    ///
    /// # Errors
    /// `InvalidProducerEpoch` for a producer that was replaced, `OutOfOrderSequenceNumber` when a batch before it is missing.
    pub fn judge(&self, sequence: Sequence) -> Result<Verdict, ResponseError> {
        let Some(known) = self.0.get(&sequence.producer) else { return Ok(Verdict::Append { newcomer: true }) };
        if sequence.epoch < known.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        let expected = if sequence.epoch > known.epoch {
            0
        } else {
            if let Some((_, _, base_offset)) =
                known.batches.iter().find(|(first, last, _)| (*first, *last) == (sequence.first, sequence.last))
            {
                return Ok(Verdict::Duplicate { base_offset: *base_offset });
            }
            known.batches.back().map_or(0, |(_, last, _)| last.checked_add(1).unwrap_or(0))
        };
        if sequence.first == expected {
            Ok(Verdict::Append { newcomer: false })
        } else {
            Err(ResponseError::OutOfOrderSequenceNumber)
        }
    }

    /// Remembers a batch that was appended.
    pub fn remember(&mut self, sequence: Sequence, base_offset: i64) {
        let producer = self
            .0
            .entry(sequence.producer)
            .or_insert_with(|| Producer { epoch: sequence.epoch, batches: VecDeque::with_capacity(REMEMBERED) });
        if producer.epoch != sequence.epoch {
            producer.epoch = sequence.epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back((sequence.first, sequence.last, base_offset));
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, first: i32, last: i32) -> Sequence {
        Sequence { producer: 9, epoch, first, last }
    }

    #[test]
    fn a_batch_sent_again_is_told_its_first_offset() {
        let mut producers = Producers::default();
        for at in 0..6 {
            let sequence = batch(0, at * 10, at * 10 + 9);
            assert_eq!(producers.judge(sequence), Ok(Verdict::Append { newcomer: at == 0 }));
            producers.remember(sequence, i64::from(at) * 10 + 1_000);
        }
        assert_eq!(producers.judge(batch(0, 50, 59)), Ok(Verdict::Duplicate { base_offset: 1_050 }));
        assert_eq!(producers.judge(batch(0, 10, 19)), Ok(Verdict::Duplicate { base_offset: 1_010 }));
        assert_eq!(producers.judge(batch(0, 0, 9)), Err(ResponseError::OutOfOrderSequenceNumber), "the sixth last");
    }

    #[test]
    fn a_gap_and_an_old_epoch_are_refused() {
        let mut producers = Producers::default();
        producers.remember(batch(3, 0, 9), 0);
        assert_eq!(producers.judge(batch(3, 11, 12)), Err(ResponseError::OutOfOrderSequenceNumber));
        assert_eq!(producers.judge(batch(2, 10, 12)), Err(ResponseError::InvalidProducerEpoch));
        assert_eq!(producers.judge(batch(4, 10, 12)), Err(ResponseError::OutOfOrderSequenceNumber));
        assert_eq!(producers.judge(batch(4, 0, 12)), Ok(Verdict::Append { newcomer: false }));
    }

    #[test]
    fn sequences_go_on_at_zero_after_their_largest() {
        let mut producers = Producers::default();
        producers.remember(batch(0, i32::MAX - 1, i32::MAX), 0);
        assert_eq!(producers.judge(batch(0, 0, 3)), Ok(Verdict::Append { newcomer: false }));
    }
}
