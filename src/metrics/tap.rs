//! What the tap copied and dropped, taken over from it at each scrape.

use std::sync::OnceLock;

use prometheus::IntCounterVec;

use super::Registrar;
use crate::messages::Tap;
use crate::messages::tap::Stage;

pub(super) struct TapSeries {
    sampled: IntCounterVec,
    dropped: IntCounterVec,
    tap: OnceLock<Tap>,
}

impl TapSeries {
    pub(super) fn register(r: &Registrar<'_>) -> Self {
        let stage = &["stage"];
        let sampled = "Records copied for whoever looks at a stage: bief tap, and open pages.";
        let dropped = "Copies that were dropped because the reader had not taken those before.";
        let series = Self {
            sampled: r.int_counter_vec("bief_tap_samples_total", sampled, stage),
            dropped: r.int_counter_vec("bief_tap_dropped_total", dropped, stage),
            tap: OnceLock::new(),
        };
        series.update();
        series
    }

    /// The first answer counts.
    pub(super) fn meter(&self, tap: Tap) {
        let _ = self.tap.set(tap);
    }

    pub(super) fn update(&self) {
        for stage in Stage::ALL {
            let (sampled, dropped) = self.tap.get().map_or((0, 0), |tap| tap.counts(stage));
            for (series, now) in [(&self.sampled, sampled), (&self.dropped, dropped)] {
                let counter = series.with_label_values(&[stage.as_str()]);
                counter.inc_by(now.saturating_sub(counter.get()));
            }
        }
    }
}
