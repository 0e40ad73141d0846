//! Kafka through librdkafka.

pub mod client;
pub mod producer;
