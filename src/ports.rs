//! The traits that actors hold. An adapter is opened by the actor that uses it, on that actor's own
//! thread, and is never shared between threads: what travels is the way to open one.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::future::LocalBoxFuture;

use crate::core::doubt::{self, Doubt};
use crate::core::marks::Mark;
use crate::core::outcome::{Counts, Rejection};
use crate::core::reset;
use crate::core::schema::Table;
use crate::core::target::Rows;
use crate::messages::{DeadLetter, OffsetMove};

pub mod cache;
pub mod frameworks;
pub mod leases;
pub mod letter_changes;
mod letters;
pub mod marks;
pub mod models;
mod rows;
#[cfg(test)]
pub(crate) mod testing;

pub use cache::{Cache, CacheError, OpenCache};
pub use leases::{Lease, Leases, OpenLeases, Rebuild};
pub use letters::{
    AuditEntry, LetterBook, LetterGroup, LetterHead, LetterKey, LetterPublisher, LetterReader, LetterWarehouse,
    OpenLetterBook, OpenLetterPublisher, OpenLetterReader, OpenLetterWarehouse, Published,
};
pub use marks::{AggregateQuery, AggregateSource, OpenAggregateSource};
pub use models::{ModelChange, ModelHead, Models, OpenModels, Promoted, StoredModel};
pub use rows::{NewestRows, OpenRowReader, RowReader};

/// What can go wrong with the warehouse as a whole; a row that is refused is no error but an answer.
#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    /// The offset row is not what this writer left there: another daemon holds the partition now.
    #[error("partition {partition} of topic {topic} is not ours any more: {detail}")]
    Fenced { topic: String, partition: i32, detail: String },
    /// Deadlock, lock wait, connection lost, server gone, read-only: the batch is tried again.
    #[error("{what}")]
    Transient { what: String },
    /// The table is not as it was when the pipeline read it: the pipeline is built anew, which reads it again.
    #[error("{what}")]
    SchemaChanged { what: String },
    /// Access denied, wrong set-up: trying again does not help.
    #[error("{what}")]
    Fatal { what: String },
}

/// A row that the database refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Position in the `Rows` that were handed over.
    pub row: usize,
    pub rejection: Rejection,
}

/// What a [`Warehouse::write`] did.
#[derive(Debug, Default, PartialEq)]
pub struct Written {
    /// Positions of the rows that were there already and were left as they are, ascending.
    pub unchanged: Vec<usize>,
    /// Rows that can't be written, at least one, as many as were found. When there is one, nothing of this call counts
    /// and the caller rolls back to its savepoint, unless `others_in`; where the call had one row, it may first hand
    /// over others, to find more that can't.
    pub refused: Vec<Refusal>,
    /// All rows that are not refused are in and all that can't be written was found: the caller may let it stand.
    pub others_in: bool,
}

/// How many offsets of one partition had which outcome in this transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionCounts {
    pub partition: i32,
    pub counts: Counts,
}

/// One connection to the warehouse and its one transaction at a time: a writer's side of the database.
/// Every method but `begin` is called within a transaction. After a `WarehouseError` the transaction is
/// lost; the caller calls `abandon`, then begins again.
#[async_trait(?Send)]
pub trait Warehouse {
    /// Opens a transaction, connecting again where the connection was lost.
    async fn begin(&mut self) -> Result<(), WarehouseError>;

    /// Compare-and-set of each partition's offset: `(next_offset, epoch)` must be `(from, epoch)` and becomes
    /// `(to, epoch)`; the gaps are recorded in `bief_gap`. `moves` are ascending by partition.
    async fn advance(&mut self, topic: &str, moves: &[OffsetMove]) -> Result<(), WarehouseError>;

    /// Locks the offset rows of these partitions without moving them: `(next_offset, epoch)` must be `(from, epoch)`.
    /// What is written after it is fenced as if it came with the batch. `moves` are ascending by partition.
    async fn hold(&mut self, topic: &str, moves: &[OffsetMove]) -> Result<(), WarehouseError>;

    /// Marks the point that `rollback_rows` returns to.
    async fn savepoint(&mut self) -> Result<(), WarehouseError>;

    /// Undoes every `write` since `savepoint`; the savepoint stays.
    async fn rollback_rows(&mut self) -> Result<(), WarehouseError>;

    /// Writes rows into one table.
    async fn write(&mut self, rows: Rows<'_>) -> Result<Written, WarehouseError>;

    /// Stores dead letters in `bief_dead_letter`.
    async fn set_aside(&mut self, letters: &[DeadLetter], now: DateTime<Utc>) -> Result<(), WarehouseError>;

    /// Makes buckets dirty in `bief_dirty_bucket`. `lane` tells writers apart that work at the same time, so that none
    /// waits for another; `marks` are distinct and ascending. Called last, so that nobody waits long where they do meet.
    async fn mark(&mut self, lane: i32, marks: &[Mark]) -> Result<(), WarehouseError>;

    /// Adds to the partitions' counters in `bief_offset`. `counts` are ascending by partition.
    async fn count(
        &mut self,
        topic: &str,
        counts: &[PartitionCounts],
        now: DateTime<Utc>,
    ) -> Result<(), WarehouseError>;

    async fn commit(&mut self) -> Result<(), WarehouseError>;

    /// Ends the transaction without a trace.
    async fn rollback(&mut self) -> Result<(), WarehouseError>;

    /// Drops the connection, whatever its state; the next `begin` opens another.
    fn abandon(&mut self);
}

/// How a writer opens its warehouse, on its own thread.
pub type OpenWarehouse =
    Arc<dyn Fn() -> LocalBoxFuture<'static, Result<Box<dyn Warehouse>, WarehouseError>> + Send + Sync>;

/// Where one partition stands, as the bookkeeping tells it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PartitionOffset {
    pub topic: String,
    pub partition: i32,
    /// The broker's id of the topic; empty where it gives none.
    pub topic_id: String,
    /// Rises at every assignment.
    pub epoch: i64,
    /// Where reading began: the first offset that the ledger counts.
    pub start_offset: i64,
    /// The next offset to read.
    pub next_offset: i64,
    #[serde(flatten)]
    pub counts: CountsView,
    pub updated_at: DateTime<Utc>,
}

/// [`Counts`] as they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct CountsView {
    pub applied: i64,
    pub duplicates: i64,
    pub dead_letters: i64,
    pub gaps: i64,
}

impl From<CountsView> for Counts {
    fn from(view: CountsView) -> Self {
        let CountsView { applied, duplicates, dead_letters, gaps } = view;
        Counts { applied, duplicates, dead_letters, gaps }
    }
}

/// A partition to be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub partition: i32,
    pub topic_id: String,
    /// Where to start when the database does not know the partition yet.
    pub start_offset: i64,
}

/// Offsets that an operator passed over, or a log that was given up.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Loss {
    pub partition: i32,
    /// The first offset that was given up.
    pub first_offset: i64,
    /// How many; `None` where the log that they were in is gone, so that nobody can tell.
    pub offsets: Option<i64>,
    /// The offsets are those of a log that was put away, not of the present one.
    pub of_former_log: bool,
    pub accepted_at: DateTime<Utc>,
}

/// A stored dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeadLetter {
    pub id: i64,
    pub letter: DeadLetter,
    pub stored_at: DateTime<Utc>,
}

/// Which dead letters to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Of this topic and its former logs.
    pub topic: Option<String>,
    /// Only these, where there are any.
    pub ids: Vec<i64>,
    pub reason: Option<String>,
    /// Stored at or after.
    pub since: Option<DateTime<Utc>>,
    /// Stored before.
    pub until: Option<DateTime<Utc>>,
    /// Ids above this one.
    pub after_id: Option<i64>,
    /// Ids below this one.
    pub before_id: Option<i64>,
    /// Descending by id; ascending else.
    pub newest_first: bool,
    /// At most so many.
    pub limit: u64,
}

/// The bookkeeping tables, read and claimed outside a batch's transaction.
#[async_trait(?Send)]
pub trait Bookkeeping {
    /// Takes partitions over in one transaction: a known one gets a higher epoch, and the topic's id where it had none;
    /// an unknown one gets a row. Answers in the order asked.
    async fn claim(
        &self,
        topic: &str,
        claims: &[Claim],
        now: DateTime<Utc>,
    ) -> Result<Vec<PartitionOffset>, WarehouseError>;

    /// Gives partitions that are not known yet their rows, all or none, and leaves those that are known as they are.
    async fn introduce(&self, topic: &str, claims: &[Claim], now: DateTime<Utc>) -> Result<(), WarehouseError>;

    /// Where the partitions of a topic stand, ascending by partition; of all topics where none is named.
    async fn offsets(&self, topic: Option<&str>) -> Result<Vec<PartitionOffset>, WarehouseError>;

    /// All that is recorded of a topic's offsets, as of one moment, whoever commits meanwhile.
    async fn ledger(&self, topic: &str) -> Result<Ledger, WarehouseError>;

    /// Sets offsets in one transaction and raises the epochs, so that nobody commits behind it. `Fenced` where a
    /// partition is no longer where `steps` says it is, or its epoch is not the one beside it: then nothing is changed.
    async fn reset(&self, topic: &str, steps: &[(reset::Step, i64)], now: DateTime<Utc>) -> Result<(), WarehouseError>;

    /// Puts down that the broker truncated the partition's log, and raises the epoch, so that nobody goes on with it before
    /// an operator has decided. Does nothing where that is put down already, nor where the epoch is another one than that
    /// under which it was judged: then an operator has decided meanwhile.
    async fn truncated(
        &self,
        topic: &str,
        partition: i32,
        judged: Option<i64>,
        now: DateTime<Utc>,
    ) -> Result<(), WarehouseError>;

    /// In the filter's order.
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<StoredDeadLetter>, WarehouseError>;

    async fn dead_letter(&self, id: i64) -> Result<Option<StoredDeadLetter>, WarehouseError>;

    /// How many rows a table has.
    async fn count_rows(&self, table: &str) -> Result<i64, WarehouseError>;
}

/// What is recorded of a topic's offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Ascending by partition.
    pub offsets: Vec<PartitionOffset>,
    /// By partition, ascending.
    pub gaps: BTreeMap<i32, Vec<std::ops::Range<i64>>>,
    /// How many dead letters are stored, by partition.
    pub dead_letters: BTreeMap<i32, i64>,
    /// How many were dropped, by partition.
    pub dropped: BTreeMap<i32, i64>,
    /// What operators gave up, whatever became of it since: ascending by partition, then by offset.
    pub losses: Vec<Loss>,
}

/// How an actor or a command opens the bookkeeping, on its own thread.
pub type OpenBookkeeping =
    Arc<dyn Fn() -> LocalBoxFuture<'static, Result<Box<dyn Bookkeeping>, WarehouseError>> + Send + Sync>;

/// What tables there are and what they can hold.
#[async_trait(?Send)]
pub trait Catalog {
    /// The tables of these names; a name that is not there is left out of the answer.
    async fn tables(&mut self, names: &[&str]) -> Result<Vec<Table>, WarehouseError>;

    /// What the account lacks; `None` where nothing is missing, nothing can be told, or there are no grants at all.
    async fn missing_grants(&mut self) -> Result<Option<MissingGrants>, WarehouseError> {
        Ok(None)
    }
}

/// What an account must be allowed before the daemon can write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingGrants {
    pub account: String,
    pub database: String,
    /// Separated by commas.
    pub privileges: String,
    /// The statement that grants them.
    pub statement: String,
}

/// Now; tests hand in their own.
pub trait Clock: Send + Sync {
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// What a source tells beside records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEvent {
    /// These partitions are ours once [`RecordSource::assign`] is called for them.
    Assigned(Vec<i32>),
    /// These partitions go to another member once [`RecordSource::release`] is called for them.
    Revoked(Vec<i32>),
}

/// What a lane's queue yields.
#[derive(Debug, Clone, Copy)]
pub enum Polled<'a> {
    Record {
        partition: i32,
        offset: i64,
        /// Milliseconds since 1970; -1 where the broker gives none.
        timestamp: i64,
        key: Option<&'a [u8]>,
        payload: Option<&'a [u8]>,
    },
    /// Everything of the partition below `offset` was yielded, and there is nothing more at the moment.
    End { partition: i32, offset: i64 },
}

impl Polled<'_> {
    pub fn partition(&self) -> i32 {
        match self {
            Polled::Record { partition, .. } | Polled::End { partition, .. } => *partition,
        }
    }
}

/// Where a partition begins and ends at the broker, read_committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Bounds {
    /// The first offset that is still there.
    pub low: i64,
    /// The offset behind the last that can be read.
    pub high: i64,
}

/// A topic as the broker tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicStanding {
    /// Empty where the broker gives none.
    pub topic_id: String,
    /// Empty where there is no such topic.
    pub partitions: BTreeMap<i32, Bounds>,
}

impl TopicStanding {
    /// Which of these offsets of the topic can't be gone on from.
    pub fn doubts(&self, offsets: &[PartitionOffset]) -> Vec<Doubt> {
        let judged = offsets.iter().map(|o| {
            let bounds = self.partitions.get(&o.partition).map(|b| (b.low, b.high));
            doubt::judge(o.partition, (&o.topic_id, o.next_offset), (&self.topic_id, bounds))
        });
        judged.flatten().collect()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The broker is away or says that it can't just now; the pipeline is built again.
    #[error("{0}")]
    Transient(String),
    /// Access denied, no such topic: trying again does not help.
    #[error("{0}")]
    Fatal(String),
    /// The broker does not have the offset that was asked for: the pipeline is taken down, and is not built again
    /// before the offsets are looked at.
    #[error("{0}")]
    InDoubt(String),
    /// A batch cannot be read as it was written. What the source would give next lies behind it, and must not be taken
    /// for what follows: the pipeline is built again, and asks for the batch again.
    #[error("{0}")]
    Damaged(String),
    /// The broker lost records of the partition that were read. Only now can it be told: it has to be put down.
    #[error("{what}")]
    Truncated { partition: i32, what: String },
}

/// One stream's consumer, on a thread of its own. Records come lane by lane, so that a lane that is full
/// holds back its own partitions and no other.
pub trait RecordSource {
    /// Serves the group; what happened is appended. Called often, whether lanes are full or not.
    fn serve(&mut self, events: &mut Vec<SourceEvent>) -> Result<(), SourceError>;

    /// Starts partitions: number, lane, offset. Each assignment is answered by one call, even where nothing is left of it.
    fn assign(&mut self, partitions: &[(i32, usize, i64)]) -> Result<(), SourceError>;

    /// Gives partitions back.
    fn release(&mut self, partitions: &[i32]) -> Result<(), SourceError>;

    /// Hands at most `limit` of what is there for the lane to `sink`, without waiting; answers how many.
    fn poll(&mut self, lane: usize, limit: usize, sink: &mut dyn FnMut(Polled<'_>)) -> Result<usize, SourceError>;

    /// Waits until a lane may have something, at most so long. [`std::thread::Thread::unpark`] of the
    /// source's thread ends it early.
    fn wait(&mut self, at_most: std::time::Duration);

    /// The partition's end as far as it is known without asking the broker.
    fn known_end(&self, partition: i32) -> Option<i64>;

    /// Why nothing comes, as long as no broker answers or the group gives no partitions.
    fn trouble(&self) -> Option<String>;

    /// Tells the broker how far the database is, for the eyes of lag tools; never read back.
    fn report_committed(&mut self, offsets: &[(i32, i64)]);
}

/// How the consumer opens its source, on the source's thread.
pub type OpenSource = Arc<dyn Fn() -> Result<Box<dyn RecordSource>, SourceError> + Send + Sync>;

/// How what a source waits for begins where it is connected to no broker.
pub const NO_BROKER: &str = "no broker answers";

/// Questions to the broker that may take a while; never asked on the source's thread.
pub trait Broker: Send + Sync {
    fn bounds(&self, topic: &str, partition: i32) -> Result<Bounds, SourceError>;

    /// Partitions of the topic; empty where the broker says that there is no such topic, which one that has just started
    /// may say of any. What it will not tell, and what it can't tell just now, is an error.
    fn partitions(&self, topic: &str) -> Result<Vec<i32>, SourceError>;

    /// The broker's id of the topic; empty where it gives none.
    fn topic_id(&self, topic: &str) -> Result<String, SourceError>;

    /// Who takes part in a consumer group, in words: client and host.
    fn group_members(&self, group: &str) -> Result<Vec<String>, SourceError>;

    /// Hears what the client says by itself, which would pile up in it as long as nothing is asked.
    fn listen(&self) {}

    /// Whether a client that is made for this question gets an answer. Later questions are asked by it.
    fn answers_anew(&self, _topic: &str) -> bool {
        false
    }

    /// Where the whole topic stands.
    fn standing(&self, topic: &str) -> Result<TopicStanding, SourceError> {
        let mut standing = TopicStanding::default();
        for partition in self.partitions(topic)? {
            standing.partitions.insert(partition, self.bounds(topic, partition)?);
        }
        if !standing.partitions.is_empty() {
            standing.topic_id = self.topic_id(topic)?;
        }
        Ok(standing)
    }

    /// At most `limit` records from these offsets on, as many of each partition as are there within a few
    /// seconds; for looking, not for consuming.
    fn look(&self, topic: &str, from: &[(i32, i64)], limit: usize)
    -> Result<crate::messages::RecordBatch, SourceError>;

    /// Whether reading `offsets` of a partition, read_committed, yields a record: the offsets that do.
    fn records_within(
        &self,
        topic: &str,
        partition: i32,
        offsets: &[std::ops::Range<i64>],
    ) -> Result<Vec<i64>, SourceError>;
}
