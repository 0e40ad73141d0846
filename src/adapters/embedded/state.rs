//! What the broker holds: topics with their logs, consumer groups, producer ids, the memory they may take.
//! All of it lives on one thread and is borrowed for one step at a time, never across an await.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Notify;
use uuid::Uuid;

use super::group::Group;
use super::log::PartitionLog;

/// There is one node, and this is its id.
pub const NODE: i32 = 1;

/// Partitions over all topics; each costs a little even when it is empty.
const MAX_PARTITIONS: usize = 10_000;

/// The broker's state.
#[derive(Debug)]
pub struct State {
    pub cluster_id: String,
    pub topics: RefCell<BTreeMap<String, Topic>>,
    pub groups: RefCell<BTreeMap<String, Group>>,
    /// Told whenever records were appended.
    pub appended: Notify,
    /// Told whenever the deadline of a group may have moved.
    pub groups_changed: Notify,
    memory: Memory,
    next_producer: Cell<i64>,
}

/// A topic.
#[derive(Debug)]
pub struct Topic {
    pub id: Uuid,
    pub partitions: Vec<PartitionLog>,
}

/// Bytes that all logs together may take.
#[derive(Debug)]
struct Memory {
    limit: u64,
    used: Cell<u64>,
    /// Once a batch was refused every batch is, until room is made: else a small one would overtake a large one that its
    /// producer is still trying to store.
    full: Cell<bool>,
}

/// One connection, as far as answers depend on it.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Where the client reached the broker: the address that it is told to come back to.
    pub reached: SocketAddr,
    pub from: SocketAddr,
    pub client_id: String,
}

impl State {
    /// `limit`: bytes that all logs together may take.
    pub fn new(limit: u64) -> Self {
        State {
            cluster_id: Uuid::new_v4().simple().to_string(),
            topics: RefCell::default(),
            groups: RefCell::default(),
            appended: Notify::new(),
            groups_changed: Notify::new(),
            memory: Memory { limit, used: Cell::new(0), full: Cell::new(false) },
            next_producer: Cell::new(1),
        }
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// `InvalidTopicException`, `InvalidPartitions`, `TopicAlreadyExists`.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<Uuid, ResponseError> {
        self.check_topic(name, partitions)?;
        let id = Uuid::new_v4();
        let partitions = (0..partitions).map(|_| PartitionLog::default()).collect();
        self.topics.borrow_mut().insert(name.to_owned(), Topic { id, partitions });
        Ok(id)
    }

    /// Whether a topic can be created.
    ///
    /// # Errors
    /// As `create_topic`.
    pub fn check_topic(&self, name: &str, partitions: i32) -> Result<(), ResponseError> {
        // https://kafka.apache.org: org.apache.kafka.common.internals.Topic
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 249 || name == "." || name == ".." || !name.chars().all(legal) {
            return Err(ResponseError::InvalidTopicException);
        }
        let topics = self.topics.borrow();
        if topics.contains_key(name) {
            return Err(ResponseError::TopicAlreadyExists);
        }
        let there: usize = topics.values().map(|topic| topic.partitions.len()).sum();
        match usize::try_from(partitions) {
            Ok(wanted) if wanted >= 1 && wanted + there <= MAX_PARTITIONS => Ok(()),
            _ => Err(ResponseError::InvalidPartitions),
        }
    }

    /// Deletes a topic, its records and what groups have committed for it.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`.
    pub fn delete_topic(&self, name: &str) -> Result<(), ResponseError> {
        let topic = self.topics.borrow_mut().remove(name).ok_or(ResponseError::UnknownTopicOrPartition)?;
        self.memory.give_back(topic.partitions.iter().map(PartitionLog::cost).sum());
        for group in self.groups.borrow_mut().values_mut() {
            group.offsets.retain(|(of, _), _| of != name);
        }
        self.appended.notify_waiters();
        Ok(())
    }

    /// Works on one partition.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`, and those of `work`.
    pub fn partition<T>(
        &self,
        topic: &str,
        partition: i32,
        work: impl FnOnce(&mut PartitionLog) -> Result<T, ResponseError>,
    ) -> Result<T, ResponseError> {
        let mut topics = self.topics.borrow_mut();
        let log = topics
            .get_mut(topic)
            .and_then(|topic| topic.partitions.get_mut(usize::try_from(partition).ok()?))
            .ok_or(ResponseError::UnknownTopicOrPartition)?;
        work(log)
    }

    /// Bytes that are free for records; none from the first refusal on.
    pub fn room(&self) -> u64 {
        if self.memory.full.get() { 0 } else { self.memory.limit.saturating_sub(self.memory.used.get()) }
    }

    pub fn take(&self, cost: u64) {
        self.memory.used.set(self.memory.used.get() + cost);
    }

    /// A batch was refused for want of room.
    pub fn set_full(&self) {
        if !self.memory.full.replace(true) {
            tracing::warn!(
                limit_bytes = self.memory.limit,
                used_bytes = self.memory.used.get(),
                "the embedded broker's memory is full: producers wait and try again; nothing stored is dropped; \
                 delete a topic, raise the limit, or use a real Kafka for more records"
            );
        }
    }

    pub fn new_producer(&self) -> i64 {
        let id = self.next_producer.get();
        self.next_producer.set(id + 1);
        id
    }
}

impl Memory {
    fn give_back(&self, cost: u64) {
        self.used.set(self.used.get().saturating_sub(cost));
        self.full.set(false);
    }
}

impl Caller {
    /// The host that the client is told to come back to.
    pub fn host(&self) -> StrBytes {
        self.reached.ip().to_canonical().to_string().into()
    }

    pub fn port(&self) -> i32 {
        self.reached.port().into()
    }
}

/// The protocol's code for an outcome.
pub fn code<T>(outcome: &Result<T, ResponseError>) -> i16 {
    outcome.as_ref().err().map_or(0, ResponseError::code)
}
