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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_band_is_as_wide_as_its_own_errors() {
        // Forecasts of 0 to 99, each 20 times, with errors that are as large as the forecast, evenly spread.
        let pairs: Vec<(f64, f64)> =
            (0..2000).map(|i| (f64::from(i % 100), f64::from(i % 100) * (f64::from(i / 100) / 9.5 - 1.0))).collect();
        let bands = Bands::of(&pairs, 0.8);
        assert_eq!((bands.edges.len(), bands.offsets.len(), bands.errors), (4, 5, 2000));
        let width = |forecast: f64| bands.around(forecast).1 - bands.around(forecast).0;
        assert!(width(10.0) < 20.0 && width(90.0) > 100.0, "{} {}", width(10.0), width(90.0));
        let within = pairs.iter().filter(|(forecast, error)| {
            let (low, high) = bands.around(*forecast);
            (low..=high).contains(&(forecast + error))
        });
        assert!((0.78..0.82).contains(&(within.count() as f64 / 2000.0)));
    }

    #[test]
    fn few_errors_make_one_band_and_none_no_width() {
        let bands = Bands::of(&[(1.0, -1.0), (2.0, 1.0)], 0.8);
        assert_eq!((bands.edges.len(), bands.offsets.len()), (0, 1));
        let (low, high) = bands.around(10.0);
        assert!((low - 9.2).abs() < 1e-12 && (high - 10.8).abs() < 1e-12);
        assert_eq!(Bands::of(&[], 0.8).around(10.0), (10.0, 10.0));
        // All of one height: the upper bands are empty and as none.
        let same = Bands::of(&vec![(5.0, 1.0); 400], 0.8);
        assert_eq!(same.around(5.0), (6.0, 6.0));
    }
}
