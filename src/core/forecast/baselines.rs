//! The naive forecasts that a model has to beat. None of them is fitted but the mean.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::matrix::Matrix;
use super::series::Panel;
use super::spec::{Spec, season_back};

const A_DAY: i64 = 86_400;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// What the last known bucket held.
    Persistence,
    /// What the latest known bucket at the same time of the day held.
    SeasonalDay,
    /// What the latest known bucket at the same time of the week held.
    SeasonalWeek,
    /// The mean of the key over the training.
    Mean,
}

impl Baseline {
    pub const ALL: [Self; 4] = [Self::Persistence, Self::SeasonalDay, Self::SeasonalWeek, Self::Mean];
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Persistence => "persistence",
            Self::SeasonalDay => "seasonal naive, day",
            Self::SeasonalWeek => "seasonal naive, week",
            Self::Mean => "mean",
        })
    }
}

/// The baseline's forecast for each row of a matrix of this horizon; NaN where the bucket that it takes is missing.
/// `training` is how many rows, from the first, the mean is of.
pub fn forecasts(
    baseline: Baseline,
    spec: &Spec,
    panel: &Panel,
    (matrix, training): (&Matrix, usize),
    horizon: usize,
) -> Vec<f64> {
    let season = |seconds: i64| usize::try_from(seconds / spec.seconds().max(1)).unwrap_or(1).max(1);
    let back = match baseline {
        Baseline::Persistence => 0,
        Baseline::SeasonalDay => season_back(season(A_DAY), horizon),
        Baseline::SeasonalWeek => season_back(season(7 * A_DAY), horizon),
        Baseline::Mean => return means(panel, matrix, training),
    };
    let value = |(at, key): (&chrono::DateTime<chrono::Utc>, &usize)| {
        let known = panel.index(*at).and_then(|bucket| bucket.checked_sub(horizon + back));
        known.map_or(f64::NAN, |bucket| panel.series()[*key].target[bucket])
    };
    matrix.at.iter().zip(&matrix.key).map(value).collect()
}

/// NaN for a key that the training does not have.
fn means(panel: &Panel, matrix: &Matrix, training: usize) -> Vec<f64> {
    let mut sums = vec![(0.0, 0.0); panel.series().len()];
    for (key, truth) in matrix.key.iter().zip(&matrix.y).take(training) {
        sums[*key].0 += truth;
        sums[*key].1 += 1.0;
    }
    matrix.key.iter().map(|key| sums[*key].0 / sums[*key].1).collect()
}
