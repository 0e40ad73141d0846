//! Parents that are not known to be committed, in a short transaction before their batch's, where lanes write in
//! parallel. A parent that the database refuses is left to the batch's transaction.

use std::sync::Arc;

use super::{Committer, mark, not_held};
use crate::core::commit_plan;
use crate::core::marks::DirtyBuckets;
use crate::messages::{OffsetMove, RowBatch};
use crate::ports::{Warehouse, WarehouseError, Written};

/// What was written of a batch before its own transaction.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// The database has all rows of the dimension tables.
    pub parents: bool,
    /// By record: it changed a row.
    pub changed: Vec<bool>,
    /// By target.
    pub rows: Vec<u64>,
}

impl Committer {
    /// New rows of the dimension tables in a short transaction of their own, fenced like the batch's. Lanes meet the
    /// same new parents at the same time; within the batch's transaction each would wait for the other's whole batch.
    /// A parent that the database refuses is left to the batch's transaction, which finds whose fault it is.
    pub(super) async fn write_parents(
        &mut self,
        warehouse: &mut dyn Warehouse,
        batch: &RowBatch,
        moves: &[OffsetMove],
        lane: i32,
    ) -> Result<Early, WarehouseError> {
        let plan = Arc::clone(&self.plan);
        let arena = &batch.source.bytes;
        let mut excluded = not_held(batch, moves);
        batch.rejected.iter().for_each(|(index, _)| excluded[*index as usize] = true);
        let mut tables = Vec::new();
        for (index, target) in plan.targets.iter().enumerate().filter(|(_, t)| t.dimension) {
            let rows = &batch.tables[index];
            let joined = vec![false; excluded.len()];
            let table = commit_plan::prepare(index, target, rows, arena, &excluded, &joined, Some(&mut self.known()));
            if !table.groups.is_empty() {
                tables.push((index, table));
            }
        }
        let mut early = Early { parents: true, ..Early::default() };
        if tables.is_empty() {
            return Ok(early);
        }
        early.changed = vec![false; batch.source.records.len()];
        early.rows = vec![0; plan.targets.len()];
        let mut dirty = DirtyBuckets::default();
        warehouse.begin().await?;
        warehouse.hold(&plan.topic, moves).await?;
        crate::failpoint!("after-hold", |what| return Err(WarehouseError::Transient { what }));
        for (index, table) in &tables {
            let target = &plan.targets[*index];
            for prepared in &table.groups {
                let rows = prepared.rows(target, arena);
                let Written { unchanged, refused, .. } = warehouse.write(rows).await?;
                if !refused.is_empty() {
                    warehouse.rollback().await?;
                    return Ok(Early::default());
                }
                early.rows[*index] += (rows.len() - unchanged.len()) as u64;
                dirty.add(&self.markings, *index, &rows, &unchanged);
                commit_plan::mark_changed(target.on_conflict, prepared, &unchanged, &mut early.changed);
            }
        }
        mark(warehouse, lane, &dirty.into_marks(&self.markings)).await?;
        // While the rows' locks still order the lanes; what is not committed after all is forgotten.
        for (index, table) in &tables {
            for prepared in &table.groups {
                self.known().remember(*index, prepared, &plan.targets[*index], arena);
            }
        }
        if let Err(error) = warehouse.commit().await {
            self.known().forget();
            return Err(error);
        }
        crate::failpoint!("after-parents", |what| return Err(WarehouseError::Transient { what }));
        Ok(early)
    }
}
