//! A table that a stream writes, and the rows of one batch that go into it.

use std::sync::Arc;

use super::cell::Cell;
use super::schema::Table;

/// How often rows that were refused for what other rows hold are gone through again: knots beyond that are not worth the locks
/// that are held meanwhile. Each pass goes the other way, so that a chain of rows goes in within two.
pub const LEANING_PASSES: usize = 16;

/// What happens to a row whose primary key is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnConflict {
    /// The row that is there stays as it is.
    Ignore,
    /// The other mapped columns of the row with that key are set; the row is never deleted.
    Update,
}

/// One table of a stream: every mapping of the stream that feeds it is joined here.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub table: Arc<Table>,
    /// Mapped columns, as positions in `table.columns`: the union over the mappings that feed the table.
    pub columns: Vec<usize>,
    /// The primary key, as positions in `columns`, in the key's order.
    pub key: Vec<usize>,
    pub on_conflict: OnConflict,
    /// Another table of the same stream points at this one: its rows are few and are remembered once committed.
    pub dimension: bool,
}

/// Rows for one table, all with the same columns, distinct keys, in key order.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    pub target: &'a Target,
    /// Positions in `target.columns`; the key is always among them.
    pub columns: &'a [usize],
    /// Row-major, `columns.len()` a row; no cell is `Missing`.
    pub cells: &'a [Cell],
    /// What the cells' spans point into.
    pub arena: &'a [u8],
}

impl<'a> Rows<'a> {
    pub fn len(&self) -> usize {
        self.cells.len() / self.columns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    pub fn row(&self, index: usize) -> &'a [Cell] {
        &self.cells[index * self.columns.len()..(index + 1) * self.columns.len()]
    }

    pub fn iter(&self) -> impl Iterator<Item = &'a [Cell]> {
        self.cells.chunks_exact(self.columns.len())
    }

    /// Names of the columns, in the order of a row's cells.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.columns.iter().map(|&c| self.target.table.columns[self.target.columns[c]].name.as_str())
    }

    /// A contiguous part of the rows, for halving.
    pub fn slice(&self, from: usize, to: usize) -> Rows<'a> {
        let width = self.columns.len();
        Rows { cells: &self.cells[from * width..to * width], ..*self }
    }
}
