//! Topics whose offsets have holes: transactions and compaction; and batches that are damaged on the broker's disk.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::Producer;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::items::{self, flush, good, producer, send};
use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("a_transactional_topic_is_read_to_its_end_and_proved", transactional_topic),
        ("a_compacted_topic_is_read_to_its_end_and_proved", compacted_topic),
    ]
}

/// Those that find the broker's files beside its certificate.
pub fn tests_of_files() -> Vec<(&'static str, super::Test)> {
    vec![
        ("a_batch_that_fails_its_checksum_is_waited_for", |servers| damaged_batch(servers, "none", 20, "", "CRC32C")),
        ("a_batch_that_cannot_be_unpacked_is_waited_for", |servers| {
            damaged_batch(servers, "zstd", 0, "[kafka.properties]\n\"check.crcs\" = \"false\"\n", "Decompression")
        }),
    ]
}

/// Three batches, a byte among the records of the second turned over: nothing of it, and nothing behind it, is taken
/// before it is whole again.
fn damaged_batch(servers: &Servers, compression: &str, byte: u64, properties: &str, told: &str) {
    let (topic, folder) = (unique("damaged"), tempfile::tempdir().unwrap());
    create_topic(&servers.kafka, &topic, 1, &[]);
    let producer = producer(&servers.kafka, &[("compression.type", compression)]);
    for batch in [0..10, 10..20, 20..30] {
        batch.for_each(|id| send(&producer, &topic, &id.to_string(), Some(&good(id))));
        flush(&producer);
    }
    let log = log_of(servers, &topic);
    turn_over(&log, 10, byte);
    let database = Database::create(&servers.mysql);
    let config = items::config(folder.path(), &servers.kafka, &database.url(), &topic);
    replace_in(&config, &[("[warehouse]", &format!("{properties}\n[warehouse]"))]);
    let daemon = Daemon::start(&config);
    let restarts = || daemon.status()["units"][0]["restarts"].as_i64();
    for round in 0..5 {
        daemon.wait_not_ready(&["partition 0", told, "bief offsets reset"]);
        let (since, began) = (restarts(), Instant::now());
        while restarts() == since {
            // What fails again and again is not ready while it tries.
            assert!(round < 3 || daemon.get("/readyz").is_none_or(|(status, _)| status == 503));
            assert!(began.elapsed() < PATIENCE, "it is not built again");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 10"), 0);
        assert_eq!(database.count("SELECT COUNT(*) FROM bief_offset WHERE next_offset > 10"), 0);
    }
    // What lies before it is in.
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 0"), 10);
    turn_over(&log, 10, byte);
    daemon.wait_caught_up(30);
    daemon.stop();
    assert_clean(&config);
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 0 AND amount = id"), 30);
}

/// The file of the first partition's records.
fn log_of(servers: &Servers, topic: &str) -> PathBuf {
    let certificate = &servers.secure.as_ref().expect("asked for by the list that this test is in").ca;
    Path::new(certificate).with_file_name("log").join(format!("{topic}-0/{:020}.log", 0))
}

/// Turns a bit of the records of the batch that begins at `offset` over; the second time it is as it was. A batch is its
/// first offset (8 bytes), the length of what follows (4) and more head, 61 bytes in all, before its records.
fn turn_over(log: &Path, offset: i64, byte: u64) {
    let file = std::fs::File::options().read(true).write(true).open(log).unwrap();
    let mut at = 0;
    loop {
        let mut head = [0; 12];
        file.read_exact_at(&mut head, at).unwrap();
        let (first, length) = head.split_at(8);
        if i64::from_be_bytes(first.try_into().unwrap()) == offset {
            break;
        }
        at += 12 + u64::from(u32::from_be_bytes(length.try_into().unwrap()));
    }
    let (mut before, at) = ([0], at + 61 + byte);
    file.read_exact_at(&mut before, at).unwrap();
    file.write_all_at(&[before[0] ^ 1], at).unwrap();
}

/// Commits, aborts, and a marker behind the last record.
fn transactional_topic(servers: &Servers) {
    let (topic, folder) = (unique("transactional"), tempfile::tempdir().unwrap());
    create_topic(&servers.kafka, &topic, 1, &[]);
    let producer = producer(&servers.kafka, &[("transactional.id", &topic)]);
    producer.init_transactions(PATIENCE).unwrap();
    let mut committed = 0;
    for (transaction, commits) in [true, false, true, false, true].into_iter().enumerate() {
        producer.begin_transaction().unwrap();
        for record in 0..50 {
            let id = transaction as i64 * 50 + record;
            send(&producer, &topic, &id.to_string(), Some(&good(id)));
        }
        if commits {
            producer.commit_transaction(PATIENCE).unwrap();
            committed += 50;
        } else {
            flush(&producer);
            producer.abort_transaction(PATIENCE).unwrap();
        }
    }
    let database = Database::create(&servers.mysql);
    let config = items::config(folder.path(), &servers.kafka, &database.url(), &topic);
    let daemon = Daemon::start(&config);
    daemon.wait_caught_up(committed);
    let status = daemon.status();
    let partition = partitions(&status)[0];
    // 5 markers and 100 aborted records.
    assert_eq!((&partition["next_offset"], &partition["gaps"]), (&255.into(), &105.into()), "{partition}");
    daemon.stop();
    let proof = assert_clean(&config);
    assert_eq!(proof["streams"][0]["partitions"][0]["gaps"], 105);
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 0"), committed);
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id BETWEEN 50 AND 99"), 0);
}

fn compacted_topic(servers: &Servers) {
    let (topic, folder) = (unique("compacted"), tempfile::tempdir().unwrap());
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "200"),
        ("delete.retention.ms", "0"),
    ];
    create_topic(&servers.kafka, &topic, 1, &settings);
    let producer = producer(&servers.kafka, &[]);
    for round in 0..10 {
        for id in 0..20 {
            let mut record = String::from_utf8(good(id)).unwrap();
            record = record.replace(&format!("\"amount\": {}", id % 1000), &format!("\"amount\": {round}"));
            send(&producer, &topic, &id.to_string(), Some(record.as_bytes()));
        }
        flush(&producer);
        std::thread::sleep(Duration::from_millis(50));
    }
    // Records that come later close the segment before them, so that the cleaner may take it.
    let began = Instant::now();
    let mut sent = 200;
    loop {
        send(&producer, &topic, "last", Some(&good(1000)));
        flush(&producer);
        sent += 1;
        if records_in(&servers.kafka, &topic, sent) < sent {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the broker compacted nothing");
        std::thread::sleep(Duration::from_millis(300));
    }
    let database = Database::create(&servers.mysql);
    let config = items::config(folder.path(), &servers.kafka, &database.url(), &topic);
    let daemon = Daemon::start(&config);
    daemon.wait_caught_up(21);
    daemon.wait("at the end", |status| partitions(status)[0]["next_offset"].as_i64() >= Some(sent));
    daemon.stop();
    let proof = assert_clean(&config);
    let partition = &proof["streams"][0]["partitions"][0];
    assert!(partition["gaps"].as_i64() > Some(0), "{partition}");
    let ids: Vec<i64> = database
        .rows("SELECT id FROM item WHERE id >= 0 ORDER BY id")
        .into_iter()
        .map(|mut row| row.take(0).unwrap())
        .collect();
    assert_eq!(ids, (0..20).chain([1000]).collect::<Vec<i64>>());
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id BETWEEN 0 AND 19 AND amount = 9"), 20);
}

/// How many records the topic yields up to this offset.
fn records_in(kafka: &str, topic: &str, end: i64) -> i64 {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", "count")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    let mut count = 0;
    loop {
        match consumer.poll(PATIENCE).unwrap() {
            Ok(message) if rdkafka::Message::offset(&message) < end => count += 1,
            Ok(_) | Err(rdkafka::error::KafkaError::PartitionEOF(_)) => return count,
            Err(error) => panic!("{error}"),
        }
    }
}
