//! What each unit was set to by the configuration, for whoever looks at it on the page: figures and names, no secret.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{plans, reconcilers};
use crate::config::{Config, Start, Stream, duration_text, size_text};
use crate::core::target::OnConflict;

/// By the unit's name, each in the order in which it is shown.
pub(super) fn of_units(config: &Config) -> BTreeMap<String, Map<String, Value>> {
    let mut all: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for stream in &config.streams {
        all.insert(stream.name.clone(), of_stream(config, stream));
        if let Some(topic) = &stream.dead_letter_topic {
            let outbox = json!({ "dead_letters_of": stream.name, "dead_letter_topic": topic });
            all.insert(super::outbox_of(&stream.name), map(outbox));
        }
    }
    for source in config.bucket_sources() {
        let of_source = config.aggregates.iter().filter(|aggregate| aggregate.source().id() == source.id());
        let every = of_source.clone().map(|aggregate| aggregate.every).min().unwrap_or_default();
        let names: Vec<&str> = of_source.map(|aggregate| aggregate.name.as_str()).collect();
        let told = json!({
            "table": source.table,
            "time": source.time,
            "bucket": source.width.to_string(),
            "aggregates": names.join(", "),
            "every": duration_text(every),
            "buckets_at_once": plans::BUCKETS_AT_ONCE,
        });
        all.insert(format!("{}{}", super::served::AGGREGATOR, source.id()), map(told));
    }
    if let Some(cache) = &config.cache
        && let Some(schedule) = &cache.reconcile
    {
        let told = json!({
            "schedule": schedule.to_string(),
            "sample": format!("{} % of the buckets", cache.reconcile_sample * 100.0),
        });
        all.insert(reconcilers::UNIT.to_owned(), map(told));
    }
    for forecast in &config.forecasts {
        let spec = &forecast.spec;
        let horizons: Vec<&str> = spec.horizons.iter().map(|horizon| horizon.text.as_str()).collect();
        let schedule = forecast.train_at.as_ref().map_or("off".to_owned(), ToString::to_string);
        let told = json!({ "aggregate": spec.aggregate, "target": spec.target, "train_at": schedule });
        all.insert(format!("trainer-{}", spec.name), map(told));
        let told = json!({
            "aggregate": spec.aggregate,
            "target": spec.target,
            "horizons": horizons.join(", "),
            "interval": spec.interval,
        });
        all.insert(format!("forecaster-{}", spec.name), map(told));
    }
    all
}

fn of_stream(config: &Config, stream: &Stream) -> Map<String, Value> {
    let table = |mapping: &crate::config::TableMapping| {
        let how = match mapping.on_conflict {
            OnConflict::Ignore => "ignore",
            OnConflict::Update => "update",
        };
        format!("{} ({how})", mapping.table)
    };
    let start = match stream.start {
        Start::Earliest => "earliest",
        Start::Latest => "latest",
    };
    map(json!({
        "topic": stream.topic,
        "group": super::group_of(config, stream),
        "start": start,
        "lanes": stream.lanes,
        "max_batch_records": stream.max_batch_records,
        "max_batch_bytes": size_text(stream.max_batch_bytes as u64),
        "max_record_bytes": size_text(stream.max_record_bytes as u64),
        "max_dead_letter_share": stream.max_dead_letter_share,
        "tables": stream.tables.iter().map(table).collect::<Vec<_>>().join(", "),
        "restart_budget": format!("{} in {}", config.daemon.restart_budget, duration_text(config.daemon.restart_window)),
    }))
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_of_the_shipped_configuration_has_its_settings() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("actors.toml");
        let config = crate::config::load(&file, &|name| Some(format!("secret-of-{name}"))).unwrap().config;
        let all = of_units(&config);
        for stream in &config.streams {
            assert_eq!(all[&stream.name]["topic"], stream.topic.as_str());
        }
        for source in config.bucket_sources() {
            let unit = &all[&format!("aggregator-{}", source.id())];
            assert_eq!(unit["table"], source.table.as_str());
            assert!(unit["every"].as_str().is_some_and(|every| !every.is_empty()));
        }
        let told = serde_json::to_string(&all).unwrap();
        assert!(!told.contains("secret-of") && !told.contains("://"), "{told}");
    }
}
