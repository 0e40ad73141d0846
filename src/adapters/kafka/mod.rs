//! Kafka through librdkafka: the consumer's source, questions to the broker, the producer of the replay.

pub mod broker;
pub mod client;
pub mod letters;
pub mod own_topic;
pub mod producer;
mod queue;
pub mod source;
#[cfg(test)]
mod source_tests;
