//! The cache in MongoDB or a server that speaks its protocol: a collection for each aggregate, and one that says how far
//! each bucket is (`replace.rs`). It relies on nothing but that a single document is written and read as a whole: no
//! transactions, no retried writes, no change streams, no command of a server newer than 6.

mod address;
mod documents;
mod errors;
mod indexes;
mod read;
mod replace;
#[cfg(test)]
mod schema_tests;

use std::sync::Arc;

use ::mongodb::bson::{Document as Stored, doc};
use ::mongodb::{Client, Database};
use async_trait::async_trait;
use chrono::{DateTime, Utc};

use self::address::Address;
use self::errors::{answer, failed};
use crate::config::Secret;
use crate::core::document::{field_name, ids_of_range};
use crate::ports::cache::{
    BucketState, Cache, CacheCounts, CacheError, CacheQuery, CachedAggregate, Document, OpenCache, Page, Replaced,
    Replacement,
};

/// The collection with one document for each bucket whose replacement was told as done.
const BUCKETS: &str = "bief_bucket";
/// `NamespaceNotFound`: there is no such collection.
const NO_COLLECTION: i32 = 26;

/// The way to open the cache of this URL on the caller's own thread. Fails where no server answers or lets us in.
pub fn open(url: &Secret) -> OpenCache {
    let url = url.clone();
    Arc::new(move || {
        let url = url.clone();
        Box::pin(async move {
            let mut cache = MongoCache::of(&url).await?;
            cache.ping().await?;
            Ok(Box::new(cache) as Box<dyn Cache>)
        })
    })
}

struct MongoCache {
    /// Connects when it is first needed, and again where a connection was lost.
    database: Database,
}

impl MongoCache {
    async fn of(url: &Secret) -> Result<Self, CacheError> {
        let Address { options, database } = Address::of(url.expose()).await?;
        let client = Client::with_options(options).map_err(|e| failed("reading cache.url", &e))?;
        Ok(Self { database: client.database(&database) })
    }
}

/// The collection of an aggregate's documents.
fn collection_of(aggregate: &str) -> String {
    field_name(aggregate).into_owned()
}

/// What is written counts once most of a replica set has it: a failover loses none of it.
fn on_most_members() -> Stored {
    doc! { "w": "majority", "wtimeout": 20_000 }
}

#[async_trait(?Send)]
impl Cache for MongoCache {
    async fn prepare(&mut self, aggregates: &[CachedAggregate]) -> Result<(), CacheError> {
        for aggregate in aggregates {
            indexes::prepare(&self.database, aggregate).await?;
        }
        Ok(())
    }

    async fn replace_all(&mut self, replacements: &[Replacement]) -> Result<Replaced, CacheError> {
        replace::replace_all(&self.database, replacements).await
    }

    async fn read(&mut self, query: &CacheQuery) -> Result<Page, CacheError> {
        read::page(&self.database, query).await
    }

    async fn bucket(&mut self, aggregate: &str, start: DateTime<Utc>) -> Result<Vec<Document>, CacheError> {
        read::bucket(&self.database, aggregate, start).await
    }

    async fn buckets(
        &mut self,
        aggregate: &str,
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
        limit: usize,
    ) -> Result<Vec<BucketState>, CacheError> {
        read::buckets(&self.database, aggregate, (from, to), limit).await
    }

    async fn newest(&mut self, aggregate: &str) -> Result<Option<BucketState>, CacheError> {
        read::newest(&self.database, aggregate).await
    }

    async fn count(&mut self, aggregate: &str) -> Result<CacheCounts, CacheError> {
        read::count(&self.database, aggregate).await
    }

    async fn drop_aggregate(&mut self, aggregate: &str) -> Result<(), CacheError> {
        let what = format!("dropping the collection of the aggregate {aggregate}");
        // Of one that is not there servers tell in ways of their own.
        if indexes::must_be_ours(&self.database, aggregate).await? {
            let command = doc! { "drop": collection_of(aggregate), "writeConcern": on_most_members() };
            match answer(&what, self.database.run_command(command)).await {
                Ok(told) => replace::must_be_on_most_members(&what, &told)?,
                Err(error) if error.code() == Some(NO_COLLECTION) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (first, last) = ids_of_range(aggregate, None, None);
        let all = doc! { "_id": { "$gte": first, "$lt": last } };
        replace::delete(&self.database, BUCKETS, &[all]).await?;
        Ok(())
    }

    async fn purge(&mut self, aggregates: &[CachedAggregate], now: DateTime<Utc>) -> Result<u64, CacheError> {
        let mut removed = 0;
        for CachedAggregate { name, keep, .. } in aggregates {
            let Some(past) = keep.and_then(|keep| now.checked_sub_signed(chrono::Duration::from_std(keep).ok()?))
            else {
                continue;
            };
            // What ended then also started before: the range of names spares a scan where there is no index by the end.
            let (first, last) = ids_of_range(name, None, Some(past));
            let past = doc! { "_id": { "$gte": first, "$lt": last }, "bucket_end": { "$lte": documents::date(past) } };
            removed += replace::delete(&self.database, &collection_of(name), std::slice::from_ref(&past)).await?;
            replace::delete(&self.database, BUCKETS, &[past]).await?;
        }
        Ok(removed)
    }

    async fn ping(&mut self) -> Result<(), CacheError> {
        // Asked of the primary, which is the one that can be written to.
        answer("asking the cache whether it is there", self.database.run_command(doc! { "ping": 1 })).await?;
        Ok(())
    }
}
