//! What forecasts are worth while they are made, and how their models come to be.

use chrono::{DateTime, Utc};
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{Metrics, Registrar};
use crate::messages::LiveError;

/// What a training can be begun by, as label.
const CAUSES: [&str; 3] = ["schedule", "early", "first"];

pub(super) struct ForecastSeries {
    made: IntCounterVec,
    scored: IntCounterVec,
    failures: IntCounterVec,
    from: GaugeVec,
    live: GaugeVec,
    holdout: GaugeVec,
    in_window: IntGaugeVec,
    drifted: IntGaugeVec,
    champion: IntGaugeVec,
    trained: GaugeVec,
    duration: GaugeVec,
    trainings: IntCounterVec,
    training_failures: IntCounterVec,
    promotions: IntCounterVec,
}

impl ForecastSeries {
    pub(super) fn register(r: &Registrar<'_>) -> Self {
        let (forecast, horizon) = (&["forecast"], &["forecast", "horizon"]);
        Self {
            made: r.int_counter_vec("bief_forecast_made_total", "Forecasts stored by this daemon.", forecast),
            scored: r.int_counter_vec(
                "bief_forecast_scored_total",
                "Forecasts whose truth this daemon stored beside them, or changed.",
                forecast,
            ),
            failures: r.int_counter_vec(
                "bief_forecast_failures_total",
                "Rounds in which nothing was forecast: cache or warehouse did not answer, or the champion is refused.",
                forecast,
            ),
            from: r.gauge_vec(
                "bief_forecast_from_timestamp_seconds",
                "Start of the last known bucket that forecasts were made from, in seconds since 1970; 0 before.",
                forecast,
            ),
            live: r.gauge_vec(
                "bief_forecast_live_mae",
                "Mean absolute error of the champion's forecasts within the drift's window, in the target's unit.",
                horizon,
            ),
            holdout: r.gauge_vec(
                "bief_forecast_holdout_mae",
                "Mean absolute error of the champion in its holdout, in the target's unit.",
                horizon,
            ),
            in_window: r.int_gauge_vec(
                "bief_forecast_window_scored",
                "Forecasts of the champion within the drift's window whose truth is known.",
                horizon,
            ),
            drifted: r.int_gauge_vec(
                "bief_forecast_drifted",
                "1 where live errors are above the holdout's by more than the drift's ratio.",
                horizon,
            ),
            champion: r.int_gauge_vec(
                "bief_model_champion_version",
                "Version that forecasts; 0 while there is none.",
                forecast,
            ),
            trained: r.gauge_vec(
                "bief_model_trained_timestamp_seconds",
                "When this daemon last trained a version, in seconds since 1970; 0 before.",
                forecast,
            ),
            duration: r.gauge_vec(
                "bief_model_training_duration_seconds",
                "How long this daemon's last training took, reading and contest included.",
                forecast,
            ),
            trainings: r.int_counter_vec(
                "bief_model_trainings_total",
                "Versions trained by this daemon, by what began it: schedule, early (drift), first.",
                &["forecast", "cause"],
            ),
            training_failures: r.int_counter_vec(
                "bief_model_training_failures_total",
                "Trainings that ended without a version, for a cause that does not pass by itself.",
                forecast,
            ),
            promotions: r.int_counter_vec(
                "bief_model_promotions_total",
                "Versions that this daemon trained and promoted.",
                forecast,
            ),
        }
    }
}

/// Of one forecast. Cheap to clone; all clones are the same series.
#[derive(Clone)]
pub struct ForecastMetrics {
    name: String,
    pub made: IntCounter,
    pub scored: IntCounter,
    pub failures: IntCounter,
    from: Gauge,
    live: GaugeVec,
    holdout: GaugeVec,
    in_window: IntGaugeVec,
    drifted: IntGaugeVec,
    champion: IntGauge,
    trained: Gauge,
    duration: Gauge,
    trainings: IntCounterVec,
    pub training_failures: IntCounter,
    pub promotions: IntCounter,
}

impl ForecastMetrics {
    /// Forecasts are made from the bucket that starts then.
    pub fn made_from(&self, start: DateTime<Utc>) {
        self.from.set(start.timestamp() as f64);
    }

    pub fn champion(&self, version: Option<u64>) {
        self.champion.set(version.and_then(|version| i64::try_from(version).ok()).unwrap_or(0));
    }

    pub fn live(&self, of: &LiveError) {
        let labels = &[self.name.as_str(), of.horizon.as_str()];
        self.live.with_label_values(labels).set(of.mae.unwrap_or(0.0));
        self.holdout.with_label_values(labels).set(of.holdout_mae);
        self.in_window.with_label_values(labels).set(i64::try_from(of.scored).unwrap_or(i64::MAX));
        self.drifted.with_label_values(labels).set(i64::from(of.drifted));
    }

    /// A version was trained; `cause` is one of `schedule`, `early` and `first`.
    pub fn trained(&self, cause: &str, at: DateTime<Utc>, seconds: f64) {
        self.trained.set(at.timestamp_millis() as f64 / 1000.0);
        self.duration.set(seconds);
        self.trainings.with_label_values(&[&self.name, cause]).inc();
    }
}

impl Metrics {
    /// At 0 when first asked for; the same name gives the same series.
    pub fn forecast(&self, name: &str) -> ForecastMetrics {
        let (s, label) = (&self.0.forecasts, &[name]);
        for cause in CAUSES {
            s.trainings.with_label_values(&[name, cause]);
        }
        ForecastMetrics {
            name: name.to_owned(),
            made: s.made.with_label_values(label),
            scored: s.scored.with_label_values(label),
            failures: s.failures.with_label_values(label),
            from: s.from.with_label_values(label),
            live: s.live.clone(),
            holdout: s.holdout.clone(),
            in_window: s.in_window.clone(),
            drifted: s.drifted.clone(),
            champion: s.champion.with_label_values(label),
            trained: s.trained.with_label_values(label),
            duration: s.duration.with_label_values(label),
            trainings: s.trainings.clone(),
            training_failures: s.training_failures.with_label_values(label),
            promotions: s.promotions.with_label_values(label),
        }
    }
}
