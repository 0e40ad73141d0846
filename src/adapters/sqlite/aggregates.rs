//! The aggregator's side of an SQLite file: dirty buckets, claims, and the queries of aggregates in one snapshot. Readers
//! and the writer do not wait for each other; what is written here waits for the writer's transaction and is short.
//! Must never change a row of the domain.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sea_orm::sqlx::{self, AssertSqlSafe, ConnectOptions};

use super::shape::quoted;
use super::{aggregate_queries, marks};
use crate::adapters::sql_errors::warehouse_error;
use crate::core::document::Bucket;
use crate::core::marks::{BucketSource, LANE_OF_COMMANDS, Mark, NEWEST, next_to_refresh};
use crate::core::time::{self, datetime_text, parse_datetime};
use crate::ports::WarehouseError;
use crate::ports::marks::{AggregateQuery, AggregateSource, Backlog, BucketVersions, Computed, Examined};

/// Rows of a bucket that a look for dirty buckets reckons with: the one writer's, and that of commands.
const LANES: usize = 2;

pub(super) struct SqliteAggregates {
    options: SqliteConnectOptions,
    /// None after anything went wrong. Taken out while a statement runs, so that a dropped future takes it along.
    connection: Option<SqliteConnection>,
}

impl SqliteAggregates {
    pub async fn connect(options: SqliteConnectOptions) -> Result<Self, WarehouseError> {
        let mut source = Self { options, connection: None };
        let connection = source.take().await?;
        source.connection = Some(connection);
        Ok(source)
    }

    async fn take(&mut self) -> Result<SqliteConnection, WarehouseError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.options.connect().await.map_err(|e| warehouse_error("opening the database file", &e)),
        }
    }
}

impl SqliteAggregates {
    /// The bucket of the first or last time from a text on.
    async fn bucket_at_an_end(
        &mut self,
        source: &BucketSource,
        end: &str,
        from: String,
    ) -> Result<Option<Bucket>, WarehouseError> {
        let mut connection = self.take().await?;
        let (time, table) = (quoted(&source.time), quoted(&source.table));
        let (found,): (Option<String>,) =
            sqlx::query_as(AssertSqlSafe(format!("SELECT {end}({time}) FROM {table} WHERE {time} >= ?")))
                .bind(from)
                .fetch_one(&mut connection)
                .await
                .map_err(|e| warehouse_error(&format!("reading {}", source.table), &e))?;
        self.connection = Some(connection);
        let Some(found) = found else { return Ok(None) };
        let moment = parse_datetime(&found)
            .or_else(|| time::parse_date(&found).map(|days| i64::from(days) * time::MICROS_PER_DAY))
            .ok_or_else(|| WarehouseError::Fatal {
                what: format!("{} of {} holds {found:?}, which is no time", source.time, source.table),
            })?;
        Ok(source.width.bucket_of(moment))
    }
}

async fn run(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), WarehouseError> {
    sqlx::query(sql).execute(connection).await.map(drop).map_err(|e| warehouse_error(sql, &e))
}

/// As bief stores times.
pub(super) fn text(moment: DateTime<Utc>) -> String {
    datetime_text(moment.timestamp_micros())
}

fn micros_of(text: &str) -> Result<i64, WarehouseError> {
    parse_datetime(text).ok_or_else(|| WarehouseError::Fatal {
        what: format!("bief_dirty_bucket holds {text:?} for a time, which bief did not write"),
    })
}

const READING: &str = "reading bief_dirty_bucket";
const CLAIMING: &str = "claiming buckets in bief_bucket_claim";

async fn find_dirty(
    connection: &mut SqliteConnection,
    source: &BucketSource,
    owner: &str,
    now: &str,
    limit: usize,
) -> Result<Vec<Bucket>, WarehouseError> {
    const FREE: &str = "LEFT JOIN bief_bucket_claim c ON c.source = d.source AND c.bucket_start = d.bucket_start \
                        AND c.owner <> ? AND c.claimed_until > ? \
                        WHERE d.pending_since IS NOT NULL AND c.source IS NULL";
    let newest = format!(
        "SELECT d.bucket_start FROM (SELECT source, bucket_start, pending_since FROM bief_dirty_bucket \
         WHERE source = ? ORDER BY bucket_start DESC, lane DESC LIMIT {}) d {FREE} ORDER BY d.bucket_start DESC",
        NEWEST * LANES
    );
    let waiting = format!(
        "SELECT d.bucket_start FROM bief_dirty_bucket d {FREE} AND d.source = ? \
         ORDER BY d.pending_since, d.bucket_start LIMIT ?"
    );
    let (id, most) = (source.id(), i64::try_from(limit.saturating_mul(LANES)).unwrap_or(i64::MAX));
    let newest = sqlx::query_as(AssertSqlSafe(newest)).bind(&id).bind(owner).bind(now);
    let newest: Vec<(String,)> = newest.fetch_all(&mut *connection).await.map_err(|e| warehouse_error(READING, &e))?;
    let waiting = sqlx::query_as(AssertSqlSafe(waiting)).bind(owner).bind(now).bind(&id).bind(most);
    let waiting: Vec<(String,)> =
        waiting.fetch_all(&mut *connection).await.map_err(|e| warehouse_error(READING, &e))?;
    let buckets = |found: Vec<(String,)>| -> Result<Vec<Bucket>, WarehouseError> {
        let starts = found.iter().map(|(start,)| micros_of(start)).collect::<Result<Vec<i64>, _>>()?;
        Ok(starts.into_iter().filter_map(|start| source.width.bucket_of(start)).collect())
    };
    Ok(next_to_refresh(buckets(newest)?, buckets(waiting)?, limit))
}

async fn put_claim(
    connection: &mut SqliteConnection,
    (id, start): (&str, &str),
    owner: &str,
    (now, until): (&str, &str),
) -> Result<bool, WarehouseError> {
    let put = sqlx::query(
        "INSERT INTO bief_bucket_claim (source, bucket_start, owner, claimed_until) VALUES (?, ?, ?, ?) \
         ON CONFLICT (source, bucket_start) DO UPDATE SET owner = excluded.owner, \
         claimed_until = excluded.claimed_until WHERE claimed_until <= ? OR owner = excluded.owner",
    )
    .bind(id)
    .bind(start)
    .bind(owner)
    .bind(until)
    .bind(now)
    .execute(connection)
    .await
    .map_err(|e| warehouse_error(CLAIMING, &e))?;
    Ok(put.rows_affected() == 1)
}

async fn end_claims(
    connection: &mut SqliteConnection,
    id: &str,
    owner: &str,
    buckets: impl Iterator<Item = Bucket>,
) -> Result<(), WarehouseError> {
    for bucket in buckets {
        sqlx::query("DELETE FROM bief_bucket_claim WHERE source = ? AND bucket_start = ? AND owner = ?")
            .bind(id)
            .bind(text(bucket.start()))
            .bind(owner)
            .execute(&mut *connection)
            .await
            .map_err(|e| warehouse_error(CLAIMING, &e))?;
    }
    Ok(())
}

async fn set_clean(
    connection: &mut SqliteConnection,
    id: &str,
    bucket: &Bucket,
    versions: &BucketVersions,
) -> Result<(), WarehouseError> {
    for (lane, version) in &versions.lanes {
        sqlx::query(
            "UPDATE bief_dirty_bucket SET clean_version = MAX(clean_version, ?1), \
             pending_since = CASE WHEN dirty_version > MAX(clean_version, ?1) THEN ?2 END \
             WHERE source = ?3 AND bucket_start = ?4 AND lane = ?5",
        )
        .bind(version)
        .bind(datetime_text(versions.read_at))
        .bind(id)
        .bind(text(bucket.start()))
        .bind(lane)
        .execute(&mut *connection)
        .await
        .map_err(|e| warehouse_error("setting buckets clean in bief_dirty_bucket", &e))?;
    }
    Ok(())
}

#[async_trait(?Send)]
impl AggregateSource for SqliteAggregates {
    async fn backlog(&mut self, source: &BucketSource) -> Result<Backlog, WarehouseError> {
        let mut connection = self.take().await?;
        let (buckets, oldest): (i64, Option<String>) = sqlx::query_as(
            "SELECT COUNT(DISTINCT bucket_start), MIN(pending_since) FROM bief_dirty_bucket \
             WHERE source = ? AND pending_since IS NOT NULL",
        )
        .bind(source.id())
        .fetch_one(&mut connection)
        .await
        .map_err(|e| warehouse_error(READING, &e))?;
        self.connection = Some(connection);
        let since = oldest.map(|text| micros_of(&text)).transpose()?;
        let waited = |since: i64| (Utc::now().timestamp_micros() - since).max(0).unsigned_abs();
        Ok(Backlog {
            buckets: u64::try_from(buckets).unwrap_or_default(),
            oldest: since.map(|since| Duration::from_micros(waited(since))),
        })
    }

    async fn claim(
        &mut self,
        source: &BucketSource,
        owner: &str,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<Bucket>, WarehouseError> {
        let mut connection = self.take().await?;
        let now = Utc::now();
        let (now, until) = (text(now), text(now + lease));
        let mut buckets = find_dirty(&mut connection, source, owner, &now, limit).await?;
        // The writer is not asked to wait where there is nothing to do.
        if !buckets.is_empty() {
            let id = source.id();
            run(&mut connection, "BEGIN IMMEDIATE").await?;
            let mut ours = Vec::with_capacity(buckets.len());
            for bucket in buckets {
                let start = text(bucket.start());
                if put_claim(&mut connection, (&id, &start), owner, (&now, &until)).await? {
                    ours.push(bucket);
                }
            }
            run(&mut connection, "COMMIT").await?;
            buckets = ours;
        }
        self.connection = Some(connection);
        Ok(buckets)
    }

    async fn versions(
        &mut self,
        source: &BucketSource,
        buckets: &[Bucket],
    ) -> Result<Vec<BucketVersions>, WarehouseError> {
        let mut connection = self.take().await?;
        let (id, read_at) = (source.id(), Utc::now().timestamp_micros());
        let mut versions = Vec::with_capacity(buckets.len());
        for bucket in buckets {
            let lanes: Vec<(i32, i64)> = sqlx::query_as(
                "SELECT lane, dirty_version FROM bief_dirty_bucket WHERE source = ? AND bucket_start = ? ORDER BY lane",
            )
            .bind(&id)
            .bind(text(bucket.start()))
            .fetch_all(&mut connection)
            .await
            .map_err(|e| warehouse_error(READING, &e))?;
            versions.push(BucketVersions { lanes, read_at });
        }
        self.connection = Some(connection);
        Ok(versions)
    }

    async fn pending(&mut self, source: &BucketSource, buckets: &[Bucket]) -> Result<Vec<bool>, WarehouseError> {
        let (mut connection, id) = (self.take().await?, source.id());
        let mut pending = Vec::with_capacity(buckets.len());
        for bucket in buckets {
            let (waits,): (bool,) = sqlx::query_as(
                "SELECT EXISTS (SELECT 1 FROM bief_dirty_bucket \
                 WHERE source = ? AND bucket_start = ? AND pending_since IS NOT NULL)",
            )
            .bind(&id)
            .bind(text(bucket.start()))
            .fetch_one(&mut connection)
            .await
            .map_err(|e| warehouse_error(READING, &e))?;
            pending.push(waits);
        }
        self.connection = Some(connection);
        Ok(pending)
    }

    async fn compute(&mut self, query: &AggregateQuery, buckets: &[Bucket]) -> Result<Computed, WarehouseError> {
        let mut connection = self.take().await?;
        run(&mut connection, "PRAGMA query_only = ON").await?;
        run(&mut connection, "BEGIN").await?;
        let computed = aggregate_queries::compute(&mut connection, query, buckets).await?;
        run(&mut connection, "COMMIT").await?;
        run(&mut connection, "PRAGMA query_only = OFF").await?;
        self.connection = Some(connection);
        Ok(computed)
    }

    async fn clean(
        &mut self,
        source: &BucketSource,
        owner: &str,
        computed: &[(Bucket, BucketVersions)],
    ) -> Result<(), WarehouseError> {
        let (mut connection, id) = (self.take().await?, source.id());
        run(&mut connection, "BEGIN IMMEDIATE").await?;
        for (bucket, versions) in computed {
            set_clean(&mut connection, &id, bucket, versions).await?;
        }
        end_claims(&mut connection, &id, owner, computed.iter().map(|(bucket, _)| *bucket)).await?;
        run(&mut connection, "COMMIT").await?;
        self.connection = Some(connection);
        Ok(())
    }

    async fn release(&mut self, source: &BucketSource, owner: &str, buckets: &[Bucket]) -> Result<(), WarehouseError> {
        let mut connection = self.take().await?;
        run(&mut connection, "BEGIN IMMEDIATE").await?;
        end_claims(&mut connection, &source.id(), owner, buckets.iter().copied()).await?;
        run(&mut connection, "COMMIT").await?;
        self.connection = Some(connection);
        Ok(())
    }

    async fn mark(&mut self, source: &BucketSource, buckets: &[Bucket]) -> Result<(), WarehouseError> {
        let mut connection = self.take().await?;
        run(&mut connection, "BEGIN IMMEDIATE").await?;
        marks::mark(&mut connection, LANE_OF_COMMANDS, &Mark::of_buckets(source, buckets)).await?;
        run(&mut connection, "COMMIT").await?;
        self.connection = Some(connection);
        Ok(())
    }

    async fn next_bucket(
        &mut self,
        source: &BucketSource,
        from: Option<DateTime<Utc>>,
    ) -> Result<Option<Bucket>, WarehouseError> {
        // A date is before the same date with a time, so that none is passed over.
        let from = from.map_or(String::new(), |from| {
            let mut from = text(from);
            from.truncate(if source.width.is_whole_days() { "YYYY-MM-DD".len() } else { from.len() });
            from
        });
        self.bucket_at_an_end(source, "MIN", from).await
    }

    async fn last_bucket(&mut self, source: &BucketSource) -> Result<Option<Bucket>, WarehouseError> {
        self.bucket_at_an_end(source, "MAX", String::new()).await
    }

    async fn examine(&mut self, query: &AggregateQuery) -> Result<Examined, WarehouseError> {
        let mut connection = self.take().await?;
        run(&mut connection, "PRAGMA query_only = ON").await?;
        let examined = aggregate_queries::examine(&mut connection, query).await?;
        run(&mut connection, "PRAGMA query_only = OFF").await?;
        self.connection = Some(connection);
        Ok(examined)
    }
}
