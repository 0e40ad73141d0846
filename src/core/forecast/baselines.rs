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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::forecast::features::matrix;
    use crate::core::forecast::testing::{hour, panel, spec};

    #[test]
    fn each_takes_the_latest_bucket_that_is_known() {
        let spec = spec();
        // What was sold is the number of the hour, and 1,000 more in the second shop.
        let panel = panel(
            &spec,
            &["a", "b"],
            400,
            |shop, at| if at == 300 { f64::NAN } else { (1000 * shop as i64 + at) as f64 },
        );
        for (horizon, back) in [(1, [1, 24, 168]), (24, [24, 24, 168]), (30, [30, 48, 168])] {
            let matrix = matrix(&spec, &panel, &panel.labels(), horizon, 0..400).unwrap();
            let row = |at: i64| matrix.at.iter().position(|start| *start == hour(at).start()).unwrap() + 1;
            for (baseline, back) in Baseline::ALL.into_iter().zip(back) {
                let found = forecasts(baseline, &spec, &panel, (&matrix, 0), horizon);
                assert_eq!(found[row(350)], (1350 - back) as f64, "{baseline} at {horizon}");
                assert!(300 + back >= 400 || found[row(300 + back)].is_nan(), "{baseline} at {horizon}");
            }
        }
    }

    #[test]
    fn the_mean_is_of_the_keys_own_training_rows() {
        let spec = spec();
        let panel = panel(&spec, &["a", "b"], 60, |shop, at| if at < 50 { 1.0 + shop as f64 } else { 99.0 });
        let matrix = matrix(&spec, &panel, &panel.labels(), 1, 0..60).unwrap();
        let found = forecasts(Baseline::Mean, &spec, &panel, (&matrix, matrix.before(hour(50).start())), 1);
        assert_eq!(found[found.len() - 2..], [1.0, 2.0]);
        let none = forecasts(Baseline::Mean, &spec, &panel, (&matrix, 0), 1);
        assert!(none.iter().all(|value| value.is_nan()));
    }
}
