//! The rows that a LOAD DATA LOCAL dropped, where that is all it did: each warning is of a kind that drops its row
//! whole (a CHECK, a missing parent) and as many rows are missing as were warned of, so that no value was altered and
//! the other rows can stay. The warnings name no row: the keys go into a stage, which tells those that are not there.

use super::connection::{Ack, Session};
use super::errors::{Class, Failure, classify};
use super::staged::{self, Plan};
use super::tsv;
use crate::core::cell::Cell;
use crate::core::outcome::Reason;
use crate::core::target::Rows;

/// What a session usually lists of its warnings: MySQL's own default, while MariaDB's 64 is too few. A statement with
/// more is not looked into.
pub(super) const USUALLY_LISTED: u16 = 1024;

/// Positions of the dropped rows, ascending. None where anything else happened too, or it can't be told.
pub(super) async fn find(
    session: &mut Session,
    rows: &Rows<'_>,
    ack: &Ack,
    buffer: &mut Vec<u8>,
) -> Result<Option<Vec<usize>>, Failure> {
    let Some(dropped) = (rows.len() as u64).checked_sub(ack.affected).filter(|count| *count > 0) else {
        return Ok(None);
    };
    if u64::from(ack.warnings) != dropped || ack.warnings > USUALLY_LISTED || rows.target.key.is_empty() {
        return Ok(None);
    }
    let warnings = session.rows::<(String, u16, String)>("SHOW WARNINGS").await?;
    let drops = |(_, code, words): &(String, u16, String)| {
        matches!(classify(*code, "", words), Class::Row(Reason::Check | Reason::ForeignKey))
    };
    if warnings.len() as u64 != dropped || !warnings.iter().all(drops) {
        return Ok(None);
    }
    let missing = missing(session, rows, buffer).await?;
    Ok(Some(missing).filter(|missing| missing.len() as u64 == dropped))
}

/// Positions of the rows whose key is not in the table, ascending.
async fn missing(session: &mut Session, rows: &Rows<'_>, buffer: &mut Vec<u8>) -> Result<Vec<usize>, Failure> {
    let columns = &rows.target.key;
    let places: Vec<usize> = columns.iter().filter_map(|key| rows.columns.iter().position(|c| c == key)).collect();
    let cells: Vec<Cell> = rows.iter().flat_map(|row| places.iter().map(|&place| row[place])).collect();
    let keys = Rows { columns, cells: &cells, ..*rows };
    let stage = staged::empty_stage(session, &keys).await?;
    let plan = Plan::of(&keys, stage)?;
    let positions: Vec<usize> = (0..keys.len()).collect();
    let forms = tsv::forms(&keys);
    if let Err(stumble) = staged::send(session, &keys, &plan, &forms, buffer, &positions, true).await {
        return match stumble.failure {
            Failure::Row(_) => Ok(Vec::new()),
            other => Err(other),
        };
    }
    let Some(first) = plan.key.first() else { return Ok(Vec::new()) };
    let sql = format!(
        "SELECT s.bief_seq FROM {} s LEFT JOIN {} t ON {} WHERE t.{first} IS NULL ORDER BY s.bief_seq",
        plan.stage,
        plan.table,
        plan.same_key()
    );
    let found: Vec<u64> = session.rows(&sql).await?;
    Ok(found.into_iter().map(|position| position as usize).collect())
}
