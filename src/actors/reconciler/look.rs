//! One look at some buckets: what the cache holds beside what the rows come to. Versions are read before and after, so
//! that a bucket that a writer changed meanwhile is told apart from one that is wrong. Reads only.

use std::collections::HashMap;

use chrono::{DateTime, Duration, Utc};

use crate::actors::refresh::{RefreshError, RefreshPlan, Refreshable};
use crate::core::differences::{Difference, Shown, differences};
use crate::core::document::Bucket;
use crate::ports::cache::{BucketState, Document, Entry};
use crate::ports::{AggregateSource, Cache};

/// Servers remove what is past its `keep` now and then; what is about to go is not looked at.
const MARGIN: Duration = Duration::minutes(10);

/// What was seen of one bucket.
#[derive(Debug, PartialEq)]
pub(super) enum Seen {
    /// It was marked while it was looked at.
    Moved,
    /// It waits to be computed, so that its documents are not expected to be right.
    Pending,
    /// For each aggregate that was asked for.
    Compared(Vec<Compared>),
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Compared {
    /// Of the cache.
    pub documents: u64,
    /// By how much the version of something in the cache is above the bucket's own, which should never be.
    pub ahead: i64,
    pub differences: Vec<Difference>,
}

/// Whether a bucket's documents are not kept any more, or soon will not be.
pub(super) fn is_past(aggregate: &Refreshable, bucket: &Bucket, now: DateTime<Utc>) -> bool {
    let keep = aggregate.cached.keep.and_then(|keep| Duration::from_std(keep).ok());
    keep.and_then(|keep| bucket.end().checked_add_signed(keep)).is_some_and(|until| until <= now + MARGIN)
}

/// Looks at buckets of the plan's source, which must be its own and ascending, for the aggregates at these positions.
pub(super) async fn look(
    plan: &RefreshPlan,
    chosen: &[usize],
    source: &mut dyn AggregateSource,
    cache: &mut dyn Cache,
    buckets: &[Bucket],
    now: DateTime<Utc>,
) -> Result<Vec<Seen>, RefreshError> {
    let before = source.versions(&plan.source, buckets).await?;
    let pending = source.pending(&plan.source, buckets).await?;
    let mut compared: Vec<Vec<Compared>> = buckets.iter().map(|_| Vec::with_capacity(chosen.len())).collect();
    for aggregate in chosen.iter().filter_map(|at| plan.aggregates.get(*at)) {
        let name = &aggregate.query.name;
        let states = states(cache, name, buckets).await?;
        let mut cached = Vec::with_capacity(buckets.len());
        for bucket in buckets {
            cached.push(cache.bucket(name, bucket.start()).await?);
        }
        let computed = source.compute(&aggregate.query, buckets).await?;
        for (at, (documents, entries)) in cached.iter().zip(&computed.buckets).enumerate() {
            let bucket = buckets[at];
            compared[at].push(match is_past(aggregate, &bucket, now) {
                true => Compared::default(),
                false => {
                    let told = states.get(&bucket.start()).map(|state| state.version);
                    compare(name, bucket, before[at].total(), told, (documents, entries))
                }
            });
        }
    }
    let after = source.versions(&plan.source, buckets).await?;
    let seen = compared.into_iter().enumerate().map(|(at, compared)| match before[at].lanes == after[at].lanes {
        _ if pending[at] => Seen::Pending,
        true => Seen::Compared(compared),
        false => Seen::Moved,
    });
    Ok(seen.collect())
}

/// What the cache tells of these buckets, by their starts.
async fn states(
    cache: &mut dyn Cache,
    aggregate: &str,
    buckets: &[Bucket],
) -> Result<HashMap<DateTime<Utc>, BucketState>, RefreshError> {
    let (Some(first), Some(last)) = (buckets.first(), buckets.last()) else { return Ok(HashMap::new()) };
    let (mut states, mut from) = (HashMap::new(), first.start());
    loop {
        let found = cache.buckets(aggregate, Some(from), Some(last.end()), MOST_STATES).await?;
        let (many, end) = (found.len() >= MOST_STATES, found.last().map(|state| state.bucket.start()));
        states.extend(found.into_iter().map(|state| (state.bucket.start(), state)));
        match end.filter(|_| many) {
            Some(end) => from = end + Duration::seconds(1),
            None => return Ok(states),
        }
    }
}

/// States that are asked for at once.
const MOST_STATES: usize = 1024;

fn compare(
    aggregate: &str,
    bucket: Bucket,
    version: i64,
    told: Option<i64>,
    (documents, entries): (&[Document], &[Entry]),
) -> Compared {
    // Under a lower version than the bucket's, as from a backup, values count: a higher one stands in the way of all
    // that will be computed.
    let shown = |of: i64| if told != Some(version) && of < version { version } else { of };
    let cached: Vec<Shown<'_>> = documents
        .iter()
        .map(|d| Shown { bucket: d.bucket, key: &d.key, values: &d.values, version: shown(d.version) })
        .collect();
    let computed: Vec<Shown<'_>> =
        entries.iter().map(|e| Shown { bucket, key: &e.key, values: &e.values, version }).collect();
    let mut found = differences(aggregate, &cached, &computed);
    let is_untold = told.is_none() && !documents.is_empty() && !entries.is_empty();
    if is_untold || told > Some(version) {
        found.push(Difference::of_bucket(told, version));
    }
    let highest = documents.iter().map(|d| d.version).chain(told).max();
    let ahead = highest.map_or(0, |highest| highest.saturating_sub(version).max(0));
    Compared { documents: documents.len() as u64, ahead, differences: found }
}
