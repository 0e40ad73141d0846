//! How far off a forecast may be: quantiles of the errors that forecasts of about the same height had, when each was made
//! by a fit that had not seen it. Errors grow with what is forecast, so one width for all would be too wide for most and
//! too narrow for the worst.
//!
//! Errors in classes by the forecast are Mondrian conformal prediction: Boström and Johansson, "Mondrian conformal
//! regressors", Proceedings of Machine Learning Research 128 (2020).

use serde::{Deserialize, Serialize};

use super::scores::quantile;

const BANDS: usize = 5;
/// Errors that a band must have, so that its tenth and ninetieth percentile are worth something.
const ERRORS_OF_A_BAND: usize = 50;

/// Bands of forecasts, each with what is added to one for the ends of its interval; in the target's unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bands {
    /// Where a band ends and the next begins, ascending; one fewer than there are bands.
    pub edges: Vec<f64>,
    /// Added to a forecast for the lower end, and for the upper one.
    pub offsets: Vec<(f64, f64)>,
    /// How many errors they are of.
    pub errors: usize,
}

impl Bands {
    /// From pairs of forecast and error (truth less forecast), for an interval that holds this share of the truth. No
    /// pair, no width.
    pub fn of(pairs: &[(f64, f64)], share: f64) -> Self {
        let bands = (pairs.len() / ERRORS_OF_A_BAND).clamp(1, BANDS);
        let mut forecasts: Vec<f64> = pairs.iter().map(|(forecast, _)| *forecast).collect();
        forecasts.sort_by(f64::total_cmp);
        #[allow(clippy::cast_precision_loss)]
        let edges: Vec<f64> = (1..bands).map(|i| quantile(&forecasts, i as f64 / bands as f64)).collect();
        let mut errors = vec![Vec::new(); bands];
        for (forecast, error) in pairs {
            errors[band(&edges, *forecast)].push(*error);
        }
        let outside = (1.0 - share) / 2.0;
        let offsets = errors.iter_mut().map(|errors| {
            errors.sort_by(f64::total_cmp);
            let end = |share: f64| Some(quantile(errors, share)).filter(|end| end.is_finite()).unwrap_or(0.0);
            (end(outside), end(1.0 - outside))
        });
        Self { offsets: offsets.collect(), edges, errors: pairs.len() }
    }

    /// The ends of a forecast's interval.
    pub fn around(&self, forecast: f64) -> (f64, f64) {
        let (low, high) = self.offsets.get(band(&self.edges, forecast)).copied().unwrap_or((0.0, 0.0));
        (forecast + low, forecast + high)
    }
}

fn band(edges: &[f64], forecast: f64) -> usize {
    edges.partition_point(|edge| *edge <= forecast)
}
