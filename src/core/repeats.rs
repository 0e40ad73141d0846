//! Rows that many records of a batch repeat word for word, as they do with their parents: decoded once, recognised by
//! the values as they stand in the records. Must never answer a row for values that differ in a single byte.

use std::hash::{BuildHasher, Hasher};

use super::cell::Cell;
use super::mapping::{PlannedMapping, PlannedSource};

/// Rows kept of one mapping, each in the one place that its key's hash names.
const PLACES: usize = 512;

/// The last rows of one mapping.
#[derive(Debug)]
pub struct Repeats<'p> {
    /// Fields that the mapping reads, key first; empty where it also reads something else than fields.
    slots: Vec<usize>,
    /// How many of them are the key.
    key: usize,
    width: usize,
    /// For each place: values as they stand in a record, and the row that they made. Empty until the first row; a place
    /// that none has taken has no key, which no record's values equal.
    values: Vec<Option<&'p str>>,
    cells: Vec<Cell>,
    state: ahash::RandomState,
}

impl<'p> Repeats<'p> {
    /// `width`: columns of the mapping's target. Only rows of a dimension table are worth keeping.
    pub(super) fn of(mapping: &PlannedMapping, width: usize, dimension: bool) -> Self {
        let slot = |source| match source {
            PlannedSource::Field(slot) | PlannedSource::Epoch(slot, _) => Some(slot),
            _ => None,
        };
        let mut columns: Vec<_> = mapping.columns.iter().collect();
        columns.sort_by_key(|column| !column.key);
        let slots: Option<Vec<usize>> = columns.iter().map(|column| slot(column.source)).collect();
        let key = columns.iter().filter(|column| column.key).count();
        Self {
            slots: slots.filter(|_| dimension && key > 0).unwrap_or_default(),
            key,
            width,
            values: Vec::new(),
            cells: Vec::new(),
            state: ahash::RandomState::new(),
        }
    }

    /// Where the row of these values is, or would be; `None` where none is kept.
    pub(super) fn place(&self, values: &[Option<&'p str>]) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut hasher = self.state.build_hasher();
        for slot in &self.slots[..self.key] {
            hasher.write(values[*slot]?.as_bytes());
        }
        Some(hasher.finish() as usize % PLACES)
    }

    /// The row that the same values made before.
    pub(super) fn find(&self, place: usize, values: &[Option<&'p str>]) -> Option<&[Cell]> {
        let kept = self.values.get(place * self.slots.len()..(place + 1) * self.slots.len())?;
        let same = self.slots.iter().zip(kept).all(|(slot, kept)| values[*slot] == *kept);
        same.then(|| &self.cells[place * self.width..(place + 1) * self.width])
    }

    /// Keeps a row in its place, instead of the one that is there.
    pub(super) fn keep(&mut self, place: usize, values: &[Option<&'p str>], row: &[Cell]) {
        if self.values.is_empty() {
            self.values.resize(PLACES * self.slots.len(), None);
            self.cells.resize(PLACES * self.width, Cell::Missing);
        }
        let at = place * self.slots.len();
        for (kept, slot) in self.values[at..].iter_mut().zip(&self.slots) {
            *kept = values[*slot];
        }
        self.cells[place * self.width..(place + 1) * self.width].copy_from_slice(row);
    }
}
