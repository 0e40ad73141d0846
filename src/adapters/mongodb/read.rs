//! Reads documents by ranges of their names, which sort by bucket and key. A document of a lower version than its
//! bucket's is none any more: a late one, or one that is about to be removed.

use std::collections::{HashMap, HashSet};

use ::mongodb::Database;
use ::mongodb::bson::{Document as Stored, doc};
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;

use super::errors::answer;
use super::replace::versions;
use super::{BUCKETS, collection_of, documents};
use crate::core::document::{bucket_id, document_id, field_name, ids_of_bucket, ids_of_range};
use crate::ports::cache::{BucketState, CacheCounts, CacheError, CacheQuery, Cursor, Document, Page};

/// Names asked for at once.
const MOST_NAMES: usize = 1000;

pub(super) async fn page(database: &Database, query: &CacheQuery) -> Result<Page, CacheError> {
    let (first, last) = ids_of_range(&query.aggregate, query.from, query.to);
    let mut behind = query.after.as_ref().map(|cursor| cursor.id().to_owned()).filter(|id| *id >= first);
    let mut page = Page::default();
    loop {
        let wanted = query.limit.max(1) - page.documents.len();
        let mut filter = match &behind {
            Some(id) => doc! { "_id": { "$gt": id, "$lt": &last } },
            None => doc! { "_id": { "$gte": &first, "$lt": &last } },
        };
        for (column, value) in &query.key {
            filter.insert(format!("key.{}", field_name(column)), documents::bson(value));
        }
        // One more tells whether there are more.
        let mut found = find(database, &query.aggregate, filter, Some(wanted + 1)).await?;
        let more = found.len() > wanted;
        found.truncate(wanted);
        behind = found.last().map(id_of);
        page.documents.extend(only_valid(database, &query.aggregate, found).await?);
        if !more {
            return Ok(page);
        }
        if page.documents.len() >= query.limit {
            page.next = behind.as_deref().map(Cursor::behind);
            return Ok(page);
        }
    }
}

pub(super) async fn bucket(
    database: &Database,
    aggregate: &str,
    start: DateTime<Utc>,
) -> Result<Vec<Document>, CacheError> {
    let (first, last) = ids_of_bucket(aggregate, start);
    let found = find(database, aggregate, doc! { "_id": { "$gte": first, "$lt": last } }, None).await?;
    only_valid(database, aggregate, found).await
}

async fn find(
    database: &Database,
    aggregate: &str,
    filter: Stored,
    limit: Option<usize>,
) -> Result<Vec<Document>, CacheError> {
    let what = format!("reading documents of the aggregate {aggregate}");
    let asked = async {
        let collection = database.collection::<Stored>(&collection_of(aggregate));
        let mut find = collection.find(filter).sort(doc! { "_id": 1 });
        if let Some(limit) = limit {
            find = find.limit(i64::try_from(limit).unwrap_or(i64::MAX));
        }
        find.await?.try_collect::<Vec<_>>().await
    };
    let found = answer(&what, asked).await?;
    found.iter().map(documents::read).collect()
}

fn id_of(document: &Document) -> String {
    document_id(&document.aggregate, document.bucket, &document.key)
}

/// Leaves out what is of a lower version than its bucket. The buckets are asked for after the documents were read, so
/// a document may be lower since a newer replacement was done in between: it is read once more, and then is either of
/// that version or none of the bucket's.
async fn only_valid(
    database: &Database,
    aggregate: &str,
    documents: Vec<Document>,
) -> Result<Vec<Document>, CacheError> {
    let buckets: HashSet<String> = documents.iter().map(|d| bucket_id(aggregate, d.bucket)).collect();
    let buckets: Vec<&str> = buckets.iter().map(String::as_str).collect();
    let versions = versions(database, BUCKETS, &buckets).await?;
    let is_valid = |d: &Document| versions.get(&bucket_id(aggregate, d.bucket)).is_none_or(|least| d.version >= *least);
    let doubtful: Vec<String> = documents.iter().filter(|d| !is_valid(d)).map(id_of).collect();
    let mut again = HashMap::new();
    for ids in doubtful.chunks(MOST_NAMES) {
        let found = find(database, aggregate, doc! { "_id": { "$in": ids.to_vec() } }, None).await?;
        again.extend(found.into_iter().filter(&is_valid).map(|document| (id_of(&document), document)));
    }
    let settled = documents.into_iter().filter_map(|d| if is_valid(&d) { Some(d) } else { again.remove(&id_of(&d)) });
    Ok(settled.collect())
}

pub(super) async fn buckets(
    database: &Database,
    aggregate: &str,
    (from, to): (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
    limit: usize,
) -> Result<Vec<BucketState>, CacheError> {
    let what = format!("reading buckets of the aggregate {aggregate}");
    let (first, last) = ids_of_range(aggregate, from, to);
    let asked = async {
        let collection = database.collection::<Stored>(BUCKETS);
        let find = collection.find(doc! { "_id": { "$gte": first, "$lt": last } }).sort(doc! { "_id": 1 });
        find.limit(i64::try_from(limit.max(1)).unwrap_or(i64::MAX)).await?.try_collect::<Vec<_>>().await
    };
    answer(&what, asked).await?.iter().map(documents::read_state).collect()
}

pub(super) async fn newest(database: &Database, aggregate: &str) -> Result<Option<BucketState>, CacheError> {
    let what = format!("reading the newest bucket of the aggregate {aggregate}");
    let (first, last) = ids_of_range(aggregate, None, None);
    let asked = async {
        let collection = database.collection::<Stored>(BUCKETS);
        let find = collection.find(doc! { "_id": { "$gte": first, "$lt": last } }).sort(doc! { "_id": -1 });
        find.limit(1).await?.try_collect::<Vec<_>>().await
    };
    answer(&what, asked).await?.first().map(documents::read_state).transpose()
}

pub(super) async fn count(database: &Database, aggregate: &str) -> Result<CacheCounts, CacheError> {
    let what = format!("counting documents of the aggregate {aggregate}");
    let (first, last) = ids_of_range(aggregate, None, None);
    // A bucket knows how many documents it has: to count those would be to walk over all of them.
    let all = doc! { "$match": { "_id": { "$gte": first, "$lt": last } } };
    let sums = doc! { "$group": { "_id": null, "buckets": { "$sum": 1 }, "documents": { "$sum": "$entries" } } };
    let asked = async {
        let buckets = database.collection::<Stored>(BUCKETS);
        buckets.aggregate([all, sums]).await?.try_collect::<Vec<_>>().await
    };
    let summed = answer(&what, asked).await?.pop();
    let sum = |name: &str| summed.as_ref().and_then(|of| documents::count(of.get(name)?)).unwrap_or(0);
    Ok(CacheCounts { buckets: sum("buckets"), documents: sum("documents") })
}
