//! Records that can't be written: each becomes a dead letter with its reason and field, and every other its row.
//!
//! What the servers must allow for the 10 MiB record: the broker `message.max.bytes` and the topic
//! `max.message.bytes` above it. The database needs nothing: the payload of a record above `max_record_bytes` is
//! not stored, so that `max_allowed_packet` stays as it is.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, Database as Orm, Statement};

use super::items::{self, flush, good, producer, send};
use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("poison_records_become_exactly_these_dead_letters_on_mysql", |s| poison(&s.kafka, Some(&s.mysql))),
        ("poison_records_become_exactly_these_dead_letters_on_mariadb", |s| poison(&s.kafka, Some(&s.mariadb))),
        ("poison_records_become_exactly_these_dead_letters_on_sqlite", |s| poison(&s.kafka, None)),
        ("who_has_another_of_its_own_table_above_it_is_no_poison_on_mysql", |s| leaning(&s.kafka, Some(&s.mysql))),
        ("who_has_another_of_its_own_table_above_it_is_no_poison_on_mariadb", |s| leaning(&s.kafka, Some(&s.mariadb))),
        ("who_has_another_of_its_own_table_above_it_is_no_poison_on_sqlite", |s| leaning(&s.kafka, None)),
    ]
}

/// Payload, reason, field.
type Poison = (Option<Vec<u8>>, &'static str, Option<&'static str>);

fn kinds(id: i64) -> Vec<Poison> {
    let text = |text: String| Some(text.into_bytes());
    let with = |name: &str, value: &str| text(format!(r#"{{"id": {id}, "name": "x", "{name}": {value}}}"#));
    vec![
        (text(format!(r#"{{"id": {id}, "name": "#)), "invalid_json", None),
        (text("[1, 2]".to_owned()), "not_an_object", None),
        (text(r#"{"name": "no key"}"#.to_owned()), "missing_field", Some("id")),
        (text(format!(r#"{{"id": {id}, "name": null}}"#)), "null_not_allowed", Some("name")),
        (with("amount", "\"many\""), "wrong_type", Some("amount")),
        (with("amount", "40000"), "out_of_range", Some("amount")),
        (text(format!(r#"{{"id": {id}, "name": "eleven char"}}"#)), "too_long", Some("name")),
        (Some(b"{\"id\": 1, \"name\": \"\xff\"}".to_vec()), "invalid_utf8", None),
        (with("born", "\"2026-02-30T00:00:00Z\""), "invalid_time", Some("born")),
        (with("parent", "\"zzz\""), "foreign_key", Some("parent")),
        (with("amount", "{\"nested\": 1}"), "wrong_type", Some("amount")),
        (text(format!(r#"{{"id": {id}, "name": "{}"}}"#, "x".repeat(10 << 20))), "record_too_large", None),
        (None, "tombstone", None),
        (with("amount", "-1"), "check", None),
        (with("label", "\"taken\""), "unique_key", None),
    ]
}

const RECORDS: i64 = 6_000;

const STAFF: &str = "\
CREATE TABLE staff (
  id INTEGER NOT NULL,
  name VARCHAR(10) NULL,
  manager INTEGER NULL,
  PRIMARY KEY (id),
  CONSTRAINT staff_manager FOREIGN KEY (manager) REFERENCES staff (id)
);
";

/// Managers come first, with fewer fields and greater keys than who is under them.
fn leaning(kafka: &str, server: Option<&str>) {
    const MANAGERS: i64 = 100;
    let (topic, folder) = (unique("staff"), tempfile::tempdir().unwrap());
    create_topic(kafka, &topic, 1, &[]);
    let (_database, url) = Database::create_or_file(server, folder.path());
    let config = items::config(folder.path(), kafka, &url, &topic);
    std::fs::write(folder.path().join("migrations/0001_item.sql"), STAFF).unwrap();
    let columns = r#"id = "id", name = "name", amount = "amount", born = "born", parent = "parent", label = "label""#;
    replace_in(&config, &[("\"item\"", "\"staff\""), (columns, r#"id = "id", name = "name", manager = "manager""#)]);
    let producer = producer(kafka, &[]);
    for manager in 0..MANAGERS {
        let (id, above) = (10_000 + manager, 10_000 + manager / 2);
        let text =
            if manager < 2 { format!(r#"{{"id": {id}}}"#) } else { format!(r#"{{"id": {id}, "manager": {above}}}"#) };
        send(&producer, &topic, "", Some(text.as_bytes()));
    }
    for id in 0..RECORDS {
        let text = format!(r#"{{"id": {id}, "name": "n{id}", "manager": {}}}"#, 10_000 + id % MANAGERS);
        send(&producer, &topic, "", Some(text.as_bytes()));
    }
    // Nobody is above this one.
    send(&producer, &topic, "", Some(br#"{"id": -1, "manager": 1000000}"#));
    flush(&producer);
    let daemon = Daemon::start(&config);
    daemon.wait_caught_up(MANAGERS + RECORDS + 1);
    let status = daemon.status();
    let (applied, letters) = (&partitions(&status)[0]["applied"], &partitions(&status)[0]["dead_letters"]);
    assert_eq!((applied.as_i64(), letters.as_i64()), (Some(MANAGERS + RECORDS), Some(1)), "{status:#}");
    daemon.stop();
    assert_clean(&config);
}

fn poison(kafka: &str, server: Option<&str>) {
    let (topic, folder) = (unique("poison"), tempfile::tempdir().unwrap());
    create_topic(kafka, &topic, 2, &[("max.message.bytes", "16000000")]);
    let (_database, url) = Database::create_or_file(server, folder.path());
    let config = items::config(folder.path(), kafka, &url, &topic);
    let producer = producer(kafka, &[]);
    let mut wanted: BTreeMap<(String, Option<String>), i64> = BTreeMap::new();
    let mut ids = Vec::new();
    let mut letters = 0;
    for id in 0..RECORDS {
        if id % 100 == 50 {
            let all = kinds(id);
            let (payload, reason, field) = &all[(id / 100) as usize % all.len()];
            send(&producer, &topic, &id.to_string(), payload.as_deref());
            *wanted.entry(((*reason).to_owned(), field.map(str::to_owned))).or_default() += 1;
            letters += 1;
        } else {
            send(&producer, &topic, &id.to_string(), Some(&good(id)));
            ids.push(id);
        }
    }
    flush(&producer);
    let daemon = Daemon::start(&config);
    daemon.wait_caught_up(RECORDS);
    daemon.stop();
    let proof = assert_clean(&config);
    let counted: i64 =
        proof["streams"][0]["partitions"].as_array().unwrap().iter().map(|p| p["dead_letters"].as_i64().unwrap()).sum();
    assert_eq!(counted, letters);
    let listed = bief(&["dead-letters", "list", "--json", "--limit", "1000", "-c"]).arg(&config).output().unwrap();
    let mut found: BTreeMap<(String, Option<String>), i64> = BTreeMap::new();
    for line in String::from_utf8(listed.stdout).unwrap().lines() {
        let letter: serde_json::Value = serde_json::from_str(line).unwrap();
        let reason = letter["reason"].as_str().unwrap().to_owned();
        assert!(!letter["message"].as_str().unwrap().is_empty());
        if reason == "record_too_large" || reason == "tombstone" {
            assert!(letter["payload"].is_null());
        } else {
            assert!(letter["payload"].is_string(), "{letter}");
        }
        // Which column of a CHECK or a unique index is meant is the server's to say.
        let field = letter["field"].as_str().filter(|_| reason != "check" && reason != "unique_key");
        *found.entry((reason, field.map(str::to_owned))).or_default() += 1;
    }
    assert_eq!(found, wanted);
    assert_eq!(rows(&url), ids);
}

/// Ids of the rows that were written, ascending.
fn rows(url: &str) -> Vec<i64> {
    block_on(async {
        let orm = Orm::connect(url).await.unwrap();
        let sql = Statement::from_string(orm.get_database_backend(), "SELECT id FROM item WHERE id >= 0 ORDER BY id");
        let rows = orm.query_all_raw(sql).await.unwrap();
        rows.iter().map(|row| i64::from(row.try_get::<i32>("", "id").unwrap())).collect()
    })
}
