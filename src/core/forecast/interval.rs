//! How far off a forecast may be: quantiles of the errors that forecasts of about the same height had, when each was made
//! by a fit that had not seen it. Errors grow with what is forecast, so one width for all would be too wide for most and
//! too narrow for the worst.
//!
//! Errors in classes by the forecast are Mondrian conformal prediction: Boström and Johansson, "Mondrian conformal
//! regressors", Proceedings of Machine Learning Research 128 (2020).

use serde::{Deserialize, Serialize};

use super::scores::quantile;

const BANDS: usize = 5;
/// Errors that must lie beyond each end of an interval, so that it does not hang on one or two of them.
const BEYOND_AN_END: f64 = 5.0;

/// Bands of forecasts, each with what is added to one for the ends of its interval; in the target's unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bands {
    /// Of the truth, that the interval shall hold.
    pub share: f64,
    /// Where a band ends and the next begins, ascending; one fewer than there are bands.
    pub edges: Vec<f64>,
    /// Added to a forecast for the lower end, and for the upper one. None at all where there were too few errors: then a
    /// forecast has no interval.
    pub offsets: Vec<(f64, f64)>,
    /// How many errors they are of.
    pub errors: usize,
}

/// Errors that an interval for this share of the truth must be of: as many that [`BEYOND_AN_END`] of them lie beyond each of
/// its ends. 50 for 0.8, 1,000 for 0.99.
pub fn errors_needed(share: f64) -> usize {
    (2.0 * BEYOND_AN_END / (1.0 - share)).round() as usize
}

impl Bands {
    /// From pairs of forecast and error (truth less forecast), for an interval that holds this share of the truth. Bands get
    /// fewer until each can have [`errors_needed`]; one that has fewer all the same, as where many forecasts are equal, gets
    /// the ends of all errors together. None, where those are too few too.
    pub fn of(pairs: &[(f64, f64)], share: f64) -> Self {
        let finite = |(forecast, error): &&(f64, f64)| forecast.is_finite() && error.is_finite();
        let pairs: Vec<(f64, f64)> = pairs.iter().filter(finite).copied().collect();
        let (errors, needed) = (pairs.len(), errors_needed(share));
        if errors < needed {
            return Self { share, edges: Vec::new(), offsets: Vec::new(), errors };
        }
        let bands = (errors / needed.max(1)).clamp(1, BANDS);
        let mut forecasts: Vec<f64> = pairs.iter().map(|(forecast, _)| *forecast).collect();
        forecasts.sort_by(f64::total_cmp);
        let edges: Vec<f64> = (1..bands).map(|i| quantile(&forecasts, i as f64 / bands as f64)).collect();
        let mut banded = vec![Vec::new(); bands];
        for (forecast, error) in &pairs {
            banded[band(&edges, *forecast)].push(*error);
        }
        let pooled = ends(pairs.into_iter().map(|(_, error)| error).collect(), share);
        let offsets = banded.into_iter().map(|of| if of.len() < needed { pooled } else { ends(of, share) }).collect();
        Self { share, edges, offsets, errors }
    }

    /// The ends of a forecast's interval; `None` where there is none.
    pub fn around(&self, forecast: f64) -> Option<(f64, f64)> {
        let (low, high) = self.offsets.get(band(&self.edges, forecast))?;
        Some((forecast + low, forecast + high))
    }
}

/// The quantiles that leave as much below as above.
fn ends(mut errors: Vec<f64>, share: f64) -> (f64, f64) {
    let outside = (1.0 - share) / 2.0;
    errors.sort_by(f64::total_cmp);
    (quantile(&errors, outside), quantile(&errors, 1.0 - outside))
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
        let width = |forecast: f64| bands.around(forecast).map(|(low, high)| high - low).unwrap();
        assert!(width(10.0) < 20.0 && width(90.0) > 100.0, "{} {}", width(10.0), width(90.0));
        let within = pairs.iter().filter(|(forecast, error)| {
            let (low, high) = bands.around(*forecast).unwrap();
            (low..=high).contains(&(forecast + error))
        });
        assert!((0.78..0.82).contains(&(within.count() as f64 / 2000.0)));
    }

    #[test]
    fn how_many_errors_are_needed_depends_on_the_share_and_fewer_make_no_interval() {
        assert_eq!([0.5, 0.8, 0.9, 0.95, 0.99].map(errors_needed), [20, 50, 100, 200, 1000]);
        let pairs = |count: u32| (0..count).map(|i| (f64::from(i), f64::from(i % 11) - 5.0)).collect::<Vec<_>>();
        for (share, needed) in [(0.5, 20), (0.8, 50), (0.99, 1000)] {
            let few = Bands::of(&pairs(needed - 1), share);
            assert_eq!((few.around(10.0), few.errors, few.offsets.len()), (None, needed as usize - 1, 0), "{share}");
            for (times, bands) in [(1, 1), (2, 2), (9, 5)] {
                let enough = Bands::of(&pairs(times * needed), share);
                assert_eq!(enough.offsets.len(), bands, "{share}");
                let (low, high) = enough.around(10.0).unwrap();
                assert!(low < 10.0 && 10.0 < high, "{share}");
            }
        }
        assert_eq!(Bands::of(&[], 0.8).around(10.0), None);
    }

    #[test]
    fn a_band_of_too_few_errors_has_the_ends_of_all_errors_together() {
        // A hundred forecasts of 0 to 99, and three hundred of 5: edges fall together, and bands between them are empty.
        let spread = (0..100).map(|i| (f64::from(i), f64::from(i % 21) - 10.0));
        let pairs: Vec<(f64, f64)> = spread.chain((0..300).map(|i| (5.0, f64::from(i % 21) - 10.0))).collect();
        let bands = Bands::of(&pairs, 0.8);
        assert_eq!(bands.offsets.len(), 5);
        let pooled = ends(pairs.iter().map(|(_, error)| *error).collect(), 0.8);
        let alone = bands.offsets.iter().filter(|of| **of == pooled).count();
        assert!(alone >= 3, "{bands:?}");
        assert!(bands.offsets.iter().all(|(low, high)| high - low > 10.0), "{bands:?}");
    }

    #[test]
    fn errors_that_are_no_numbers_count_for_nothing() {
        let mut pairs = vec![(1.0, 2.0); 49];
        pairs.extend([(f64::NAN, 1.0), (1.0, f64::INFINITY)]);
        assert_eq!(Bands::of(&pairs, 0.8).around(1.0), None);
        pairs.push((1.0, 2.0));
        assert_eq!(Bands::of(&pairs, 0.8).around(1.0), Some((3.0, 3.0)));
    }
}
