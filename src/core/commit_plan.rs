//! What a batch writes into each table: rows of one key joined, rows that are known to be there left out,
//! the rest in key order; and afterwards what became of each record. The writer's rules, without a database.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};

use hashbrown::HashTable;

use super::cell::Cell;
use super::decimal::Decimal;
use super::decode::TableRows;
use super::target::{OnConflict, Rows, Target};

/// Mapped columns of one table that a plan can tell apart: one bit each.
pub const MAX_COLUMNS: usize = 128;

/// Committed rows of the dimension tables, so that only new or changed ones are written again.
/// One for all lanes of a stream; it forgets everything when it grows too large.
#[derive(Debug)]
pub struct Known {
    /// For each target, the rows as they were last written.
    rows: Vec<KnownRows>,
    /// Bytes that the rows of each target take.
    bytes: Vec<u64>,
    /// Most that one target's rows may take, in bytes.
    most: u64,
    scratch: Vec<u8>,
}

/// Key -> row, both encoded.
type KnownRows = HashMap<Box<[u8]>, Box<[u8]>, ahash::RandomState>;

/// Rows remembered a table; dimension tables beyond it are written again now and then, which is harmless.
const KNOWN_ROWS: usize = 100_000;
/// What a remembered row takes beside its bytes: its place in a table that may be half empty, and two allocations.
const KNOWN_ROW: u64 = 128;

impl Known {
    pub fn new(targets: usize) -> Self {
        Self::within(targets, u64::MAX)
    }

    /// The same with a limit of bytes for all targets together.
    pub fn within(targets: usize, bytes: u64) -> Self {
        Self {
            rows: (0..targets).map(|_| HashMap::default()).collect(),
            bytes: vec![0; targets],
            most: bytes / targets.max(1) as u64,
            scratch: Vec::new(),
        }
    }

    pub fn forget(&mut self) {
        self.rows.iter_mut().for_each(|rows| *rows = HashMap::default());
        self.bytes.fill(0);
    }

    fn has(&mut self, target: usize, on_conflict: OnConflict, key: &[Cell], row: &[Cell], arena: &[u8]) -> bool {
        if self.rows[target].is_empty() {
            return false;
        }
        self.scratch.clear();
        encode(key.iter().copied(), arena, &mut self.scratch);
        let Some(known) = self.rows[target].get(self.scratch.as_slice()) else { return false };
        if on_conflict == OnConflict::Ignore {
            return true;
        }
        self.scratch.clear();
        encode(row.iter().copied(), arena, &mut self.scratch);
        **known == *self.scratch
    }

    /// Remembers what was just committed.
    pub fn remember(&mut self, target: usize, prepared: &Prepared, to: &Target, arena: &[u8]) {
        let width = to.columns.len();
        let mut row = vec![Cell::Missing; width];
        for cells in prepared.cells.chunks_exact(prepared.columns.len().max(1)) {
            row.fill(Cell::Missing);
            for (at, cell) in prepared.columns.iter().zip(cells) {
                row[*at] = *cell;
            }
            let mut key = Vec::new();
            encode(to.key.iter().map(|&k| row[k]), arena, &mut key);
            let mut whole = Vec::new();
            encode(row.iter().copied(), arena, &mut whole);
            let rows = &mut self.rows[target];
            let written = whole.len() as u64;
            let cost = KNOWN_ROW + key.len() as u64 + written;
            if rows.len() >= KNOWN_ROWS || self.bytes[target] + cost > self.most {
                *rows = HashMap::default();
                self.bytes[target] = 0;
            }
            self.bytes[target] += cost;
            if let Some(before) = rows.insert(key.into_boxed_slice(), whole.into_boxed_slice()) {
                self.bytes[target] = self.bytes[target].saturating_sub(cost - written + before.len() as u64);
            }
        }
    }
}

/// Rows of one table that have the same columns.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Positions in the target's columns.
    pub columns: Vec<usize>,
    pub cells: Vec<Cell>,
    /// Which records made which row: (record, row), ascending by record within a row.
    contributors: Vec<(u32, u32)>,
    /// For each row, whether its values come from several records.
    blended: Vec<bool>,
    /// The key, encoded, where this is the row of one record apart.
    apart_key: Option<Vec<u8>>,
}

impl Prepared {
    pub fn rows<'a>(&'a self, target: &'a Target, arena: &'a [u8]) -> Rows<'a> {
        Rows { target, columns: &self.columns, cells: &self.cells, arena }
    }

    /// The key, encoded, where this is the row of a record whose rows are not joined with others of their keys.
    pub fn apart_key(&self) -> Option<&[u8]> {
        self.apart_key.as_deref()
    }

    /// The records that a row came from, ascending.
    pub fn records_of(&self, row: usize) -> impl Iterator<Item = u32> {
        self.contributors.iter().filter(move |(_, r)| *r as usize == row).map(|(record, _)| *record)
    }

    /// Whether a row was joined from several records.
    pub fn is_joined(&self, row: usize) -> bool {
        self.records_of(row).nth(1).is_some()
    }

    /// The record whose values a row has: the last of its key, or the first where the row that is there stays.
    /// `None` where several records have their part in it.
    pub fn author_of(&self, row: usize, on_conflict: OnConflict) -> Option<u32> {
        match on_conflict {
            _ if self.blended[row] => None,
            OnConflict::Update => self.records_of(row).last(),
            OnConflict::Ignore => self.records_of(row).next(),
        }
    }

    /// The record of each of these rows, where each has one that made no other row, neither here nor among `others`:
    /// without these rows the record has left nothing.
    pub fn sole_authors<'a>(
        &self,
        rows: impl Iterator<Item = usize>,
        mut others: impl Iterator<Item = &'a Prepared>,
    ) -> Option<Vec<u32>> {
        let mut authors = Vec::new();
        for row in rows {
            let mut records = self.records_of(row);
            authors.push(records.next()?);
            if records.next().is_some() {
                return None;
            }
        }
        let wanted: HashSet<u32, ahash::RandomState> = authors.iter().copied().collect();
        let rows_of = |prepared: &Prepared| prepared.contributors.iter().filter(|(r, _)| wanted.contains(r)).count();
        (rows_of(self) == authors.len() && others.all(|other| rows_of(other) == 0)).then_some(authors)
    }
}

/// A table's rows for a batch, and whether known rows were left out.
#[derive(Debug, Default)]
pub struct PreparedTable {
    pub groups: Vec<Prepared>,
    pub left_out: bool,
}

/// Joins the rows of one table by key. `excluded` tells the records that were set aside; `known` the rows that
/// need not be written again, `None` where every row is to be written. Keys of `apart` records are not joined: each
/// record's row is a group of its own, behind the others and in the order of the records.
pub fn prepare(
    index: usize,
    target: &Target,
    rows: &TableRows,
    arena: &[u8],
    excluded: &[bool],
    apart: &[bool],
    mut known: Option<&mut Known>,
) -> PreparedTable {
    let width = target.columns.len();
    let mut merged: Vec<Cell> = Vec::with_capacity(rows.cells.len());
    let mut contributors: Vec<(u32, u32)> = Vec::with_capacity(rows.records.len());
    let mut by_key: HashTable<Keyed> = HashTable::with_capacity(rows.records.len());
    let mut blended: Vec<bool> = Vec::with_capacity(rows.records.len());
    let mut left_out = false;
    let lone = keys_of(target, rows, arena, apart);
    let mut alone: Vec<Alone> = Vec::new();
    let state = ahash::RandomState::new();
    let mut key = Vec::with_capacity(target.key.len());
    let made = |at: u32| &rows.cells[at as usize * width..(at as usize + 1) * width];
    for (number, (row, record)) in (0..).zip(rows.cells.chunks_exact(width).zip(&rows.records)) {
        if excluded[*record as usize] {
            continue;
        }
        key.clear();
        key.extend(target.key.iter().map(|&k| row[k]));
        if !lone.is_empty() {
            let key = encoded(&key, arena);
            if lone.contains(&key) {
                let own = alone.iter_mut().rev().take_while(|a| a.record == *record).find(|a| a.key == key);
                match own {
                    Some(own) => join(target.on_conflict, &mut own.row, row),
                    None => alone.push(Alone { key, record: *record, row: row.to_vec() }),
                }
                continue;
            }
        }
        let hash = hash_row(&state, &key, arena);
        let same = |of: &Keyed| target.key.iter().zip(&key).all(|(&k, cell)| equal(&made(of.row)[k], cell, arena));
        let found = by_key.find_mut(hash, same);
        let at = match &found {
            Some(Keyed { at: Some(at), .. }) => {
                let into = &mut merged[*at as usize * width..(*at as usize + 1) * width];
                blended[*at as usize] = target.on_conflict == OnConflict::Update
                    && into.iter().zip(row).any(|(old, new)| *new == Cell::Missing && *old != Cell::Missing);
                join(target.on_conflict, into, row);
                contributors.push((*record, *at));
                continue;
            }
            // Most rows of a dimension table: the same as the one before that was left out.
            Some(known) if target.on_conflict == OnConflict::Ignore || alike(made(known.row), row, arena) => continue,
            // Only while the batch has nothing else for the key: a later record of the batch wins over an earlier.
            _ if known.as_mut().is_some_and(|k| k.has(index, target.on_conflict, &key, row, arena)) => {
                left_out = true;
                None
            }
            _ => {
                let at = (merged.len() / width) as u32;
                merged.extend_from_slice(row);
                blended.push(false);
                contributors.push((*record, at));
                Some(at)
            }
        };
        let keyed = Keyed { row: number, at };
        match found {
            Some(found) => *found = keyed,
            None => {
                by_key.insert_unique(hash, keyed, |other| {
                    let key: Vec<Cell> = target.key.iter().map(|&k| made(other.row)[k]).collect();
                    hash_row(&state, &key, arena)
                });
            }
        }
    }
    let mut groups = group(target, &merged, &contributors, &blended, arena);
    groups.extend(alone.into_iter().map(Alone::prepared));
    PreparedTable { groups, left_out }
}

/// A key of the batch.
struct Keyed {
    /// A row, as it was made, that has it.
    row: u32,
    /// Its place among the merged rows; none where that row was left out as known.
    at: Option<u32>,
}

/// A record's row that is joined with no other record's.
struct Alone {
    key: Vec<u8>,
    record: u32,
    row: Vec<Cell>,
}

impl Alone {
    fn prepared(self) -> Prepared {
        let said = |(_, cell): &(usize, Cell)| *cell != Cell::Missing;
        let (columns, cells) = self.row.into_iter().enumerate().filter(said).unzip();
        let (contributors, blended) = (vec![(self.record, 0)], vec![false]);
        Prepared { columns, cells, contributors, blended, apart_key: Some(self.key) }
    }
}

/// A later row of the same key: what it says wins, or nothing of it where the row that is there stays.
fn join(on_conflict: OnConflict, into: &mut [Cell], later: &[Cell]) {
    if on_conflict == OnConflict::Update {
        for (old, new) in into.iter_mut().zip(later).filter(|(_, new)| **new != Cell::Missing) {
            *old = *new;
        }
    }
}

/// The keys, encoded, of the rows that these records made.
fn keys_of(target: &Target, rows: &TableRows, arena: &[u8], records: &[bool]) -> HashSet<Vec<u8>, ahash::RandomState> {
    if !records.contains(&true) {
        return HashSet::default();
    }
    let made = rows.cells.chunks_exact(target.columns.len()).zip(&rows.records);
    made.filter(|(_, record)| records[**record as usize])
        .map(|(row, _)| encoded(&target.key.iter().map(|&k| row[k]).collect::<Vec<_>>(), arena))
        .collect()
}

/// Sorts by key and parts rows that have different columns.
fn group(
    target: &Target,
    merged: &[Cell],
    contributors: &[(u32, u32)],
    blended: &[bool],
    arena: &[u8],
) -> Vec<Prepared> {
    let width = target.columns.len();
    let count = merged.len() / width.max(1);
    let row = |at: usize| &merged[at * width..(at + 1) * width];
    let mut order: Vec<u32> = (0..count as u32).collect();
    order.sort_by(|&a, &b| compare_keys(target, row(a as usize), row(b as usize), arena));
    let mut groups: Vec<(u128, Prepared)> = Vec::new();
    // For each merged row: its group and its place there.
    let mut placed = vec![(0_u32, 0_u32); count];
    for at in order {
        let cells = row(at as usize);
        let mask = cells.iter().enumerate().fold(0_u128, |m, (i, c)| if *c == Cell::Missing { m } else { m | 1 << i });
        let group = groups.iter().position(|(m, _)| *m == mask).unwrap_or_else(|| {
            let columns = (0..width).filter(|i| mask >> i & 1 == 1).collect();
            groups.push((mask, Prepared { columns, ..Prepared::default() }));
            groups.len() - 1
        });
        let prepared = &mut groups[group].1;
        placed[at as usize] = (group as u32, (prepared.cells.len() / prepared.columns.len()) as u32);
        prepared.cells.extend(cells.iter().filter(|c| **c != Cell::Missing));
        prepared.blended.push(blended[at as usize]);
    }
    for (record, at) in contributors {
        let (group, place) = placed[*at as usize];
        groups[group as usize].1.contributors.push((*record, place));
    }
    groups.into_iter().map(|(_, prepared)| prepared).collect()
}

/// Marks the records that changed a row. `unchanged` are rows that were there already, ascending.
pub fn mark_changed(on_conflict: OnConflict, prepared: &Prepared, unchanged: &[usize], changed: &mut [bool]) {
    match on_conflict {
        OnConflict::Update if unchanged.is_empty() => {
            prepared.contributors.iter().for_each(|(record, _)| changed[*record as usize] = true);
        }
        OnConflict::Update => {
            for (record, row) in &prepared.contributors {
                if unchanged.binary_search(&(*row as usize)).is_err() {
                    changed[*record as usize] = true;
                }
            }
        }
        // Only the first record of a key makes the row.
        OnConflict::Ignore => {
            let mut made = vec![false; prepared.cells.len() / prepared.columns.len().max(1)];
            for (record, row) in &prepared.contributors {
                if !std::mem::replace(&mut made[*row as usize], true)
                    && unchanged.binary_search(&(*row as usize)).is_err()
                {
                    changed[*record as usize] = true;
                }
            }
        }
    }
}

fn compare_keys(target: &Target, a: &[Cell], b: &[Cell], arena: &[u8]) -> Ordering {
    target.key.iter().map(|&k| compare(&a[k], &b[k], arena)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
}

fn compare(a: &Cell, b: &Cell, arena: &[u8]) -> Ordering {
    match (a, b) {
        (Cell::Int(a), Cell::Int(b)) => a.cmp(b),
        (Cell::UInt(a), Cell::UInt(b)) => a.cmp(b),
        (Cell::Int(_), Cell::UInt(_)) => Ordering::Less,
        (Cell::UInt(_), Cell::Int(_)) => Ordering::Greater,
        (Cell::Float(a), Cell::Float(b)) => a.total_cmp(b),
        (Cell::DateTime(a), Cell::DateTime(b)) | (Cell::Time(a), Cell::Time(b)) => a.cmp(b),
        (Cell::Date(a), Cell::Date(b)) => a.cmp(b),
        (Cell::Decimal(a), Cell::Decimal(b)) => Decimal::of(a.of(arena)).cmp(&Decimal::of(b.of(arena))),
        (Cell::Text(a) | Cell::Bytes(a), Cell::Text(b) | Cell::Bytes(b)) => a.of(arena).cmp(b.of(arena)),
        _ => Ordering::Equal,
    }
}

fn equal(a: &Cell, b: &Cell, arena: &[u8]) -> bool {
    match (a, b) {
        (Cell::Text(a), Cell::Text(b)) | (Cell::Bytes(a), Cell::Bytes(b)) => a == b || a.of(arena) == b.of(arena),
        (Cell::Decimal(a), Cell::Decimal(b)) => a == b || Decimal::of(a.of(arena)) == Decimal::of(b.of(arena)),
        _ => a == b,
    }
}

fn alike(a: &[Cell], b: &[Cell], arena: &[u8]) -> bool {
    a.iter().zip(b).all(|(a, b)| equal(a, b, arena))
}

fn hash_row(state: &ahash::RandomState, cells: &[Cell], arena: &[u8]) -> u64 {
    let mut hasher = state.build_hasher();
    for cell in cells {
        // The kind goes in too: a hasher takes a byte and a number of the same value for the same.
        std::mem::discriminant(cell).hash(&mut hasher);
        match cell {
            Cell::Missing | Cell::Null => {}
            Cell::Int(v) => hasher.write_i64(*v),
            Cell::UInt(v) => hasher.write_u64(*v),
            Cell::Float(v) => hasher.write_u64(v.to_bits()),
            Cell::Decimal(s) => Decimal::of(s.of(arena)).hash(&mut hasher),
            Cell::Text(s) | Cell::Bytes(s) => s.of(arena).hash(&mut hasher),
            Cell::DateTime(v) | Cell::Time(v) => hasher.write_i64(*v),
            Cell::Date(v) => hasher.write_i32(*v),
        }
    }
    hasher.finish()
}

/// One byte string for one key: a tag and a fixed width or a length before each value.
fn encode(cells: impl Iterator<Item = Cell>, arena: &[u8], out: &mut Vec<u8>) {
    for cell in cells {
        match cell {
            Cell::Missing => out.push(0),
            Cell::Null => out.push(1),
            Cell::Int(v) => fixed(out, 2, v as u64),
            Cell::UInt(v) => fixed(out, 3, v),
            Cell::Float(v) => fixed(out, 4, v.to_bits()),
            Cell::Decimal(s) => {
                let number = Decimal::of(s.of(arena));
                fixed(out, 9, number.text_len() as u64);
                number.write(out);
            }
            Cell::Text(s) | Cell::Bytes(s) => {
                fixed(out, 5, s.len as u64);
                out.extend_from_slice(s.of(arena));
            }
            Cell::DateTime(v) => fixed(out, 6, v as u64),
            Cell::Time(v) => fixed(out, 7, v as u64),
            Cell::Date(v) => fixed(out, 8, v as u64),
        }
    }
}

fn encoded(key: &[Cell], arena: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(key.iter().copied(), arena, &mut out);
    out
}

fn fixed(out: &mut Vec<u8>, tag: u8, value: u64) {
    out.push(tag);
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
#[path = "commit_plan_tests.rs"]
mod tests;
