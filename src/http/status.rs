//! `/api/v1/status`, and `/status` for short: all that the page and `bief status` show, as one JSON document. Fields are added, never renamed.
//! Holds no secret: causes and errors come redacted.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::pipeline::{Flow, Now};
use super::{Check, Shared};
use crate::core::doubt::Doubt;
use crate::messages::{AggregateFreshness, PartitionStatus, Trouble};

/// The whole document.
#[derive(Debug, Serialize)]
struct StatusDocument {
    name: String,
    version: &'static str,
    revision: &'static str,
    /// What the rows go into, by name.
    database: &'static str,
    started_at: DateTime<Utc>,
    now: DateTime<Utc>,
    uptime_seconds: i64,
    ready: bool,
    checks: Vec<Check>,
    units: serde_json::Value,
    streams: Vec<StreamDocument>,
    totals: Totals,
    aggregates: Vec<AggregateDocument>,
    memory: MemoryDocument,
}

#[derive(Debug, Serialize)]
struct AggregateDocument {
    name: String,
    #[serde(flatten)]
    fresh: AggregateFreshness,
}

/// What records on their way may take, and take.
#[derive(Debug, Serialize)]
struct MemoryDocument {
    budget_bytes: u64,
    used_bytes: u64,
}

#[derive(Debug, Serialize)]
struct StreamDocument {
    stream: String,
    topic: String,
    partitions: Vec<PartitionDocument>,
    totals: Totals,
    /// Fields that no mapping reads, with how many records had them.
    unknown_fields: BTreeMap<String, u64>,
    /// Partitions of which nothing is consumed until an operator decides.
    in_doubt: Vec<Doubt>,
    /// Actors that wait for something to come back.
    troubles: Vec<Trouble>,
    #[serde(flatten)]
    flow: Flow,
}

#[derive(Debug, Serialize)]
struct PartitionDocument {
    #[serde(flatten)]
    status: PartitionStatus,
    /// Offsets to the broker's end; null until that is known.
    lag: Option<i64>,
    advanced: i64,
    unaccounted: i64,
}

/// Sums; advanced = applied + duplicates + dead_letters + gaps, or `unaccounted` is not 0.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
struct Totals {
    partitions: usize,
    caught_up: usize,
    advanced: i64,
    applied: i64,
    duplicates: i64,
    dead_letters: i64,
    gaps: i64,
    /// Absolute values summed, so that partitions cannot cancel each other out.
    unaccounted: i64,
    lag: i64,
    /// Records with an outcome committed, over the last seconds.
    records_per_second: f64,
}

impl Totals {
    fn add_partition(&mut self, p: &PartitionDocument) {
        self.partitions += 1;
        self.caught_up += usize::from(p.status.caught_up);
        self.advanced += p.advanced;
        self.applied += p.status.counts.applied;
        self.duplicates += p.status.counts.duplicates;
        self.dead_letters += p.status.counts.dead_letters;
        self.gaps += p.status.counts.gaps;
        self.unaccounted += p.unaccounted.abs();
        self.lag += p.lag.unwrap_or(0);
    }

    fn add(&mut self, other: &Totals) {
        self.partitions += other.partitions;
        self.caught_up += other.caught_up;
        self.advanced += other.advanced;
        self.applied += other.applied;
        self.duplicates += other.duplicates;
        self.dead_letters += other.dead_letters;
        self.gaps += other.gaps;
        self.unaccounted += other.unaccounted;
        self.lag += other.lag;
        self.records_per_second += other.records_per_second;
    }
}

impl From<PartitionStatus> for PartitionDocument {
    fn from(status: PartitionStatus) -> Self {
        Self {
            lag: status.lag(),
            advanced: status.next_offset - status.start_offset,
            unaccounted: status.unaccounted(),
            status,
        }
    }
}

pub(super) async fn status(shared: web::Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(document(&shared))
}

/// The document as it is now, in JSON without a line break.
pub(super) fn document(shared: &Shared) -> String {
    let daemon = &shared.state.daemon;
    let now = Utc::now();
    let checks = shared.checks();
    let units = (shared.state.units)();
    let mut totals = Totals::default();
    let streams = shared
        .state
        .board
        .snapshot()
        .into_iter()
        .map(|status| {
            let partitions: Vec<PartitionDocument> = status.partitions.into_iter().map(Into::into).collect();
            let mut of_stream =
                Totals { records_per_second: shared.rates.per_second(&status.stream), ..Totals::default() };
            partitions.iter().for_each(|p| of_stream.add_partition(p));
            totals.add(&of_stream);
            let lanes = shared.state.lanes.get(&status.stream).copied().unwrap_or(1);
            let (metrics, database) = (&shared.state.metrics, shared.state.database);
            let standing =
                Now { lag: of_stream.lag, troubles: &status.troubles, stopped: stopped(&units, &status.stream) };
            let flow = shared.pipeline.flow(&status.stream, metrics, lanes, database, &standing);
            StreamDocument {
                stream: status.stream,
                topic: status.topic,
                partitions,
                totals: of_stream,
                unknown_fields: status.unknown_fields,
                in_doubt: status.in_doubt,
                troubles: status.troubles,
                flow,
            }
        })
        .collect();
    let (budget_bytes, used_bytes) = shared.state.metrics.memory();
    let aggregates = shared.state.aggregates.iter().map(|aggregate| AggregateDocument {
        name: aggregate.name.clone(),
        fresh: shared.state.freshness.of(&aggregate.name),
    });
    let document = StatusDocument {
        name: daemon.name.clone(),
        version: daemon.version,
        revision: daemon.revision,
        database: shared.state.database,
        started_at: daemon.started_at,
        now,
        uptime_seconds: (now - daemon.started_at).num_seconds().max(0),
        ready: checks.iter().all(|c| c.ok),
        checks,
        units,
        streams,
        totals,
        aggregates: aggregates.collect(),
        memory: MemoryDocument { budget_bytes, used_bytes },
    };
    // Only maps with keys that are not text can fail, and there are none.
    serde_json::to_string(&document).unwrap_or_else(|_| "{}".to_owned())
}

/// Why the unit of this name does not run; `None` where it does, or is not known yet.
fn stopped(units: &serde_json::Value, name: &str) -> Option<String> {
    let unit = units.as_array()?.iter().find(|unit| unit["name"] == name)?;
    let state = unit["state"].as_str().filter(|state| *state != "running")?.replace('_', " ");
    Some(match unit["last_error"].as_str() {
        Some(error) => format!("{state}: {error}"),
        None => state,
    })
}
