//! The guard by version: of all replacements of a bucket the highest version stays, as a whole.

use futures_util::future::{join, join_all};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};

use super::*;

pub async fn a_lower_version_changes_nothing_in_whatever_order_they_come(open: OpenCache) {
    let mut cache = ready(&open).await;
    let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
    for (n, order) in orders.into_iter().enumerate() {
        let bucket = hour(n as i64);
        let mut highest = 0;
        for version in order {
            let shops = [("a", version * 10), ("b", version * 100)];
            let replaced = cache.replace(&sums(bucket, version, &shops)).await.unwrap();
            let expected = if version > highest { written(2, 0) } else { Replaced { newer: 2, ..Replaced::default() } };
            assert_eq!(replaced, expected, "{order:?}: {version} after {highest}");
            highest = highest.max(version);
            let a = ("a".to_owned(), highest * 10, highest);
            let b = ("b".to_owned(), highest * 100, highest);
            assert_eq!(super::shops(&mut cache, bucket).await, [a, b], "{order:?}: {version}");
        }
    }
}

pub async fn the_same_version_twice_changes_nothing(open: OpenCache) {
    let mut cache = ready(&open).await;
    assert_eq!(cache.replace(&sums(hour(0), 5, &[("a", 1), ("b", 2)])).await, Ok(written(2, 0)));
    let again = cache.replace(&sums(hour(0), 5, &[("a", 7), ("b", 8)])).await;
    assert_eq!(again, Ok(Replaced { unchanged: 2, ..Replaced::default() }));
    assert_eq!(shops(&mut cache, hour(0)).await, [("a".to_owned(), 1, 5), ("b".to_owned(), 2, 5)]);
    // A connection of its own sees and does the same.
    let mut other = ready(&open).await;
    let again = other.replace(&sums(hour(0), 5, &[("a", 7)])).await;
    assert_eq!(again, Ok(Replaced { unchanged: 1, ..Replaced::default() }));
    assert_eq!(shops(&mut other, hour(0)).await.len(), 2);
}

pub async fn a_key_that_vanished_is_gone_and_comes_back_with_a_higher_version(open: OpenCache) {
    let mut cache = ready(&open).await;
    cache.replace(&sums(hour(0), 1, &[("a", 1), ("b", 1), ("c", 1)])).await.unwrap();
    assert_eq!(cache.replace(&sums(hour(0), 4, &[("b", 4)])).await, Ok(written(1, 2)));
    assert_eq!(shops(&mut cache, hour(0)).await, [("b".to_owned(), 4, 4)]);
    let (found, _) = pages(&mut cache, query("sums", 10)).await;
    assert_eq!(found.len(), 1);
    // Versions below that of its removal do not bring it back, the next one does.
    for version in 1..4 {
        let late = cache.replace(&sums(hour(0), version, &[("a", version)])).await.unwrap();
        assert_eq!((late.written, late.newer), (0, 1));
        assert_eq!(shops(&mut cache, hour(0)).await, [("b".to_owned(), 4, 4)]);
    }
    assert_eq!(cache.replace(&sums(hour(0), 5, &[("a", 5), ("b", 5)])).await, Ok(written(2, 0)));
    assert_eq!(shops(&mut cache, hour(0)).await, [("a".to_owned(), 5, 5), ("b".to_owned(), 5, 5)]);
}

pub async fn a_key_that_only_an_older_version_has_never_appears(open: OpenCache) {
    let mut cache = ready(&open).await;
    cache.replace(&sums(hour(0), 7, &[("a", 7)])).await.unwrap();
    // Nothing was ever there by which the older `z` could be known.
    let late = cache.replace(&sums(hour(0), 6, &[("a", 6), ("z", 6)])).await.unwrap();
    assert_eq!((late.written, late.newer), (0, 2));
    assert_eq!(shops(&mut cache, hour(0)).await, [("a".to_owned(), 7, 7)]);
}

pub async fn of_several_buckets_at_once_each_stands_at_its_highest_version(open: OpenCache) {
    let mut cache = ready(&open).await;
    cache.replace(&sums(hour(0), 5, &[("a", 50), ("b", 51)])).await.unwrap();
    cache.replace(&sums(hour(1), 5, &[("a", 52)])).await.unwrap();
    cache.replace(&sums(hour(2), 5, &[("a", 53), ("b", 54)])).await.unwrap();
    let together = [
        sums(hour(0), 4, &[("a", 40), ("c", 41)]),
        sums(hour(1), 5, &[("a", 55)]),
        sums(hour(2), 6, &[("b", 60)]),
        sums(hour(3), 1, &[("a", 10), ("b", 11), ("c", 12)]),
        sums(hour(4), 9, &[]),
    ];
    let replaced = cache.replace_all(&together).await.unwrap();
    assert_eq!(replaced, Replaced { written: 4, unchanged: 1, newer: 2, gone: 1 });
    let text = |shop: &str, orders, version| (shop.to_owned(), orders, version);
    assert_eq!(shops(&mut cache, hour(0)).await, [text("a", 50, 5), text("b", 51, 5)]);
    assert_eq!(shops(&mut cache, hour(1)).await, [text("a", 52, 5)]);
    assert_eq!(shops(&mut cache, hour(2)).await, [text("b", 60, 6)]);
    assert_eq!(shops(&mut cache, hour(3)).await, [text("a", 10, 1), text("b", 11, 1), text("c", 12, 1)]);
    assert_eq!(cache.count("sums").await.unwrap().buckets, 5);
    assert_eq!(cache.replace_all(&[]).await, Ok(Replaced::default()));
}

pub async fn an_empty_bucket_is_told_as_done_and_holds_nothing(open: OpenCache) {
    let mut cache = ready(&open).await;
    assert_eq!(cache.replace(&sums(hour(0), 2, &[])).await, Ok(Replaced::default()));
    assert_eq!(cache.replace(&sums(hour(0), 1, &[("a", 1)])).await, Ok(Replaced { newer: 1, ..Replaced::default() }));
    assert!(shops(&mut cache, hour(0)).await.is_empty());
    let newest = cache.newest("sums").await.unwrap().unwrap();
    assert_eq!((newest.bucket, newest.version, newest.entries), (hour(0), 2, 0));
    assert_eq!(cache.replace(&sums(hour(0), 3, &[("a", 3)])).await, Ok(written(1, 0)));
    assert_eq!(cache.replace(&sums(hour(0), 4, &[])).await, Ok(written(0, 1)));
    assert!(shops(&mut cache, hour(0)).await.is_empty());
}

pub async fn buckets_and_aggregates_do_not_touch_each_other(open: OpenCache) {
    let mut cache = ready(&open).await;
    let mut other = sums(hour(1), 1, &[("x", 1)]);
    other.aggregate = "sums_b".to_owned();
    cache.replace(&sums(hour(0), 9, &[("a", 9)])).await.unwrap();
    cache.replace(&sums(hour(1), 1, &[("a", 1), ("b", 1)])).await.unwrap();
    cache.replace(&sums(hour(2), 5, &[("c", 5)])).await.unwrap();
    cache.replace(&other).await.unwrap();
    assert_eq!(cache.replace(&sums(hour(1), 2, &[("b", 2)])).await, Ok(written(1, 1)));
    assert_eq!(shops(&mut cache, hour(0)).await, [("a".to_owned(), 9, 9)]);
    assert_eq!(shops(&mut cache, hour(1)).await, [("b".to_owned(), 2, 2)]);
    assert_eq!(shops(&mut cache, hour(2)).await, [("c".to_owned(), 5, 5)]);
    assert_eq!(cache.bucket("sums_b", hour(1).start()).await.unwrap().len(), 1);
}

/// Five shops at most: shop `n` is there where bit `n` of the version is set.
fn by_bits(bucket: Bucket, version: i64) -> Replacement {
    let shops: Vec<(&str, i64)> = of_bits(version).map(|shop| (shop, version)).collect();
    sums(bucket, version, &shops)
}

fn of_bits(version: i64) -> impl Iterator<Item = &'static str> {
    ["a", "b", "c", "d", "e"]
        .into_iter()
        .enumerate()
        .filter(move |(n, _)| (version >> n) & 1 == 1)
        .map(|(_, shop)| shop)
}

async fn must_hold(cache: &mut Box<dyn Cache>, bucket: Bucket, version: i64, why: &dyn std::fmt::Debug) {
    let expected: Vec<_> = of_bits(version).map(|shop| (shop.to_owned(), version, version)).collect();
    assert_eq!(shops(cache, bucket).await, expected, "{why:?}");
    let (found, _) = pages(cache, CacheQuery { from: Some(bucket.start()), ..query("sums", 2) }).await;
    let found: Vec<_> = found.iter().filter(|d| d.bucket == bucket).map(shop).collect();
    assert_eq!(found, expected, "{why:?}");
}

pub async fn of_replacements_at_once_the_highest_version_stays(open: OpenCache) {
    let mut caches = [ready(&open).await, ready(&open).await, ready(&open).await];
    for n in 0..40 {
        // Most keys are new to the bucket, so that each inserts what another inserts in the same moment.
        let versions = [[31, 21, 10], [7, 28, 3], [1, 2, 30]][n as usize % 3];
        let bucket = hour(n);
        let tries = caches.iter_mut().zip(versions).map(|(cache, version)| async move {
            let replaced = cache.replace(&by_bits(bucket, version)).await.unwrap();
            let entries = of_bits(version).count() as u64;
            assert_eq!(replaced.written + replaced.unchanged + replaced.newer, entries, "{replaced:?}");
        });
        join_all(tries).await;
        let highest = versions.into_iter().max().unwrap();
        must_hold(&mut caches[0], bucket, highest, &versions).await;
    }
}

pub async fn a_reader_never_sees_less_than_what_was_told_as_done(open: OpenCache) {
    const LAST: i64 = 60;
    let (mut writer, mut late, mut reader) = (ready(&open).await, ready(&open).await, ready(&open).await);
    let done = std::cell::Cell::new(0);
    let shops = |version: i64| -> Vec<(&'static str, i64)> {
        // `a` is in each version, `odd` in every other.
        let odd = (version % 2 == 1).then_some(("odd", version));
        std::iter::once(("a", version)).chain(odd).collect()
    };
    let writing = async {
        for version in 1..=LAST {
            writer.replace(&sums(hour(0), version, &shops(version))).await.unwrap();
            done.set(version);
        }
    };
    let lagging = async {
        while done.get() < LAST {
            // What a daemon does that was left behind.
            let version = (done.get() - 3).max(1);
            late.replace(&sums(hour(0), version, &[("a", version), ("ghost", version)])).await.unwrap();
        }
    };
    let reading = async {
        while done.get() < LAST {
            let least = done.get();
            let found: Vec<_> = reader.bucket("sums", hour(0).start()).await.unwrap().iter().map(shop).collect();
            for (shop, orders, version) in &found {
                assert!(*version >= least && orders == version, "{shop} of version {version} after {least}");
                // The first version is written by both.
                assert!(shop != "ghost" || least < 2, "a document of a daemon that was left behind");
            }
            assert!(least == 0 || found.iter().any(|(shop, ..)| shop == "a"), "{found:?} after {least}");
        }
    };
    join(writing, join(lagging, reading)).await;
    let even = [("a".to_owned(), LAST, LAST)];
    assert_eq!(super::shops(&mut reader, hour(0)).await, even);
}

pub async fn a_replacement_that_is_dropped_midway_is_made_good_by_the_next(open: OpenCache) {
    let mut reader = ready(&open).await;
    for n in 0..25 {
        let bucket = hour(n);
        let mut cache = ready(&open).await;
        cache.replace(&sums(bucket, 1, &[("a", 1), ("b", 1)])).await.unwrap();
        let put = by_bits(bucket, 28);
        let limit = Duration::from_micros(u64::try_from(n).unwrap() * 150);
        let cut = tokio::time::timeout(limit, cache.replace(&put)).await;
        // The same cache goes on, and so does another.
        let mut other = ready(&open).await;
        let next = if n % 2 == 0 { &mut cache } else { &mut other };
        next.replace(&by_bits(bucket, 30)).await.unwrap();
        must_hold(&mut reader, bucket, 30, &cut).await;
    }
}

pub async fn whatever_the_order_and_however_many_at_once_the_highest_version_stays(open: OpenCache) {
    let mut caches = [ready(&open).await, ready(&open).await, ready(&open).await];
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let steps = proptest::collection::vec(proptest::collection::vec(0..32i64, 1..=3), 1..6);
    // Shrinking needs a strategy's own loop, which knows no async: the cases are drawn here, and told when one fails.
    for n in 0..40 {
        let steps = steps.new_tree(&mut runner).unwrap().current();
        let bucket = hour(n);
        let mut highest = None;
        for versions in &steps {
            let tries = caches.iter_mut().zip(versions).map(|(cache, &version)| async move {
                cache.replace(&by_bits(bucket, version)).await.unwrap();
            });
            join_all(tries).await;
            highest = highest.max(versions.iter().copied().max());
            must_hold(&mut caches[n as usize % 3], bucket, highest.unwrap(), &steps).await;
        }
    }
}
