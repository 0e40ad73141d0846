//! What every Kafka client of this process has in common: where the brokers are, and the properties that the
//! configuration hands on. Must never show the value of a property: it may be a password.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use crate::config;
use crate::ports::SourceError;

/// A client's configuration: the properties of `[kafka.properties]` as they are, then the broker's address, which
/// they cannot replace. `client_id` stands where the properties name none.
pub fn client_config(kafka: &config::Kafka, bootstrap: &str, client_id: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in &kafka.properties {
        config.set(name, value.expose());
    }
    set_default(&mut config, "client.id", client_id);
    config.set("bootstrap.servers", bootstrap);
    config.set_log_level(RDKafkaLogLevel::Warning);
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

/// librdkafka's log lines as bief's.
pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(facility, "librdkafka: {message}");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(facility, "librdkafka: {message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, "librdkafka: {message}"),
        RDKafkaLogLevel::Debug => tracing::debug!(facility, "librdkafka: {message}"),
    }
}

/// A client that could not be made: a property that librdkafka refuses.
pub fn setup_error(what: &str, error: &KafkaError) -> SourceError {
    SourceError::Fatal(format!("the Kafka {what} could not be set up: {}; mend [kafka.properties]", describe(error)))
}

/// Errors that another try can't mend, with what to do; all others are waited for.
pub fn classify(code: RDKafkaErrorCode, what: String) -> SourceError {
    use RDKafkaErrorCode as E;
    match code {
        E::AutoOffsetReset | E::OffsetOutOfRange => SourceError::Fatal(format!(
            "{what}: the offset in the database is not there at the broker: the topic was made anew, or retention took \
             records before they were read; nothing was consumed"
        )),
        E::TopicAuthorizationFailed | E::GroupAuthorizationFailed | E::ClusterAuthorizationFailed => {
            SourceError::Fatal(format!(
                "{what}: the broker denies access: grant READ and DESCRIBE on the topic and READ on the group"
            ))
        }
        E::SaslAuthenticationFailed | E::Authentication => {
            SourceError::Fatal(format!("{what}: the broker does not accept the credentials of [kafka.properties]"))
        }
        E::InvalidTopic | E::Fatal | E::FencedInstanceId | E::UnsupportedFeature => SourceError::Fatal(what),
        _ => SourceError::Transient(what),
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
