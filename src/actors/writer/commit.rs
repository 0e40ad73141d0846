//! One batch, one transaction: offsets first, rows parents first, dead letters, counters. The steps that the
//! writer repeats until a batch is in, over the warehouse's port. Never tries again by itself: a transient
//! error is the caller's to wait for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use crate::core::commit_plan::{self, Known, PreparedTable};
use crate::core::mapping::Plan;
use crate::core::outcome::{Counts, Reason, Rejection};
use crate::messages::{Assignments, DeadLetter, OffsetMove, RowBatch};
use crate::ports::{PartitionCounts, Warehouse, WarehouseError, Written};

/// What a committed batch came to.
#[derive(Debug, Default, PartialEq)]
pub struct Committed {
    pub counts: Vec<PartitionCounts>,
    /// Rows that were inserted or changed, by target.
    pub rows: Vec<u64>,
    pub dead_letters: Vec<Reason>,
    /// Partition and next offset.
    pub offsets: Vec<(i32, i64)>,
}

/// Commits the batches of one lane.
pub struct Committer {
    plan: Arc<Plan>,
    known: Arc<Mutex<Known>>,
    /// The assignments that `known` was gathered under.
    generation: u64,
}

/// How often a batch's joined rows may be refused for their last records before each record's row is written apart.
const BLAMED_JOINED: u32 = 24;

impl Committer {
    /// `known` is shared by the lanes of a stream: what one has committed no other writes again.
    pub fn new(plan: Arc<Plan>, known: Arc<Mutex<Known>>) -> Self {
        Self { plan, known, generation: 0 }
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
        // Another daemon may have written the parents of a partition that was away.
        if self.generation != held.generation() {
            self.generation = held.generation();
            self.known().forget();
        }
        warehouse.begin().await?;
        crate::failpoint!("after-begin", WarehouseError::Transient { what: "failpoint after-begin".to_owned() });
        let written = self.write_batch(warehouse, batch, &moves, now).await?;
        crate::failpoint!("before-commit", WarehouseError::Transient { what: "failpoint before-commit".to_owned() });
        // While the rows' locks still order the lanes; what is not committed after all is forgotten.
        for (target, table) in written.tables.iter().enumerate().filter(|(t, _)| self.plan.targets[*t].dimension) {
            for prepared in &table.groups {
                self.known().remember(target, prepared, &self.plan.targets[target], &batch.source.bytes);
            }
        }
        if let Err(error) = warehouse.commit().await {
            self.known().forget();
            return Err(error);
        }
        crate::failpoint!("after-commit", WarehouseError::Transient { what: "failpoint after-commit".to_owned() });
        Ok(written.committed)
    }

    /// The same in a transaction that is rolled back: what would have been.
    pub async fn rehearse(
        &mut self,
        warehouse: &mut dyn Warehouse,
        batch: &RowBatch,
        now: DateTime<Utc>,
    ) -> Result<Rehearsed, WarehouseError> {
        warehouse.begin().await?;
        let written = self.write_batch(warehouse, batch, &[], now).await?;
        warehouse.rollback().await?;
        Ok(Rehearsed { committed: written.committed, letters: written.letters })
    }

    async fn write_batch(
        &mut self,
        warehouse: &mut dyn Warehouse,
        batch: &RowBatch,
        moves: &[OffsetMove],
        now: DateTime<Utc>,
    ) -> Result<WrittenBatch, WarehouseError> {
        let rehearsal = moves.is_empty();
        if !rehearsal {
            warehouse.advance(&self.plan.topic, moves).await?;
            crate::failpoint!(
                "after-advance",
                WarehouseError::Transient { what: "failpoint after-advance".to_owned() }
            );
        }
        let records = &batch.source.records;
        let mut excluded: Vec<bool> = match rehearsal {
            true => vec![false; records.len()],
            false => records.iter().map(|r| !moves.iter().any(|m| m.partition == r.partition)).collect(),
        };
        let mut rejections: Vec<(u32, Rejection)> = Vec::new();
        for (index, rejection) in &batch.rejected {
            if !std::mem::replace(&mut excluded[*index as usize], true) {
                rejections.push((*index, rejection.clone()));
            }
        }
        warehouse.savepoint().await?;
        let (mut trusting, mut attempts) = (true, 0);
        let mut apart = vec![false; records.len()];
        let (tables, changed, rows) = loop {
            attempts += 1;
            match self.write_tables(warehouse, batch, &excluded, &apart, trusting, attempts).await? {
                Attempt::Whole { tables, changed, rows } => break (tables, changed, rows),
                Attempt::Stale => {
                    warehouse.rollback_rows().await?;
                    trusting = false;
                }
                Attempt::Refused { refused, doubtful } => {
                    warehouse.rollback_rows().await?;
                    doubtful.into_iter().for_each(|record| apart[record as usize] = true);
                    for (record, rejection) in refused {
                        if !std::mem::replace(&mut excluded[record as usize], true) {
                            rejections.push((record, rejection));
                        }
                    }
                }
            }
        };
        crate::failpoint!("after-rows", WarehouseError::Transient { what: "failpoint after-rows".to_owned() });
        rejections.sort_by_key(|(record, _)| *record);
        let letters: Vec<DeadLetter> = rejections.iter().map(|(index, why)| self.letter(batch, *index, why)).collect();
        if !letters.is_empty() {
            warehouse.set_aside(&letters, now).await?;
        }
        let counts = self.tally(batch, moves, &excluded, &rejections, &changed);
        if !rehearsal {
            warehouse.count(&self.plan.topic, &counts, now).await?;
        }
        Ok(WrittenBatch {
            tables,
            committed: Committed {
                counts,
                rows,
                dead_letters: rejections.iter().map(|(_, r)| r.reason).collect(),
                offsets: moves.iter().map(|m| (m.partition, m.to)).collect(),
            },
            letters,
        })
    }

    async fn write_tables(
        &mut self,
        warehouse: &mut dyn Warehouse,
        batch: &RowBatch,
        excluded: &[bool],
        apart: &[bool],
        trusting: bool,
        attempts: u32,
    ) -> Result<Attempt, WarehouseError> {
        let plan = Arc::clone(&self.plan);
        let arena = &batch.source.bytes;
        let mut changed = vec![false; batch.source.records.len()];
        let mut tables: Vec<PreparedTable> = Vec::with_capacity(plan.targets.len());
        let mut rows = vec![0; plan.targets.len()];
        for (index, target) in plan.targets.iter().enumerate() {
            let made = &batch.tables[index];
            let table = if target.dimension && trusting {
                commit_plan::prepare(index, target, made, arena, excluded, apart, Some(&mut self.known()))
            } else {
                commit_plan::prepare(index, target, made, arena, excluded, apart, None)
            };
            let (mut blamed, mut doubtful) = (Vec::new(), Vec::new());
            for prepared in &table.groups {
                let Written { unchanged, refused } = warehouse.write(prepared.rows(target, arena)).await?;
                if !refused.is_empty() {
                    // A parent that was remembered may have been deleted by hand: believe the refusal only
                    // once everything was written.
                    let foreign = refused.iter().any(|r| r.rejection.reason == Reason::ForeignKey);
                    if foreign && tables.iter().any(|t| t.left_out) {
                        return Ok(Attempt::Stale);
                    }
                    // A row is refused for the values of one record; the others of its key get their turn. Where
                    // it can't be told which record's, each is written apart.
                    let alone = prepared.rows(target, arena).len() == 1 && !prepared.is_joined(0);
                    for refusal in refused {
                        match prepared.author_of(refusal.row, target.on_conflict) {
                            Some(author) if attempts < BLAMED_JOINED || !prepared.is_joined(refusal.row) => {
                                blamed.push((author, refusal.rejection));
                            }
                            _ => doubtful.extend(prepared.records_of(refusal.row)),
                        }
                    }
                    if alone {
                        // One row that was refused left nothing: the next of its key is tried without it.
                        continue;
                    }
                    return Ok(Attempt::Refused { refused: blamed, doubtful });
                }
                rows[index] += (prepared.rows(target, arena).len() - unchanged.len()) as u64;
                commit_plan::mark_changed(target.on_conflict, prepared, &unchanged, &mut changed);
            }
            if !blamed.is_empty() {
                return Ok(Attempt::Refused { refused: blamed, doubtful });
            }
            tables.push(table);
        }
        Ok(Attempt::Whole { tables, changed, rows })
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

/// What a batch would have done.
#[derive(Debug, Default)]
pub struct Rehearsed {
    pub committed: Committed,
    pub letters: Vec<DeadLetter>,
}

struct WrittenBatch {
    tables: Vec<PreparedTable>,
    committed: Committed,
    letters: Vec<DeadLetter>,
}

enum Attempt {
    Whole {
        tables: Vec<PreparedTable>,
        changed: Vec<bool>,
        rows: Vec<u64>,
    },
    /// A row points at nothing, and parents were left out because they were remembered.
    Stale,
    Refused {
        /// Records that can't be written.
        refused: Vec<(u32, Rejection)>,
        /// Records of which at least one can't be written.
        doubtful: Vec<u32>,
    },
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
