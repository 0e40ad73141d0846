//! Sends a replay's records to Kafka: idempotent, compressed, in large batches. What was sent and what arrived are
//! counted apart. Must never drop a record in silence: a full queue waits, a failed delivery is an error.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig};

use super::client::{Complaint, client_config, describe, set_default};
use crate::adapters::replay::{Delivered, RecordSink, SinkError};
use crate::config;

/// How long a broker may take to answer the first question.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// Waits below it are slept through: reports of deliveries are not that urgent.
const SHORT: Duration = Duration::from_millis(10);
/// How long a new topic may take until all its partitions have a leader.
const NEW_TOPIC: Duration = Duration::from_secs(20);

/// What every producer of bief sets unless the configuration says otherwise.
const DEFAULTS: [(&str, &str); 7] = [
    ("enable.idempotence", "true"),
    // On 2 shared cores, 265 MB of JSON took 3.6 s with it, 4.3 s with zstd and with snappy.
    ("compression.type", "lz4"),
    ("linger.ms", "5"),
    ("batch.size", "1000000"),
    ("batch.num.messages", "20000"),
    // What a slow broker may pile up here: bounded by bytes, the count is no limit of its own.
    ("queue.buffering.max.kbytes", "65536"),
    ("queue.buffering.max.messages", "1000000"),
];

#[derive(Debug, Default)]
struct Deliveries {
    /// By the position that `open` gave the topic.
    by_topic: Vec<Delivered>,
    first_failure: Option<String>,
    /// The last complaint of the client about its brokers, until the next delivery.
    trouble: Option<String>,
}

#[derive(Debug, Default)]
struct Reports {
    deliveries: Mutex<Deliveries>,
    complaint: Complaint,
    /// Counts whatever the client tells, so that who polls sees whether there was something.
    heard: AtomicU64,
}

impl Reports {
    fn hear(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Deliveries> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Reports {
    /// What is wrong comes as an error, too; these lines are for looking closer.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        self.hear();
        tracing::debug!(facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.hear();
        tracing::debug!(%reason, "kafka client: {}", describe(&error));
        self.complaint.hear(&error, reason);
        self.lock().trouble = Some(reason.to_string());
    }

    /// Nobody reads them here; the properties may ask for them.
    fn stats_raw(&self, _: &[u8]) {
        self.hear();
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, topic: usize) {
        self.hear();
        let mut deliveries = self.lock();
        match result {
            Ok(_) => {
                deliveries.by_topic[topic].arrived += 1;
                deliveries.trouble = None;
            }
            Err((error, message)) => {
                deliveries.by_topic[topic].failed += 1;
                if deliveries.first_failure.is_none() {
                    let text =
                        format!("topic {}, {} bytes: {}", message.topic(), message.payload_len(), describe(error));
                    deliveries.first_failure = Some(text);
                }
            }
        }
    }
}

/// A connection that sends. Blocks its thread while it waits, so it belongs on one where nothing else runs.
pub struct ReplayProducer {
    producer: BaseProducer<Reports>,
    config: rdkafka::ClientConfig,
    bootstrap: String,
    topics: Vec<String>,
}

impl ReplayProducer {
    /// Connects lazily: the first question to the broker is asked by `open`.
    pub fn new(kafka: &config::Kafka, bootstrap: &str) -> Result<Self, SinkError> {
        let mut config = client_config(kafka, bootstrap, "bief-replay");
        for (name, value) in DEFAULTS {
            set_default(&mut config, name, value);
        }
        let producer = BaseProducer::from_config_and_context(&config, Reports::default())
            .map_err(|error| SinkError(format!("no producer can be made: {}", describe(&error))))?;
        Ok(Self { producer, config, bootstrap: bootstrap.to_string(), topics: Vec::new() })
    }

    /// Takes in all that the client has to tell. A poll that does not wait takes one event, which is the deliveries of one
    /// batch of one partition: one now and then falls behind, and what was not taken in fills the queue.
    fn take_up(&self) {
        let heard = || self.producer.context().heard.load(Ordering::Relaxed);
        let mut before = None;
        while before != Some(heard()) {
            before = Some(heard());
            self.producer.poll(Duration::ZERO);
        }
    }

    /// Partitions of a topic that has a leader for each; `None` where the topic is missing or not ready.
    fn partitions(&self, topic: &str) -> Result<Option<i32>, SinkError> {
        // All topics are asked for: naming one would let the broker create it, with its own count of partitions.
        let metadata = self.producer.client().fetch_metadata(None, FIRST_ANSWER).map_err(|error| {
            self.take_up();
            let cause = self.producer.context().complaint.take();
            SinkError(format!(
                "no answer from Kafka at {} within {} s ({}); is it running, and are brokers and security right?",
                self.bootstrap,
                FIRST_ANSWER.as_secs(),
                cause.unwrap_or_else(|| describe(&error))
            ))
        })?;
        let found = metadata.topics().iter().find(|candidate| candidate.name() == topic);
        Ok(found.and_then(|topic| {
            let ready = topic.partitions().iter().all(|partition| partition.leader() >= 0);
            (ready && !topic.partitions().is_empty()).then_some(topic.partitions().len() as i32)
        }))
    }

    fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), SinkError> {
        let refused = |why: String| {
            SinkError(format!("topic {topic} is missing and could not be created: {why}; create it by hand"))
        };
        let admin: AdminClient<DefaultClientContext> =
            self.config.create().map_err(|error| refused(describe(&error)))?;
        let topics = [NewTopic::new(topic, partitions, TopicReplication::Fixed(-1))];
        let options = AdminOptions::new().request_timeout(Some(NEW_TOPIC)).operation_timeout(Some(NEW_TOPIC));
        // The answer comes on a thread of the admin client, within its own timeout; no runtime is at hand to wait on.
        let mut answer = pin!(admin.create_topics(&topics, &options));
        let results = loop {
            match answer.as_mut().now_or_never() {
                Some(results) => break results.map_err(|error| refused(describe(&error)))?,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(refused(code.to_string())),
            }
        }
        let limit = Instant::now() + NEW_TOPIC;
        while self.partitions(topic)?.is_none() {
            if Instant::now() > limit {
                return Err(refused(format!("no leader for its partitions after {} s", NEW_TOPIC.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn failure(&self) -> Result<(), SinkError> {
        match &self.producer.context().lock().first_failure {
            Some(text) => Err(SinkError(format!("a record was not delivered: {text}"))),
            None => Ok(()),
        }
    }
}

impl RecordSink for ReplayProducer {
    fn open(&mut self, topic: &str, partitions: i32) -> Result<usize, SinkError> {
        if let Some(known) = self.topics.iter().position(|name| name == topic) {
            return Ok(known);
        }
        match self.partitions(topic)? {
            Some(there) if there != partitions => {
                tracing::info!(topic, there, wanted = partitions, "topic is there with another count of partitions");
            }
            Some(_) => {}
            None => self.create_topic(topic, partitions)?,
        }
        self.topics.push(topic.to_string());
        self.producer.context().lock().by_topic.push(Delivered::default());
        Ok(self.topics.len() - 1)
    }

    fn send(&mut self, topic: usize, key: Option<&[u8]>, payload: &[u8]) -> Result<bool, SinkError> {
        let mut record = BaseRecord::with_opaque_to(&self.topics[topic], topic).payload(payload);
        if let Some(key) = key {
            record = record.key(key);
        }
        match self.producer.send(record) {
            Ok(()) => Ok(true),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(false),
            Err((error, _)) => {
                self.failure()?;
                let topic = &self.topics[topic];
                Err(SinkError(format!("topic {topic}, a record of {} bytes: {}", payload.len(), describe(&error))))
            }
        }
    }

    fn serve(&mut self, wait: Duration) -> Result<(), SinkError> {
        // The client waits by whole milliseconds and asks without rest for what is left of the last one.
        if wait < SHORT {
            std::thread::sleep(wait);
            self.take_up();
        } else {
            self.producer.poll(wait);
        }
        self.failure()
    }

    fn pending(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }

    fn give_up(&mut self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
        // Purged records come back as failed deliveries; they are counted, and no news.
        self.producer.poll(Duration::from_millis(200));
    }

    fn delivered(&self, topic: usize) -> Delivered {
        self.producer.context().lock().by_topic[topic]
    }

    fn trouble(&self) -> Option<String> {
        self.producer.context().lock().trouble.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    use rdkafka::{Offset, TopicPartitionList};

    use super::*;
    use crate::config::{Brokers, Kafka, Secret};

    fn kafka(properties: &[(&str, &str)]) -> Kafka {
        let properties: BTreeMap<_, _> =
            properties.iter().map(|(name, value)| (name.to_string(), Secret::new(*value))).collect();
        Kafka { brokers: Brokers::Embedded, group: "g".into(), properties }
    }

    /// What this thread took of the processor.
    #[cfg(target_os = "linux")]
    fn busy() -> Duration {
        let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(told.split(' ').next().unwrap().parse().unwrap())
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_waits_for_less_than_a_millisecond_rests() {
        let cluster = MockCluster::new(1).unwrap();
        let mut sink = ReplayProducer::new(&kafka(&[]), &cluster.bootstrap_servers()).unwrap();
        let (began, before) = (Instant::now(), busy());
        for _ in 0..200 {
            sink.serve(Duration::from_micros(900)).unwrap();
        }
        let (took, busy) = (began.elapsed(), busy() - before);
        assert!(took >= Duration::from_millis(180) && busy < took / 3, "{busy:?} of {took:?}");
    }

    #[test]
    fn what_many_batches_came_to_is_taken_in_at_once() {
        const TOPICS: usize = 30;
        let cluster = MockCluster::new(1).unwrap();
        let mut sink = ReplayProducer::new(&kafka(&[]), &cluster.bootstrap_servers()).unwrap();
        for topic in 0..TOPICS {
            cluster.create_topic(&topic.to_string(), 1, 1).unwrap();
            sink.open(&topic.to_string(), 1).unwrap();
        }
        // A batch for each topic. A starved machine may answer them one by one, so the best of some rounds counts.
        let calls = (0..10).map(|_| {
            for topic in 0..TOPICS {
                assert!(sink.send(topic, None, b"x").unwrap());
            }
            let (mut calls, limit) = (0, Instant::now() + Duration::from_secs(30));
            while sink.pending() > 0 {
                assert!(Instant::now() < limit, "records are still pending");
                sink.serve(Duration::from_millis(5)).unwrap();
                calls += 1;
            }
            calls
        });
        let least = calls.min().unwrap();
        assert!(least < TOPICS / 2, "{TOPICS} batches took {least} calls");
    }

    fn settle(sink: &mut ReplayProducer) -> Result<(), SinkError> {
        let limit = Instant::now() + Duration::from_secs(30);
        while sink.pending() > 0 {
            assert!(Instant::now() < limit, "records are still pending");
            sink.serve(Duration::from_millis(20))?;
        }
        sink.serve(Duration::ZERO)
    }

    /// Key and payload of all records, read until every partition's end.
    fn read_all(bootstrap: &str, topic: &str, partitions: i32) -> Vec<(Option<Vec<u8>>, Vec<u8>)> {
        let mut config = client_config(&kafka(&[]), bootstrap, "test");
        config.set("group.id", "test").set("enable.partition.eof", "true");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let (mut records, mut ended) = (Vec::new(), BTreeSet::new());
        let limit = Instant::now() + Duration::from_secs(30);
        while ended.len() < partitions as usize {
            assert!(Instant::now() < limit, "the end of {topic} was not reached");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    records.push((message.key().map(<[u8]>::to_vec), message.payload().unwrap_or_default().to_vec()));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ended.insert(partition);
                }
                Some(Err(error)) => panic!("{error}"),
                None => {}
            }
        }
        records
    }

    #[test]
    fn every_record_arrives_once_though_brokers_fail_and_the_queue_is_small() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 3, 1).unwrap();
        let bootstrap = cluster.bootstrap_servers();
        cluster.request_errors(
            RDKafkaApiKey::Produce,
            &[
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            ],
        );
        let small = kafka(&[("queue.buffering.max.messages", "100"), ("retry.backoff.ms", "10")]);
        let mut sink = ReplayProducer::new(&small, &bootstrap).unwrap();
        let topic = sink.open("t", 8).unwrap();
        assert_eq!(sink.open("t", 8).unwrap(), topic);
        let (mut full, count) = (0, 2_000);
        for n in 0..count {
            while !sink.send(topic, Some(format!("k{n}").as_bytes()), format!("{n}").as_bytes()).unwrap() {
                full += 1;
                sink.serve(Duration::from_millis(20)).unwrap();
            }
        }
        settle(&mut sink).unwrap();
        assert!(full > 0, "the queue never was full");
        assert_eq!(sink.delivered(topic), Delivered { arrived: count, failed: 0 });
        let mut records = read_all(&bootstrap, "t", 3);
        records.sort();
        let mut wanted: Vec<_> =
            (0..count).map(|n| (Some(format!("k{n}").into_bytes()), n.to_string().into_bytes())).collect();
        wanted.sort();
        assert!(records == wanted, "{} records", records.len());
    }

    #[test]
    fn a_record_that_is_too_large_is_an_error_that_names_the_topic() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 1, 1).unwrap();
        let small = kafka(&[("message.max.bytes", "1000")]);
        let mut sink = ReplayProducer::new(&small, &cluster.bootstrap_servers()).unwrap();
        let topic = sink.open("t", 1).unwrap();
        let error = sink.send(topic, None, &[b'x'; 2_000]).unwrap_err().to_string();
        assert!(error.contains("topic t, a record of 2000 bytes") && error.contains("too large"), "{error}");
    }

    #[test]
    fn a_delivery_that_fails_is_told_and_counted() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 1, 1).unwrap();
        let mut sink = ReplayProducer::new(&kafka(&[]), &cluster.bootstrap_servers()).unwrap();
        let topic = sink.open("t", 1).unwrap();
        cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
        assert!(sink.send(topic, None, b"x").unwrap());
        let error = settle(&mut sink).unwrap_err().to_string();
        assert!(error.contains("was not delivered: topic t, 1 bytes"), "{error}");
        assert_eq!(sink.delivered(topic), Delivered { arrived: 0, failed: 1 });
    }

    #[test]
    fn a_property_that_librdkafka_refuses_is_named_without_its_value() {
        let error = ReplayProducer::new(&kafka(&[("acks", "hunter2")]), "127.0.0.1:1").err().unwrap().to_string();
        assert!(error.contains("\"acks\"") && !error.contains("hunter2"), "{error}");
    }
}
