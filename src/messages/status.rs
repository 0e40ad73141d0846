//! What the daemon tells of itself while it runs: written by the actors as they go, read by the page,
//! `/status` and `/readyz` without asking an actor. Holds no history and no secret.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use crate::core::doubt::Doubt;
use crate::core::outcome::Counts;
use crate::ports::{CountsView, PartitionOffset};

/// One partition's line of the ledger, live.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PartitionStatus {
    pub partition: i32,
    /// The lane that writes it; `None` while it is not assigned to this daemon.
    pub lane: Option<usize>,
    pub start_offset: i64,
    pub next_offset: i64,
    /// The partition's end at the broker, read_committed; `None` until it was told.
    pub end_offset: Option<i64>,
    /// The partition was read to its end, and all of it is committed.
    pub caught_up: bool,
    /// The last end that was reached by reading.
    #[serde(skip)]
    pub reached: Option<i64>,
    #[serde(flatten)]
    pub counts: CountsView,
}

impl PartitionStatus {
    /// Offsets between the database and the broker's end.
    pub fn lag(&self) -> Option<i64> {
        self.end_offset.map(|end| (end - self.next_offset).max(0))
    }

    /// Offsets advanced that no counter accounts for: 0, or bief has a bug.
    pub fn unaccounted(&self) -> i64 {
        let c = self.counts;
        self.next_offset - self.start_offset - c.applied - c.duplicates - c.dead_letters - c.gaps
    }
}

/// One stream's part of the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct StreamStatus {
    pub stream: String,
    pub topic: String,
    pub partitions: Vec<PartitionStatus>,
    /// Fields that no mapping reads, with how many records had them.
    pub unknown_fields: BTreeMap<String, u64>,
    /// Actors that wait for something to come back, ascending by name.
    pub troubles: Vec<Trouble>,
    /// Partitions whose offsets an operator must decide on, ascending; nothing is consumed while there is one.
    pub in_doubt: Vec<Doubt>,
    /// Since when they are.
    pub in_doubt_since: Option<DateTime<Utc>>,
}

/// Why an actor waits, and since when.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Trouble {
    pub actor: String,
    pub cause: String,
    pub since: DateTime<Utc>,
}

/// The live ledger of all streams of this daemon. Cheap to clone; all clones are one board.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<BTreeMap<String, StreamEntry>>>);

#[derive(Debug, Default)]
struct StreamEntry {
    topic: String,
    partitions: BTreeMap<i32, PartitionStatus>,
    unknown_fields: BTreeMap<String, u64>,
    troubles: BTreeMap<String, Trouble>,
    in_doubt: Vec<Doubt>,
    in_doubt_since: Option<DateTime<Utc>>,
}

/// Names of unknown fields kept a stream; beyond it only the metric counts them.
const UNKNOWN_FIELDS_KEPT: usize = 64;

impl Board {
    /// Makes the stream known, with no partition yet.
    pub fn declare(&self, stream: &str, topic: &str) {
        self.lock().entry(stream.to_owned()).or_default().topic = topic.to_owned();
    }

    /// This daemon took the partition over.
    pub fn claimed(&self, stream: &str, offset: &PartitionOffset, lane: usize, end_offset: i64) {
        let mut board = self.lock();
        let entry = board.entry(stream.to_owned()).or_default();
        entry.partitions.insert(
            offset.partition,
            PartitionStatus {
                partition: offset.partition,
                lane: Some(lane),
                start_offset: offset.start_offset,
                next_offset: offset.next_offset,
                end_offset: Some(end_offset),
                caught_up: false,
                reached: None,
                counts: offset.counts,
            },
        );
    }

    /// A batch was committed.
    pub fn committed(&self, stream: &str, partition: i32, next_offset: i64, added: Counts) {
        self.change(stream, partition, |p| {
            p.next_offset = next_offset;
            p.counts.applied += added.applied;
            p.counts.duplicates += added.duplicates;
            p.counts.dead_letters += added.dead_letters;
            p.counts.gaps += added.gaps;
            p.end_offset = p.end_offset.max(Some(next_offset));
            p.caught_up = p.reached == Some(next_offset);
        });
    }

    /// Outcomes of records that were committed before are others now: their dead letters were sent through again.
    pub fn moved(&self, stream: &str, partition: i32, by: Counts) {
        self.change(stream, partition, |p| {
            p.counts.applied += by.applied;
            p.counts.duplicates += by.duplicates;
            p.counts.dead_letters += by.dead_letters;
        });
    }

    /// The broker told where the partition ends.
    pub fn ends_at(&self, stream: &str, partition: i32, end_offset: i64) {
        self.change(stream, partition, |p| p.end_offset = Some(end_offset));
    }

    /// The partition was read to this end; what was polled before may still be on its way.
    pub fn read_to_end(&self, stream: &str, partition: i32, end_offset: i64) {
        self.change(stream, partition, |p| {
            p.end_offset = Some(end_offset);
            p.reached = Some(end_offset);
            p.caught_up = p.next_offset == end_offset;
        });
    }

    /// The partition went to another daemon.
    pub fn released(&self, stream: &str, partition: i32) {
        if let Some(entry) = self.lock().get_mut(stream) {
            entry.partitions.remove(&partition);
        }
    }

    /// Records had fields that no mapping reads.
    pub fn unknown_field(&self, stream: &str, field: &str, records: u64) {
        let mut board = self.lock();
        let fields = &mut board.entry(stream.to_owned()).or_default().unknown_fields;
        if fields.len() < UNKNOWN_FIELDS_KEPT || fields.contains_key(field) {
            *fields.entry(field.to_owned()).or_default() += records;
        }
    }

    /// The actor waits; the first cause's moment stays until it is well again.
    pub fn troubled(&self, stream: &str, actor: &str, cause: &str, now: DateTime<Utc>) {
        let mut board = self.lock();
        let troubles = &mut board.entry(stream.to_owned()).or_default().troubles;
        let since = troubles.get(actor).map_or(now, |t| t.since);
        let trouble = Trouble { actor: actor.to_owned(), cause: cause.to_owned(), since };
        troubles.insert(actor.to_owned(), trouble);
    }

    /// The actor goes on.
    pub fn well(&self, stream: &str, actor: &str) {
        if let Some(entry) = self.lock().get_mut(stream) {
            entry.troubles.remove(actor);
        }
    }

    /// The offsets were looked at: these can't be gone on from. The first moment stays until none is left.
    pub fn in_doubt(&self, stream: &str, doubts: &[Doubt], now: DateTime<Utc>) {
        let mut board = self.lock();
        let entry = board.entry(stream.to_owned()).or_default();
        entry.in_doubt = doubts.to_vec();
        entry.in_doubt_since = (!doubts.is_empty()).then(|| entry.in_doubt_since.unwrap_or(now));
    }

    /// A new incarnation of the stream's pipeline begins: what the last one waited for is over.
    pub fn restarted(&self, stream: &str) {
        if let Some(entry) = self.lock().get_mut(stream) {
            entry.troubles.clear();
            entry.partitions.clear();
        }
    }

    /// The whole board, streams and partitions ascending.
    pub fn snapshot(&self) -> Vec<StreamStatus> {
        self.lock()
            .iter()
            .map(|(stream, entry)| StreamStatus {
                stream: stream.clone(),
                topic: entry.topic.clone(),
                partitions: entry.partitions.values().cloned().collect(),
                unknown_fields: entry.unknown_fields.clone(),
                troubles: entry.troubles.values().cloned().collect(),
                in_doubt: entry.in_doubt.clone(),
                in_doubt_since: entry.in_doubt_since,
            })
            .collect()
    }

    fn change(&self, stream: &str, partition: i32, change: impl FnOnce(&mut PartitionStatus)) {
        if let Some(p) = self.lock().get_mut(stream).and_then(|e| e.partitions.get_mut(&partition)) {
            change(p);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, StreamEntry>> {
        // A panic while the board was held leaves counters that are still whole: each is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
