//! What every Kafka client of this process has in common: where the brokers are, and the properties that the
//! configuration hands on. Must never show the value of a property: it may be a password.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use crate::config;

/// A client's configuration: the properties of `[kafka.properties]` as they are, then the broker's address, which
/// they cannot replace. `client_id` stands where the properties name none.
pub fn client_config(kafka: &config::Kafka, bootstrap: &str, client_id: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in &kafka.properties {
        config.set(name, value.expose());
    }
    set_default(&mut config, "client.id", client_id);
    config.set("bootstrap.servers", bootstrap);
    config
}

/// Sets a property that the configuration did not.
pub fn set_default(config: &mut ClientConfig, name: &str, value: &str) {
    if config.get(name).is_none() {
        config.set(name, value);
    }
}

/// An error in words. librdkafka repeats a refused property's value; this does not.
pub fn describe(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, _, name, _) => {
            format!("librdkafka does not take the property {name:?} or its value")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rdkafka::consumer::BaseConsumer;

    use super::*;
    use crate::config::{Brokers, Kafka, Secret};

    fn kafka(properties: &[(&str, &str)]) -> Kafka {
        let properties: BTreeMap<_, _> =
            properties.iter().map(|(name, value)| (name.to_string(), Secret::new(*value))).collect();
        Kafka { brokers: Brokers::Embedded, group: "g".into(), properties }
    }

    #[test]
    fn properties_are_handed_on_but_cannot_move_the_brokers() {
        let kafka = kafka(&[("bootstrap.servers", "elsewhere:9"), ("client.id", "mine"), ("linger.ms", "7")]);
        let mut config = client_config(&kafka, "here:1", "bief");
        set_default(&mut config, "linger.ms", "5");
        set_default(&mut config, "compression.type", "lz4");
        assert_eq!(config.get("bootstrap.servers"), Some("here:1"));
        assert_eq!(config.get("client.id"), Some("mine"));
        assert_eq!(config.get("linger.ms"), Some("7"));
        assert_eq!(config.get("compression.type"), Some("lz4"));
    }

    #[test]
    fn an_error_names_the_property_and_never_its_value() {
        for property in ["security.protocol", "no.such.property", "message.max.bytes"] {
            let config = client_config(&kafka(&[(property, "hunter2")]), "127.0.0.1:1", "bief");
            let error = config.create::<BaseConsumer>().err().unwrap();
            let text = describe(&error);
            assert!(text.contains(property) && !text.contains("hunter2"), "{text}");
        }
    }
}
