//! Dirty buckets on real servers, from the writer's mark to a clean bucket, and the shipped aggregates on three databases
//! beside what an independent script computes of the CSV files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bief::adapters::{mysql, warehouse};
use bief::config::{Config, Load, Secret, Tls, WarehouseConfig};
use bief::core::bucket_query::BucketQuery;
use bief::core::document::{Bucket, Value as Cell};
use bief::core::marks::{BucketSource, Mark};
use bief::ports::marks::{AggregateQuery, AggregateSource, BucketVersions};
use bief::ports::{Warehouse, WarehouseError};
use bief::topology;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::value::RawValue;

use super::items::{flush, producer, send};
use super::support::*;

/// Each behaviour on both servers.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        vec![$(
            (concat!(stringify!($name), "_on_mysql"), (|s| block_on($name(&s.mysql))) as super::Test),
            (concat!(stringify!($name), "_on_mariadb"), |s| block_on($name(&s.mariadb))),
        )*]
    };
}

pub fn tests() -> Vec<(&'static str, super::Test)> {
    let mut tests: Vec<(&'static str, super::Test)> = on_both![
        lanes_mark_the_same_bucket_without_waiting_for_each_other,
        a_bucket_is_clean_up_to_the_versions_that_were_read_and_no_further,
        a_row_that_a_writer_is_marking_is_not_waited_for_and_stays_dirty,
        a_claim_keeps_others_out_until_it_ends,
        a_query_answers_from_one_snapshot_with_its_offsets,
        what_is_wrong_with_a_query_is_told,
        buckets_with_rows_are_found_one_after_another,
        a_connection_that_was_killed_is_opened_again,
    ];
    tests.push(("the_shipped_aggregates_are_what_the_csv_files_say_on_three_databases", shipped_aggregates));
    tests
}

const LEASE: Duration = Duration::from_secs(60);

/// A database of its own with the bookkeeping tables and a table of sales, dropped by [`Shop::end`].
struct Shop {
    admin: Conn,
    name: String,
    settings: WarehouseConfig,
}

impl Shop {
    async fn new(server: &str) -> Self {
        let mut admin = Conn::from_url(server).await.unwrap();
        let name = unique("bief_aggregates");
        admin.query_drop(format!("CREATE DATABASE {name}")).await.unwrap();
        admin.query_drop(format!("USE {name}")).await.unwrap();
        let settings = WarehouseConfig {
            url: Secret::new(format!("{server}{name}")),
            tls: Tls::Disable,
            ca: None,
            migrations: None,
            load: Load::Auto,
        };
        warehouse::prepare(&settings, Path::new("")).await.unwrap();
        let mut shop = Self { admin, name, settings };
        shop.sql(
            "CREATE TABLE sale (sold_at DATETIME(6) NOT NULL, shop VARCHAR(3) NOT NULL, amount INT, price DECIMAL(8,2), \
             weight FLOAT, PRIMARY KEY (sold_at, shop))",
        )
        .await;
        shop.sql(
            "INSERT INTO sale VALUES ('2013-01-01 10:00:00', 'A', 2, 1.50, 0.25), \
             ('2013-01-01 10:59:59.999999', 'A', 3, 2.25, NULL), ('2013-01-01 10:30:00', 'B', NULL, NULL, 0.5), \
             ('2013-01-01 11:00:00', 'A', 7, 1, 2), ('2013-01-03', 'B', 1, 1, 1)",
        )
        .await;
        shop
    }

    async fn sql(&mut self, sql: &str) {
        self.admin.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// First column of each row.
    async fn numbers(&mut self, sql: &str) -> Vec<i64> {
        self.admin.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    async fn source(&self) -> Box<dyn AggregateSource> {
        warehouse::open_aggregates(&self.settings)().await.unwrap()
    }

    async fn writer(&self) -> Box<dyn Warehouse> {
        mysql::open(&self.settings)().await.unwrap()
    }

    async fn mark(&self, lane: i32, hours: &[i64]) {
        let mut writer = self.writer().await;
        writer.begin().await.unwrap();
        writer.mark(lane, &marks(hours)).await.unwrap();
        writer.commit().await.unwrap();
    }

    async fn end(mut self) {
        let sql = format!("DROP DATABASE {}", self.name);
        self.sql(&sql).await;
    }
}

fn sales() -> BucketSource {
    BucketSource { table: "sale".into(), time: "sold_at".into(), width: "1h".parse().unwrap() }
}

/// 2013-01-01 at this hour.
fn hour(of_day: i64) -> Bucket {
    sales().width.bucket_of(1_356_998_400_000_000 + of_day * 3_600_000_000).unwrap()
}

fn marks(hours: &[i64]) -> Vec<Mark> {
    Mark::of_buckets(&sales(), &hours.iter().map(|h| hour(*h)).collect::<Vec<_>>())
}

fn query(sql: &str, key: &[&str]) -> AggregateQuery {
    AggregateQuery {
        name: "sales".to_owned(),
        source: sales(),
        query: BucketQuery::parse(sql).unwrap(),
        key: key.iter().map(|k| (*k).to_owned()).collect(),
        topics: vec!["orders".to_owned()],
    }
}

async fn lanes_mark_the_same_bucket_without_waiting_for_each_other(server: &str) {
    let shop = Shop::new(server).await;
    // Rows that are there already, and rows that are new.
    shop.mark(0, &[10, 11]).await;
    shop.mark(1, &[10]).await;
    let many = marks(&(0..700).collect::<Vec<_>>());
    let mut writers = Vec::new();
    for lane in 0..4 {
        let mut writer = shop.writer().await;
        writer.begin().await.unwrap();
        let marking = writer.mark(lane, &many);
        tokio::time::timeout(Duration::from_secs(5), marking).await.expect("no lane waits for another").unwrap();
        writers.push(writer);
    }
    for writer in &mut writers {
        writer.commit().await.unwrap();
    }
    let mut source = shop.source().await;
    let versions = source.versions(&sales(), &[hour(11), hour(10), hour(500), hour(9_999)]).await.unwrap();
    assert_eq!(versions.iter().map(BucketVersions::total).collect::<Vec<_>>(), [5, 6, 4, 0]);
    assert_eq!(versions[1].lanes, [(0, 2), (1, 2), (2, 1), (3, 1)]);
    let backlog = source.backlog(&sales()).await.unwrap();
    assert!(backlog.buckets == 700 && backlog.oldest.is_some_and(|o| o < Duration::from_secs(60)), "{backlog:?}");
    shop.end().await;
}

async fn a_bucket_is_clean_up_to_the_versions_that_were_read_and_no_further(server: &str) {
    let mut shop = Shop::new(server).await;
    shop.mark(0, &[10, 11]).await;
    shop.mark(1, &[10]).await;
    let mut source = shop.source().await;
    let claimed = source.claim(&sales(), "one", LEASE, 10).await.unwrap();
    assert_eq!(claimed, [hour(10), hour(11)]);
    let versions = source.versions(&sales(), &claimed).await.unwrap();
    shop.mark(1, &[10]).await;
    let computed: Vec<_> = claimed.into_iter().zip(versions).collect();
    source.clean(&sales(), "one", &computed).await.unwrap();
    let clean = "SELECT pending_since IS NULL FROM bief_dirty_bucket ORDER BY bucket_start, lane";
    assert_eq!(shop.numbers(clean).await, [1, 0, 1]);
    let dirty_and_clean =
        "SELECT dirty_version * 100 + clean_version FROM bief_dirty_bucket ORDER BY bucket_start, lane";
    assert_eq!(shop.numbers(dirty_and_clean).await, [101, 201, 101]);
    assert_eq!(shop.numbers("SELECT COUNT(*) FROM bief_bucket_claim").await, [0]);
    assert_eq!(source.claim(&sales(), "two", LEASE, 10).await.unwrap(), [hour(10)]);
    let again = source.versions(&sales(), &[hour(10)]).await.unwrap();
    source.clean(&sales(), "two", &[(hour(10), again[0].clone())]).await.unwrap();
    // Who was slow and read less sets nothing back.
    source.clean(&sales(), "one", &computed[..1]).await.unwrap();
    assert_eq!(shop.numbers(dirty_and_clean).await, [101, 202, 101]);
    assert_eq!(source.backlog(&sales()).await.unwrap().buckets, 0);
    // A command's mark raises the version too.
    source.mark(&sales(), &[hour(11), hour(10)]).await.unwrap();
    let marked = source.versions(&sales(), &[hour(10)]).await.unwrap();
    assert_eq!((marked[0].total(), marked[0].lanes[0]), (4, (-1, 1)));
    shop.end().await;
}

async fn a_row_that_a_writer_is_marking_is_not_waited_for_and_stays_dirty(server: &str) {
    let shop = Shop::new(server).await;
    shop.mark(0, &[10, 11]).await;
    let mut source = shop.source().await;
    let claimed = source.claim(&sales(), "one", LEASE, 10).await.unwrap();
    let versions = source.versions(&sales(), &claimed).await.unwrap();
    let mut writer = shop.writer().await;
    writer.begin().await.unwrap();
    writer.mark(0, &marks(&[10])).await.unwrap();
    let computed: Vec<_> = claimed.into_iter().zip(versions).collect();
    let patience = Duration::from_secs(5);
    let cleaning = tokio::time::timeout(patience, source.clean(&sales(), "one", &computed)).await;
    cleaning.expect("nobody waits for the writer").unwrap();
    // Nor does a claim, or a look at what waits.
    assert_eq!(source.backlog(&sales()).await.unwrap().buckets, 1);
    let claimed = tokio::time::timeout(patience, source.claim(&sales(), "one", LEASE, 10)).await.unwrap().unwrap();
    assert_eq!(claimed, [hour(10)]);
    // The writer gives up: what was dirty is computed once more, and nothing is lost.
    writer.rollback().await.unwrap();
    let versions = source.versions(&sales(), &claimed).await.unwrap();
    source.clean(&sales(), "one", &[(hour(10), versions[0].clone())]).await.unwrap();
    assert_eq!(source.backlog(&sales()).await.unwrap().buckets, 0);
    shop.end().await;
}

async fn a_claim_keeps_others_out_until_it_ends(server: &str) {
    let shop = Shop::new(server).await;
    shop.mark(0, &[10, 11, 12]).await;
    let (mut one, mut other) = (shop.source().await, shop.source().await);
    assert_eq!(one.claim(&sales(), "one", LEASE, 2).await.unwrap(), [hour(10), hour(12)], "oldest and newest");
    assert_eq!(other.claim(&sales(), "other", LEASE, 10).await.unwrap(), [hour(11)]);
    assert_eq!(one.claim(&sales(), "one", LEASE, 10).await.unwrap(), [hour(10), hour(12)], "one's own again");
    one.release(&sales(), "one", &[hour(10), hour(11)]).await.unwrap();
    assert_eq!(other.claim(&sales(), "other", LEASE, 10).await.unwrap(), [hour(10), hour(11)]);
    one.release(&sales(), "one", &[hour(12)]).await.unwrap();
    // By the database's clock.
    assert_eq!(one.claim(&sales(), "one", Duration::from_millis(200), 10).await.unwrap(), [hour(12)]);
    let mut found = other.claim(&sales(), "other", LEASE, 10).await.unwrap();
    for _ in 0..200 {
        if found.len() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        found = other.claim(&sales(), "other", LEASE, 10).await.unwrap();
    }
    assert_eq!(found, [hour(10), hour(11), hour(12)], "a claim that ran out is anybody's");
    // Many at once: each bucket is claimed by one.
    shop.mark(1, &(100..300).collect::<Vec<_>>()).await;
    let mut sources = Vec::new();
    for _ in 0..4 {
        sources.push(shop.source().await);
    }
    let mut owned = BTreeMap::new();
    for _ in 0..3 {
        let claims = sources.iter_mut().enumerate().map(|(owner, source)| async move {
            (owner, source.claim(&sales(), &format!("owner-{owner}"), LEASE, 40).await)
        });
        for (owner, claimed) in futures_util::future::join_all(claims).await {
            // Rivals for the same rows may be told to try again.
            let claimed = match claimed {
                Err(WarehouseError::Transient { .. }) => continue,
                claimed => claimed.unwrap(),
            };
            for bucket in claimed {
                assert_eq!(*owned.entry(bucket).or_insert(owner), owner, "{bucket:?} has two owners");
            }
        }
    }
    assert!(owned.len() >= 40, "{}", owned.len());
    shop.end().await;
}

const BY_SHOP: &str =
    "SELECT shop, COUNT(*) AS sales, SUM(amount) AS amount, SUM(amount) * 1e0 / COUNT(amount) AS mean,
  SUM(price) AS price, MAX(sold_at) AS last, MIN(weight) AS weight, CAST(MIN(sold_at) AS DATE) AS day
  FROM sale WHERE sold_at >= :bucket_start AND sold_at < :bucket_end GROUP BY shop ORDER BY shop";

async fn a_query_answers_from_one_snapshot_with_its_offsets(server: &str) {
    let mut shop = Shop::new(server).await;
    shop.sql(
        "INSERT INTO bief_offset VALUES ('orders', 1, '', 1, 0, 42, 0, 0, 0, 0, NOW(6)), \
         ('other', 0, '', 1, 0, 7, 0, 0, 0, 0, NOW(6))",
    )
    .await;
    let mut source = shop.source().await;
    let by_shop = query(BY_SHOP, &["shop"]);
    let computed = source.compute(&by_shop, &[hour(10), hour(9), hour(11)]).await.unwrap();
    let values = |bucket: usize, entry: usize| -> Vec<Cell> {
        computed.buckets[bucket][entry].values.iter().map(|(_, value)| value.clone()).collect()
    };
    let day = || Cell::from("2013-01-01");
    let last = |text: &str| Cell::from(text);
    assert_eq!(
        values(0, 0),
        [2.into(), 5.into(), 2.5.into(), 3.75.into(), last("2013-01-01 10:59:59.999999"), 0.25.into(), day()]
    );
    let null = || Cell::Null;
    assert_eq!(values(0, 1), [1.into(), null(), null(), null(), last("2013-01-01 10:30:00.000000"), 0.5.into(), day()]);
    assert_eq!(computed.buckets[1].len(), 0);
    assert_eq!(computed.buckets[2][0].key, [("shop".to_owned(), Cell::from("A"))]);
    assert_eq!(serde_json::to_string(&computed.offsets).unwrap(), r#"{"orders":{"1":42}}"#);
    // Rows and offsets of a transaction that is under way are in neither.
    let mut writer = shop.writer().await;
    writer.begin().await.unwrap();
    let moved = bief::messages::OffsetMove { partition: 1, epoch: 1, from: 42, to: 43, gaps: Vec::new() };
    writer.advance("orders", &[moved]).await.unwrap();
    assert_eq!(source.compute(&by_shop, &[hour(10)]).await.unwrap().offsets["orders"][&1], 42);
    writer.commit().await.unwrap();
    assert_eq!(source.compute(&by_shop, &[hour(10)]).await.unwrap().offsets["orders"][&1], 43);
    shop.end().await;
}

async fn what_is_wrong_with_a_query_is_told(server: &str) {
    let shop = Shop::new(server).await;
    let mut source = shop.source().await;
    let bounds = "WHERE sold_at >= :bucket_start AND sold_at < :bucket_end";
    for (sql, told) in [
        (format!("SELECT shops FROM sale {bounds}"), "shops"),
        (format!("SELECT COUNT(*) AS n FROM sales {bounds}"), "sales"),
        (format!("SELECT COUNT(*) FROM sale {bounds}"), "give it a plain name"),
        (format!("SELECT UNHEX('ff') AS raw FROM sale {bounds}"), "its column raw holds bytes"),
        (format!("SELECT COUNT(*) AS n FROM sale {bounds} GROUP BY"), "syntax"),
    ] {
        let error = source.compute(&query(&sql, &[]), &[hour(10)]).await.unwrap_err();
        let WarehouseError::Fatal { what } = &error else { panic!("{sql}: {error:?}") };
        assert!(what.contains("aggregate sales") && what.contains(told), "{what}");
    }
    let examined = source.examine(&query(BY_SHOP, &["shop"])).await.unwrap();
    assert_eq!(examined.columns, ["shop", "sales", "amount", "mean", "price", "last", "weight", "day"]);
    assert_eq!(examined.scanned, Vec::<String>::new());
    let whole =
        "SELECT COUNT(*) AS n FROM sale s WHERE DATE(s.sold_at) >= :bucket_start AND DATE(s.sold_at) < :bucket_end";
    assert_eq!(source.examine(&query(whole, &[])).await.unwrap().scanned, ["s"]);
    let common = format!("WITH few AS (SELECT shop FROM sale {bounds}) SELECT COUNT(*) AS n FROM few");
    assert_eq!(source.examine(&query(&common, &[])).await.unwrap().scanned, Vec::<String>::new());
    shop.end().await;
}

async fn buckets_with_rows_are_found_one_after_another(server: &str) {
    let shop = Shop::new(server).await;
    let mut source = shop.source().await;
    let (mut found, mut from) = (Vec::new(), None);
    while let Some(bucket) = source.next_bucket(&sales(), from).await.unwrap() {
        found.push(bucket);
        from = Some(bucket.end());
    }
    assert_eq!(found, [hour(10), hour(11), hour(48)]);
    shop.end().await;
}

async fn a_connection_that_was_killed_is_opened_again(server: &str) {
    let mut shop = Shop::new(server).await;
    let mut source = shop.source().await;
    shop.mark(0, &[10]).await;
    assert_eq!(source.backlog(&sales()).await.unwrap().buckets, 1);
    let others = "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND ID <> CONNECTION_ID()";
    for id in shop.numbers(others).await {
        // It may have ended by itself.
        let _ = shop.admin.query_drop(format!("KILL {id}")).await;
    }
    let error = source.backlog(&sales()).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Transient { .. }), "{error:?}");
    assert_eq!(source.backlog(&sales()).await.unwrap().buckets, 1);
    shop.end().await;
}

/// Records of each file that are loaded.
const RECORDS: i64 = 4000;

fn shipped_aggregates(servers: &Servers) {
    let wanted = wanted_documents();
    let topics = Topics { flights: unique("flights"), weather: unique("weather"), group: unique("group") };
    let folder = tempfile::tempdir().unwrap();
    let config = shipped_config(folder.path(), &servers.kafka, "sqlite://unused.db", &topics, 1);
    let rows = RECORDS.to_string();
    let output = bief(&["replay", "--no-shift", "--json", "--rows", &rows, "-c"]).arg(config).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mysql, mariadb) = (Database::create(&servers.mysql), Database::create(&servers.mariadb));
    let sqlite = format!("sqlite://{}", folder.path().join("bief.db").display());
    let mut daemons = Vec::new();
    for (name, url, lanes) in [("mysql", mysql.url(), 2), ("mariadb", mariadb.url(), 2), ("sqlite", sqlite, 1)] {
        let own = folder.path().join(name);
        std::fs::create_dir(&own).unwrap();
        let topics = Topics { group: unique("group"), ..topics.clone() };
        let config = shipped_config(&own, &servers.kafka, &url, &topics, lanes);
        let (found, code) = json_of(bief(&["check", "--json", "-c"]).arg(&config));
        assert_eq!(code, 0, "{found:#}");
        // The test refreshes in the place of the daemon, which claims nothing while its cache is away.
        let (cache, away) = ("sqlite://cache.db", "mongodb://127.0.0.1:1/away");
        replace_in(&config, &[(cache, away)]);
        let daemon = Daemon::start(&config);
        replace_in(&config, &[(away, cache)]);
        daemon.wait_caught_up(2 * RECORDS);
        let (found, code) = json_of(bief(&["check", "--connect", "--json", "-c"]).arg(&config));
        assert_eq!((code, found["warnings"].as_i64()), (0, Some(0)), "{found:#}");
        let loaded = bief::config::load(&config, &|_| None).unwrap();
        let found = block_on(compute_all(&loaded.config));
        for (document, values) in &wanted {
            assert_eq!(found.get(document), Some(values), "{name}: {document}");
        }
        assert_eq!(found.len(), wanted.len(), "{name}");
        daemons.push((name, daemon, loaded.config));
    }
    // A flight is corrected long after: its hour and its day are dirty, and no other.
    let producer = producer(&servers.kafka, &[]);
    let corrected = r#"{"scheduled_departure":"2013-01-01T10:15:00Z","carrier":"UA","flight":1545,"origin":"EWR","dest":"IAH",
        "tailnum":"N14228","actual_departure":"2013-01-01T10:25:00Z","dep_delay":10,"sched_arr_time":819,"arr_time":830,
        "arr_delay":11,"air_time":227,"distance":1400}"#;
    send(&producer, &topics.flights, "2013-01-01T10:15:00Z|UA|1545|EWR", Some(corrected.as_bytes()));
    flush(&producer);
    for (name, daemon, config) in daemons {
        daemon.wait_caught_up(2 * RECORDS + 1);
        daemon.stop();
        let dirty = block_on(dirty_buckets(&config));
        let expected =
            ["flight.scheduled_departure/1d 2013-01-01 00:00:00", "flight.scheduled_departure/1h 2013-01-01 10:00:00"];
        assert_eq!(dirty, expected, "{name}");
    }
}

/// A line of the independent script. Numbers as they are written, so that none is bent on its way.
#[derive(serde::Deserialize)]
struct Wanted {
    aggregate: String,
    bucket: String,
    key: BTreeMap<String, String>,
    values: BTreeMap<String, Box<RawValue>>,
}

/// Values by name, to the last bit; `None` is null.
type Values = BTreeMap<String, Option<u64>>;

/// Aggregate, bucket and key -> values, as the independent script has them.
fn wanted_documents() -> BTreeMap<String, Values> {
    let script = repository().join("tests/rowset/documents.py");
    let rows = RECORDS.to_string();
    let output = std::process::Command::new("python3").arg(script).args(["--rows", &rows]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut documents = BTreeMap::new();
    for Wanted { aggregate, bucket, key, values } in text.lines().map(|line| serde_json::from_str(line).unwrap()) {
        let name = document_name(&aggregate, &bucket, &key.into_values().collect::<Vec<_>>());
        let number = |raw: &RawValue| (raw.get() != "null").then(|| raw.get().parse::<f64>().unwrap().to_bits());
        let values = values.iter().map(|(name, raw)| (name.clone(), number(raw))).collect();
        assert!(documents.insert(name, values).is_none());
    }
    assert!(documents.len() > 3000, "{}", documents.len());
    documents
}

/// Keys in the order of their columns' names.
fn document_name(aggregate: &str, bucket: &str, key: &[String]) -> String {
    format!("{aggregate} {bucket} {}", key.join("|"))
}

fn shown(bucket: &Bucket) -> String {
    bucket.start().format("%Y-%m-%d %H:%M:%S").to_string()
}

/// All buckets that wait, computed and set clean; they are those that have rows.
async fn compute_all(config: &Config) -> BTreeMap<String, Values> {
    let mut source = warehouse::open_aggregates(&config.warehouse)().await.unwrap();
    let mut documents = BTreeMap::new();
    for of in config.bucket_sources() {
        let mut computed = BTreeSet::new();
        loop {
            let buckets = source.claim(&of, "test", LEASE, 100).await.unwrap();
            if buckets.is_empty() {
                break;
            }
            let versions = source.versions(&of, &buckets).await.unwrap();
            assert!(versions.iter().all(|v| v.total() > 0));
            for aggregate in config.aggregates.iter().filter(|aggregate| aggregate.source().id() == of.id()) {
                let query = topology::aggregate_query(config, aggregate).unwrap();
                let answer = source.compute(&query, &buckets).await.unwrap();
                assert_eq!(answer.offsets.len(), 1);
                for (bucket, entries) in buckets.iter().zip(answer.buckets) {
                    for entry in entries {
                        let name = document_name(&aggregate.name, &shown(bucket), &texts(&entry.key));
                        let values = entry.values.iter().map(|(name, value)| (name.clone(), bits(value)));
                        assert!(documents.insert(name, values.collect()).is_none());
                    }
                }
            }
            computed.extend(buckets.iter().copied());
            source.clean(&of, "test", &buckets.into_iter().zip(versions).collect::<Vec<_>>()).await.unwrap();
        }
        assert_eq!(source.backlog(&of).await.unwrap().buckets, 0);
        let (mut with_rows, mut from) = (BTreeSet::new(), None);
        while let Some(bucket) = source.next_bucket(&of, from).await.unwrap() {
            with_rows.insert(bucket);
            from = Some(bucket.end());
        }
        assert_eq!(computed, with_rows, "{}", of.id());
    }
    documents
}

/// Values of a key by the names of their columns.
fn texts(key: &[(String, Cell)]) -> Vec<String> {
    let by_name: BTreeMap<&String, &Cell> = key.iter().map(|(name, value)| (name, value)).collect();
    by_name
        .into_values()
        .map(|value| match value {
            Cell::Text(text) => text.clone(),
            other => panic!("{other:?} is no text"),
        })
        .collect()
}

fn bits(value: &Cell) -> Option<u64> {
    match value {
        Cell::Null => None,
        Cell::Integer(n) => Some((*n as f64).to_bits()),
        Cell::Float(n) => Some(n.to_bits()),
        Cell::Text(text) => panic!("{text} is no number"),
    }
}

async fn dirty_buckets(config: &Config) -> Vec<String> {
    let mut source = warehouse::open_aggregates(&config.warehouse)().await.unwrap();
    let mut dirty = Vec::new();
    for of in config.bucket_sources() {
        let buckets = source.claim(&of, "test", LEASE, 100).await.unwrap();
        dirty.extend(buckets.iter().map(|bucket| format!("{} {}", of.id(), shown(bucket))));
    }
    dirty.sort();
    dirty
}
