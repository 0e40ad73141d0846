//! Publishes dead letters: original key, payload and time, the reason in headers. A letter counts as arrived only when
//! the broker said so; one that is too large for the topic goes without its payload and without a long
//! key, which headers tell.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

use super::client::{Complaint, client_config, describe, set_default};
use crate::config;
use crate::core::connect_headers::{Origin, headers};
use crate::ports::{LetterPublisher, Published, StoredDeadLetter};

/// How long a letter may take to arrive; it is sent again in another round.
const MESSAGE_TIMEOUT_MS: &str = "10000";
/// Longer than that: then the client itself has given each letter up.
const ROUND: Duration = Duration::from_secs(20);

/// Just below what a broker takes of one request (`socket.request.max.bytes`, 100 MiB unless set): so it is the topic that
/// says whether a letter is too large, not the client, which would at 1 MB.
const MESSAGE_MAX_BYTES: &str = "100000000";
/// A key with more bytes goes with the payload where a letter is too large for the topic.
const KEY_KEPT: usize = 64 << 10;

/// What an operator's properties must not change here, beside what is set below: other names of the same properties
/// (which of two names wins is chance), and what does not go with idempotence.
const NOT_TAKEN: [&str; 8] = [
    "delivery.timeout.ms",
    "request.required.acks",
    "retries",
    "message.send.max.retries",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "queuing.strategy",
    "transactional.id",
];

/// `arrived` means that all in-sync replicas have the letter, and each letter's end is told.
fn letter_config(kafka: &config::Kafka, bootstrap: &str) -> ClientConfig {
    let mut config = client_config(kafka, bootstrap, "bief-letters");
    for name in NOT_TAKEN {
        config.remove(name);
    }
    config
        .set("message.timeout.ms", MESSAGE_TIMEOUT_MS)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("delivery.report.only.error", "false");
    set_default(&mut config, "compression.type", "lz4");
    set_default(&mut config, "message.max.bytes", MESSAGE_MAX_BYTES);
    config
}

#[derive(Debug, Default)]
struct Deliveries {
    /// The letter's id, and how it went; a report may come when its round is long over.
    told: Mutex<Vec<(i64, Result<(), KafkaError>)>>,
    complaint: Complaint,
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%reason, "kafka client: {}", describe(&error));
        self.complaint.hear(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<i64>;

    fn delivery(&self, result: &DeliveryResult<'_>, id: Box<i64>) {
        let result = result.as_ref().map(drop).map_err(|(error, _)| error.clone());
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push((*id, result));
    }
}

/// Sends the letters of one stream to one topic.
pub struct LetterProducer {
    producer: BaseProducer<Deliveries>,
    stream: String,
    topic: String,
}

impl LetterProducer {
    /// Connects lazily. The error says what to do.
    pub fn new(kafka: &config::Kafka, bootstrap: &str, stream: &str, topic: &str) -> Result<Self, String> {
        let producer =
            BaseProducer::from_config_and_context(&letter_config(kafka, bootstrap), Deliveries::default())
                .map_err(|error| format!("no producer can be made: {}; mend [kafka.properties]", describe(&error)))?;
        Ok(Self { producer, stream: stream.to_owned(), topic: topic.to_owned() })
    }

    /// Sends letters and waits for each to be told; what is not told within the round failed. Answers by id, and may
    /// tell of letters of an earlier round too.
    fn round<'l>(
        &self,
        letters: impl Iterator<Item = &'l StoredDeadLetter>,
        whole: bool,
    ) -> Vec<(i64, Result<(), KafkaError>)> {
        let limit = Instant::now() + ROUND;
        let mut refused = Vec::new();
        for letter in letters {
            let mut record = self.record(letter, whole);
            loop {
                match self.producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                        if Instant::now() < limit =>
                    {
                        record = back;
                        self.producer.poll(Duration::from_millis(20));
                    }
                    Err((error, _)) => {
                        refused.push((letter.id, Err(error)));
                        break;
                    }
                }
            }
        }
        while self.producer.in_flight_count() > 0 && Instant::now() < limit {
            self.producer.poll(Duration::from_millis(50));
        }
        self.producer.poll(Duration::ZERO);
        let told = std::mem::take(&mut *self.producer.context().told.lock().unwrap_or_else(PoisonError::into_inner));
        refused.extend(told);
        refused
    }

    fn record<'l>(&'l self, stored: &'l StoredDeadLetter, whole: bool) -> BaseRecord<'l, [u8], [u8], Box<i64>> {
        let letter = &stored.letter;
        let origin = Origin {
            stream: &self.stream,
            topic: &letter.topic,
            partition: letter.partition,
            offset: letter.offset,
            id: stored.id,
            rejection: &letter.rejection,
        };
        let mut all = OwnedHeaders::new();
        for (key, value) in headers(&origin) {
            all = all.insert(Header { key, value: Some(value.as_bytes()) });
        }
        let mut record = BaseRecord::with_opaque_to(&self.topic, Box::new(stored.id));
        match &letter.key {
            Some(key) if whole || key.len() <= KEY_KEPT => record = record.key(key.as_slice()),
            Some(key) => all = omitted(all, "bief.key.omitted.bytes", key),
            None => {}
        }
        if letter.timestamp >= 0 {
            record = record.timestamp(letter.timestamp);
        }
        match &letter.payload {
            Some(payload) if whole => record = record.payload(payload.as_slice()),
            Some(payload) => all = omitted(all, "bief.payload.omitted.bytes", payload),
            None => {}
        }
        record.headers(all)
    }
}

fn omitted(headers: OwnedHeaders, header: &str, part: &[u8]) -> OwnedHeaders {
    headers.insert(Header { key: header, value: Some(part.len().to_string().as_bytes()) })
}

/// Which of the letters arrived, and why another did not.
fn credit(letters: &[StoredDeadLetter], told: Vec<(i64, Result<(), KafkaError>)>) -> (Published, Option<String>) {
    let asked: BTreeSet<i64> = letters.iter().map(|l| l.id).collect();
    let (mut arrived, mut failure) = (BTreeSet::new(), None);
    for (id, outcome) in told {
        match outcome {
            Ok(()) if asked.contains(&id) => drop(arrived.insert(id)),
            Ok(()) => {}
            Err(error) => failure = failure.or(Some(describe(&error))),
        }
    }
    (Published { arrived: arrived.into_iter().collect(), failure: None }, failure)
}

impl LetterPublisher for LetterProducer {
    fn publish(&mut self, letters: &[StoredDeadLetter]) -> Published {
        let mut outcomes = self.round(letters.iter(), true);
        let too_large = |outcome: &(i64, Result<(), KafkaError>)| {
            let code = outcome.1.as_ref().err().and_then(KafkaError::rdkafka_error_code);
            matches!(code, Some(RDKafkaErrorCode::MessageSizeTooLarge))
        };
        let large: BTreeSet<i64> = outcomes.iter().filter(|o| too_large(o)).map(|(id, _)| *id).collect();
        if !large.is_empty() {
            outcomes.retain(|outcome| !too_large(outcome));
            outcomes.extend(self.round(letters.iter().filter(|l| large.contains(&l.id)), false));
        }
        let (mut published, failure) = credit(letters, outcomes);
        if published.arrived.len() < letters.len() {
            let cause = self.producer.context().complaint.take().or(failure).unwrap_or_else(|| "no answer".to_owned());
            published.failure = Some(format!(
                "{} dead letters did not arrive in topic {}: {cause}; is the topic there, and may bief write to it?",
                letters.len() - published.arrived.len(),
                self.topic
            ));
        }
        published
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::ports::testing::stored_letter;

    #[test]
    fn a_report_of_an_earlier_round_is_credited_to_its_own_letter_alone() {
        let late = Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut));
        // Letters 1 and 2 were sent in a round before and are told of now; 8 is not told of at all.
        let told = vec![(1, Ok(())), (2, late), (7, Ok(())), (7, Ok(()))];
        assert_eq!(credit(&[stored_letter(7), stored_letter(8)], told).0.arrived, [7]);
    }

    #[test]
    fn no_property_of_the_operator_makes_sent_mean_arrived() {
        let mut kafka = config::Kafka {
            brokers: config::Brokers::Embedded,
            group: "bief".to_owned(),
            properties: std::collections::BTreeMap::new(),
        };
        for (name, value) in [
            ("acks", "0"),
            ("request.required.acks", "0"),
            ("enable.idempotence", "false"),
            ("delivery.report.only.error", "true"),
            ("delivery.timeout.ms", "3600000"),
            ("max.in.flight", "1000"),
            ("retries", "0"),
            ("linger.ms", "20"),
        ] {
            kafka.properties.insert(name.to_owned(), Secret::new(value.to_owned()));
        }
        let config = letter_config(&kafka, "127.0.0.1:1");
        let producer: Result<BaseProducer, _> = config.create();
        assert!(producer.is_ok(), "{:?}", producer.err());
        let native = config.create_native_config().unwrap();
        let is = |name: &str| native.get(name).unwrap().trim_end_matches('\0').to_owned();
        assert_eq!([is("acks"), is("enable.idempotence"), is("delivery.report.only.error")], ["-1", "true", "false"]);
        assert_eq!([is("message.timeout.ms"), is("linger.ms")], [MESSAGE_TIMEOUT_MS, "20"]);
    }
}
