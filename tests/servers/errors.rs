//! Errors that bief's table does not know, from real servers: neither retried for ever nor taken for a row's fault
//! lightly.

use serde_json::Value;

use super::items::{self, flush, good, producer, send};
use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("a_lone_row_that_is_refused_with_an_unknown_code_becomes_a_dead_letter_on_mysql", |s| lone(s, &s.mysql)),
        ("a_lone_row_that_is_refused_with_an_unknown_code_becomes_a_dead_letter_on_mariadb", |s| lone(s, &s.mariadb)),
        ("a_batch_that_is_refused_as_a_whole_with_an_unknown_code_stops_the_stream", whole_batch),
    ]
}

/// A code and SQLSTATE that say nothing.
fn refuse(database: &Database, condition: &str) {
    database.execute(&format!(
        "CREATE TRIGGER odd BEFORE INSERT ON item FOR EACH ROW BEGIN IF {condition} THEN \
         SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 9999, MESSAGE_TEXT = 'odd'; END IF; END"
    ));
}

fn started(servers: &Servers, server: &str) -> (String, tempfile::TempDir, Database, std::path::PathBuf, Daemon) {
    let (topic, folder) = (unique("errors"), tempfile::tempdir().unwrap());
    create_topic(&servers.kafka, &topic, 1, &[]);
    let database = Database::create(server);
    let config = items::config(folder.path(), &servers.kafka, &database.url(), &topic);
    let daemon = Daemon::start(&config);
    daemon.wait("reading", |status| partitions(status).len() == 1);
    (topic, folder, database, config, daemon)
}

fn send_items(servers: &Servers, topic: &str, ids: std::ops::Range<i64>) {
    let producer = producer(&servers.kafka, &[]);
    ids.for_each(|id| send(&producer, topic, &id.to_string(), Some(&good(id))));
    flush(&producer);
}

fn lone(servers: &Servers, server: &str) {
    let (topic, _folder, database, config, daemon) = started(servers, server);
    refuse(&database, "NEW.id = 7");
    send_items(servers, &topic, 7..8);
    // The group may take the partition back for a while.
    let letters = |status: &Value, count: i64| partitions(status).iter().any(|p| p["dead_letters"] == count);
    // First it is taken for an outage.
    daemon.wait("waiting", |status| status["checks"].to_string().contains("odd") && letters(status, 0));
    daemon.wait("given up", |status| letters(status, 1));
    send_items(servers, &topic, 100..150);
    daemon.wait_caught_up(51);
    assert!(daemon.get("/readyz").is_some_and(|(status, _)| status == 200));
    daemon.stop();
    assert_clean(&config);
    assert_eq!(database.count("SELECT COUNT(*) FROM bief_dead_letter WHERE reason = 'refused'"), 1);
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 0"), 50);
}

fn whole_batch(servers: &Servers) {
    let (topic, _folder, database, config, daemon) = started(servers, &servers.mysql);
    refuse(&database, "NEW.id >= 0");
    daemon.stop();
    // Into one batch.
    send_items(servers, &topic, 0..40);
    replace_in(&config, &[("[daemon]", "[daemon]\non_fatal = \"exit\"")]);
    let mut daemon = Daemon::start(&config);
    let status = daemon.wait_end(PATIENCE);
    assert_eq!(status.code(), Some(4), "{:#?}", daemon.log());
    assert!(daemon.log().iter().any(|line| line.contains("rows of a batch were refused")), "{:#?}", daemon.log());
    assert_eq!(database.count("SELECT COUNT(*) FROM bief_dead_letter"), 0);
    // Once it is mended all of it is written.
    database.execute("DROP TRIGGER odd");
    let daemon = Daemon::start(&config);
    daemon.wait_caught_up(40);
    daemon.stop();
    assert_clean(&config);
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 0"), 40);
}
