//! One batch, one transaction: offsets first, rows parents first, dead letters, dirty buckets, counters. The steps that
//! the writer repeats until a batch is in, over the warehouse's port. Never tries again by itself: a transient
//! error is the caller's to wait for.

mod parents;
mod retry;
mod tables;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use self::parents::Early;
pub use self::retry::{Ended, Retried, RetryRequest};
use self::tables::{Attempt, Pass};
use crate::core::commit_plan::{Known, PreparedTable};
use crate::core::letter_share::LetterShare;
use crate::core::mapping::Plan;
use crate::core::marks::{LANE_OF_COMMANDS, Mark, Marking};
use crate::core::outcome::{Counts, Rejection};
use crate::messages::{Assignments, DeadLetter, OffsetMove, RowBatch};
use crate::ports::{PartitionCounts, Warehouse, WarehouseError};

/// What a committed batch came to.
#[derive(Debug, Default, PartialEq)]
pub struct Committed {
    pub counts: Vec<PartitionCounts>,
    /// Rows that were inserted or changed, by target.
    pub rows: Vec<u64>,
    /// Records that were set aside, ascending: position in the batch, and why.
    pub dead_letters: Vec<(u32, Rejection)>,
    /// Partition and next offset.
    pub offsets: Vec<(i32, i64)>,
    /// The answer to COMMIT was lost; that the batch is in was found by looking.
    pub found: bool,
}

/// A batch whose COMMIT was sent and not answered.
struct InDoubt {
    /// What the COMMIT would have made of the offsets.
    moves: Vec<OffsetMove>,
    committed: Committed,
    /// As [`WrittenBatch::outcomes`] tells.
    outcomes: (u64, u64),
}

/// Commits the batches of one lane.
pub struct Committer {
    plan: Arc<Plan>,
    known: Arc<Mutex<Known>>,
    /// The assignments that `known` was gathered under.
    generation: u64,
    /// How many lanes write at the same time.
    lanes: usize,
    /// Whose buckets are marked; none where there are no aggregates.
    markings: Arc<[Marking]>,
    /// Left by the last attempt at the present batch.
    in_doubt: Option<InDoubt>,
    /// How many of the stream's recent records were set aside; one for all lanes. `None`: any number may be.
    share: Option<Arc<Mutex<LetterShare>>>,
}

impl Committer {
    /// `known` is shared by the lanes of a stream: what one has committed no other writes again.
    pub fn new(plan: Arc<Plan>, known: Arc<Mutex<Known>>, lanes: usize) -> Self {
        Self { plan, known, generation: 0, lanes, markings: Arc::from([]), share: None, in_doubt: None }
    }

    /// Marks the buckets of the rows that it changes. `markings` are of the same plan, ascending by source.
    pub fn with_markings(mut self, markings: Arc<[Marking]>) -> Self {
        self.markings = markings;
        self
    }

    /// Refuses, for good, a batch with which too many of the stream's recent records would have been set aside.
    pub fn with_share(mut self, share: Arc<Mutex<LetterShare>>) -> Self {
        self.share = Some(share);
        self
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // What a panic may have left half remembered is a row that is written once more.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes and commits the batch, or leaves no trace of it. Partitions that are no longer held are left out.
    pub async fn commit(
        &mut self,
        warehouse: &mut dyn Warehouse,
        batch: &RowBatch,
        held: &Assignments,
        now: DateTime<Utc>,
    ) -> Result<Committed, WarehouseError> {
        let moves: Vec<OffsetMove> =
            batch.source.moves.iter().filter(|m| held.is_current(m.partition, m.epoch)).cloned().collect();
        if moves.is_empty() {
            return Ok(Committed { rows: vec![0; self.plan.targets.len()], ..Committed::default() });
        }
        if let Some(committed) = self.resolve(warehouse, &moves).await? {
            return Ok(committed);
        }
        // Another daemon may have written the parents of a partition that was away.
        if self.generation != held.generation() {
            self.generation = held.generation();
            self.known().forget();
        }
        let lane = if self.markings.is_empty() { 0 } else { held.lane_key(&moves, self.lanes) };
        let early = match self.lanes {
            0 | 1 => Early::default(),
            _ => self.write_parents(warehouse, batch, &moves, lane).await?,
        };
        warehouse.begin().await?;
        crate::failpoint!("after-begin", |what| return Err(WarehouseError::Transient { what }));
        let written = self.write_batch(warehouse, batch, &moves, early, Purpose::Commit { lane }, now).await?;
        self.judge_share(&written)?;
        crate::failpoint!("before-commit", |what| return Err(WarehouseError::Transient { what }));
        // While the rows' locks still order the lanes; what is not committed after all is forgotten.
        for (target, table) in written.tables.iter().enumerate().filter(|(t, _)| self.plan.targets[*t].dimension) {
            for prepared in &table.groups {
                self.known().remember(target, prepared, &self.plan.targets[target], &batch.source.bytes);
            }
        }
        let outcomes = written.outcomes();
        if let Err(error) = finish(warehouse).await {
            self.known().forget();
            self.in_doubt = Some(InDoubt { moves, committed: written.committed, outcomes });
            return Err(error);
        }
        self.outcomes_are_in(outcomes);
        Ok(written.committed)
    }

    /// Whether the batch, whose COMMIT was sent and not answered, is in. The offset rows tell: only this batch moves
    /// these partitions to where it ends under this epoch, and who waits for their locks waits until the transaction
    /// in doubt has ended, so that it can't commit later either.
    async fn resolve(
        &mut self,
        warehouse: &mut dyn Warehouse,
        held: &[OffsetMove],
    ) -> Result<Option<Committed>, WarehouseError> {
        let Some(InDoubt { moves, .. }) = &self.in_doubt else { return Ok(None) };
        // Of a partition that was revoked meanwhile another daemon may have taken the epoch on.
        let moved: Vec<OffsetMove> = moves
            .iter()
            .filter(|m| m.from < m.to && held.contains(m))
            .map(|m| OffsetMove { from: m.to, gaps: Vec::new(), ..m.clone() })
            .collect();
        if moved.is_empty() {
            self.in_doubt = None;
            return Ok(None);
        }
        warehouse.begin().await?;
        match warehouse.hold(&self.plan.topic, &moved).await {
            Ok(()) => {
                if warehouse.rollback().await.is_err() {
                    warehouse.abandon();
                }
                Ok(self.in_doubt.take().map(|doubt| {
                    self.outcomes_are_in(doubt.outcomes);
                    Committed { found: true, ..doubt.committed }
                }))
            }
            // It is not in; or the partition is another's, which the batch's own attempt finds out.
            Err(WarehouseError::Fenced { .. }) => {
                self.in_doubt = None;
                warehouse.abandon();
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The same in a transaction that is rolled back: what would have been.
    pub async fn rehearse(
        &mut self,
        warehouse: &mut dyn Warehouse,
        batch: &RowBatch,
        now: DateTime<Utc>,
    ) -> Result<Rehearsed, WarehouseError> {
        warehouse.begin().await?;
        let written = self.write_batch(warehouse, batch, &[], Early::default(), Purpose::Rehearse, now).await?;
        warehouse.rollback().await?;
        Ok(Rehearsed { committed: written.committed, letters: written.letters })
    }

    fn outcomes_are_in(&self, (records, letters): (u64, u64)) {
        if let Some(share) = &self.share {
            share.lock().unwrap_or_else(PoisonError::into_inner).committed(records, letters);
        }
    }

    fn judge_share(&self, written: &WrittenBatch) -> Result<(), WarehouseError> {
        let Some(share) = &self.share else { return Ok(()) };
        let (records, letters) = written.outcomes();
        let exceeded = share.lock().unwrap_or_else(PoisonError::into_inner).exceeded_with(records, letters);
        let (Some(exceeded), Some(first)) = (exceeded, written.letters.first()) else { return Ok(()) };
        let field = first.rejection.field.as_ref().map(|field| format!(" in {field}")).unwrap_or_default();
        Err(WarehouseError::Fatal {
            what: format!(
                "{exceeded}; the last batch was not stored and nothing more is consumed. The first of its {letters} \
                 is partition {}, offset {}: {}{field}: {}. Mend the mapping, the table or the producer, or raise \
                 max_dead_letter_share in [[stream]] (1.0 never stops), then start bief again: it goes on where it \
                 stopped; `bief run --dry-run 100` shows what would be set aside",
                first.partition, first.offset, first.rejection.reason, first.rejection.message
            ),
        })
    }

    async fn write_batch(
        &mut self,
        warehouse: &mut dyn Warehouse,
        batch: &RowBatch,
        moves: &[OffsetMove],
        early: Early,
        purpose: Purpose,
        now: DateTime<Utc>,
    ) -> Result<WrittenBatch, WarehouseError> {
        if let Purpose::Commit { .. } = purpose {
            warehouse.advance(&self.plan.topic, moves).await?;
            crate::failpoint!("after-advance", |what| return Err(WarehouseError::Transient { what }));
        }
        let mut excluded = not_held(batch, moves);
        let mut rejections: Vec<(u32, Rejection)> = Vec::new();
        set_aside(batch.rejected.iter().cloned(), &mut excluded, &mut rejections);
        warehouse.savepoint().await?;
        let (mut trusting, mut attempts) = (true, 0);
        let mut apart = vec![false; batch.source.records.len()];
        let (tables, changed, rows, dirty) = loop {
            attempts += 1;
            let pass = Pass { excluded: &excluded, apart: &apart, trusting, attempts };
            match self.write_tables(warehouse, batch, &early, &pass).await? {
                Attempt::Whole { tables, changed, rows, dirty, refused } => {
                    set_aside(refused, &mut excluded, &mut rejections);
                    break (tables, changed, rows, dirty);
                }
                Attempt::Stale => {
                    warehouse.rollback_rows().await?;
                    trusting = false;
                }
                Attempt::Refused { refused, doubtful } => {
                    warehouse.rollback_rows().await?;
                    doubtful.into_iter().for_each(|record| apart[record as usize] = true);
                    set_aside(refused, &mut excluded, &mut rejections);
                }
            }
        };
        crate::failpoint!("after-rows", |what| return Err(WarehouseError::Transient { what }));
        rejections.sort_by_key(|(record, _)| *record);
        let letters: Vec<DeadLetter> = rejections.iter().map(|(index, why)| self.letter(batch, *index, why)).collect();
        if !letters.is_empty() && purpose != Purpose::Retry {
            crate::failpoint!("set-aside", |what| return Err(WarehouseError::Transient { what }));
            warehouse.set_aside(&letters, now).await?;
        }
        match purpose {
            Purpose::Commit { lane } => mark(warehouse, lane, &dirty.into_marks(&self.markings)).await?,
            Purpose::Retry => mark(warehouse, LANE_OF_COMMANDS, &dirty.into_marks(&self.markings)).await?,
            // Others would wait for marks that nobody is to see.
            Purpose::Rehearse => {}
        }
        let counts = self.tally(batch, moves, &excluded, &rejections, &changed);
        if let Purpose::Commit { .. } = purpose {
            warehouse.count(&self.plan.topic, &counts, now).await?;
        }
        Ok(WrittenBatch {
            tables,
            committed: Committed {
                counts,
                rows,
                dead_letters: rejections,
                offsets: moves.iter().map(|m| (m.partition, m.to)).collect(),
                found: false,
            },
            letters,
        })
    }

    fn letter(&self, batch: &RowBatch, index: u32, rejection: &Rejection) -> DeadLetter {
        let record = &batch.source.records[index as usize];
        let bytes = &batch.source.bytes;
        DeadLetter {
            topic: Arc::clone(&self.plan.topic),
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(|span| span.of(bytes).to_vec()),
            payload: record.payload.map(|span| span.of(bytes).to_vec()),
            rejection: rejection.clone(),
        }
    }

    fn tally(
        &self,
        batch: &RowBatch,
        moves: &[OffsetMove],
        excluded: &[bool],
        rejections: &[(u32, Rejection)],
        changed: &[bool],
    ) -> Vec<PartitionCounts> {
        let records = &batch.source.records;
        let mut counts: Vec<PartitionCounts> = match moves {
            [] => {
                let mut partitions: Vec<i32> = records.iter().map(|r| r.partition).collect();
                partitions.sort_unstable();
                partitions.dedup();
                partitions
                    .into_iter()
                    .map(|partition| PartitionCounts { partition, counts: Counts::default() })
                    .collect()
            }
            _ => moves
                .iter()
                .map(|m| PartitionCounts {
                    partition: m.partition,
                    counts: Counts { gaps: m.gap_count(), ..Counts::default() },
                })
                .collect(),
        };
        let mut of = |partition: i32, add: &dyn Fn(&mut Counts)| {
            if let Ok(at) = counts.binary_search_by_key(&partition, |c| c.partition) {
                add(&mut counts[at].counts);
            }
        };
        for (index, record) in records.iter().enumerate().filter(|(index, _)| !excluded[*index]) {
            match changed[index] {
                true => of(record.partition, &|c| c.applied += 1),
                false => of(record.partition, &|c| c.duplicates += 1),
            }
        }
        for (index, _) in rejections {
            of(records[*index as usize].partition, &|c| c.dead_letters += 1);
        }
        counts
    }
}

/// Marks are made last and left out where there are none, so that without aggregates nothing is asked of the database.
async fn mark(warehouse: &mut dyn Warehouse, lane: i32, marks: &[Mark]) -> Result<(), WarehouseError> {
    if marks.is_empty() {
        return Ok(());
    }
    crate::failpoint!("mark", |what| return Err(WarehouseError::Transient { what }));
    warehouse.mark(lane, marks).await
}

/// COMMIT; after an error it is not known whether the transaction is in.
async fn finish(warehouse: &mut dyn Warehouse) -> Result<(), WarehouseError> {
    warehouse.commit().await?;
    crate::failpoint!("after-commit", |what| return Err(WarehouseError::Transient { what }));
    Ok(())
}

/// Takes these records out of the batch; the first reason stays.
fn set_aside(
    records: impl IntoIterator<Item = (u32, Rejection)>,
    excluded: &mut [bool],
    rejections: &mut Vec<(u32, Rejection)>,
) {
    for (record, rejection) in records {
        if !std::mem::replace(&mut excluded[record as usize], true) {
            rejections.push((record, rejection));
        }
    }
}

/// By record: its partition is not ours any more. Nothing is left out where no offset is moved.
fn not_held(batch: &RowBatch, moves: &[OffsetMove]) -> Vec<bool> {
    let gone = |partition: i32| !moves.is_empty() && !moves.iter().any(|m| m.partition == partition);
    batch.source.records.iter().map(|r| gone(r.partition)).collect()
}

/// What a batch would have done.
#[derive(Debug, Default)]
pub struct Rehearsed {
    pub committed: Committed,
    pub letters: Vec<DeadLetter>,
}

/// What a batch is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Its offsets move, letters are stored, outcomes counted. Its buckets are marked under this lane.
    Commit { lane: i32 },
    /// Letters are stored, to see that they can be; all of it is rolled back.
    Rehearse,
    /// Its records are letters already: those that are refused again stay, and the caller moves the counts.
    Retry,
}

struct WrittenBatch {
    tables: Vec<PreparedTable>,
    committed: Committed,
    letters: Vec<DeadLetter>,
}

impl WrittenBatch {
    /// Records that have an outcome, and how many of them were set aside.
    fn outcomes(&self) -> (u64, u64) {
        let counted = self.committed.counts.iter().fold(Counts::default(), |sum, c| sum.plus(c.counts));
        let records = counted.total() - counted.gaps;
        (records.max(0) as u64, counted.dead_letters.max(0) as u64)
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
