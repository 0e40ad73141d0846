//! Dead letters sent through again, dropped, exported, and too many of them: the ledger closes each time, whoever dies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message, OwnedMessage};
use rdkafka::{Offset, TopicPartitionList};
use sea_orm::{ConnectionTrait, Database as Orm, Statement};
use serde_json::Value;

use super::items::{self, flush, good, producer, send};
use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("letters_are_retried_dropped_and_exported_on_mysql", |s| retried(&s.kafka, Some(&s.mysql))),
        ("letters_are_retried_dropped_and_exported_on_mariadb", |s| retried(&s.kafka, Some(&s.mariadb))),
        ("letters_are_retried_dropped_and_exported_on_sqlite", |s| retried(&s.kafka, None)),
        ("of_several_letters_for_one_row_the_latest_makes_it", |s| latest_of_a_row(&s.kafka, &s.mysql)),
        ("letters_that_are_not_there_and_a_database_that_is_not_are_told", |s| not_there(&s.kafka, &s.mysql)),
        ("letters_of_a_former_log_are_listed_and_retried_on_mysql", |s| former(&s.kafka, Some(&s.mysql))),
        ("letters_of_a_former_log_are_listed_and_retried_on_sqlite", |s| former(&s.kafka, None)),
        ("a_retry_killed_midway_neither_loses_nor_doubles_on_mysql", |s| killed(&s.kafka, &s.mysql)),
        ("a_retry_killed_midway_neither_loses_nor_doubles_on_mariadb", |s| killed(&s.kafka, &s.mariadb)),
        ("letters_are_published_at_least_once_with_the_headers_of_kafka_connect", |s| published(&s.kafka, &s.mysql)),
        ("too_many_dead_letters_stop_the_stream_before_the_topic_is_drained", |s| too_many(&s.kafka, &s.mysql)),
        ("letters_are_published_as_far_as_the_topic_takes_them", |s| published_as_far_as_they_fit(&s.kafka, &s.mysql)),
        ("dead_letters_are_counted_over_restarts_of_the_pipeline", |s| too_many_over_restarts(&s.kafka, &s.mysql)),
    ]
}

fn sql(url: &str, text: &str) {
    block_on(async {
        let orm = Orm::connect(url).await.unwrap();
        orm.execute_unprepared(text).await.unwrap();
    });
}

fn number(url: &str, text: &str) -> i64 {
    block_on(async {
        let orm = Orm::connect(url).await.unwrap();
        let row = orm.query_one_raw(Statement::from_string(orm.get_database_backend(), text)).await.unwrap();
        row.unwrap().try_get_by_index::<i64>(0).unwrap()
    })
}

fn letters(config: &Path, arguments: &[&str]) -> (Value, i32) {
    json_of(bief(&["dead-letters"]).args(arguments).arg("--json").arg("-c").arg(config))
}

/// Records of a topic of their own, all read; the daemon has ended.
fn read(kafka: &str, url: &str, folder: &Path, payloads: &[Vec<u8>]) -> PathBuf {
    read_of(2, kafka, url, folder, payloads)
}

fn read_of(partitions: i32, kafka: &str, url: &str, folder: &Path, payloads: &[Vec<u8>]) -> PathBuf {
    let topic = unique("letters");
    create_topic(kafka, &topic, partitions, &[]);
    let producer = producer(kafka, &[]);
    payloads.iter().enumerate().for_each(|(id, p)| send(&producer, &topic, &id.to_string(), Some(p)));
    flush(&producer);
    let config = items::config(folder, kafka, url, &topic);
    replace_in(&config, &[("lanes =", "max_dead_letter_share = 1.0\nlanes =")]);
    let daemon = Daemon::start(&config);
    daemon.wait_caught_up(payloads.len() as i64);
    daemon.stop();
    config
}

fn orphan(id: usize) -> Vec<u8> {
    format!(r#"{{"id": {id}, "name": "letter", "parent": "zzz"}}"#).into_bytes()
}

fn retried(kafka: &str, server: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    let (_database, url) = Database::create_or_file(server, folder.path());
    // A third has no parent; two can never be read.
    let mut payloads: Vec<Vec<u8>> =
        (0..300).map(|id| if id % 3 == 0 { orphan(id) } else { good(id as i64) }).collect();
    payloads.push(b"{\"id\": ".to_vec());
    payloads.push(b"{\"id\": 1, \"name\": \"\xff\"}".to_vec());
    let config = read(kafka, &url, folder.path(), &payloads);

    let (told, code) = letters(&config, &["retry", "--all"]);
    assert_eq!((code, &told["applied"], &told["refused"]), (3, &0.into(), &102.into()), "{told}");
    assert_clean(&config);

    sql(&url, "INSERT INTO parent (code) VALUES ('zzz')");
    sql(&url, "INSERT INTO item (id, name) VALUES (0, 'newer')");
    let (told, _) = letters(&config, &["retry", "--all", "--dry-run"]);
    assert_eq!((&told["applied"], &told["duplicates"]), (&99.into(), &1.into()), "{told}");
    assert_eq!(number(&url, "SELECT COUNT(*) FROM bief_dead_letter"), 102, "a dry run changes nothing");

    // Two at once share the work.
    let retry = || {
        let mut command = bief(&["dead-letters", "retry", "--reason", "foreign_key", "--json", "-c"]);
        command.arg(&config).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = [retry(), retry()].map(|child| {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str::<Value>(said.trim())
            .unwrap_or_else(|e| panic!("{e}: {said:?} {}", String::from_utf8_lossy(&output.stderr)))
    });
    let sum = |name: &str| both.iter().map(|told| told[name].as_i64().unwrap()).sum::<i64>();
    assert_eq!((sum("applied"), sum("duplicates"), sum("refused")), (99, 1, 0), "{both:?}");
    assert_clean(&config);
    assert_eq!(number(&url, "SELECT COUNT(*) FROM item WHERE id >= 0"), 300);
    assert_eq!(number(&url, "SELECT COUNT(*) FROM item WHERE name = 'newer'"), 1, "a retry overwrites nothing");

    let to = folder.path().join("letters.jsonl");
    let exported = bief(&["dead-letters", "export", "--to"]).arg(&to).arg("-c").arg(&config).status().unwrap();
    assert!(exported.success());
    let lines = std::fs::read_to_string(&to).unwrap();
    let lines: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let is = |reason: &str| lines.iter().find(|l| l["reason"] == reason).unwrap();
    assert_eq!(is("invalid_json")["payload"], "{\"id\": ");
    assert_eq!(is("invalid_utf8")["payload_base64"], "eyJpZCI6IDEsICJuYW1lIjogIv8ifQ==");

    let unasked = bief(&["dead-letters", "drop", "--all", "-c"]).arg(&config).stdin(Stdio::null()).status().unwrap();
    assert_eq!(unasked.code(), Some(2));
    // Tried again after trouble, and after a COMMIT whose answer is lost.
    let mut command = bief(&["dead-letters", "drop", "--all", "--yes", "--json", "-c"]);
    let trouble = "drop-before-commit=2*return->off;drop-after-commit=1*return->off";
    let (told, code) = json_of(command.arg(&config).env("FAILPOINTS", trouble));
    assert_eq!((told["dropped"].as_i64(), code), (Some(2), 0), "{told}");
    assert_eq!(number(&url, "SELECT COUNT(*) FROM bief_dead_letter"), 0);
    let proof = assert_clean(&config);
    let counted = |name: &str| -> i64 {
        proof["streams"][0]["partitions"].as_array().unwrap().iter().map(|p| p[name].as_i64().unwrap()).sum()
    };
    assert_eq!((counted("applied"), counted("duplicates"), counted("dead_letters")), (299, 1, 2));
    // What was thrown away by hand is found.
    sql(&url, "DELETE FROM bief_dropped_letter");
    assert_eq!(verify(&config).1, 3);
}

/// Of several letters for one row the latest makes it, also where each retry takes one only.
fn latest_of_a_row(kafka: &str, server: &str) {
    for (overwrite, names) in [(false, ["third", "third", "third"]), (true, ["first", "second", "third"])] {
        let (database, folder) = (Database::create(server), tempfile::tempdir().unwrap());
        let payloads = ["first", "second", "third"]
            .map(|name| format!(r#"{{"id": 7, "name": "{name}", "parent": "zzz"}}"#).into_bytes());
        let config = read_of(1, kafka, &database.url(), folder.path(), &payloads);
        database.execute("INSERT INTO parent (code) VALUES ('zzz')");
        for name in names {
            let mut arguments = vec!["retry", "--all", "--limit", "1"];
            arguments.extend(overwrite.then_some("--overwrite"));
            let (told, code) = letters(&config, &arguments);
            assert_eq!(code, 0, "{told}");
            assert_eq!(
                database.count(&format!("SELECT COUNT(*) FROM item WHERE id = 7 AND name = '{name}'")),
                1,
                "{name}"
            );
        }
        assert_clean(&config);
    }
}

/// What a command line names and is not there, and a database that is away, are told to a script.
fn not_there(kafka: &str, server: &str) {
    let (database, folder) = (Database::create(server), tempfile::tempdir().unwrap());
    let config = read(kafka, &database.url(), folder.path(), &[orphan(1)]);
    let (told, code) = letters(&config, &["retry", "1", "4242"]);
    assert_eq!((code, &told["refused"], &told["unknown"]), (3, &1.into(), &serde_json::json!([4242])), "{told}");
    let (told, code) = letters(&config, &["drop", "4243", "4242", "--yes"]);
    assert_eq!((code, &told["dropped"], &told["unknown"]), (3, &0.into(), &serde_json::json!([4242, 4243])), "{told}");
    replace_in(&config, &[(&database.url(), "mysql://root@127.0.0.1:1/gone")]);
    let (told, code) = letters(&config, &["retry", "1"]);
    assert_eq!((code, &told["code"], &told["applied"]), (1, &"failed".into(), &0.into()), "{told}");
    assert!(told["message"].as_str().is_some_and(|why| why.contains("database")), "{told}");
}

fn former(kafka: &str, server: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    let (_database, url) = Database::create_or_file(server, folder.path());
    let payloads: Vec<Vec<u8>> = (0..20).map(orphan).collect();
    let config = read(kafka, &url, folder.path(), &payloads);
    // As a reset to another log leaves partition 0, ledger and all, and one that went back partition 1.
    let first = number(&url, "SELECT COUNT(*) FROM bief_dead_letter WHERE partition_id = 0");
    assert!((1..20).contains(&first));
    sql(&url, "UPDATE bief_offset SET topic = CONCAT(topic, '@1') WHERE partition_id = 0");
    sql(&url, "UPDATE bief_dead_letter SET topic = CONCAT(topic, '@1')");
    sql(&url, "INSERT INTO parent (code) VALUES ('zzz')");
    let topic = items_topic(&config);
    let listed = bief(&["dead-letters", "list", "--json", "--topic", &topic, "-c"]).arg(&config).output().unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().count(), 20);
    let (told, code) = letters(&config, &["retry", "--topic", &topic]);
    assert_eq!(
        (code, &told["applied"], &told["read_again"], &told["without_stream"]),
        (3, &first.into(), &(20 - first).into(), &0.into()),
        "{told}"
    );
    assert_eq!(number(&url, "SELECT COUNT(*) FROM item WHERE id >= 0"), first);
    let former = |column: &str| number(&url, &format!("SELECT {column} FROM bief_offset WHERE topic LIKE '%@1'"));
    assert_eq!((former("applied"), former("dead_letters")), (first, 0));
}

fn items_topic(config: &Path) -> String {
    let text = std::fs::read_to_string(config).unwrap();
    let line = text.lines().find(|l| l.starts_with("topic =")).unwrap();
    line.split('"').nth(1).unwrap().to_owned()
}

fn killed(kafka: &str, server: &str) {
    let (database, folder) = (Database::create(server), tempfile::tempdir().unwrap());
    let payloads: Vec<Vec<u8>> = (0..1_200).map(orphan).collect();
    let config = read(kafka, &database.url(), folder.path(), &payloads);
    database.execute("INSERT INTO parent (code) VALUES ('zzz')");
    let mut retry = bief(&["dead-letters", "retry", "--all", "-c"])
        .arg(&config)
        .env("FAILPOINTS", "retry-after-rows=1*off->sleep(600000)")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The first portion is in, the second's rows are written and not committed.
    let seen = || uncommitted(&database);
    wait("two portions written", || seen() == 1_000);
    retry.kill().unwrap();
    retry.wait().unwrap();
    wait("the second portion rolled back", || seen() == 500);
    assert_eq!(database.count("SELECT COUNT(*) FROM bief_dead_letter"), 700);
    assert_clean(&config);

    // The answer to the first COMMIT is lost: its letters are found to have ended, and none is written twice.
    let mut command = bief(&["dead-letters", "retry", "--all", "--json", "-c"]);
    let (told, code) = json_of(command.arg(&config).env("FAILPOINTS", "retry-after-commit=1*return->off"));
    assert_eq!((&told["applied"], &told["unanswered"], code), (&200.into(), &500.into(), 0), "{told}");
    assert_eq!(told["gone"], 0, "nobody else was at work: {told}");
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 0"), 1_200);
    let proof = assert_clean(&config);
    let partitions = proof["streams"][0]["partitions"].as_array().unwrap();
    assert_eq!(partitions.iter().map(|p| p["applied"].as_i64().unwrap()).sum::<i64>(), 1_200);
}

/// Rows as one sees them who looks at what is not committed.
fn uncommitted(database: &Database) -> i64 {
    block_on(async {
        let mut conn = mysql_async::Conn::from_url(database.url()).await.unwrap();
        conn.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED").await.unwrap();
        let count: Option<i64> = conn.query_first("SELECT COUNT(*) FROM item WHERE id >= 0").await.unwrap();
        conn.disconnect().await.unwrap();
        count.unwrap()
    })
}

fn wait(what: &str, met: impl Fn() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < PATIENCE, "not {what} in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn too_many(kafka: &str, server: &str) {
    const RECORDS: i64 = 30_000;
    let (database, folder, topic) = (Database::create(server), tempfile::tempdir().unwrap(), unique("letters"));
    create_topic(kafka, &topic, 2, &[]);
    let producer = producer(kafka, &[]);
    (0..RECORDS).for_each(|id| send(&producer, &topic, &id.to_string(), Some(b"[]")));
    flush(&producer);
    let config = items::config(folder.path(), kafka, &database.url(), &topic);
    let daemon = Daemon::start(&config);
    daemon.wait("stopped for good", |status| status["units"][0]["state"] == "failed");
    let (code, body) = daemon.get("/readyz").unwrap();
    assert_eq!(code, 503);
    assert!(body.contains("max_dead_letter_share = 0.05") && body.contains("not_an_object"), "{body}");
    let stored = database.count("SELECT COUNT(*) FROM bief_dead_letter");
    assert!(stored < 2_000, "{stored}");
    daemon.stop();
    assert_clean(&config);
    assert_eq!(database.count("SELECT COUNT(*) FROM bief_dead_letter"), stored);

    replace_in(&config, &[("lanes =", "max_dead_letter_share = 1.0\nlanes =")]);
    let daemon = Daemon::start(&config);
    daemon.wait_caught_up(RECORDS);
    daemon.stop();
    assert_clean(&config);
    assert_eq!(database.count("SELECT COUNT(*) FROM bief_dead_letter"), RECORDS);
}

/// No incarnation sees as many records as a share is judged over.
fn too_many_over_restarts(kafka: &str, server: &str) {
    let (database, folder, topic) = (Database::create(server), tempfile::tempdir().unwrap(), unique("letters"));
    create_topic(kafka, &topic, 1, &[]);
    let producer = producer(kafka, &[]);
    (0..10_000).for_each(|id| send(&producer, &topic, &id.to_string(), Some(b"[]")));
    flush(&producer);
    let config = items::config(folder.path(), kafka, &database.url(), &topic);
    replace_in(&config, &[("lanes = 2", "lanes = 1\nmax_batch_records = 300")]);
    let panics = [("FAILPOINTS", "before-write=2*off->1*panic(planted)->2*off->1*panic(planted)->off")];
    let daemon = Daemon::start_with(&config, &panics);
    daemon.wait("stopped for good", |status| status["units"][0]["state"] == "failed");
    assert!(daemon.get("/readyz").unwrap().1.contains("max_dead_letter_share = 0.05"));
    assert!(daemon.metric("bief_actor_restarts_total{actor=\"writer-0\"}").is_some_and(|restarts| restarts >= 1.0));
    daemon.stop();
    let stored = database.count("SELECT COUNT(*) FROM bief_dead_letter");
    assert!(stored < 1_000, "{stored}");
    assert_clean(&config);
}

fn published(kafka: &str, server: &str) {
    let (database, folder, topic) = (Database::create(server), tempfile::tempdir().unwrap(), unique("letters"));
    let dead = format!("{topic}.dead");
    create_topic(kafka, &topic, 2, &[]);
    create_topic(kafka, &dead, 1, &[]);
    let producer = producer(kafka, &[]);
    (0..10).for_each(|id| send(&producer, &topic, &format!("k{id}"), Some(&orphan(id))));
    flush(&producer);
    let config = items::config(folder.path(), kafka, &database.url(), &topic);
    replace_in(&config, &[("lanes =", &format!("dead_letter_topic = \"{dead}\"\nlanes ="))]);
    // The first round is sent, and the mark fails: it is sent once more.
    let daemon = Daemon::start_with(&config, &[("FAILPOINTS", "before-mark-published=1*return->off")]);
    daemon.wait_caught_up(10);
    wait("all published", || {
        database.count("SELECT COUNT(*) FROM bief_dead_letter WHERE published_at IS NOT NULL") == 10
    });
    assert_eq!(daemon.get("/readyz").unwrap().0, 200);
    daemon.stop();

    let mut found = BTreeMap::new();
    let told = all_of(kafka, &dead);
    for message in &told {
        assert_eq!(header(message, "__connect.errors.topic").unwrap(), topic);
        assert_eq!(header(message, "__connect.errors.stage").unwrap(), "TASK_PUT");
        assert_eq!(header(message, "bief.reason").unwrap(), "foreign_key");
        found.insert(text(message.key()), text(message.payload()));
    }
    let wanted: BTreeMap<String, String> =
        (0..10).map(|id| (format!("k{id}"), String::from_utf8(orphan(id)).unwrap())).collect();
    assert_eq!(found, wanted);
    assert!(told.len() > 10, "at least once: a round whose mark was lost is sent again");
}

/// All records of a topic with one partition.
fn all_of(kafka: &str, topic: &str) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", topic)
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    let (began, mut records) = (Instant::now(), Vec::new());
    loop {
        assert!(began.elapsed() < PATIENCE);
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => records.push(message.detach()),
            Some(Err(KafkaError::PartitionEOF(_))) => return records,
            _ => {}
        }
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
}

fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    message.headers().unwrap().iter().find(|h| h.key == name).map(|h| text(h.value))
}

/// What the topic takes goes whole, whatever the client would take by itself; the rest goes without what is too large.
fn published_as_far_as_they_fit(kafka: &str, server: &str) {
    let (database, folder, topic) = (Database::create(server), tempfile::tempdir().unwrap(), unique("letters"));
    let dead = format!("{topic}.dead");
    create_topic(kafka, &topic, 1, &[("max.message.bytes", "8000000")]);
    create_topic(kafka, &dead, 1, &[("max.message.bytes", "3000000")]);
    let producer = producer(kafka, &[]);
    // Numbers that no compression makes short.
    let filled = |bytes: usize| -> String {
        let mut state = 7_u64;
        let mut digits = String::with_capacity(bytes + 16);
        while digits.len() < bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            digits.push_str(&format!("{:08x}", state >> 32));
        }
        digits
    };
    let letter = |id: u32, bytes: usize| {
        format!(r#"{{"id": {id}, "name": "letter", "parent": "zzz", "rest": "{}"}}"#, filled(bytes)).into_bytes()
    };
    let (whole, large) = (letter(0, 2_000_000), letter(1, 3_800_000));
    let long_key = filled(100_000);
    send(&producer, &topic, "whole", Some(&whole));
    send(&producer, &topic, "large", Some(&large));
    send(&producer, &topic, &long_key, Some(&large));
    // More than bief takes, in the key alone: not kept.
    send(&producer, &topic, &filled(4_200_000), Some(b"{}"));
    flush(&producer);
    let config = items::config(folder.path(), kafka, &database.url(), &topic);
    replace_in(&config, &[("lanes =", &format!("dead_letter_topic = \"{dead}\"\nlanes ="))]);
    let daemon = Daemon::start(&config);
    daemon.wait_caught_up(4);
    wait("all published", || {
        database.count("SELECT COUNT(*) FROM bief_dead_letter WHERE published_at IS NOT NULL") == 4
    });
    daemon.stop();
    let reason = "SELECT COUNT(*) FROM bief_dead_letter WHERE reason = 'record_too_large' AND record_key IS NULL";
    assert_eq!(database.count(reason), 1);
    let told = all_of(kafka, &dead);
    let of = |offset: &str| {
        let found = told.iter().find(|m| header(m, "__connect.errors.offset").unwrap() == offset).unwrap();
        let omitted = ["payload", "key"].map(|part| header(found, &format!("bief.{part}.omitted.bytes")));
        (found.key().map(<[u8]>::len), found.payload().map(<[u8]>::len), omitted)
    };
    let size = |bytes: usize| Some(bytes.to_string());
    assert_eq!(of("0"), (Some(5), Some(whole.len()), [None, None]));
    assert_eq!(of("1"), (Some(5), None, [size(large.len()), None]));
    assert_eq!(of("2"), (None, None, [size(large.len()), size(long_key.len())]));
    assert_eq!(of("3"), (None, None, [None, None]));
    assert_clean(&config);
}
