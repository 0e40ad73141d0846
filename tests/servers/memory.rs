//! The memory ceiling: a database that takes nothing while a larger backlog waits in Kafka. The daemon stays below
//! `memory` and 64 MiB, keeps its partitions, sets nothing aside, and catches up by itself.
//!
//! With BIEF_TEST_LONG set the backlog is 1 GiB and the database is held for ten minutes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::Producer;
use sha2::{Digest, Sha256};

use super::items::{self, flush, good, producer, send};
use super::support::*;

/// What a daemon may have resident beyond its `memory`: the program, its connections, the allocator's waste.
const BEYOND: u64 = 64 << 20;
const PARTITIONS: i32 = 4;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("a_backlog_larger_than_the_memory_waits_for_the_database_below_the_ceiling", large_records),
        ("small_records_stay_below_the_ceiling_too", small_records),
        ("a_rebalance_while_the_database_is_held_leaves_the_daemon_able_to_go_on", rebalance_while_held),
        ("a_record_larger_than_the_memory_is_a_dead_letter_and_no_stall", larger_than_the_memory),
    ]
}

fn is_long() -> bool {
    std::env::var_os("BIEF_TEST_LONG").is_some()
}

fn large_records(servers: &Servers) {
    // An item with 2 KiB that no mapping reads.
    let records = if is_long() { 520_000 } else { 90_000 };
    let held = Duration::from_secs(if is_long() { 600 } else { 15 });
    below_the_ceiling(servers, 64, records, 2048, held);
}

fn small_records(servers: &Servers) {
    let records = if is_long() { 3_000_000 } else { 300_000 };
    below_the_ceiling(servers, 64, records, 0, Duration::from_secs(10));
}

/// Words without much order: zstd makes them four to five times smaller.
fn filler(length: usize, seed: u64) -> String {
    const WORDS: [&str; 16] = [
        "lock", "gate", "weir", "basin", "towpath", "barge", "keel", "sluice", "reach", "summit", "pound", "level",
        "culvert", "aqueduct", "winding", "mooring",
    ];
    let mut text = String::with_capacity(length + 16);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while text.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(WORDS[(state >> 60) as usize]);
        text.push(' ');
    }
    text
}

fn item(id: i64, filler_bytes: usize) -> Vec<u8> {
    let note = match filler_bytes {
        0 => String::new(),
        _ => format!(r#", "note": "{}""#, filler(filler_bytes, id as u64)),
    };
    format!(r#"{{"id": {id}, "name": "n{id}", "amount": {}, "parent": "aaa"{note}}}"#, id % 1000).into_bytes()
}

/// Half of the records plain, half by zstd.
fn send_backlog(servers: &Servers, topic: &str, records: i64, filler_bytes: usize) {
    for (codec, ids) in [("none", 0..records / 2), ("zstd", records / 2..records)] {
        let producer = producer(&servers.kafka, &[("compression.type", codec), ("linger.ms", "50")]);
        ids.for_each(|id| send(&producer, topic, &id.to_string(), Some(&item(id, filler_bytes))));
        flush(&producer);
    }
}

fn config(folder: &Path, servers: &Servers, database: &Database, topic: &str, memory: u64) -> PathBuf {
    let config = items::config(folder, &servers.kafka, &database.url(), topic);
    replace_in(&config, &[("[daemon]", &format!("[daemon]\nmemory = \"{memory}MiB\""))]);
    config
}

fn below_the_ceiling(servers: &Servers, memory: u64, records: i64, filler_bytes: usize, held: Duration) {
    let (database, folder, topic) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap(), unique("backlog"));
    create_topic(&servers.kafka, &topic, PARTITIONS, &[]);
    let config = config(folder.path(), servers, &database, &topic, memory);
    // The tables are made by a first daemon; the second meets the whole backlog at once.
    let first = Daemon::start(&config);
    first.wait("claimed", |status| partitions(status).len() == PARTITIONS as usize);
    let at_rest = first.most_resident();
    first.stop();
    send_backlog(servers, &topic, records, filler_bytes);

    let (daemon, lock, used) = block_on(async {
        let mut lock = mysql_async::Conn::from_url(database.url()).await.unwrap();
        lock.query_drop("LOCK TABLES item WRITE, parent WRITE").await.unwrap();
        let daemon = Daemon::start(&config);
        wait_filled(&daemon, &topic, held, 0.0);
        let used = ["bief_memory_used_bytes", "bief_memory_budget_bytes"].map(|name| daemon.metric(name).unwrap());
        // A connection lives on the runtime that opened it.
        lock.query_drop("UNLOCK TABLES").await.unwrap();
        (daemon, lock, used)
    });
    let while_held = daemon.most_resident();
    drop(lock);
    // At the least each lane's filling batch is full: by its memory, which is a third of the lane's and more, or, of small
    // records, by their number.
    let least = if filler_bytes > 0 { 0.4 } else { 0.2 };
    assert!(used[0] > used[1] * least && used[0] < used[1] * 1.1, "used and budget: {used:?}");

    wait_for_all(&daemon, records);
    let most = daemon.most_resident();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "memory {memory} MiB, {records} records of {} bytes: resident at rest {:.1} MiB, at most {:.1} while held, {:.1} in all",
        item(1, filler_bytes).len(),
        mib(at_rest),
        mib(while_held),
        mib(most)
    );
    assert!(most <= (memory << 20) + BEYOND, "{:.1} MiB were resident with memory = {memory} MiB", mib(most));
    let log = daemon.log();
    let told = |what: &str| log.iter().filter(|line| line.contains(what)).count();
    assert_eq!((told("partition taken over"), told("partitions given back")), (PARTITIONS as usize, 0), "{log:#?}");
    assert_eq!(database.count("SELECT COUNT(*) FROM bief_dead_letter"), 0);
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 0"), records);
    assert_eq!(daemon.metric("bief_memory_used_bytes"), Some(0.0), "all of the budget is given back");
    daemon.stop();
    assert_clean(&config);
}

/// Another member of the group takes partitions whose batches cannot be written, and goes again: the pipeline is built
/// anew while the database is still held, takes its partitions over, and fills its memory once more.
fn rebalance_while_held(servers: &Servers) {
    const RECORDS: i64 = 60_000;
    let (database, folder, topic) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap(), unique("held"));
    create_topic(&servers.kafka, &topic, PARTITIONS, &[]);
    let config = config(folder.path(), servers, &database, &topic, 32);
    let first = Daemon::start(&config);
    first.wait("claimed", |status| partitions(status).len() == PARTITIONS as usize);
    first.stop();
    send_backlog(servers, &topic, RECORDS, 2048);
    let daemon = block_on(async {
        let mut lock = mysql_async::Conn::from_url(database.url()).await.unwrap();
        lock.query_drop("LOCK TABLES item WRITE, parent WRITE").await.unwrap();
        let daemon = Daemon::start(&config);
        let shortly = Duration::from_secs(2);
        wait_filled(&daemon, &topic, shortly, 0.0);
        for _ in 0..2 {
            let before = polled(&daemon, &topic);
            let other: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", &servers.kafka)
                .set("group.id", format!("{topic}-{topic}"))
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("enable.auto.commit", "false")
                .create()
                .unwrap();
            other.subscribe(&[&topic]).unwrap();
            let began = Instant::now();
            while other.assignment().unwrap().count() == 0 {
                other.poll(Duration::from_millis(100));
                assert!(began.elapsed() < PATIENCE, "it was given nothing: {:#?}", daemon.log());
            }
            drop(other);
            wait_filled(&daemon, &topic, shortly, before);
        }
        lock.query_drop("UNLOCK TABLES").await.unwrap();
        daemon
    });
    wait_for_all(&daemon, RECORDS);
    assert_eq!(database.count("SELECT COUNT(*) FROM bief_dead_letter"), 0);
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 0"), RECORDS);
    daemon.stop();
    assert_clean(&config);
}

fn polled(daemon: &Daemon, topic: &str) -> f64 {
    daemon.metric(&format!("bief_records_consumed_total{{stream=\"{topic}\"}}")).unwrap_or(0.0)
}

/// All partitions are its own, it has polled more records than those, and for so long no more of those that wait.
fn wait_filled(daemon: &Daemon, topic: &str, held: Duration, those: f64) {
    daemon.wait("all partitions claimed", |status| partitions(status).len() == PARTITIONS as usize);
    let (began, mut before, mut since) = (Instant::now(), those, Instant::now());
    while since.elapsed() < held {
        let now = polled(daemon, topic);
        if now > before || now <= those {
            (before, since) = (now, Instant::now());
        }
        assert!(began.elapsed() < held + PATIENCE, "{:#}\n{:#?}", daemon.status(), daemon.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// As long as it goes on it may take its time.
fn wait_for_all(daemon: &Daemon, records: i64) {
    let (mut before, mut since) = (-1.0, Instant::now());
    loop {
        let status = daemon.status();
        let applied: f64 = partitions(&status).iter().filter_map(|p| p["applied"].as_f64()).sum();
        if applied as i64 >= records && partitions(&status).iter().all(|p| p["caught_up"] == true) {
            return;
        }
        assert!(partitions(&status).iter().all(|p| p["dead_letters"] == 0), "{status:#}");
        if applied > before {
            (before, since) = (applied, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "stalled: {status:#}\n{:#?}", daemon.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn larger_than_the_memory(servers: &Servers) {
    let (database, folder, topic) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap(), unique("large"));
    create_topic(&servers.kafka, &topic, 1, &[("max.message.bytes", "60000000")]);
    let config = config(folder.path(), servers, &database, &topic, 32);
    let producer = producer(&servers.kafka, &[("message.max.bytes", "60000000")]);
    let mut large = good(1);
    large.resize(40 << 20, b' ');
    send(&producer, &topic, "0", Some(&good(0)));
    flush(&producer);
    // The broker refuses it until it has heard of the new topic's limit.
    let end = || producer.client().fetch_watermarks(&topic, 0, Duration::from_secs(30)).unwrap().1;
    let began = Instant::now();
    while end() < 2 {
        assert!(began.elapsed() < PATIENCE, "the broker takes no record of {} bytes", large.len());
        send(&producer, &topic, "1", Some(&large));
        flush(&producer);
    }
    send(&producer, &topic, "2", Some(&good(2)));
    flush(&producer);
    let daemon = Daemon::start(&config);
    daemon.wait_caught_up(3);
    daemon.stop();
    assert_clean(&config);
    let mut letters = database.rows("SELECT reason, payload IS NULL, message FROM bief_dead_letter");
    assert_eq!(letters.len(), 1);
    let (reason, without_payload, message): (String, bool, String) = mysql_async::from_row(letters.remove(0));
    assert_eq!((reason.as_str(), without_payload), ("record_too_large", true));
    let hash: String = Sha256::digest(&large).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(message.contains(&large.len().to_string()) && message.contains(&hash), "{message}");
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 0"), 2);
}
