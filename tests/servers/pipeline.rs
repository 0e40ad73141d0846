//! The main job on real servers: every record once, as rows that an independent script computed.

use std::time::Instant;

use super::items;
use super::support::*;

pub fn tests() -> Vec<(&'static str, super::Test)> {
    vec![
        ("all_records_become_the_rows_of_the_csv_files_on_mysql", |s| whole_load(&s.kafka, &s.mysql)),
        ("all_records_become_the_rows_of_the_csv_files_on_mariadb", |s| whole_load(&s.kafka, &s.mariadb)),
        ("a_stream_that_moves_is_proved", |s| proved_on_its_way(&s.kafka, &s.mysql)),
        ("a_dry_run_shows_rows_and_keeps_nothing", dry_run_keeps_nothing),
        ("a_dry_run_sets_large_records_aside", dry_run_sets_large_records_aside),
        ("check_connect_names_what_does_not_fit_the_real_tables", check_connect_names_misfits),
    ]
}

fn whole_load(kafka: &str, server: &str) {
    let (database, folder) = (Database::create(server), tempfile::tempdir().unwrap());
    let config = shipped_config(folder.path(), kafka, &database.url(), &whole_data_set(kafka), 2);
    let daemon = Daemon::start(&config);
    daemon.wait_caught_up(FLIGHTS + WEATHER);
    assert_eq!(daemon.get("/readyz").unwrap().0, 200);
    let (status, _) = daemon.get("/livez").unwrap();
    assert_eq!(status, 200);
    for partition in partitions(&daemon.status()) {
        assert_eq!(partition["unaccounted"], 0, "{partition}");
    }
    daemon.stop();
    assert_clean(&config);
    assert_whole_row_set(&database);
    assert_eq!(database.count("SELECT COUNT(*) FROM bief_dead_letter"), 0);
    // A row that is there twice in another form is found by the row set.
    database.execute(
        "INSERT INTO flight SELECT scheduled_departure + INTERVAL 1 MICROSECOND, carrier, number, origin, destination, \
         tail_number, actual_departure, dep_delay, sched_arr_time, arr_time, arr_delay, air_time, distance, ingested_at \
         FROM flight LIMIT 1",
    );
    let differing: Vec<String> = differing_tables(&database).into_iter().map(|(table, _)| table).collect();
    assert_eq!(differing, ["flight"]);
}

fn proved_on_its_way(kafka: &str, server: &str) {
    let (database, folder) = (Database::create(server), tempfile::tempdir().unwrap());
    let config = shipped_config(folder.path(), kafka, &database.url(), &whole_data_set(kafka), 2);
    let daemon = Daemon::start(&config);
    let read_to = |proof: &serde_json::Value| -> i64 {
        let streams = proof["streams"].as_array().unwrap().iter();
        let partitions = streams.flat_map(|s| s["partitions"].as_array().unwrap());
        partitions.map(|p| p["next_offset"].as_i64().unwrap_or(0)).sum()
    };
    daemon.wait("begun", |status| partitions(status).iter().any(|p| p["next_offset"].as_i64() > Some(0)));
    let first = read_to(&assert_clean(&config));
    assert!(first < FLIGHTS + WEATHER, "it is to move meanwhile: {first}");
    let began = Instant::now();
    // On a busy machine a proof may be quicker than a batch.
    while read_to(&assert_clean(&config)) == first {
        assert!(began.elapsed() < PATIENCE, "it does not move from {first}: {:#?}", daemon.log());
    }
    daemon.stop();
}

fn dry_run_keeps_nothing(servers: &Servers) {
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let config = shipped_config(folder.path(), &servers.kafka, &database.url(), &whole_data_set(&servers.kafka), 2);
    let early = bief(&["run", "--dry-run", "3", "-c"]).arg(&config).output().unwrap();
    assert_eq!(early.status.code(), Some(1));
    assert_eq!(database.rows("SHOW TABLES").len(), 0, "a dry run makes no tables");
    make_tables(&config);
    let output = bief(&["run", "--dry-run", "3", "-c"]).arg(&config).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("-> flight: ") && text.contains("-> weather: "), "{text}");
    assert!(text.contains("would be: 3 applied, 0 duplicates, 0 dead letters"), "{text}");
    for table in ["flight", "carrier", "bief_offset", "bief_dead_letter"] {
        assert_eq!(database.count(&format!("SELECT COUNT(*) FROM {table}")), 0, "{table}");
    }
}

/// As the daemon would, which never decodes such a record.
fn dry_run_sets_large_records_aside(servers: &Servers) {
    let (topic, database, folder) = (unique("large"), Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    create_topic(&servers.kafka, &topic, 1, &[]);
    let producer = items::producer(&servers.kafka, &[]);
    let large = format!(r#"{{"id": 2, "name": "large", "else": "{}"}}"#, "x".repeat(2000));
    items::send(&producer, &topic, "1", Some(&items::good(1)));
    items::send(&producer, &topic, "2", Some(large.as_bytes()));
    items::flush(&producer);
    let config = items::config(folder.path(), &servers.kafka, &database.url(), &topic);
    replace_in(&config, &[("lanes =", "max_record_bytes = \"1KiB\"\nlanes =")]);
    make_tables(&config);
    let output = bief(&["run", "--dry-run", "5", "-c"]).arg(&config).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("-> dead letter: record_too_large"), "{text}");
    assert!(text.contains("would be: 1 applied, 0 duplicates, 1 dead letters"), "{text}");
}

/// A daemon whose topic is not there makes the tables and reads nothing.
fn make_tables(config: &std::path::Path) {
    let text = std::fs::read_to_string(config).unwrap();
    let elsewhere = config.with_file_name("elsewhere.toml");
    std::fs::write(&elsewhere, text.replace("topic = \"", "topic = \"no_such_")).unwrap();
    let daemon = Daemon::start(&elsewhere);
    daemon.wait("waiting for its topics", |status| {
        let named = |unit: &&serde_json::Value| unit["name"].as_str().is_some_and(|name| name.starts_with("no_such_"));
        let streams: Vec<_> = status["units"].as_array().unwrap().iter().filter(named).collect();
        let told = |u: &&serde_json::Value| u["last_error"].as_str().is_some_and(|e| e.contains("is not there yet"));
        !streams.is_empty() && streams.iter().all(told)
    });
    daemon.stop();
}

fn check_connect_names_misfits(servers: &Servers) {
    let (database, folder) = (Database::create(&servers.mysql), tempfile::tempdir().unwrap());
    let config = shipped_config(folder.path(), &servers.kafka, &database.url(), &whole_data_set(&servers.kafka), 2);
    make_tables(&config);
    let sound = bief(&["check", "--connect", "-c"]).arg(&config).output().unwrap();
    assert_eq!(sound.status.code(), Some(0), "{}", String::from_utf8_lossy(&sound.stderr));
    replace_in(&config, &[("dep_delay = \"dep_delay\"", "dep_dellay = \"dep_delay\"")]);
    let found = bief(&["check", "--connect", "-c"]).arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&found.stderr);
    assert_eq!(found.status.code(), Some(3), "{said}");
    assert!(said.contains("no column `dep_dellay`") && said.contains("write `dep_delay`"), "{said}");
}
