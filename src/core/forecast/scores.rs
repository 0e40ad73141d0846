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
    #[allow(clippy::cast_precision_loss)]
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
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let (place, below) = {
        let place = share.clamp(0.0, 1.0) * last as f64;
        (place, place.floor() as usize)
    };
    let above = (below + 1).min(last);
    #[allow(clippy::cast_precision_loss)]
    let part = place - below as f64;
    ascending[below] + part * (ascending[above] - ascending[below])
}
