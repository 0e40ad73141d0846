//! A forecast's history: the documents that it is made from, read page by page from the cache. Never from the warehouse.

use chrono::{DateTime, Utc};

use crate::core::forecast::{Panel, PanelBuilder, Spec, TooLarge};
use crate::ports::cache::CacheQuery;
use crate::ports::{Cache, CacheError};

/// Documents of a page: few enough that one answer is soon there and small, beside whatever else asks the cache.
const PAGE: usize = 2_000;

#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// The start of the bucket that a moment falls into: all that starts before has ended.
pub fn first_open(spec: &Spec, now: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(spec.width.start_of(now.timestamp_micros())).unwrap_or(now)
}

/// All that a training may see: the buckets that have ended by then.
///
/// # Errors
/// As [`read`].
pub async fn read_until(cache: &mut dyn Cache, spec: &Spec, now: DateTime<Utc>) -> Result<Panel, HistoryError> {
    read(cache, spec, (None, Some(first_open(spec, now))), None).await
}

/// Buckets that start at or after `from` and before `to`; the panel ends with `until` or with the last known target.
///
/// # Errors
/// Those of the cache; more documents than `Spec::memory` has room for.
pub async fn read(
    cache: &mut dyn Cache,
    spec: &Spec,
    (from, to): (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
    until: Option<DateTime<Utc>>,
) -> Result<Panel, HistoryError> {
    let mut builder = PanelBuilder::new(spec);
    for aggregate in spec.aggregates() {
        let mut query = CacheQuery { aggregate: aggregate.to_owned(), from, to, limit: PAGE, ..CacheQuery::default() };
        loop {
            let page = cache.read(&query).await?;
            for document in &page.documents {
                builder.add(aggregate, &document.key, document.bucket, &document.values);
            }
            builder.check()?;
            let Some(next) = page.next else { break };
            query.after = Some(next);
        }
    }
    Ok(builder.build(until))
}
