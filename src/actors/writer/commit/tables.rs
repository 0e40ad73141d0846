//! One attempt at a batch's rows: table by table, parents first, and whose fault a row is that the database refuses.
//! Must never take back what it wrote: the caller goes back to the savepoint, and tries again with what was found.

use std::collections::HashMap;
use std::sync::Arc;

use super::Committer;
use super::parents::Early;
use crate::core::commit_plan::{self, Prepared, PreparedTable};
use crate::core::marks::{DirtyBuckets, Marking};
use crate::core::outcome::{Reason, Rejection};
use crate::core::target::{LEANING_PASSES, Target};
use crate::messages::RowBatch;
use crate::ports::{Refusal, Warehouse, WarehouseError, Written};

/// How often a batch's joined rows may be refused for their last records before each record's row is written apart.
const BLAMED_JOINED: u32 = 24;

/// What an attempt begins with.
pub(super) struct Pass<'p> {
    /// By record: it was set aside, or is not ours.
    pub excluded: &'p [bool],
    /// By record: its rows are not joined with others of their keys.
    pub apart: &'p [bool],
    /// Remembered parents are left out.
    pub trusting: bool,
    /// From 1.
    pub attempts: u32,
}

/// What an attempt came to.
pub(super) enum Attempt {
    Whole {
        tables: Vec<PreparedTable>,
        changed: Vec<bool>,
        rows: Vec<u64>,
        /// Records that can't be written and left nothing behind.
        refused: Vec<(u32, Rejection)>,
        dirty: DirtyBuckets,
    },
    /// A row points at nothing, and parents were left out because they were remembered.
    Stale,
    Refused {
        /// Records that can't be written.
        refused: Vec<(u32, Rejection)>,
        /// Records of which at least one can't be written, or not in this order: each is to be written apart.
        doubtful: Vec<u32>,
    },
}

impl Committer {
    pub(super) async fn write_tables(
        &mut self,
        warehouse: &mut dyn Warehouse,
        batch: &RowBatch,
        early: &Early,
        pass: &Pass<'_>,
    ) -> Result<Attempt, WarehouseError> {
        let plan = Arc::clone(&self.plan);
        let arena = &batch.source.bytes;
        let mut writing = Writing {
            arena,
            pass,
            markings: Arc::clone(&self.markings),
            excluded: pass.excluded.to_vec(),
            found: Vec::new(),
            changed: early.changed.clone(),
            rows: early.rows.clone(),
            dirty: DirtyBuckets::default(),
            tables: Vec::with_capacity(plan.targets.len()),
        };
        writing.changed.resize(batch.source.records.len(), false);
        writing.rows.resize(plan.targets.len(), 0);
        for (index, target) in plan.targets.iter().enumerate() {
            let (made, excluded) = (&batch.tables[index], &writing.excluded);
            let table = if target.dimension && pass.trusting && early.parents && pass.attempts == 1 {
                PreparedTable { groups: Vec::new(), left_out: true }
            } else if target.dimension && pass.trusting {
                commit_plan::prepare(index, target, made, arena, excluded, pass.apart, Some(&mut self.known()))
            } else {
                commit_plan::prepare(index, target, made, arena, excluded, pass.apart, None)
            };
            if let Some(ended) = writing.write_table(warehouse, index, target, &table).await? {
                return Ok(ended);
            }
            writing.tables.push(table);
        }
        let Writing { found, changed, rows, dirty, tables, .. } = writing;
        Ok(Attempt::Whole { tables, changed, rows, refused: found, dirty })
    }
}

/// What an attempt has written so far.
struct Writing<'w> {
    arena: &'w [u8],
    pass: &'w Pass<'w>,
    markings: Arc<[Marking]>,
    excluded: Vec<bool>,
    /// Set aside while what else was written stands.
    found: Vec<(u32, Rejection)>,
    changed: Vec<bool>,
    rows: Vec<u64>,
    dirty: DirtyBuckets,
    tables: Vec<PreparedTable>,
}

/// Rows of records apart that have one key, in the order of the records: the first was refused.
struct Waiting {
    groups: Vec<usize>,
    refused: Vec<Refusal>,
}

impl Writing<'_> {
    /// Answers how the attempt ends where the table's rows are not all in.
    async fn write_table(
        &mut self,
        warehouse: &mut dyn Warehouse,
        index: usize,
        target: &Target,
        table: &PreparedTable,
    ) -> Result<Option<Attempt>, WarehouseError> {
        let mut blame = Blame::default();
        let mut turns: Vec<Vec<usize>> = (0..table.groups.len()).map(|at| vec![at]).collect();
        for pass in 1.. {
            let (mut waiting, mut went_in): (Vec<Waiting>, bool) = (Vec::new(), false);
            let mut waits: HashMap<&[u8], usize> = HashMap::new();
            for at in turns.into_iter().flatten() {
                let prepared = &table.groups[at];
                if let Some(wait) = prepared.apart_key().and_then(|key| waits.get(key)) {
                    waiting[*wait].groups.push(at);
                    continue;
                }
                let rows = prepared.rows(target, self.arena);
                let Written { unchanged, mut refused, others_in } = warehouse.write(rows).await?;
                // Rows that are as they were.
                let mut kept = unchanged.clone();
                if !refused.is_empty() {
                    // A parent that was remembered may have been deleted by hand: believe the refusal only
                    // once everything was written.
                    let foreign = refused.iter().any(|r| r.rejection.reason == Reason::ForeignKey);
                    if foreign && self.tables.iter().any(|t| t.left_out) {
                        return Ok(Some(Attempt::Stale));
                    }
                    // What it was refused for may be in a group that comes later, or be refused for the last record of its
                    // key.
                    if table.groups.len() > 1 || refused.iter().any(|refusal| prepared.is_joined(refusal.row)) {
                        let leaning = refused.iter().filter(|refusal| leans(target, refusal.rejection.reason));
                        let joined = leaning.flat_map(|refusal| prepared.records_of(refusal.row));
                        let doubtful: Vec<u32> = joined.filter(|record| !self.pass.apart[*record as usize]).collect();
                        if !doubtful.is_empty() {
                            blame.doubtful.extend(doubtful);
                            return Ok(Some(blame.ends(&mut self.found)));
                        }
                        if let Some(key) = prepared.apart_key()
                            && refused.iter().all(|refusal| leans(target, refusal.rejection.reason))
                        {
                            waits.insert(key, waiting.len());
                            waiting.push(Waiting { groups: vec![at], refused });
                            continue;
                        }
                    }
                    // What else this call wrote can stand if the refused records have left no other row.
                    if others_in
                        && !target.dimension
                        && let others = self.tables.iter().flat_map(|t| &t.groups).chain(others_of(&table.groups, at))
                        && let Some(records) = prepared.sole_authors(refused.iter().map(|r| r.row), others)
                    {
                        for (record, refusal) in records.into_iter().zip(refused) {
                            kept.push(refusal.row);
                            self.excluded[record as usize] = true;
                            self.found.push((record, refusal.rejection));
                        }
                        kept.sort_unstable();
                        refused = Vec::new();
                    }
                }
                if !refused.is_empty() {
                    let alone = prepared.rows(target, self.arena).len() == 1 && !prepared.is_joined(0);
                    blame.refused(prepared, target, refused, self.pass.attempts);
                    if alone {
                        // One row that was refused left nothing: the next of its key is tried without it.
                        continue;
                    }
                    return Ok(Some(blame.ends(&mut self.found)));
                }
                went_in = true;
                self.rows[index] += (prepared.rows(target, self.arena).len() - kept.len()) as u64;
                self.dirty.add(&self.markings, index, &prepared.rows(target, self.arena), &kept);
                commit_plan::mark_changed(target.on_conflict, prepared, &unchanged, &mut self.changed);
            }
            if went_in && pass <= LEANING_PASSES {
                // The other way round, so that a chain of rows goes in within two passes.
                turns = waiting.into_iter().rev().map(|wait| wait.groups).collect();
            } else {
                // All that came before the first of them is in. Without it the next of its key may go in, and with that
                // another.
                waiting.sort_unstable_by_key(|wait| wait.groups[0]);
                let mut waiting = waiting.into_iter();
                turns = Vec::new();
                for Waiting { mut groups, refused } in waiting.by_ref() {
                    blame.refused(&table.groups[groups.remove(0)], target, refused, self.pass.attempts);
                    if !groups.is_empty() {
                        turns.push(groups);
                        break;
                    }
                }
                turns.extend(waiting.map(|wait| wait.groups));
            }
            if turns.is_empty() {
                break;
            }
        }
        Ok((!blame.is_empty()).then(|| blame.ends(&mut self.found)))
    }
}

/// Whether a row that was refused for this may go in once another row of its table is there, or has given something up.
fn leans(target: &Target, reason: Reason) -> bool {
    match reason {
        Reason::UniqueKey => true,
        Reason::ForeignKey => target.table.points_at_itself(),
        _ => false,
    }
}

fn others_of(groups: &[Prepared], at: usize) -> impl Iterator<Item = &Prepared> {
    groups[..at].iter().chain(&groups[at + 1..])
}

/// Whose fault the refused rows of a table are.
#[derive(Default)]
struct Blame {
    blamed: Vec<(u32, Rejection)>,
    doubtful: Vec<u32>,
}

impl Blame {
    /// A row is refused for the values of one record; the others of its key get their turn. Where it can't be told
    /// which record's, each is written apart.
    fn refused(&mut self, prepared: &Prepared, target: &Target, refused: Vec<Refusal>, attempts: u32) {
        for refusal in refused {
            match prepared.author_of(refusal.row, target.on_conflict) {
                Some(author) if attempts < BLAMED_JOINED || !prepared.is_joined(refusal.row) => {
                    self.blamed.push((author, refusal.rejection));
                }
                _ => self.doubtful.extend(prepared.records_of(refusal.row)),
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.blamed.is_empty() && self.doubtful.is_empty()
    }

    fn ends(self, found: &mut Vec<(u32, Rejection)>) -> Attempt {
        let mut refused = std::mem::take(found);
        refused.extend(self.blamed);
        Attempt::Refused { refused, doubtful: self.doubtful }
    }
}
