//! The queries of aggregates on SQLite: run for buckets within the caller's transaction, and asked about. Must never
//! alter a value in silence: what a document does not hold is told.

use chrono::{DateTime, Utc};
use sea_orm::sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sea_orm::sqlx::{self, Arguments, AssertSqlSafe, Column, Executor, Row, SqlSafeStr, Statement, TypeInfo, ValueRef};

use super::aggregates::text;
use crate::adapters::sql_errors::warehouse_error;
use crate::core::bucket_query::Bound;
use crate::core::document::{Bucket, Fields, Value};
use crate::core::marks::BucketSource;
use crate::ports::WarehouseError;
use crate::ports::cache::{Entry, Offsets};
use crate::ports::marks::{AggregateQuery, Computed, Examined};

/// What the query says where it fails, so that nobody looks for the fault in the bookkeeping.
fn of_query(query: &AggregateQuery, error: &sqlx::Error) -> WarehouseError {
    warehouse_error(&format!("the query of aggregate {} fails", query.name), error)
}

/// The bounds as the time's column stores them: a date sorts before the same date with a time.
fn bounds(query: &AggregateQuery, dates: bool, start: DateTime<Utc>, end: DateTime<Utc>) -> SqliteArguments {
    let shown = |moment: DateTime<Utc>| {
        let mut shown = text(moment);
        if dates {
            shown.truncate("YYYY-MM-DD".len());
        }
        shown
    };
    let mut arguments = SqliteArguments::default();
    for bound in query.query.bounds() {
        let bound = arguments.add(match bound {
            Bound::Start => shown(start),
            Bound::End => shown(end),
        });
        // Encoding a text does not fail.
        debug_assert!(bound.is_ok());
    }
    arguments
}

/// Whether the time's column holds dates; false where there is no such column, which the query then says.
async fn holds_dates(connection: &mut SqliteConnection, source: &BucketSource) -> Result<bool, WarehouseError> {
    let declared: Option<(String,)> =
        sqlx::query_as("SELECT type FROM pragma_table_xinfo(?) WHERE name = ? COLLATE NOCASE")
            .bind(&source.table)
            .bind(&source.time)
            .fetch_optional(connection)
            .await
            .map_err(|e| warehouse_error("reading the schema of the database file", &e))?;
    Ok(declared.is_some_and(|(declared,)| declared.eq_ignore_ascii_case("DATE")))
}

async fn entries(
    connection: &mut SqliteConnection,
    query: &AggregateQuery,
    arguments: SqliteArguments,
) -> Result<Vec<Entry>, WarehouseError> {
    let rows = sqlx::query_with(AssertSqlSafe(query.query.sql()), arguments)
        .fetch_all(connection)
        .await
        .map_err(|e| of_query(query, &e))?;
    let wrong = |what: String| WarehouseError::Fatal { what: format!("the query of aggregate {}: {what}", query.name) };
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let names: Vec<String> = first.columns().iter().map(|column| column.name().to_owned()).collect();
    if let Some((problem, help)) = query.misfit(&names) {
        return Err(wrong(format!("{problem}; {help}")));
    }
    rows.iter()
        .map(|row| {
            let values = (0..names.len()).map(|at| Ok((names[at].clone(), value(row, at, &names[at])?)));
            values.collect::<Result<Fields, String>>().map(|fields| query.entry(fields)).map_err(wrong)
        })
        .collect()
}

/// A value by what SQLite stores, not by what its column declares.
fn value(row: &SqliteRow, at: usize, name: &str) -> Result<Value, String> {
    let told = |e: sqlx::Error| format!("its column {name} cannot be read: {e}");
    let raw = row.try_get_raw(at).map_err(told)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let kind = raw.type_info().name().to_owned();
    match kind.as_str() {
        "INTEGER" => row.try_get_unchecked(at).map(Value::Integer).map_err(told),
        "REAL" => row.try_get_unchecked(at).map(Value::Float).map_err(told),
        "TEXT" => row.try_get_unchecked(at).map(Value::Text).map_err(told),
        _ => Err(format!("its column {name} holds bytes, which documents do not hold; write HEX(…) or leave it out")),
    }
}

async fn read_offsets(connection: &mut SqliteConnection, topics: &[String]) -> Result<Offsets, WarehouseError> {
    let mut offsets = Offsets::new();
    for topic in topics {
        let found: Vec<(i32, i64)> =
            sqlx::query_as("SELECT partition_id, next_offset FROM bief_offset WHERE topic = ?")
                .bind(topic)
                .fetch_all(&mut *connection)
                .await
                .map_err(|e| warehouse_error("reading bief_offset", &e))?;
        if !found.is_empty() {
            offsets.insert(topic.clone(), found.into_iter().collect());
        }
    }
    Ok(offsets)
}

/// All from the snapshot of the transaction that is open.
pub(super) async fn compute(
    connection: &mut SqliteConnection,
    query: &AggregateQuery,
    buckets: &[Bucket],
) -> Result<Computed, WarehouseError> {
    let dates = holds_dates(connection, &query.source).await?;
    let offsets = read_offsets(connection, &query.topics).await?;
    let mut computed = Computed { offsets, buckets: Vec::with_capacity(buckets.len()) };
    for bucket in buckets {
        let arguments = bounds(query, dates, bucket.start(), bucket.end());
        computed.buckets.push(entries(connection, query, arguments).await?);
    }
    Ok(computed)
}

pub(super) async fn examine(
    connection: &mut SqliteConnection,
    query: &AggregateQuery,
) -> Result<Examined, WarehouseError> {
    let sql = query.query.sql();
    let statement =
        (&mut *connection).prepare(AssertSqlSafe(sql.clone()).into_sql_str()).await.map_err(|e| of_query(query, &e))?;
    let columns = statement.columns().iter().map(|column| column.name().to_owned()).collect();
    let nothing = || bounds(query, false, DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH);
    entries(connection, query, nothing()).await?;
    let steps: Vec<(i64, i64, i64, String)> =
        sqlx::query_as_with(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")), nothing())
            .fetch_all(connection)
            .await
            .map_err(|e| of_query(query, &e))?;
    let steps: Vec<String> = steps.into_iter().map(|(_, _, _, detail)| detail).collect();
    Ok(Examined { columns, scanned: scanned(&steps) })
}

/// Tables that the steps of a plan read from end to end; what the query itself makes is no table.
fn scanned(steps: &[String]) -> Vec<String> {
    let word = |step: &String, lead: &str| {
        let rest = step.strip_prefix(lead)?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    let made: Vec<String> =
        steps.iter().filter_map(|step| word(step, "CO-ROUTINE ").or_else(|| word(step, "MATERIALIZE "))).collect();
    let mut tables: Vec<String> = steps.iter().filter_map(|step| word(step, "SCAN ")).collect();
    let is_name = |name: &String| name.starts_with(|c: char| c.is_alphabetic() || c == '_') && name != "CONSTANT";
    tables.retain(|table| is_name(table) && !made.contains(table));
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plan_reads_whole_is_found_and_what_the_query_makes_is_no_table() {
        let steps = [
            "MATERIALIZE days",
            "SCAN 2 CONSTANT ROWS",
            "SCAN days",
            "CO-ROUTINE (subquery-3)",
            "SEARCH sale USING INDEX sale_by_time (at>? AND at<?)",
            "SCAN (subquery-3)",
            "SCAN shop USING COVERING INDEX shop_name",
            "USE TEMP B-TREE FOR GROUP BY",
        ];
        assert_eq!(scanned(&steps.map(str::to_owned)), ["shop"]);
    }
}
