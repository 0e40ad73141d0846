//! Pages, ranges, filters, and what is removed.

use bief::ports::cache::{BucketState, CacheCounts};

use super::*;

/// Three shops with two aisles each, over five hours; the last shop is open in the first two alone.
async fn stocked(open: &OpenCache) -> Box<dyn Cache> {
    let mut cache = open().await.unwrap();
    cache.prepare(&[aggregate("stock", &["shop", "aisle"], None)]).await.unwrap();
    for n in 0..5 {
        let shops: &[&str] = if n < 2 { &["north", "south", "west"] } else { &["north", "south"] };
        let entry = |shop: &&str, aisle: i64| Entry {
            key: vec![("shop".to_owned(), (*shop).into()), ("aisle".to_owned(), aisle.into())],
            values: vec![("left".to_owned(), (n * 10 + aisle).into())],
        };
        let entries = shops.iter().flat_map(|shop| [entry(shop, 1), entry(shop, 2)]).collect();
        cache.replace(&replacement("stock", hour(n), 1, entries)).await.unwrap();
    }
    cache
}

fn text(n: i64, shop: &str, aisle: i64) -> (i64, String, i64) {
    (n, shop.to_owned(), aisle)
}

/// Hour, shop and aisle.
fn place(document: &Document) -> (i64, String, i64) {
    let [(_, Value::Text(shop)), (_, Value::Integer(aisle))] = &document.key[..] else {
        panic!("{document:?} is no stock");
    };
    ((document.bucket.start() - at(0)).num_hours(), shop.clone(), *aisle)
}

pub async fn pages_follow_each_other_without_gap_or_repeat(open: OpenCache) {
    let mut cache = stocked(&open).await;
    let mut all = Vec::new();
    for n in 0..5 {
        for shop in ["north", "south", "west"].into_iter().take(if n < 2 { 3 } else { 2 }) {
            all.extend([text(n, shop, 1), text(n, shop, 2)]);
        }
    }
    for limit in [1, 2, 3, 5, 7, 23, 24, 25, 1000] {
        let (found, lengths) = pages(&mut cache, query("stock", limit)).await;
        assert_eq!(found.iter().map(place).collect::<Vec<_>>(), all, "pages of {limit}");
        let (last, full) = lengths.split_last().unwrap();
        assert!(full.iter().all(|l| *l == limit) && (1..=limit).contains(last), "pages of {limit}: {lengths:?}");
    }
    // A page that was cut between two requests goes on behind its end, whatever changed before it.
    let first = cache.read(&query("stock", 4)).await.unwrap();
    let entry = Entry { key: first.documents[0].key.clone(), values: Vec::new() };
    cache.replace(&replacement("stock", hour(0), 2, vec![entry])).await.unwrap();
    let next = cache.read(&CacheQuery { after: first.next, ..query("stock", 1) }).await.unwrap();
    assert_eq!(next.documents.iter().map(place).collect::<Vec<_>>(), [text(1, "north", 1)]);
}

pub async fn documents_are_found_by_any_part_of_their_key(open: OpenCache) {
    let mut cache = stocked(&open).await;
    let shop = ("shop".to_owned(), Value::from("west"));
    let aisle = ("aisle".to_owned(), Value::from(2));
    for (key, expected) in [
        (vec![shop.clone()], vec![text(0, "west", 1), text(0, "west", 2), text(1, "west", 1), text(1, "west", 2)]),
        (vec![aisle.clone(), shop.clone()], vec![text(0, "west", 2), text(1, "west", 2)]),
        (vec![("shop".to_owned(), "east".into())], vec![]),
        (vec![("shop".to_owned(), Value::Null)], vec![]),
        (vec![("no such column".to_owned(), 1.into())], vec![]),
        (vec![("aisle".to_owned(), "2".into())], vec![]),
    ] {
        for limit in [1, 3, 100] {
            let (found, _) = pages(&mut cache, CacheQuery { key: key.clone(), ..query("stock", limit) }).await;
            assert_eq!(found.iter().map(place).collect::<Vec<_>>(), expected, "{key:?} in pages of {limit}");
        }
    }
    let within = CacheQuery { key: vec![aisle, shop], from: Some(at(3600)), ..query("stock", 100) };
    let found = cache.read(&within).await.unwrap().documents;
    assert_eq!(found.iter().map(place).collect::<Vec<_>>(), [text(1, "west", 2)]);
}

pub async fn a_range_holds_the_buckets_that_start_in_it(open: OpenCache) {
    let mut cache = stocked(&open).await;
    let moment = chrono::Duration::milliseconds(1);
    for (from, to, hours) in [
        (None, None, 0..5),
        (Some(at(3600)), None, 1..5),
        (None, Some(at(3 * 3600)), 0..3),
        (Some(at(3600)), Some(at(3 * 3600)), 1..3),
        (Some(at(3600) - moment), Some(at(3 * 3600) + moment), 1..4),
        (Some(at(3600) + moment), Some(at(3 * 3600) - moment), 2..3),
        (Some(at(3600)), Some(at(3600)), 1..1),
        (Some(at(3 * 3600)), Some(at(3600)), 1..1),
        (Some(DateTime::<Utc>::MIN_UTC), Some(DateTime::<Utc>::MAX_UTC), 0..5),
    ] {
        let (found, _) = pages(&mut cache, CacheQuery { from, to, ..query("stock", 4) }).await;
        let mut found: Vec<i64> = found.iter().map(|d| place(d).0).collect();
        found.dedup();
        assert_eq!(found, hours.clone().collect::<Vec<_>>(), "{from:?} to {to:?}");
        let buckets = cache.buckets("stock", from, to, 100).await.unwrap();
        assert_eq!(buckets.iter().map(|b| b.bucket).collect::<Vec<_>>(), hours.map(hour).collect::<Vec<_>>());
    }
}

pub async fn buckets_the_newest_and_counts_tell_what_is_there(open: OpenCache) {
    let mut cache = stocked(&open).await;
    let state = |n, entries| BucketState { bucket: hour(n), version: 1, entries, computed_at: at(1) };
    assert_eq!(cache.newest("stock").await.unwrap(), Some(state(4, 4)));
    assert_eq!(cache.count("stock").await.unwrap(), CacheCounts { buckets: 5, documents: 24 });
    // As one goes through them who does not know how many there are.
    let (mut from, mut all) = (None, Vec::new());
    loop {
        let some = cache.buckets("stock", from, None, 2).await.unwrap();
        let Some(last) = some.last() else { break };
        from = Some(last.bucket.end());
        all.extend(some);
    }
    assert_eq!(all, [state(0, 6), state(1, 6), state(2, 4), state(3, 4), state(4, 4)]);
}

pub async fn what_was_never_written_reads_as_nothing(open: OpenCache) {
    let mut cache = open().await.unwrap();
    cache.ping().await.unwrap();
    for prepared in [false, true] {
        if prepared {
            cache.prepare(&[aggregate("nothing", &["shop"], Some(Duration::from_secs(3600)))]).await.unwrap();
        }
        assert_eq!(cache.read(&query("nothing", 10)).await.unwrap(), Page::default());
        assert_eq!(cache.bucket("nothing", at(0)).await.unwrap(), []);
        assert_eq!(cache.buckets("nothing", None, None, 10).await.unwrap(), []);
        assert_eq!(cache.newest("nothing").await.unwrap(), None);
        assert_eq!(cache.count("nothing").await.unwrap(), CacheCounts::default());
        assert_eq!(cache.purge(&[aggregate("nothing", &[], Some(Duration::from_secs(1)))], at(0)).await.unwrap(), 0);
        cache.drop_aggregate("nothing").await.unwrap();
    }
}

pub async fn what_is_past_its_keep_is_purged_and_no_more(open: OpenCache) {
    let mut cache = open().await.unwrap();
    let kept = aggregate("sums", &["shop"], Some(Duration::from_secs(7200)));
    let for_ever = aggregate("sums_for_ever", &["shop"], None);
    cache.prepare(&[kept.clone(), for_ever.clone()]).await.unwrap();
    for n in 0..5 {
        let mut bucket = sums(hour(n), 1, &[("a", 1), ("b", 2)]);
        cache.replace(&bucket).await.unwrap();
        bucket.aggregate = "sums_for_ever".to_owned();
        cache.replace(&bucket).await.unwrap();
    }
    let aggregates = [kept, for_ever];
    // Hour 1 ends at 7200 and is kept for as long again.
    let just_before = at(4 * 3600) - chrono::Duration::milliseconds(1);
    assert_eq!(cache.purge(&aggregates, just_before).await.unwrap(), 2);
    assert_eq!(cache.purge(&aggregates, at(4 * 3600)).await.unwrap(), 2);
    assert_eq!(cache.purge(&aggregates, at(4 * 3600)).await.unwrap(), 0);
    assert_eq!(cache.count("sums").await.unwrap(), CacheCounts { buckets: 3, documents: 6 });
    assert_eq!(cache.count("sums_for_ever").await.unwrap(), CacheCounts { buckets: 5, documents: 10 });
    assert_eq!(cache.buckets("sums", None, None, 1).await.unwrap()[0].bucket, hour(2));
}

pub async fn a_dropped_aggregate_is_gone_and_others_stay(open: OpenCache) {
    let mut cache = ready(&open).await;
    for name in ["sums", "sums_b", "sum"] {
        let mut bucket = sums(hour(0), 8, &[("a", 1)]);
        bucket.aggregate = name.to_owned();
        cache.replace(&bucket).await.unwrap();
    }
    cache.drop_aggregate("sums").await.unwrap();
    assert_eq!(cache.count("sums").await.unwrap(), CacheCounts::default());
    assert_eq!(cache.newest("sums").await.unwrap(), None);
    for name in ["sums_b", "sum"] {
        assert_eq!(cache.count(name).await.unwrap(), CacheCounts { buckets: 1, documents: 1 });
    }
    // Versions begin anew with it.
    cache.prepare(&[aggregate("sums", &["shop"], None)]).await.unwrap();
    assert_eq!(cache.replace(&sums(hour(0), 1, &[("a", 1)])).await, Ok(written(1, 0)));
}

pub async fn preparing_again_with_another_key_and_keep_is_no_error(open: OpenCache) {
    let mut cache = ready(&open).await;
    cache.replace(&sums(hour(0), 1, &[("a", 1)])).await.unwrap();
    let days = |n: u64| Some(Duration::from_secs(n * 86_400));
    let steps: [(&[&str], Option<Duration>); 6] = [
        (&["shop"], days(400)),
        (&["shop"], days(400)),
        (&["shop"], days(100_000)),
        (&["shop", "aisle"], None),
        (&[], days(7)),
        (&["shop"], None),
    ];
    for (key, keep) in steps {
        let mut other = ready(&open).await;
        cache.prepare(&[aggregate("sums", key, keep)]).await.unwrap();
        other.prepare(&[aggregate("sums", key, keep)]).await.unwrap();
        assert_eq!(shops(&mut cache, hour(0)).await.len(), 1, "{key:?} {keep:?}");
    }
}
