//! `bief drill` as a user runs it, against the servers of the tests; and what it found.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::items::{self, flush, good, producer, send};
use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("a_drill_that_is_not_confirmed_does_nothing", not_confirmed),
        ("a_short_drill_ends_clean_and_leaves_nothing_behind", short_drill),
        ("a_record_that_comes_to_a_partitions_end_after_a_rebalance_is_not_skipped", end_after_a_rebalance),
    ]
}

/// A configuration that names servers and nothing that is there.
fn staging(folder: &Path, servers: &Servers) -> PathBuf {
    let text = format!(
        "[kafka]\nbrokers = \"{}\"\n\n[warehouse]\nurl = \"{}mysql\"\n\n[[stream]]\ntopic = \"unused\"\n\n\
         [[stream.table]]\nname = \"unused\"\ncolumns = {{ a = \"a\" }}\n",
        servers.kafka, servers.mysql
    );
    let path = folder.join("staging.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn not_confirmed(servers: &Servers) {
    let folder = tempfile::tempdir().unwrap();
    let output = bief(&["drill", "-c"]).arg(staging(folder.path(), servers)).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("--yes-this-is-staging") && told.contains("nothing was done"), "{told}");
}

fn short_drill(servers: &Servers) {
    let folder = tempfile::tempdir().unwrap();
    let config = staging(folder.path(), servers);
    let kinds = "connections-reset,commit-cut,commit-answer-cut,cut-mid-load,disk-full,daemon-kill,database-hangs";
    let arguments = ["--yes-this-is-staging", "--json", "--seed", "11", "--faults", "7", "--patience", "200"];
    let mut command = bief(&["drill", "--kinds", kinds, "-c"]);
    command.arg(&config).args(arguments).env("TMPDIR", folder.path());
    let (report, code) = json_of(&mut command);
    assert_eq!(code, 0, "{report:#}");
    for (field, wanted) in [("faults", 7), ("lost", 0), ("doubled", 0), ("stuck", 0), ("seed", 11)] {
        assert_eq!(report[field], wanted, "{field}: {report:#}");
    }
    assert_eq!((report["verify"].as_str(), report["kinds"].as_object().unwrap().len()), (Some("clean"), 7));
    assert!(report["records"].as_i64().unwrap() > 1000, "{report:#}");
    let id = report["id"].as_str().unwrap();
    let left = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["staging.toml"]);
    let database = Database::create(&servers.mysql);
    assert_eq!(
        database.count(&format!("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name LIKE '%{id}'")),
        0
    );
    let metadata = admin(&servers.kafka).inner().fetch_metadata(None, PATIENCE).unwrap();
    assert!(metadata.topics().iter().all(|topic| !topic.name().contains(id)), "the topic is there still");
}

/// Partitions that stay with a daemon while the group rebalances are paused by librdkafka and go on from where they
/// were read to, which must not be one past the end.
fn end_after_a_rebalance(servers: &Servers) {
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let topic = unique("rebalanced");
    create_topic(&servers.kafka, &topic, 4, &[]);
    let producer = producer(&servers.kafka, &[]);
    let send_some = |from: i64| {
        (from..from + 100).for_each(|id| send(&producer, &topic, &id.to_string(), Some(&good(id))));
        flush(&producer);
    };
    send_some(0);
    let config = items::config(folder.path(), &servers.kafka, &database.url(), &topic);
    let first = Daemon::start(&config);
    first.wait_caught_up(100);
    let second = Daemon::start(&config);
    second.wait("taking part", |status| !partitions(status).is_empty());
    first.wait("giving back", |status| partitions(status).len() < 4);
    send_some(100);
    let began = std::time::Instant::now();
    let all = || database.count("SELECT COALESCE(SUM(next_offset), 0) FROM bief_offset");
    while all() < 200 {
        assert!(began.elapsed() < PATIENCE, "{} of 200\n{:#?}", all(), first.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    first.stop();
    second.stop();
    assert_clean(&config);
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 0"), 200);
}
