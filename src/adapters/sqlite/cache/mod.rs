//! The cache in an SQLite file of its own, for the demo and for tests. A bucket is replaced in one transaction, so that
//! readers see all of it or none.

mod form;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection};
use sea_orm::sqlx::{self, Arguments, AssertSqlSafe, ConnectOptions};

use super::connect::{create_folder, options};
use crate::adapters::cache::document_ids;
use crate::adapters::parts::powers_of_two;
use crate::adapters::sql_errors::warehouse_error;
use crate::config::Secret;
use crate::core::document::{bucket_id, document_id, field_name, ids_of_bucket, ids_of_range};
use crate::ports::WarehouseError;
use crate::ports::cache::{
    Bucket, BucketState, Cache, CacheCounts, CacheError, CacheQuery, CachedAggregate, Cursor, Document, Entry,
    OpenCache, Page, Replaced, Replacement, Value,
};

/// Moments are milliseconds since 1970.
const TABLES: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS bief_document (id TEXT NOT NULL PRIMARY KEY, aggregate TEXT NOT NULL, \
     key TEXT NOT NULL, bucket_start INTEGER NOT NULL, bucket_end INTEGER NOT NULL, \"values\" TEXT NOT NULL, \
     version INTEGER NOT NULL, computed_at INTEGER NOT NULL, offsets TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS bief_bucket (id TEXT NOT NULL PRIMARY KEY, aggregate TEXT NOT NULL, \
     bucket_start INTEGER NOT NULL, bucket_end INTEGER NOT NULL, version INTEGER NOT NULL, entries INTEGER NOT NULL, \
     computed_at INTEGER NOT NULL, offsets TEXT NOT NULL) STRICT, WITHOUT ROWID",
];

/// Documents of one statement.
const MOST_ROWS: usize = 64;

/// The way to open the cache in the file of this URL; folders and file are created where they are missing.
pub fn open_cache(url: &Secret) -> OpenCache {
    let url = url.clone();
    std::sync::Arc::new(move || {
        let url = url.clone();
        Box::pin(async move {
            let options = options(url.expose()).map_err(cache_error)?;
            create_folder(&options).await.map_err(cache_error)?;
            let mut cache = SqliteCache { options: options.create_if_missing(true), connection: None };
            cache.ping().await?;
            Ok(Box::new(cache) as Box<dyn Cache>)
        })
    })
}

struct SqliteCache {
    options: SqliteConnectOptions,
    /// Taken out while a statement runs: after an error, or a call that was dropped, the file is opened again, and what
    /// was begun is undone.
    connection: Option<SqliteConnection>,
}

impl SqliteCache {
    async fn take(&mut self) -> Result<SqliteConnection, CacheError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let opened = self.options.connect().await;
        let mut connection = opened.map_err(|e| failed("opening the cache's file", &e))?;
        for table in TABLES {
            let made = sqlx::query(table).execute(&mut connection).await;
            made.map_err(|e| failed("making the cache's tables", &e))?;
        }
        Ok(connection)
    }
}

fn failed(what: &str, error: &sqlx::Error) -> CacheError {
    cache_error(warehouse_error(what, error))
}

/// The same for the cache: what went wrong with the file is told in the same words.
fn cache_error(error: WarehouseError) -> CacheError {
    let what = error.to_string().replace("warehouse.url", "cache.url");
    match error {
        WarehouseError::Transient { .. } => CacheError::Transient { what },
        _ => CacheError::Fatal { what },
    }
}

#[async_trait(?Send)]
impl Cache for SqliteCache {
    async fn prepare(&mut self, aggregates: &[CachedAggregate]) -> Result<(), CacheError> {
        let mut connection = self.take().await?;
        for CachedAggregate { name, key, .. } in aggregates {
            for column in key {
                let sql = format!(
                    "CREATE INDEX IF NOT EXISTS {} ON bief_document ({}, id) WHERE aggregate = {}",
                    quoted(&format!("bief_key|{name}|{column}"), '"'),
                    member(column),
                    quoted(name, '\'')
                );
                let made = sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await;
                made.map_err(|e| failed("making an index of the cache", &e))?;
            }
        }
        self.connection = Some(connection);
        Ok(())
    }

    async fn replace_all(&mut self, replacements: &[Replacement]) -> Result<Replaced, CacheError> {
        let ids: Vec<Vec<String>> = replacements.iter().map(document_ids).collect::<Result<_, _>>()?;
        let mut connection = self.take().await?;
        let replaced = replace_all(&mut connection, replacements, &ids).await;
        let replaced = replaced.map_err(|e| failed("replacing buckets of the cache", &e))?;
        self.connection = Some(connection);
        Ok(replaced)
    }

    async fn read(&mut self, query: &CacheQuery) -> Result<Page, CacheError> {
        let (first, last) = ids_of_range(&query.aggregate, query.from, query.to);
        let behind = query.after.as_ref().map(Cursor::id).filter(|id| **id >= *first);
        let mut filter = format!("id {} ? AND id < ?", if behind.is_some() { ">" } else { ">=" });
        let mut arguments = vec![Value::from(behind.unwrap_or(&first)), Value::from(last.as_str())];
        if !query.key.is_empty() {
            filter += &format!(" AND aggregate = {}", quoted(&query.aggregate, '\''));
        }
        for (column, value) in &query.key {
            filter += &format!(" AND {} IS ?", member(column));
            arguments.push(value.clone());
        }
        let limit = query.limit.max(1);
        let mut documents = self.documents(&filter, arguments, Some(limit + 1)).await?;
        let more = documents.len() > limit;
        documents.truncate(limit);
        let end = documents.last().filter(|_| more);
        let next = end.map(|d| Cursor::behind(&document_id(&d.aggregate, d.bucket, &d.key)));
        Ok(Page { documents, next })
    }

    async fn bucket(&mut self, aggregate: &str, start: DateTime<Utc>) -> Result<Vec<Document>, CacheError> {
        let (first, last) = ids_of_bucket(aggregate, start);
        self.documents("id >= ? AND id < ?", vec![first.as_str().into(), last.as_str().into()], None).await
    }

    async fn buckets(
        &mut self,
        aggregate: &str,
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
        limit: usize,
    ) -> Result<Vec<BucketState>, CacheError> {
        let sql = "SELECT bucket_start, bucket_end, version, entries, computed_at FROM bief_bucket \
                   WHERE id >= ? AND id < ? ORDER BY id LIMIT ?";
        self.states(sql, ids_of_range(aggregate, from, to), limit.max(1)).await
    }

    async fn newest(&mut self, aggregate: &str) -> Result<Option<BucketState>, CacheError> {
        let sql = "SELECT bucket_start, bucket_end, version, entries, computed_at FROM bief_bucket \
                   WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT ?";
        Ok(self.states(sql, ids_of_range(aggregate, None, None), 1).await?.pop())
    }

    async fn count(&mut self, aggregate: &str) -> Result<CacheCounts, CacheError> {
        let (first, last) = ids_of_range(aggregate, None, None);
        let mut connection = self.take().await?;
        // A bucket knows how many documents it has: to count those would be to walk over all of them.
        let counted: (i64, i64) =
            sqlx::query_as("SELECT count(*), coalesce(sum(entries), 0) FROM bief_bucket WHERE id >= ?1 AND id < ?2")
                .bind(first)
                .bind(last)
                .fetch_one(&mut connection)
                .await
                .map_err(|e| failed("counting documents of the cache", &e))?;
        self.connection = Some(connection);
        let [buckets, documents] = [counted.0, counted.1].map(|n| u64::try_from(n).unwrap_or_default());
        Ok(CacheCounts { buckets, documents })
    }

    async fn drop_aggregate(&mut self, aggregate: &str) -> Result<(), CacheError> {
        self.delete(ids_of_range(aggregate, None, None), i64::MAX).await.map(drop)
    }

    async fn purge(&mut self, aggregates: &[CachedAggregate], now: DateTime<Utc>) -> Result<u64, CacheError> {
        let mut removed = 0;
        for CachedAggregate { name, keep, .. } in aggregates {
            let past = keep.and_then(|keep| now.checked_sub_signed(chrono::Duration::from_std(keep).ok()?));
            if let Some(past) = past {
                removed += self.delete(ids_of_range(name, None, Some(past)), past.timestamp_millis()).await?;
            }
        }
        Ok(removed)
    }

    async fn ping(&mut self) -> Result<(), CacheError> {
        let mut connection = self.take().await?;
        // A file that can be read may still be one that cannot be written to.
        let asked = sqlx::raw_sql("BEGIN IMMEDIATE; COMMIT").execute(&mut connection).await;
        asked.map_err(|e| failed("asking whether the cache's file can be written to", &e))?;
        self.connection = Some(connection);
        Ok(())
    }
}

/// All of it in one transaction, as what a transaction costs is the sync of the file.
async fn replace_all(
    connection: &mut SqliteConnection,
    replacements: &[Replacement],
    ids: &[Vec<String>],
) -> Result<Replaced, sqlx::Error> {
    let mut replaced = Replaced::default();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    for (replacement, ids) in replacements.iter().zip(ids) {
        replaced += replace(connection, replacement, ids).await?;
    }
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(replaced)
}

/// Puts so many documents in the place of those of the same names.
fn insert_documents(rows: usize) -> String {
    let values = vec!["(?, ?, ?, ?, ?, ?, ?, ?, ?)"; rows].join(", ");
    format!(
        "INSERT OR REPLACE INTO bief_document (id, aggregate, key, bucket_start, bucket_end, \"values\", version, \
         computed_at, offsets) VALUES {values}"
    )
}

/// One bucket within the transaction that is open.
async fn replace(
    connection: &mut SqliteConnection,
    replacement: &Replacement,
    ids: &[String],
) -> Result<Replaced, sqlx::Error> {
    let Replacement { aggregate, bucket, version, computed_at, entries, .. } = replacement;
    let (bucket_start, bucket_end) = (bucket.start().timestamp_millis(), bucket.end().timestamp_millis());
    let (computed_at, offsets) = (computed_at.timestamp_millis(), form::offsets(&replacement.offsets));
    let written = ids.len() as u64;
    let id = bucket_id(aggregate, *bucket);
    let stands: Option<i64> = sqlx::query_scalar("SELECT version FROM bief_bucket WHERE id = ?")
        .bind(&id)
        .fetch_optional(&mut *connection)
        .await?;
    if stands >= Some(*version) {
        return Ok(match stands == Some(*version) {
            true => Replaced { unchanged: written, ..Replaced::default() },
            false => Replaced { newer: written, ..Replaced::default() },
        });
    }
    let documents: Vec<(&String, &Entry)> = ids.iter().zip(entries).collect();
    for part in powers_of_two(&documents, MOST_ROWS) {
        let mut query = sqlx::query(AssertSqlSafe(insert_documents(part.len())));
        for (id, entry) in part {
            query = query
                .bind(*id)
                .bind(aggregate)
                .bind(form::fields(&entry.key))
                .bind(bucket_start)
                .bind(bucket_end)
                .bind(form::fields(&entry.values))
                .bind(version)
                .bind(computed_at)
                .bind(&offsets);
        }
        query.execute(&mut *connection).await?;
    }
    let (first, last) = ids_of_bucket(aggregate, bucket.start());
    let gone = sqlx::query("DELETE FROM bief_document WHERE id >= ? AND id < ? AND version < ?")
        .bind(first)
        .bind(last)
        .bind(version)
        .execute(&mut *connection)
        .await?
        .rows_affected();
    sqlx::query(
        "INSERT OR REPLACE INTO bief_bucket (id, aggregate, bucket_start, bucket_end, version, entries, computed_at, \
         offsets) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&id)
    .bind(aggregate)
    .bind(bucket_start)
    .bind(bucket_end)
    .bind(version)
    .bind(i64::try_from(written).unwrap_or(i64::MAX))
    .bind(computed_at)
    .bind(&offsets)
    .execute(&mut *connection)
    .await?;
    Ok(Replaced { written, gone, ..Replaced::default() })
}

/// Columns of a document as they are stored.
type Row = (String, String, i64, i64, String, i64, i64, String);

impl SqliteCache {
    async fn documents(
        &mut self,
        filter: &str,
        arguments: Vec<Value>,
        limit: Option<usize>,
    ) -> Result<Vec<Document>, CacheError> {
        const WHAT: &str = "reading documents of the cache";
        let limit = limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let sql = format!(
            "SELECT aggregate, key, bucket_start, bucket_end, \"values\", version, computed_at, offsets \
             FROM bief_document WHERE {filter} ORDER BY id LIMIT {limit}"
        );
        let mut bound = SqliteArguments::default();
        for argument in arguments {
            let added = match argument {
                Value::Null => bound.add(None::<i64>),
                Value::Integer(n) => bound.add(n),
                Value::Float(n) => bound.add(n),
                Value::Text(text) => bound.add(text),
            };
            added.map_err(|e| failed(WHAT, &sqlx::Error::Encode(e)))?;
        }
        let mut connection = self.take().await?;
        let rows: Result<Vec<Row>, _> = sqlx::query_as_with(AssertSqlSafe(sql), bound).fetch_all(&mut connection).await;
        let rows = rows.map_err(|e| failed(WHAT, &e))?;
        self.connection = Some(connection);
        rows.into_iter().map(|row| read(&row).ok_or_else(|| unreadable(&row.0))).collect()
    }

    async fn states(
        &mut self,
        sql: &'static str,
        (first, last): (String, String),
        limit: usize,
    ) -> Result<Vec<BucketState>, CacheError> {
        let mut connection = self.take().await?;
        type Row = (i64, i64, i64, i64, i64);
        let rows: Result<Vec<Row>, _> = sqlx::query_as(sql)
            .bind(first)
            .bind(last)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&mut connection)
            .await;
        let rows = rows.map_err(|e| failed("reading buckets of the cache", &e))?;
        self.connection = Some(connection);
        let read = |(start, end, version, entries, computed_at): Row| {
            Some(BucketState {
                bucket: Bucket::new(moment(start)?, moment(end)?)?,
                version,
                entries: u64::try_from(entries).ok()?,
                computed_at: moment(computed_at)?,
            })
        };
        rows.into_iter().map(|row| read(row).ok_or_else(|| unreadable("bief_bucket"))).collect()
    }

    /// Removes buckets and documents of these names that end at or before a moment, in one transaction; answers how many
    /// documents.
    async fn delete(&mut self, (first, last): (String, String), until: i64) -> Result<u64, CacheError> {
        const WHAT: &str = "removing documents of the cache";
        let mut connection = self.take().await?;
        let deleted = async {
            sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await?;
            let mut documents = 0;
            for sql in [
                "DELETE FROM bief_bucket WHERE id >= ? AND id < ? AND bucket_end <= ?",
                "DELETE FROM bief_document WHERE id >= ? AND id < ? AND bucket_end <= ?",
            ] {
                let done = sqlx::query(sql).bind(&first).bind(&last).bind(until).execute(&mut connection).await?;
                documents = done.rows_affected();
            }
            sqlx::query("COMMIT").execute(&mut connection).await?;
            Ok::<_, sqlx::Error>(documents)
        };
        let deleted = deleted.await.map_err(|e| failed(WHAT, &e))?;
        self.connection = Some(connection);
        Ok(deleted)
    }
}

fn read((aggregate, key, start, end, values, version, computed_at, offsets): &Row) -> Option<Document> {
    Some(Document {
        aggregate: aggregate.clone(),
        key: form::read_fields(key)?,
        bucket: Bucket::new(moment(*start)?, moment(*end)?)?,
        values: form::read_fields(values)?,
        version: *version,
        computed_at: moment(*computed_at)?,
        offsets: form::read_offsets(offsets)?,
    })
}

fn moment(milliseconds: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(milliseconds)
}

fn unreadable(what: &str) -> CacheError {
    CacheError::Fatal {
        what: format!(
            "a cached document of {what} is not as bief writes it; remove the cache's file, and have its buckets computed \
             again"
        ),
    }
}

/// A member of a document's key, as an index over it has it.
fn member(column: &str) -> String {
    format!("json_extract(key, {})", quoted(&format!("$.\"{}\"", field_name(column)), '\''))
}

fn quoted(text: &str, quote: char) -> String {
    let doubled = text.replace(quote, &format!("{quote}{quote}"));
    format!("{quote}{doubled}{quote}")
}
