//! How each forecast stands: told by whoever forecasts, read by the page and the metrics without asking an actor. And what
//! travels from there to whoever trains: that the schedule's next training would come too late. The latter waits until it
//! is taken, whoever is restarted meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::sync::Notify;

/// What is known of one forecast.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ForecastStanding {
    /// The version that forecasts; none before one was promoted.
    pub champion: Option<u64>,
    /// Where the last known bucket starts that was forecast from.
    pub made_from: Option<DateTime<Utc>>,
    /// Why nothing is forecast, where that is so.
    pub trouble: Option<String>,
    /// In the order of the configuration; none before the first forecast was scored.
    pub horizons: Vec<LiveError>,
}

/// The champion's errors at one horizon, over the buckets of the drift's window, beside its holdout's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LiveError {
    /// As in the configuration.
    pub horizon: String,
    /// How many forecasts were scored.
    pub scored: usize,
    /// Mean absolute error, in the target's unit; none where none was scored.
    pub mae: Option<f64>,
    pub holdout_mae: f64,
    /// Live by holdout; none where none was scored, or the holdout's is 0.
    pub ratio: Option<f64>,
    pub drifted: bool,
}

/// Why to train before the schedule says so.
#[derive(Debug, Clone, PartialEq)]
pub enum TrainingWanted {
    /// Live errors are above what the holdout promised.
    Drifted { version: u64, horizon: String, live: f64, holdout: f64 },
    /// The champion is not of this configuration.
    Refused { version: u64, reason: String },
}

impl std::fmt::Display for TrainingWanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Drifted { version, horizon, live, holdout } => write!(
                f,
                "version {version} drifted at {horizon} ahead: its live error is {live:.4}, that of its holdout was \
                 {holdout:.4}"
            ),
            Self::Refused { version, reason } => write!(f, "version {version} can't forecast: {reason}"),
        }
    }
}

/// All forecasts by name. Cheap to clone; all clones are one board.
#[derive(Debug, Clone, Default)]
pub struct Forecasts(Arc<Mutex<BTreeMap<String, Known>>>);

#[derive(Debug, Default)]
struct Known {
    standing: ForecastStanding,
    wanted: Option<TrainingWanted>,
    told: Arc<Notify>,
}

impl Forecasts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn tell(&self, forecast: &str, standing: ForecastStanding) {
        self.lock().entry(forecast.to_owned()).or_default().standing = standing;
    }

    /// Nothing is known of a forecast that nobody told of.
    pub fn of(&self, forecast: &str) -> ForecastStanding {
        self.lock().get(forecast).map(|known| known.standing.clone()).unwrap_or_default()
    }

    /// Only the last one that was not taken counts.
    pub fn want_training(&self, forecast: &str, wanted: TrainingWanted) {
        let mut all = self.lock();
        let known = all.entry(forecast.to_owned()).or_default();
        known.wanted = Some(wanted);
        known.told.notify_one();
    }

    pub fn take_wanted(&self, forecast: &str) -> Option<TrainingWanted> {
        self.lock().get_mut(forecast)?.wanted.take()
    }

    /// Until there is something to take; for one who waits.
    pub async fn training_wanted(&self, forecast: &str) {
        loop {
            let told = {
                let mut all = self.lock();
                let known = all.entry(forecast.to_owned()).or_default();
                if known.wanted.is_some() {
                    return;
                }
                Arc::clone(&known.told)
            };
            told.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_wanted_waits_until_it_is_taken_once() {
        let board = Forecasts::default();
        let wanted = TrainingWanted::Refused { version: 3, reason: "no".to_owned() };
        board.want_training("sales", wanted.clone());
        board.training_wanted("sales").await;
        assert_eq!(board.take_wanted("sales"), Some(wanted));
        assert_eq!((board.take_wanted("sales"), board.take_wanted("others")), (None, None));
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(10), board.training_wanted("sales"));
        assert!(waiting.await.is_err(), "nothing is wanted any more");
    }
}
