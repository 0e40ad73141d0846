//! Brokers that answer what a consumer asks with errors that pass. Whatever they answer, records come one after another,
//! none is left out or comes twice, the consumer is never given up, and once the brokers are well records come again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};

use super::source::{KafkaSource, SourceSettings};
use crate::ports::{Polled, RecordSource, SourceError, SourceEvent};

const TOPIC: &str = "t";
const PARTITIONS: i32 = 2;
/// How long anything may take that ends by itself on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Errors of brokers and of a group's coordinator that pass.
const CODES: [Code; 12] = [
    Code::RD_KAFKA_RESP_ERR_UNKNOWN,
    Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
    Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
    Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
    Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    Code::RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE,
    Code::RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION,
    Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
    Code::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
    Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
    Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
    Code::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
];

/// What a consumer asks again and again by itself.
const STEADY: [(&str, Api); 4] = [
    ("Fetch", Api::Fetch),
    ("Metadata", Api::Metadata),
    ("OffsetCommit", Api::OffsetCommit),
    ("Heartbeat", Api::Heartbeat),
];
/// What it asks only as it looks for its group or joins it, which the answer to a heartbeat makes it do.
const OF_THE_GROUP: [(&str, Api); 3] =
    [("FindCoordinator", Api::FindCoordinator), ("JoinGroup", Api::JoinGroup), ("SyncGroup", Api::SyncGroup)];

/// So many of the same answer wait for whoever asks: in the long form, and in each run of the tests.
const IN_A_ROW: (usize, usize) = (100, 10);
/// Within which each request that comes by itself is made, and a fetch that found nothing is answered.
const ASKED: Duration = Duration::from_millis(300);
/// How soon records come again once the brokers are well, for who kept its place in the group: on a busy machine.
const RECOVERY: Duration = Duration::from_secs(20);

fn long() -> bool {
    std::env::var("BIEF_TEST_LONG").is_ok_and(|v| v == "1")
}

/// Brokers, a consumer as a lane has it, and how far it came.
struct Ground {
    // Closed while the brokers are still there.
    source: KafkaSource,
    producer: BaseProducer,
    cluster: MockCluster<'static, DefaultProducerContext>,
    sent: i64,
    next: BTreeMap<i32, i64>,
    assignments: usize,
}

fn open(cluster: &MockCluster<'static, DefaultProducerContext>) -> KafkaSource {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("heartbeat.interval.ms", "100")
        .set("fetch.error.backoff.ms", "1")
        .set("topic.metadata.refresh.interval.ms", "200");
    let (group, topic) = ("g".to_owned(), TOPIC.to_owned());
    KafkaSource::open(&SourceSettings { client, group, topic, lanes: 1, memory: 64 << 20 }).unwrap()
}

impl Ground {
    fn new() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
        let producer = ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().unwrap();
        let source = open(&cluster);
        let next = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
        let mut ground = Self { cluster, producer, source, sent: 0, next, assignments: 0 };
        ground.send();
        ground.read_all("at first");
        ground
    }

    /// Sends a record to each partition.
    fn send(&mut self) {
        for partition in 0..PARTITIONS {
            let record = BaseRecord::<(), str>::to(TOPIC).partition(partition).payload("{}");
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        self.producer.flush(PATIENCE).unwrap();
        self.sent += 1;
    }

    fn step(&mut self) -> Result<(), SourceError> {
        let mut events = Vec::new();
        self.source.serve(&mut events)?;
        for event in events {
            match event {
                SourceEvent::Assigned(partitions) => {
                    let at: Vec<_> = partitions.iter().map(|partition| (*partition, 0, self.next[partition])).collect();
                    self.source.assign(&at)?;
                    self.assignments += 1;
                }
                SourceEvent::Revoked(partitions) => self.source.release(&partitions)?,
            }
        }
        let before = self.next.clone();
        let next = &mut self.next;
        self.source.poll(0, 100, &mut |polled| {
            if let Polled::Record { partition, offset, .. } = polled {
                let wanted = next.get_mut(&partition).unwrap();
                assert_eq!(offset, *wanted, "partition {partition}");
                *wanted += 1;
            }
        })?;
        if self.next != before {
            let committed: Vec<_> = self.next.iter().map(|(partition, next)| (*partition, *next)).collect();
            self.source.report_committed(&committed);
        }
        self.source.wait(Duration::from_millis(10));
        Ok(())
    }

    fn read(&mut self, about: &str) {
        self.step().unwrap_or_else(|error| panic!("{about}: the source gave up: {error:?}"));
    }

    fn read_for(&mut self, time: Duration, about: &str) {
        let began = Instant::now();
        while began.elapsed() < time {
            self.read(about);
        }
    }

    /// Reads until all that was sent is there, and answers how long that took.
    fn read_all(&mut self, about: &str) -> Duration {
        let began = Instant::now();
        while self.next.values().any(|next| *next < self.sent) {
            assert!(began.elapsed() < PATIENCE, "{about}: {} sent, {:?}", self.sent, self.next);
            self.read(about);
        }
        began.elapsed()
    }

    /// Lets the brokers answer a request with these, and has it asked.
    fn trouble(&mut self, api: Api, codes: &[Code], about: &str) {
        self.cluster.request_errors(api, codes);
        match api {
            Api::FindCoordinator => {
                self.cluster.request_errors(Api::Heartbeat, &[Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR])
            }
            Api::JoinGroup | Api::SyncGroup => {
                self.cluster.request_errors(Api::Heartbeat, &[Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID])
            }
            Api::OffsetCommit => {
                self.send();
                self.read_all(about);
            }
            _ => {}
        }
        self.read_for(ASKED, about);
    }

    /// Lets them be well again.
    fn mend(&self, api: Api) {
        self.cluster.clear_request_errors(api);
        self.cluster.clear_request_errors(Api::Heartbeat);
    }
}

/// Who fell out of the group waits for its session and for the rebalance: `BIEF_TEST_LONG=1` tries the group's requests, too.
fn tried() -> impl Iterator<Item = (&'static str, Api)> {
    let long = long();
    STEADY
        .into_iter()
        .filter(move |(_, api)| long || !matches!(api, Api::Heartbeat))
        .chain(OF_THE_GROUP.into_iter().filter(move |_| long))
}

#[test]
fn an_error_of_a_broker_neither_ends_the_reading_nor_leaves_a_record_out() {
    let mut ground = Ground::new();
    for (name, api) in tried() {
        for code in CODES {
            let about = format!("{name}: {code:?}");
            let before = ground.assignments;
            ground.trouble(api, &[code], &about);
            // A new assignment comes after both, so that the error was met.
            let began = Instant::now();
            while matches!(api, Api::JoinGroup | Api::SyncGroup) && ground.assignments == before {
                assert!(began.elapsed() < PATIENCE, "{about}: no assignment");
                ground.read(&about);
            }
            ground.mend(api);
            ground.send();
            let took = ground.read_all(&about);
            println!("{about}: {:?}, then {took:?}", began.elapsed() - took);
        }
    }
}

#[test]
fn errors_for_a_while_are_gone_through_and_the_reading_goes_on_when_they_end() {
    let mut ground = Ground::new();
    let in_a_row = if long() { IN_A_ROW.0 } else { IN_A_ROW.1 };
    for (name, api) in tried() {
        for code in CODES {
            let about = format!("{name}: {code:?} for a while");
            ground.trouble(api, &vec![code; in_a_row], &about);
            // The answers to fetches are all met, since they stand before the one that brings the record.
            if !matches!(api, Api::Fetch) {
                ground.mend(api);
            }
            ground.send();
            let took = ground.read_all(&about);
            println!("{about}: {took:?}");
            let keeps_its_place = matches!(api, Api::Fetch | Api::Metadata);
            assert!(!keeps_its_place || took < RECOVERY, "{about}: {took:?}");
        }
    }
}
