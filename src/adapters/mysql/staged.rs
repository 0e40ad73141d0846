//! The staged way: rows go strictly into a temporary table without the real one's keys, then from there into the real
//! table in one statement that leaves or updates the row of the same primary key and fails on any other clash. Never
//! REPLACE into the real table and never a DELETE from it: its children would go with the row.

use mysql_async::Value;

use super::connection::{Session, quoted};
use super::direct::{columns, into, loads};
use super::errors::{Failure, RowFailure, row_in};
use super::params;
use super::poison::{Applied, Poison, UnknownTries};
use super::tsv::{self, Form};
use crate::core::outcome::Reason;
use crate::core::schema::ColumnKind;
use crate::core::target::{OnConflict, Rows};
use crate::ports::Written;

/// Emptying a temporary table row by row is quicker than making it anew up to about this many rows.
const EMPTIED: usize = 500;
/// Rows named in one statement.
const LEFT_OUT: usize = 5_000;
/// Temporary tables of one connection: one for each table and set of columns given.
const MAX_STAGES: usize = 64;

/// One temporary table of the connection.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    /// Quoted.
    name: String,
    create: String,
    /// Rows that it may hold at most.
    filled: usize,
}

/// What the staged way did.
pub(super) struct Outcome {
    pub written: Written,
    /// Every row was new and none refused: the direct way would have done.
    pub clean: bool,
    /// Of the next batch.
    pub expected: Expected,
}

/// The statements of one call, as text around the names of table, stage and columns.
pub(super) struct Plan {
    /// Quoted.
    pub table: String,
    /// Quoted.
    pub stage: String,
    /// Quoted, in the order of a row's cells.
    pub columns: Vec<String>,
    /// Quoted; empty where the table has no primary key.
    pub key: Vec<String>,
    on_conflict: String,
    /// Sets the other columns of the rows that are there; none where conflicts leave the row as it is.
    update: Option<String>,
}

/// A statement that filled the stage failed.
pub(super) struct Stumble {
    pub failure: Failure,
    /// The row that the server named.
    pub position: Option<usize>,
}

/// What of the last batch is likely of the next; a wrong guess costs time and nothing else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Expected {
    /// Rows that are there as they are: they are asked for before the write. Otherwise the write comes first and the
    /// server's own count tells whether there were any; only then it is undone and they are asked for.
    pub unchanged: bool,
    /// No row is new: an UPDATE is quicker than an INSERT that fails on every row and updates it.
    pub no_new: bool,
}

pub(super) async fn write(
    session: &mut Session,
    rows: &Rows<'_>,
    forms: &[Form],
    buffer: &mut Vec<u8>,
    expected: Expected,
    tries: &mut UnknownTries,
) -> Result<Outcome, Failure> {
    let stage = empty_stage(session, rows).await?;
    let plan = Plan::of(rows, stage)?;
    let mut poison = Poison::new(rows);
    poison.fill(session, &plan, forms, buffer).await?;
    let mut unchanged = Vec::new();
    let applied = if plan.key.is_empty() || poison.any_refused() {
        poison.apply(session, &plan).await?
    } else if expected.unchanged {
        unchanged = ask_unchanged(session, &plan, rows).await?;
        apply_rest(session, &plan, &mut poison, rows.len() - unchanged.len(), expected.no_new).await?
    } else {
        session.run("SAVEPOINT bief_staged").await?;
        let applied = apply_rest(session, &plan, &mut poison, rows.len(), expected.no_new).await?;
        if poison.any_refused() || applied.unchanged(rows.len()) == Some(0) {
            applied
        } else {
            session.run("ROLLBACK TO SAVEPOINT bief_staged").await?;
            unchanged = ask_unchanged(session, &plan, rows).await?;
            apply_rest(session, &plan, &mut poison, rows.len() - unchanged.len(), false).await?
        }
    };
    let refused = poison.refusals(tries)?;
    if refused.is_empty() {
        let clean = unchanged.is_empty() && applied.affected == rows.len() as u64;
        let expected = Expected { unchanged: !unchanged.is_empty(), no_new: applied.new_rows() == Some(0) };
        Ok(Outcome { written: Written { unchanged, ..Written::default() }, clean, expected })
    } else {
        // A refused batch tells nothing of the rows that were there.
        Ok(Outcome { written: Written { refused, ..Written::default() }, clean: false, expected })
    }
}

/// Writes the `count` rows that the stage holds.
async fn apply_rest(
    session: &mut Session,
    plan: &Plan,
    poison: &mut Poison<'_>,
    count: usize,
    no_new: bool,
) -> Result<Applied, Failure> {
    if count == 0 {
        return Ok(Applied::updated(Some(0)));
    }
    if no_new && let Some(update) = &plan.update {
        session.run("SAVEPOINT bief_update").await?;
        match session.run(update).await {
            Ok(ack) if ack.matched == Some(count as u64) => return Ok(Applied::updated(ack.changed)),
            Ok(_) => {
                session.run("ROLLBACK TO SAVEPOINT bief_update").await?;
            }
            // The usual way finds the row.
            Err(Failure::Row(_)) => {}
            Err(other) => return Err(other),
        }
    }
    poison.apply(session, plan).await
}

/// Positions of the rows that are there as they are. They are taken out of the stage: even an update that changes
/// nothing locks its row, and writers that lock each other's parents for nothing end in deadlocks.
async fn ask_unchanged(session: &mut Session, plan: &Plan, rows: &Rows<'_>) -> Result<Vec<usize>, Failure> {
    let positions: Vec<u64> = session.rows(&plan.unchanged(rows)).await?;
    for part in positions.chunks(LEFT_OUT) {
        let positions: Vec<String> = part.iter().map(u64::to_string).collect();
        session.run(&format!("DELETE FROM {} WHERE bief_seq IN ({})", plan.stage, positions.join(","))).await?;
    }
    Ok(positions.into_iter().map(|position| position as usize).collect())
}

/// The quoted name of an empty stage for these columns.
pub(super) async fn empty_stage(session: &mut Session, rows: &Rows<'_>) -> Result<String, Failure> {
    let given: Vec<usize> = rows.columns.iter().map(|&c| rows.target.columns[c]).collect();
    let id = (rows.target.table.name.clone(), given);
    if let Some(stage) = session.stages.get_mut(&id) {
        let (name, create, filled) = (stage.name.clone(), stage.create.clone(), stage.filled);
        stage.filled = rows.len();
        if filled <= EMPTIED {
            session.run(&format!("DELETE FROM {name}")).await?;
        } else {
            session.run(&format!("DROP TEMPORARY TABLE IF EXISTS {name}")).await?;
            session.run(&create).await?;
        }
        return Ok(name);
    }
    if session.stages.len() >= MAX_STAGES {
        let names: Vec<String> = session.stages.drain().map(|(_, stage)| stage.name).collect();
        session.run(&format!("DROP TEMPORARY TABLE IF EXISTS {}", names.join(","))).await?;
    }
    let name = quoted(&format!("bief_stage_{}", session.stages.len()))?;
    let create = create_stage(session, rows, &name).await?;
    session.run(&create).await?;
    session.stages.insert(id, Stage { name: name.clone(), create, filled: rows.len() });
    Ok(name)
}

/// The same types, collations and NOT NULLs as the real columns, no key but the row's position: so a value is refused
/// or converted here as it would be there.
async fn create_stage(session: &mut Session, rows: &Rows<'_>, name: &str) -> Result<String, Failure> {
    let table = &rows.target.table.name;
    if !session.definitions.contains_key(table) {
        let read = session
            .ask::<(String, String, Option<String>, String)>(
                "SELECT COLUMN_NAME, COLUMN_TYPE, COLLATION_NAME, IS_NULLABLE FROM information_schema.COLUMNS \
                 WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?",
                vec![table.as_str().into()],
            )
            .await?
            .into_iter()
            .map(|(column, kind, collation, nullable)| {
                let collation = collation.map_or(String::new(), |name| format!(" COLLATE {name}"));
                let null = match nullable.as_str() {
                    "YES" => "NULL",
                    // Else a server without explicit_defaults_for_timestamp gives the second one a zero date.
                    _ if kind.starts_with("timestamp") => "NOT NULL DEFAULT '2000-01-01 00:00:00'",
                    _ => "NOT NULL",
                };
                (column, format!("{kind}{collation} {null}"))
            })
            .collect();
        session.definitions.insert(table.clone(), read);
    }
    let known = &session.definitions[table];
    let mut create = format!("CREATE TEMPORARY TABLE {name} (bief_seq INT NOT NULL PRIMARY KEY");
    for column in rows.names() {
        let Some((_, definition)) = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(column)) else {
            return Err(Failure::Fatal(format!(
                "table {table} has no column {column}: compare it with the mapping (`bief check --connect`)"
            )));
        };
        create.push_str(&format!(", {} {definition}", quoted(column)?));
    }
    create.push_str(") ENGINE=InnoDB");
    Ok(create)
}

impl Plan {
    pub fn of(rows: &Rows<'_>, stage: String) -> Result<Self, Failure> {
        let table = quoted(&rows.target.table.name)?;
        let columns = columns(rows)?;
        let column = |position: usize| &rows.target.table.columns[rows.target.columns[position]];
        let name = |position: usize| quoted(&column(position).name);
        let key = rows.target.key.iter().map(|&position| name(position)).collect::<Result<Vec<_>, _>>()?;
        let first_kind = rows.target.key.first().map(|&position| &column(position).kind);
        let on_conflict = on_conflict(&table, &columns, &key, first_kind, rows.target.on_conflict);
        let mut plan = Self { table, stage, columns, key, on_conflict, update: None };
        let set: Vec<String> = plan
            .columns
            .iter()
            .filter(|column| !plan.key.contains(column))
            .map(|column| format!("t.{column} = s.{column}"))
            .collect();
        if rows.target.on_conflict == OnConflict::Update && !set.is_empty() {
            plan.update = Some(format!(
                "UPDATE {} s STRAIGHT_JOIN {} t ON {} SET {}",
                plan.stage,
                plan.table,
                plan.same_key(),
                set.join(", ")
            ));
        }
        Ok(plan)
    }

    /// From the stage into the table, for the positions in this inclusive range. The table goes by its own name here, so
    /// that the stage's alias must be none that a table may have.
    pub fn insert(&self, from: usize, to: usize) -> String {
        format!("{}{}", self.plain_insert(from, to), self.on_conflict)
    }

    /// The same, failing on every clash.
    pub fn plain_insert(&self, from: usize, to: usize) -> String {
        let from_stage: Vec<String> = self.columns.iter().map(|column| format!("bief_staged.{column}")).collect();
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} bief_staged WHERE bief_seq BETWEEN {from} AND {to} ORDER BY bief_seq",
            self.table,
            self.columns.join(","),
            from_stage.join(","),
            self.stage
        )
    }

    /// `t.key = s.key AND …`
    pub fn same_key(&self) -> String {
        self.key.iter().map(|key| format!("t.{key} = s.{key}")).collect::<Vec<_>>().join(" AND ")
    }

    /// Positions of the rows that are there already; where conflicts update, those that are there with the same values.
    fn unchanged(&self, rows: &Rows<'_>) -> String {
        let mut sql =
            format!("SELECT s.bief_seq FROM {} s STRAIGHT_JOIN {} t ON {}", self.stage, self.table, self.same_key());
        if rows.target.on_conflict == OnConflict::Update {
            let mut glue = " WHERE ";
            for (column, &position) in self.columns.iter().zip(rows.columns) {
                if rows.target.key.contains(&position) {
                    continue;
                }
                let kind = &rows.target.table.columns[rows.target.columns[position]].kind;
                sql.push_str(glue);
                sql.push_str(&format!("{} <=> {}", compared("t", column, kind), compared("s", column, kind)));
                glue = " AND ";
            }
        }
        sql.push_str(" ORDER BY s.bief_seq");
        sql
    }
}

/// Texts compare by their bytes: to a collation, texts that differ can be equal.
fn compared(alias: &str, column: &str, kind: &ColumnKind) -> String {
    match kind {
        ColumnKind::Text { .. } | ColumnKind::Enum { .. } => format!("CAST({alias}.{column} AS BINARY)"),
        ColumnKind::Json => format!("CAST(CAST({alias}.{column} AS CHAR) AS BINARY)"),
        _ => format!("{alias}.{column}"),
    }
}

/// A number beyond any, which is an error in every mode of the server. It must not be a constant: those are computed
/// beforehand.
const TOO_LARGE: &str = "18446744073709551615 + (bief_staged.bief_seq + 1)";

/// What no column of this kind takes. A NULL would not do for all: a column with AUTO_INCREMENT makes 0 of it, and a
/// TIMESTAMP the present time.
fn impossible(kind: &ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Integer { .. } | ColumnKind::Float { .. } | ColumnKind::DateTime { timestamp: true, .. } => {
            TOO_LARGE
        }
        _ => "NULL",
    }
}

/// Whether these words are of a key that was made [`impossible`].
pub(super) fn was_made_impossible(code: u16, words: &str) -> bool {
    const OUT_OF_RANGE: u16 = 1690;
    code == OUT_OF_RANGE && words.contains("bief_seq")
}

/// ON DUPLICATE KEY UPDATE does not tell which index clashed. So its first assignment keeps the key where the primary
/// key is the same, and makes the key what it cannot be, which fails, where another unique index is what clashed.
fn on_conflict(
    table: &str,
    columns: &[String],
    key: &[String],
    first_kind: Option<&ColumnKind>,
    on_conflict: OnConflict,
) -> String {
    let (Some(first), Some(kind)) = (key.first(), first_kind) else { return String::new() };
    let same: Vec<String> = key.iter().map(|key| format!("{table}.{key} <=> bief_staged.{key}")).collect();
    let mut sql = format!(
        " ON DUPLICATE KEY UPDATE {table}.{first} = IF({}, {table}.{first}, {})",
        same.join(" AND "),
        impossible(kind)
    );
    if on_conflict == OnConflict::Update {
        for column in columns.iter().filter(|column| !key.contains(column)) {
            sql.push_str(&format!(", {table}.{column} = bief_staged.{column}"));
        }
    }
    sql
}

/// Sends the rows at these positions into the stage; `strict` refuses what the columns cannot hold, else it is altered
/// and warned of. Returns the warnings that name a row, with its position.
pub(super) async fn send(
    session: &mut Session,
    rows: &Rows<'_>,
    plan: &Plan,
    forms: &[Form],
    buffer: &mut Vec<u8>,
    positions: &[usize],
    strict: bool,
) -> Result<Vec<(usize, u16, String)>, Stumble> {
    let mut warned = Vec::new();
    if loads(session, positions.len()) {
        buffer.clear();
        tsv::encode_numbered(rows, forms, positions, buffer);
        let replace = if strict { "REPLACE" } else { "" };
        match session.load(&into(&plan.stage, replace, &plan.columns, forms, true), buffer).await {
            // What is cut short on its way is stored as if it had ended; no row is dropped here for what it holds.
            Ok(ack) if strict && ack.affected < positions.len() as u64 => {
                let what = format!("{} of {} rows arrived in the stage {}", ack.affected, positions.len(), plan.stage);
                return Err(Stumble::unnamed(Failure::Transient(what)));
            }
            Ok(_) if strict => return Ok(warned),
            Ok(_) => {
                warnings(session, positions, &mut warned).await.map_err(Stumble::unnamed)?;
                return Ok(warned);
            }
            Err(Failure::LocalInfileOff(_)) => {}
            Err(failure) => return Err(Stumble::named(failure, positions)),
        }
    }
    let max_packet = session.server.max_allowed_packet;
    let width = plan.columns.len() + 1;
    let ignore = if strict { "" } else { "IGNORE " };
    let mut start = 0;
    while start < positions.len() {
        let part = params::chunk(rows, positions, start, 1, max_packet);
        start = part.end;
        let part = &positions[part];
        if let [position] = *part
            && params::row_size(rows.row(position)) >= max_packet
        {
            return Err(Stumble {
                failure: Failure::Row(too_large(rows, position, max_packet)),
                position: Some(position),
            });
        }
        let mut values = Vec::with_capacity(part.len() * width);
        for &position in part {
            values.push(Value::UInt(position as u64));
            let row = rows.row(position);
            values.extend(row.iter().zip(forms).map(|(cell, form)| params::value(*cell, *form, rows.arena)));
        }
        let sql = format!(
            "INSERT {ignore}INTO {} (bief_seq,{}) VALUES {}",
            plan.stage,
            plan.columns.join(","),
            params::placeholders(part.len(), width)
        );
        session.execute(&sql, values).await.map_err(|failure| Stumble::named(failure, part))?;
        if !strict {
            warnings(session, part, &mut warned).await.map_err(Stumble::unnamed)?;
        }
    }
    Ok(warned)
}

/// A row that fits into no statement; by LOAD DATA it would.
fn too_large(rows: &Rows<'_>, position: usize, max_packet: usize) -> RowFailure {
    let size = params::row_size(rows.row(position));
    RowFailure {
        code: 1153,
        reason: Reason::TooLong,
        unknown: false,
        words: format!("the row takes {size} bytes, more than the server's max_allowed_packet of {max_packet}"),
    }
}

async fn warnings(
    session: &mut Session,
    positions: &[usize],
    warned: &mut Vec<(usize, u16, String)>,
) -> Result<(), Failure> {
    for (level, code, words) in session.rows::<(String, u16, String)>("SHOW WARNINGS").await? {
        if level != "Note"
            && let Some(&position) = row_in(&words).and_then(|row| positions.get(row - 1))
        {
            warned.push((position, code, words));
        }
    }
    Ok(())
}

impl Stumble {
    fn unnamed(failure: Failure) -> Self {
        Self { failure, position: None }
    }

    /// `positions` are the rows of the statement, in its order.
    fn named(failure: Failure, positions: &[usize]) -> Self {
        let position = match &failure {
            Failure::Row(row) => row_in(&row.words).and_then(|row| positions.get(row - 1)).copied(),
            _ => None,
        };
        Self { failure, position }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clash_on_another_index_than_the_primary_key_must_fail() {
        let columns = ["`a`".to_owned(), "`b`".to_owned(), "`v`".to_owned()];
        let key = ["`a`".to_owned(), "`b`".to_owned()];
        let text = ColumnKind::Binary { max_bytes: None, padded: false };
        assert_eq!(
            on_conflict("`t`", &columns, &key, Some(&text), OnConflict::Update),
            " ON DUPLICATE KEY UPDATE `t`.`a` = IF(`t`.`a` <=> bief_staged.`a` AND \
             `t`.`b` <=> bief_staged.`b`, `t`.`a`, NULL), `t`.`v` = bief_staged.`v`"
        );
        assert!(!on_conflict("`t`", &columns, &key, Some(&text), OnConflict::Ignore).contains("`v`"));
        assert_eq!(on_conflict("`t`", &columns, &[], None, OnConflict::Update), "");
        let number = ColumnKind::Integer { min: 0, max: 9 };
        assert!(on_conflict("`t`", &columns, &key, Some(&number), OnConflict::Ignore).contains(TOO_LARGE));
    }
}
