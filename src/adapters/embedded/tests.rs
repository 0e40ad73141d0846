//! The broker as clients see it: librdkafka over a real socket.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::*;

const LIMIT: Duration = Duration::from_secs(30);

/// The timestamp of record 0.
const FIRST_TIME: i64 = 1_000_000;

fn broker_with(memory: u64) -> EmbeddedBroker {
    let topics = [("events".to_owned(), 4), ("single".to_owned(), 1)];
    EmbeddedBroker::start_with_memory("127.0.0.1:0".parse().unwrap(), &topics, memory).unwrap()
}

fn broker() -> EmbeddedBroker {
    broker_with(DEFAULT_MEMORY)
}

fn client(broker: &EmbeddedBroker, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.address().to_string());
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config
}

fn producer(broker: &EmbeddedBroker, settings: &[(&str, &str)]) -> BaseProducer {
    client(broker, settings).create().unwrap()
}

fn consumer(broker: &EmbeddedBroker, settings: &[(&str, &str)]) -> BaseConsumer {
    let mut config = client(broker, &[("group.id", "readers"), ("enable.auto.commit", "false")]);
    config.set("auto.offset.reset", "error").set("session.timeout.ms", "2000").set("heartbeat.interval.ms", "100");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create().unwrap()
}

/// Sends numbered records round the partitions.
fn send(producer: &BaseProducer, topic: &str, partitions: i32, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let payload = format!("{{\"number\":{number},\"padding\":\"{}\"}}", "x".repeat(200));
        let key = number.to_string();
        let mut record = BaseRecord::to(topic)
            .payload(&payload)
            .key(&key)
            .partition(number as i32 % partitions)
            .timestamp(FIRST_TIME + i64::from(number));
        while let Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) = producer.send(record) {
            record = again;
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(LIMIT).unwrap();
}

fn from_beginning(topic: &str, partitions: i32) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    list
}

/// Polls until `count` records have come: partition to (offset, key) in the order they came.
fn read(consumer: &BaseConsumer, count: usize) -> BTreeMap<i32, Vec<(i64, String)>> {
    let started = Instant::now();
    let mut records: BTreeMap<i32, Vec<(i64, String)>> = BTreeMap::new();
    let mut seen = 0;
    while seen < count {
        assert!(started.elapsed() < LIMIT, "only {seen} of {count} records came");
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.unwrap();
            let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
            records.entry(message.partition()).or_default().push((message.offset(), key));
            seen += 1;
        }
    }
    records
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < LIMIT, "it never happened that {what}");
    }
}

fn owned_partitions(consumer: &BaseConsumer) -> BTreeSet<i32> {
    consumer.assignment().unwrap().elements().iter().map(|element| element.partition()).collect()
}

#[test]
fn every_record_comes_back_once_and_in_order_whatever_the_compression() {
    for compression in ["none", "lz4", "zstd", "gzip"] {
        let broker = broker();
        send(&producer(&broker, &[("compression.type", compression), ("linger.ms", "5")]), "events", 4, 0..10_000);
        let consumer = consumer(&broker, &[("check.crcs", "true")]);
        consumer.assign(&from_beginning("events", 4)).unwrap();
        let records = read(&consumer, 10_000);
        for partition in 0..4 {
            let expected: Vec<(i64, String)> =
                (0..2_500).map(|at| (at, (at * 4 + i64::from(partition)).to_string())).collect();
            assert_eq!(records[&partition], expected, "{compression}");
        }
    }
}

#[test]
fn watermarks_and_times_are_found() {
    let broker = broker();
    let consumer = consumer(&broker, &[]);
    assert_eq!(consumer.fetch_watermarks("single", 0, LIMIT).unwrap(), (0, 0));
    let producer = producer(&broker, &[]);
    send(&producer, "single", 1, 0..10);
    send(&producer, "single", 1, 10..20);
    assert_eq!(consumer.fetch_watermarks("single", 0, LIMIT).unwrap(), (0, 20));
    let mut times = TopicPartitionList::new();
    times.add_partition_offset("single", 0, Offset::Offset(FIRST_TIME + 15)).unwrap();
    let found = consumer.offsets_for_times(times, LIMIT).unwrap();
    let Offset::Offset(offset) = found.elements()[0].offset() else { panic!("no offset was found: {found:?}") };
    assert!((10..=15).contains(&offset), "the batch that holds the record begins there: {offset}");
}

#[test]
fn two_consumers_share_a_topic_and_one_takes_over_when_the_other_leaves() {
    for assignor in ["range", "cooperative-sticky"] {
        let broker = broker();
        let settings = [("partition.assignment.strategy", assignor)];
        let (first, second) = (consumer(&broker, &settings), consumer(&broker, &settings));
        first.subscribe(&["events"]).unwrap();
        wait_until("the first has all", || {
            first.poll(Duration::from_millis(10));
            owned_partitions(&first).len() == 4
        });
        second.subscribe(&["events"]).unwrap();
        wait_until("they share", || {
            first.poll(Duration::from_millis(10));
            second.poll(Duration::from_millis(10));
            let (left, right) = (owned_partitions(&first), owned_partitions(&second));
            left.len() == 2 && right.len() == 2 && left.is_disjoint(&right)
        });
        drop(second);
        wait_until("the first has all again", || {
            first.poll(Duration::from_millis(10));
            owned_partitions(&first).len() == 4
        });
    }
}

#[test]
fn committed_offsets_come_back() {
    let broker = broker();
    send(&producer(&broker, &[]), "single", 1, 0..10);
    let reader = consumer(&broker, &[]);
    reader.subscribe(&["single"]).unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("single", 0, Offset::Offset(7)).unwrap();
    wait_until("the commit is taken", || {
        reader.poll(Duration::from_millis(10));
        reader.commit(&list, CommitMode::Sync).is_ok()
    });
    drop(reader);
    let next = consumer(&broker, &[]);
    let committed = |reader: &BaseConsumer, topic: &str| {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, 0);
        reader.committed_offsets(asked, LIMIT).unwrap().elements()[0].offset()
    };
    assert_eq!(committed(&next, "single"), Offset::Offset(7));
    assert_eq!(committed(&next, "events"), Offset::Invalid);
    next.subscribe(&["single"]).unwrap();
    assert_eq!(read(&next, 3)[&0].iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [7, 8, 9]);
    let other = consumer(&broker, &[("group.id", "others")]);
    assert_eq!(committed(&other, "single"), Offset::Invalid);
}

#[test]
fn reading_outside_the_log_is_an_error() {
    let broker = broker();
    send(&producer(&broker, &[]), "single", 1, 0..10);
    let consumer = consumer(&broker, &[]);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("single", 0, Offset::Offset(11)).unwrap();
    consumer.assign(&list).unwrap();
    let started = Instant::now();
    let error = loop {
        assert!(started.elapsed() < LIMIT, "no error came");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Err(error)) => break error,
            Some(Ok(message)) => panic!("offset {} came", message.offset()),
            None => {}
        }
    };
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::AutoOffsetReset), "{error}");
}

#[test]
fn an_idempotent_producer_is_served() {
    let broker = broker();
    let producer =
        producer(&broker, &[("enable.idempotence", "true"), ("linger.ms", "0"), ("batch.num.messages", "7")]);
    send(&producer, "events", 4, 0..1_000);
    let consumer = consumer(&broker, &[]);
    for partition in 0..4 {
        assert_eq!(consumer.fetch_watermarks("events", partition, LIMIT).unwrap(), (0, 250));
    }
}

#[test]
fn records_that_nobody_waits_for_and_large_ones_are_stored() {
    let broker = broker();
    send(&producer(&broker, &[("acks", "0")]), "single", 1, 0..100);
    let large = producer(&broker, &[("message.max.bytes", "20000000")]);
    let payload = vec![b'x'; 10 * 1024 * 1024];
    large.send(BaseRecord::to("single").payload(&payload).key("large").partition(0)).map_err(|(e, _)| e).unwrap();
    large.flush(LIMIT).unwrap();
    let consumer = consumer(&broker, &[]);
    wait_until("all are stored", || consumer.fetch_watermarks("single", 0, LIMIT).unwrap() == (0, 101));
    consumer.assign(&from_beginning("single", 1)).unwrap();
    // Two connections: which of the two producers' records come first is open.
    assert_eq!(read(&consumer, 101)[&0].iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), Vec::from_iter(0..101));
}

#[test]
fn a_transactional_producer_is_told_at_once() {
    let broker = broker();
    let producer = producer(&broker, &[("transactional.id", "nobody")]);
    let started = Instant::now();
    assert!(producer.init_transactions(LIMIT).is_err());
    assert!(started.elapsed() < LIMIT / 2, "{:?}", started.elapsed());
}

#[test]
fn topics_are_created_on_demand_of_an_administrator_alone() {
    let broker = broker();
    let admin: AdminClient<DefaultClientContext> = client(&broker, &[]).create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let wanted = NewTopic::new("fresh", 3, TopicReplication::Fixed(1));
    let create = || runtime.block_on(admin.create_topics([&wanted], &AdminOptions::new())).unwrap();
    assert_eq!(create(), [Ok("fresh".to_owned())]);
    assert_eq!(create(), [Err(("fresh".to_owned(), RDKafkaErrorCode::TopicAlreadyExists))]);
    let metadata = admin.inner().fetch_metadata(None, LIMIT).unwrap();
    let topics: Vec<(&str, usize)> =
        metadata.topics().iter().map(|topic| (topic.name(), topic.partitions().len())).collect();
    assert_eq!(topics, [("events", 4), ("fresh", 3), ("single", 1)]);
    let unknown = admin.inner().fetch_metadata(Some("nowhere"), LIMIT).unwrap();
    assert!(unknown.topics()[0].error().is_some());
    let deleted = runtime.block_on(admin.delete_topics(&["fresh"], &AdminOptions::new())).unwrap();
    assert_eq!(deleted, [Ok("fresh".to_owned())]);
}

#[test]
fn a_full_broker_makes_producers_wait_until_there_is_room_and_loses_nothing() {
    let broker = broker_with(100_000);
    send(&producer(&broker, &[("batch.num.messages", "10")]), "events", 1, 0..200);
    let producer = producer(&broker, &[("linger.ms", "0"), ("batch.num.messages", "10")]);
    for number in 0..300_u32 {
        let payload = "x".repeat(200);
        producer.send(BaseRecord::to("single").payload(&payload).key(&number.to_string())).map_err(|(e, _)| e).unwrap();
    }
    assert!(producer.flush(Duration::from_secs(1)).is_err(), "some must still be waiting");
    let consumer = consumer(&broker, &[]);
    let (_, end) = consumer.fetch_watermarks("single", 0, LIMIT).unwrap();
    assert!((1..300).contains(&end), "{end} are stored");
    let admin: AdminClient<DefaultClientContext> = client(&broker, &[]).create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(admin.delete_topics(&["events"], &AdminOptions::new())).unwrap();
    producer.flush(LIMIT).unwrap();
    consumer.assign(&from_beginning("single", 1)).unwrap();
    let keys: BTreeSet<String> = read(&consumer, 300)[&0].iter().map(|(_, key)| key.clone()).collect();
    assert_eq!(keys.len(), 300);
}

/// Sends bytes on a connection of their own and reads until the broker closes it.
fn talk(broker: &EmbeddedBroker, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(broker.address()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    // A connection that is closed with bytes unread is reset: that is a close too.
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes(), body].concat()
}

#[test]
fn bytes_that_make_no_sense_close_their_connection_only() {
    let broker = broker();
    let other = consumer(&broker, &[]);
    assert_eq!(other.fetch_watermarks("single", 0, LIMIT).unwrap(), (0, 0));
    let nonsense: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01],
        (-1_i32).to_be_bytes().to_vec(),
        frame(&[]),
        frame(&[0; 8]),
        vec![0, 0, 0, 200, 0, 3],
        header(3, 1, &i32::MAX.to_be_bytes()),
        header(3, 9, &[0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        header(0, 9, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        header(1, 11, &[0xff; 60]),
        header(999, 0, &[]),
        header(3, 999, &[]),
        header(24, 0, &[0; 40]),
        // A text that is no UTF-8.
        header(12, 0, &[0, 2, 0xff, 0xfe, 0, 0, 0, 1, 0, 0]),
    ];
    for bytes in nonsense {
        assert!(talk(&broker, &bytes).is_empty(), "{bytes:?}");
    }
    assert_eq!(other.fetch_watermarks("single", 0, LIMIT).unwrap(), (0, 0));
}

/// A request header in its first form.
fn header(key: i16, version: i16, rest: &[u8]) -> Vec<u8> {
    let start =
        [&key.to_be_bytes()[..], &version.to_be_bytes(), &7_i32.to_be_bytes(), &(-1_i16).to_be_bytes()].concat();
    frame(&[&start[..], rest].concat())
}

fn short(text: &str) -> Vec<u8> {
    [&(text.len() as i16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as i32).to_be_bytes()[..], bytes].concat()
}

const ONE: [u8; 4] = 1_i32.to_be_bytes();

#[test]
fn a_batch_sent_twice_is_stored_once() {
    let broker = broker();
    let produce = |first: i32| {
        let batch = batch::sample::batch(5, 0, 20, Some((77, 0, first)));
        let rest = [
            &(-1_i16).to_be_bytes()[..],
            &(-1_i16).to_be_bytes(),
            &1_000_i32.to_be_bytes(),
            &ONE,
            &short("single"),
            &ONE,
            &0_i32.to_be_bytes(),
            &long(&batch),
        ];
        let answer = talk(&broker, &header(0, 3, &rest.concat()));
        let error = i16::from_be_bytes(answer[28..30].try_into().unwrap());
        (error, i64::from_be_bytes(answer[30..38].try_into().unwrap()))
    };
    assert_eq!(produce(0), (0, 0));
    assert_eq!(produce(5), (0, 5));
    assert_eq!(produce(0), (0, 0));
    assert_eq!(produce(5), (0, 5));
    assert_eq!(produce(11), (45, -1), "10 is missing");
    assert_eq!(consumer(&broker, &[]).fetch_watermarks("single", 0, LIMIT).unwrap(), (0, 10));
}

#[test]
fn a_member_that_falls_silent_loses_its_partitions() {
    let broker = broker();
    let session_ms = 300_i32;
    let join = [
        &short("readers")[..],
        &session_ms.to_be_bytes(),
        &short(""),
        &short("consumer"),
        &ONE,
        &short("range"),
        &long(b"it will never say"),
    ];
    let answer = talk(&broker, &header(11, 0, &join.concat()));
    assert_eq!(answer[8..14], [0, 0, 0, 0, 0, 1], "it is the first generation");
    let started = Instant::now();
    let consumer = consumer(&broker, &[]);
    consumer.subscribe(&["events"]).unwrap();
    wait_until("the living one has all", || {
        consumer.poll(Duration::from_millis(10));
        owned_partitions(&consumer).len() == 4
    });
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_the_first() {
    let broker = broker();
    let body = [&18_i16.to_be_bytes()[..], &99_i16.to_be_bytes(), &7_i32.to_be_bytes(), &(-1_i16).to_be_bytes(), &[0]]
        .concat();
    let answer = talk(&broker, &frame(&body));
    let keys = shape::OFFERS.len() as u8;
    assert_eq!(answer[4..14], [0, 0, 0, 7, 0, 35, 0, 0, 0, keys]);
    assert_eq!(answer.len(), 14 + usize::from(keys) * 6);
}

#[test]
fn a_taken_address_and_an_impossible_topic_are_told() {
    let broker = broker();
    let taken = EmbeddedBroker::start(broker.address(), &[]).unwrap_err();
    assert!(matches!(taken, BrokerError::Listen { address, .. } if address == broker.address()));
    let listen = "127.0.0.1:0".parse().unwrap();
    for (name, partitions) in [("no spaces", 1), ("none", 0), ("", 1), ("many", 10_001)] {
        let refused = EmbeddedBroker::start(listen, &[(name.to_owned(), partitions)]).unwrap_err();
        assert!(matches!(refused, BrokerError::Topic { .. }), "{refused}");
    }
}

#[test]
fn the_address_is_free_after_shutdown() {
    let broker = broker();
    let address = broker.address();
    let client = TcpStream::connect(address).unwrap();
    broker.shutdown();
    drop(client);
    EmbeddedBroker::start(address, &[]).unwrap();
}
