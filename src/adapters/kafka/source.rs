//! A stream's records from Kafka: group membership, partitions dealt to lanes, start offsets as told, never
//! librdkafka's own idea of where to begin (`auto.offset.reset=error`). Offsets are told to the broker for
//! the eyes of lag tools and never read back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, Statistics, TopicPartitionList};

use super::client;
use super::queue::LaneQueue;
use crate::core::memory::ClientLimits;
use crate::ports::{NO_BROKER, Polled, RecordSource, SourceError, SourceEvent};

/// The largest answer that is taken from a broker, in bytes: all that the protocol can carry. A broker sends a batch
/// that is larger than what was asked for whole, and one that is refused would stall its partition for ever.
const LARGEST_ANSWER: &str = "2147483647";

/// A daemon that was killed gives its partitions up after so many milliseconds: the least that brokers allow
/// unless told otherwise. A daemon that was only slow is fenced by the database, so nothing speaks for more.
const SESSION_TIMEOUT: &str = "6000";
const HEARTBEAT: &str = "1500";

/// How long, in milliseconds, the group waits in a rebalance for members that say nothing: those that a broker remembers of before
/// it was killed, and others that died while they joined, for whom no session runs. librdkafka's 5 minutes are for
/// consumers that work between two polls; here a partition is given back within seconds. No less than the session, which
/// librdkafka demands.
const REBALANCE_TIMEOUT: u64 = 30_000;

/// `max.poll.interval.ms`, which librdkafka tells the group as that timeout.
fn rebalance_timeout(session: Option<&str>) -> u64 {
    session.and_then(|ms| ms.parse().ok()).unwrap_or(REBALANCE_TIMEOUT).max(REBALANCE_TIMEOUT)
}

/// An error of the group that comes again after so long is told as trouble, and no more when it has not come for so
/// long. While a broker starts, joining fails once or twice.
const GROUP_PATIENCE: Duration = Duration::from_secs(5);

/// How often librdkafka tells which brokers are connected, in milliseconds.
const STATISTICS: &str = "2000";

/// What a stream's consumer is told.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    pub client: ClientConfig,
    pub group: String,
    pub topic: String,
    pub lanes: usize,
    /// Bytes of the stream's part of the daemon's memory; the client's limits follow from it.
    pub memory: u64,
}

/// What happened in the group, put down by librdkafka's callback and taken up by `serve`.
#[derive(Default)]
struct Membership {
    events: Mutex<Vec<SourceEvent>>,
    /// The consumer is being closed: a revocation is answered at once.
    closing: AtomicBool,
    /// No broker is connected, by librdkafka's own statistics; with its last complaint.
    unreachable: AtomicBool,
    complaint: Mutex<String>,
}

/// librdkafka's callbacks of one consumer.
pub struct SourceContext {
    membership: Arc<Membership>,
}

impl ClientContext for SourceContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Several times a second while no broker answers, beside the complaints that tell why.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            tracing::debug!(error = %error, reason, "broker trouble; librdkafka goes on trying");
        } else {
            tracing::warn!(error = %error, reason, "broker trouble; librdkafka goes on trying");
            *self.membership.complaint.lock().unwrap_or_else(PoisonError::into_inner) = reason.to_owned();
        }
    }

    fn stats(&self, statistics: Statistics) {
        let connected = statistics.brokers.values().any(|broker| broker.state == "UP");
        self.membership.unreachable.store(!connected, Ordering::SeqCst);
    }
}

impl ConsumerContext for SourceContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: Code, partitions: &mut TopicPartitionList) {
        let list: Vec<i32> = partitions.elements().iter().map(|e| e.partition()).collect();
        let assigned = code == Code::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if list.is_empty() {
            // Nothing to take over or give back, but the group waits for the answer.
            let outcome = match assigned {
                true => consumer.incremental_assign(partitions),
                false => consumer.incremental_unassign(partitions),
            };
            tracing::debug!(?outcome, "an assignment of nothing");
            return;
        }
        if self.membership.closing.load(Ordering::SeqCst) {
            if !assigned {
                unassign(consumer, partitions);
            }
            return;
        }
        let event = if assigned { SourceEvent::Assigned(list) } else { SourceEvent::Revoked(list) };
        self.membership.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// The group's protocol is cooperative: partitions are given back one by one, the others go on.
fn unassign(consumer: &BaseConsumer<SourceContext>, partitions: &TopicPartitionList) {
    if let Err(error) = consumer.incremental_unassign(partitions) {
        tracing::debug!(%error, "partitions were not given back; the group takes them when the session ends");
    }
}

/// What the group answers again and again in place of partitions.
struct Refusal {
    first: Instant,
    last: Instant,
    what: String,
}

impl Refusal {
    fn new(now: Instant, what: String) -> Self {
        Self { first: now, last: now, what }
    }

    fn again(self, now: Instant, what: String) -> Self {
        let first = if now - self.last < GROUP_PATIENCE { self.first } else { now };
        Self { first, last: now, what }
    }

    fn goes_on(&self, now: Instant) -> bool {
        self.last - self.first >= GROUP_PATIENCE && now - self.last < GROUP_PATIENCE
    }
}

/// What the broker that cannot be reached is told of by other means.
fn is_of_the_way(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve};
    matches!(code, AllBrokersDown | BrokerTransportFailure | OperationTimedOut | Resolve)
}

/// One consumer in its group.
pub struct KafkaSource {
    topic: String,
    membership: Arc<Membership>,
    refusal: Option<Refusal>,
    lanes: Vec<LaneQueue<SourceContext>>,
    consumer: Arc<BaseConsumer<SourceContext>>,
}

impl KafkaSource {
    /// Joins the group. The calling thread is the one that lanes wake.
    pub fn open(settings: &SourceSettings) -> Result<Self, SourceError> {
        let membership = Arc::new(Membership::default());
        let mut config = settings.client.clone();
        let limits = ClientLimits::of(settings.memory, settings.lanes);
        client::set_default(&mut config, "session.timeout.ms", SESSION_TIMEOUT);
        client::set_default(&mut config, "heartbeat.interval.ms", HEARTBEAT);
        client::set_default(&mut config, "fetch.wait.max.ms", "100");
        client::set_default(&mut config, "fetch.error.backoff.ms", "100");
        // A lane that was full is refilled at once, not a second after it has room.
        client::set_default(&mut config, "fetch.queue.backoff.ms", "10");
        client::set_consumer_defaults(&mut config);
        config
            .set("max.poll.interval.ms", rebalance_timeout(config.get("session.timeout.ms")).to_string())
            .set("group.id", &settings.group)
            .set("enable.auto.offset.store", "false")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("queued.max.messages.kbytes", limits.queue_kbytes.to_string())
            .set("queued.min.messages", limits.queue_messages.to_string())
            // A limit of producers, which librdkafka compares with the next all the same.
            .set("message.max.bytes", "1000")
            .set("fetch.max.bytes", limits.fetch.to_string())
            .set("max.partition.fetch.bytes", limits.partition_fetch.to_string())
            .set("receive.message.max.bytes", LARGEST_ANSWER)
            .set("statistics.interval.ms", STATISTICS);
        let context = SourceContext { membership: Arc::clone(&membership) };
        let consumer: BaseConsumer<SourceContext> =
            config.create_with_context(context).map_err(|e| client::setup_error("consumer", &e))?;
        let consumer = Arc::new(consumer);
        let lanes =
            (0..settings.lanes).map(|_| LaneQueue::new(Arc::clone(&consumer), std::thread::current())).collect();
        consumer.subscribe(&[&settings.topic]).map_err(|e| client::setup_error("subscription", &e))?;
        Ok(Self { topic: settings.topic.clone(), membership, refusal: None, lanes, consumer })
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        list
    }
}

impl RecordSource for KafkaSource {
    fn serve(&mut self, events: &mut Vec<SourceEvent>) -> Result<(), SourceError> {
        match self.consumer.poll(Duration::ZERO) {
            None => {}
            // Every partition has a lane before it is assigned, so that nothing comes this way.
            Some(Ok(message)) => {
                return Err(SourceError::Transient(format!(
                    "a record of partition {} came outside its lane",
                    rdkafka::Message::partition(&message)
                )));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                let what = format!("topic {}: {error}", self.topic);
                match client::classify(code, what) {
                    // The context has told it already.
                    SourceError::Transient(what) => {
                        tracing::debug!(what, "broker trouble");
                        if !is_of_the_way(code) {
                            let now = Instant::now();
                            self.refusal = Some(match self.refusal.take() {
                                Some(before) => before.again(now, what),
                                None => Refusal::new(now, what),
                            });
                        }
                    }
                    other => return Err(other),
                }
            }
        }
        let mut happened = self.membership.events.lock().unwrap_or_else(PoisonError::into_inner);
        if !happened.is_empty() {
            self.refusal = None;
        }
        events.append(&mut happened);
        Ok(())
    }

    fn assign(&mut self, partitions: &[(i32, usize, i64)]) -> Result<(), SourceError> {
        let told =
            |e: KafkaError| SourceError::Transient(format!("partitions of {} could not be assigned: {e}", self.topic));
        let mut list = TopicPartitionList::new();
        for (partition, lane, offset) in partitions {
            // The lane's queue first, so that nothing comes another way.
            self.lanes[*lane].take_partition(&self.topic, *partition)?;
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset)).map_err(told)?;
        }
        self.consumer.incremental_assign(&list).map_err(told)
    }

    fn release(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        unassign(&self.consumer, &self.list(partitions));
        Ok(())
    }

    fn poll(&mut self, lane: usize, limit: usize, sink: &mut dyn FnMut(Polled<'_>)) -> Result<usize, SourceError> {
        if crate::failpoints::triggered("log-truncated") {
            let what = "partition 0: Partition log truncation detected (failpoint)".to_owned();
            return Err(SourceError::Truncated { partition: 0, what });
        }
        match self.lanes[lane].poll(limit, sink) {
            Err(SourceError::Transient(what)) => {
                tracing::warn!(what, "broker trouble; librdkafka goes on trying");
                Ok(0)
            }
            other => other,
        }
    }

    fn wait(&mut self, at_most: Duration) {
        std::thread::park_timeout(at_most);
    }

    fn known_end(&self, partition: i32) -> Option<i64> {
        super::queue::known_end(&self.consumer, &self.topic, partition)
    }

    fn trouble(&self) -> Option<String> {
        if self.membership.unreachable.load(Ordering::SeqCst) {
            let complaint = self.membership.complaint.lock().unwrap_or_else(PoisonError::into_inner);
            return Some(format!("{NO_BROKER}; librdkafka goes on trying: {complaint}"));
        }
        let refusal = self.refusal.as_ref().filter(|refusal| refusal.goes_on(Instant::now()))?;
        if self.consumer.assignment().is_ok_and(|held| held.count() > 0) {
            return None;
        }
        Some(format!("the consumer group gives no partitions; librdkafka goes on trying: {}", refusal.what))
    }

    fn report_committed(&mut self, offsets: &[(i32, i64)]) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            if list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset)).is_err() {
                return;
            }
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::debug!(%error, "offsets were not told to the broker; only lag tools miss them");
        }
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.membership.closing.store(true, Ordering::SeqCst);
        if let Ok(held) = self.consumer.assignment()
            && held.count() > 0
        {
            unassign(&self.consumer, &held);
        }
        // Queues go before the client that they belong to.
        self.lanes.clear();
        if self.membership.unreachable.load(Ordering::SeqCst) {
            // It may wait for the group's coordinator without end.
            let consumer = Arc::clone(&self.consumer);
            let closing = move || {
                while Arc::strong_count(&consumer) > 1 {
                    std::thread::sleep(Duration::from_millis(10));
                }
                drop(consumer);
            };
            if let Err(error) = std::thread::Builder::new().name("close-consumer".to_owned()).spawn(closing) {
                tracing::warn!(%error, "no thread could be started to close a consumer without a broker");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_refuses_is_told_while_it_goes_on() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let mut refusal = Refusal::new(start, "once".to_owned());
        assert!(!refusal.goes_on(after(0)));
        for second in 1..=6 {
            refusal = refusal.again(after(second), "again".to_owned());
            assert_eq!(refusal.goes_on(after(second)), second >= 5, "{second}");
        }
        assert!(refusal.goes_on(after(10)) && !refusal.goes_on(after(11)), "{}", refusal.what);
        assert!(!refusal.again(after(60), "later".to_owned()).goes_on(after(60)), "another trouble");
    }

    #[test]
    fn the_group_waits_30_s_or_a_longer_session() {
        for (session, waits) in [(None, 30_000), (Some("6000"), 30_000), (Some("45000"), 45_000)] {
            assert_eq!(rebalance_timeout(session), waits, "{session:?}");
        }
    }
}
