//! The aggregator's side of MySQL and MariaDB: dirty buckets, claims, and the queries of aggregates in one snapshot. Locks
//! rows of `bief_dirty_bucket` only where no writer holds them, so that neither waits for the other. Must never change
//! a row of the domain.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use mysql_async::Value;

use super::aggregate_queries;
use super::connection::{Address, Session, quoted};
use super::errors::Failure;
use super::marks;
use super::params::{datetime_micros, placeholders};
use crate::adapters::parts::powers_of_two;
use crate::core::document::Bucket;
use crate::core::marks::{BucketSource, LANE_OF_COMMANDS, Mark, NEWEST, next_to_refresh};
use crate::ports::WarehouseError;
use crate::ports::marks::{AggregateQuery, AggregateSource, Backlog, BucketVersions, Computed, Examined};

/// A connection that rested longer may have been closed by the server.
const RESTED: Duration = Duration::from_secs(5);
/// Buckets of one statement.
const MAX_BUCKETS: usize = 256;
/// Rows of a bucket, one for each lane, that a look for dirty buckets reckons with. Where there are more, a look finds fewer
/// buckets than it may.
const LANES: usize = 4;

const MICROS: &str = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', ";

pub(super) struct MySqlAggregates {
    address: Address,
    /// None after anything went wrong. Taken out while a statement runs, so that a dropped future takes it along.
    session: Option<Session>,
    used: Instant,
}

impl MySqlAggregates {
    pub async fn connect(address: Address) -> Result<Self, Failure> {
        let session = address.connect().await?;
        Ok(Self { address, session: Some(session), used: Instant::now() })
    }

    async fn take(&mut self) -> Result<Session, Failure> {
        if let Some(mut session) = self.session.take()
            && (self.used.elapsed() < RESTED || session.run("DO 0").await.is_ok())
        {
            return Ok(session);
        }
        self.address.connect().await
    }

    /// The bucket of the first or last time from a moment on.
    async fn bucket_at_an_end(
        &mut self,
        source: &BucketSource,
        end: &str,
        from: Option<DateTime<Utc>>,
    ) -> Result<Option<Bucket>, WarehouseError> {
        let mut session = self.take().await?;
        let (time, table) = (quoted(&source.time)?, quoted(&source.table)?);
        let (bound, values) = match from {
            Some(from) => (format!(" WHERE {time} >= ?"), vec![micros(from)]),
            None => (String::new(), Vec::new()),
        };
        let sql = format!("SELECT {MICROS}{end}({time})) FROM {table}{bound}");
        let found: Vec<Option<i64>> = ask(&mut session, &sql, values).await?;
        self.give_back(session);
        Ok(found.first().copied().flatten().and_then(|moment| source.width.bucket_of(moment)))
    }

    fn give_back(&mut self, session: Session) {
        self.session = Some(session);
        self.used = Instant::now();
    }
}

pub(super) fn micros(moment: DateTime<Utc>) -> Value {
    datetime_micros(moment.timestamp_micros())
}

fn starts(buckets: &[Bucket]) -> impl Iterator<Item = Value> {
    buckets.iter().map(|bucket| micros(bucket.start()))
}

/// A list of places for so many values: `(?,?)`.
fn list(length: usize) -> String {
    placeholders(1, length)
}

/// Outside of the domain's rows: what is refused there is the bookkeeping's fault.
pub(super) async fn ask<T: mysql_async::prelude::FromRow + Send + 'static>(
    session: &mut Session,
    sql: &str,
    values: Vec<Value>,
) -> Result<Vec<T>, Failure> {
    session.ask(sql, values).await.map_err(Failure::outside_rows)
}

async fn change(session: &mut Session, sql: &str, values: Vec<Value>) -> Result<(), Failure> {
    session.execute(sql, values).await.map(drop).map_err(Failure::outside_rows)
}

/// Those of the newest buckets that wait, and those that wait longest. The latter by the index of what waits, whatever the
/// server's statistics say: right after a load they tell of another table, and another plan reads the marks of the whole
/// history.
async fn find_dirty(
    session: &mut Session,
    source: &BucketSource,
    owner: &str,
    limit: usize,
) -> Result<Vec<Bucket>, Failure> {
    const FREE: &str = "LEFT JOIN bief_bucket_claim c ON c.source = d.source AND c.bucket_start = d.bucket_start \
                        AND c.owner <> ? AND c.claimed_until > UTC_TIMESTAMP(6) \
                        WHERE d.pending_since IS NOT NULL AND c.source IS NULL";
    let id = source.id();
    let newest = format!(
        "SELECT {MICROS}d.bucket_start) FROM (SELECT source, bucket_start, pending_since FROM bief_dirty_bucket \
         FORCE INDEX (PRIMARY) WHERE source = ? ORDER BY bucket_start DESC, lane DESC LIMIT {}) d {FREE} \
         ORDER BY d.bucket_start DESC",
        NEWEST * LANES
    );
    let waiting = format!(
        "SELECT {MICROS}d.bucket_start) FROM bief_dirty_bucket d FORCE INDEX (bief_dirty_bucket_pending) {FREE} \
         AND d.source = ? ORDER BY d.pending_since, d.bucket_start LIMIT ?"
    );
    let newest: Vec<i64> = ask(session, &newest, vec![id.as_str().into(), owner.into()]).await?;
    let values = vec![owner.into(), id.into(), (limit.saturating_mul(LANES) as u64).into()];
    let waiting: Vec<i64> = ask(session, &waiting, values).await?;
    let buckets = |found: Vec<i64>| found.into_iter().filter_map(|start| source.width.bucket_of(start)).collect();
    Ok(next_to_refresh(buckets(newest), buckets(waiting), limit))
}

/// Puts claims down and answers those that are ours.
async fn put_claims(
    session: &mut Session,
    id: &str,
    owner: &str,
    lease: Duration,
    buckets: &[Bucket],
) -> Result<Vec<i64>, Failure> {
    let lease = Value::from(u64::try_from(lease.as_micros()).unwrap_or(u64::MAX));
    let mut ours: Vec<i64> = Vec::new();
    for part in powers_of_two(buckets, MAX_BUCKETS) {
        let until = "UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND";
        let sql = format!(
            "INSERT INTO bief_bucket_claim (source, bucket_start, owner, claimed_until) VALUES {} \
             ON DUPLICATE KEY UPDATE owner = IF(claimed_until <= UTC_TIMESTAMP(6), ?, owner), \
             claimed_until = IF(owner = ?, {until}, claimed_until)",
            vec![format!("(?,?,?,{until})"); part.len()].join(",")
        );
        let mut values: Vec<Value> = Vec::with_capacity(part.len() * 4 + 3);
        for start in starts(part) {
            values.extend([id.into(), start, owner.into(), lease.clone()]);
        }
        values.extend([owner.into(), owner.into(), lease.clone()]);
        change(session, &sql, values).await?;
        let sql = format!(
            "SELECT {MICROS}bucket_start) FROM bief_bucket_claim WHERE source = ? AND owner = ? \
             AND claimed_until > UTC_TIMESTAMP(6) AND bucket_start IN {}",
            list(part.len())
        );
        let values = [id.into(), owner.into()].into_iter().chain(starts(part)).collect();
        ours.extend(ask::<i64>(session, &sql, values).await?);
    }
    Ok(ours)
}

async fn end_claims(session: &mut Session, id: &str, owner: &str, buckets: &[Bucket]) -> Result<(), Failure> {
    for part in powers_of_two(buckets, MAX_BUCKETS) {
        let sql = format!(
            "DELETE FROM bief_bucket_claim WHERE source = ? AND owner = ? AND bucket_start IN {}",
            list(part.len())
        );
        let values = [id.into(), owner.into()].into_iter().chain(starts(part)).collect();
        change(session, &sql, values).await?;
    }
    Ok(())
}

async fn read_versions(session: &mut Session, id: &str, buckets: &[Bucket]) -> Result<Vec<BucketVersions>, Failure> {
    // Before the versions, so that what is marked later is not taken for older.
    let now: Vec<i64> = ask(session, &format!("SELECT {MICROS}UTC_TIMESTAMP(6))"), Vec::new()).await?;
    let read_at = now.first().copied().unwrap_or_default();
    let mut versions = vec![BucketVersions { lanes: Vec::new(), read_at }; buckets.len()];
    let asked: HashMap<i64, usize> = buckets.iter().map(|bucket| bucket.start().timestamp_micros()).zip(0..).collect();
    for part in powers_of_two(buckets, MAX_BUCKETS) {
        let sql = format!(
            "SELECT {MICROS}bucket_start), lane, dirty_version FROM bief_dirty_bucket \
             WHERE source = ? AND bucket_start IN {} ORDER BY bucket_start, lane",
            list(part.len())
        );
        let values = std::iter::once(id.into()).chain(starts(part)).collect();
        for (start, lane, version) in ask::<(i64, i32, i64)>(session, &sql, values).await? {
            if let Some(of) = asked.get(&start) {
                versions[*of].lanes.push((lane, version));
            }
        }
    }
    Ok(versions)
}

/// Rows of these buckets that no writer holds at the moment, locked: one that a writer is marking stays dirty anyway.
async fn set_clean(session: &mut Session, id: &str, computed: &[(Bucket, BucketVersions)]) -> Result<(), Failure> {
    for part in powers_of_two(computed, MAX_BUCKETS) {
        let buckets: Vec<Bucket> = part.iter().map(|(bucket, _)| *bucket).collect();
        let sql = format!(
            "SELECT {MICROS}bucket_start), lane FROM bief_dirty_bucket WHERE source = ? AND bucket_start IN {} \
             ORDER BY bucket_start, lane FOR UPDATE SKIP LOCKED",
            list(buckets.len())
        );
        let values = std::iter::once(id.into()).chain(starts(&buckets)).collect();
        for (start, lane) in ask::<(i64, i32)>(session, &sql, values).await? {
            let of = part.iter().find(|(bucket, _)| bucket.start().timestamp_micros() == start);
            let Some((_, versions)) = of else { continue };
            let Some((_, version)) = versions.lanes.iter().find(|(of, _)| *of == lane) else { continue };
            let sql = "UPDATE bief_dirty_bucket \
                       SET pending_since = IF(dirty_version > GREATEST(clean_version, ?), ?, NULL), \
                       clean_version = GREATEST(clean_version, ?) \
                       WHERE source = ? AND bucket_start = ? AND lane = ?";
            let values = vec![
                (*version).into(),
                datetime_micros(versions.read_at),
                (*version).into(),
                id.into(),
                datetime_micros(start),
                lane.into(),
            ];
            change(session, sql, values).await?;
        }
    }
    Ok(())
}

#[async_trait(?Send)]
impl AggregateSource for MySqlAggregates {
    async fn backlog(&mut self, source: &BucketSource) -> Result<Backlog, WarehouseError> {
        let mut session = self.take().await?;
        let sql = "SELECT COUNT(DISTINCT bucket_start), \
                   TIMESTAMPDIFF(MICROSECOND, MIN(pending_since), UTC_TIMESTAMP(6)) \
                   FROM bief_dirty_bucket FORCE INDEX (bief_dirty_bucket_pending) \
                   WHERE source = ? AND pending_since IS NOT NULL";
        let found: Vec<(u64, Option<i64>)> = ask(&mut session, sql, vec![source.id().into()]).await?;
        self.give_back(session);
        let (buckets, oldest) = found.first().copied().unwrap_or_default();
        let oldest = oldest.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or_default()));
        Ok(Backlog { buckets, oldest })
    }

    async fn claim(
        &mut self,
        source: &BucketSource,
        owner: &str,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<Bucket>, WarehouseError> {
        let mut session = self.take().await?;
        let mut buckets = find_dirty(&mut session, source, owner, limit).await?;
        if !buckets.is_empty() {
            session.run("START TRANSACTION").await?;
            let ours = put_claims(&mut session, &source.id(), owner, lease, &buckets).await?;
            session.run("COMMIT").await?;
            buckets.retain(|bucket| ours.contains(&bucket.start().timestamp_micros()));
        }
        self.give_back(session);
        Ok(buckets)
    }

    async fn versions(
        &mut self,
        source: &BucketSource,
        buckets: &[Bucket],
    ) -> Result<Vec<BucketVersions>, WarehouseError> {
        let mut session = self.take().await?;
        let versions = read_versions(&mut session, &source.id(), buckets).await?;
        self.give_back(session);
        Ok(versions)
    }

    async fn pending(&mut self, source: &BucketSource, buckets: &[Bucket]) -> Result<Vec<bool>, WarehouseError> {
        let (mut session, id) = (self.take().await?, source.id());
        let mut waiting: HashSet<i64> = HashSet::new();
        for part in powers_of_two(buckets, MAX_BUCKETS) {
            let sql = format!(
                "SELECT {MICROS}bucket_start) FROM bief_dirty_bucket \
                 WHERE source = ? AND bucket_start IN {} AND pending_since IS NOT NULL",
                list(part.len())
            );
            let values = std::iter::once(id.as_str().into()).chain(starts(part)).collect();
            waiting.extend(ask::<i64>(&mut session, &sql, values).await?);
        }
        self.give_back(session);
        Ok(buckets.iter().map(|bucket| waiting.contains(&bucket.start().timestamp_micros())).collect())
    }

    async fn compute(&mut self, query: &AggregateQuery, buckets: &[Bucket]) -> Result<Computed, WarehouseError> {
        let mut session = self.take().await?;
        let computed = aggregate_queries::compute(&mut session, query, buckets).await?;
        self.give_back(session);
        Ok(computed)
    }

    async fn clean(
        &mut self,
        source: &BucketSource,
        owner: &str,
        computed: &[(Bucket, BucketVersions)],
    ) -> Result<(), WarehouseError> {
        let (mut session, id) = (self.take().await?, source.id());
        let buckets: Vec<Bucket> = computed.iter().map(|(bucket, _)| *bucket).collect();
        session.run("START TRANSACTION").await?;
        set_clean(&mut session, &id, computed).await?;
        end_claims(&mut session, &id, owner, &buckets).await?;
        session.run("COMMIT").await?;
        self.give_back(session);
        Ok(())
    }

    async fn release(&mut self, source: &BucketSource, owner: &str, buckets: &[Bucket]) -> Result<(), WarehouseError> {
        let mut session = self.take().await?;
        end_claims(&mut session, &source.id(), owner, buckets).await?;
        self.give_back(session);
        Ok(())
    }

    async fn mark(&mut self, source: &BucketSource, buckets: &[Bucket]) -> Result<(), WarehouseError> {
        let mut session = self.take().await?;
        session.run("START TRANSACTION").await?;
        marks::mark(&mut session, LANE_OF_COMMANDS, &Mark::of_buckets(source, buckets)).await?;
        session.run("COMMIT").await?;
        self.give_back(session);
        Ok(())
    }

    async fn next_bucket(
        &mut self,
        source: &BucketSource,
        from: Option<DateTime<Utc>>,
    ) -> Result<Option<Bucket>, WarehouseError> {
        self.bucket_at_an_end(source, "MIN", from).await
    }

    async fn last_bucket(&mut self, source: &BucketSource) -> Result<Option<Bucket>, WarehouseError> {
        self.bucket_at_an_end(source, "MAX", None).await
    }

    async fn examine(&mut self, query: &AggregateQuery) -> Result<Examined, WarehouseError> {
        let mut session = self.take().await?;
        let examined = aggregate_queries::examine(&mut session, query).await?;
        self.give_back(session);
        Ok(examined)
    }
}
