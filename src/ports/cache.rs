//! The port of the cache: aggregates kept as documents, one for each key and bucket, so that dashboards ask no costly
//! questions. What a document holds is computed elsewhere; here is how it is replaced and read.
//!
//! A bucket is replaced as a whole, under its version. Whatever the order in which replacements of a bucket arrive, and
//! wherever one of them is cut off, once the one of the highest version has been told as done, the bucket holds its
//! documents and no others; an older one that comes late, or is still under way, changes nothing that is read. While
//! a replacement is under way its documents change one by one. The same version twice changes nothing: to mend what
//! someone changed by hand takes a higher one.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use futures_util::future::LocalBoxFuture;

pub use crate::core::document::{Bucket, Fields, Value};

/// What can go wrong with the cache. The texts say what was tried, what happened and, where it is known, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// The server is away, busy or changing its primary: the same call is made again.
    #[error("{what}")]
    Transient { what: String },
    /// Access denied, wrong set-up, documents that are not ours: trying again does not help.
    #[error("{what}")]
    Fatal { what: String },
}

/// What a cache needs to know of an aggregate before documents go in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedAggregate {
    pub name: String,
    /// Columns of the key, in the query's order; none where a bucket has one document.
    pub key: Vec<String>,
    /// How long after its end a bucket is kept, in whole seconds; for ever where there is none.
    pub keep: Option<Duration>,
}

/// The next offset of each partition of each topic when a bucket was computed: all records below are in it.
pub type Offsets = BTreeMap<String, BTreeMap<i32, i64>>;

/// All of a bucket, as one query computed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    pub aggregate: String,
    pub bucket: Bucket,
    /// Not negative; of two, the higher was computed from what is newer.
    pub version: i64,
    /// Kept to the millisecond.
    pub computed_at: DateTime<Utc>,
    pub offsets: Offsets,
    /// Keys differ from each other and have the same columns.
    pub entries: Vec<Entry>,
}

/// What a bucket holds for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: Fields,
    pub values: Fields,
}

/// What a replacement came to. The first three add up to its entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Documents that are new or were of a lower version.
    pub written: u64,
    /// Documents that were of this version already.
    pub unchanged: u64,
    /// Documents that were left as they are, since a newer replacement is there or under way.
    pub newer: u64,
    /// Documents of lower versions that were removed: of keys that the bucket has no more.
    pub gone: u64,
}

impl AddAssign for Replaced {
    fn add_assign(&mut self, other: Self) {
        self.written += other.written;
        self.unchanged += other.unchanged;
        self.newer += other.newer;
        self.gone += other.gone;
    }
}

/// A document as it is read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Document {
    pub aggregate: String,
    #[serde(serialize_with = "as_map")]
    pub key: Fields,
    #[serde(flatten, serialize_with = "as_ends")]
    pub bucket: Bucket,
    #[serde(serialize_with = "as_map")]
    pub values: Fields,
    pub version: i64,
    /// To the millisecond.
    pub computed_at: DateTime<Utc>,
    pub offsets: Offsets,
}

fn as_map<S: serde::Serializer>(fields: &Fields, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|(name, value)| (name, value)))
}

fn as_ends<S: serde::Serializer>(bucket: &Bucket, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map([("bucket_start", bucket.start()), ("bucket_end", bucket.end())])
}

/// Which documents to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheQuery {
    pub aggregate: String,
    /// Only documents whose key has these values; any of the key's columns, in any order.
    pub key: Fields,
    /// Buckets that start at or after.
    pub from: Option<DateTime<Utc>>,
    /// Buckets that start before.
    pub to: Option<DateTime<Utc>>,
    /// At most so many, at least one.
    pub limit: usize,
    /// Only what comes behind the end of this page.
    pub after: Option<Cursor>,
}

/// Documents, ascending by the start of their bucket, then by the text of their key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub documents: Vec<Document>,
    /// The end of this page where there may be more.
    pub next: Option<Cursor>,
}

/// The end of a page, as text that fits into a URL as it is. It goes with a query that differs in nothing but `limit`
/// and `after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(String);

impl Cursor {
    /// Behind the document of this name (`core::document::document_id`).
    pub fn behind(id: &str) -> Self {
        Self(id.to_owned())
    }

    /// Reads what [`Cursor::text`] wrote; `None` where it was not that.
    pub fn parse(text: &str) -> Option<Self> {
        String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok().map(Self)
    }

    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.0)
    }

    /// The name of the last document of the page.
    pub fn id(&self) -> &str {
        &self.0
    }
}

/// A bucket whose replacement was told as done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketState {
    pub bucket: Bucket,
    pub version: i64,
    /// How many entries it has.
    pub entries: u64,
    /// To the millisecond.
    pub computed_at: DateTime<Utc>,
}

/// How much of an aggregate is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheCounts {
    pub buckets: u64,
    pub documents: u64,
}

/// One connection to the cache. After an error the next call opens another where that is needed. A call that is
/// dropped midway is as one that was cut off.
#[async_trait(?Send)]
pub trait Cache {
    /// Makes ready for these aggregates: indexes, and what removes documents past their `keep`. Safe to repeat, and when
    /// several daemons do it at once. A changed `keep` counts for what is there already.
    async fn prepare(&mut self, aggregates: &[CachedAggregate]) -> Result<(), CacheError>;

    /// Puts a bucket's documents in the place of those of lower versions and removes what the bucket has no more.
    /// Fatal where two entries have the same key.
    async fn replace(&mut self, replacement: &Replacement) -> Result<Replaced, CacheError> {
        self.replace_all(std::slice::from_ref(replacement)).await
    }

    /// The same for several buckets of one aggregate, each apart, but on fewer ways to the server and back; answers the
    /// sum. After an error any of them may be replaced.
    async fn replace_all(&mut self, replacements: &[Replacement]) -> Result<Replaced, CacheError>;

    async fn read(&mut self, query: &CacheQuery) -> Result<Page, CacheError>;

    /// All pages of a query, one after the other: for what is known to be few enough to be held at once.
    async fn read_all(&mut self, mut query: CacheQuery) -> Result<Vec<Document>, CacheError> {
        let mut documents = Vec::new();
        loop {
            let page = self.read(&query).await?;
            documents.extend(page.documents);
            let Some(next) = page.next else { return Ok(documents) };
            query.after = Some(next);
        }
    }

    /// All documents of the bucket that starts then, ascending by the text of their key.
    async fn bucket(&mut self, aggregate: &str, start: DateTime<Utc>) -> Result<Vec<Document>, CacheError>;

    /// Buckets that start at or after `from` and before `to`, ascending, at most `limit`. The next ones start at the end
    /// of the last or later.
    async fn buckets(
        &mut self,
        aggregate: &str,
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
        limit: usize,
    ) -> Result<Vec<BucketState>, CacheError>;

    /// The bucket that starts last.
    async fn newest(&mut self, aggregate: &str) -> Result<Option<BucketState>, CacheError>;

    /// What there is to read. What a server removed by itself counts until the next [`Cache::purge`].
    async fn count(&mut self, aggregate: &str) -> Result<CacheCounts, CacheError>;

    /// Removes all that is stored of an aggregate; one that is not there is no error.
    async fn drop_aggregate(&mut self, aggregate: &str) -> Result<(), CacheError>;

    /// Removes buckets that ended longer than their `keep` before `now`; answers how many documents. A server that does
    /// it by itself may have been first.
    async fn purge(&mut self, aggregates: &[CachedAggregate], now: DateTime<Utc>) -> Result<u64, CacheError>;

    /// Whether it could be written to now.
    async fn ping(&mut self) -> Result<(), CacheError>;
}

/// How an actor or a command opens the cache, on its own thread.
pub type OpenCache = Arc<dyn Fn() -> LocalBoxFuture<'static, Result<Box<dyn Cache>, CacheError>> + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_told_as_flat_json_in_the_querys_order() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let document = Document {
            aggregate: "sums".to_owned(),
            key: vec![("shop".to_owned(), "x".into()), ("aisle".to_owned(), 3.into())],
            bucket: Bucket::new(at(0), at(3600)).unwrap(),
            values: vec![("orders".to_owned(), 2.into()), ("mean".to_owned(), 1.5.into())],
            version: 7,
            computed_at: at(4000),
            offsets: BTreeMap::from([("orders".to_owned(), BTreeMap::from([(0, 12)]))]),
        };
        assert_eq!(
            serde_json::to_string(&document).unwrap(),
            r#"{"aggregate":"sums","key":{"shop":"x","aisle":3},"bucket_start":"1970-01-01T00:00:00Z","#.to_owned()
                + r#""bucket_end":"1970-01-01T01:00:00Z","values":{"orders":2,"mean":1.5},"version":7,"#
                + r#""computed_at":"1970-01-01T01:06:40Z","offsets":{"orders":{"0":12}}}"#
        );
    }

    #[test]
    fn a_cursor_comes_back_from_its_text_and_nonsense_is_none() {
        let cursor = Cursor::behind("sums|1970-01-01T00:00:00Z|ü/?&");
        assert!(cursor.text().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        for nonsense in ["not base64!", "_w", "a="] {
            assert_eq!(Cursor::parse(nonsense), None, "{nonsense}");
        }
    }
}
