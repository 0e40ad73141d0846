//! Writes rows of one table: straight where all are new, else asking first what is there; rows that SQLite refuses
//! are found by asking for missing parents and by halving. Must never leave a refusal without its row.

use std::collections::HashSet;

use sea_orm::sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sea_orm::sqlx::{self, AssertSqlSafe};

use super::cells;
use super::shape::{Kind, Shape};
use crate::adapters::parts::powers_of_two;
use crate::adapters::sql_errors::{Class, sqlite_class, sqlite_code, warehouse_error};
use crate::core::cell::Cell;
use crate::core::outcome::{Reason, Rejection};
use crate::core::target::{LEANING_PASSES, Rows};
use crate::ports::{Refusal, WarehouseError, Written};

/// `SQLITE_CONSTRAINT_FOREIGNKEY`
const FOREIGN_KEY: i32 = 787;

/// What a statement over several rows came to.
enum Attempt {
    Done,
    /// At least one of its rows is refused and none was written.
    Refused {
        code: i32,
        words: String,
    },
}

/// One call of `write` under way.
pub struct RowWriter<'a> {
    pub connection: &'a mut SqliteConnection,
    pub shape: &'a mut Shape,
    pub rows: Rows<'a>,
    /// Rows of this table met rows that were there last time: then asking first is cheaper than failing first.
    pub meets_existing: &'a mut bool,
    written: Written,
    /// Rows that were refused alone for what other rows hold: one that goes in later may be what they lack.
    leaning: Vec<usize>,
}

impl<'a> RowWriter<'a> {
    pub fn new(
        connection: &'a mut SqliteConnection,
        shape: &'a mut Shape,
        rows: Rows<'a>,
        meets_existing: &'a mut bool,
    ) -> Self {
        Self { connection, shape, rows, meets_existing, written: Written::default(), leaning: Vec::new() }
    }

    /// Writes all rows, or tells which can't be.
    pub async fn write(mut self) -> Result<Written, WarehouseError> {
        self.refuse_faults();
        if !self.written.refused.is_empty() {
            return Ok(self.written);
        }
        for block in blocks((0..self.rows.len()).collect(), self.shape.max_block()) {
            if !*self.meets_existing && matches!(self.attempt(Kind::Insert, &block).await?, Attempt::Done) {
                continue;
            }
            let changed = self.leave_unchanged(block).await?;
            self.settle(changed).await?;
        }
        self.settle_leaning().await?;
        self.written.refused.sort_by_key(|r| r.row);
        self.written.unchanged.sort_unstable();
        Ok(self.written)
    }

    fn refuse_faults(&mut self) {
        let rows = self.rows;
        for (row, row_cells) in rows.iter().enumerate() {
            for (column, cell) in row_cells.iter().enumerate() {
                if let Some((reason, what)) = cells::fault(cell, rows.arena) {
                    let name = self.shape.columns[column].clone();
                    let message = format!("{name} = {}: {what}", cells::text(cell, rows.arena));
                    self.refuse(row, reason, Some(name), message);
                    break;
                }
            }
        }
    }

    /// Notes rows of the block that need no writing; answers the others.
    async fn leave_unchanged(&mut self, block: Vec<usize>) -> Result<Vec<usize>, WarehouseError> {
        if self.shape.key.is_empty() {
            return Ok(block);
        }
        let (there, unchanged) = self.ask(Kind::Ask, &block).await?;
        *self.meets_existing = there > 0;
        let mut left = vec![true; block.len()];
        for n in unchanged {
            if std::mem::replace(&mut left[n], false) {
                self.written.unchanged.push(block[n]);
            }
        }
        Ok(block.into_iter().zip(left).filter_map(|(row, left)| left.then_some(row)).collect())
    }

    /// Writes the rows, halving where SQLite refuses until the refused ones are alone.
    async fn settle(&mut self, rows: Vec<usize>) -> Result<(), WarehouseError> {
        let max = self.shape.max_block();
        let mut open: Vec<Vec<usize>> = blocks(rows, max).rev().collect();
        while let Some(block) = open.pop() {
            let Attempt::Refused { code, words } = self.attempt(Kind::Write, &block).await? else { continue };
            if code == FOREIGN_KEY {
                let rest = self.refuse_orphans(&block, false).await?;
                if rest.len() < block.len() {
                    open.extend(blocks(rest, max).rev());
                    continue;
                }
            }
            if let [row] = block[..] {
                let (reason, field, message) = self.blame(row, code, &words);
                match reason {
                    Reason::UniqueKey | Reason::ForeignKey => self.leaning.push(row),
                    _ => self.refuse(row, reason, field, message),
                }
                continue;
            }
            let (left, right) = block.split_at(block.len() / 2);
            open.push(right.to_vec());
            open.push(left.to_vec());
        }
        Ok(())
    }

    /// Tries the rows that lean on others as long as one of them goes in, and refuses the rest.
    async fn settle_leaning(&mut self) -> Result<(), WarehouseError> {
        let mut passes = 0;
        while !self.leaning.is_empty() {
            passes += 1;
            let mut refused = Vec::new();
            let mut leaning = std::mem::take(&mut self.leaning);
            // A chain of rows goes in at once in one of the two directions.
            leaning.reverse();
            for &row in &leaning {
                if let Attempt::Refused { code, words } = self.attempt(Kind::Write, &[row]).await? {
                    refused.push((row, code, words));
                }
            }
            if refused.len() < leaning.len() && passes < LEANING_PASSES {
                self.leaning = refused.into_iter().map(|(row, ..)| row).collect();
                continue;
            }
            let mut rest = HashSet::new();
            for block in blocks(refused.iter().map(|(row, ..)| *row).collect(), self.shape.max_block()) {
                rest.extend(self.refuse_orphans(&block, true).await?);
            }
            for (row, code, words) in refused.into_iter().filter(|(row, ..)| rest.contains(row)) {
                let (reason, field, message) = self.blame(row, code, &words);
                self.refuse(row, reason, field, message);
            }
        }
        Ok(())
    }

    /// Refuses the rows of the block that point at no parent; answers the others. A parent of their own table may come
    /// later: such are asked for where all is in that can go in.
    async fn refuse_orphans(&mut self, block: &[usize], own_table: bool) -> Result<Vec<usize>, WarehouseError> {
        let mut left = vec![true; block.len()];
        for parent in 0..self.shape.parents.len() {
            if self.shape.parents[parent].is_own_table && !own_table {
                continue;
            }
            let (_, mut orphans) = self.ask(Kind::Orphans(parent), block).await?;
            orphans.sort_unstable();
            for n in orphans {
                let key = &self.shape.parents[parent];
                if !std::mem::replace(&mut left[n], false) {
                    continue;
                }
                let row = self.rows.row(block[n]);
                let values = named_values(&key.parent_columns, key.cells.iter().map(|&c| &row[c]), self.rows.arena);
                let field = key.columns.first().cloned();
                let message = format!(
                    "no row of {} has {values} ({} of {})",
                    key.parent,
                    key.columns.join(", "),
                    self.shape.table
                );
                self.refuse(block[n], Reason::ForeignKey, field, message);
            }
        }
        Ok(block.iter().zip(left).filter_map(|(&row, left)| left.then_some(row)).collect())
    }

    fn refuse(&mut self, row: usize, reason: Reason, field: Option<String>, message: String) {
        self.written.refused.push(Refusal { row, rejection: Rejection { reason, field, message } });
    }

    /// Reason, field and message for a row that was refused alone.
    fn blame(&self, row: usize, code: i32, words: &str) -> (Reason, Option<String>, String) {
        let table = &self.shape.table;
        let after = words.split_once(": ").map_or(words, |(_, after)| after);
        let columns: Vec<&str> =
            after.split(", ").filter_map(|c| c.strip_prefix(table.as_str())?.strip_prefix('.')).collect();
        let field = columns.first().map(|&c| c.to_owned());
        let cell_of = |name: &str| {
            let at = self.shape.columns.iter().position(|c| c.eq_ignore_ascii_case(name))?;
            Some(&self.rows.row(row)[at])
        };
        match code {
            // UNIQUE, PRIMARYKEY, ROWID
            2067 | 1555 | 2579 => {
                let given = columns.iter().filter_map(|c| Some((*c, cell_of(c)?)));
                let (names, values): (Vec<&str>, Vec<&Cell>) = given.unzip();
                let message = if names.is_empty() {
                    format!("another row of {table} has the same value already: {words}")
                } else {
                    let values = named_values(&names, values.into_iter(), self.rows.arena);
                    format!("another row of {table} has {values} already")
                };
                (Reason::UniqueKey, field, message)
            }
            275 => (Reason::Check, None, format!("CHECK of {table} refuses the row: {after}")),
            FOREIGN_KEY => (Reason::ForeignKey, None, format!("{table}: a row that it points at is not there")),
            1299 => {
                let given = field.as_deref().and_then(cell_of).is_some();
                let name = field.as_deref().unwrap_or(after);
                if given {
                    (Reason::NullNotAllowed, field.clone(), format!("{name} of {table} must not be null"))
                } else {
                    (Reason::MissingField, field.clone(), format!("{name} of {table} must have a value"))
                }
            }
            // DATATYPE of a STRICT table, MISMATCH
            3091 | 20 => (Reason::WrongType, field, format!("{table}: {words}")),
            18 => (Reason::TooLong, None, format!("{table}: {words}")),
            _ => (Reason::Refused, field, format!("{table}: {words}")),
        }
    }

    async fn attempt(&mut self, kind: Kind, block: &[usize]) -> Result<Attempt, WarehouseError> {
        let (sql, arguments) = self.statement(kind, block);
        match sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut *self.connection).await {
            Ok(_) => Ok(Attempt::Done),
            Err(error) => match sqlite_code(&error) {
                Some((code, words)) if sqlite_class(code, &words) == Class::Row => Ok(Attempt::Refused { code, words }),
                _ => Err(warehouse_error(&format!("writing into {}", self.shape.table), &error)),
            },
        }
    }

    /// How many rows of the block the question is true of, and the positions in the block that it tells.
    async fn ask(&mut self, kind: Kind, block: &[usize]) -> Result<(i64, Vec<usize>), WarehouseError> {
        let what = format!("reading {}", self.shape.table);
        let (sql, arguments) = self.statement(kind, block);
        let (count, positions): (i64, Option<String>) = sqlx::query_as_with(AssertSqlSafe(sql), arguments)
            .fetch_one(&mut *self.connection)
            .await
            .map_err(|e| warehouse_error(&what, &e))?;
        let positions = positions.unwrap_or_default();
        let positions = positions.split(',').filter_map(|n| n.parse().ok()).filter(|&n| n < block.len()).collect();
        Ok((count, positions))
    }

    fn statement(&mut self, kind: Kind, block: &[usize]) -> (std::sync::Arc<str>, SqliteArguments) {
        let sql = self.shape.sql(kind, block.len());
        let bound = self.shape.bound(kind);
        let mut arguments = SqliteArguments::default();
        sqlx::Arguments::reserve(&mut arguments, block.len() * bound.len(), 0);
        for &row in block {
            let row = self.rows.row(row);
            for &cell in &bound {
                cells::bind(&mut arguments, &row[cell], self.rows.arena);
            }
        }
        (sql, arguments)
    }
}

/// Rows in pieces of few lengths, so that few statements serve all.
fn blocks(rows: Vec<usize>, max: usize) -> impl DoubleEndedIterator<Item = Vec<usize>> {
    powers_of_two(&rows, max).map(<[usize]>::to_vec).collect::<Vec<_>>().into_iter()
}

/// `code = "ZZ" and number = 7`
fn named_values<'c, N: AsRef<str>>(names: &[N], cells: impl Iterator<Item = &'c Cell>, arena: &[u8]) -> String {
    let pairs: Vec<String> =
        names.iter().zip(cells).map(|(n, c)| format!("{} = {}", n.as_ref(), cells::text(c, arena))).collect();
    pairs.join(" and ")
}
