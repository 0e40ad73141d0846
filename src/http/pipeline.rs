//! Where a stream spends its time, over the last minute: from the counters that `/metrics` tells, by differences, so that
//! page, terminal and dashboards agree. What holds it up is judged elsewhere. Pure but for the counters.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::core::bottleneck::{self, Bottleneck, Over};
use crate::messages::Trouble;
use crate::metrics::Metrics;

/// What shares are of.
const WINDOW: Duration = Duration::from_secs(60);
/// Rates are of the last seconds, so that they feel live.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// A stage of a stream's way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Stage {
    pub stage: &'static str,
    pub records_per_second: f64,
    pub busy: f64,
    pub blocked: f64,
    pub queue_fill: Option<f64>,
    pub queue_records: Option<i64>,
}

/// Seconds from a record's append to its commit; `None` where nothing was committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Latency {
    pub p50: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
}

/// All that is told of one stream.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Flow {
    pub stages: Vec<Stage>,
    pub bottleneck: Option<Bottleneck>,
    pub latency_seconds: Latency,
}

/// A stream's counters at one moment.
#[derive(Debug, Clone, Default)]
struct Counters {
    consumed: u64,
    outcomes: u64,
    consumer_blocked: f64,
    decoder_blocked: f64,
    memory_waited: f64,
    committing: f64,
    commits: u64,
    latencies: Vec<(f64, u64)>,
}

/// The counters of the last minute, once a second.
#[derive(Debug, Default)]
pub(super) struct Pipeline(Mutex<VecDeque<(Instant, BTreeMap<String, Counters>)>>);

impl Pipeline {
    pub fn sample<'s>(&self, at: Instant, metrics: &Metrics, streams: impl Iterator<Item = &'s str>) {
        let counters = streams.map(|name| {
            let stream = metrics.stream(name);
            let counters = Counters {
                consumed: stream.records_consumed.get(),
                outcomes: stream.outcomes(),
                consumer_blocked: stream.blocked_seconds("consumer").get(),
                decoder_blocked: stream.blocked_seconds("decoder").get(),
                memory_waited: stream.memory_waited.get(),
                committing: stream.commit_duration.get_sample_sum(),
                commits: stream.commit_duration.get_sample_count(),
                latencies: stream.latencies(),
            };
            (name.to_owned(), counters)
        });
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back((at, counters.collect()));
        while samples.len() > 2 && samples.get(1).is_some_and(|(second, _)| at - *second >= WINDOW) {
            samples.pop_front();
        }
    }

    /// `lanes`: how many of the stream work in parallel; `database`: what the writer waits for, by name.
    pub fn flow(&self, name: &str, metrics: &Metrics, lanes: usize, database: &str, now: &Now) -> Flow {
        let (shares, rates, latencies) = {
            let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some((last_at, last)) = samples.back() else { return Flow::default() };
            let Some(last) = last.get(name) else { return Flow::default() };
            // Of a stream that was not there yet: since then.
            let known = |(at, streams): &(Instant, BTreeMap<String, Counters>)| {
                streams.get(name).map(|counters| (*at, counters.clone()))
            };
            let since = |window: Duration| samples.iter().filter(|(at, _)| *last_at - *at <= window).find_map(known);
            let (Some(first), Some(recent)) = (since(WINDOW), since(RATE_WINDOW)) else { return Flow::default() };
            (
                Shares::between(&first.1, last, (*last_at - first.0).as_secs_f64() * lanes.max(1) as f64),
                Rates::between(&recent.1, last, (*last_at - recent.0).as_secs_f64()),
                difference(&first.1.latencies, &last.latencies),
            )
        };
        let stage = |stage, records_per_second, busy, blocked, queue: Option<(f64, i64)>| Stage {
            stage,
            records_per_second,
            busy,
            blocked,
            queue_fill: queue.map(|(fill, _)| fill),
            queue_records: queue.map(|(_, records)| records),
        };
        let queue = |queue| metrics.queue_state(name, queue);
        Flow {
            stages: vec![
                stage("consumer", rates.consumed, 0.0, shares.consumer_blocked, None),
                stage("decoder", rates.consumed, 0.0, shares.decoder_blocked, queue("decoder")),
                stage("writer", rates.outcomes, shares.committing, 0.0, queue("writer")),
            ],
            bottleneck: shares.bottleneck(name, &rates, database, now),
            latency_seconds: Latency {
                p50: quantile(&latencies, 0.5),
                p95: quantile(&latencies, 0.95),
                p99: quantile(&latencies, 0.99),
            },
        }
    }
}

/// How a stream stands now.
#[derive(Debug)]
pub(super) struct Now<'a> {
    /// Offsets behind the broker's end.
    pub lag: i64,
    pub troubles: &'a [Trouble],
    /// Why it does not run at all.
    pub stopped: Option<String>,
}

#[derive(Debug, Default)]
struct Rates {
    consumed: f64,
    outcomes: f64,
}

impl Rates {
    fn between(first: &Counters, last: &Counters, seconds: f64) -> Self {
        if seconds <= 0.0 {
            return Self::default();
        }
        let rate = |first: u64, last: u64| last.saturating_sub(first) as f64 / seconds;
        Self { consumed: rate(first.consumed, last.consumed), outcomes: rate(first.outcomes, last.outcomes) }
    }
}

#[derive(Debug, Default)]
struct Shares {
    consumer_blocked: f64,
    decoder_blocked: f64,
    memory_waited: f64,
    committing: f64,
    /// Seconds; `None` where nothing was committed.
    commit_seconds: Option<f64>,
}

impl Shares {
    /// `seconds`: of all lanes together.
    fn between(first: &Counters, last: &Counters, seconds: f64) -> Self {
        if seconds <= 0.0 {
            return Self::default();
        }
        let share = |first: f64, last: f64| ((last - first) / seconds).clamp(0.0, 1.0);
        Self {
            consumer_blocked: share(first.consumer_blocked, last.consumer_blocked),
            decoder_blocked: share(first.decoder_blocked, last.decoder_blocked),
            memory_waited: share(first.memory_waited, last.memory_waited),
            committing: share(first.committing, last.committing),
            commit_seconds: Some(last.commits.saturating_sub(first.commits))
                .filter(|commits| *commits > 0)
                .map(|commits| (last.committing - first.committing) / commits as f64),
        }
    }

    fn bottleneck(&self, name: &str, rates: &Rates, database: &str, now: &Now) -> Option<Bottleneck> {
        let flow = bottleneck::Flow {
            stream: name.to_owned(),
            stopped: now.stopped.clone(),
            trouble: now.troubles.first().map(|trouble| (trouble.actor.clone(), trouble.cause.clone())),
            lag: now.lag,
            records_per_second: rates.outcomes,
            consumer_waited: Some(self.consumer_blocked),
            decoder_waited: Some(self.decoder_blocked),
            memory_waited: Some(self.memory_waited),
            committing: Some(self.committing),
            commit_seconds: self.commit_seconds,
        };
        bottleneck::bottleneck(&flow, Over { time: "the last minute", database })
    }
}

/// By bucket, what was added since.
fn difference(first: &[(f64, u64)], last: &[(f64, u64)]) -> Vec<(f64, u64)> {
    let before = |at: usize| first.get(at).map_or(0, |(_, count)| *count);
    last.iter().enumerate().map(|(at, (bound, count))| (*bound, count.saturating_sub(before(at)))).collect()
}

/// Within the bucket that it falls into, as if the values in it were evenly spread; above the last bound, that bound.
fn quantile(buckets: &[(f64, u64)], share: f64) -> Option<f64> {
    let total = buckets.last().map(|(_, count)| *count).filter(|total| *total > 0)?;
    let wanted = total as f64 * share;
    let at = buckets.iter().position(|(_, count)| *count as f64 >= wanted)?;
    let (bound, count) = buckets[at];
    let (low, below) = if at == 0 { (0.0, 0) } else { buckets[at - 1] };
    if !bound.is_finite() {
        return Some(low);
    }
    let within = (wanted - below as f64) / (count - below).max(1) as f64;
    Some(low + (bound - low) * within)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn flow_after(seconds: u64, work: impl Fn(&Metrics)) -> Flow {
        let (metrics, pipeline) = (Metrics::new("1", "r"), Pipeline::default());
        let start = Instant::now();
        metrics.stream("orders").queue("writer", 2).entered(10);
        for second in 0..=seconds {
            pipeline.sample(start + Duration::from_secs(second), &metrics, ["orders"].into_iter());
            work(&metrics);
        }
        pipeline.flow("orders", &metrics, 2, "MySQL", &Now { lag: 50_000, troubles: &[], stopped: None })
    }

    #[test]
    fn shares_are_of_the_last_minute_and_of_all_lanes() {
        let flow = flow_after(90, |metrics| {
            let stream = metrics.stream("orders");
            stream.records_consumed.inc_by(1000);
            stream.blocked_seconds("decoder").inc_by(0.5);
            stream.commit_duration.observe(1.66);
            stream.end_to_end_latency.observe(0.04);
        });
        let [consumer, decoder, writer] = &flow.stages[..] else { panic!("{flow:?}") };
        assert_eq!((consumer.records_per_second, consumer.blocked), (1000.0, 0.0));
        assert!((decoder.blocked - 0.25).abs() < 1e-9 && (writer.busy - 0.83).abs() < 1e-9, "{flow:?}");
        assert_eq!((writer.queue_fill, writer.queue_records), (Some(0.5), Some(10)));
        assert_eq!(
            flow.bottleneck.unwrap().sentence,
            "writer waits for MySQL, 83 % of the last minute; a commit takes 1.7 s"
        );
        assert!(flow.latency_seconds.p95.is_some_and(|p95| (0.025..=0.05).contains(&p95)));
    }

    #[test]
    fn a_stream_that_nothing_holds_up_has_no_bottleneck() {
        let flow = flow_after(90, |metrics| metrics.stream("orders").commit_duration.observe(1.9));
        assert_eq!((flow.bottleneck, flow.latency_seconds), (None, Latency::default()));
        assert_eq!(flow_after(0, |_| ()).stages[0].records_per_second, 0.0);
        let now = Now { lag: 0, troubles: &[], stopped: None };
        let unknown = Pipeline::default().flow("orders", &Metrics::new("1", "r"), 1, "MySQL", &now);
        assert_eq!(unknown, Flow::default());
    }

    #[test]
    fn what_an_actor_waits_for_is_said_first() {
        let trouble = Trouble { actor: "writer-0".into(), cause: "refused".into(), since: DateTime::UNIX_EPOCH };
        let (shares, rates) = (Shares { memory_waited: 0.5, ..Shares::default() }, Rates::default());
        let told = |troubles: &[Trouble], stopped: Option<&str>| {
            let now = Now { lag: 1000, troubles, stopped: stopped.map(str::to_owned) };
            shares.bottleneck("orders", &rates, "MySQL", &now).unwrap().sentence
        };
        assert_eq!(told(std::slice::from_ref(&trouble), None), "writer-0 waits: refused");
        assert_eq!(told(&[trouble], Some("failed: no table")), "does not run: failed: no table");
        assert!(told(&[], None).starts_with("consumer waits for memory"));
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let buckets = [(0.1, 0), (0.2, 50), (0.4, 100), (f64::INFINITY, 100)];
        assert_eq!(quantile(&buckets, 0.5), Some(0.2));
        assert!((quantile(&buckets, 0.75).unwrap() - 0.3).abs() < 1e-9);
        assert_eq!(quantile(&[(0.1, 0), (f64::INFINITY, 9)], 0.5), Some(0.1));
        assert_eq!(quantile(&[(0.1, 0)], 0.5), None);
    }
}
