//! A small domain of the tests' own: items that point at a parent no record carries.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::support::*;

const TABLES: &str = "\
CREATE TABLE parent (code VARCHAR(3) NOT NULL, PRIMARY KEY (code));
INSERT INTO parent (code) VALUES ('aaa'), ('bbb');
CREATE TABLE item (
  id INTEGER NOT NULL,
  name VARCHAR(10) NOT NULL,
  amount SMALLINT NULL,
  born DATETIME(6) NULL,
  parent VARCHAR(3) NULL,
  label VARCHAR(20) NULL,
  PRIMARY KEY (id),
  CONSTRAINT item_parent FOREIGN KEY (parent) REFERENCES parent (code),
  CONSTRAINT item_label UNIQUE (label),
  CONSTRAINT item_amount CHECK (amount >= 0)
);
INSERT INTO item (id, name, label) VALUES (-1, 'first', 'taken');
";

/// A configuration for items of `topic`; `database` is a mysql:// or sqlite:// URL.
pub fn config(folder: &Path, kafka: &str, database: &str, topic: &str) -> PathBuf {
    let migrations = folder.join("migrations");
    std::fs::create_dir_all(&migrations).unwrap();
    std::fs::write(migrations.join("0001_item.sql"), TABLES).unwrap();
    let text = format!(
        r#"
[daemon]
http = "127.0.0.1:0"

[kafka]
brokers = "{kafka}"
group = "{topic}"

[warehouse]
url = "{database}"
migrations = "migrations"

[[stream]]
topic = "{topic}"
lanes = {lanes}

[[stream.table]]
name = "item"
on_conflict = "update"
columns = {{ id = "id", name = "name", amount = "amount", born = "born", parent = "parent", label = "label" }}
"#,
        lanes = if database.starts_with("sqlite") { 1 } else { 2 },
    );
    let path = folder.join("actors.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// A record that is fine.
pub fn good(id: i64) -> Vec<u8> {
    let parent = if id % 2 == 0 { "aaa" } else { "bbb" };
    format!(
        r#"{{"id": {id}, "name": "item {id}", "amount": {}, "born": "2026-01-31T23:59:59.5Z", "parent": "{parent}"}}"#,
        id % 1000
    )
    .into_bytes()
}

pub fn producer(kafka: &str, settings: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka).set("message.max.bytes", "16000000").set("linger.ms", "5");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create().unwrap()
}

/// Sends one record, waiting for room.
pub fn send(producer: &BaseProducer, topic: &str, key: &str, payload: Option<&[u8]>) {
    loop {
        let record = BaseRecord::<str, [u8]>::to(topic).key(key);
        let record = match payload {
            Some(payload) => record.payload(payload),
            None => record,
        };
        match producer.send(record) {
            Ok(()) => return,
            Err((error, _)) if error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull) => {
                producer.poll(Duration::from_millis(20));
            }
            Err((error, _)) => panic!("{error}"),
        }
    }
}

pub fn flush(producer: &BaseProducer) {
    producer.flush(PATIENCE).unwrap();
}
