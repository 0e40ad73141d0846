//! The benchmark's own view of the MySQL server: databases made and dropped, tables described, rows read back.

use std::path::Path;

use anyhow::{Context, Result, bail};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, Row, Value};

use super::config::{DATABASE, FACT, migration_files};

/// What the bookkeeping says was committed. Both are offsets of the same partitions, so the difference counts records.
const COMMITTED: &str = "SELECT CAST(COALESCE(SUM(next_offset - start_offset), 0) AS SIGNED) FROM bief_offset";

/// Bytes of one row that fills the redo log.
const REDO_PART: u64 = 8 << 20;

/// The server's error for a table that is not there.
const NO_SUCH_TABLE: u16 = 1146;

pub async fn connect(mysql: &str, database: bool) -> Result<Conn> {
    let url = if database { format!("{mysql}{DATABASE}") } else { mysql.to_string() };
    let opts = Opts::from_url(&url).context("not a MySQL address")?;
    Conn::new(opts).await.context("cannot connect to MySQL")
}

/// An empty database, the bookkeeping gone with the tables.
pub async fn recreate(mysql: &str) -> Result<()> {
    let mut conn = connect(mysql, false).await?;
    conn.query_drop(format!("DROP DATABASE IF EXISTS {DATABASE}")).await?;
    conn.query_drop(format!("CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4")).await?;
    conn.disconnect().await?;
    Ok(())
}

/// Makes the tables of a folder's SQL files.
pub async fn migrate(mysql: &str, folder: &Path) -> Result<()> {
    let mut conn = connect(mysql, true).await?;
    for file in migration_files(folder)? {
        let sql = std::fs::read_to_string(&file)?;
        conn.query_drop(sql).await.with_context(|| format!("cannot apply {}", file.display()))?;
    }
    conn.disconnect().await?;
    Ok(())
}

/// Writes as much as the server's redo log holds, and a little more. The blocks of a new server's log are written for
/// the first time, which makes the file system stall commits; a server that runs for more than minutes has long reused
/// them.
pub async fn reuse_redo_log(mysql: &str) -> Result<()> {
    let mut conn = connect(mysql, true).await?;
    let capacity: Option<u64> = conn.query_first("SELECT @@GLOBAL.innodb_redo_log_capacity").await?;
    let capacity = capacity.context("the server does not tell the size of its redo log")?;
    conn.query_drop("CREATE TABLE bench_redo (filler LONGBLOB)").await?;
    let mut written = 0;
    while written < capacity + capacity / 4 {
        conn.query_drop(format!("INSERT INTO bench_redo VALUES (REPEAT('x', {REDO_PART}))")).await?;
        written += REDO_PART;
    }
    conn.query_drop("DROP TABLE bench_redo").await?;
    conn.disconnect().await?;
    Ok(())
}

/// Records whose transaction is committed.
pub async fn committed(conn: &mut Conn) -> Result<u64> {
    let count: Result<Option<i64>, _> = conn.query_first(COMMITTED).await;
    match count {
        Ok(count) => Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0)),
        Err(mysql_async::Error::Server(error)) if error.code == NO_SUCH_TABLE => Ok(0),
        Err(error) => Err(error).context("cannot read bief_offset"),
    }
}

/// Makes bief read the topic from its start again, its tables left as they are.
pub async fn forget_offsets(mysql: &str) -> Result<()> {
    let mut conn = connect(mysql, true).await?;
    let tables: Vec<String> = conn
        .exec(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = ? \
             AND table_name IN ('bief_offset', 'bief_gap', 'bief_dead_letter')",
            (DATABASE,),
        )
        .await?;
    for table in tables {
        conn.query_drop(format!("DELETE FROM {table}")).await?;
    }
    conn.disconnect().await?;
    Ok(())
}

/// Fails unless every record became a row of the fact table.
pub async fn assert_complete(mysql: &str, records: u64) -> Result<()> {
    assert_complete_but(mysql, records, 0).await
}

/// The same where so many records are set aside.
pub async fn assert_complete_but(mysql: &str, records: u64, set_aside: u64) -> Result<()> {
    let mut conn = connect(mysql, true).await?;
    let rows: Option<u64> = conn.query_first(format!("SELECT COUNT(*) FROM {FACT}")).await?;
    let dead: Option<u64> = conn.query_first("SELECT COUNT(*) FROM bief_dead_letter").await?;
    conn.disconnect().await?;
    if rows != Some(records - set_aside) || dead != Some(set_aside) {
        bail!(
            "{records} records, {set_aside} of them bad, became {} rows of {FACT} and {} dead letters",
            rows.unwrap_or(0),
            dead.unwrap_or(0)
        );
    }
    Ok(())
}

/// A name as MySQL quotes it.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Quoted names, apart by commas.
pub fn list(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// A column as the server describes it.
pub struct Column {
    pub name: String,
    kind: String,
    nullable: bool,
    pub in_primary_key: bool,
    indexed: bool,
    pub numeric: bool,
}

/// The columns of a table that can be written, in their order.
pub async fn columns(conn: &mut Conn, table: &str) -> Result<Vec<Column>> {
    let rows: Vec<(String, String, String, String, String)> = conn
        .exec(
            "SELECT column_name, column_type, is_nullable, column_key, data_type FROM information_schema.columns \
             WHERE table_schema = ? AND table_name = ? AND generation_expression = '' ORDER BY ordinal_position",
            (DATABASE, table),
        )
        .await?;
    if rows.is_empty() {
        bail!("the migrations make no table {table}");
    }
    let numbers = ["smallint", "mediumint", "int", "bigint", "float", "double", "decimal"];
    let column = |(name, kind, nullable, key, data_type): (String, String, String, String, String)| Column {
        name,
        kind,
        nullable: nullable == "YES",
        in_primary_key: key == "PRI",
        indexed: !key.is_empty(),
        numeric: numbers.contains(&data_type.to_lowercase().as_str()),
    };
    Ok(rows.into_iter().map(column).collect())
}

/// The fact table with its primary key and no other index, constraint or default.
pub async fn plain_table(mysql: &str) -> Result<String> {
    let mut conn = connect(mysql, true).await?;
    let columns = columns(&mut conn, FACT).await?;
    let key: Vec<String> = conn
        .exec(
            "SELECT column_name FROM information_schema.key_column_usage WHERE table_schema = ? AND table_name = ? \
             AND constraint_name = 'PRIMARY' ORDER BY ordinal_position",
            (DATABASE, FACT),
        )
        .await?;
    conn.disconnect().await?;
    let describe = |column: &Column| {
        format!("  {} {} {}", quoted(&column.name), column.kind, if column.nullable { "NULL" } else { "NOT NULL" })
    };
    let columns: Vec<_> = columns.iter().map(describe).collect();
    Ok(format!("CREATE TABLE {FACT} (\n{},\n  PRIMARY KEY ({})\n)", columns.join(",\n"), list(&key)))
}

/// A numeric column of the fact table outside every index and constraint, whose values can be changed to be set right again.
pub async fn free_number(conn: &mut Conn) -> Result<String> {
    let checks: Vec<String> = conn
        .exec("SELECT check_clause FROM information_schema.check_constraints WHERE constraint_schema = ?", (DATABASE,))
        .await?;
    let mut columns = columns(conn, FACT).await?;
    columns.retain(|column| {
        let is_checked = checks.iter().any(|check| check.contains(&quoted(&column.name)));
        column.numeric && !column.indexed && !is_checked
    });
    columns.sort_by_key(|column| column.nullable);
    let column = columns.into_iter().next();
    Ok(column.with_context(|| format!("{FACT} has no numeric column without an index or a constraint"))?.name)
}

/// Makes every row of the fact table differ from its record in this column.
pub async fn disturb(mysql: &str, column: &str) -> Result<()> {
    let mut conn = connect(mysql, true).await?;
    conn.query_drop(format!("UPDATE {FACT} SET {column} = COALESCE({column}, 0) + 1", column = quoted(column))).await?;
    conn.disconnect().await?;
    Ok(())
}

/// A number that differs when any value of the column does, near enough.
pub async fn fingerprint(mysql: &str, column: &str) -> Result<String> {
    let mut conn = connect(mysql, true).await?;
    let column = quoted(column);
    let sql = format!("SELECT CAST(CONCAT(COUNT({column}), ':', COALESCE(SUM({column}), 0)) AS CHAR) FROM {FACT}");
    let fingerprint: Option<String> = conn.query_first(sql).await?;
    conn.disconnect().await?;
    fingerprint.context("no answer")
}

/// Rows of a table as LOAD DATA reads them: tab-separated, `\N` for NULL.
pub struct Rows {
    pub table: String,
    pub columns: Vec<String>,
    pub key: Vec<String>,
    /// Lines with their ends, in chunks; with the count of lines.
    pub chunks: Vec<(bytes::Bytes, u64)>,
}

/// Reads a whole table, in the order of its primary key.
pub async fn read(mysql: &str, table: &str, chunk_rows: u64) -> Result<Rows> {
    let mut conn = connect(mysql, true).await?;
    let described = columns(&mut conn, table).await?;
    let names: Vec<_> = described.iter().map(|column| column.name.clone()).collect();
    let key: Vec<_> =
        described.iter().filter(|column| column.in_primary_key).map(|column| column.name.clone()).collect();
    let mut chunks = Chunks::of(chunk_rows);
    let sql = format!("SELECT {} FROM {table} FORCE INDEX (PRIMARY) ORDER BY {}", list(&names), list(&key));
    let mut result = conn.query_iter(sql).await?;
    while let Some(row) = result.next().await? {
        chunks.push(|lines| write_line(lines, row))?;
    }
    drop(result);
    conn.disconnect().await?;
    Ok(Rows { table: table.to_string(), columns: names, key, chunks: chunks.finish() })
}

/// Cuts lines into chunks of so many.
struct Chunks {
    most: u64,
    cut: Vec<(bytes::Bytes, u64)>,
    lines: Vec<u8>,
    count: u64,
}

impl Chunks {
    fn of(most: u64) -> Self {
        Self { most, cut: Vec::new(), lines: Vec::new(), count: 0 }
    }

    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        write(&mut self.lines)?;
        self.count += 1;
        if self.count == self.most {
            self.end();
        }
        Ok(())
    }

    /// What comes next is of another chunk.
    fn end(&mut self) {
        if self.count > 0 {
            self.cut.push((std::mem::take(&mut self.lines).into(), std::mem::take(&mut self.count)));
        }
    }

    fn finish(mut self) -> Vec<(bytes::Bytes, u64)> {
        self.end();
        self.cut
    }
}

impl Rows {
    /// The same rows dealt to two clients, as partitions deal the records of a topic: the first half of the chunks is
    /// the one's, the other half the other's, and at any time both write among each other's keys.
    pub fn dealt(&self, chunk_rows: u64) -> Result<Self> {
        let mut chunks = Chunks::of(chunk_rows);
        for client in 0..2 {
            for line in self.chunks.iter().flat_map(|(chunk, _)| chunk.split_inclusive(|byte| *byte == b'\n')) {
                if line.iter().fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte)) >> 7 == client {
                    chunks.push(|lines| {
                        lines.extend_from_slice(line);
                        Ok(())
                    })?;
                }
            }
            chunks.end();
        }
        let (table, columns, key) = (self.table.clone(), self.columns.clone(), self.key.clone());
        Ok(Self { table, columns, key, chunks: chunks.finish() })
    }
}

/// In the text protocol every value is NULL or text.
fn write_line(lines: &mut Vec<u8>, row: Row) -> Result<()> {
    for (position, value) in row.unwrap().into_iter().enumerate() {
        if position > 0 {
            lines.push(b'\t');
        }
        match value {
            Value::NULL => lines.extend_from_slice(b"\\N"),
            Value::Bytes(text) => {
                for byte in text {
                    match byte {
                        b'\\' => lines.extend_from_slice(b"\\\\"),
                        b'\t' => lines.extend_from_slice(b"\\t"),
                        b'\n' => lines.extend_from_slice(b"\\n"),
                        0 => lines.extend_from_slice(b"\\0"),
                        byte => lines.push(byte),
                    }
                }
            }
            other => bail!("the server sent {other:?} in the text protocol"),
        }
    }
    lines.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dealt_rows_are_the_same_rows_in_chunks_of_one_client_each() {
        let lines: Vec<String> = (0..95).map(|n| format!("{n}\trow\n")).collect();
        let chunks = lines.chunks(10).map(|part| (part.concat().into(), part.len() as u64)).collect();
        let rows = Rows { table: "t".into(), columns: vec!["a".into()], key: vec!["a".into()], chunks };
        let dealt = rows.dealt(10).unwrap();
        let counted = |(text, rows): &(bytes::Bytes, u64)| {
            *rows <= 10 && text.iter().filter(|byte| **byte == b'\n').count() as u64 == *rows
        };
        assert!(dealt.chunks.iter().all(counted));
        assert!(dealt.chunks.iter().filter(|(_, rows)| *rows < 10).count() <= 2, "the last of each client");
        let texts: Vec<&[u8]> = dealt.chunks.iter().map(|(text, _)| text.as_ref()).collect();
        let mut found: Vec<String> =
            String::from_utf8(texts.concat()).unwrap().split_inclusive('\n').map(str::to_owned).collect();
        let mut sent = lines;
        found.sort();
        sent.sort();
        assert_eq!(found, sent);
    }
}
