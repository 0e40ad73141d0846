//! What every cache must do, written once over its trait. Each test gets the way to open a cache that holds nothing, and
//! may open it several times. An adapter that passes them all can be put in another's place.

mod guard;
mod reading;
mod values;

use std::collections::BTreeMap;
use std::time::Duration;

use bief::ports::cache::{
    Bucket, Cache, CacheQuery, CachedAggregate, Document, Entry, OpenCache, Page, Replaced, Replacement, Value,
};
use chrono::{DateTime, Utc};
use futures_util::future::LocalBoxFuture;

pub type Test = fn(OpenCache) -> LocalBoxFuture<'static, ()>;

macro_rules! tests {
    ($($module:ident: $($name:ident),+;)+) => {
        pub const TESTS: &[(&str, Test)] = &[$($((stringify!($name), |open| Box::pin($module::$name(open)))),+),+];
    };
}

tests! {
    guard:
        a_lower_version_changes_nothing_in_whatever_order_they_come,
        the_same_version_twice_changes_nothing,
        a_key_that_vanished_is_gone_and_comes_back_with_a_higher_version,
        a_key_that_only_an_older_version_has_never_appears,
        of_several_buckets_at_once_each_stands_at_its_highest_version,
        an_empty_bucket_is_told_as_done_and_holds_nothing,
        buckets_and_aggregates_do_not_touch_each_other,
        of_replacements_at_once_the_highest_version_stays,
        a_reader_never_sees_less_than_what_was_told_as_done,
        a_replacement_that_is_dropped_midway_is_made_good_by_the_next,
        whatever_the_order_and_however_many_at_once_the_highest_version_stays;
    reading:
        pages_follow_each_other_without_gap_or_repeat,
        documents_are_found_by_any_part_of_their_key,
        a_range_holds_the_buckets_that_start_in_it,
        buckets_the_newest_and_counts_tell_what_is_there,
        what_was_never_written_reads_as_nothing,
        what_is_past_its_keep_is_purged_and_no_more,
        a_dropped_aggregate_is_gone_and_others_stay,
        preparing_again_with_another_key_and_keep_is_no_error;
    values:
        a_document_reads_back_as_it_was_put_in,
        numbers_read_back_to_the_last_bit,
        keys_of_any_text_are_told_apart_and_found,
        columns_and_topics_of_any_name_read_back,
        a_key_that_is_given_twice_is_refused_and_nothing_is_written,
        a_bucket_of_thousands_is_replaced_as_a_whole;
}

/// In the year 2096, so that no server removes what is past its `keep` before the test does.
fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(4_000_000_000 + second, 0).unwrap()
}

fn hour(n: i64) -> Bucket {
    Bucket::new(at(n * 3600), at(n * 3600 + 3600)).unwrap()
}

fn aggregate(name: &str, key: &[&str], keep: Option<Duration>) -> CachedAggregate {
    CachedAggregate { name: name.to_owned(), key: key.iter().map(|&k| k.to_owned()).collect(), keep }
}

/// A bucket of `sums` with these shops and their numbers.
fn sums(bucket: Bucket, version: i64, shops: &[(&str, i64)]) -> Replacement {
    let entry = |&(shop, n): &(&str, i64)| Entry {
        key: vec![("shop".to_owned(), shop.into())],
        values: vec![("orders".to_owned(), n.into())],
    };
    replacement("sums", bucket, version, shops.iter().map(entry).collect())
}

fn replacement(aggregate: &str, bucket: Bucket, version: i64, entries: Vec<Entry>) -> Replacement {
    Replacement {
        aggregate: aggregate.to_owned(),
        bucket,
        version,
        computed_at: at(version),
        offsets: BTreeMap::from([("orders".to_owned(), BTreeMap::from([(0, version)]))]),
        entries,
    }
}

fn written(written: u64, gone: u64) -> Replaced {
    Replaced { written, gone, ..Replaced::default() }
}

/// A cache that is ready for `sums`.
async fn ready(open: &OpenCache) -> Box<dyn Cache> {
    let mut cache = open().await.unwrap();
    cache.prepare(&[aggregate("sums", &["shop"], None)]).await.unwrap();
    cache
}

/// Shops of a bucket of `sums`, with their numbers and versions.
async fn shops(cache: &mut Box<dyn Cache>, bucket: Bucket) -> Vec<(String, i64, i64)> {
    cache.bucket("sums", bucket.start()).await.unwrap().iter().map(shop).collect()
}

fn shop(document: &Document) -> (String, i64, i64) {
    let ([(_, Value::Text(shop))], [(_, Value::Integer(orders))]) = (&document.key[..], &document.values[..]) else {
        panic!("{document:?} is no sum");
    };
    (shop.clone(), *orders, document.version)
}

fn query(aggregate: &str, limit: usize) -> CacheQuery {
    CacheQuery { aggregate: aggregate.to_owned(), limit, ..CacheQuery::default() }
}

/// All pages of a query, with each page's length.
async fn pages(cache: &mut Box<dyn Cache>, mut query: CacheQuery) -> (Vec<Document>, Vec<usize>) {
    let (mut documents, mut lengths) = (Vec::new(), Vec::new());
    loop {
        let Page { documents: mut found, next } = cache.read(&query).await.unwrap();
        assert!(found.len() <= query.limit && lengths.len() < 10_000, "{} of {}", found.len(), query.limit);
        lengths.push(found.len());
        documents.append(&mut found);
        match next {
            Some(next) => query.after = Some(next),
            None => return (documents, lengths),
        }
    }
}
