//! Dirty buckets from mark to clean, claims between two, and what queries answer.

use std::time::Duration;

use super::support::{Fixture, claim, now, step};
use crate::adapters::warehouse;
use crate::core::bucket_query::BucketQuery;
use crate::core::document::{Bucket, Value};
use crate::core::marks::{BucketSource, Mark};
use crate::core::time::{datetime_text, parse_datetime};
use crate::ports::WarehouseError;
use crate::ports::cache::Entry;
use crate::ports::marks::{AggregateQuery, AggregateSource, BucketVersions};

const SALES: &str = "
CREATE TABLE sale (sold_at DATETIME(6) NOT NULL, shop VARCHAR(3) NOT NULL, amount INTEGER, weight DOUBLE,
  PRIMARY KEY (sold_at, shop));
CREATE TABLE visit (shop VARCHAR(3) NOT NULL, day DATE NOT NULL, guests INTEGER, PRIMARY KEY (shop, day));
INSERT INTO sale VALUES
  ('2013-01-01 10:00:00.000000', 'A', 2, 1.5), ('2013-01-01 10:59:59.999999', 'A', 3, NULL),
  ('2013-01-01 10:30:00.000000', 'B', NULL, 0.1), ('2013-01-01 11:00:00.000000', 'A', 7, 2.0),
  ('2013-01-03 00:00:00.000000', 'B', 1, 4.0);
INSERT INTO visit VALUES ('A', '2013-01-01', 10), ('A', '2013-01-02', 20), ('B', '2013-01-01', 5);
";

const BY_SHOP: &str =
    "SELECT shop, COUNT(*) AS sales, SUM(amount) AS amount, SUM(amount) * 1e0 / COUNT(amount) AS mean,
  MAX(sold_at) AS last FROM sale WHERE sold_at >= :bucket_start AND sold_at < :bucket_end GROUP BY shop ORDER BY shop";

fn sales() -> BucketSource {
    BucketSource { table: "Sale".into(), time: "sold_at".into(), width: "1h".parse().unwrap() }
}

fn hour(of_day: u32) -> Bucket {
    sales().width.bucket_of(parse_datetime(&format!("2013-01-01 {of_day:02}:00:00")).unwrap()).unwrap()
}

fn query(source: BucketSource, sql: &str, key: &[&str]) -> AggregateQuery {
    AggregateQuery {
        name: "sales".to_owned(),
        source,
        query: BucketQuery::parse(sql).unwrap(),
        key: key.iter().map(|k| (*k).to_owned()).collect(),
        topics: vec!["orders".to_owned(), "absent".to_owned()],
    }
}

async fn source(fixture: &Fixture) -> Box<dyn AggregateSource> {
    warehouse::open_aggregates(&fixture.settings)().await.unwrap()
}

/// Marks hours as a writer of this lane does.
async fn mark(fixture: &Fixture, lane: i32, hours: &[u32]) {
    let mut writer = fixture.warehouse().await;
    let buckets: Vec<Bucket> = hours.iter().map(|h| hour(*h)).collect();
    writer.begin().await.unwrap();
    writer.mark(lane, &Mark::of_buckets(&sales(), &buckets)).await.unwrap();
    writer.commit().await.unwrap();
}

const MARKS: &str = "SELECT source, bucket_start, lane, dirty_version, clean_version, pending_since IS NULL \
                     FROM bief_dirty_bucket ORDER BY 1, 2, 3";
const LEASE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_mark_raises_its_lanes_version_and_leaves_no_trace_of_a_transaction_that_was_rolled_back() {
    let fixture = Fixture::with_domain(SALES).await;
    mark(&fixture, 0, &[10, 12]).await;
    mark(&fixture, 3, &[10]).await;
    mark(&fixture, 0, &[10]).await;
    let mut writer = fixture.warehouse().await;
    writer.begin().await.unwrap();
    writer.mark(0, &Mark::of_buckets(&sales(), &[hour(11)])).await.unwrap();
    writer.rollback().await.unwrap();
    let expected = [
        "sale.sold_at/1h|2013-01-01 10:00:00.000000|0|2|0|0",
        "sale.sold_at/1h|2013-01-01 10:00:00.000000|3|1|0|0",
        "sale.sold_at/1h|2013-01-01 12:00:00.000000|0|1|0|0",
    ];
    assert_eq!(fixture.query(MARKS).await, expected);
    let mut source = source(&fixture).await;
    let backlog = source.backlog(&sales()).await.unwrap();
    assert_eq!(backlog.buckets, 2);
    assert!(backlog.oldest.is_some_and(|oldest| oldest < Duration::from_secs(60)), "{backlog:?}");
    let versions = source.versions(&sales(), &[hour(12), hour(10), hour(9)]).await.unwrap();
    assert_eq!(versions.iter().map(BucketVersions::total).collect::<Vec<_>>(), [1, 3, 0]);
    assert_eq!(versions[1].lanes, [(0, 2), (3, 1)]);
}

#[tokio::test]
async fn many_marks_are_made_in_parts() {
    let fixture = Fixture::with_domain(SALES).await;
    let width = sales().width;
    let buckets: Vec<Bucket> = (0..1000).map(|n| width.bucket_of(n * width.micros()).unwrap()).collect();
    for times in 1..3 {
        let mut writer = fixture.warehouse().await;
        writer.begin().await.unwrap();
        writer.mark(0, &Mark::of_buckets(&sales(), &buckets)).await.unwrap();
        writer.commit().await.unwrap();
        let sum = fixture.query("SELECT CAST(SUM(dirty_version) AS TEXT) FROM bief_dirty_bucket").await;
        assert_eq!(sum, [(1000 * times).to_string()]);
    }
}

#[tokio::test]
async fn a_bucket_is_clean_up_to_the_versions_that_were_read_and_no_further() {
    let fixture = Fixture::with_domain(SALES).await;
    mark(&fixture, 0, &[10, 11]).await;
    mark(&fixture, 1, &[10]).await;
    let mut source = source(&fixture).await;
    let claimed = source.claim(&sales(), "one", LEASE, 10).await.unwrap();
    assert_eq!(claimed, [hour(10), hour(11)]);
    let versions = source.versions(&sales(), &claimed).await.unwrap();
    // Meanwhile a writer changes a row.
    mark(&fixture, 1, &[10]).await;
    let computed: Vec<_> = claimed.into_iter().zip(versions.clone()).collect();
    source.clean(&sales(), "one", &computed).await.unwrap();
    let expected = [
        "sale.sold_at/1h|2013-01-01 10:00:00.000000|0|1|1|1",
        "sale.sold_at/1h|2013-01-01 10:00:00.000000|1|2|1|0",
        "sale.sold_at/1h|2013-01-01 11:00:00.000000|0|1|1|1",
    ];
    assert_eq!(fixture.query(MARKS).await, expected);
    assert_eq!(
        fixture.query("SELECT pending_since FROM bief_dirty_bucket WHERE lane = 1").await,
        [datetime_text(versions[0].read_at)]
    );
    assert_eq!(fixture.query("SELECT COUNT(*) || '' FROM bief_bucket_claim").await, ["0"]);
    assert_eq!(source.claim(&sales(), "two", LEASE, 10).await.unwrap(), [hour(10)]);
    // Who was slow and read less sets nothing back.
    let again = source.versions(&sales(), &[hour(10)]).await.unwrap();
    source.clean(&sales(), "two", &[(hour(10), again[0].clone())]).await.unwrap();
    source.clean(&sales(), "one", &computed[..1]).await.unwrap();
    assert_eq!(source.backlog(&sales()).await.unwrap().buckets, 0);
    assert_eq!(source.claim(&sales(), "two", LEASE, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_claim_keeps_others_out_until_it_is_released_or_runs_out() {
    let fixture = Fixture::with_domain(SALES).await;
    mark(&fixture, 0, &[10, 11, 12]).await;
    let (mut one, mut other) = (source(&fixture).await, source(&fixture).await);
    assert_eq!(one.claim(&sales(), "one", LEASE, 2).await.unwrap(), [hour(10), hour(12)], "oldest and newest");
    assert_eq!(other.claim(&sales(), "other", LEASE, 10).await.unwrap(), [hour(11)]);
    assert_eq!(one.claim(&sales(), "one", LEASE, 10).await.unwrap(), [hour(10), hour(12)], "one's own again");
    one.release(&sales(), "one", &[hour(10)]).await.unwrap();
    assert_eq!(other.claim(&sales(), "other", LEASE, 10).await.unwrap(), [hour(10), hour(11)]);
    one.release(&sales(), "one", &[hour(10)]).await.unwrap();
    assert_eq!(one.claim(&sales(), "one", LEASE, 10).await.unwrap(), [hour(12)], "nobody ends another's claim");
    // Time passes.
    fixture.sql("UPDATE bief_bucket_claim SET claimed_until = '2013-01-01 00:00:00.000000' WHERE owner = 'one'").await;
    assert_eq!(other.claim(&sales(), "other", LEASE, 10).await.unwrap(), [hour(10), hour(11), hour(12)]);
}

#[tokio::test]
async fn other_sources_wait_for_themselves() {
    let fixture = Fixture::with_domain(SALES).await;
    mark(&fixture, 0, &[10]).await;
    let mut source = source(&fixture).await;
    let daily = BucketSource { width: "1d".parse().unwrap(), ..sales() };
    assert_eq!(source.claim(&daily, "one", LEASE, 10).await.unwrap(), []);
    let day = daily.width.bucket_of(hour(10).start().timestamp_micros()).unwrap();
    source.mark(&daily, &[day, day]).await.unwrap();
    assert_eq!(source.versions(&daily, &[day]).await.unwrap()[0].lanes, [(-1, 1)], "a command's own lane");
    assert_eq!(source.claim(&daily, "one", LEASE, 10).await.unwrap(), [day]);
    assert_eq!(source.backlog(&sales()).await.unwrap().buckets, 1);
}

fn entry(shop: &str, values: [Value; 4]) -> Entry {
    let names = ["sales", "amount", "mean", "last"].map(str::to_owned);
    Entry { key: vec![("Shop".to_owned(), shop.into())], values: names.into_iter().zip(values).collect() }
}

#[tokio::test]
async fn a_query_answers_for_each_bucket_from_one_snapshot_with_its_offsets() {
    let fixture = Fixture::with_domain(SALES).await;
    fixture.bookkeeping().await.claim("orders", &[claim(0, 0), claim(1, 5)], now()).await.unwrap();
    let mut writer = fixture.warehouse().await;
    writer.begin().await.unwrap();
    writer.advance("orders", &[step(0, 1, 0, 42)]).await.unwrap();
    writer.commit().await.unwrap();
    let mut source = source(&fixture).await;
    let by_shop = query(sales(), BY_SHOP, &["Shop"]);
    let computed = source.compute(&by_shop, &[hour(10), hour(9), hour(11)]).await.unwrap();
    let ten = [
        entry("A", [2.into(), 5.into(), 2.5.into(), "2013-01-01 10:59:59.999999".into()]),
        entry("B", [1.into(), Value::Null, Value::Null, "2013-01-01 10:30:00.000000".into()]),
    ];
    assert_eq!(computed.buckets[0], ten);
    assert_eq!(computed.buckets[1], []);
    assert_eq!(
        computed.buckets[2],
        [entry("A", [1.into(), 7.into(), 7.0.into(), "2013-01-01 11:00:00.000000".into()])]
    );
    assert_eq!(serde_json::to_string(&computed.offsets).unwrap(), r#"{"orders":{"0":42,"1":5}}"#);
    // A writer is not kept out, nor does it keep out.
    writer.begin().await.unwrap();
    writer.advance("orders", &[step(0, 1, 42, 43)]).await.unwrap();
    assert_eq!(source.compute(&by_shop, &[hour(10)]).await.unwrap().offsets["orders"][&0], 42);
    writer.commit().await.unwrap();
    assert_eq!(source.compute(&by_shop, &[hour(10)]).await.unwrap().offsets["orders"][&0], 43);
}

#[tokio::test]
async fn dates_have_buckets_of_a_day() {
    let fixture = Fixture::with_domain(SALES).await;
    let visits = BucketSource { table: "visit".into(), time: "day".into(), width: "1d".parse().unwrap() };
    let sql = "SELECT SUM(guests) AS guests FROM visit WHERE day >= :bucket_start AND day < :bucket_end";
    let mut source = source(&fixture).await;
    let first = source.next_bucket(&visits, None).await.unwrap().unwrap();
    let second = source.next_bucket(&visits, Some(first.end())).await.unwrap().unwrap();
    assert_eq!(source.next_bucket(&visits, Some(second.end())).await.unwrap(), None);
    let computed = source.compute(&query(visits, sql, &[]), &[first, second]).await.unwrap();
    let guests: Vec<_> = computed.buckets.iter().map(|entries| entries[0].values[0].1.clone()).collect();
    assert_eq!(guests, [Value::Integer(15), Value::Integer(20)]);
}

#[tokio::test]
async fn buckets_with_rows_are_found_one_after_another() {
    let fixture = Fixture::with_domain(SALES).await;
    let mut source = source(&fixture).await;
    let (mut found, mut from) = (Vec::new(), None);
    while let Some(bucket) = source.next_bucket(&sales(), from).await.unwrap() {
        found.push(bucket.start().to_rfc3339());
        from = Some(bucket.end());
    }
    assert_eq!(found, ["2013-01-01T10:00:00+00:00", "2013-01-01T11:00:00+00:00", "2013-01-03T00:00:00+00:00"]);
}

#[tokio::test]
async fn a_query_is_examined_without_a_row() {
    let fixture = Fixture::with_domain(SALES).await;
    let mut source = source(&fixture).await;
    let examined = source.examine(&query(sales(), BY_SHOP, &[])).await.unwrap();
    assert_eq!(examined.columns, ["shop", "sales", "amount", "mean", "last"]);
    assert_eq!(examined.scanned, Vec::<String>::new());
    let whole = "SELECT COUNT(*) AS n FROM sale s WHERE date(s.sold_at) >= :bucket_start AND s.sold_at < :bucket_end \
                 AND s.shop IN (SELECT v.shop FROM visit v)";
    let whole = whole.replace("s.sold_at < ", "date(s.sold_at) < ");
    let examined = source.examine(&query(sales(), &whole, &[])).await.unwrap();
    assert!(examined.scanned.contains(&"s".to_owned()), "{examined:?}");
}

#[tokio::test]
async fn a_query_that_fails_or_would_write_is_fatal_and_named() {
    let fixture = Fixture::with_domain(SALES).await;
    let mut source = source(&fixture).await;
    let bounds = "WHERE sold_at >= :bucket_start AND sold_at < :bucket_end";
    for (sql, told) in [
        (format!("SELECT shops FROM sale {bounds}"), "no such column: shops"),
        (format!("WITH old AS (SELECT 1) DELETE FROM sale {bounds}"), "readonly"),
        (format!("SELECT COUNT(*) FROM sale {bounds}"), "give it a plain name"),
        (format!("SELECT x'ff' AS raw FROM sale {bounds}"), "its column raw holds bytes"),
    ] {
        let error = source.compute(&query(sales(), &sql, &[]), &[hour(10)]).await.unwrap_err();
        let WarehouseError::Fatal { what } = &error else { panic!("{error:?}") };
        assert!(what.contains("aggregate sales") && what.contains(told), "{what}");
    }
    assert_eq!(fixture.query("SELECT COUNT(*) || '' FROM sale").await, ["5"]);
    // The connection is sound again.
    source.mark(&sales(), &[hour(10)]).await.unwrap();
}
