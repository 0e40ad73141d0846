//! What the server takes with nothing but a client: LOAD DATA LOCAL from memory, 10,000 rows at a time, a commit
//! each. The upper mark that the daemon is measured against.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::database::{Rows, connect, list, quoted};
use super::null::NullConsumer;

pub const CHUNK_ROWS: u64 = 10_000;

/// A packet of the client holds so much of a chunk.
const PACKET: usize = 256 * 1024;

/// The server's answer to a client that lost against another one.
const DEADLOCK: u16 = 1213;

/// Loads the parents, then the facts with this many clients, each a stretch of its own. Returns rows of the fact
/// table a second; the parents' time counts. Who reads beside begins with it.
pub async fn insert(
    mysql: &str,
    parents: &[Rows],
    facts: &Rows,
    clients: usize,
    beside: Option<NullConsumer>,
) -> Result<f64> {
    let mut connections = connections(mysql, clients).await?;
    let start = Instant::now();
    let beside = begin(beside)?;
    for parent in parents {
        for (chunk, rows) in &parent.chunks {
            load(&mut connections[0], &parent.table, &parent.columns, chunk, *rows).await?;
        }
    }
    let work = stretches(facts, clients).zip(&mut connections).map(|(chunks, conn)| async move {
        for (chunk, rows) in chunks {
            load(conn, &facts.table, &facts.columns, chunk, *rows).await?;
        }
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(work).await?;
    finish(connections, facts, beside, start).await
}

/// Updates every row: a chunk goes into a temporary table without keys, from there by INSERT ... ON DUPLICATE KEY
/// UPDATE into the table. Returns rows a second.
pub async fn update(mysql: &str, facts: &Rows, clients: usize, beside: Option<NullConsumer>) -> Result<f64> {
    let mut connections = connections(mysql, clients).await?;
    let columns = list(&facts.columns);
    for conn in &mut connections {
        conn.query_drop(format!("CREATE TEMPORARY TABLE staging AS SELECT {columns} FROM {} LIMIT 0", facts.table))
            .await?;
    }
    let assignments: Vec<_> = facts
        .columns
        .iter()
        .filter(|column| !facts.key.contains(column))
        .map(|column| format!("{column} = VALUES({column})", column = quoted(column)))
        .collect();
    let upsert = format!(
        "INSERT INTO {} ({columns}) SELECT {columns} FROM staging ON DUPLICATE KEY UPDATE {}",
        facts.table,
        assignments.join(", ")
    );
    let upsert = &upsert;
    let start = Instant::now();
    let beside = begin(beside)?;
    let work = stretches(facts, clients).zip(&mut connections).map(|(chunks, conn)| async move {
        for (chunk, rows) in chunks {
            while !upsert_chunk(conn, facts, upsert, chunk, *rows).await? {}
        }
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(work).await?;
    finish(connections, facts, beside, start).await
}

/// False where it has to be tried again.
async fn upsert_chunk(conn: &mut Conn, facts: &Rows, upsert: &str, chunk: &Bytes, rows: u64) -> Result<bool> {
    conn.query_drop("TRUNCATE staging").await?;
    conn.query_drop("START TRANSACTION").await?;
    load(conn, "staging", &facts.columns, chunk, rows).await?;
    match conn.query_drop(upsert).await {
        Ok(()) => {}
        Err(mysql_async::Error::Server(error)) if error.code == DEADLOCK => return Ok(false),
        Err(error) => return Err(error).context("cannot update"),
    }
    // The server counts an updated row twice, an unchanged one not at all.
    let affected = conn.affected_rows();
    ensure!(affected == 2 * rows, "{rows} rows were to be updated, {affected} affected");
    conn.query_drop("COMMIT").await?;
    Ok(true)
}

/// One LOAD DATA of a chunk that is in memory; a deadlock is tried again.
async fn load(conn: &mut Conn, table: &str, columns: &[String], chunk: &Bytes, rows: u64) -> Result<()> {
    let sql =
        format!("LOAD DATA LOCAL INFILE 'chunk' INTO TABLE {table} CHARACTER SET utf8mb4 ({})", columns.join(", "));
    loop {
        let pieces: Vec<_> =
            (0..chunk.len()).step_by(PACKET).map(|at| Ok(chunk.slice(at..chunk.len().min(at + PACKET)))).collect();
        conn.set_infile_handler(async move { Ok(stream::iter(pieces).boxed()) });
        match conn.query_drop(&sql).await {
            Ok(()) => break,
            Err(mysql_async::Error::Server(error)) if error.code == DEADLOCK && table != "staging" => {}
            Err(error) => return Err(error).with_context(|| format!("cannot load into {table}")),
        }
    }
    // LOCAL drops and alters rows with a warning only.
    let (affected, warnings) = (conn.affected_rows(), conn.get_warnings());
    if affected != rows || warnings != 0 {
        bail!("{rows} rows were sent to {table}, {affected} affected, {warnings} warnings");
    }
    Ok(())
}

async fn connections(mysql: &str, clients: usize) -> Result<Vec<Conn>> {
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(connect(mysql, true).await?);
    }
    Ok(connections)
}

/// The chunks of each client.
fn stretches(facts: &Rows, clients: usize) -> impl Iterator<Item = &[(Bytes, u64)]> {
    facts.chunks.chunks(facts.chunks.len().div_ceil(clients).max(1))
}

fn begin(mut beside: Option<NullConsumer>) -> Result<Option<NullConsumer>> {
    beside.as_mut().map(NullConsumer::begin).transpose()?;
    Ok(beside)
}

async fn finish(connections: Vec<Conn>, facts: &Rows, beside: Option<NullConsumer>, start: Instant) -> Result<f64> {
    let rows: u64 = facts.chunks.iter().map(|(_, rows)| rows).sum();
    let seconds = start.elapsed().as_secs_f64();
    if let Some(consumer) = beside {
        consumer.wait(rows)?;
    }
    for conn in connections {
        conn.disconnect().await?;
    }
    Ok(rows as f64 / seconds)
}
