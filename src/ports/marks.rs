//! The aggregator's side of the warehouse: which buckets are dirty, what their queries answer, and when they are clean.
//!
//! A writer raises a version of each bucket whose rows it changes, in the transaction that changes them. So whoever reads
//! a bucket's version first and opens the query's snapshot then finds in it at least what the version counts; and sets
//! clean what was read, no more. Whatever a writer does meanwhile keeps the bucket dirty. A claim spares others the same
//! work and nothing else: a bucket that two compute is as right as one that one does.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::future::LocalBoxFuture;

use super::WarehouseError;
use super::cache::{Entry, Offsets};
use crate::core::bucket_query::BucketQuery;
use crate::core::document::{Bucket, Fields};
use crate::core::marks::BucketSource;

/// One aggregate as the warehouse is asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AggregateQuery {
    /// For messages.
    pub name: String,
    pub source: BucketSource,
    pub query: BucketQuery,
    /// Columns of the answer that are the key; the others are values.
    pub key: Vec<String>,
    /// Topics whose records make the table's rows.
    pub topics: Vec<String>,
}

impl AggregateQuery {
    /// Why an answer with these columns makes no documents, and what to write instead.
    pub fn misfit(&self, columns: &[String]) -> Option<(String, String)> {
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        let plain = |name: &str| {
            let mut chars = name.chars();
            chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
                && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if let Some(lost) = self.key.iter().find(|key| !columns.iter().any(|column| same(column, key))) {
            return Some((
                format!("the query yields no column `{lost}` for `key`"),
                format!("its columns are {}", columns.join(", ")),
            ));
        }
        if let Some(odd) = columns.iter().find(|column| !plain(column)) {
            let help = "give it a plain name: … AS name, with letters, digits and `_`, no digit first";
            return Some((format!("the query yields a column `{odd}`"), help.to_owned()));
        }
        let twice = columns.iter().enumerate().find(|(at, column)| columns[..*at].iter().any(|c| same(c, column)));
        if let Some((_, twice)) = twice {
            return Some((format!("the query yields two columns `{twice}`"), "name one of them otherwise".to_owned()));
        }
        (columns.len() == self.key.len()).then(|| {
            let help = "add a value, such as COUNT(*) AS rows_counted".to_owned();
            ("the query yields nothing but its `key`".to_owned(), help)
        })
    }

    /// A row of the answer; its columns must not be a [`AggregateQuery::misfit`]. Key columns get the names and the order
    /// that `key` has.
    pub fn entry(&self, mut fields: Fields) -> Entry {
        let mut key = Fields::with_capacity(self.key.len());
        for name in &self.key {
            if let Some(at) = fields.iter().position(|(column, _)| column.eq_ignore_ascii_case(name)) {
                key.push((name.clone(), fields.remove(at).1));
            }
        }
        Entry { key, values: fields }
    }
}

/// What waits to be computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    pub buckets: u64,
    /// How long the oldest of them has been waiting, by the database's clock.
    pub oldest: Option<Duration>,
}

/// How often each lane has marked a bucket, as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketVersions {
    /// Lane and its version, ascending by lane.
    pub lanes: Vec<(i32, i64)>,
    /// By the database's clock, in microseconds since 1970: marks that are not counted here are later.
    pub read_at: i64,
}

impl BucketVersions {
    /// The bucket's version. It never falls, since no lane's does and their rows are kept.
    pub fn total(&self) -> i64 {
        self.lanes.iter().map(|(_, version)| version).sum()
    }
}

/// What a query answered for several buckets, all of it from one snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Computed {
    /// Of the query's topics, in that snapshot.
    pub offsets: Offsets,
    /// For each bucket asked for.
    pub buckets: Vec<Vec<Entry>>,
}

/// What the database says of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// Names of the answer's columns.
    pub columns: Vec<String>,
    /// Tables, or their aliases, that are read from end to end for each bucket since no index serves.
    pub scanned: Vec<String>,
}

/// One connection to the warehouse for what reads rows and marks. After an error the next call opens another where that
/// is needed; a call that is dropped midway is as one that was cut off.
#[async_trait(?Send)]
pub trait AggregateSource {
    /// The cost follows what waits, never how many buckets there are.
    async fn backlog(&mut self, source: &BucketSource) -> Result<Backlog, WarehouseError>;

    /// Claims dirty buckets that nobody else has claimed, the newest and those that wait longest
    /// ([`crate::core::marks::next_to_refresh`]), at most `limit`; answers them ascending. A claim ends with
    /// [`AggregateSource::clean`], [`AggregateSource::release`], or after `lease` by the database's clock. One's own
    /// claims are given again, and last as long again.
    async fn claim(
        &mut self,
        source: &BucketSource,
        owner: &str,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<Bucket>, WarehouseError>;

    /// The versions of these buckets, in the order asked; without lanes where a bucket was never marked.
    async fn versions(
        &mut self,
        source: &BucketSource,
        buckets: &[Bucket],
    ) -> Result<Vec<BucketVersions>, WarehouseError>;

    /// Whether each of these buckets waits to be computed, in the order asked. One that does not, asked for after its
    /// versions were read, was computed under those or higher ones.
    async fn pending(&mut self, source: &BucketSource, buckets: &[Bucket]) -> Result<Vec<bool>, WarehouseError>;

    /// Runs the query for each of these buckets in one snapshot, which is opened now and in which nothing can be
    /// written. `Fatal` where the query is wrong.
    async fn compute(&mut self, query: &AggregateQuery, buckets: &[Bucket]) -> Result<Computed, WarehouseError>;

    /// Sets buckets clean up to the versions that were read before they were computed, and ends their claims. A bucket
    /// that was marked since stays dirty; so may one that a writer is marking at the moment, for which nobody waits.
    async fn clean(
        &mut self,
        source: &BucketSource,
        owner: &str,
        computed: &[(Bucket, BucketVersions)],
    ) -> Result<(), WarehouseError>;

    /// Ends claims; the buckets stay dirty.
    async fn release(&mut self, source: &BucketSource, owner: &str, buckets: &[Bucket]) -> Result<(), WarehouseError>;

    /// Makes buckets dirty whatever their rows, so that they are computed under a higher version.
    async fn mark(&mut self, source: &BucketSource, buckets: &[Bucket]) -> Result<(), WarehouseError>;

    /// The first bucket that has a row at or after `from`, of all where there is none. Found by the index that serves
    /// the bucket's query.
    async fn next_bucket(
        &mut self,
        source: &BucketSource,
        from: Option<DateTime<Utc>>,
    ) -> Result<Option<Bucket>, WarehouseError>;

    /// The last bucket that has a row. Found by the same index.
    async fn last_bucket(&mut self, source: &BucketSource) -> Result<Option<Bucket>, WarehouseError>;

    /// Asks the database about a query, on a bucket that holds nothing. Changes nothing.
    async fn examine(&mut self, query: &AggregateQuery) -> Result<Examined, WarehouseError>;
}

/// How an actor or a command opens it, on its own thread.
pub type OpenAggregateSource =
    Arc<dyn Fn() -> LocalBoxFuture<'static, Result<Box<dyn AggregateSource>, WarehouseError>> + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;

    fn query(key: &[&str]) -> AggregateQuery {
        let sql = "SELECT 1 FROM sale WHERE at >= :bucket_start AND at < :bucket_end";
        AggregateQuery {
            name: "sales".to_owned(),
            source: BucketSource { table: "sale".into(), time: "at".into(), width: "1h".parse().unwrap() },
            query: BucketQuery::parse(sql).unwrap(),
            key: key.iter().map(|k| (*k).to_owned()).collect(),
            topics: Vec::new(),
        }
    }

    #[test]
    fn an_answer_that_makes_no_documents_is_told() {
        let misfit = |key: &[&str], columns: &[&str]| {
            let columns: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
            query(key).misfit(&columns).map(|(problem, _)| problem)
        };
        for (key, columns, told) in [
            (&["shop"][..], &["store", "n"][..], "no column `shop`"),
            (&[], &["COUNT(*)"], "a column `COUNT(*)`"),
            (&[], &["n", "N"], "two columns `N`"),
            (&["shop"], &["shop"], "nothing but its `key`"),
        ] {
            let problem = misfit(key, columns).unwrap_or_default();
            assert!(problem.contains(told), "{columns:?}: {problem}");
        }
        assert_eq!(misfit(&["Shop"], &["n", "shop"]), None);
        assert_eq!(misfit(&[], &["n"]), None);
    }

    #[test]
    fn a_row_is_parted_into_key_and_values() {
        let fields = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), (*n).into())).collect::<Fields>();
        let entry = query(&["b", "A"]).entry(fields(&["a", "n", "b", "m"]));
        assert_eq!(entry.key, [("b".to_owned(), "b".into()), ("A".to_owned(), "a".into())]);
        assert_eq!(entry.values, fields(&["n", "m"]));
    }

    #[test]
    fn a_version_is_the_sum_over_lanes() {
        let versions = BucketVersions { lanes: vec![(-1, 2), (0, 40), (7, 1)], read_at: 0 };
        assert_eq!((versions.total(), BucketVersions::default().total()), (43, 0));
    }
}
