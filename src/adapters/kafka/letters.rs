//! Publishes dead letters: original key, payload and time, the reason in headers. A letter counts as arrived only when
//! the broker said so; one that is too large for the topic goes without its payload, which the header tells.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::client::{Complaint, client_config, describe, set_default};
use crate::config;
use crate::core::connect_headers::{Origin, headers};
use crate::ports::{LetterPublisher, Published, StoredDeadLetter};

/// How long a letter may take to arrive; it is sent again in another round.
const MESSAGE_TIMEOUT_MS: &str = "10000";
/// Longer than that: then the client itself has given each letter up.
const ROUND: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
struct Deliveries {
    /// Position in the round, and how it went.
    told: Mutex<Vec<(usize, Result<(), KafkaError>)>>,
    complaint: Complaint,
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%reason, "kafka client: {}", describe(&error));
        self.complaint.hear(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, position: usize) {
        let result = result.as_ref().map(drop).map_err(|(error, _)| error.clone());
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push((position, result));
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
        let mut config = client_config(kafka, bootstrap, "bief-letters");
        config.set("message.timeout.ms", MESSAGE_TIMEOUT_MS);
        set_default(&mut config, "enable.idempotence", "true");
        set_default(&mut config, "compression.type", "lz4");
        let producer = BaseProducer::from_config_and_context(&config, Deliveries::default())
            .map_err(|error| format!("no producer can be made: {}; mend [kafka.properties]", describe(&error)))?;
        Ok(Self { producer, stream: stream.to_owned(), topic: topic.to_owned() })
    }

    /// Sends those at these positions and waits for each to be told; what is not told within the round failed.
    fn round(
        &self,
        letters: &[StoredDeadLetter],
        positions: &[usize],
        whole: bool,
    ) -> Vec<(usize, Result<(), KafkaError>)> {
        let limit = Instant::now() + ROUND;
        let mut refused = Vec::new();
        for &position in positions {
            let mut record = self.record(&letters[position], position, whole);
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
                        refused.push((position, Err(error)));
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

    fn record<'l>(
        &'l self,
        stored: &'l StoredDeadLetter,
        position: usize,
        whole: bool,
    ) -> BaseRecord<'l, [u8], [u8], usize> {
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
        let mut record = BaseRecord::with_opaque_to(&self.topic, position);
        if let Some(key) = &letter.key {
            record = record.key(key.as_slice());
        }
        if letter.timestamp >= 0 {
            record = record.timestamp(letter.timestamp);
        }
        match &letter.payload {
            Some(payload) if whole => record = record.payload(payload.as_slice()),
            Some(payload) => {
                let bytes = payload.len().to_string();
                all = all.insert(Header { key: "bief.payload.omitted.bytes", value: Some(bytes.as_bytes()) });
            }
            None => {}
        }
        record.headers(all)
    }
}

impl LetterPublisher for LetterProducer {
    fn publish(&mut self, letters: &[StoredDeadLetter]) -> Published {
        let all: Vec<usize> = (0..letters.len()).collect();
        let mut outcomes = self.round(letters, &all, true);
        let too_large = |outcome: &(usize, Result<(), KafkaError>)| {
            let code = outcome.1.as_ref().err().and_then(KafkaError::rdkafka_error_code);
            matches!(code, Some(RDKafkaErrorCode::MessageSizeTooLarge))
        };
        let large: Vec<usize> = outcomes.iter().filter(|o| too_large(o)).map(|(position, _)| *position).collect();
        if !large.is_empty() {
            outcomes.retain(|outcome| !too_large(outcome));
            outcomes.extend(self.round(letters, &large, false));
        }
        let mut published = Published::default();
        let mut failure = None;
        for (position, outcome) in outcomes {
            match (outcome, letters.get(position)) {
                (Ok(()), Some(letter)) => published.arrived.push(letter.id),
                (Err(error), _) => failure = failure.or(Some(describe(&error))),
                (Ok(()), None) => {}
            }
        }
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
