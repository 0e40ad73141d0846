//! Reads a topic from its start to its end with librdkafka and drops every message: what reading alone costs the cores
//! that a bare LOAD DATA shares with it. Prints `ready` once it knows the topic, begins when a line comes in, and ends
//! with the number of messages. Arguments: brokers, topic.

use std::error::Error;
use std::io::BufRead;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

/// Longest wait for an answer of the broker.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(brokers), Some(topic)) = (arguments.next(), arguments.next()) else {
        return Err("give the brokers and a topic".into());
    };
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "null-consumer")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE)?;
    let partitions: Vec<i32> =
        metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id()).collect();
    println!("ready");
    std::io::stdin().lock().read_line(&mut String::new())?;

    let mut assignment = TopicPartitionList::new();
    for &partition in &partitions {
        assignment.add_partition_offset(&topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let (mut messages, mut at_their_end) = (0_u64, 0);
    while at_their_end < partitions.len() {
        match consumer.poll(PATIENCE) {
            Some(Ok(_)) => messages += 1,
            Some(Err(KafkaError::PartitionEOF(_))) => at_their_end += 1,
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::BrokerTransportFailure))) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(format!("no message for {} s", PATIENCE.as_secs()).into()),
        }
    }
    println!("{messages}");
    Ok(())
}
