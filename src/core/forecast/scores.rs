//! How far forecasts are from the truth. Formulas and sources: docs/forecasts.md.

use serde::{Deserialize, Serialize};

/// Measures over the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub rows: usize,
    /// Mean absolute error, in the target's unit.
    pub mae: f64,
    /// Root of the mean squared error, in the target's unit.
    pub rmse: f64,
    /// Share of the truth's variance, about its mean over these rows, that is explained; negative where that mean would be
    /// better. None where the truth is constant.
    pub r2: Option<f64>,
    /// MAE by that of persistence, at the same horizon, over the rows of the training. None where that is 0 or unknown.
    pub mase: Option<f64>,
}

/// Scores forecasts; `scale` is the training's MAE of persistence. `None` of no rows.
pub fn score(pairs: impl Iterator<Item = (f64, f64)>, scale: Option<f64>) -> Option<Score> {
    let pairs: Vec<(f64, f64)> = pairs.collect();
    if pairs.is_empty() {
        return None;
    }
    let n = pairs.len() as f64;
    let mean = pairs.iter().map(|(truth, _)| truth).sum::<f64>() / n;
    let absolute: f64 = pairs.iter().map(|(truth, forecast)| (truth - forecast).abs()).sum();
    let squared: f64 = pairs.iter().map(|(truth, forecast)| (truth - forecast).powi(2)).sum();
    let spread: f64 = pairs.iter().map(|(truth, _)| (truth - mean).powi(2)).sum();
    let mae = absolute / n;
    Some(Score {
        rows: pairs.len(),
        mae,
        rmse: (squared / n).sqrt(),
        r2: (spread > 0.0).then(|| 1.0 - squared / spread),
        mase: scale.filter(|scale| *scale > 0.0).map(|scale| mae / scale),
    })
}

/// The quantile (0 to 1) of ascending values, linear between two of them: definition 7 of Hyndman and Fan, "Sample
/// quantiles in statistical packages", The American Statistician 50 (1996). NaN of none.
pub fn quantile(ascending: &[f64], share: f64) -> f64 {
    let Some(last) = ascending.len().checked_sub(1) else { return f64::NAN };
    let (place, below) = {
        let place = share.clamp(0.0, 1.0) * last as f64;
        (place, place.floor() as usize)
    };
    let above = (below + 1).min(last);
    let part = place - below as f64;
    ascending[below] + part * (ascending[above] - ascending[below])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn figures_are_those_of_the_formulas() {
        let found = score([(1.0, 2.0), (3.0, 3.0), (5.0, 1.0)].into_iter(), Some(2.5)).unwrap();
        let rmse = (17.0_f64 / 3.0).sqrt();
        assert_eq!((found.rows, found.mae, found.rmse), (3, 5.0 / 3.0, rmse));
        // Squares about the mean of the truth, 3: 4 + 0 + 4.
        assert_eq!((found.r2, found.mase), (Some(1.0 - 17.0 / 8.0), Some(5.0 / 3.0 / 2.5)));
        let flat = score([(2.0, 2.0), (2.0, 3.0)].into_iter(), Some(0.0)).unwrap();
        assert_eq!((flat.mae, flat.r2, flat.mase), (0.5, None, None));
        assert_eq!(score(std::iter::empty(), None), None);
    }

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        let values = [1.0, 2.0, 4.0, 8.0];
        let shares = [0.0, 0.1, 1.0 / 3.0, 0.5, 0.9, 1.0];
        // As numpy.quantile tells.
        let expected = [1.0, 1.3, 2.0, 3.0, 6.8, 8.0];
        for (share, expected) in shares.into_iter().zip(expected) {
            assert!((quantile(&values, share) - expected).abs() < 1e-12, "{share}");
        }
        assert!(quantile(&[], 0.5).is_nan());
        assert_eq!(quantile(&[7.0], 0.9), 7.0);
    }

    proptest! {
        #[test]
        fn the_truth_itself_is_without_error_and_its_mean_explains_nothing(
            truth in prop::collection::vec(-1e6..1e6_f64, 2..50)
        ) {
            let perfect = score(truth.iter().map(|value| (*value, *value)), None).unwrap();
            prop_assert_eq!((perfect.mae, perfect.rmse), (0.0, 0.0));
            let mean = truth.iter().sum::<f64>() / truth.len() as f64;
            let naive = score(truth.iter().map(|value| (*value, mean)), None).unwrap();
            prop_assert!(naive.r2.is_none_or(|r2| r2.abs() < 1e-9));
            prop_assert!(naive.mae <= naive.rmse * (1.0 + 1e-12), "MAE is never above RMSE");
        }
    }
}
