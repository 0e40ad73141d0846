//! From Kafka by way of the warehouse into the cache: after all records are loaded, every document of every shipped
//! aggregate is what an independent script computes of the CSV files, to the last bit; undisturbed, and after daemons
//! were killed and the cache was away again and again.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bief::adapters::proxy::{Proxy, Traffic};
use futures_util::StreamExt;
use mongodb::bson::{self, Bson, doc};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::cache::Space;
use super::parts::{Parts, long};
use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("every_document_is_what_the_csv_files_say_on_mysql", |s| undisturbed(s, &s.mysql, None)),
        ("every_document_is_what_the_csv_files_say_on_mariadb", |s| undisturbed(s, &s.mariadb, sample())),
        ("killed_daemons_and_an_absent_cache_leave_every_document_right", killed_and_cut_off),
        ("what_a_killed_daemon_had_claimed_another_refreshes", one_lease_two_daemons),
    ]
}

const AGGREGATES: [&str; 6] = [
    "departures_hourly",
    "departures_by_carrier_hourly",
    "routes_hourly",
    "daily_summary",
    "delay_histogram",
    "weather_hourly",
];

/// How long the documents of all records may take after their rows, on a busy machine.
const REFRESH_LIMIT: Duration = Duration::from_secs(900);

const PENDING: &str = "SELECT COUNT(*) FROM bief_dirty_bucket WHERE pending_since IS NOT NULL";

/// Records of each file that are enough where the same was tried with all of them; all in a long test.
fn sample() -> Option<i64> {
    (!long()).then_some(40_000)
}

/// How many records there are of both files.
fn records(rows: Option<i64>) -> i64 {
    rows.map_or(FLIGHTS + WEATHER, |rows| rows.min(FLIGHTS) + rows.min(WEATHER))
}

fn replay(config: &Path, rows: Option<i64>, rate: Option<u32>) -> Load {
    let mut replay = bief(&["replay", "--no-shift", "-c"]);
    replay.arg(config).stdout(Stdio::null()).stderr(Stdio::null());
    for (name, value) in [("--rows", rows.map(|n| n.to_string())), ("--rate", rate.map(|n| n.to_string()))] {
        value.map(|value| replay.args([name, &value]));
    }
    Load(replay.spawn().unwrap())
}

fn ferretdb(servers: &Servers) -> &CacheServer {
    servers.caches.ferretdb.as_ref().unwrap()
}

fn undisturbed(servers: &Servers, server: &str, rows: Option<i64>) {
    let (database, cache) = (Database::create(server), Space::create(ferretdb(servers)));
    let folder = tempfile::tempdir().unwrap();
    let own = || Topics { flights: unique("flights"), weather: unique("weather"), group: unique("group") };
    let topics = if rows.is_some() { own() } else { whole_data_set(&servers.kafka) };
    let config = example_config(folder.path(), &servers.kafka, &database.url(), cache.url().as_str(), &topics);
    // The command trains, once all documents are there.
    replace_in(&config, &[("train_at = \"0 3 * * *\"", "train_at = \"off\"")]);
    if rows.is_some() {
        replay(&config, rows, None).finish();
    }
    let daemon = Daemon::start(&config);
    daemon.wait_caught_up(records(rows));
    wait_refreshed(&daemon, &database);
    // What dashboards are told, and what is stored, apart from the daemon and its adapter.
    assert_documents(&told(&daemon, folder.path()), rows);
    assert_documents(&stored(&cache, folder.path()), rows);
    if rows.is_none() {
        assert_forecasts(&daemon, &config);
    }
    daemon.stop();
    assert_clean(&config);
}

/// `bief train` reads the documents from the cache's server, and the daemon keeps its forecasts there. What else is asked
/// of them `tests/forecasts.rs` asks of the same documents in SQLite.
fn assert_forecasts(daemon: &Daemon, config: &Path) {
    let (trained, code) = json_of(bief(&["train", "--json", "-c"]).arg(config));
    assert_eq!(code, 0, "{trained}");
    let next_hour = &trained["trained"][0]["horizons"][0]["holdout"];
    assert!((0.75..=0.85).contains(&next_hour["coverage"].as_f64().unwrap()), "{next_hour}");
    let mae = next_hour["score"]["mae"].as_f64().unwrap();
    assert!(mae <= 6.87, "{next_hour}");

    let began = Instant::now();
    loop {
        let (code, body) = daemon.get("/api/v1/forecasts").unwrap();
        let forecast = &serde_json::from_str::<Value>(&body).unwrap()["forecasts"][0];
        if code == 200 && forecast["champion"] == 1 && forecast["made_from"].is_string() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{code}: {body}\n{:#?}", daemon.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    for horizon in ["1h", "24h"] {
        let path = format!("/api/v1/forecasts/departure_delay/documents?horizon={horizon}&limit=5000");
        let told: Value = serde_json::from_str(&daemon.get(&path).unwrap().1).unwrap();
        let documents = told["documents"].as_array().unwrap();
        assert!(!documents.is_empty(), "{horizon}: {:#?}", daemon.log());
        for document in documents {
            let [low, forecast, high] = ["low", "forecast", "high"].map(|name| document[name].as_f64().unwrap());
            assert!(low < forecast && forecast < high, "{document}");
            assert!(document["truth"].is_null(), "nothing came after the year: {document}");
        }
    }
}

/// By the marks themselves, which the writer commits with its rows, and then by what the daemon says of it.
fn wait_refreshed(daemon: &Daemon, database: &Database) {
    let began = Instant::now();
    let none_waits = |status: &Value| {
        let aggregates = status["aggregates"].as_array().unwrap();
        aggregates.len() == AGGREGATES.len() && aggregates.iter().all(|one| one["pending_buckets"] == 0)
    };
    while database.count(PENDING) > 0 || !none_waits(&daemon.status()) {
        let status = || format!("{:#}", daemon.status()["aggregates"]);
        assert!(began.elapsed() < REFRESH_LIMIT, "{} buckets wait: {}", database.count(PENDING), status());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What the API answers. Documents as they are written, so that no number is bent on its way.
#[derive(serde::Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    documents: Vec<&'a RawValue>,
    next: Option<String>,
}

/// A busy machine's cache may take longer than the API waits; it says so, and is asked again.
fn ask(daemon: &Daemon, path: &str) -> String {
    let began = Instant::now();
    loop {
        match daemon.get(path).unwrap() {
            (200, body) => return body,
            (503, body) if body.contains("no answer in time") && began.elapsed() < PATIENCE => {}
            answer => panic!("{path}: {answer:?}\n{:#?}", daemon.log()),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// All documents as the daemon's HTTP API tells them, a line each.
fn told(daemon: &Daemon, folder: &Path) -> PathBuf {
    let path = folder.join("told.jsonl");
    let mut out = BufWriter::new(std::fs::File::create(&path).unwrap());
    for aggregate in AGGREGATES {
        let mut cursor = String::new();
        loop {
            let body = ask(daemon, &format!("/api/v1/aggregates/{aggregate}?limit=5000{cursor}"));
            let page: Page = serde_json::from_str(&body).unwrap();
            for document in page.documents {
                writeln!(out, "{document}").unwrap();
            }
            match page.next {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
    }
    out.flush().unwrap();
    path
}

/// All documents as they are stored, read by the driver alone.
fn stored(cache: &Space, folder: &Path) -> PathBuf {
    let path = folder.join("stored.jsonl");
    let mut out = BufWriter::new(std::fs::File::create(&path).unwrap());
    block_on(async {
        let database = cache.database().await;
        for aggregate in AGGREGATES {
            let mut found = database.collection::<bson::Document>(aggregate).find(doc! {}).await.unwrap();
            while let Some(document) = found.next().await {
                let document = document.unwrap();
                let part = |name: &str| plain(document.get(name).unwrap());
                assert_eq!(part("aggregate"), aggregate);
                let start = part("bucket_start");
                let id = [aggregate, start.as_str().unwrap()].join("|");
                assert!(document.get_str("_id").unwrap().starts_with(&id), "{document}");
                assert!(document.get_i64("version").unwrap() > 0, "{document}");
                let told = json!({"aggregate": aggregate, "key": part("key"), "values": part("values"),
                    "bucket_start": start, "bucket_end": part("bucket_end")});
                writeln!(out, "{told}").unwrap();
            }
        }
    });
    out.flush().unwrap();
    path
}

fn plain(value: &Bson) -> Value {
    match value {
        Bson::Null => Value::Null,
        Bson::Int32(n) => json!(n),
        Bson::Int64(n) => json!(n),
        Bson::Double(n) => json!(n),
        Bson::String(text) => json!(text),
        Bson::DateTime(date) => json!(date.try_to_rfc3339_string().unwrap()),
        Bson::Document(fields) => fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        other => panic!("{other:?} in a document"),
    }
}

/// The same documents as the independent script computes of the CSV files: none missing, none too many, each number to
/// the last bit. Of the first `rows` records of each file, or all.
fn assert_documents(found: &Path, rows: Option<i64>) {
    let mut script = Command::new("python3");
    script.arg(repository().join("tests/rowset/documents.py")).arg("--compare").arg(found);
    if let Some(rows) = rows {
        script.args(["--rows", &rows.to_string()]);
    }
    let output = script.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{}: {said}", found.display());
}

/// A repeatable sequence of moments.
struct Dice(u64);

impl Dice {
    fn below(&mut self, milliseconds: u64) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis((self.0 >> 33) % milliseconds)
    }
}

/// The cache behind a proxy that can take it away, on a runtime of its own.
struct Cuttable {
    runtime: tokio::runtime::Runtime,
    proxy: Proxy,
    url: String,
}

impl Cuttable {
    fn before(cache: &Space) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut url = cache.url();
        let upstream = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
        let proxy = runtime.block_on(Proxy::start(&upstream, false)).unwrap();
        url.set_port(Some(proxy.address().port())).unwrap();
        Self { runtime, proxy, url: url.into() }
    }

    /// From now on connections break and none is had, or nothing passes any more.
    fn take_away(&self, silently: bool) {
        let _entered = self.runtime.enter();
        self.proxy.traffic(Traffic { hangs: silently, refuses: !silently, ..Traffic::default() });
        if !silently {
            self.proxy.cut_all();
        }
    }

    fn give_back(&self, silently: bool) {
        let _entered = self.runtime.enter();
        self.proxy.traffic(Traffic::default());
        if silently {
            self.proxy.cut_all();
        }
    }
}

/// `bief replay`, ended with the value.
struct Load(Child);

impl Load {
    fn finish(mut self) {
        assert!(self.0.wait().unwrap().success(), "the records were not sent");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn killed_and_cut_off(servers: &Servers) {
    // Each kill is met by work as long as records come; so the longer the test, the slower they do.
    let (kills, rate, rows) = if long() { (100, 900, None) } else { (6, 3_000, sample()) };
    let all = records(rows);
    let (database, cache) = (Database::create(&servers.mysql), Space::create(ferretdb(servers)));
    let (folder, cuttable) = (tempfile::tempdir().unwrap(), Cuttable::before(&cache));
    let mut topics = Topics { flights: unique("flights"), weather: unique("weather"), group: unique("group") };
    let config =
        |topics: &Topics| example_config(folder.path(), &servers.kafka, &database.url(), &cuttable.url, topics);
    let load = replay(&config(&topics), rows, Some(rate));
    let offsets = || database.count("SELECT COALESCE(SUM(next_offset), 0) FROM bief_offset");
    let replaced = |daemon: &Daemon| {
        let (_, text) = daemon.get("/metrics").unwrap_or_default();
        let of = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
        text.lines()
            .filter(|line| line.starts_with("bief_aggregate_buckets_refreshed_total"))
            .filter_map(of)
            .sum::<f64>()
    };
    let mut dice = Dice(0xb1ef);
    let (mut in_the_load, mut after_documents) = (0, 0);
    for kill in 0..kills {
        // A group of its own: nobody waits for the session of the one that was killed.
        topics.group = unique("group");
        let daemon = Daemon::start(&config(&topics));
        daemon.wait("holding its partitions", |status| partitions(status).len() >= 8);
        let (before, began) = (offsets(), Instant::now());
        while offsets() == before && before < all {
            assert!(began.elapsed() < PATIENCE, "kill {kill}: nothing is written: {:#?}", daemon.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(dice.below(700));
        // An outage; the daemon is killed in it or after it, the next one starts in it or after it.
        let silently = kill % 2 == 1;
        cuttable.take_away(silently);
        std::thread::sleep(dice.below(500));
        if kill % 3 > 0 {
            cuttable.give_back(silently);
            std::thread::sleep(dice.below(700));
        }
        after_documents += u32::from(replaced(&daemon) > 0.0);
        in_the_load += u32::from(offsets() < all || database.count(PENDING) > 0);
        daemon.kill();
        cuttable.give_back(silently);
    }
    load.finish();
    topics.group = unique("group");
    let config = config(&topics);
    let daemon = Daemon::start(&config);
    let began = Instant::now();
    while offsets() < all {
        assert!(began.elapsed() < REFRESH_LIMIT, "{} records: {:#?}", offsets(), daemon.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    wait_refreshed(&daemon, &database);
    println!(
        "{kills} kills and outages, {in_the_load} during the load, {after_documents} after documents were replaced"
    );
    assert!(
        in_the_load * 10 >= kills * 9 && after_documents * 2 >= kills,
        "{in_the_load}, {after_documents} of {kills}"
    );
    assert_documents(&told(&daemon, folder.path()), rows);
    assert_documents(&stored(&cache, folder.path()), rows);

    // No record comes any more, and no bucket is dirty.
    let ready = || daemon.get("/readyz").map(|(code, _)| code);
    cuttable.take_away(false);
    daemon.wait("told as away", |_| ready() == Some(503));
    cuttable.give_back(false);
    daemon.wait("told as back", |_| ready() == Some(200));
    let stored_buckets = || {
        block_on(async {
            let database = cache.database().await;
            database.collection::<bson::Document>("bief_bucket").count_documents(doc! {}).await.unwrap()
        })
    };
    let (all_buckets, dropped) = (stored_buckets(), Instant::now());
    block_on(async { cache.database().await.drop().await }).unwrap();
    // That nothing is dirty tells nothing before the daemon has noticed.
    while stored_buckets() < all_buckets {
        assert!(dropped.elapsed() < REFRESH_LIMIT, "{} of {all_buckets} are there again", stored_buckets());
        std::thread::sleep(Duration::from_millis(100));
    }
    wait_refreshed(&daemon, &database);
    assert_documents(&stored(&cache, folder.path()), rows);
    daemon.stop();
    assert_clean(&config);
}

/// The first daemon holds its claims for good, and is killed.
fn one_lease_two_daemons(servers: &Servers) {
    let (database, cache) = (Database::create(&servers.mysql), Space::create(ferretdb(servers)));
    let folder = tempfile::tempdir().unwrap();
    let mut parts = Parts::new(servers, 4);
    let config = parts.config(folder.path(), &database.url(), &parts.topic.clone(), 100);
    replace_in(&config, &[("sqlite://cache.db", cache.url().as_str())]);
    parts.send(400);
    let holder = Daemon::start_with(&config, &[("FAILPOINTS", "before-clean=1*return(hang)->off")]);
    let told = |daemon: &Daemon, what: &str| daemon.log().iter().any(|line| line.contains(what));
    holder.wait("holding its claims", |_| told(&holder, "\"failpoint\":\"before-clean\""));
    let owners = "SELECT COUNT(DISTINCT owner) FROM bief_bucket_claim";
    assert_eq!(database.count(owners), 1);

    // What the first has not claimed is the other's.
    let other = Daemon::start(&config);
    other.wait("taking part", |status| !partitions(status).is_empty());
    parts.send(600);
    let written = "SELECT CAST(COALESCE(SUM(next_offset), 0) AS SIGNED) FROM bief_offset";
    let unclaimed = "SELECT COUNT(*) FROM bief_dirty_bucket d LEFT JOIN bief_bucket_claim c \
                     ON c.source = d.source AND c.bucket_start = d.bucket_start \
                     WHERE d.pending_since IS NOT NULL AND c.owner IS NULL";
    let wait = |what: &str, met: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !met() {
            assert!(began.elapsed() < PATIENCE, "not {what}: {:#}", other.status()["aggregates"]);
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait("written", &|| database.count(written) >= parts.total());
    wait("left with what is claimed", &|| database.count(unclaimed) == 0 && database.count(owners) <= 1);
    assert!(database.count(PENDING) > 0, "what the first holds waits");
    holder.kill();
    wait("refreshed", &|| database.count(PENDING) == 0);
    other.wait("knowing it", |status| status["aggregates"][0]["pending_buckets"] == 0);

    let sums = "SELECT id DIV 60, COUNT(*), CAST(SUM(version) AS SIGNED) FROM part_log GROUP BY 1 ORDER BY 1";
    let due: Vec<(i64, i64, i64)> = database.rows(sums).into_iter().map(mysql_async::from_row).collect();
    let (_, body) = other.get("/api/v1/aggregates/parts_made?limit=5000").unwrap();
    let page: Value = serde_json::from_str(&body).unwrap();
    let minute = |document: &Value| {
        let start: chrono::DateTime<chrono::Utc> = document["bucket_start"].as_str().unwrap().parse().unwrap();
        start.timestamp() / 60
    };
    let value = |document: &Value, name: &str| document["values"][name].as_i64().unwrap();
    let documents = page["documents"].as_array().unwrap().iter();
    let found: Vec<_> = documents.map(|one| (minute(one), value(one, "parts"), value(one, "versions"))).collect();
    assert!(due.len() > 10, "{due:?}");
    assert_eq!(found, due);
    other.stop();
    parts.assert_rows(&database, "a killed holder of claims");
}
