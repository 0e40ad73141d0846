//! Every kind of name that a configuration may give a table or a column is one for MySQL and MariaDB too: words of the
//! language, dollar signs, the longest. `tests/security/identifiers.rs` holds what is refused.

use super::items::{flush, good, producer, send};
use super::support::*;

const RECORDS: i64 = 100;

/// A table, its key and another column of it.
fn names() -> Vec<[String; 3]> {
    let longest = "a".repeat(64);
    [
        ["select", "order", "group"],
        ["KEY", "Values", "REPLACE"],
        ["$", "$1", "a$"],
        ["_", "__", "A_1$"],
        [&longest, &longest.to_uppercase().replace('A', "B"), &longest],
    ]
    .map(|names| names.map(str::to_owned))
    .into()
}

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("every_accepted_name_is_written_to_on_mysql", |s| names_are_written_to(s, &s.mysql)),
        ("every_accepted_name_is_written_to_on_mariadb", |s| names_are_written_to(s, &s.mariadb)),
    ]
}

fn names_are_written_to(servers: &Servers, server: &str) {
    let topic = unique("names");
    create_topic(&servers.kafka, &topic, 1, &[]);
    let producer = producer(&servers.kafka, &[]);
    (0..RECORDS).for_each(|id| send(&producer, &topic, &id.to_string(), Some(&good(id))));
    flush(&producer);
    for (load, on_conflict) in [("auto", "ignore"), ("insert", "update")] {
        let (database, folder) = (Database::create(server), tempfile::tempdir().unwrap());
        let mut text = format!(
            "[daemon]\nhttp = \"127.0.0.1:0\"\n[kafka]\nbrokers = \"{}\"\ngroup = \"{topic}-{load}\"\n\
             [warehouse]\nurl = \"{}\"\nload = \"{load}\"\n[[stream]]\ntopic = \"{topic}\"\nlanes = 1\n",
            servers.kafka,
            database.url()
        );
        for [table, key, other] in names() {
            database.execute(&format!(
                "CREATE TABLE `{table}` (`{key}` INT NOT NULL PRIMARY KEY, `{other}` VARCHAR(10) NOT NULL)"
            ));
            text += &format!(
                "[[stream.table]]\nname = \"{table}\"\non_conflict = \"{on_conflict}\"\n\
                 columns = {{ \"{key}\" = \"id\", \"{other}\" = \"name\" }}\n"
            );
        }
        let config = folder.path().join("actors.toml");
        std::fs::write(&config, text).unwrap();
        let daemon = Daemon::start(&config);
        daemon.wait_caught_up(RECORDS);
        daemon.stop();
        for [table, key, other] in names() {
            let rows = format!("SELECT COUNT(*) FROM `{table}` WHERE `{other}` = CONCAT('item ', `{key}`)");
            assert_eq!(database.count(&rows), RECORDS, "{table} by {load}");
        }
        assert_clean(&config);
    }
}
