//! What `bief top` shows, made of looks at the daemon: counters become shares and rates over the looks that are kept. A
//! restart of the daemon begins them anew.

use std::collections::VecDeque;
use std::time::Instant;

use serde::Serialize;

use super::figures::Figures;
use crate::cli::status_document::{Aggregate, Check, Status, Stream, Unit, duration, seconds_between};
use crate::cli::table::grouped;
use crate::core::bottleneck::{self, Flow, Over};

/// Looks that shares and rates are taken over, beside the newest.
const LOOKS_KEPT: usize = 10;

/// One look at a daemon.
#[derive(Debug)]
pub struct Look {
    pub at: Instant,
    pub status: Status,
    /// Empty where the daemon tells no metrics.
    pub figures: Figures,
}

/// The latest looks, oldest first.
#[derive(Debug, Default)]
pub struct Looks(VecDeque<Look>);

/// All that is shown.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Standing {
    pub name: String,
    pub version: String,
    pub uptime_seconds: i64,
    pub ready: bool,
    /// What is not ready, and why.
    pub troubles: Vec<String>,
    /// In one sentence.
    pub bottleneck: String,
    /// Over which shares and rates are taken; 0 for a first look.
    pub window_seconds: f64,
    pub records_per_second: f64,
    pub lag: i64,
    pub unaccounted: i64,
    pub aggregates: Vec<AggregateLine>,
    pub memory: Memory,
    /// Processors in use; `None` where it is not known.
    pub cpus: Option<f64>,
    pub actors: Vec<ActorLine>,
    pub partitions: Vec<PartitionLine>,
}

#[derive(Debug, Default, Clone, Serialize)]
pub struct Memory {
    /// Bytes that batches take, and may take.
    pub used: Option<u64>,
    pub budget: Option<u64>,
    /// Of the whole process.
    pub resident: Option<u64>,
}

/// How fresh the documents of an aggregate are; `None` while that is not known.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct AggregateLine {
    pub name: String,
    pub behind_seconds: Option<i64>,
    pub pending_buckets: Option<i64>,
}

/// A unit, or an actor of it.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct ActorLine {
    pub unit: String,
    /// `None` for the unit itself.
    pub actor: Option<String>,
    pub state: String,
    pub restarts: i64,
    /// Of the queue above it, averaged over lanes, 0 to 1.
    pub queue: Option<f64>,
    /// Share of the time in which it waited for the one below it (a writer: for the database), averaged over lanes.
    pub waited: Option<f64>,
    pub records_per_second: Option<f64>,
    pub note: String,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct PartitionLine {
    pub stream: String,
    pub partition: i64,
    pub lane: Option<i64>,
    pub lag: Option<i64>,
    pub next_offset: i64,
    pub end_offset: Option<i64>,
    pub applied: i64,
    pub duplicates: i64,
    pub dead_letters: i64,
    pub gaps: i64,
    pub unaccounted: i64,
}

impl Standing {
    /// How fresh the aggregates' documents are, by the one that is furthest behind, in one sentence.
    pub fn freshness(&self) -> Option<String> {
        let behind = |line: &&AggregateLine| (line.behind_seconds.is_none(), line.behind_seconds, line.pending_buckets);
        let last = self.aggregates.iter().max_by_key(behind)?;
        let of = match self.aggregates.len() {
            1 => format!("aggregate {}", last.name),
            count => format!("oldest of {} aggregates: {}", grouped(count as i64), last.name),
        };
        let Some(seconds) = last.behind_seconds else {
            return Some(format!("{of}, how fresh is not known yet"));
        };
        let waiting = match last.pending_buckets {
            None | Some(0) => String::new(),
            Some(1) => "; 1 bucket waits".to_owned(),
            Some(count) => format!("; {} buckets wait", grouped(count)),
        };
        Some(format!("{of}, as of {} ago{waiting}", duration(seconds)))
    }
}

impl Looks {
    pub fn add(&mut self, look: Look) {
        if self.0.back().is_some_and(|last| last.status.started_at != look.status.started_at) {
            self.0.clear();
        }
        self.0.push_back(look);
        while self.0.len() > LOOKS_KEPT + 1 {
            self.0.pop_front();
        }
    }

    /// As of the newest look.
    pub fn standing(&self) -> Standing {
        let Some(newest) = self.0.back() else { return Standing::default() };
        let Status { totals, .. } = &newest.status;
        let flows: Vec<Flow> = newest.status.streams.iter().map(|stream| self.flow(newest, stream)).collect();
        let bytes = |name: &str| newest.figures.get(name, &[]).map(|value| value as u64);
        let window = self.window();
        let time = format!("the last {}", duration(window.round() as i64));
        let database = match newest.status.database.as_str() {
            "" => "the database",
            name => name,
        };
        let told = |c: &Check| format!("{}: {}", c.name, c.cause.as_deref().unwrap_or("fails"));
        Standing {
            name: newest.status.name.clone(),
            version: newest.status.version.clone(),
            uptime_seconds: newest.status.uptime_seconds,
            ready: newest.status.ready,
            troubles: newest.status.checks.iter().filter(|c| !c.ok).map(told).collect(),
            bottleneck: bottleneck::sentence(&flows, Over { time: &time, database }),
            window_seconds: window,
            records_per_second: totals.records_per_second,
            lag: totals.lag,
            unaccounted: totals.outcomes.unaccounted,
            aggregates: newest.status.aggregates.iter().map(|of| aggregate(of, newest)).collect(),
            memory: Memory {
                used: bytes("bief_memory_used_bytes"),
                budget: bytes("bief_memory_budget_bytes"),
                resident: bytes("process_resident_memory_bytes"),
            },
            cpus: self.per_second("process_cpu_seconds_total", &[]),
            actors: newest.status.units.iter().flat_map(|unit| self.actors(newest, unit, &flows)).collect(),
            partitions: newest.status.streams.iter().flat_map(partitions).collect(),
        }
    }

    fn flow(&self, newest: &Look, stream: &Stream) -> Flow {
        let name = stream.stream.as_str();
        let unit = newest.status.units.iter().find(|unit| unit.name == name);
        let lanes = unit.map_or(0, |u| u.actors.iter().filter(|a| a.name.starts_with("writer-")).count()).max(1) as f64;
        let waited =
            |stage: &str| self.share("bief_stage_blocked_seconds_total", &[("stage", stage), ("stream", name)], lanes);
        let check = newest.status.checks.iter().find(|c| c.name == format!("stream {name}") && !c.ok);
        let cause = check.map(|c| c.cause.clone().unwrap_or_else(|| "fails".to_owned()));
        let (stopped, trouble) = match unit {
            Some(unit) if unit.state != "running" => (Some(stopped(newest, unit)), None),
            _ => (None, cause.map(|cause| ("stream".to_owned(), cause))),
        };
        let commits = self.per_second("bief_commit_duration_seconds_count", &[("stream", name)]);
        let committing = self.per_second("bief_commit_duration_seconds_sum", &[("stream", name)]);
        Flow {
            stream: name.to_owned(),
            stopped,
            trouble,
            lag: stream.totals.lag,
            records_per_second: stream.totals.records_per_second,
            consumer_waited: waited("consumer"),
            decoder_waited: waited("decoder"),
            memory_waited: self.share("bief_memory_waited_seconds_total", &[("stream", name)], lanes),
            committing: committing.map(|seconds| (seconds / lanes).min(1.0)),
            commit_seconds: commits.zip(committing).filter(|(count, _)| *count > 0.0).map(|(count, sum)| sum / count),
        }
    }

    fn actors(&self, newest: &Look, unit: &Unit, flows: &[Flow]) -> Vec<ActorLine> {
        let flow = flows.iter().find(|flow| flow.stream == unit.name);
        let queue =
            |name: &str| newest.figures.get("bief_queue_fill_ratio", &[("queue", name), ("stream", &unit.name)]);
        let mut state = unit.state.replace('_', " ");
        if let Some(seconds) = seconds_between(newest.status.now, unit.next_try_at) {
            state = format!("{state}, next try in {}", duration(seconds));
        }
        let whole = ActorLine {
            unit: unit.name.clone(),
            actor: None,
            state,
            restarts: unit.restarts,
            records_per_second: flow.map(|flow| flow.records_per_second),
            note: unit.last_error.clone().unwrap_or_default(),
            ..ActorLine::default()
        };
        let of_unit = unit.actors.iter().map(|actor| {
            let stage = actor.name.split('-').next().unwrap_or_default();
            let (queue, waited) = match (stage, flow) {
                ("consumer", Some(flow)) => (None, flow.consumer_waited),
                ("decoder", Some(flow)) => (queue("decoder"), flow.decoder_waited),
                ("writer", Some(flow)) => (queue("writer"), flow.committing),
                _ => (None, None),
            };
            ActorLine {
                unit: unit.name.clone(),
                actor: Some(actor.name.clone()),
                state: actor.state.replace('_', " "),
                restarts: actor.restarts,
                queue,
                waited,
                records_per_second: None,
                note: actor.note.clone().unwrap_or_default(),
            }
        });
        std::iter::once(whole).chain(of_unit).collect()
    }

    /// Seconds between the oldest look and the newest.
    fn window(&self) -> f64 {
        match (self.0.front(), self.0.back()) {
            (Some(first), Some(last)) => last.at.saturating_duration_since(first.at).as_secs_f64(),
            _ => 0.0,
        }
    }

    /// How fast a counter rose; `None` for a first look, and where it fell.
    fn per_second(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        let rise = last.figures.get(name, labels)? - first.figures.get(name, labels)?;
        let window = self.window();
        (window > 0.0 && rise >= 0.0).then(|| rise / window)
    }

    /// Of the time, for a counter of seconds that is summed over lanes.
    fn share(&self, name: &str, labels: &[(&str, &str)], lanes: f64) -> Option<f64> {
        self.per_second(name, labels).map(|seconds| (seconds / lanes).min(1.0))
    }
}

fn aggregate(of: &Aggregate, newest: &Look) -> AggregateLine {
    AggregateLine {
        name: of.name.clone(),
        behind_seconds: of.behind(newest.status.now),
        pending_buckets: of.pending_buckets,
    }
}

fn stopped(newest: &Look, unit: &Unit) -> String {
    let mut told = unit.state.replace('_', " ");
    if let Some(seconds) = seconds_between(newest.status.now, unit.next_try_at) {
        told = format!("{told}, next try in {}", duration(seconds));
    }
    match &unit.last_error {
        Some(error) => format!("{told}: {error}"),
        None => told,
    }
}

fn partitions(stream: &Stream) -> impl Iterator<Item = PartitionLine> {
    stream.partitions.iter().map(|p| PartitionLine {
        stream: stream.stream.clone(),
        partition: p.partition,
        lane: p.lane,
        lag: p.lag,
        next_offset: p.next_offset,
        end_offset: p.end_offset,
        applied: p.outcomes.applied,
        duplicates: p.outcomes.duplicates,
        dead_letters: p.outcomes.dead_letters,
        gaps: p.outcomes.gaps,
        unaccounted: p.outcomes.unaccounted,
    })
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use super::*;

    /// A daemon with a stream of two lanes, `seconds` after its start; counters rise evenly.
    pub fn look(began: Instant, seconds: u64, edit: impl FnOnce(&mut serde_json::Value)) -> Look {
        let at = seconds as f64;
        let mut document = serde_json::json!({
            "name": "shop", "version": "1.2.3", "database": "MySQL", "started_at": "2024-05-01T09:00:00Z", "now": "2024-05-01T10:12:34Z",
            "uptime_seconds": 4354, "ready": true,
            "checks": [{ "name": "stream orders", "ok": true, "cause": null }],
            "units": [{ "name": "orders", "state": "running", "restarts": 1, "last_error": "writer-0: connection refused",
                "since": "2024-05-01T10:00:00Z",
                "actors": [
                    { "name": "consumer", "state": "running", "restarts": 0 },
                    { "name": "decoder-0", "state": "running", "restarts": 0 },
                    { "name": "decoder-1", "state": "running", "restarts": 0 },
                    { "name": "writer-0", "state": "running", "restarts": 1, "note": "waits for a lock" },
                    { "name": "writer-1", "state": "running", "restarts": 0 },
                ] }],
            "streams": [{ "stream": "orders", "topic": "orders.v1",
                "partitions": [
                    { "partition": 0, "lane": 0, "start_offset": 0, "next_offset": 250123, "end_offset": 336776,
                      "lag": 86653, "applied": 250000, "duplicates": 100, "dead_letters": 20, "gaps": 3,
                      "unaccounted": 0 },
                    { "partition": 1, "lane": 1, "start_offset": 7, "next_offset": 7, "end_offset": null, "lag": null,
                      "applied": 0, "duplicates": 0, "dead_letters": 0, "gaps": 0, "unaccounted": 0 },
                    { "partition": 2, "lane": 0, "start_offset": 0, "next_offset": 9, "end_offset": 9, "lag": 0,
                      "applied": 7, "duplicates": 0, "dead_letters": 2, "gaps": 0, "unaccounted": 0 },
                ],
                "totals": { "partitions": 3, "caught_up": 1, "advanced": 250132, "applied": 250007, "duplicates": 100,
                    "dead_letters": 22, "gaps": 3, "unaccounted": 0, "lag": 86653, "records_per_second": 12345.6 } }],
            "totals": { "partitions": 3, "caught_up": 1, "advanced": 250132, "applied": 250007, "duplicates": 100,
                "dead_letters": 22, "gaps": 3, "unaccounted": 0, "lag": 86653, "records_per_second": 12345.6 },
            "aggregates": [
                { "name": "orders_hourly", "fresh_as_of": "2024-05-01T10:12:31Z", "pending_buckets": 0 },
                { "name": "orders_daily", "fresh_as_of": "2024-05-01T10:07:34Z", "pending_buckets": 12 },
            ],
        });
        edit(&mut document);
        let metrics = format!(
            "# HELP x y\n\
             bief_stage_blocked_seconds_total{{stage=\"consumer\",stream=\"orders\"}} {}\n\
             bief_stage_blocked_seconds_total{{stage=\"decoder\",stream=\"orders\"}} {}\n\
             bief_memory_waited_seconds_total{{stream=\"orders\"}} 0\n\
             bief_commit_duration_seconds_sum{{stream=\"orders\"}} {}\n\
             bief_commit_duration_seconds_count{{stream=\"orders\"}} {}\n\
             bief_queue_fill_ratio{{queue=\"decoder\",stream=\"orders\"}} 0.5\n\
             bief_queue_fill_ratio{{queue=\"writer\",stream=\"orders\"}} 1\n\
             bief_memory_used_bytes 125829120\n\
             bief_memory_budget_bytes 201326592\n\
             process_resident_memory_bytes 262144000\n\
             process_cpu_seconds_total {}\n",
            at * 0.6,
            at * 1.66,
            at * 1.8,
            at * 15.0,
            at * 1.4,
        );
        Look {
            at: began + Duration::from_secs(seconds),
            status: serde_json::from_value(document).unwrap(),
            figures: Figures::of(&metrics),
        }
    }

    fn looks(seconds: &[u64]) -> Looks {
        let (began, mut looks) = (Instant::now(), Looks::default());
        seconds.iter().for_each(|at| looks.add(look(began, *at, |_| {})));
        looks
    }

    #[test]
    fn counters_become_shares_of_the_time_averaged_over_lanes() {
        let standing = looks(&[0, 1, 2]).standing();
        assert_eq!(standing.window_seconds, 2.0);
        let of = |actor: &str| standing.actors.iter().find(|a| a.actor.as_deref() == Some(actor)).unwrap();
        let about = |share: Option<f64>, expected: f64| (share.unwrap() - expected).abs() < 1e-9;
        assert!(about(of("consumer").waited, 0.3) && about(of("decoder-1").waited, 0.83));
        assert!(about(of("writer-0").waited, 0.9) && about(standing.cpus, 1.4));
        assert_eq!((of("consumer").queue, of("decoder-0").queue, of("writer-1").queue), (None, Some(0.5), Some(1.0)));
        assert_eq!(standing.bottleneck, "orders: writer waits for MySQL, 90 % of the last 2 s; a commit takes 120 ms");
    }

    #[test]
    fn the_aggregate_that_is_furthest_behind_is_told() {
        let line = |name: &str, behind_seconds, pending_buckets| AggregateLine {
            name: name.to_owned(),
            behind_seconds,
            pending_buckets,
        };
        let told = |aggregates: &[AggregateLine]| {
            Standing { aggregates: aggregates.to_vec(), ..Standing::default() }.freshness()
        };
        assert_eq!(told(&[]), None);
        let (fresh, late) = (line("hourly", Some(3), Some(0)), line("daily", Some(300), Some(1234)));
        assert_eq!(told(std::slice::from_ref(&fresh)).unwrap(), "aggregate hourly, as of 3 s ago");
        let two = told(&[late, fresh.clone()]).unwrap();
        assert_eq!(two, "oldest of 2 aggregates: daily, as of 5 min ago; 1,234 buckets wait");
        let unknown = told(&[line("new", None, None), fresh]).unwrap();
        assert_eq!(unknown, "oldest of 2 aggregates: new, how fresh is not known yet");
    }

    #[test]
    fn a_first_look_has_no_shares_and_says_so() {
        let standing = looks(&[5]).standing();
        assert_eq!(standing.bottleneck, "orders is behind; what holds it up is not known yet");
        assert!(standing.cpus.is_none() && standing.actors.iter().all(|a| a.waited.is_none()));
    }

    #[test]
    fn shares_are_of_the_latest_looks_and_begin_anew_with_the_daemon() {
        let mut kept = looks(&(0..100).collect::<Vec<_>>());
        assert_eq!(kept.window(), LOOKS_KEPT as f64);
        kept.add(look(Instant::now(), 1, |d| d["started_at"] = "2024-05-01T10:12:00Z".into()));
        assert_eq!(kept.window(), 0.0);
    }

    #[test]
    fn a_stream_that_does_not_run_is_named_with_its_cause() {
        let mut looks = Looks::default();
        looks.add(look(Instant::now(), 0, |d| {
            d["units"][0]["state"] = "backing_off".into();
            d["units"][0]["next_try_at"] = "2024-05-01T10:12:42Z".into();
            d["ready"] = false.into();
            d["checks"][0] = serde_json::json!({ "name": "stream orders", "ok": false, "cause": "connection refused" });
        }));
        let standing = looks.standing();
        assert_eq!(
            standing.bottleneck,
            "orders: does not run: backing off, next try in 8 s: writer-0: connection refused"
        );
        assert_eq!(standing.troubles, ["stream orders: connection refused"]);
        assert_eq!(standing.actors[0].state, "backing off, next try in 8 s");
    }
}
