//! What the pass that compares cached documents with the rows came to.

use chrono::{DateTime, Utc};
use prometheus::{Gauge, IntCounterVec};

use super::Registrar;

pub(super) struct ReconcileSeries {
    differences: IntCounterVec,
    last_success: Gauge,
}

impl ReconcileSeries {
    pub(super) fn register(r: &Registrar<'_>) -> Self {
        Self {
            differences: r.int_counter_vec(
                "bief_reconcile_differences_total",
                "Cached documents found to differ from what the rows come to.",
                &["aggregate"],
            ),
            last_success: r.gauge(
                "bief_reconcile_last_success_timestamp_seconds",
                "When this daemon last compared documents with the rows to the end, in seconds since 1970; 0 before.",
            ),
        }
    }

    pub(super) fn of(&self, aggregates: &[&str]) -> ReconcileMetrics {
        for aggregate in aggregates {
            self.differences.with_label_values(&[aggregate]);
        }
        ReconcileMetrics { differences: self.differences.clone(), last_success: self.last_success.clone() }
    }
}

/// Cheap to clone; all clones are the same series.
#[derive(Clone)]
pub struct ReconcileMetrics {
    differences: IntCounterVec,
    last_success: Gauge,
}

impl ReconcileMetrics {
    /// A document of this aggregate differed.
    pub fn differs(&self, aggregate: &str) {
        self.differences.with_label_values(&[aggregate]).inc();
    }

    /// A pass came to its end.
    pub fn succeeded(&self, now: DateTime<Utc>) {
        self.last_success.set(now.timestamp_micros() as f64 / 1e6);
    }
}
