//! Every series that bief exposes, with its help text: registered here and nowhere else, described in docs/metrics.md.
//! Names are `bief_<noun>_<unit>` with `_total` for counters, in base units; labels hold few values. What is known
//! (a stream, a table, an actor) starts at 0 when it is declared, so that an absent series means an absent thing.
//! Must never hold a label whose values come from records.

mod aggregates;
mod forecasts;
mod process;
mod reconcile;
mod shown;
mod tap;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus::{
    Counter, CounterVec, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use self::aggregates::{AggregateMetrics, SourceMetrics};
pub use self::forecasts::ForecastMetrics;
pub use self::reconcile::ReconcileMetrics;
use crate::core::outcome::{Counts, Reason};
use crate::messages::{StreamStatus, Tap};

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Seconds: an idle server commits in a few milliseconds, a struggling one in tens of seconds.
const COMMIT_BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Seconds: fine around the goal (p99 under 0.1 s), coarse up to the backlog of an outage.
const END_TO_END_BUCKETS: [f64; 18] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// Records: batches are small when traffic is low and large when it is high.
const BATCH_BUCKETS: [f64; 11] =
    [1.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 25_000.0, 100_000.0];

/// All series of one daemon. Cheap to clone; all clones are one registry.
#[derive(Clone)]
pub struct Metrics(Arc<Series>);

struct Series {
    registry: Registry,
    records_consumed: IntCounterVec,
    record_bytes_consumed: IntCounterVec,
    records_applied: IntCounterVec,
    duplicates: IntCounterVec,
    dead_letters: IntCounterVec,
    letters_published: IntCounterVec,
    letter_publish_failures: IntCounterVec,
    gap_offsets: IntCounterVec,
    unknown_fields: IntCounterVec,
    rows_written: IntCounterVec,
    batches_committed: IntCounterVec,
    batch_records: HistogramVec,
    commit_duration: HistogramVec,
    commit_retries: IntCounterVec,
    commit_failures: IntCounterVec,
    fenced_commits: IntCounterVec,
    commits_found: IntCounterVec,
    last_commit: GaugeVec,
    end_to_end_latency: HistogramVec,
    stage_blocked: CounterVec,
    queue_records: IntGaugeVec,
    queue_fill: GaugeVec,
    queues: Mutex<Vec<QueueMetrics>>,
    actor_restarts: IntCounterVec,
    lag: IntGaugeVec,
    max_partition_lag: IntGaugeVec,
    partitions: IntGaugeVec,
    partitions_caught_up: IntGaugeVec,
    unaccounted: IntGaugeVec,
    in_doubt: IntGaugeVec,
    ready: IntGauge,
    memory_budget: IntGauge,
    memory_used: IntGauge,
    memory_waited: CounterVec,
    /// Answers the bytes in use.
    memory_meter: OnceLock<MemoryMeter>,
    aggregates: aggregates::AggregateSeries,
    forecasts: forecasts::ForecastSeries,
    tap: tap::TapSeries,
    reconcile: reconcile::ReconcileSeries,
    process: Option<process::ProcessSeries>,
}

/// Answers how many bytes are taken.
pub type MemoryMeter = Box<dyn Fn() -> u64 + Send + Sync>;

impl Metrics {
    /// A registry of its own with every series in it. `revision` is the source revision of the build.
    pub fn new(version: &str, revision: &str) -> Self {
        let registry = Registry::new();
        let r = Registrar(&registry);
        let build_info =
            r.int_gauge_vec("bief_build_info", "Always 1; the labels tell the build.", &["version", "revision"]);
        build_info.with_label_values(&[version, revision]).set(1);
        let stream = &["stream"];
        let series = Series {
            records_consumed: r.int_counter_vec(
                "bief_records_consumed_total",
                "Records polled from the broker.",
                stream,
            ),
            record_bytes_consumed: r.int_counter_vec(
                "bief_record_bytes_consumed_total",
                "Bytes of keys and payloads of the records polled from the broker.",
                stream,
            ),
            records_applied: r.int_counter_vec(
                "bief_records_applied_total",
                "Committed records that changed a row, or were superseded within their batch.",
                stream,
            ),
            duplicates: r.int_counter_vec(
                "bief_duplicates_total",
                "Committed records that changed no table: their rows were there already.",
                stream,
            ),
            dead_letters: r.int_counter_vec(
                "bief_dead_letters_total",
                "Records set aside in bief_dead_letter, by reason.",
                &["stream", "reason"],
            ),
            letters_published: r.int_counter_vec(
                "bief_dead_letters_published_total",
                "Dead letters that arrived in dead_letter_topic.",
                stream,
            ),
            letter_publish_failures: r.int_counter_vec(
                "bief_dead_letter_publish_failures_total",
                "Times that publishing dead letters failed; they wait in bief_dead_letter and are tried again.",
                stream,
            ),
            gap_offsets: r.int_counter_vec(
                "bief_gap_offsets_total",
                "Offsets that were passed and yielded no record: transaction markers, compacted or expired records.",
                stream,
            ),
            unknown_fields: r.int_counter_vec(
                "bief_unknown_fields_total",
                "Fields of records that no mapping reads, counted once a record.",
                stream,
            ),
            rows_written: r.int_counter_vec(
                "bief_rows_written_total",
                "Rows handed to a table in committed transactions, without those left as they were.",
                &["table"],
            ),
            batches_committed: r.int_counter_vec("bief_batches_committed_total", "Transactions committed.", stream),
            batch_records: r.histogram_vec(
                "bief_batch_records",
                "Records in a committed transaction.",
                stream,
                &BATCH_BUCKETS,
            ),
            commit_duration: r.histogram_vec(
                "bief_commit_duration_seconds",
                "Time of a batch's transaction, from its begin to the answer to COMMIT.",
                stream,
                &COMMIT_BUCKETS,
            ),
            commit_retries: r.int_counter_vec(
                "bief_commit_retries_total",
                "Transactions begun again after a transient error: deadlock, lock wait, connection lost, server away.",
                stream,
            ),
            commit_failures: r.int_counter_vec(
                "bief_commit_failures_total",
                "Transactions that did not commit: begun again, fenced, or the end of the stream.",
                stream,
            ),
            fenced_commits: r.int_counter_vec(
                "bief_fenced_commits_total",
                "Transactions refused by the compare-and-set of an offset: another daemon holds the partition.",
                stream,
            ),
            commits_found: r.int_counter_vec(
                "bief_commits_found_total",
                "Transactions whose COMMIT was not answered and that were found committed.",
                stream,
            ),
            last_commit: r.gauge_vec(
                "bief_last_commit_timestamp_seconds",
                "When the last transaction was committed, in seconds since 1970; 0 before the first.",
                stream,
            ),
            end_to_end_latency: r.histogram_vec(
                "bief_end_to_end_latency_seconds",
                "Time from a record's append at the broker to the commit of its rows.",
                stream,
                &END_TO_END_BUCKETS,
            ),
            stage_blocked: r.counter_vec(
                "bief_stage_blocked_seconds_total",
                "Time a stage waited for room in the queue below it, summed over lanes.",
                &["stream", "stage"],
            ),
            queue_records: r.int_gauge_vec(
                "bief_queue_records",
                "Records that wait in a queue, summed over lanes.",
                &["stream", "queue"],
            ),
            queue_fill: r.gauge_vec(
                "bief_queue_fill_ratio",
                "Batches that wait in a queue over the batches it can hold, 0 to 1.",
                &["stream", "queue"],
            ),
            queues: Mutex::default(),
            actor_restarts: r.int_counter_vec(
                "bief_actor_restarts_total",
                "Restarts by the actor that failed or panicked.",
                &["actor"],
            ),
            lag: r.int_gauge_vec(
                "bief_lag_records",
                "Offsets between the database and the end of the partitions held by this daemon, summed.",
                stream,
            ),
            max_partition_lag: r.int_gauge_vec(
                "bief_max_partition_lag_records",
                "Offsets between the database and the end of the partition that is furthest behind.",
                stream,
            ),
            partitions: r.int_gauge_vec("bief_partitions", "Partitions held by this daemon.", stream),
            partitions_caught_up: r.int_gauge_vec(
                "bief_partitions_caught_up",
                "Partitions held by this daemon whose end is committed.",
                stream,
            ),
            in_doubt: r.int_gauge_vec(
                "bief_partitions_in_doubt",
                "Partitions whose offsets the broker does not have; nothing is consumed until an operator decides.",
                stream,
            ),
            unaccounted: r.int_gauge_vec(
                "bief_unaccounted_records",
                "Offsets advanced that no outcome accounts for, as absolute values summed; must be 0.",
                stream,
            ),
            ready: r.int_gauge("bief_ready", "1 when every check of /readyz passes, else 0."),
            memory_budget: r.int_gauge(
                "bief_memory_budget_bytes",
                "What batches may take from the poll to the commit: `memory` without the Kafka client's share.",
            ),
            memory_used: r.int_gauge(
                "bief_memory_used_bytes",
                "What the batches on their way are estimated to take at the widest point of their way.",
            ),
            memory_waited: r.counter_vec(
                "bief_memory_waited_seconds_total",
                "Time in which a lane was not polled because the memory budget was used up.",
                stream,
            ),
            memory_meter: OnceLock::new(),
            aggregates: aggregates::AggregateSeries::register(&r),
            forecasts: forecasts::ForecastSeries::register(&r),
            tap: tap::TapSeries::register(&r),
            reconcile: reconcile::ReconcileSeries::register(&r),
            process: process::ProcessSeries::register(&r),
            registry: registry.clone(),
        };
        Self(Arc::new(series))
    }

    /// The series of one stream, all at 0 when first asked for. The same name gives the same series.
    pub fn stream(&self, stream: &str) -> StreamMetrics {
        let s = &self.0;
        let gauges =
            [&s.lag, &s.max_partition_lag, &s.partitions, &s.partitions_caught_up, &s.in_doubt, &s.unaccounted];
        for gauge in gauges {
            gauge.with_label_values(&[stream]);
        }
        let of = |vec: &IntCounterVec| vec.with_label_values(&[stream]);
        StreamMetrics {
            name: stream.into(),
            records_consumed: of(&s.records_consumed),
            bytes_consumed: of(&s.record_bytes_consumed),
            records_applied: of(&s.records_applied),
            duplicates: of(&s.duplicates),
            dead_letters: Reason::ALL.map(|reason| s.dead_letters.with_label_values(&[stream, reason.as_str()])),
            letters_published: of(&s.letters_published),
            letter_publish_failures: of(&s.letter_publish_failures),
            gap_offsets: of(&s.gap_offsets),
            unknown_fields: of(&s.unknown_fields),
            batches_committed: of(&s.batches_committed),
            batch_records: s.batch_records.with_label_values(&[stream]),
            commit_duration: s.commit_duration.with_label_values(&[stream]),
            commit_retries: of(&s.commit_retries),
            commit_failures: of(&s.commit_failures),
            fenced_commits: of(&s.fenced_commits),
            commits_found: of(&s.commits_found),
            last_commit_timestamp: s.last_commit.with_label_values(&[stream]),
            end_to_end_latency: s.end_to_end_latency.with_label_values(&[stream]),
            memory_waited: s.memory_waited.with_label_values(&[stream]),
            all: self.clone(),
        }
    }

    /// Tells the memory budget in bytes, and whom to ask what is used of it. The first answer counts.
    pub fn meter_memory(&self, budget: u64, used: MemoryMeter) {
        self.0.memory_budget.set(i64::try_from(budget).unwrap_or(i64::MAX));
        let _ = self.0.memory_meter.set(used);
    }

    /// Tells whom to ask what was copied for who looks at records. The first answer counts.
    pub fn meter_tap(&self, tap: Tap) {
        self.0.tap.meter(tap);
    }

    /// Rows written into one table, at 0 when first asked for.
    pub fn rows_written(&self, table: &str) -> IntCounter {
        self.0.rows_written.with_label_values(&[table])
    }

    /// Restarts by one actor, at 0 when first asked for.
    pub fn actor_restarts(&self, actor: &str) -> IntCounter {
        self.0.actor_restarts.with_label_values(&[actor])
    }

    /// The series of the pass that compares these aggregates' documents with the rows, at 0 when first asked for.
    pub fn reconcile(&self, aggregates: &[&str]) -> ReconcileMetrics {
        self.0.reconcile.of(aggregates)
    }

    /// Whether every check of /readyz passes.
    pub fn set_ready(&self, ready: bool) {
        self.0.ready.set(ready.into());
    }

    /// Takes lag, partitions and the ledger's remainder over from the board.
    pub fn observe(&self, streams: &[StreamStatus]) {
        let s = &self.0;
        for status in streams {
            let label = &[status.stream.as_str()];
            let lags = || status.partitions.iter().filter_map(|p| p.lag());
            s.lag.with_label_values(label).set(lags().sum());
            s.max_partition_lag.with_label_values(label).set(lags().max().unwrap_or(0));
            s.partitions.with_label_values(label).set(status.partitions.len() as i64);
            let caught_up = status.partitions.iter().filter(|p| p.caught_up).count();
            s.partitions_caught_up.with_label_values(label).set(caught_up as i64);
            // Absolute, so that one too many in a partition never hides one too few in another.
            let unaccounted = status.partitions.iter().map(|p| p.unaccounted().abs()).sum();
            s.unaccounted.with_label_values(label).set(unaccounted);
            s.in_doubt.with_label_values(label).set(status.in_doubt.len() as i64);
        }
    }

    /// All series in Prometheus's text format.
    pub fn render(&self) -> String {
        for queue in self.0.queues.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            queue.fill.set(queue.fill_ratio());
        }
        if let Some(used) = self.0.memory_meter.get() {
            self.0.memory_used.set(i64::try_from(used()).unwrap_or(i64::MAX));
        }
        self.0.tap.update();
        if let Some(process) = &self.0.process {
            process.update();
        }
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.0.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics could not be encoded; /metrics is cut short");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// One stream's counters, resolved: counting looks no label up.
#[derive(Clone)]
pub struct StreamMetrics {
    name: Arc<str>,
    /// Records polled.
    pub records_consumed: IntCounter,
    /// Bytes of keys and payloads polled.
    pub bytes_consumed: IntCounter,
    pub records_applied: IntCounter,
    pub duplicates: IntCounter,
    dead_letters: [IntCounter; Reason::ALL.len()],
    /// Letters that arrived in the topic for them.
    pub letters_published: IntCounter,
    pub letter_publish_failures: IntCounter,
    pub gap_offsets: IntCounter,
    pub unknown_fields: IntCounter,
    pub batches_committed: IntCounter,
    /// Records a committed batch.
    pub batch_records: Histogram,
    /// Seconds from begin to the answer to COMMIT.
    pub commit_duration: Histogram,
    /// Transactions begun again after a transient error.
    pub commit_retries: IntCounter,
    /// Transactions that did not commit.
    pub commit_failures: IntCounter,
    pub fenced_commits: IntCounter,
    /// Transactions whose COMMIT was not answered and that were found committed.
    pub commits_found: IntCounter,
    /// Seconds since 1970.
    pub last_commit_timestamp: Gauge,
    /// Seconds from a record's append to its commit.
    pub end_to_end_latency: Histogram,
    /// Seconds in which a lane was not polled because the memory budget was used up.
    pub memory_waited: Counter,
    all: Metrics,
}

impl StreamMetrics {
    /// The stream's name, as in the label.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Dead letters of one reason.
    pub fn dead_letters(&self, reason: Reason) -> &IntCounter {
        &self.dead_letters[reason as usize]
    }

    /// Records that have an outcome so far.
    pub fn outcomes(&self) -> u64 {
        let set_aside: u64 = self.dead_letters.iter().map(IntCounter::get).sum();
        self.records_applied.get() + self.duplicates.get() + set_aside
    }

    /// A batch was committed: its records' outcomes, the time its transaction took in seconds, and now in seconds
    /// since 1970. Dead letters are counted by reason, apart.
    pub fn committed(&self, records: u64, counts: Counts, seconds: f64, now: f64) {
        self.batches_committed.inc();
        self.batch_records.observe(records as f64);
        self.commit_duration.observe(seconds);
        self.last_commit_timestamp.set(now);
        self.records_applied.inc_by(counts.applied.max(0) as u64);
        self.duplicates.inc_by(counts.duplicates.max(0) as u64);
        self.gap_offsets.inc_by(counts.gaps.max(0) as u64);
    }

    /// Seconds that a stage of this stream waited for room below it, at 0 when first asked for.
    pub fn blocked_seconds(&self, stage: &str) -> Counter {
        self.all.0.stage_blocked.with_label_values(&[&self.name, stage])
    }

    /// A queue of this stream, empty, with room for `capacity` batches over all lanes. A pipeline that is built
    /// again asks again, and what was counted as waiting is forgotten with the queue that held it.
    pub fn queue(&self, queue: &str, capacity: usize) -> QueueMetrics {
        let labels = &[&*self.name, queue];
        let s = &self.all.0;
        let opened = QueueMetrics {
            records: s.queue_records.with_label_values(labels),
            fill: s.queue_fill.with_label_values(labels),
            waiting: Arc::default(),
            capacity,
            label: format!("{}/{queue}", self.name).into(),
        };
        opened.records.set(0);
        let mut queues = s.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|q| q.label != opened.label);
        queues.push(opened.clone());
        opened
    }
}

/// What waits in one queue, summed over lanes.
#[derive(Clone)]
pub struct QueueMetrics {
    records: IntGauge,
    fill: Gauge,
    /// Batches.
    waiting: Arc<AtomicI64>,
    /// Batches.
    capacity: usize,
    label: Arc<str>,
}

impl QueueMetrics {
    /// A batch of so many records was put in.
    pub fn entered(&self, records: usize) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.records.add(records as i64);
    }

    /// A batch of so many records was taken out.
    pub fn left(&self, records: usize) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.records.sub(records as i64);
    }

    /// Batches that wait over what the queue can hold, 0 to 1.
    pub fn fill_ratio(&self) -> f64 {
        let waiting = self.waiting.load(Ordering::Relaxed).max(0) as f64;
        (waiting / self.capacity.max(1) as f64).min(1.0)
    }
}

/// Makes and registers series. Names are constants of this crate, so a refusal is a mistake that every test meets.
struct Registrar<'a>(&'a Registry);

impl Registrar<'_> {
    fn add<C: prometheus::core::Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let collector = made.expect("a constant name with constant labels");
        self.0.register(Box::new(collector.clone())).expect("a name is registered once");
        collector
    }

    fn int_counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.add(CounterVec::new(Opts::new(name, help), labels))
    }

    fn counter(&self, name: &str, help: &str) -> Counter {
        self.add(Counter::with_opts(Opts::new(name, help)))
    }

    fn int_gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn int_gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::with_opts(Opts::new(name, help)))
    }

    fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(GaugeVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::with_opts(Opts::new(name, help)))
    }

    fn histogram_vec(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use prometheus::proto::MetricType;

    use super::*;
    use crate::messages::PartitionStatus;
    use crate::ports::CountsView;

    fn with_everything_declared() -> Metrics {
        let metrics = Metrics::new("1.2.3", "abcdef0");
        let stream = metrics.stream("orders");
        stream.blocked_seconds("decoder");
        stream.queue("decode", 4);
        metrics.rows_written("customer");
        metrics.actor_restarts("orders/writer");
        metrics.aggregate("sums");
        metrics.source("order.at/1h");
        metrics.reconcile(&["sums"]);
        metrics.forecast("sales").live(&crate::messages::LiveError {
            horizon: "1h".to_owned(),
            scored: 30,
            mae: Some(1.0),
            holdout_mae: 0.9,
            ratio: Some(1.1),
            drifted: false,
        });
        metrics
    }

    #[test]
    fn every_series_has_a_help_text_and_a_conventional_name() {
        for family in with_everything_declared().0.registry.gather() {
            let name = family.name();
            let counter = family.get_field_type() == MetricType::COUNTER;
            assert!(name.starts_with("bief_") || name.starts_with("process_"), "{name} has no prefix");
            assert_eq!(counter, name.ends_with("_total"), "{name}: _total is for counters, and for all of them");
            assert!(family.help().len() > 10 && family.help().ends_with('.'), "{name} has no help sentence");
            for wrong in ["_ms", "_millis", "_kb", "_percent", "_minutes", "_count", "_sum", "_bucket"] {
                assert!(!name.trim_end_matches("_total").ends_with(wrong), "{name} is not in a base unit");
            }
            for metric in family.get_metric() {
                assert!(metric.get_label().len() <= 2, "{name} has too many labels");
            }
        }
    }

    #[test]
    fn the_documentation_names_exactly_what_is_registered() {
        let page = include_str!("../docs/metrics.md");
        let documented: BTreeMap<&str, Vec<&str>> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .filter_map(|line| line.split_once('`'))
            .map(|(name, rest)| (name, rest.split('|').map(str::trim).collect()))
            .collect();
        let metrics = with_everything_declared();
        let families = metrics.0.registry.gather();
        let registered: BTreeSet<&str> = families.iter().map(|f| f.name()).collect();
        // The series of the process itself exist on Linux only.
        let expected: BTreeSet<&str> = documented
            .keys()
            .copied()
            .filter(|name| cfg!(target_os = "linux") || !name.starts_with("process_"))
            .collect();
        assert_eq!(registered, expected);
        for family in &families {
            let columns = &documented[family.name()];
            assert_eq!(
                columns[1],
                format!("{:?}", family.get_field_type()).to_lowercase(),
                "type of {}",
                family.name()
            );
            let labels: Vec<String> =
                family.get_metric()[0].get_label().iter().map(|l| format!("`{}`", l.name())).collect();
            let documented: BTreeSet<&str> = columns[2].split(", ").filter(|l| *l != "-").collect();
            assert_eq!(documented, labels.iter().map(String::as_str).collect(), "labels of {}", family.name());
        }
    }

    #[test]
    fn a_declared_stream_starts_every_series_at_zero() {
        let text = with_everything_declared().render();
        for reason in Reason::ALL {
            let line = format!("bief_dead_letters_total{{reason=\"{reason}\",stream=\"orders\"}} 0\n");
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
        for line in [
            "bief_records_consumed_total{stream=\"orders\"} 0\n",
            "bief_unaccounted_records{stream=\"orders\"} 0\n",
            "bief_end_to_end_latency_seconds_count{stream=\"orders\"} 0\n",
            "bief_stage_blocked_seconds_total{stage=\"decoder\",stream=\"orders\"} 0\n",
            "bief_rows_written_total{table=\"customer\"} 0\n",
            "bief_actor_restarts_total{actor=\"orders/writer\"} 0\n",
            "bief_build_info{revision=\"abcdef0\",version=\"1.2.3\"} 1\n",
            "bief_ready 0\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let stream = with_everything_declared().stream("orders");
        for (times, reason) in Reason::ALL.into_iter().enumerate() {
            stream.dead_letters(reason).inc_by(times as u64);
        }
        let text = stream.all.render();
        for (times, reason) in Reason::ALL.into_iter().enumerate() {
            assert!(text.contains(&format!("{{reason=\"{reason}\",stream=\"orders\"}} {times}\n")), "{reason}");
        }
    }

    #[test]
    fn a_committed_batch_is_counted_once_and_shared_by_all_clones() {
        let metrics = with_everything_declared();
        let counts = Counts { applied: 7, duplicates: 2, dead_letters: 1, gaps: 3 };
        metrics.stream("orders").committed(10, counts, 0.004, 1_700_000_000.0);
        let text = metrics.clone().render();
        for line in [
            "bief_batches_committed_total{stream=\"orders\"} 1\n",
            "bief_records_applied_total{stream=\"orders\"} 7\n",
            "bief_duplicates_total{stream=\"orders\"} 2\n",
            "bief_gap_offsets_total{stream=\"orders\"} 3\n",
            "bief_batch_records_sum{stream=\"orders\"} 10\n",
            "bief_last_commit_timestamp_seconds{stream=\"orders\"} 1700000000\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn one_partition_too_many_does_not_hide_one_too_few_in_another() {
        let partition = |partition, next_offset, applied| PartitionStatus {
            partition,
            lane: Some(0),
            start_offset: 0,
            next_offset,
            end_offset: Some(20),
            caught_up: false,
            reached: None,
            counts: CountsView { applied, ..Default::default() },
        };
        let metrics = with_everything_declared();
        metrics.observe(&[StreamStatus {
            stream: "orders".into(),
            partitions: vec![partition(0, 10, 9), partition(1, 5, 6)],
            ..Default::default()
        }]);
        let text = metrics.render();
        assert!(text.contains("bief_unaccounted_records{stream=\"orders\"} 2\n"), "{text}");
        assert!(text.contains("bief_lag_records{stream=\"orders\"} 25\n"), "{text}");
        assert!(text.contains("bief_max_partition_lag_records{stream=\"orders\"} 15\n"), "{text}");
    }

    #[test]
    fn a_rebuilt_queue_forgets_what_waited_in_the_old_one() {
        let metrics = with_everything_declared();
        let old = metrics.stream("orders").queue("decode", 4);
        old.entered(100);
        old.entered(100);
        assert!(metrics.render().contains("bief_queue_fill_ratio{queue=\"decode\",stream=\"orders\"} 0.5\n"));
        let new = metrics.stream("orders").queue("decode", 4);
        new.entered(30);
        let text = metrics.render();
        assert!(text.contains("bief_queue_fill_ratio{queue=\"decode\",stream=\"orders\"} 0.25\n"), "{text}");
        assert!(text.contains("bief_queue_records{queue=\"decode\",stream=\"orders\"} 30\n"), "{text}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_tells_its_memory_and_file_descriptors() {
        let text = with_everything_declared().render();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1_000_000.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_start_time_seconds") > 1.6e9);
        assert!(value("process_threads") >= 1.0);
    }
}
