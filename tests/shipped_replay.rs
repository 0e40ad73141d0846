//! The replay that ships, as `actors.toml` has it: every record of the shipped files, with what was joined to it.
//! Facts about the files are those of data/README.md, counted by data/prepare.py.

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bief::adapters::kafka::producer::ReplayProducer;
use bief::adapters::replay::{Delivered, Options, Progress, RecordSink, Shift, SinkError, replay};
use bief::config::{Brokers, Kafka, Replay, load};
use bief::ports::SystemClock;
use chrono::DateTime;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::{Value, json};

const FLIGHTS: u64 = 336_776;
const OBSERVATIONS: u64 = 26_115;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped() -> Vec<Replay> {
    let loaded = load(&root().join("actors.toml"), &|_| None).unwrap();
    loaded.config.replays
}

/// Hands every record to a closure and forgets it.
struct Each<F> {
    topics: Vec<String>,
    counts: Vec<u64>,
    look: F,
}

impl<F: FnMut(&str, &[u8], &[u8])> RecordSink for Each<F> {
    fn open(&mut self, topic: &str, _partitions: i32) -> Result<usize, SinkError> {
        self.topics.push(topic.to_string());
        self.counts.push(0);
        Ok(self.topics.len() - 1)
    }

    fn send(&mut self, topic: usize, key: Option<&[u8]>, payload: &[u8]) -> Result<bool, SinkError> {
        self.counts[topic] += 1;
        (self.look)(&self.topics[topic], key.unwrap(), payload);
        Ok(true)
    }

    fn serve(&mut self, _wait: Duration) -> Result<(), SinkError> {
        Ok(())
    }

    fn pending(&self) -> usize {
        0
    }

    fn give_up(&mut self) {}

    fn delivered(&self, topic: usize) -> Delivered {
        Delivered { arrived: self.counts[topic], failed: 0 }
    }

    fn trouble(&self) -> Option<String> {
        None
    }
}

fn run(options: &Options, look: impl FnMut(&str, &[u8], &[u8])) -> BTreeMap<String, u64> {
    let mut sink = Each { topics: vec![], counts: vec![], look };
    let summary =
        replay(&shipped(), root(), options, &mut sink, &mut |_| {}, &AtomicBool::new(false), &SystemClock).unwrap();
    summary.topics
}

fn all() -> BTreeMap<String, u64> {
    BTreeMap::from([("flights".to_string(), FLIGHTS), ("weather".to_string(), OBSERVATIONS)])
}

#[test]
fn every_shipped_row_becomes_one_record_with_what_is_known_of_its_parents() {
    let mut keys: HashMap<String, HashSet<Vec<u8>>> = HashMap::new();
    let mut lacking: BTreeMap<&str, u64> = BTreeMap::new();
    let mut first = BTreeMap::new();
    let counts = run(&Options::default(), |topic, key, payload| {
        assert!(keys.entry(topic.to_string()).or_default().insert(key.to_vec()), "two records share a key");
        let record: serde_json::Map<String, Value> = serde_json::from_slice(payload).unwrap();
        if topic == "flights" {
            for (what, holds) in [
                ("a tail number", !record["tailnum"].is_null()),
                ("an aircraft", record["tailnum"].is_null() || record.contains_key("aircraft_manufacturer")),
                ("a destination", record.contains_key("dest_name")),
                ("an origin", record.contains_key("origin_name")),
                ("a carrier", record.contains_key("carrier_name")),
                ("a departure", !record["actual_departure"].is_null()),
            ] {
                *lacking.entry(what).or_default() += u64::from(!holds);
            }
        }
        first.entry(topic.to_string()).or_insert_with(|| (String::from_utf8(key.to_vec()).unwrap(), record));
    });
    assert_eq!(counts, all());
    let wanted = [("a carrier", 0), ("a departure", 8_255), ("a destination", 7_602), ("a tail number", 2_512)];
    let wanted = BTreeMap::from_iter(wanted.into_iter().chain([("an aircraft", 50_094), ("an origin", 0)]));
    assert_eq!(lacking, wanted);
    let (key, record) = &first["flights"];
    assert_eq!(key, "2013-01-01T10:15:00Z|UA|1545|EWR");
    assert_eq!(
        Value::Object(record.clone()),
        json!({
            "scheduled_departure": "2013-01-01T10:15:00Z", "carrier": "UA", "flight": 1545, "origin": "EWR",
            "dest": "IAH", "tailnum": "N14228", "actual_departure": "2013-01-01T10:17:00Z", "dep_delay": 2,
            "sched_arr_time": 819, "arr_time": 830, "arr_delay": 11, "air_time": 227, "distance": 1400,
            "carrier_name": "United Air Lines Inc.",
            "origin_name": "Newark Liberty Intl", "origin_lat": 40.6925, "origin_lon": -74.168667, "origin_alt": 18,
            "origin_tzone": "America/New_York",
            "dest_name": "George Bush Intercontinental", "dest_lat": 29.984433, "dest_lon": -95.341442,
            "dest_alt": 97, "dest_tzone": "America/Chicago",
            "aircraft_year": 1999, "aircraft_type": "Fixed wing multi engine", "aircraft_manufacturer": "BOEING",
            "aircraft_model": "737-824", "aircraft_engines": 2, "aircraft_seats": 149, "aircraft_speed": null,
            "aircraft_engine": "Turbo-fan",
        })
    );
    assert_eq!(first["weather"].0, "EWR|2013-01-01T06:00:00Z");
}

#[test]
fn both_topics_come_in_one_order_of_time_and_move_by_the_same_weeks() {
    let now = DateTime::parse_from_rfc3339("2026-11-24T11:00:00Z").unwrap().to_utc();
    let mut last = [String::new(), String::new()];
    let mut times = Vec::new();
    let options = Options { shift: Shift::WeeksToNow { now }, ..Options::default() };
    run(&options, |topic, key, _| {
        let key = std::str::from_utf8(key).unwrap();
        let (at, time) = match topic {
            "flights" => (0, key.split('|').next().unwrap()),
            _ => (1, key.split('|').nth(1).unwrap()),
        };
        last[at] = time.to_string();
        times.push(last[at].clone());
    });
    assert!(times.is_sorted(), "records are not in the order of their event times");
    // 672 weeks after 2014-01-01T04:59:00Z and 2013-12-30T23:00:00Z.
    assert_eq!(last, ["2026-11-18T04:59:00Z", "2026-11-16T23:00:00Z"]);
}

/// Sends the shipped replays and asks the broker how many records each topic has.
fn send(bootstrap: &str, replays: &[Replay], options: &Options, wanted: &BTreeMap<String, u64>) {
    let servers = Brokers::Servers(bootstrap.to_string());
    let kafka = Kafka { brokers: servers, group: "g".into(), properties: BTreeMap::new() };
    let mut sink = ReplayProducer::new(&kafka, bootstrap).unwrap();
    let started = Instant::now();
    let mut seen = 0;
    let mut progress = |progress: &Progress| {
        assert!(progress.delivered <= progress.sent && progress.sent <= progress.total);
        assert!(progress.delivered >= seen, "the count of delivered records fell");
        seen = progress.delivered;
    };
    let summary =
        replay(replays, root(), options, &mut sink, &mut progress, &AtomicBool::new(false), &SystemClock).unwrap();
    println!("{seen} records in {:.2} s", started.elapsed().as_secs_f64());
    assert_eq!(&summary.topics, wanted);
    assert_eq!(seen, wanted.values().sum::<u64>());

    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", "none").create().unwrap();
    for (topic, count) in wanted {
        let ends =
            (0..4).map(|partition| consumer.fetch_watermarks(topic, partition, Duration::from_secs(10)).unwrap());
        let ends: Vec<_> = ends.collect();
        assert!(ends.iter().all(|(low, high)| *low == 0 && *high > 0), "{topic}: {ends:?}");
        assert_eq!(ends.iter().map(|(_, high)| *high as u64).sum::<u64>(), *count);
    }
}

#[cfg(feature = "embedded")]
#[test]
fn the_embedded_broker_takes_the_first_records_of_each_file() {
    let broker = bief::adapters::embedded::EmbeddedBroker::start("127.0.0.1:0".parse().unwrap(), &[]).unwrap();
    let wanted = BTreeMap::from([("flights".to_string(), 30_000), ("weather".to_string(), OBSERVATIONS)]);
    let options = Options { rows: Some(30_000), ..Options::default() };
    send(&broker.address().to_string(), &shipped(), &options, &wanted);
}
