//! What the HTTP side is given of the configuration and of the units, and the ways to open what it asks.

use std::collections::BTreeMap;
use std::sync::Arc;

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

/// A stream is ready when its pipeline runs and no actor of it waits for something; an aggregator when it is not kept from
/// refreshing what waits.
pub(super) fn checks(units: &[UnitStatus], board: &Board, freshness: &Freshness) -> Vec<Check> {
    let streams = board.snapshot();
    let is_stream = |unit: &&UnitStatus| streams.iter().any(|s| s.stream == unit.name);
    let is_aggregator = |unit: &&UnitStatus| unit.name.starts_with(AGGREGATOR) && !is_stream(unit);
    let aggregators = units.iter().filter(is_aggregator).map(|unit| {
        let (cause, since) = match (&unit.state, freshness.trouble(&unit.name)) {
            (UnitState::Running, None) => (None, unit.since),
            (_, Some(trouble)) => (Some(trouble.cause), trouble.since),
            (state, None) => {
                (Some(unit.last_error.clone().unwrap_or_else(|| not_running(state).to_owned())), unit.since)
            }
        };
        Check { name: unit.name.clone(), ok: cause.is_none(), cause, since: Some(since) }
    });
    let checks = units
        .iter()
        // An outbox that waits for Kafka delays nothing.
        .filter(is_stream)
        .map(|unit| {
            let stream = streams.iter().find(|s| s.stream == unit.name);
            let trouble = stream.and_then(|s| s.troubles.first().cloned());
            let in_doubt = stream.filter(|s| !s.in_doubt.is_empty());
            let running = matches!(unit.state, UnitState::Running);
            let (cause, since) = match (running, trouble) {
                _ if let Some(stream) = in_doubt => {
                    let cause = doubt::describe(&stream.topic, &stream.in_doubt);
                    (Some(cause), stream.in_doubt_since.unwrap_or(unit.since))
                }
                (true, None) => (None, unit.since),
                (true, Some(trouble)) => (Some(trouble.cause), trouble.since),
                (false, _) => {
                    let cause = unit.last_error.clone().unwrap_or_else(|| not_running(&unit.state).to_owned());
                    (Some(cause), unit.since)
                }
            };
            Check { name: format!("stream {}", unit.name), ok: cause.is_none(), cause, since: Some(since) }
        });
    checks.chain(aggregators).collect()
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
