//! The statements that write one set of columns into one table, for any number of rows. Names are quoted, values
//! are always bound.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::core::target::{OnConflict, Rows};

/// SQLite takes so many bound values in a statement (`SQLITE_MAX_VARIABLE_NUMBER`).
const MAX_VARIABLES: usize = 32_766;
/// More rows a statement gain nothing and cost memory for each statement kept.
const MAX_BLOCK: usize = 128;

/// What a statement does; one text for each and for each number of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Inserts rows that are expected to be new; fails where one is not.
    Insert,
    /// Writes rows as the target's `on_conflict` says.
    Write,
    /// Answers how many rows have a key that is there, and the positions of those that need no writing.
    Ask,
    /// Answers how many rows point at no parent by this foreign key, and their positions.
    Orphans(usize),
}

/// A foreign key all of whose columns are among the given ones.
#[derive(Debug)]
pub struct ParentKey {
    /// Positions in a row's cells.
    pub cells: Vec<usize>,
    pub columns: Vec<String>,
    pub parent: String,
    pub parent_columns: Vec<String>,
    /// The parent is the table itself.
    pub is_own_table: bool,
}

/// One table, one set of columns, one way of meeting a row that is there.
#[derive(Debug)]
pub struct Shape {
    pub table: String,
    pub columns: Vec<String>,
    /// Positions of the primary key in a row's cells, in the key's order.
    pub key: Vec<usize>,
    pub on_conflict: OnConflict,
    pub parents: Vec<ParentKey>,
    texts: HashMap<(Kind, usize), Arc<str>>,
}

impl Shape {
    /// The shape of these rows.
    pub fn of(rows: &Rows<'_>) -> Self {
        let table = &rows.target.table;
        let columns: Vec<String> = rows.names().map(str::to_owned).collect();
        let at = |name: &str| columns.iter().position(|c| c.eq_ignore_ascii_case(name));
        let key_names = rows.target.key.iter().map(|&k| &table.columns[rows.target.columns[k]].name);
        let parents = table
            .foreign_keys
            .iter()
            .filter_map(|fk| {
                let names: Vec<String> = fk.columns.iter().map(|&c| table.columns[c].name.clone()).collect();
                Some(ParentKey {
                    cells: names.iter().map(|n| at(n)).collect::<Option<_>>()?,
                    columns: names,
                    parent: fk.parent.clone(),
                    parent_columns: fk.parent_columns.clone(),
                    is_own_table: fk.parent.eq_ignore_ascii_case(&table.name),
                })
            })
            .collect();
        Self {
            table: table.name.clone(),
            key: key_names.filter_map(|n| at(n)).collect(),
            on_conflict: rows.target.on_conflict,
            parents,
            columns,
            texts: HashMap::new(),
        }
    }

    /// How many rows one statement takes: a power of two.
    pub fn max_block(&self) -> usize {
        let fit = (MAX_VARIABLES / self.columns.len().max(1)).clamp(1, MAX_BLOCK);
        1 << fit.ilog2()
    }

    /// The statement for so many rows.
    pub fn sql(&mut self, kind: Kind, rows: usize) -> Arc<str> {
        if let Some(text) = self.texts.get(&(kind, rows)) {
            return text.clone();
        }
        let text: Arc<str> = match kind {
            Kind::Insert => self.insert(rows),
            Kind::Write => self.insert(rows) + &self.conflict_clause(),
            Kind::Ask => self.ask(rows),
            Kind::Orphans(parent) => self.orphans(&self.parents[parent], rows),
        }
        .into();
        self.texts.insert((kind, rows), text.clone());
        text
    }

    /// Positions in a row's cells that the statement binds for each row, in order.
    pub fn bound(&self, kind: Kind) -> Vec<usize> {
        match kind {
            Kind::Insert | Kind::Write => (0..self.columns.len()).collect(),
            Kind::Ask if self.on_conflict == OnConflict::Ignore => self.key.clone(),
            Kind::Ask => self.key.iter().copied().chain(self.others()).collect(),
            Kind::Orphans(parent) => self.parents[parent].cells.clone(),
        }
    }

    fn others(&self) -> impl Iterator<Item = usize> {
        (0..self.columns.len()).filter(|c| !self.key.contains(c))
    }

    fn insert(&self, rows: usize) -> String {
        let columns: Vec<String> = self.columns.iter().map(|c| quoted(c)).collect();
        let row = format!("({})", vec!["?"; columns.len()].join(","));
        format!("INSERT INTO {} ({}) VALUES {}", quoted(&self.table), columns.join(","), vec![row; rows].join(","))
    }

    fn conflict_clause(&self) -> String {
        if self.key.is_empty() {
            return String::new();
        }
        let key: Vec<String> = self.key.iter().map(|&k| quoted(&self.columns[k])).collect();
        let sets: Vec<String> =
            self.others().map(|c| quoted(&self.columns[c])).map(|c| format!("{c}=excluded.{c}")).collect();
        let what = match self.on_conflict {
            OnConflict::Update if !sets.is_empty() => format!("UPDATE SET {}", sets.join(",")),
            _ => "NOTHING".to_owned(),
        };
        format!(" ON CONFLICT ({}) DO {what}", key.join(","))
    }

    fn ask(&self, rows: usize) -> String {
        let bound = self.bound(Kind::Ask);
        let matches = (0..self.key.len()).map(|i| format!("t.{}=v.c{i}", quoted(&self.columns[bound[i]])));
        let same = (self.key.len()..bound.len()).map(|i| format!("t.{} IS v.c{i}", quoted(&self.columns[bound[i]])));
        let same: Vec<String> = same.collect();
        format!(
            // One row of answer: each row would wake this thread. CROSS JOIN keeps SQLite from walking the table
            // instead of the batch.
            "{} SELECT COUNT(*), group_concat(CASE WHEN {} THEN v.n END) FROM v CROSS JOIN {} AS t ON {}",
            numbered_values(bound.len(), rows),
            if same.is_empty() { "1".to_owned() } else { same.join(" AND ") },
            quoted(&self.table),
            matches.collect::<Vec<_>>().join(" AND "),
        )
    }

    fn orphans(&self, parent: &ParentKey, rows: usize) -> String {
        let given: Vec<String> = (0..parent.cells.len()).map(|i| format!("v.c{i} IS NOT NULL")).collect();
        let matches = parent.parent_columns.iter().enumerate().map(|(i, c)| format!("p.{}=v.c{i}", quoted(c)));
        format!(
            "{} SELECT COUNT(*), group_concat(v.n) FROM v WHERE {} AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE {})",
            numbered_values(parent.cells.len(), rows),
            given.join(" AND "),
            quoted(&parent.parent),
            matches.collect::<Vec<_>>().join(" AND "),
        )
    }
}

/// `WITH v(n,c0,…) AS (VALUES (0,?,…),(1,?,…))`
fn numbered_values(columns: usize, rows: usize) -> String {
    let names: String = (0..columns).map(|i| format!(",c{i}")).collect();
    let marks = ",?".repeat(columns);
    let mut text = format!("WITH v(n{names}) AS (VALUES ");
    for n in 0..rows {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}({n}{marks})", if n == 0 { "" } else { "," });
    }
    text.push(')');
    text
}

/// A name as SQLite reads it whatever it contains.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// SQLite ends a quoted name at a quote that is not doubled.
        #[test]
        fn no_name_ends_its_quote(name in "(\\PC|[\"`\\[\\]'\\\\;\n\0]){0,70}") {
            let quoted = quoted(&name);
            let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
            prop_assert!(!inner.replace("\"\"", "").contains('"'));
            prop_assert_eq!(inner.replace("\"\"", "\""), name);
        }
    }
}
