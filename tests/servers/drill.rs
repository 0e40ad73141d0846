//! `bief drill` as a user runs it, against the servers of the tests; and what it found.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::items::{self, flush, good, producer, send};
use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("a_drill_that_is_not_confirmed_does_nothing", not_confirmed),
        ("a_drill_drops_no_check_of_the_databases_certificate", checked_certificate),
        ("a_topic_that_is_there_is_not_taken_for_the_drills_own", somebodys_topic),
        ("a_drill_that_hit_nothing_proves_nothing", nothing_hit),
        ("a_hangup_ends_a_drill_in_order_and_lets_a_begun_restart_finish", hung_up),
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

fn checked_certificate(servers: &Servers) {
    let folder = tempfile::tempdir().unwrap();
    let config = staging(folder.path(), servers);
    let text = std::fs::read_to_string(&config).unwrap().replace("[warehouse]\n", "[warehouse]\ntls = \"verify\"\n");
    std::fs::write(&config, text).unwrap();
    let output = bief(&["drill", "--yes-this-is-staging", "-c"]).arg(&config).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("\"verify\" cannot be kept") && told.contains("nothing was done"), "{told}");
}

fn somebodys_topic(servers: &Servers) {
    let topic = unique("somebodys");
    create_topic(&servers.kafka, &topic, 1, &[]);
    let mut client = rdkafka::ClientConfig::new();
    client.set("bootstrap.servers", &servers.kafka);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(bief::adapters::kafka::own_topic::create(&client, &topic, 1)).unwrap_err();
    assert!(error.contains("could not be made"), "{error}");
}

/// No fault was asked for: the least that can be said is that nothing was tried.
fn nothing_hit(servers: &Servers) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = bief(&["drill", "--yes-this-is-staging", "--json", "--faults", "0", "-c"]);
    command.arg(staging(folder.path(), servers)).env("TMPDIR", folder.path());
    let (report, code) = json_of(&mut command);
    assert_eq!((code, &report["faults"]), (1, &0.into()), "{report:#}");
}

fn hung_up(servers: &Servers) {
    let folder = tempfile::tempdir().unwrap();
    let (began, ended) = (folder.path().join("began"), folder.path().join("ended"));
    let restart = format!("touch '{}'; sleep 2; touch '{}'", began.display(), ended.display());
    let mut command = bief(&["drill", "--yes-this-is-staging", "--json", "--kinds", "database-restart"]);
    command.arg("--database-restart").arg(restart).arg("-c").arg(staging(folder.path(), servers));
    command.env("TMPDIR", folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let drill = command.spawn().unwrap();
    let limit = Instant::now() + PATIENCE;
    while !began.exists() {
        assert!(Instant::now() < limit, "no fault began");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("sh").args(["-c", &format!("kill -s HUP {}", drill.id())]).status().unwrap().success());
    let output = drill.wait_with_output().unwrap();
    let (told, said) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(ended.exists(), "the restart was cut short: {told}");
    let report: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert!(report["message"].as_str().unwrap().contains("stopped by a signal"), "{report}");
    let left = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["began", "ended", "staging.toml"]);
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
/// were read to, which must not be one past the end: the next record would be skipped, or the offset be out of range.
fn end_after_a_rebalance(servers: &Servers) {
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let topic = unique("rebalanced");
    create_topic(&servers.kafka, &topic, 4, &[]);
    let config = items::config(folder.path(), &servers.kafka, &database.url(), &topic);
    let first = Daemon::start(&config);
    first.wait("reading", |status| partitions(status).len() == 4);
    let over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        // So slowly that each partition is at its end most of the time.
        let sending = scope.spawn(|| {
            let producer = producer(&servers.kafka, &[]);
            let (mut sent, began) = (0, Instant::now());
            while !over.load(Ordering::Relaxed) && began.elapsed() < PATIENCE {
                send(&producer, &topic, &sent.to_string(), Some(&good(sent)));
                flush(&producer);
                sent += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            sent
        });
        for _ in 0..3 {
            let second = Daemon::start(&config);
            second.wait("taking part", |status| !partitions(status).is_empty());
            second.stop();
            first.wait("taking over", |status| partitions(status).len() == 4);
        }
        over.store(true, Ordering::Relaxed);
        sending.join().unwrap()
    });
    first.wait_caught_up(sent);
    assert!(!first.log().iter().any(|line| line.contains("failed for good")), "{:#?}", first.log());
    first.stop();
    assert_clean(&config);
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 0"), sent);
}
