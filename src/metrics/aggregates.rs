//! How fresh the cached documents are, and what refreshing them costs.

use chrono::{DateTime, Utc};
use prometheus::{Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{COMMIT_BUCKETS, Metrics, Registrar};
use crate::ports::cache::Replaced;

pub(super) struct AggregateSeries {
    fresh: GaugeVec,
    pending: IntGaugeVec,
    buckets: IntCounterVec,
    written: IntCounterVec,
    removed: IntCounterVec,
    failures: IntCounterVec,
    duration: HistogramVec,
}

impl AggregateSeries {
    pub(super) fn register(r: &Registrar<'_>) -> Self {
        let (aggregate, source) = (&["aggregate"], &["source"]);
        Self {
            fresh: r.gauge_vec(
                "bief_aggregate_fresh_timestamp_seconds",
                "All that was committed before is in the documents; 0 before it is known.",
                aggregate,
            ),
            pending: r.int_gauge_vec(
                "bief_aggregate_pending_buckets",
                "Buckets whose rows changed and that wait to be computed.",
                aggregate,
            ),
            buckets: r.int_counter_vec(
                "bief_aggregate_buckets_refreshed_total",
                "Buckets computed and replaced in the cache by this daemon.",
                aggregate,
            ),
            written: r.int_counter_vec(
                "bief_aggregate_documents_written_total",
                "Documents written into the cache by this daemon.",
                aggregate,
            ),
            removed: r.int_counter_vec(
                "bief_aggregate_documents_removed_total",
                "Documents removed from the cache because their bucket has their key no more.",
                aggregate,
            ),
            failures: r.int_counter_vec(
                "bief_aggregate_refresh_failures_total",
                "Refreshes that ended in an error; their buckets stay marked and are tried again.",
                source,
            ),
            duration: r.histogram_vec(
                "bief_aggregate_refresh_duration_seconds",
                "From reading the versions of the buckets that were claimed together to setting them clean.",
                source,
                &COMMIT_BUCKETS,
            ),
        }
    }
}

/// Of what refreshes the aggregates of one source.
#[derive(Clone)]
pub struct SourceMetrics {
    pub failures: IntCounter,
    /// Seconds.
    pub refresh_duration: Histogram,
}

/// Of one aggregate.
#[derive(Clone)]
pub struct AggregateMetrics {
    fresh: Gauge,
    pending: IntGauge,
    buckets: IntCounter,
    written: IntCounter,
    removed: IntCounter,
}

impl AggregateMetrics {
    /// So many buckets are in the cache.
    pub fn replaced(&self, buckets: usize, what: Replaced) {
        self.buckets.inc_by(buckets as u64);
        self.written.inc_by(what.written);
        self.removed.inc_by(what.gone);
    }

    /// How many buckets wait, and up to when all is in the documents.
    pub fn fresh(&self, pending: u64, as_of: Option<DateTime<Utc>>) {
        self.pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
        if let Some(as_of) = as_of {
            self.fresh.set(as_of.timestamp_millis() as f64 / 1000.0);
        }
    }
}

impl Metrics {
    /// At 0 when first asked for; the same name gives the same series.
    pub fn aggregate(&self, name: &str) -> AggregateMetrics {
        let (s, label) = (&self.0.aggregates, &[name]);
        AggregateMetrics {
            fresh: s.fresh.with_label_values(label),
            pending: s.pending.with_label_values(label),
            buckets: s.buckets.with_label_values(label),
            written: s.written.with_label_values(label),
            removed: s.removed.with_label_values(label),
        }
    }

    /// At 0 when first asked for.
    pub fn source(&self, id: &str) -> SourceMetrics {
        let (s, label) = (&self.0.aggregates, &[id]);
        SourceMetrics {
            failures: s.failures.with_label_values(label),
            refresh_duration: s.duration.with_label_values(label),
        }
    }
}
