//! What every Kafka client of this process has in common: where the brokers are, and the properties that the
//! configuration hands on. Must never show the value of a property: it may be a password.

use std::sync::{Mutex, PoisonError};

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
    // librdkafka waits up to 10 s between tries; a broker that is back is wanted at once.
    set_default(&mut config, "reconnect.backoff.max.ms", "1000");
    config.set("bootstrap.servers", bootstrap);
    config.set_log_level(RDKafkaLogLevel::Warning);
    config
}

/// A consumer's part of it, beside what its kind wants. Checksums are looked at, as Kafka's own client does and librdkafka by
/// itself does not: a bit that tipped on the broker's disk would be stored as a value.
pub fn set_consumer_defaults(config: &mut ClientConfig) {
    set_default(config, "check.crcs", "true");
    config
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        // Offsets are told; librdkafka must not choose one by itself.
        .set("auto.offset.reset", "error");
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

/// What a client last said of its brokers by itself. A question that fails tells "broker transport failure" alone,
/// whether nobody listens, the certificate is not trusted or the password is wrong; the client's complaint tells which.
#[derive(Debug, Default)]
pub struct Complaint(Mutex<Option<String>>);

impl Complaint {
    /// Takes down an error that no question asked for.
    pub fn hear(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        // It follows the complaint that tells why they are down.
        if code != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(advise(code, reason));
        }
    }

    /// Hands the complaint over with what the reader can do, and forgets it.
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What OpenSSL's own complaints have in them.
const OPENSSL: &str = "SSL routines:";

/// A complaint with what the reader can do about it.
fn advise(code: Option<RDKafkaErrorCode>, reason: &str) -> String {
    use RDKafkaErrorCode as E;
    let advice = match code {
        Some(E::Authentication | E::SaslAuthenticationFailed) => {
            "\"sasl.mechanism\", \"sasl.username\" and \"sasl.password\""
        }
        // OpenSSL's refusals were seen with another code, too.
        code if code == Some(E::SSL) || reason.contains(OPENSSL) => {
            "\"ssl.ca.location\" and the host names of `brokers`"
        }
        _ => return reason.to_owned(),
    };
    format!("{reason}; check {advice} in [kafka]")
}

const DAMAGED: &str = "the batch cannot be read; nothing behind it is taken, and it is fetched again and again: give the \
                       partition a leader whose copy is whole, or stop the daemons and pass over the batch with `bief \
                       offsets reset --topic T --partition N --to OFFSET`";

/// What a code means for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The offset is not there: offsets are looked at before anything is read.
    InDoubt,
    /// A batch cannot be read as it was written; librdkafka may go on behind it.
    Damaged,
    /// Only an operator can help; the text says how.
    Fatal(&'static str),
}

/// Errors that another try can't mend; all others are waited for. Refused credentials are: brokers that go down in the
/// midst of a login are told alike, and an account can be made or mended while bief waits. Shown by docs/errors.md.
const CODES: &[(RDKafkaErrorCode, Meaning)] = {
    use Meaning::{Damaged, Fatal, InDoubt};
    use RDKafkaErrorCode as E;
    const SESSION: &str =
        "set \"session.timeout.ms\" in [kafka.properties] to what the broker's group.min.session.timeout.ms allows";
    const GRANT: &str = "grant READ and DESCRIBE on the topic and READ on the group";
    &[
        (E::AutoOffsetReset, InDoubt),
        (E::OffsetOutOfRange, InDoubt),
        (E::BadMessage, Damaged),
        (E::BadCompression, Damaged),
        (E::NotImplemented, Damaged),
        (E::TopicAuthorizationFailed, Fatal(GRANT)),
        (E::GroupAuthorizationFailed, Fatal(GRANT)),
        (E::ClusterAuthorizationFailed, Fatal(GRANT)),
        (E::InvalidTopic, Fatal("correct the topic's name")),
        (E::FencedInstanceId, Fatal("give each daemon a group.instance.id of its own")),
        (E::InvalidSessionTimeout, Fatal(SESSION)),
        (E::UnsupportedFeature, Fatal("Kafka 2.4 or newer is needed")),
        (E::Fatal, Fatal("restart the daemon")),
    ]
};

/// The class of an error, with what was tried and what to do.
pub fn classify(code: RDKafkaErrorCode, what: String) -> SourceError {
    match CODES.iter().find(|(known, _)| *known == code) {
        Some((_, Meaning::InDoubt)) => SourceError::InDoubt(format!(
            "{what}: the offset in the database is not there at the broker: the topic was made anew, or retention took \
             records before they were read"
        )),
        Some((_, Meaning::Damaged)) => SourceError::Damaged(format!("{what}; {DAMAGED}")),
        Some((_, Meaning::Fatal(advice))) => SourceError::Fatal(format!("{what}; {advice}")),
        None => SourceError::Transient(what),
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
        assert_eq!(config.get("reconnect.backoff.max.ms"), Some("1000"));
        assert_eq!(config.get("compression.type"), Some("lz4"));
    }

    #[test]
    fn a_complaint_says_what_to_check_and_is_told_once() {
        let complaint = Complaint::default();
        let heard = |code| complaint.hear(&KafkaError::Global(code), "broker 1: refused");
        heard(RDKafkaErrorCode::Authentication);
        heard(RDKafkaErrorCode::AllBrokersDown);
        let told = complaint.take().unwrap();
        assert!(told.starts_with("broker 1: refused; check") && told.contains("\"sasl.password\""), "{told}");
        assert_eq!(complaint.take(), None);
        heard(RDKafkaErrorCode::SSL);
        assert!(complaint.take().unwrap().contains("\"ssl.ca.location\""));
        heard(RDKafkaErrorCode::BrokerTransportFailure);
        assert_eq!(complaint.take().unwrap(), "broker 1: refused");
        let openssl = "broker 1: error:0A000086:SSL routines::certificate verify failed";
        complaint.hear(&KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), openssl);
        assert!(complaint.take().unwrap().contains("\"ssl.ca.location\""));
    }

    #[test]
    fn the_page_shows_the_codes() {
        let page = include_str!("../../../docs/errors.md");
        for (code, meaning) in CODES {
            let class = match meaning {
                Meaning::InDoubt => "offsets in doubt".to_owned(),
                Meaning::Damaged => "damaged batch".to_owned(),
                Meaning::Fatal(advice) => format!("fatal: {advice}"),
            };
            let row = format!("| {code:?} | {class} |\n");
            assert!(page.contains(&row), "write into docs/errors.md: {row}");
        }
        let rows = page.lines().skip_while(|line| *line != "## Kafka").filter(|l| l.starts_with("| "));
        assert_eq!(rows.take_while(|line| !line.starts_with("## ")).count(), CODES.len() + 1);
    }

    #[test]
    fn refused_credentials_are_waited_for() {
        for code in [RDKafkaErrorCode::Authentication, RDKafkaErrorCode::SaslAuthenticationFailed] {
            assert!(matches!(classify(code, "topic t".into()), SourceError::Transient(_)));
        }
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
