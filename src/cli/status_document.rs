//! The daemon's `/status` as commands read it, and how they write spans of time. What an older or newer daemon lacks is
//! empty; nothing here decides anything.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::table::grouped;

/// What is shown of the daemon's document; what an older or newer daemon lacks is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    pub name: String,
    pub version: String,
    /// What the rows go into, by name.
    pub database: String,
    pub started_at: Option<DateTime<Utc>>,
    pub now: Option<DateTime<Utc>>,
    pub uptime_seconds: i64,
    pub ready: bool,
    pub checks: Vec<Check>,
    pub units: Vec<Unit>,
    pub streams: Vec<Stream>,
    pub totals: Totals,
    pub aggregates: Vec<Aggregate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Aggregate {
    pub name: String,
    /// All that was committed before is in its documents.
    pub fresh_as_of: Option<DateTime<Utc>>,
    pub pending_buckets: Option<i64>,
}

impl Aggregate {
    /// Seconds that its documents are behind.
    pub fn behind(&self, now: Option<DateTime<Utc>>) -> Option<i64> {
        seconds_between(self.fresh_as_of, now)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Check {
    pub name: String,
    pub ok: bool,
    pub cause: Option<String>,
    pub since: Option<DateTime<Utc>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Unit {
    pub name: String,
    pub state: String,
    pub restarts: i64,
    pub last_error: Option<String>,
    pub since: Option<DateTime<Utc>>,
    pub next_try_at: Option<DateTime<Utc>>,
    pub actors: Vec<Actor>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Actor {
    pub name: String,
    pub state: String,
    pub restarts: i64,
    pub note: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Stream {
    pub stream: String,
    pub partitions: Vec<Partition>,
    pub totals: Totals,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Partition {
    pub partition: i64,
    pub lane: Option<i64>,
    pub start_offset: i64,
    pub next_offset: i64,
    pub end_offset: Option<i64>,
    pub lag: Option<i64>,
    #[serde(flatten)]
    pub outcomes: Outcomes,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Totals {
    pub partitions: i64,
    pub caught_up: i64,
    pub advanced: i64,
    pub lag: i64,
    pub records_per_second: f64,
    #[serde(flatten)]
    pub outcomes: Outcomes,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Outcomes {
    pub applied: i64,
    pub duplicates: i64,
    pub dead_letters: i64,
    pub gaps: i64,
    pub unaccounted: i64,
}

impl Outcomes {
    /// As columns: applied, duplicates, dead letters, gaps, unaccounted.
    pub fn cells(&self) -> [String; 5] {
        [self.applied, self.duplicates, self.dead_letters, self.gaps, self.unaccounted].map(grouped)
    }
}

pub fn seconds_between(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Option<i64> {
    Some((to? - from?).num_seconds().max(0))
}

/// The two largest units: `2 d 3 h`, `1 h 12 min`, `5 min`, `42 s`.
pub fn duration(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{} s", seconds.max(0)),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_their_two_largest_units() {
        assert_eq!([-1, 42, 300, 4354, 183_600].map(duration), ["0 s", "42 s", "5 min", "1 h 12 min", "2 d 3 h"]);
    }
}
