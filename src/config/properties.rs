//! `[kafka.properties]`: what is handed to librdkafka, and what is refused because bief's promises rest on it.
//! No value of it is ever shown, since any may be a secret.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::print::{Line, Origin};
use super::reader::{Reader, Section, Span, Value, toml_text};
use super::schema::PROPERTIES;
use super::source::{MASK, is_reference, quoted};
use super::unknown::nearest;
use super::{Brokers, Secret};

const OFFSETS: &str = "offsets are kept in the warehouse, in the transaction that writes the rows";
const MEMORY: &str = "bief derives it from `memory` in [daemon], the one ceiling of what records may take";
const ASSIGNMENT: &str = "bief hands partitions over by the classic protocol with its own bookkeeping at each step";
const TRANSACTIONS: &str = "bief writes to Kafka in `replay` only, which needs no transactions";
const LOGS: &str = "bief takes librdkafka's log lines into its own log";

/// Properties that bief sets itself, each with the reason and what to write instead.
const OWNED: &[(&str, &str, &str)] = &[
    ("bootstrap.servers", "bief sets it", "write `brokers` in [kafka]"),
    ("metadata.broker.list", "bief sets it", "write `brokers` in [kafka]"),
    ("group.id", "each stream has a group of its own", "write `group` in [kafka], the start of their names"),
    ("auto.offset.reset", OFFSETS, "write `start` in [[stream]] for partitions that the warehouse does not know"),
    ("statistics.interval.ms", "bief learns from them whether a broker answers", ""),
    ("enable.auto.commit", OFFSETS, ""),
    ("auto.commit.enable", OFFSETS, ""),
    ("auto.commit.interval.ms", OFFSETS, ""),
    ("enable.auto.offset.store", OFFSETS, ""),
    ("offset.store.method", OFFSETS, ""),
    ("offset.store.path", OFFSETS, ""),
    ("offset.store.sync.interval.ms", OFFSETS, ""),
    ("isolation.level", "records of aborted transactions must not reach the tables; bief reads committed ones", ""),
    ("enable.partition.eof", "bief tells by it that a partition is caught up", ""),
    ("queued.max.messages.kbytes", MEMORY, "write `memory` in [daemon]"),
    ("queued.min.messages", MEMORY, "write `memory` in [daemon]"),
    ("fetch.max.bytes", MEMORY, "write `memory` in [daemon]"),
    ("fetch.message.max.bytes", MEMORY, "write `memory` in [daemon], or `max_record_bytes` in [[stream]]"),
    ("max.partition.fetch.bytes", MEMORY, "write `memory` in [daemon], or `max_record_bytes` in [[stream]]"),
    ("receive.message.max.bytes", MEMORY, "write `memory` in [daemon]"),
    ("partition.assignment.strategy", ASSIGNMENT, ""),
    ("group.protocol", ASSIGNMENT, ""),
    ("group.protocol.type", ASSIGNMENT, ""),
    ("group.remote.assignor", ASSIGNMENT, ""),
    ("max.poll.interval.ms", "bief polls without a pause, also while the database is down", ""),
    ("allow.auto.create.topics", "a mistyped topic would come into being instead of being told", ""),
    ("transactional.id", TRANSACTIONS, ""),
    ("transaction.timeout.ms", TRANSACTIONS, ""),
    ("plugin.library.paths", "bief loads no foreign code", ""),
    ("interceptors", "bief loads no foreign code", ""),
    ("builtin.features", "it tells what librdkafka was built with", ""),
    ("enabled_events", LOGS, ""),
    ("log.queue", LOGS, ""),
    ("log_level", LOGS, "set the log level of bief"),
];

/// Every other property of librdkafka 2.12 that can be given as a text.
#[rustfmt::skip]
const KNOWN: &[&str] = &[
    "acks", "api.version.fallback.ms", "api.version.request", "api.version.request.timeout.ms", "batch.num.messages",
    "batch.size", "broker.address.family", "broker.address.ttl", "broker.version.fallback", "check.crcs",
    "client.dns.lookup", "client.id", "client.rack", "compression.codec", "compression.level", "compression.type",
    "connections.max.idle.ms", "consume.callback.max.messages", "coordinator.query.interval.ms", "debug",
    "delivery.report.only.error", "delivery.timeout.ms", "enable.gapless.guarantee", "enable.idempotence",
    "enable.metrics.push", "enable.random.seed", "enable.sasl.oauthbearer.unsecure.jwt",
    "enable.ssl.certificate.verification", "fetch.error.backoff.ms", "fetch.min.bytes", "fetch.queue.backoff.ms",
    "fetch.wait.max.ms", "group.instance.id", "heartbeat.interval.ms", "https.ca.location", "https.ca.pem",
    "internal.termination.signal", "linger.ms", "log.connection.close", "log.thread.name", "max.in.flight",
    "max.in.flight.requests.per.connection", "message.copy.max.bytes", "message.max.bytes",
    "message.send.max.retries", "message.timeout.ms", "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms", "metadata.recovery.strategy", "partitioner",
    "produce.offset.report", "queue.buffering.backpressure.threshold", "queue.buffering.max.kbytes",
    "queue.buffering.max.messages", "queue.buffering.max.ms", "queuing.strategy", "reconnect.backoff.jitter.ms",
    "reconnect.backoff.max.ms", "reconnect.backoff.ms", "request.required.acks", "request.timeout.ms", "retries",
    "retry.backoff.max.ms", "retry.backoff.ms", "sasl.kerberos.keytab", "sasl.kerberos.kinit.cmd",
    "sasl.kerberos.min.time.before.relogin", "sasl.kerberos.principal", "sasl.kerberos.service.name",
    "sasl.mechanism", "sasl.mechanisms", "sasl.oauthbearer.assertion.algorithm",
    "sasl.oauthbearer.assertion.claim.aud", "sasl.oauthbearer.assertion.claim.exp.seconds",
    "sasl.oauthbearer.assertion.claim.iss", "sasl.oauthbearer.assertion.claim.jti.include",
    "sasl.oauthbearer.assertion.claim.nbf.seconds", "sasl.oauthbearer.assertion.claim.sub",
    "sasl.oauthbearer.assertion.file", "sasl.oauthbearer.assertion.jwt.template.file",
    "sasl.oauthbearer.assertion.private.key.file", "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem", "sasl.oauthbearer.client.credentials.client.id",
    "sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret", "sasl.oauthbearer.config", "sasl.oauthbearer.extensions",
    "sasl.oauthbearer.grant.type", "sasl.oauthbearer.metadata.authentication.type", "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope", "sasl.oauthbearer.token.endpoint.url", "sasl.password", "sasl.username",
    "security.protocol", "session.timeout.ms", "socket.blocking.max.ms", "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable", "socket.max.fails", "socket.nagle.disable", "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes", "socket.timeout.ms", "ssl.ca.certificate.stores", "ssl.ca.location", "ssl.ca.pem",
    "ssl.certificate.location", "ssl.certificate.pem", "ssl.cipher.suites", "ssl.crl.location", "ssl.curves.list",
    "ssl.endpoint.identification.algorithm", "ssl.engine.id", "ssl.engine.location", "ssl.key.location",
    "ssl.key.password", "ssl.key.pem", "ssl.keystore.location", "ssl.keystore.password", "ssl.providers",
    "ssl.sigalgs.list", "sticky.partitioning.linger.ms", "topic.blacklist",
    "topic.metadata.propagation.max.ms", "topic.metadata.refresh.fast.cnt",
    "topic.metadata.refresh.fast.interval.ms", "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse",
];

/// Names that other Kafka clients use for the same thing.
const FOREIGN: &[(&str, &str)] = &[
    ("sasl.jaas.config", "write \"sasl.username\" and \"sasl.password\": librdkafka knows no JAAS"),
    ("ssl.truststore.location", "write \"ssl.ca.location\" with a PEM file: librdkafka reads no Java key stores"),
    ("ssl.truststore.password", "write \"ssl.ca.location\" with a PEM file, which needs no password"),
    ("max.poll.records", "write `max_batch_records` in [[stream]]"),
    ("fetch.max.wait.ms", "write \"fetch.wait.max.ms\""),
];

const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// The start of the names of what has no effect, since this build of librdkafka lacks what it is for.
const NOT_BUILT_IN: [(&str, &str); 3] =
    [("sasl.kerberos.", "Kerberos"), ("sasl.oauthbearer.", "OAUTHBEARER"), ("enable.sasl.oauthbearer.", "OAUTHBEARER")];

/// The start of some property's name.
pub(super) fn is_prefix(name: &str) -> bool {
    let starts = |known: &str| known == name || known.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    KNOWN.iter().any(|known| starts(known)) || OWNED.iter().any(|(known, ..)| starts(known))
}

struct Property {
    name: String,
    value: String,
    span: Span,
    key_span: Span,
}

/// Reads `[kafka.properties]`, in which names may be quoted or dotted.
pub(super) fn read(r: &mut Reader<'_>, kafka: &Section<'_>, brokers: &Brokers) -> BTreeMap<String, Secret> {
    let Some(section) = r.section(kafka, &PROPERTIES) else { return BTreeMap::new() };
    let mut properties = Vec::new();
    for (key, value) in section.entries() {
        collect(r, key.get_ref(), &key.span(), value, &mut properties);
    }
    for property in &properties {
        check_name(r, property);
        check_value(r, property);
    }
    check_security(r, &properties, brokers);
    check_trust(r, &properties);
    properties.into_iter().map(|p| (p.name, Secret::new(p.value))).collect()
}

/// Takes a value, or those of the table that a dotted name makes of it.
fn collect(r: &mut Reader<'_>, name: &str, key_span: &Span, value: &Value<'_>, out: &mut Vec<Property>) {
    let span = value.span();
    let (text, shown, origin) = match value.get_ref() {
        DeValue::Table(table) => {
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_by_key(|(key, _)| key.span().start);
            for (key, value) in entries {
                collect(r, &format!("{name}.{}", key.get_ref()), &key.span(), value, out);
            }
            return;
        }
        DeValue::String(raw) => {
            let Some(text) = r.text_of(&quoted(name), value, true, &mut |_, _| {}) else { return };
            let (shown, origin) =
                if is_reference(raw) { (raw.to_string(), text.origin()) } else { (MASK.to_owned(), Origin::Hidden) };
            (text.value, shown, origin)
        }
        other => {
            r.hide(value);
            let text = match other {
                DeValue::Boolean(b) => b.to_string(),
                DeValue::Integer(n) => match i64::from_str_radix(n.as_str(), n.radix()) {
                    Ok(number) => number.to_string(),
                    Err(_) => n.as_str().to_owned(),
                },
                DeValue::Float(n) => n.as_str().to_owned(),
                other => {
                    r.error(
                        &span,
                        format!(
                            "{} must be a text, a number or a boolean, not {}",
                            quoted(name),
                            super::values::described(other, true)
                        ),
                        "write the value as librdkafka's CONFIGURATION.md has it, lists with commas: \"a,b\"",
                    );
                    return;
                }
            };
            (text, MASK.to_owned(), Origin::Hidden)
        }
    };
    r.understood.push(Line::Entry { key: name.to_owned(), value: toml_text(&shown), origin });
    out.push(Property { name: name.to_owned(), value: text, span, key_span: key_span.clone() });
}

fn check_name(r: &mut Reader<'_>, property: &Property) {
    let name = property.name.as_str();
    let shown = quoted(name);
    if let Some((_, reason, help)) = OWNED.iter().find(|(owned, ..)| *owned == name) {
        let help = if help.is_empty() { "remove it" } else { help };
        r.error(&property.key_span, format!("{shown} is not yours to set: {reason}"), help);
    } else if let Some((_, help)) = FOREIGN.iter().find(|(foreign, _)| *foreign == name) {
        r.error(&property.key_span, format!("librdkafka has no property {shown}"), *help);
    } else if !KNOWN.contains(&name) {
        let help = match nearest(&name.replace('_', "."), KNOWN.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "see librdkafka's CONFIGURATION.md for the names it knows".into(),
        };
        r.error(&property.key_span, format!("librdkafka has no property {shown}"), help);
    } else if let Some((_, what)) = NOT_BUILT_IN.iter().find(|(start, _)| name.starts_with(start)) {
        r.error(
            &property.key_span,
            format!("{shown} has no effect: this build has no {what}"),
            format!("use one of the mechanisms {}", MECHANISMS.join(", ")),
        );
    }
}

fn check_value(r: &mut Reader<'_>, property: &Property) {
    let (allowed, fits): (&[&str], _) = match property.name.as_str() {
        "security.protocol" => (&PROTOCOLS, PROTOCOLS.contains(&property.value.to_ascii_lowercase().as_str())),
        "sasl.mechanism" | "sasl.mechanisms" => (&MECHANISMS, MECHANISMS.contains(&property.value.as_str())),
        _ => return,
    };
    if !fits {
        let list: Vec<String> = allowed.iter().map(|word| format!("\"{word}\"")).collect();
        r.error(
            &property.span,
            format!("\"{}\" has a value that this build of librdkafka does not know", property.name),
            format!("write one of {}", list.join(", ")),
        );
    }
}

/// Credentials and certificates that the protocol would not use.
fn check_security(r: &mut Reader<'_>, properties: &[Property], brokers: &Brokers) {
    let protocol = properties.iter().find(|p| p.name == "security.protocol");
    let value = protocol.map_or("plaintext".to_owned(), |p| p.value.to_ascii_lowercase());
    if let Some(protocol) = protocol
        && *brokers == Brokers::Embedded
        && value != "plaintext"
    {
        r.error(
            &protocol.span,
            "the embedded broker speaks plaintext only",
            "remove \"security.protocol\", or name real brokers in `brokers`",
        );
        return;
    }
    for (prefix, protocols, what) in [
        ("sasl.", ["sasl_plaintext", "sasl_ssl"], "credentials would not be sent"),
        ("ssl.", ["ssl", "sasl_ssl"], "the connection would not be encrypted"),
    ] {
        let first = properties.iter().find(|p| p.name.starts_with(prefix));
        if let Some(first) = first
            && PROTOCOLS.contains(&value.as_str())
            && !protocols.contains(&value.as_str())
        {
            let how = if protocol.is_some() { "another \"security.protocol\"" } else { "no \"security.protocol\"" };
            r.warning(
                &first.key_span,
                format!("\"{}\" beside {how}: {what}", first.name),
                format!("write \"security.protocol\" = \"{}\"", protocols[1]),
            );
        }
    }
}

/// What lets somebody else be the broker, or hear the password.
fn check_trust(r: &mut Reader<'_>, properties: &[Property]) {
    let value = |name: &str| properties.iter().find(|p| p.name == name);
    let is_one_of = |p: &&Property, words: &[&str]| words.iter().any(|word| p.value.eq_ignore_ascii_case(word));
    if let Some(off) = value("enable.ssl.certificate.verification").filter(|p| is_one_of(p, &["false", "f", "0"])) {
        r.warning(
            &off.key_span,
            "the broker's certificate is not checked: whoever stands between can read the password and all records, and \
             write records",
            "remove it, and name the authority that signed the certificate in \"ssl.ca.location\"",
        );
    }
    if let Some(off) = value("ssl.endpoint.identification.algorithm").filter(|p| is_one_of(p, &["none"])) {
        r.warning(
            &off.key_span,
            "the name in the broker's certificate is not checked: whoever has any certificate of that authority can be \
             the broker",
            "remove it, and name the brokers as their certificates do",
        );
    }
    let mechanism = value("sasl.mechanism").or(value("sasl.mechanisms"));
    if let Some(protocol) = value("security.protocol").filter(|p| is_one_of(p, &["sasl_plaintext"]))
        && mechanism.is_some_and(|p| is_one_of(&p, &["PLAIN"]))
    {
        r.warning(
            &protocol.span,
            "the log-in to Kafka goes over the network in the clear",
            "write \"security.protocol\" = \"sasl_ssl\", or a mechanism that sends no password, such as SCRAM-SHA-512",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_property_is_both_owned_and_known() {
        for (owned, ..) in OWNED {
            assert!(!KNOWN.contains(owned), "{owned}");
        }
        assert!(KNOWN.is_sorted());
        assert!(is_prefix("sasl") && is_prefix("group") && !is_prefix("sas"));
    }
}
