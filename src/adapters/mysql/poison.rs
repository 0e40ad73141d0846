//! Finds the rows that the database refuses, as many as there are in one call: those that the server names, those
//! whose parent is missing by one query for each foreign key, and the rest by halving until each is alone. Rows after
//! a refused one are written on, so that a clash between two rows of a batch blames the later one.

use std::collections::{BTreeMap, HashMap};

use super::connection::Session;
use super::dropped::USUALLY_LISTED;
use super::errors::{Class, Failure, RowFailure, classify, column_in, index_in};
use super::staged::{Plan, Stumble, send, was_made_impossible};
use super::tsv::{self, Form};
use crate::core::cell::Cell;
use crate::core::outcome::{Reason, Rejection};
use crate::core::schema::{Charset, ColumnKind, ForeignKey};
use crate::core::target::{LEANING_PASSES, OnConflict, Rows};
use crate::ports::Refusal;

const NOT_NULL: u16 = 1048;

/// The search in one call.
pub(super) struct Poison<'r> {
    rows: &'r Rows<'r>,
    /// Positions not refused so far, ascending.
    left: Vec<usize>,
    refused: BTreeMap<usize, Refused>,
    /// Rows went into the real table: the server works, so an unknown error is the row's.
    went_in: bool,
}

/// What the real table took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Applied {
    /// 1 for a new row, 2 for a changed one, 0 for one that is as it was.
    pub affected: u64,
    changed: Option<u64>,
}

impl Applied {
    /// An UPDATE that found every row.
    pub fn updated(changed: Option<u64>) -> Self {
        Self { affected: changed.unwrap_or(0).saturating_mul(2), changed }
    }

    /// How many rows were not there; none where the server does not tell.
    pub fn new_rows(self) -> Option<u64> {
        self.affected.checked_sub(self.changed?.checked_mul(2)?)
    }

    /// How many of `rows` were there and are as they were; none where the server does not tell.
    pub fn unchanged(self, rows: usize) -> Option<u64> {
        (rows as u64).checked_sub(self.new_rows()? + self.changed?)
    }
}

/// How often the same rows were refused with a code that is not in the table, while nothing else went in.
#[derive(Debug, Default)]
pub(super) struct UnknownTries {
    count: u32,
    words: String,
}

/// With the writer's backoff this takes some 15 s; that the server works shows in the offset, which the same
/// transaction has moved each time.
pub(super) const UNKNOWN_TRIES: u32 = 10;

impl UnknownTries {
    /// Ok: the row is a dead letter. A lone row is at fault when the last try fails too; several at once are rather the
    /// table's fault, and stop the stream.
    fn judge(&mut self, rows: usize, words: String) -> Result<(), Failure> {
        if self.words != words {
            *self = Self { count: 0, words };
        }
        self.count += 1;
        if self.count < UNKNOWN_TRIES {
            return Err(Failure::Transient(self.words.clone()));
        }
        let words = std::mem::take(self).words;
        match rows {
            1 => Ok(()),
            _ => Err(Failure::Fatal(format!(
                "{words}; all {rows} rows of a batch were refused so {UNKNOWN_TRIES} times, and bief does not know the \
                 code: mend the table, or report the code"
            ))),
        }
    }
}

struct Refused {
    rejection: Rejection,
    unknown: bool,
}

impl<'r> Poison<'r> {
    pub fn new(rows: &'r Rows<'r>) -> Self {
        Self { rows, left: (0..rows.len()).collect(), refused: BTreeMap::new(), went_in: false }
    }

    fn any_left(&self) -> bool {
        !self.left.is_empty()
    }

    pub fn any_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// The answer, ascending. An error where all that failed is unknown and nothing shows that the server works;
    /// `tries` counts how often that came of the same rows in a row.
    pub fn refusals(self, tries: &mut UnknownTries) -> Result<Vec<Refusal>, Failure> {
        if !self.went_in
            && let Some(first) = self.refused.values().next()
            && self.refused.values().all(|refused| refused.unknown)
        {
            let words = format!("the database says: {}", first.rejection.message);
            tries.judge(self.rows.len(), words)?;
        } else {
            *tries = UnknownTries::default();
        }
        Ok(self.refused.into_iter().map(|(row, refused)| Refusal { row, rejection: refused.rejection }).collect())
    }

    /// Puts all rows into the stage that its columns can hold.
    pub async fn fill(
        &mut self,
        session: &mut Session,
        plan: &Plan,
        forms: &[Form],
        buffer: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        while self.any_left() {
            let stumble = match send(session, self.rows, plan, forms, buffer, &self.left, true).await {
                Ok(_) => return Ok(()),
                Err(stumble) => stumble,
            };
            let Failure::Row(row) = stumble.failure else { return Err(stumble.failure) };
            let before = self.refused.len();
            if let Some(position) = stumble.position {
                self.refuse(position, row.rejection(None), row.unknown);
            }
            self.survey(session, plan, forms, buffer).await?;
            session.run(&format!("DELETE FROM {}", plan.stage)).await?;
            if self.refused.len() == before {
                return self.fill_by_halves(session, plan, forms, buffer).await;
            }
            self.forget_refused();
        }
        Ok(())
    }

    /// One pass in which values are altered and warned of instead of refused names all rows at once.
    async fn survey(
        &mut self,
        session: &mut Session,
        plan: &Plan,
        forms: &[Form],
        buffer: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        session.run(&format!("DELETE FROM {}", plan.stage)).await?;
        session.list_warnings(u16::MAX).await?;
        let warned = match send(session, self.rows, plan, forms, buffer, &self.left, false).await {
            Ok(warned) => warned,
            // Refused even so; the error of the strict attempt names a row, or halving finds it.
            Err(Stumble { failure: Failure::Row(_), .. }) => Vec::new(),
            Err(Stumble { failure, .. }) => return Err(failure),
        };
        session.list_warnings(USUALLY_LISTED).await?;
        for (position, code, words) in warned {
            if let Class::Row(reason) = classify(code, "", &words) {
                let reason = match self.kind_of(&words) {
                    // In this mode a cut text has the code of any cut value.
                    Some(ColumnKind::Text { .. } | ColumnKind::Binary { .. }) if code == 1265 => Reason::TooLong,
                    Some(ColumnKind::DateTime { .. } | ColumnKind::Date | ColumnKind::Time { .. }) if code == 1265 => {
                        Reason::InvalidTime
                    }
                    _ => reason,
                };
                let row = RowFailure { code, reason, unknown: false, words };
                self.refuse(position, row.rejection(None), false);
            }
        }
        Ok(())
    }

    fn kind_of(&self, words: &str) -> Option<&ColumnKind> {
        let table = &self.rows.target.table;
        column_in(words).and_then(|name| table.column(name)).map(|position| &table.columns[position].kind)
    }

    async fn fill_by_halves(
        &mut self,
        session: &mut Session,
        plan: &Plan,
        forms: &[Form],
        buffer: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let all = self.left.clone();
        let mut pending = vec![(0, all.len())];
        while let Some((from, to)) = pending.pop() {
            let part = &all[from..to];
            match send(session, self.rows, plan, forms, buffer, part, true).await {
                Ok(_) => {}
                Err(Stumble { failure: Failure::Row(row), .. }) => {
                    // Statements before the one that failed have filled a part of it.
                    session
                        .run(&format!(
                            "DELETE FROM {} WHERE bief_seq BETWEEN {} AND {}",
                            plan.stage,
                            part[0],
                            part[part.len() - 1]
                        ))
                        .await?;
                    if to - from == 1 {
                        self.refuse(part[0], row.rejection(None), row.unknown);
                    } else {
                        let middle = from + (to - from) / 2;
                        pending.push((middle, to));
                        pending.push((from, middle));
                    }
                }
                Err(Stumble { failure, .. }) => return Err(failure),
            }
        }
        self.forget_refused();
        Ok(())
    }

    /// Writes what the stage holds into the table.
    pub async fn apply(&mut self, session: &mut Session, plan: &Plan) -> Result<Applied, Failure> {
        while let (Some(&first), Some(&last)) = (self.left.first(), self.left.last()) {
            match session.run(&plan.insert(first, last)).await {
                Ok(ack) => {
                    self.went_in |= ack.affected > 0;
                    return Ok(Applied { affected: ack.affected, changed: ack.changed });
                }
                Err(Failure::Row(row)) => {
                    let orphans = match row.reason {
                        Reason::ForeignKey => self.refuse_orphans(session, plan).await?,
                        _ => 0,
                    };
                    if orphans == 0 {
                        let affected = self.apply_by_halves(session, plan, row).await?;
                        return Ok(Applied { affected, changed: None });
                    }
                }
                Err(other) => return Err(other),
            }
        }
        Ok(Applied::default())
    }

    async fn apply_by_halves(&mut self, session: &mut Session, plan: &Plan, whole: RowFailure) -> Result<u64, Failure> {
        let all = self.left.clone();
        let mut affected = 0;
        let mut known = Some(whole);
        let mut pending = vec![(0, all.len())];
        while let Some((from, to)) = pending.pop() {
            let answer = match known.take() {
                Some(row) => Err(Failure::Row(row)),
                None => session.run(&plan.insert(all[from], all[to - 1])).await,
            };
            match answer {
                Ok(ack) => {
                    // Rows that are as they were prove nothing of the server.
                    self.went_in |= ack.affected > 0;
                    affected += ack.affected;
                }
                Err(Failure::Row(row)) if to - from == 1 => self.blame(session, plan, all[from], row).await?,
                Err(Failure::Row(_)) => {
                    let middle = from + (to - from) / 2;
                    pending.push((middle, to));
                    pending.push((from, middle));
                }
                Err(other) => return Err(other),
            }
        }
        affected += self.apply_leaning(session, plan, &all).await?;
        self.forget_refused();
        Ok(affected)
    }

    /// Tries again what was refused for what other rows hold, as long as one of these rows goes in: a parent in the same table
    /// may come later in the order of keys, and a value be given up by a row that does.
    async fn apply_leaning(&mut self, session: &mut Session, plan: &Plan, all: &[usize]) -> Result<u64, Failure> {
        let leans = |refused: &Refused| matches!(refused.rejection.reason, Reason::UniqueKey | Reason::ForeignKey);
        let mut leaning: Vec<usize> =
            all.iter().copied().filter(|position| self.refused.get(position).is_some_and(leans)).collect();
        let (mut affected, mut tried) = (0, usize::MAX);
        // Where none of them went in, none would the next time. A chain of rows goes in at once in one of the two directions.
        for _ in 0..LEANING_PASSES {
            if !self.went_in || leaning.is_empty() || leaning.len() == tried {
                break;
            }
            tried = leaning.len();
            leaning.reverse();
            let mut left = Vec::new();
            for position in leaning {
                match session.run(&plan.insert(position, position)).await {
                    Ok(ack) => {
                        affected += ack.affected;
                        self.refused.remove(&position);
                    }
                    Err(Failure::Row(_)) => left.push(position),
                    Err(other) => return Err(other),
                }
            }
            leaning = left;
        }
        Ok(affected)
    }

    /// A row that fails alone: names the columns that are to blame.
    async fn blame(
        &mut self,
        session: &mut Session,
        plan: &Plan,
        position: usize,
        row: RowFailure,
    ) -> Result<(), Failure> {
        let mut row = row;
        let key = plan.key.first().map(|key| key.trim_matches('`'));
        if was_made_impossible(row.code, &row.words) || row.code == NOT_NULL && column_in(&row.words) == key {
            // The key was made what it cannot be since another unique index clashed: without that, the server names the
            // index.
            match session.run(&plan.plain_insert(position, position)).await {
                Err(Failure::Row(named)) => row = named,
                Ok(_) => {
                    self.went_in = true;
                    return Ok(());
                }
                Err(other) => return Err(other),
            }
            row.reason = Reason::UniqueKey;
            row.unknown = false;
        }
        let field = match row.reason {
            Reason::UniqueKey => self.columns_of_index(session, &row.words).await?,
            Reason::ForeignKey => self.columns_of_constraint(&row.words),
            _ => None,
        };
        let mut rejection = row.rejection(None);
        rejection.field = field.or(rejection.field);
        self.refuse(position, rejection, row.unknown);
        Ok(())
    }

    async fn columns_of_index(&self, session: &mut Session, words: &str) -> Result<Option<String>, Failure> {
        let table = &self.rows.target.table.name;
        if !session.indexes.contains_key(table) {
            let mut indexes: HashMap<String, Vec<String>> = HashMap::new();
            let read = session
                .ask::<(String, Option<String>)>(
                    "SELECT INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS \
                     WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? ORDER BY INDEX_NAME, SEQ_IN_INDEX",
                    vec![table.as_str().into()],
                )
                .await?;
            for (index, column) in read {
                indexes.entry(index).or_default().extend(column);
            }
            session.indexes.insert(table.clone(), indexes);
        }
        let columns = index_in(words).and_then(|name| session.indexes[table].get(name));
        Ok(columns.filter(|columns| !columns.is_empty()).map(|columns| columns.join(",")))
    }

    fn columns_of_constraint(&self, words: &str) -> Option<String> {
        let keys = &self.rows.target.table.foreign_keys;
        let key = keys.iter().find(|key| words.contains(&format!("CONSTRAINT `{}`", key.name)))?;
        Some(self.columns_of(key))
    }

    fn columns_of(&self, key: &ForeignKey) -> String {
        let columns = &self.rows.target.table.columns;
        key.columns.iter().map(|&position| columns[position].name.as_str()).collect::<Vec<_>>().join(",")
    }

    /// Refuses every row whose parent is missing. Returns how many there are.
    async fn refuse_orphans(&mut self, session: &mut Session, plan: &Plan) -> Result<usize, Failure> {
        let rows = self.rows;
        let before = self.refused.len();
        for key in &rows.target.table.foreign_keys {
            let Some((sql, cells)) = orphans(rows, plan, key)? else { continue };
            for position in session.rows::<u64>(&sql).await? {
                let position = position as usize;
                let row = rows.row(position);
                let values: Vec<String> = cells.iter().map(|&cell| tsv::shown(row[cell], rows.arena)).collect();
                let columns = self.columns_of(key);
                let message = format!(
                    "no row in {} with {} = {}, which {columns} points at (constraint {})",
                    key.parent,
                    key.parent_columns.join(","),
                    values.join(","),
                    key.name
                );
                let rejection = Rejection { reason: Reason::ForeignKey, field: Some(columns), message };
                self.refuse(position, rejection, false);
            }
        }
        let found = self.refused.len() - before;
        if found > 0 {
            let gone: Vec<String> =
                self.left.iter().filter(|p| self.refused.contains_key(p)).map(usize::to_string).collect();
            session.run(&format!("DELETE FROM {} WHERE bief_seq IN ({})", plan.stage, gone.join(","))).await?;
            self.forget_refused();
        }
        Ok(found)
    }

    /// The first reason that was found stays.
    fn refuse(&mut self, position: usize, mut rejection: Rejection, unknown: bool) {
        if rejection.reason == Reason::NotEncodable && rejection.field.is_none() {
            rejection.field = self.not_encodable(position);
        }
        self.refused.entry(position).or_insert(Refused { rejection, unknown });
    }

    /// The column whose character set lacks a character of the row's text, where the server does not name it.
    fn not_encodable(&self, position: usize) -> Option<String> {
        let target = self.rows.target;
        let columns = self.rows.columns.iter().map(|&c| &target.table.columns[target.columns[c]]);
        let (column, _) = columns.zip(self.rows.row(position)).find(|(column, cell)| {
            let (ColumnKind::Text { charset, .. }, Cell::Text(span)) = (&column.kind, cell) else { return false };
            let last = match charset {
                Charset::Utf8mb4 => char::MAX,
                Charset::Utf8mb3 => '\u{ffff}',
                Charset::Latin1 => '\u{ff}',
                Charset::Ascii => '\u{7f}',
            };
            String::from_utf8_lossy(span.of(self.rows.arena)).chars().any(|c| c > last)
        })?;
        Some(column.name.clone())
    }

    fn forget_refused(&mut self) {
        self.left.retain(|position| !self.refused.contains_key(position));
    }
}

/// The query for staged rows whose parent by this key is missing, and the positions of the key's cells in a row. None
/// where the stage lacks a column of the key, or the parent is the table itself (a temporary table can stand in a
/// statement only once) or in another database: halving finds those.
fn orphans(rows: &Rows<'_>, plan: &Plan, key: &ForeignKey) -> Result<Option<(String, Vec<usize>)>, Failure> {
    let table = &rows.target.table;
    if key.parent == table.name || key.parent.contains('.') || key.columns.len() != key.parent_columns.len() {
        return Ok(None);
    }
    let mut cells = Vec::new();
    for &column in &key.columns {
        match rows.columns.iter().position(|&c| rows.target.columns[c] == column) {
            Some(cell) => cells.push(cell),
            None => return Ok(None),
        }
    }
    let parent = super::connection::quoted(&key.parent)?;
    let parents =
        key.parent_columns.iter().map(|name| super::connection::quoted(name)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = parents.first() else { return Ok(None) };
    let pairs: Vec<String> =
        cells.iter().zip(&parents).map(|(&cell, name)| format!("p.{name} = s.{}", plan.columns[cell])).collect();
    let given: Vec<String> = cells.iter().map(|&cell| format!("s.{} IS NOT NULL", plan.columns[cell])).collect();
    let mut sql = format!(
        "SELECT s.bief_seq FROM {} s LEFT JOIN {parent} p ON {} WHERE {} AND p.{first} IS NULL",
        plan.stage,
        pairs.join(" AND "),
        given.join(" AND ")
    );
    if rows.target.on_conflict == OnConflict::Ignore && !plan.key.is_empty() {
        // A row that is there already is left as it is, whatever the new one points at.
        sql.push_str(&format!(" AND NOT EXISTS (SELECT 1 FROM {} t WHERE {})", plan.table, plan.same_key()));
    }
    Ok(Some((sql, cells)))
}

#[cfg(test)]
mod tests {
    use super::{Applied, Failure, UNKNOWN_TRIES, UnknownTries};

    #[test]
    fn a_lone_row_with_an_unknown_code_is_given_up_after_some_tries_and_many_stop_the_stream() {
        let mut tries = UnknownTries::default();
        for rows in [1, 7] {
            for _ in 1..UNKNOWN_TRIES {
                assert!(matches!(tries.judge(rows, "odd".into()), Err(Failure::Transient(_))));
            }
            match (rows, tries.judge(rows, "odd".into())) {
                (1, outcome) => assert_eq!(outcome, Ok(())),
                (_, Err(Failure::Fatal(words))) => assert!(words.contains("all 7 rows"), "{words}"),
                other => panic!("{other:?}"),
            }
        }
        for words in ["odd", "other"].into_iter().cycle().take(3 * UNKNOWN_TRIES as usize) {
            assert!(matches!(tries.judge(1, words.into()), Err(Failure::Transient(_))));
        }
    }

    #[test]
    fn what_was_there_is_counted_from_affected_and_changed_rows() {
        let of = |affected, changed| Applied { affected, changed }.unchanged(10);
        assert_eq!(of(10, Some(0)), Some(0), "all new");
        assert_eq!(of(20, Some(10)), Some(0), "all changed");
        assert_eq!(of(10, Some(5)), Some(5), "half changed, half as they were");
        assert_eq!(of(0, Some(0)), Some(10));
        assert_eq!(of(10, None), None);
        assert_eq!(of(3, Some(2)), None, "a server that counts otherwise is not believed");
    }
}
