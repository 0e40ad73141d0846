//! The configurations that ship are read without a finding, and say the same but for the servers.

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

use std::path::Path;

use bief::config::{Config, Loaded, faulty_queries, load, missing_files};

fn read(file: &str) -> Loaded {
    let password =
        |name: &str| ["BIEF_DB_PASSWORD", "BIEF_CACHE_PASSWORD"].contains(&name).then(|| "secret".to_string());
    let loaded = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file), &password);
    let loaded = loaded.unwrap_or_else(|all| panic!("{}", all.iter().map(|one| one.render(false)).collect::<String>()));
    let said: Vec<_> = loaded.warnings.iter().map(|one| one.render(false)).collect();
    assert!(said.is_empty(), "{}", said.concat());
    loaded
}

/// All that both files must say alike: streams, aggregates, forecasts and replays, without lanes and places in the file.
fn shared(config: &Config) -> Vec<String> {
    let mut said = Vec::new();
    for stream in &config.streams {
        said.push(format!("stream {} {:?}", stream.topic, stream.start));
        for table in &stream.tables {
            said.push(format!("table {} {:?} {}", table.table, table.on_conflict, table.optional));
            said.extend(table.columns.iter().map(|column| format!("{} = {:?}", column.column, column.source)));
        }
    }
    let file = |path: &Path| path.canonicalize().unwrap();
    for aggregate in &config.aggregates {
        let (source, query) = (aggregate.source().id(), file(&aggregate.query));
        said.push(format!("aggregate {} of {source} {query:?} {:?}", aggregate.name, aggregate.key));
        said.push(format!("{:?} {:?}", aggregate.every, aggregate.keep));
    }
    said.extend(config.forecasts.iter().map(|forecast| format!("{:?} {:?}", forecast.spec, forecast.train_at)));
    for replay in &config.replays {
        said.push(format!("replay {} {:?} {:?}", replay.topic, file(&replay.file), replay.key));
        said.push(format!("{:?} {:?} {}", replay.event_time, replay.times, replay.partitions));
        for lookup in &replay.lookups {
            said.push(format!("lookup {:?} {} {} {:?}", file(&lookup.file), lookup.field, lookup.key, lookup.take));
        }
    }
    said
}

#[test]
fn both_files_are_read_without_a_finding_and_map_alike() {
    let (demo, mysql) = (read("actors.toml"), read("examples/mysql/actors.toml"));
    assert_eq!(shared(&demo.config), shared(&mysql.config));
    for loaded in [&demo, &mysql] {
        assert!(missing_files(loaded).is_empty() && faulty_queries(loaded).is_empty());
    }
    assert_eq!(demo.config.aggregates.len(), 6);
}
