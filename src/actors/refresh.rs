//! The way of a dirty bucket: its versions are read, then each aggregate's query is run in a snapshot of its own, the
//! documents replaced, and only when all aggregates of the source are told as done is the bucket set clean up to the
//! versions that were read. Whatever is cut off, repeated or done twice leaves the bucket dirty or the documents right.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::core::document::Bucket;
use crate::core::marks::BucketSource;
use crate::ports::cache::{CachedAggregate, Entry, Replaced, Replacement};
use crate::ports::marks::BucketVersions;
use crate::ports::{AggregateQuery, AggregateSource, Cache, CacheError, WarehouseError};

/// All aggregates of one source, which share its marks.
#[derive(Debug, Clone)]
pub struct RefreshPlan {
    pub source: BucketSource,
    /// Never empty.
    pub aggregates: Vec<Refreshable>,
    /// Tells this daemon's claims from others'; new with each incarnation is right too.
    pub owner: String,
    /// How long a claim lasts: longer than any refresh of [`RefreshPlan::at_once`] buckets should take.
    pub lease: Duration,
    /// Buckets of one refresh, at most.
    pub at_once: usize,
}

/// An aggregate as the warehouse is asked for it and as the cache knows it.
#[derive(Debug, Clone)]
pub struct Refreshable {
    pub query: AggregateQuery,
    pub cached: CachedAggregate,
}

impl RefreshPlan {
    /// What the aggregator of this source is called: in the status, in logs and in checks.
    pub fn name(&self) -> String {
        format!("aggregator-{}", self.source.id())
    }

    pub fn cached(&self) -> Vec<CachedAggregate> {
        self.aggregates.iter().map(|aggregate| aggregate.cached.clone()).collect()
    }
}

/// What can go wrong on the way, and at whose end.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    #[error("the warehouse: {0}")]
    Warehouse(#[from] WarehouseError),
    #[error("the cache: {0}")]
    Cache(#[from] CacheError),
    /// Of this bucket alone; others go through.
    #[error("the bucket of {}: {error}", .bucket.start().format("%Y-%m-%dT%H:%M:%SZ"))]
    Bucket { bucket: Bucket, error: Box<RefreshError> },
}

impl RefreshError {
    /// Trying again does not help until someone has changed something.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Warehouse(error) => matches!(error, WarehouseError::Fatal { .. }),
            Self::Cache(error) => matches!(error, CacheError::Fatal { .. }),
            Self::Bucket { error, .. } => error.is_fatal(),
        }
    }
}

/// Refreshes these buckets of all of the plan's aggregates and ends their claims. `replaced` is told of the buckets of
/// each aggregate once the cache has them. What is past an aggregate's `keep` is not computed.
pub async fn refresh(
    plan: &RefreshPlan,
    source: &mut dyn AggregateSource,
    cache: &mut dyn Cache,
    buckets: &[Bucket],
    now: &dyn Fn() -> DateTime<Utc>,
    replaced: &mut dyn FnMut(&[Replacement], Replaced),
) -> Result<(), RefreshError> {
    // Versions first: what a writer commits after this raises them again, and is found dirty.
    let versions = source.versions(&plan.source, buckets).await?;
    let versions: Vec<(Bucket, BucketVersions)> = buckets.iter().copied().zip(versions).collect();
    for Refreshable { query, cached } in &plan.aggregates {
        let kept: Vec<&(Bucket, BucketVersions)> =
            versions.iter().filter(|(bucket, _)| is_kept(cached, bucket, now())).collect();
        let (mut rest, mut at_once) = (&kept[..], FIRST_PART);
        while !rest.is_empty() {
            let (part, later) = rest.split_at(at_once.min(rest.len()));
            let asked: Vec<Bucket> = part.iter().map(|(bucket, _)| *bucket).collect();
            let computed = source.compute(query, &asked).await?;
            let of_bucket = |((bucket, versions), entries): (&&(Bucket, BucketVersions), Vec<Entry>)| Replacement {
                aggregate: query.name.clone(),
                bucket: *bucket,
                version: versions.total(),
                computed_at: now(),
                offsets: computed.offsets.clone(),
                entries,
            };
            let replacements: Vec<Replacement> = part.iter().zip(computed.buckets).map(of_bucket).collect();
            crate::failpoint!("before-replace", |what| return Err(CacheError::Transient { what }.into()));
            let what = cache.replace_all(&replacements).await?;
            replaced(&replacements, what);
            at_once = next_part(asked.len(), replacements.iter().map(|replacement| replacement.entries.len()).sum());
            rest = later;
        }
    }
    crate::failpoint!("before-clean", |what| return Err(WarehouseError::Transient { what }.into()));
    source.clean(&plan.source, &plan.owner, &versions).await?;
    Ok(())
}

/// Buckets that are computed together while it is not known how many entries they have.
const FIRST_PART: usize = 8;
/// Entries that are held at once, if one bucket alone has no more.
const ENTRIES: usize = 20_000;

/// How many buckets are computed together next, after so many that had so many entries.
fn next_part(buckets: usize, entries: usize) -> usize {
    (ENTRIES / entries.div_ceil(buckets.max(1)).max(1)).max(1)
}

fn is_kept(aggregate: &CachedAggregate, bucket: &Bucket, now: DateTime<Utc>) -> bool {
    let age = (now - bucket.end()).to_std().unwrap_or_default();
    aggregate.keep.is_none_or(|keep| age <= keep)
}

/// Marks every bucket that has rows at or after `from`, so that each is computed under a higher version; answers how many.
/// For an aggregate of which the cache holds nothing, though rows are there.
pub async fn mark_all(
    plan: &RefreshPlan,
    source: &mut dyn AggregateSource,
    mut from: Option<DateTime<Utc>>,
) -> Result<u64, WarehouseError> {
    /// Buckets of one transaction.
    const AT_ONCE: usize = 256;
    let mut marked = 0;
    loop {
        let buckets = next_buckets(&plan.source, source, from, AT_ONCE).await?;
        let Some(last) = buckets.last() else { return Ok(marked) };
        from = Some(last.end());
        source.mark(&plan.source, &buckets).await?;
        marked += buckets.len() as u64;
    }
}

/// The first buckets that have rows at or after `from`, ascending, at most `limit`.
pub async fn next_buckets(
    of: &BucketSource,
    source: &mut dyn AggregateSource,
    mut from: Option<DateTime<Utc>>,
    limit: usize,
) -> Result<Vec<Bucket>, WarehouseError> {
    let mut buckets = Vec::new();
    while buckets.len() < limit
        && let Some(bucket) = source.next_bucket(of, from).await?
    {
        from = Some(bucket.end());
        buckets.push(bucket);
    }
    Ok(buckets)
}
