//! A forecast's history: the documents that it is made from, read page by page from the cache. Never from the warehouse.

use chrono::{DateTime, Utc};

use crate::core::forecast::{Panel, PanelBuilder, Spec};
use crate::ports::cache::CacheQuery;
use crate::ports::{Cache, CacheError};

/// Documents of a page: few enough that one answer is soon there and small, beside whatever else asks the cache.
const PAGE: usize = 2_000;

/// Buckets that start at or after `from` and before `to`; the panel ends with `until` or with the last known target.
///
/// # Errors
/// Those of the cache.
pub async fn read(
    cache: &mut dyn Cache,
    spec: &Spec,
    (from, to): (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
    until: Option<DateTime<Utc>>,
) -> Result<Panel, CacheError> {
    let mut builder = PanelBuilder::new(spec);
    for aggregate in spec.aggregates() {
        let mut query = CacheQuery { aggregate: aggregate.to_owned(), from, to, limit: PAGE, ..CacheQuery::default() };
        loop {
            let page = cache.read(&query).await?;
            for document in &page.documents {
                builder.add(aggregate, &document.key, document.bucket, &document.values);
            }
            let Some(next) = page.next else { break };
            query.after = Some(next);
        }
    }
    Ok(builder.build(until))
}
