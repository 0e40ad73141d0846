//! What lists tell of a version: its scores beside the baselines, without coefficients.

use serde::{Deserialize, Serialize};

use super::model::{Beside, ModelVersion, Range};
use super::scores::Score;

/// How one horizon of a version stood in its holdout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HorizonScores {
    /// As in the configuration, such as `24h`.
    pub horizon: String,
    /// How many features.
    pub features: usize,
    pub holdout: Range,
    /// Over all rows of the holdout.
    pub score: Score,
    pub beside: Vec<Beside>,
    /// Share of the truth within the interval; none where there is no interval.
    pub coverage: Option<f64>,
    /// Mean width of the interval, in the target's unit.
    pub width: Option<f64>,
}

impl ModelVersion {
    /// The scores of all horizons, in their order.
    pub fn scores(&self) -> Vec<HorizonScores> {
        let of = |model: &super::model::HorizonModel| HorizonScores {
            horizon: model.horizon.clone(),
            features: model.features.len(),
            holdout: model.holdout.range,
            score: model.holdout.score,
            beside: model.holdout.beside.clone(),
            coverage: model.holdout.coverage,
            width: model.holdout.width,
        };
        self.horizons.iter().map(of).collect()
    }
}
