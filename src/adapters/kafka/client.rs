//! What every librdkafka client of bief shares: properties, log lines, and the classes of errors.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use crate::config::Kafka;
use crate::ports::SourceError;

/// A client's properties: the configured ones, then what tells clients apart.
pub fn client_config(kafka: &Kafka, bootstrap: &str, client_id: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("client.id", client_id);
    for (name, value) in &kafka.properties {
        config.set(name, value.expose());
    }
    config.set("bootstrap.servers", bootstrap);
    config.set_log_level(RDKafkaLogLevel::Warning);
    config
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

/// A client that could not be made: a property that librdkafka refuses. Property values are not printed.
pub fn setup_error(what: &str, error: &KafkaError) -> SourceError {
    let text = match error {
        KafkaError::ClientConfig(_, description, name, _) => format!("{name}: {description}"),
        other => other.to_string(),
    };
    SourceError::Fatal(format!("the Kafka {what} could not be set up: {text}; mend [kafka.properties]"))
}

/// Errors that another try can't mend, with what to do; all others are waited for.
pub fn classify(code: RDKafkaErrorCode, what: String) -> SourceError {
    use RDKafkaErrorCode as E;
    match code {
        E::AutoOffsetReset | E::OffsetOutOfRange => SourceError::Fatal(format!(
            "{what}: the offset in the database is not there at the broker: the topic was made anew, or retention took \
             records before they were read; nothing was consumed"
        )),
        E::TopicAuthorizationFailed | E::GroupAuthorizationFailed | E::ClusterAuthorizationFailed => SourceError::Fatal(
            format!("{what}: the broker denies access: grant READ and DESCRIBE on the topic and READ on the group"),
        ),
        E::SaslAuthenticationFailed | E::Authentication => {
            SourceError::Fatal(format!("{what}: the broker does not accept the credentials of [kafka.properties]"))
        }
        E::InvalidTopic | E::Fatal | E::FencedInstanceId | E::UnsupportedFeature => SourceError::Fatal(what),
        _ => SourceError::Transient(what),
    }
}
