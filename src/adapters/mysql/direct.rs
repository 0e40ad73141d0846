//! The direct way: rows straight into the table, all new or not at all. LOAD DATA LOCAL turns row errors into
//! warnings, alters values and drops rows in silence, so a batch counts only if as many rows went in as were sent
//! and nothing was warned of, or if all that happened is that rows were dropped, and which is known; anything else is
//! undone and the batch goes the staged way.

use super::connection::{Session, quoted};
use super::dropped;
use super::errors::Failure;
use super::params;
use super::tsv::{self, Form};
use crate::core::target::Rows;

/// Below this many rows a prepared INSERT is quicker than a LOAD.
const SMALL: usize = 100;

/// True where rows go by LOAD DATA rather than INSERT.
pub(super) fn loads(session: &Session, rows: usize) -> bool {
    session.server.local_infile && rows >= SMALL
}

/// What of the rows is in the table as a new row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WentIn {
    All,
    /// All but those at these positions, ascending.
    AllBut(Vec<usize>),
    Nothing,
}

/// Writes the rows as new ones.
pub(super) async fn write(
    session: &mut Session,
    rows: &Rows<'_>,
    forms: &[Form],
    buffer: &mut Vec<u8>,
) -> Result<WentIn, Failure> {
    session.run("SAVEPOINT bief_direct").await?;
    let outcome = if loads(session, rows.len()) {
        match load(session, rows, forms, buffer).await {
            Err(Failure::LocalInfileOff(_)) => insert(session, rows, forms).await,
            other => other,
        }
    } else {
        insert(session, rows, forms).await
    };
    match outcome {
        Ok(WentIn::Nothing) | Err(Failure::Row(_)) => {
            session.run("ROLLBACK TO SAVEPOINT bief_direct").await?;
            Ok(WentIn::Nothing)
        }
        other => other,
    }
}

async fn load(session: &mut Session, rows: &Rows<'_>, forms: &[Form], buffer: &mut Vec<u8>) -> Result<WentIn, Failure> {
    let table = quoted(&rows.target.table.name)?;
    buffer.clear();
    tsv::encode(rows, forms, buffer);
    let ack = session.load(&into(&table, "", &columns(rows)?, forms, false), buffer).await?;
    if ack.affected == rows.len() as u64 && ack.warnings == 0 {
        return Ok(WentIn::All);
    }
    Ok(dropped::find(session, rows, &ack, buffer).await?.map_or(WentIn::Nothing, WentIn::AllBut))
}

async fn insert(session: &mut Session, rows: &Rows<'_>, forms: &[Form]) -> Result<WentIn, Failure> {
    let table = quoted(&rows.target.table.name)?;
    let columns = columns(rows)?.join(",");
    let positions: Vec<usize> = (0..rows.len()).collect();
    let max_packet = session.server.max_allowed_packet;
    let mut start = 0;
    while start < rows.len() {
        let part = params::chunk(rows, &positions, start, 0, max_packet);
        start = part.end;
        if part.len() == 1 && params::row_size(rows.row(part.start)) >= max_packet {
            return Ok(WentIn::Nothing);
        }
        let width = rows.columns.len();
        let mut values = Vec::with_capacity(part.len() * width);
        for position in part.clone() {
            let row = rows.row(position);
            values.extend(row.iter().zip(forms).map(|(cell, form)| params::value(*cell, *form, rows.arena)));
        }
        let sql = format!("INSERT INTO {table} ({columns}) VALUES {}", params::placeholders(part.len(), width));
        if session.execute(&sql, values).await?.affected != part.len() as u64 {
            return Ok(WentIn::Nothing);
        }
    }
    Ok(WentIn::All)
}

/// The quoted names of the rows' columns.
pub(super) fn columns(rows: &Rows<'_>) -> Result<Vec<String>, Failure> {
    rows.names().map(quoted).collect()
}

/// What follows the file's name in a LOAD DATA. `replace` is what makes LOCAL strict; it must only be used on a table
/// whose keys never clash. `numbered`: the first field is the row's position.
pub(super) fn into(table: &str, replace: &str, columns: &[String], forms: &[Form], numbered: bool) -> String {
    let mut fields = String::new();
    let mut set = String::new();
    if numbered {
        fields.push_str("bief_seq");
    }
    for (index, (column, form)) in columns.iter().zip(forms).enumerate() {
        if !fields.is_empty() {
            fields.push(',');
        }
        match form {
            Form::Hex => {
                fields.push_str(&format!("@b{index}"));
                set.push_str(if set.is_empty() { " SET " } else { "," });
                set.push_str(&format!("{column}=UNHEX(@b{index})"));
            }
            Form::Plain | Form::Fraction(_) => fields.push_str(column),
        }
    }
    format!(
        "{replace} INTO TABLE {table} CHARACTER SET utf8mb4 FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' \
         LINES TERMINATED BY '\\n' ({fields}){set}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_columns_are_read_from_hexadecimal_digits() {
        let columns = ["`a`".to_owned(), "`b`".to_owned(), "`c`".to_owned()];
        let forms = [Form::Plain, Form::Hex, Form::Fraction(6)];
        assert_eq!(
            into("`t`", "REPLACE", &columns, &forms, true),
            "REPLACE INTO TABLE `t` CHARACTER SET utf8mb4 FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' \
             LINES TERMINATED BY '\\n' (bief_seq,`a`,@b1,`c`) SET `b`=UNHEX(@b1)"
        );
    }
}
