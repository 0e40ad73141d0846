//! Brokers that answer with errors: each request of a consumer, each code that another try can mend. Whatever they
//! answer, records come one after another, none is left out or comes twice, and once the brokers are well they come again.

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

/// What a consumer asks for; what is behind the third only where it joins its group, which a heartbeat's answer makes it do.
const APIS: [(&str, Api); 6] = [
    ("Fetch", Api::Fetch),
    ("Heartbeat", Api::Heartbeat),
    ("Metadata", Api::Metadata),
    ("FindCoordinator", Api::FindCoordinator),
    ("JoinGroup", Api::JoinGroup),
    ("SyncGroup", Api::SyncGroup),
];

/// So often the same answer in a row, and after how long the brokers are well again.
const IN_A_ROW: usize = 100;
const TROUBLE: Duration = Duration::from_millis(300);

/// Brokers, a consumer as a lane has it, and how far it came.
struct Ground {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
    source: KafkaSource,
    sent: i64,
    next: BTreeMap<i32, i64>,
}

fn open(cluster: &MockCluster<'static, DefaultProducerContext>) -> KafkaSource {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("heartbeat.interval.ms", "100")
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
        Self { cluster, producer, source, sent: 0, next: (0..PARTITIONS).map(|partition| (partition, 0)).collect() }
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
                }
                SourceEvent::Revoked(partitions) => self.source.release(&partitions)?,
            }
        }
        let next = &mut self.next;
        self.source.poll(0, 100, &mut |polled| {
            if let Polled::Record { partition, offset, .. } = polled {
                let wanted = next.get_mut(&partition).unwrap();
                assert_eq!(offset, *wanted, "partition {partition}");
                *wanted += 1;
            }
        })?;
        self.source.wait(Duration::from_millis(10));
        Ok(())
    }

    /// Reads on; a source that gives up is opened again, as its pipeline would be.
    fn read(&mut self, about: &str) {
        match self.step() {
            Ok(()) => {}
            Err(SourceError::Transient(_)) => self.source = open(&self.cluster),
            Err(error) => panic!("{about}: {error:?}"),
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
    fn trouble(&self, api: Api, codes: &[Code]) {
        self.cluster.request_errors(api, codes);
        let heartbeat = match api {
            Api::FindCoordinator => Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            Api::JoinGroup | Api::SyncGroup => Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
            _ => return,
        };
        self.cluster.request_errors(Api::Heartbeat, &[heartbeat]);
    }
}

#[test]
fn an_error_of_a_broker_neither_ends_the_reading_nor_leaves_a_record_out() {
    let mut ground = Ground::new();
    ground.send();
    ground.read_all("at first");
    for (name, api) in APIS {
        for code in CODES {
            let about = format!("{name}: {code:?}");
            ground.trouble(api, &[code]);
            ground.send();
            ground.read_all(&about);
        }
    }
}

/// Who fell out of the group waits for its session and for the rebalance: `BIEF_TEST_LONG=1` tries the group's requests, too.
#[test]
fn errors_in_a_row_are_gone_through_and_the_reading_goes_on_when_they_end() {
    let long = std::env::var("BIEF_TEST_LONG").is_ok_and(|v| v == "1");
    let mut ground = Ground::new();
    ground.send();
    ground.read_all("at first");
    for (name, api) in APIS.into_iter().filter(|(_, api)| long || matches!(api, Api::Fetch | Api::Metadata)) {
        for code in CODES {
            let about = format!("{name}: {code:?} {IN_A_ROW} times");
            ground.trouble(api, &[code; IN_A_ROW]);
            let began = Instant::now();
            while began.elapsed() < TROUBLE {
                ground.read(&about);
            }
            ground.cluster.clear_request_errors(api);
            ground.send();
            let took = ground.read_all(&about);
            println!("{about}: {took:?}");
        }
    }
}
