//! The daemon killed, doubled, panicking, drained: the rows are the same each time, and the ledger proves it.

use std::time::{Duration, Instant};

use super::items::{self, flush, good, producer, send};
use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("killed_at_20_random_moments_the_rows_are_whole", killed_at_random_moments),
        ("two_daemons_share_a_group_one_is_killed_a_third_takes_over", two_daemons_and_a_third),
        ("a_panic_in_any_stage_is_survived_and_counted", panics_are_survived),
        ("a_commit_whose_answer_is_lost_is_neither_lost_nor_doubled", lost_commit_answer),
        ("the_latest_start_leaves_out_what_was_there_also_for_a_second_daemon", only_what_came_later),
        ("a_session_that_the_broker_refuses_stops_the_stream_and_says_what_to_set", session_that_the_broker_refuses),
        ("a_record_that_is_skipped_is_found_by_verify", skipped_record_is_found),
        ("sigterm_drains_and_the_next_start_goes_on", sigterm_drains),
        ("a_second_signal_stops_at_once", second_signal_stops_at_once),
    ]
}

/// A repeatable sequence of numbers below a bound (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn killed_at_random_moments(servers: &Servers) {
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let config = shipped_config(folder.path(), &servers.kafka, &database.url(), &whole_data_set(&servers.kafka), 2);
    // Smaller batches: the load lasts for all kills, and more of them meet a commit.
    replace_in(&config, &[("lanes = 2", "lanes = 2\nmax_batch_records = 1500")]);
    let mut dice = Dice(0xb1ef);
    for kill in 0..20 {
        let daemon = Daemon::start(&config);
        // Once it writes, so that each kill meets work; the moment within is drawn.
        let written = || -> i64 { database.count("SELECT COALESCE(SUM(next_offset), 0) FROM bief_offset") };
        daemon.wait("claimed", |status| partitions(status).len() >= 8);
        let before = written();
        let began = Instant::now();
        while written() == before && began.elapsed() < Duration::from_secs(60) && before < FLIGHTS + WEATHER {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(dice.below(300)));
        daemon.kill();
        assert!(kill < 5 || written() > 0);
    }
    let daemon = Daemon::start(&config);
    daemon.wait_caught_up(FLIGHTS + WEATHER);
    daemon.stop();
    assert_clean(&config);
    assert_whole_row_set(&database);
}

fn two_daemons_and_a_third(servers: &Servers) {
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let config = shipped_config(folder.path(), &servers.kafka, &database.url(), &whole_data_set(&servers.kafka), 1);
    let first = Daemon::start(&config);
    first.wait("writing", |status| partitions(status).iter().any(|p| p["applied"].as_i64() > Some(0)));
    let second = Daemon::start(&config);
    second.wait("taking part", |status| !partitions(status).is_empty());
    first.kill();
    let third = Daemon::start(&config);
    let began = Instant::now();
    let all = || database.count("SELECT COALESCE(SUM(next_offset), 0) FROM bief_offset");
    while all() < FLIGHTS + WEATHER {
        assert!(began.elapsed() < PATIENCE, "{} of all offsets\n{:#}", all(), second.status());
        std::thread::sleep(Duration::from_millis(50));
    }
    second.stop();
    third.stop();
    assert_clean(&config);
    assert_whole_row_set(&database);
}

/// Items 0 to `records` in a topic of their own, and a configuration for them.
fn some_items(servers: &Servers, database: &Database, folder: &std::path::Path, records: i64) -> std::path::PathBuf {
    let topic = unique("items");
    create_topic(&servers.kafka, &topic, 2, &[]);
    let producer = producer(&servers.kafka, &[]);
    (0..records).for_each(|id| send(&producer, &topic, &id.to_string(), Some(&good(id))));
    flush(&producer);
    let config = items::config(folder, &servers.kafka, &database.url(), &topic);
    replace_in(&config, &[("lanes = 2", "lanes = 2\nmax_batch_records = 100")]);
    config
}

fn panics_are_survived(servers: &Servers) {
    let stages = [
        "before-decode",
        "before-write",
        "after-begin",
        "after-advance",
        "after-rows",
        "before-commit",
        "after-commit",
    ];
    for stage in stages {
        let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
        let config = some_items(servers, &database, folder.path(), 2_000);
        let daemon = Daemon::start_with(&config, &[("FAILPOINTS", &format!("{stage}=3*off->1*panic(planted)->off"))]);
        daemon.wait_caught_up(2_000);
        let actor = if stage == "before-decode" { "decoder" } else { "writer" };
        let restarts: f64 = (0..2)
            .filter_map(|lane| daemon.metric(&format!("bief_actor_restarts_total{{actor=\"{actor}-{lane}\"}}")))
            .sum();
        assert_eq!(restarts, 1.0, "{stage}");
        let told = daemon.log().iter().filter(|line| line.contains("planted") && line.contains("ERROR")).count();
        assert_eq!(told, 1, "{stage}: {:#?}", daemon.log());
        daemon.stop();
        assert_clean(&config);
        assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 0"), 2_000, "{stage}");
    }
}

fn lost_commit_answer(servers: &Servers) {
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let config = some_items(servers, &database, folder.path(), 2_000);
    let daemon = Daemon::start_with(&config, &[("FAILPOINTS", "after-commit=3*off->1*return->off")]);
    daemon.wait_caught_up(2_000);
    let stream = daemon.status()["streams"][0]["stream"].as_str().unwrap().to_owned();
    let fenced = daemon.metric(&format!("bief_fenced_commits_total{{stream=\"{stream}\"}}"));
    assert_eq!(fenced, Some(0.0), "its own commit is no other daemon's");
    assert_eq!(daemon.metric(&format!("bief_commits_found_total{{stream=\"{stream}\"}}")), Some(1.0));
    let status = daemon.status();
    let total: i64 = partitions(&status).iter().map(|p| p["applied"].as_i64().unwrap()).sum();
    assert_eq!(total, 2_000, "a batch that was committed is applied once");
    daemon.stop();
    assert_clean(&config);
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 0"), 2_000);
}

/// Two daemons are given one partition each, one after the other.
fn only_what_came_later(servers: &Servers) {
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let config = some_items(servers, &database, folder.path(), 100);
    replace_in(&config, &[("lanes = 2", "start = \"latest\"\nlanes = 2")]);
    let daemons = [Daemon::start(&config), Daemon::start(&config)];
    for daemon in &daemons {
        daemon.wait("given its partition", |status| {
            partitions(status).len() == 1 && partitions(status)[0]["caught_up"] == true
        });
    }
    let topic = daemons[0].status()["streams"][0]["topic"].as_str().unwrap().to_owned();
    let producer = producer(&servers.kafka, &[]);
    (100..200).for_each(|id| send(&producer, &topic, &id.to_string(), Some(&good(id))));
    flush(&producer);
    daemons[0].wait("written", |_| database.count("SELECT COUNT(*) FROM item WHERE id >= 100") == 100);
    daemons.into_iter().for_each(Daemon::stop);
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id BETWEEN 0 AND 99"), 0);
    assert_clean(&config);
}

fn session_that_the_broker_refuses(servers: &Servers) {
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let config = some_items(servers, &database, folder.path(), 1);
    let properties =
        "[kafka.properties]\n\"session.timeout.ms\" = \"1000\"\n\"heartbeat.interval.ms\" = \"300\"\n\n[warehouse]";
    replace_in(&config, &[("[warehouse]", properties)]);
    let daemon = Daemon::start(&config);
    daemon.wait("stopped for good", |status| status["units"][0]["state"] == "failed");
    let (code, body) = daemon.get("/readyz").unwrap();
    assert!(code == 503 && body.contains("group.min.session.timeout.ms"), "{code} {body}");
    daemon.stop();
}

fn skipped_record_is_found(servers: &Servers) {
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let config = some_items(servers, &database, folder.path(), 500);
    let daemon = Daemon::start_with(&config, &[("FAILPOINTS", "skip-record=100*off->1*return->off")]);
    daemon.wait_caught_up(499);
    daemon.stop();
    let (proof, code) = verify(&config);
    assert_eq!(code, 3, "{proof:#}");
    assert_eq!(proof["verify"], "1 finding");
    let findings: Vec<_> = proof["streams"][0]["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|p| p["findings"].as_array().unwrap())
        .map(|f| (f["kind"].as_str().unwrap(), f["off_by"].as_i64().unwrap()))
        .collect();
    assert_eq!(findings, [("lost", 1)]);
}

fn sigterm_drains(servers: &Servers) {
    let (database, folder) = (Database::create(&servers.mariadb), tempfile::tempdir().unwrap());
    let config = shipped_config(folder.path(), &servers.kafka, &database.url(), &whole_data_set(&servers.kafka), 2);
    let mut daemon = Daemon::start(&config);
    daemon.wait("writing", |status| partitions(status).iter().any(|p| p["applied"].as_i64() > Some(0)));
    let began = Instant::now();
    daemon.signal("-TERM");
    let status = daemon.wait_end(Duration::from_secs(15));
    assert_eq!(status.code(), Some(0), "{:#?}", daemon.log());
    assert!(began.elapsed() < Duration::from_secs(11), "{:?}", began.elapsed());
    // Nothing half-written: each counted flight is a row, and the ledger closes.
    assert_clean(&config);
    let daemon = Daemon::start(&config);
    daemon.wait_caught_up(FLIGHTS + WEATHER);
    daemon.stop();
    assert_clean(&config);
    assert_whole_row_set(&database);
}

fn second_signal_stops_at_once(servers: &Servers) {
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let config = some_items(servers, &database, folder.path(), 500);
    let mut daemon = Daemon::start_with(&config, &[("FAILPOINTS", "before-commit=sleep(60000)")]);
    daemon.wait("polling", |status| !partitions(status).is_empty());
    daemon.signal("-TERM");
    let draining = |daemon: &Daemon| daemon.log().iter().any(|line| line.contains("draining"));
    let began = Instant::now();
    while !draining(&daemon) && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    daemon.signal("-TERM");
    let status = daemon.wait_end(Duration::from_secs(3));
    assert_eq!(status.code(), Some(143));
    assert_eq!(database.count("SELECT COUNT(*) FROM item WHERE id >= 0"), 0);
}
