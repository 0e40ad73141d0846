//! The head of a record batch (format 2): what the broker must know of it. The records behind it stay as the producer
//! packed them, compressed or not; this file must never look at them.

use bytes::Bytes;
use kafka_protocol::ResponseError;

/// Bytes before the first record: <https://kafka.apache.org/documentation/#recordbatch>.
pub const HEAD: usize = 61;

/// The part of the head that the broker writes itself: base offset, length, leader epoch. The checksum covers none of it.
pub const PREFIX: usize = 16;

/// Bytes that the length field does not count: base offset and the length itself.
const BEFORE_LENGTH: usize = 12;

const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// A batch as a producer sent it, checked for shape. Its checksum is left to the reader.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The whole batch, head included.
    pub bytes: Bytes,
    /// How many offsets it takes.
    pub records: i32,
    /// Milliseconds since 1970.
    pub first_timestamp: i64,
    /// Milliseconds since 1970.
    pub max_timestamp: i64,
    /// None when the producer is not idempotent.
    pub sequence: Option<Sequence>,
}

/// Where a batch stands in the row of an idempotent producer's batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    pub producer: i64,
    pub epoch: i16,
    pub first: i32,
    pub last: i32,
}

impl Sequence {
    fn of(producer: i64, epoch: i16, first: i32, records: i32) -> Self {
        // Sequences wrap from i32::MAX to 0.
        let last = (i64::from(first) + i64::from(records) - 1) % (i64::from(i32::MAX) + 1);
        Sequence { producer, epoch, first, last: last as i32 }
    }
}

fn at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

impl Batch {
    /// Reads the head.
    ///
    /// # Errors
    /// `UnsupportedForMessageFormat` for the formats before 2, `InvalidRecord` for anything but exactly one whole batch of
    /// at least one record, and for transactional and control batches: this broker has no transactions.
    pub fn parse(bytes: Bytes) -> Result<Batch, ResponseError> {
        let magic = bytes.get(16).ok_or(ResponseError::InvalidRecord)?;
        if *magic != 2 {
            return Err(ResponseError::UnsupportedForMessageFormat);
        }
        Self::parse_format_2(bytes).ok_or(ResponseError::InvalidRecord)
    }

    fn parse_format_2(bytes: Bytes) -> Option<Batch> {
        let length = i32::from_be_bytes(at(&bytes, 8)?);
        let attributes = i16::from_be_bytes(at(&bytes, 21)?);
        let last_delta = i32::from_be_bytes(at(&bytes, 23)?);
        let first_timestamp = i64::from_be_bytes(at(&bytes, 27)?);
        let max_timestamp = i64::from_be_bytes(at(&bytes, 35)?);
        let producer = i64::from_be_bytes(at(&bytes, 43)?);
        let epoch = i16::from_be_bytes(at(&bytes, 51)?);
        let first = i32::from_be_bytes(at(&bytes, 53)?);
        let records = i32::from_be_bytes(at(&bytes, 57)?);
        let whole = usize::try_from(length).ok()?.checked_add(BEFORE_LENGTH)? == bytes.len() && bytes.len() >= HEAD;
        let counted = records >= 1 && last_delta == records - 1;
        if !whole || !counted || attributes & (TRANSACTIONAL | CONTROL) != 0 {
            return None;
        }
        let sequence = match producer {
            -1 => None,
            _ if producer < 0 || epoch < 0 || first < 0 => return None,
            _ => Some(Sequence::of(producer, epoch, first, records)),
        };
        Some(Batch { bytes, records, first_timestamp, max_timestamp, sequence })
    }
}

/// Batches for the tests of this folder.
#[cfg(test)]
pub mod sample {
    use bytes::{BufMut, BytesMut};

    use super::*;

    /// A batch with `payload` bytes of something behind its head.
    pub fn batch(records: i32, timestamp: i64, payload: usize, sequence: Option<(i64, i16, i32)>) -> Bytes {
        let (producer, epoch, first) = sequence.unwrap_or((-1, -1, -1));
        let mut bytes = BytesMut::new();
        bytes.put_i64(0);
        bytes.put_i32((HEAD - BEFORE_LENGTH + payload) as i32);
        bytes.put_i32(-1);
        bytes.put_u8(2);
        bytes.put_u32(0);
        bytes.put_i16(0);
        bytes.put_i32(records - 1);
        bytes.put_i64(timestamp);
        bytes.put_i64(timestamp + i64::from(records) - 1);
        bytes.put_i64(producer);
        bytes.put_i16(epoch);
        bytes.put_i32(first);
        bytes.put_i32(records);
        bytes.put_bytes(b'.', payload);
        bytes.freeze()
    }

    pub fn parsed(records: i32, timestamp: i64, sequence: Option<(i64, i16, i32)>) -> Batch {
        Batch::parse(batch(records, timestamp, 20, sequence)).expect("a sample is well formed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_read() {
        let batch = Batch::parse(sample::batch(5, 1_000, 30, Some((7, 2, 40)))).unwrap();
        assert_eq!((batch.records, batch.first_timestamp, batch.max_timestamp), (5, 1_000, 1_004));
        assert_eq!(batch.sequence, Some(Sequence { producer: 7, epoch: 2, first: 40, last: 44 }));
    }

    #[test]
    fn sequences_wrap_at_the_end_of_their_range() {
        assert_eq!(Sequence::of(1, 0, i32::MAX, 1).last, i32::MAX);
        assert_eq!(Sequence::of(1, 0, i32::MAX - 1, 4).last, 1);
    }

    #[test]
    fn a_batch_that_is_cut_padded_or_miscounted_is_refused() {
        let good = sample::batch(5, 0, 30, None);
        assert_eq!(Batch::parse(good.slice(..good.len() - 1)).unwrap_err(), ResponseError::InvalidRecord);
        assert_eq!(Batch::parse(good.slice(..10)).unwrap_err(), ResponseError::InvalidRecord);
        assert_eq!(Batch::parse(Bytes::new()).unwrap_err(), ResponseError::InvalidRecord);
        let two = Bytes::from([&good[..], &good[..]].concat());
        assert_eq!(Batch::parse(two).unwrap_err(), ResponseError::InvalidRecord);
        let mut miscounted = good.to_vec();
        miscounted[60] = 9;
        assert_eq!(Batch::parse(miscounted.into()).unwrap_err(), ResponseError::InvalidRecord);
        let mut transactional = good.to_vec();
        transactional[22] = 0x10;
        assert_eq!(Batch::parse(transactional.into()).unwrap_err(), ResponseError::InvalidRecord);
        let mut old = good.to_vec();
        old[16] = 1;
        assert_eq!(Batch::parse(old.into()).unwrap_err(), ResponseError::UnsupportedForMessageFormat);
    }
}
