//! Questions to the broker: where partitions begin and end, which topic this is, whether a gap is empty.
//! Each is asked by a client of its own that is no member of any group.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use super::client::{self, Complaint};
use crate::core::cell::Span;
use crate::messages::{Record, RecordBatch};
use crate::ports::{Bounds, Broker, SourceError};

/// How long the broker may take to answer one question.
const ANSWER: Duration = Duration::from_secs(10);

/// A reading that yields nothing for so long has failed.
const SILENCE: Duration = Duration::from_secs(30);

/// Log lines and complaints of a client that are taken up at once, at most.
const BACKLOG: usize = 1000;

#[derive(Default)]
struct Quiet(Complaint);

impl ClientContext for Quiet {
    /// Whoever asks is told by the answer; these lines are for looking closer.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "broker trouble");
        self.0.hear(&error, reason);
    }
}

impl ConsumerContext for Quiet {}

/// The broker of one configuration.
pub struct KafkaBroker {
    config: ClientConfig,
    client: RwLock<Arc<BaseConsumer<Quiet>>>,
    group: String,
}

impl KafkaBroker {
    /// `config` as [`client::client_config`] makes it; `group` is the prefix of the streams' groups, for brokers that
    /// grant by it. No group is ever joined.
    pub fn new(mut config: ClientConfig, group: &str) -> Result<Self, SourceError> {
        client::set_consumer_defaults(&mut config);
        config.set("allow.auto.create.topics", "false");
        let client = RwLock::new(connect(&config)?);
        Ok(Self { config, client, group: group.to_owned() })
    }

    fn client(&self) -> Arc<BaseConsumer<Quiet>> {
        Arc::clone(&self.client.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn group_of(&self, topic: &str) -> String {
        format!("{}-{topic}", self.group)
    }

    /// Asks one question. What the client complains of meanwhile is the cause where the question fails.
    fn ask<T>(
        &self,
        what: &str,
        question: impl FnOnce(&BaseConsumer<Quiet>) -> KafkaResult<T>,
    ) -> Result<T, SourceError> {
        let client = self.client();
        complaint(&client);
        question(&client).map_err(|error| match (unreachable(&error), complaint(&client)) {
            (false, _) => Self::told(what, &error),
            (true, Some(complaint)) => SourceError::Transient(format!("{what}: {complaint}")),
            // A listener that wants another protocol hangs up without a word.
            (true, None) => SourceError::Transient(format!(
                "{what}: no broker answers ({error}); is it running, and are `brokers` and \"security.protocol\" in \
                 [kafka] right?"
            )),
        })
    }

    fn told(what: &str, error: &KafkaError) -> SourceError {
        client::classify(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown), format!("{what}: {error}"))
    }
}

fn connect(config: &ClientConfig) -> Result<Arc<BaseConsumer<Quiet>>, SourceError> {
    let client = config.create_with_context(Quiet::default()).map_err(|e| client::setup_error("client", &e))?;
    Ok(Arc::new(client))
}

/// What a client has complained of since it was last asked.
fn complaint(client: &BaseConsumer<Quiet>) -> Option<String> {
    for _ in 0..BACKLOG {
        // Nothing is assigned, so that no record comes this way; a log line is told as nothing, too.
        drop(client.poll(Duration::ZERO));
    }
    client.context().0.take()
}

/// No broker was there to answer, which says nothing of the question.
fn unreachable(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as E;
    matches!(
        error.rdkafka_error_code(),
        Some(E::BrokerTransportFailure | E::OperationTimedOut | E::AllBrokersDown | E::Resolve | E::SSL)
    )
}

impl Broker for KafkaBroker {
    fn listen(&self) {
        complaint(&self.client());
    }

    fn answers_anew(&self, topic: &str) -> bool {
        let Ok(client) = connect(&self.config) else { return false };
        let answers = client.fetch_metadata(Some(topic), ANSWER).is_ok_and(|told| !told.brokers().is_empty());
        if answers {
            let before = std::mem::replace(&mut *self.client.write().unwrap_or_else(PoisonError::into_inner), client);
            // Without a broker it may take long to be let go.
            if let Err(error) = std::thread::Builder::new().spawn(move || drop(before)) {
                tracing::warn!(%error, "no thread could be started to let a client go");
            }
        }
        answers
    }

    fn bounds(&self, topic: &str, partition: i32) -> Result<Bounds, SourceError> {
        self.ask(&format!("partition {partition} of topic {topic}"), |client| {
            client.fetch_watermarks(topic, partition, ANSWER).map(|(low, high)| Bounds { low, high })
        })
    }

    fn partitions(&self, topic: &str) -> Result<Vec<i32>, SourceError> {
        let what = format!("topic {topic}");
        let metadata = self.ask(&what, |client| client.fetch_metadata(Some(topic), ANSWER))?;
        let Some(told) = metadata.topics().iter().find(|t| t.name() == topic) else {
            return Err(SourceError::Transient(format!("{what}: the broker's answer does not name it")));
        };
        match told.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => return Ok(Vec::new()),
            // Not described for another reason, which says nothing of whether it is there.
            Some(code) => return Err(client::classify(code, format!("{what}: {code}"))),
        }
        let mut partitions: Vec<i32> = told.partitions().iter().map(|p| p.id()).collect();
        partitions.sort_unstable();
        Ok(partitions)
    }

    fn topic_id(&self, topic: &str) -> Result<String, SourceError> {
        // An administrative request that meets no broker keeps two of librdkafka's threads busy until it times out: they
        // wake each other to look for the controller. A look at the metadata waits in peace.
        self.ask(&format!("topic {topic}"), |client| client.fetch_metadata(Some(topic), ANSWER))?;
        super::queue::topic_id(&self.client(), topic, ANSWER.as_millis() as i32)
    }

    fn group_members(&self, group: &str) -> Result<Vec<String>, SourceError> {
        let told =
            self.ask(&format!("consumer group {group}"), |client| client.fetch_group_list(Some(group), ANSWER))?;
        let members = told.groups().iter().filter(|g| g.name() == group).flat_map(|g| g.members());
        Ok(members.map(|m| format!("{} at {}", m.client_id(), m.client_host().trim_start_matches('/'))).collect())
    }

    fn look(&self, topic: &str, from: &[(i32, i64)], limit: usize) -> Result<RecordBatch, SourceError> {
        let what = format!("topic {topic}");
        let mut config = self.config.clone();
        config.set("group.id", self.group_of(topic));
        let reader: BaseConsumer<Quiet> =
            config.create_with_context(Quiet::default()).map_err(|e| client::setup_error("reader", &e))?;
        let mut list = TopicPartitionList::new();
        for (partition, offset) in from {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).map_err(|e| Self::told(&what, &e))?;
        }
        reader.assign(&list).map_err(|e| Self::told(&what, &e))?;
        let mut batch = RecordBatch::default();
        let mut ended = BTreeSet::new();
        let began = Instant::now();
        while batch.records.len() < limit && ended.len() < from.len() && began.elapsed() < ANSWER {
            match reader.poll(Duration::from_millis(100)) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
                Some(Err(e)) => return Err(Self::told(&what, &e)),
                Some(Ok(message)) => {
                    let mut keep = |bytes: &[u8]| {
                        let span = Span::new(batch.bytes.len(), bytes.len());
                        batch.bytes.extend_from_slice(bytes);
                        span
                    };
                    let (key, payload) = (message.key().map(&mut keep), message.payload().map(&mut keep));
                    batch.records.push(Record {
                        partition: message.partition(),
                        offset: message.offset(),
                        timestamp: message.timestamp().to_millis().unwrap_or(-1),
                        key,
                        payload,
                        oversize: None,
                    });
                }
            }
        }
        Ok(batch)
    }

    fn records_within(&self, topic: &str, partition: i32, offsets: &[Range<i64>]) -> Result<Vec<i64>, SourceError> {
        let mut found = Vec::new();
        let Some((first, last)) = offsets.first().zip(offsets.last()) else { return Ok(found) };
        let what = format!("partition {partition} of topic {topic}");
        let mut config = self.config.clone();
        // A reader of its own, so that it can be thrown away with what it fetched.
        config.set("group.id", self.group_of(topic)).set("fetch.wait.max.ms", "50");
        let reader: BaseConsumer<Quiet> =
            config.create_with_context(Quiet::default()).map_err(|e| client::setup_error("reader", &e))?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(first.start)).map_err(|e| Self::told(&what, &e))?;
        reader.assign(&list).map_err(|e| Self::told(&what, &e))?;
        let mut at = 0;
        let mut heard = Instant::now();
        loop {
            match reader.poll(Duration::from_millis(100)) {
                None if heard.elapsed() > SILENCE => {
                    return Err(SourceError::Transient(format!("{what} yielded nothing for {SILENCE:?}")));
                }
                None => continue,
                // The end of what can be read: transaction markers and compacted offsets lie behind the last record.
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(found),
                Some(Err(e)) => match Self::told(&what, &e) {
                    SourceError::Transient(what) => tracing::debug!(what, "broker trouble"),
                    other => return Err(other),
                },
                Some(Ok(message)) => {
                    heard = Instant::now();
                    while offsets.get(at).is_some_and(|gap| gap.end <= message.offset()) {
                        at += 1;
                    }
                    if offsets.get(at).is_some_and(|gap| gap.contains(&message.offset())) {
                        found.push(message.offset());
                    }
                    if message.offset() >= last.end - 1 {
                        return Ok(found);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::RDKafkaRespErr as Code;

    use super::*;

    #[test]
    fn only_a_topic_that_is_said_to_be_unknown_is_not_there() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 3, 1).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        let broker = KafkaBroker::new(config, "g").unwrap();
        assert_eq!(broker.partitions("t").unwrap(), [0, 1, 2]);

        cluster.topic_error("t", Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
        let Err(SourceError::Fatal(what)) = broker.partitions("t") else { panic!("a refusal is no absence") };
        assert!(what.contains("topic t: ") && what.contains("grant READ and DESCRIBE"), "{what}");
        assert!(broker.standing("t").is_err());

        cluster.topic_error("t", Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE).unwrap();
        let outcome = broker.partitions("t");
        assert!(matches!(outcome, Err(SourceError::Transient(_))), "{outcome:?}");

        cluster.topic_error("t", Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
        assert_eq!(broker.partitions("t").unwrap(), Vec::<i32>::new());
    }
}
