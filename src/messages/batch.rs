//! Batches on their way from the broker to the database.

use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::core::cell::Span;
use crate::core::decode::{Oversize, TableRows};
use crate::core::outcome::Rejection;
use crate::messages::InFlight;
use crate::runtime::Permit;

/// One record as it was polled. Spans point into its batch's `bytes`.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970 as the broker tells it; -1 where it gives none.
    pub timestamp: i64,
    pub key: Option<Span>,
    /// `None` for a tombstone and for a record above the stream's limit.
    pub payload: Option<Span>,
    /// Of a record above the limit, whose payload was not kept.
    pub oversize: Option<Oversize>,
}

/// What a batch does to the offset of one partition: from `from` to `to`, both the next offset to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetMove {
    pub partition: i32,
    /// The assignment under which the records were polled; the compare-and-set compares it too.
    pub epoch: i64,
    pub from: i64,
    pub to: i64,
    /// Offsets within `from..to` that yielded no record, ascending, not touching each other.
    pub gaps: Vec<Range<i64>>,
}

impl OffsetMove {
    /// How many offsets yielded no record.
    pub fn gap_count(&self) -> i64 {
        self.gaps.iter().map(|g| g.end - g.start).sum()
    }
}

/// Records of one lane in the order they were polled, with what they do to their partitions' offsets.
#[derive(Debug, Default)]
pub struct RecordBatch {
    pub bytes: Vec<u8>,
    pub records: Vec<Record>,
    /// One for each partition that the batch touches, ascending.
    pub moves: Vec<OffsetMove>,
    /// Counts the batch as on its way; `None` while it is being filled.
    pub in_flight: Option<InFlight>,
    /// What the batch takes of the memory budget, given back when it is committed or dropped. `None` where none is kept.
    pub permit: Option<Permit>,
}

impl RecordBatch {
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.moves.is_empty()
    }
}

/// The same records as typed rows: what the writer commits.
#[derive(Debug)]
pub struct RowBatch {
    /// Its `bytes` hold the unescaped texts too.
    pub source: RecordBatch,
    /// One for each target of the stream's plan.
    pub tables: Vec<TableRows>,
    /// Records that could not be decoded: position in the batch and why.
    pub rejected: Vec<(u32, Rejection)>,
}

/// A record that was set aside, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970 as the broker tells it.
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    /// `None` for a tombstone and where the record was above the stream's limit: then the message has size and hash.
    pub payload: Option<Vec<u8>>,
    pub rejection: Rejection,
}

impl DeadLetter {
    /// The broker's time, where it gave one.
    pub fn time(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.timestamp).filter(|_| self.timestamp >= 0)
    }
}
