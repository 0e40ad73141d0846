//! What the HTTP side is given of the configuration and of the units, and the ways to open what it asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::letters::open_letter_changes;
use crate::adapters::cache::open_cache;
use crate::adapters::warehouse;
use crate::config::{Backend, Config};
use crate::core::doubt;
use crate::http::{Check, Sources};
use crate::messages::{Board, Freshness};
use crate::runtime::{UnitState, UnitStatus};

/// With what the names of aggregators' units begin; no stream's does.
pub(super) const AGGREGATOR: &str = "aggregator-";

/// What is opened on the HTTP side's own thread.
pub(super) fn sources(config: &Arc<Config>, board: &Board) -> Sources {
    Sources {
        cache: config.cache.as_ref().map(|cache| open_cache(&cache.url)),
        letters: warehouse::open_letter_reader(&config.warehouse),
        rows: warehouse::open_row_reader(&config.warehouse),
        changes: open_letter_changes(config, board),
        models: warehouse::open_models(&config.warehouse),
    }
}

/// That streams feed, each once.
pub(super) fn tables(config: &Config) -> Vec<String> {
    let mut tables: Vec<String> = Vec::new();
    for mapping in config.streams.iter().flat_map(|stream| &stream.tables) {
        if !tables.iter().any(|known| known.eq_ignore_ascii_case(&mapping.table)) {
            tables.push(mapping.table.clone());
        }
    }
    tables
}

/// Units as the status tells them: as they stand, with what they were set to.
pub(super) fn units(standing: &[UnitStatus], settings: &BTreeMap<String, Map<String, Value>>) -> Value {
    let unit = |unit: &UnitStatus| {
        let mut told = serde_json::to_value(unit).unwrap_or_default();
        if let (Value::Object(fields), Some(settings)) = (&mut told, settings.get(&unit.name)) {
            fields.insert("settings".to_owned(), Value::Object(settings.clone()));
        }
        told
    };
    standing.iter().map(unit).collect()
}

/// Of each stream.
pub(super) fn lanes(config: &Config) -> BTreeMap<String, usize> {
    config.streams.iter().map(|stream| (stream.name.clone(), stream.lanes)).collect()
}

/// What the writers wait for, by name.
pub(super) fn database(config: &Config) -> &'static str {
    match config.warehouse.backend() {
        Backend::MySql => "MySQL",
        Backend::Sqlite => "SQLite",
    }
}

/// A stream is ready when its pipeline runs, has not failed again and again, and no actor of it waits for something; an
/// aggregator when it is not kept from refreshing what waits.
pub(super) fn checks(units: &[UnitStatus], board: &Board, freshness: &Freshness) -> Vec<Check> {
    let streams = board.snapshot();
    let is_stream = |unit: &&UnitStatus| streams.iter().any(|s| s.stream == unit.name);
    let is_aggregator = |unit: &&UnitStatus| unit.name.starts_with(AGGREGATOR) && !is_stream(unit);
    let aggregators = units.iter().filter(is_aggregator).map(|unit| {
        let trouble = freshness.trouble(&unit.name).map(|trouble| (trouble.cause, trouble.since));
        check(unit.name.clone(), unit, trouble.or_else(|| not_well(unit)))
    });
    let checks = units
        .iter()
        // An outbox that waits for Kafka delays nothing.
        .filter(is_stream)
        .map(|unit| {
            let stream = streams.iter().find(|s| s.stream == unit.name);
            let in_doubt = stream
                .filter(|s| !s.in_doubt.is_empty())
                .map(|s| (doubt::describe(&s.topic, &s.in_doubt), s.in_doubt_since.unwrap_or(unit.since)));
            let running = matches!(unit.state, UnitState::Running);
            let trouble = stream.and_then(|s| s.troubles.first()).filter(|_| running);
            let trouble = trouble.map(|trouble| (trouble.cause.clone(), trouble.since));
            check(format!("stream {}", unit.name), unit, in_doubt.or(trouble).or_else(|| not_well(unit)))
        });
    checks.chain(aggregators).collect()
}

fn check(name: String, unit: &UnitStatus, trouble: Option<(String, DateTime<Utc>)>) -> Check {
    let (cause, since) = trouble.map_or((None, unit.since), |(cause, since)| (Some(cause), since));
    Check { name, ok: cause.is_none(), cause, since: Some(since) }
}

/// Why a unit is not well by its own standing, and since when.
fn not_well(unit: &UnitStatus) -> Option<(String, DateTime<Utc>)> {
    let since = unit.failing_since.unwrap_or(unit.since);
    let error = || unit.last_error.clone().unwrap_or_else(|| not_running(&unit.state).to_owned());
    match unit.state {
        UnitState::Running if unit.failing_since.is_none() => None,
        UnitState::Running => {
            Some((format!("it failed again and again, and has not run for a minute since: {}", error()), since))
        }
        _ => Some((error(), since)),
    }
}

fn not_running(state: &UnitState) -> &'static str {
    match state {
        UnitState::Starting => "starting",
        UnitState::Running => "running",
        UnitState::BackingOff { .. } => "failed; waiting before it is built again",
        UnitState::Draining => "draining",
        UnitState::Stopped => "stopped",
        UnitState::Failed => "stopped for good",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_again_and_again_is_not_ready_between_two_tries_and_says_since_when() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let unit = |state, failing_since| UnitStatus {
            name: "orders".to_owned(),
            state,
            generation: 7,
            restarts: 6,
            last_error: Some("poll: the batch is damaged".to_owned()),
            since: at(1000),
            failing_since,
            actors: Vec::new(),
        };
        assert_eq!(not_well(&unit(UnitState::Running, None)), None);
        let waiting = || UnitState::BackingOff { attempt: 6, next_try_at: at(1010) };
        for state in [UnitState::Running, UnitState::Starting, waiting(), UnitState::Failed] {
            let (cause, since) = not_well(&unit(state, Some(at(100)))).unwrap();
            assert!(cause.ends_with("poll: the batch is damaged") && since == at(100), "{cause} {since}");
        }
        let fresh = UnitStatus { last_error: None, ..unit(UnitState::Starting, None) };
        assert_eq!(not_well(&fresh), Some(("starting".to_owned(), at(1000))));
    }
}
